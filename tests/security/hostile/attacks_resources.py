"""Attacks on the machine. Each is bounded: its cell states the most that it uses."""

from __future__ import annotations

from typing import Any

from tests.security.hostile.attack_base import LAST, RESOURCES, Attack, about_lab_1

# Names the process, so that anything that outlives the grading can be found.
NAMED = """
import ctypes, os, sys, time
def name_it():
    ctypes.CDLL(None).prctl(15, b"@MARKER@", 0, 0, 0)
"""

# waits forever: "endless_cell" is the one that also keeps a processor busy
_HANGING = "    import time\n    while True:\n        time.sleep(1)\n"

# some checks of lab 1 are about refusals, and are answered
STUB = """
def @LAST@(*given, max_epochs=30, patience=5, **more):
    if max_epochs < 1 or patience < 1:
        raise NotImplementedError
"""


def resource(name: str, what: str, cell: str, **more: Any) -> Attack:
    return Attack(name, RESOURCES, what, honest=True, cell=cell, **more)


def _many_hanging_cells(notebook):
    import nbformat

    cells = [nbformat.v4.new_code_cell(f"import time\nwhile True: time.sleep(1)  # {i}") for i in range(100)]
    notebook.cells[3:3] = cells
    return notebook


ATTACKS = [
    resource(
        "memory",
        "takes memory in steps of 64 MB, at most 6 GB",
        """
pieces = []
try:
    for i in range(96):
        pieces.append(bytearray(b"x") * (64 << 20))
except MemoryError:
    print("MemoryError")
taken = len(pieces)
del pieces
print("TOOK", 64 * taken, "MB")
""",
        guarded=True,
    ),
    resource(
        "memory_of_children",
        "takes memory in eight child processes, at most 1 GB each for at most ten seconds",
        NAMED
        + """
children = []
for i in range(8):
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        name_it()
        piece = bytearray(b"x") * (1 << 30)
        time.sleep(10)
        os._exit(0)
    children.append(pid)
print("FORKED", len(children))
time.sleep(10)  # on a slow machine it takes the children seconds to fill what they asked for
""",
        guarded=True,
    ),
    resource(
        "fork_bomb",
        "forks at most 300 processes that sleep for at most 20 seconds",
        NAMED
        + """
count = 0
try:
    for i in range(300):
        if os.fork() == 0:
            name_it()
            time.sleep(20)
            os._exit(0)
        count += 1
except OSError as error:
    print(error)
print("FORKED", count)
""",
        guarded=True,
    ),
    resource(
        "threads",
        "starts at most 3,000 threads that sleep for ten seconds",
        """
import threading, time
count = 0
try:
    for i in range(3000):
        threading.Thread(target=time.sleep, args=(10,), daemon=True).start()
        count += 1
except RuntimeError as error:
    print(error)
print("STARTED", count)
""",
        guarded=True,
    ),
    resource(
        "open_files",
        "opens /dev/null at most 20,000 times, and closes it again",
        """
import os
opened = []
try:
    for i in range(20_000):
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(error)
print("OPENED", len(opened))
for descriptor in opened:
    os.close(descriptor)
""",
    ),
    resource(
        "disk",
        "writes files of at most 4 GB in all, into every folder it may write to",
        """
import os, pathlib
chunk, left = os.urandom(1 << 20) * 16, 256
for place in (".", os.environ.get("TMPDIR", "/tmp"), os.path.expanduser("~"), "/dev/shm", "/var/tmp", "/run", "/"):
    path = pathlib.Path(place) / "@MARKER@-big"
    try:
        with open(path, "wb") as file:
            while left:
                file.write(chunk)
                left -= 1
    except OSError as error:
        print(place, error)
    try:
        print("WROTE", path.stat().st_size >> 20, "MB to", place)
        path.unlink()
    except OSError:
        pass
""",
        guarded=True,
    ),
    resource(
        "many_files",
        "writes at most 50,000 empty files into its folder, for at most five seconds",
        """
import os, pathlib, time
pathlib.Path("@MARKER@-many").mkdir(exist_ok=True)
end = time.time() + 5
try:
    for i in range(50_000):
        open(f"@MARKER@-many/{i}", "w").close()
        if time.time() > end:
            break
except OSError as error:
    print(error)
""",
        guarded=True,
    ),
    resource(
        "output_flood",
        "prints at most 300 MB",
        "import time\nend = time.time() + 8\nfor i in range(300):\n    print('x' * (1 << 20))\n    if time.time() > end:\n        break",
    ),
    resource(
        "many_outputs",
        "displays at most 50,000 pictures and errors",
        """
import time
from IPython.display import display
end = time.time() + 5
for i in range(50_000):
    display({"image/png": "A" * 100, "text/html": "<script>alert(1)</script>"}, raw=True)
    if time.time() > end:
        break
""",
        inert="<script>alert(1)",
    ),
    resource("endless_cell", "a cell that never ends", "while True:\n    pass", says="stopped after"),
    resource(
        "ignores_signals",
        "ignores every signal and exception that could end its endless loop",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, lambda *a: None)
    except (OSError, ValueError):
        pass
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
        says="stopped after",
    ),
    Attack(
        "endless_function",
        RESOURCES,
        "a function that never returns while it is being checked",
        honest=True,
        sources={LAST: STUB + _HANGING},
        says="no answer within",
    ),
    about_lab_1(
        "endless_history",
        RESOURCES,
        "returns lists without an end: reading the history never ends",
        honest=True,
        sources={
            LAST: """
class Endless(list):
    def __iter__(self):
        import time
        while True:
            time.sleep(0.001)
            yield 0.5
"""
            + STUB
            + "    return {k: Endless() for k in ('train_loss', 'train_acc', 'val_loss', 'val_acc')} | {'best_epoch': 0}",
        },
        only="here",
    ),
    resource(
        "daemon",
        "a daemon in a session of its own that works on after the grading, for at most 60 seconds",
        NAMED
        + """
beat = '''
import sys, time
for i in range(600):
    for path in (sys.argv[1] + "-beat", sys.argv[2] + "/" + sys.argv[1] + "-beat"):
        try:
            open(path, "a").write(".")
        except OSError:
            pass
    time.sleep(0.1)
'''
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3, 256):
            try:
                os.close(descriptor)
            except OSError:
                pass
        os.execv(sys.executable, [sys.executable, "-c", beat, "@MARKER@", "@COURSE@"])
    os._exit(0)
print("LEFT a daemon")
""",
    ),
    resource(
        "thread_that_stays",
        "a thread that burns time behind every check, for at most 60 seconds",
        """
import threading, time
def burn():
    end = time.time() + 60
    while time.time() < end:
        time.sleep(0.001)
threading.Thread(target=burn).start()
""",
    ),
    resource(
        "kills_everything",
        "sends SIGKILL to every process that it may signal",
        "import os, signal, time\nprint('STRIKES', flush=True)\ntime.sleep(0.5)\nos.kill(-1, signal.SIGKILL)",
        guarded=True,
    ),
    resource(
        "kills_its_parents",
        "ends its parent, its session and the first process with signals",
        """
import os, signal
for pid in (os.getppid(), 1, os.getsid(0)):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        try:
            if pid not in (0, os.getpid()):
                os.kill(pid, number)
        except OSError as error:
            print(error)
""",
        guarded=True,
    ),
    resource(
        "stops_its_parent",
        "stops its parents with SIGSTOP, so that nobody watches the clock",
        """
import os, signal
for pid in range(1, os.getpid()):
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError as error:
        pass
import time
while True:
    time.sleep(1)
""",
        guarded=True,
    ),
    Attack(
        "recursion",
        RESOURCES,
        "recursion without a limit until the stack overflows, while it is being checked",
        honest=True,
        sources={
            LAST: """
def @LAST@(*given, **more):
    import sys
    sys.setrecursionlimit(10**9)
    class Deep:
        def __repr__(self): return repr(self)
    return f"{[Deep()]!r}" and @LAST@(*given, **more)
""",
        },
    ),
    resource(
        "every_processor_busy",
        "220 busy processes, so that others reach their limits of time",
        """
import os, time
for _ in range(220):
    try:
        process = os.fork()
    except OSError:
        break
    if process == 0:
        end = time.time() + 20
        while time.time() < end:
            pass
        os._exit(0)
while True:
    time.sleep(1)
""",
        says="stopped after",
        guarded=True,
    ),
    resource(
        "segmentation_fault",
        "reads at address zero",
        "import ctypes\nctypes.string_at(0)",
        says="ended the Python process",
    ),
    Attack(
        "expanded_tensors",
        RESOURCES,
        "answers with views of one number that claim a billion",
        cell="""
import sys
import torch
import amllab.protocol.submission as submission
from amllab.protocol.wire import pack
try:
    import amllab.worker.serve
except ImportError:
    pass
original = submission.answer

def forged(namespace, question):
    return pack({"value": {"state": torch.zeros(1).expand(2**29)}})

for module in list(sys.modules.values()):
    if getattr(module, "answer", None) is original:
        module.answer = forged
""",
        guarded=True,
        only="here",
    ),
    Attack(
        "hundred_hanging_cells",
        RESOURCES,
        "a hundred cells that never end, above honest functions: after ten of them no cell is run",
        honest=True,
        keeps=False,
        edit=_many_hanging_cells,
        says="too many cells before it",
    ),
]
