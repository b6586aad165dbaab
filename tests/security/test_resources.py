"""All kinds of memory count, with a control group or without; shared resources of the machine are inaccessible."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amllab.lab import Lab
from autograder.sandbox import cgroups
from autograder.sandbox.launcher import Launcher
from tests.conftest import ROOT, sampled
from tests.security.test_isolation import inside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces exist only on Linux")


@pytest.fixture(scope="module", params=["control group", "sampling"])
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    found = cgroups.find()
    if request.param == "control group" and found.memory is None:
        pytest.skip(f"no control group can be made here ({found.reason})")
    launcher = Launcher(course=ROOT, control_groups=request.param == "control group")
    yield launcher
    launcher.close()
    left = [
        path for parent in {found.memory, found.processors} if parent for path in parent.glob(f"amllab-{os.getpid()}-*")
    ]
    assert left == []


@pytest.fixture
def small(lab: Lab) -> Lab:
    limits = {
        "cell_seconds": 40,
        "memory_bytes": 600_000_000,
        "processes": 128,
        "open_files": 512,
        "total_seconds": 120,
    }
    limits |= {"file_bytes": 1 << 29, "scratch_bytes": 1 << 29, "output_bytes": 2000}
    return dataclasses.replace(lab, limits={**lab.limits, **limits})


CHILDREN = """
import os, time
def children(number, work):
    reading, writing = os.pipe()
    for _ in range(number):
        if os.fork() == 0:
            try:
                held = work()
                os.write(writing, b"x")
                time.sleep(30)
            finally:
                os._exit(0)
    os.close(writing)
    while number and os.read(reading, 1): number -= 1
    time.sleep(3)
"""
# each takes at most 1.5 GB, and prints a line if it succeeds
MEMORY = {
    "a name that is no text": CHILDREN
    + """
import ctypes
ctypes.CDLL(None).prctl(15, b"\\xff", 0, 0, 0)
children(3, lambda: bytearray(b"x") * (400 << 20))
""",
    "a name with brackets and lines": CHILDREN
    + """
import ctypes
ctypes.CDLL(None).prctl(15, b"a) R 1\\nRssAn: 0", 0, 0, 0)
children(3, lambda: bytearray(b"x") * (400 << 20))
""",
    "shared mappings": """
import mmap, time
pieces = [mmap.mmap(-1, 64 << 20) for _ in range(15)]
for piece in pieces:
    for at in range(0, len(piece), 4096): piece[at] = 1
time.sleep(1)
""",
    "a shared mapping that is out of sight": """
import mmap, os, time
piece = mmap.mmap(os.open("/dev/zero", os.O_RDWR), 700 << 20)
for at in range(0, len(piece), 4096): piece[at] = 1
piece.madvise(mmap.MADV_DONTNEED)
time.sleep(1)
""",
    "programs": """
import subprocess, sys, time
code = "b = bytearray(b'x') * (120 << 20)\\nprint(1, flush=True)\\nimport time; time.sleep(5)"
started = [subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) for _ in range(10)]
for child in started: child.stdout.readline()
time.sleep(1)
""",
    "page tables": CHILDREN
    + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
def read():
    size = 15 << 30
    at = libc.mmap(None, size, 1, 0x4022, -1, 0)
    libc.madvise(at, size, 15)
    for offset in range(0, size, 2 << 20): ctypes.c_char.from_address(at + offset).value
children(40, read)
""",
    "a large address space": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
if libc.mmap(None, 100 << 30, 1, 0x4022, -1, 0) == 2**64 - 1: raise MemoryError
""",
    "files and memory": CHILDREN
    + """
with open("/tmp/file", "wb") as file: file.write(bytes(400 << 20))
children(2, lambda: bytearray(b"x") * (150 << 20))
""",
    "files that are deleted": CHILDREN
    + """
file = open("/tmp/file", "wb"); file.write(bytes(400 << 20)); os.unlink("/tmp/file")
children(2, lambda: bytearray(b"x") * (150 << 20))
""",
    "sockets": CHILDREN
    + """
import socket
def fill():
    pairs = []
    for _ in range(200):
        a, b = socket.socketpair(); a.setblocking(False)
        try:
            while True: a.send(bytes(60_000))
        except OSError: pass
        pairs.append((a, b))
    return pairs
children(30, fill)
""",
    "a process whose first thread has ended": CHILDREN
    + """
import ctypes, threading
libc = ctypes.CDLL(None)
def work():
    def hold():
        held.append(bytearray(b"x") * (300 << 20))
        os.write(writing, b"x")
        time.sleep(30)
    held = []
    threading.Thread(target=hold).start()
    time.sleep(0.3)
    libc.syscall(ctypes.c_long({"x86_64": 60, "aarch64": 93}[os.uname().machine]), ctypes.c_long(0))
reading, writing = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        try: work()
        finally: os._exit(0)
os.close(writing)
for _ in range(4): os.read(reading, 1)
time.sleep(3)
""",
    "children that cannot be dumped": CHILDREN
    + """
import ctypes
def hide():
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    return bytearray(b"x") * (300 << 20)
children(4, hide)
""",
}


@pytest.mark.parametrize("kind", sampled(MEMORY, 8))
def test_memory_every_kind_counts(launcher: Launcher, small: Lab, kind: str) -> None:
    """Memory of every kind counts towards the limit."""
    got, after = inside(launcher, small, MEMORY[kind] + "\nprint('TOOK it')", "print('goes on')")
    assert "TOOK" not in got
    assert (
        "more memory than the limit" in got or "MemoryError" in got or "allocate memory" in got or "dev/zero" in got
    ), got
    assert after == "goes on\n"


@pytest.mark.slow
def test_memory_watcher_not_slowed(launcher: Launcher, small: Lab) -> None:
    """The watcher keeps up with busy processes everywhere and a first process that is slowed as far as allowed."""
    slow = (
        CHILDREN
        + """
import signal
for hold in (lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)), lambda: os.sched_setaffinity(1, {0}),
             lambda: os.setpriority(os.PRIO_PROCESS, 1, 19), lambda: os.kill(1, signal.SIGSTOP), lambda: os.kill(0, signal.SIGCONT)):
    try: hold()
    except OSError: pass
def busy():
    end = time.time() + 8
    while time.time() < end: pass
for _ in range(12):
    if os.fork() == 0: busy(); os._exit(0)
children(5, lambda: bytearray(b"x") * (300 << 20))
print("TOOK it")
"""
    )
    got, after = inside(launcher, small, slow, "print('goes on')")
    assert got == "Grading: this cell used more memory than the limit of 0.6 GB"
    assert after == "goes on\n"


CALLS = """
import amllab, ctypes, errno, fcntl, os, resource, socket, sqlite3, struct
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, call):
    ctypes.set_errno(0)
    try:
        result = call()
    except OSError as error:
        return
    if isinstance(result, int) and result < 0: return
    print("OPEN", name, result)
def call(number, *arguments):
    got = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if got < 0 and ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS): print("OPEN", number, errno.errorcode[ctypes.get_errno()])
    return got
library = os.open(amllab.__file__, os.O_RDONLY)
for family in (2, 10, 17, 21, 29, 30, 31, 38, 40, 41):
    pair = (ctypes.c_int * 2)()
    tried(f"socketpair {family}", lambda: libc.socketpair(family, 1, 0, pair))
    if ctypes.get_errno() != errno.ENETUNREACH: print("OPEN", family, ctypes.get_errno())
tried("flock", lambda: fcntl.flock(library, fcntl.LOCK_EX | fcntl.LOCK_NB))
tried("lockf", lambda: fcntl.lockf(library, fcntl.LOCK_SH | fcntl.LOCK_NB))
for name, number in {"getlk": 5, "ofd getlk": 36, "ofd setlk": 37, "ofd setlkw": 38, "setlkw": 7}.items():
    tried(name, lambda: fcntl.fcntl(library, number, struct.pack("hhqqi4x", 0, 0, 0, 0, 0)))
for name, (number, value) in {"lease": (1024, 0), "get lease": (1025, 0), "notice": (1026, 1), "pipe size": (1031, 1 << 20)}.items():
    tried(name, lambda: fcntl.fcntl(library, number, value))
hint = ctypes.c_uint64(3)
for number in (1035, 1036, 1037, 1038):
    tried(f"hint {number}", lambda: libc.fcntl(library, number, ctypes.byref(hint)))
for name, number in @NUMBERS@.items():
    tried(name, lambda: call(number, 0, 0, 0, 0, 0, 0))
for number in range(463, 600):
    tried(f"new {number}", lambda: call(number, 0, 0, 0, 0, 0, 0))
for name, number in {"TIOCSTI": 0x5412, "TIOCSETD": 0x5423, "TIOCLINUX": 0x541C, "FS_IOC_ADD_ENCRYPTION_KEY": 0xC0506617,
                     "FS_IOC_FIEMAP": 0xC020660B, "FICLONE": 0x40049409, "SIOCGIFINDEX": 0x8933}.items():
    for file in (library, 0):
        tried(name, lambda: libc.ioctl(file, ctypes.c_ulong(number), ctypes.create_string_buffer(256)))
for name, arguments in {"core scheduling": (62, 1, 0, 0, 0), "huge pages": (41, 0, 0, 0, 0), "filter": (22, 2, 0), "merge": (67, 1, 0, 0, 0),
                        "mm": (35, 1, 0, 0, 0), "speculation": (53, 0, 2, 0, 0)}.items():
    tried(name, lambda: libc.prctl(*map(ctypes.c_ulong, arguments)))
tried("affinity", lambda: os.sched_setaffinity(0, {0}))
tried("affinity of init", lambda: os.sched_setaffinity(1, {0}))
tried("idle", lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
tried("batch", lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)))
tried("round robin", lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))
tried("priority of init", lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
tried("priority of all", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
tried("priority of a group", lambda: os.setpriority(os.PRIO_PGRP, 0, 19))
tried("higher priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
tried("huge pages of the machine", lambda: libc.mmap(0, 2 << 20, 3, 0x40022, -1, 0) if libc.mmap(0, 2 << 20, 3, 0x40022, -1, 0) != -1 else -1)
tried("files apart", lambda: libc.syscall(56, 0x10000 | 0x800 | 0x100, 0, 0, 0, 0))
terminals = []
try:
    for _ in range(400): terminals.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
except OSError: pass
if len(terminals) > 64 or not terminals: print("OPEN terminals", len(terminals))
for terminal in terminals: os.close(terminal)
if 0 in (os.getpgrp(), os.getsid(0)): print("OPEN group of the fork server")
if resource.getrlimit(resource.RLIMIT_CORE) not in ((1, 1), (0, 0)): print("OPEN dump")
print("tried all", os.cpu_count() > 0, open("/proc/self/cgroup").read().count("amllab"))
"""
NUMBERS = {
    "io_setup": 206,
    "io_submit": 209,
    "inotify_init": 253,
    "inotify_init1": 294,
    "fanotify_init": 300,
    "mincore": 27,
}
NUMBERS |= {
    "vmsplice": 278,
    "membarrier": 324,
    "fadvise64": 221,
    "readahead": 187,
    "sync_file_range": 277,
    "move_pages": 279,
}
NUMBERS |= {
    "migrate_pages": 256,
    "seccomp": 317,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "userfaultfd": 323,
}
NUMBERS |= {
    "perf_event_open": 298,
    "io_uring_setup": 425,
    "add_key": 248,
    "keyctl": 250,
    "mq_open": 240,
    "shmget": 29,
    "semget": 64,
}
NUMBERS |= {
    "memfd_create": 319,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
    "quotactl_fd": 443,
    "cachestat": 451,
}
NUMBERS |= {
    "lsm_list_modules": 461,
    "process_mrelease": 448,
    "remap_file_pages": 216,
    "lookup_dcookie": 212,
    "sysfs": 139,
}
NUMBERS |= {"process_madvise": 440, "set_mempolicy_home_node": 450, "vhangup": 153, "ustat": 136, "getxattrat": 464}

WORK = """
import multiprocessing, os, sqlite3, subprocess, sys, tempfile, threading, torch
from torch.utils.data import DataLoader, TensorDataset
os.sync(); os.nice(1)
print(subprocess.run([sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True, text=True).stdout.strip())
print(subprocess.run("echo shell | tr a-z A-Z; dd if=/dev/urandom of=/tmp/x bs=1k count=4 2>/dev/null; ls -la /tmp > /dev/null; cp /tmp/x /tmp/y",
                     shell=True, capture_output=True, text=True).stdout.strip())
data = TensorDataset(torch.arange(8.0))
print(sum(batch[0].sum().item() for batch in DataLoader(data, batch_size=2, num_workers=2)))
with multiprocessing.get_context("fork").Pool(2) as pool: print(sum(pool.map(abs, range(-5, 5))))
torch.save(torch.zeros(3), "/tmp/t.pt"); print(torch.load("/tmp/t.pt", mmap=True).sum().item())
import filelock, warnings; warnings.simplefilter("ignore")
with filelock.FileLock("/tmp/lock"): open("/tmp/locked", "w").close()
memory = sqlite3.connect(":memory:"); print(memory.execute("select 1 + 1").fetchone()[0])
shared = torch.zeros(1000).share_memory_(); print(shared.is_shared())
%time None
!echo terminal
import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.savefig("/tmp/f.png"); print(os.path.getsize("/tmp/f.png") > 100)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86_64")
def test_seccomp_shared_resources(launcher: Launcher, lab: Lab) -> None:
    """Resources shared with other users are out of reach, and ordinary work still runs."""
    calls, work = inside(launcher, lab, CALLS.replace("@NUMBERS@", repr(NUMBERS)), WORK)
    assert calls == "tried all True 0\n"
    said = [line for line in work.splitlines() if "time" not in line and line]
    assert said == ["42", "SHELL", "28.0", "25", "0.0", "2", "True", "terminal", "True"]


@pytest.mark.parametrize("ours", [True, False])
def test_cgroup_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    """Version 2: processes of a delegated group move into a leaf; any other group is left unchanged."""
    for name, text in {
        "controllers": "cpu memory pids\n",
        "subtree_control": "\n",
        "procs": "7\n8\n",
        "type": "domain\n",
    }.items():
        (tmp_path / f"cgroup.{name}").write_text(text)
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(cgroups, "_own", lambda: {"": tmp_path})
    monkeypatch.setattr(cgroups, "_is_ours", lambda folder: ours)
    monkeypatch.setattr(cgroups, "_try", lambda folder, needed: None)
    monkeypatch.setattr(cgroups, "_write", lambda path, text: written.append((str(path.relative_to(tmp_path)), text)))
    found = cgroups.find()
    if not ours:
        assert (found.memory, found.version, written) == (None, 0, [])
        assert "is not delegated" in found.reason
        return
    leaf = "amllab-graders/cgroup.procs"
    assert written == [(leaf, "7"), (leaf, "8"), ("cgroup.subtree_control", "+memory +cpu")]
    assert (found.memory, found.processors, found.version) == (tmp_path, tmp_path, 2)
    # this process and its children are in the leaf now
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    monkeypatch.setattr(cgroups, "_own", lambda: {"": tmp_path / "amllab-graders"})
    assert cgroups.find() == found
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "memory.events").write_text("low 0\noom 2\noom_kill 1\noom_group_kill 1\n")
    group = cgroups.Group("one", [found._limit(folder, 1000)])
    assert written[3:] == [("one/memory.max", "1000"), ("one/memory.oom.group", "1")]
    assert group.exceeded()
    group.close()


@pytest.mark.slow
def test_cgroup_sweep_after_kill(tmp_path: Path) -> None:
    """Control groups of graders that were killed are removed."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (f"amllab-{gone.pid}-3", f"amllab-{os.getpid()}-1", "amllab-graders", "other"):
        (tmp_path / name).mkdir()
    cgroups.ControlGroups(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"amllab-{os.getpid()}-1", "amllab-graders", "other"]
    )
