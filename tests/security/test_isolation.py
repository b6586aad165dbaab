"""What a submission's processes can see, reach and use, tested from inside with the worker of grading."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from amllab.lab import Lab
from autograder.errors import IsolationError
from autograder.grading.worker import Worker
from autograder.sandbox import allowed_syscalls, seccomp
from autograder.sandbox.launcher import Launcher
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces exist only on Linux")
SECRET = "swordfish"


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_SECRET", SECRET)
        launcher = Launcher(course=ROOT)
        with interruptible():
            yield launcher
    launcher.close()


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGINT as in a terminal: background processes, and all that they start, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def small(lab: Lab) -> Lab:
    """Return the lab with low limits."""
    limits = {"cell_seconds": 20, "memory_bytes": 600_000_000, "processes": 64, "open_files": 128}
    limits |= {"file_bytes": 20_000_000, "scratch_bytes": 60_000_000, "output_bytes": 2000, "total_seconds": 60}
    return dataclasses.replace(lab, limits={**lab.limits, **limits})


def inside(launcher: Launcher, lab: Lab, *sources: str) -> list[str]:
    """Return what each cell printed, or the error that it ended with."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with Worker(lab, notebook, launcher=launcher):
        pass
    return ["".join(o.get("text") or f"{o.get('ename')}: {o.get('evalue')}" for o in c.outputs) for c in notebook.cells]


def test_isolation_file_system_view(launcher: Launcher, lab: Lab) -> None:
    """A submission sees the interpreter and its packages, but nothing of the course."""
    look = f"""
import os
seen = [os.path.join(folder, name) for folder, _, names in os.walk({str(ROOT)!r}) for name in names]
own = [path for path in seen if "/.venv/" not in path and "/amllab/" not in path]
print(len(seen) > 10, own)
"""
    importing = "import amllab.checks.notebook, torch\nimport autograder.grading.grader"
    homes = "import os, pathlib\nprint(os.listdir('/'), pathlib.Path.home(), os.path.exists('/var'), os.path.exists('/home'))"
    got = inside(launcher, lab, look, importing, homes)
    assert got[0] == "True []\n"
    assert "autograder" in got[1]
    assert "ModuleNotFoundError" in got[1]
    assert "/tmp False False" in got[2]


def test_isolation_only_scratch_writable(launcher: Launcher, lab: Lab) -> None:
    """Only the scratch directory can be written."""
    attempt = """
import os, sys, amllab, torch
for folder in ("/", "/etc", "/usr/bin", sys.prefix, os.path.dirname(amllab.__file__), os.path.dirname(torch.__file__), "/proc/self/fdinfo", "/dev"):
    try:
        open(os.path.join(folder, "marker"), "w")
        print("WROTE", folder)
    except OSError:
        pass
open("/tmp/mine", "w").write("x"); open("/dev/shm/mine", "w").write("x"); open("/dev/null", "w").write("x")
print("scratch", os.listdir("/dev/shm"))
"""
    assert inside(launcher, lab, attempt) == ["scratch ['mine']\n"]


def test_isolation_scratch_per_worker(launcher: Launcher, lab: Lab) -> None:
    """Each worker has its own scratch directory."""
    assert inside(launcher, lab, "open('note', 'w').write('x')\nimport os\nprint(os.path.exists('note'))") == ["True\n"]
    assert inside(launcher, lab, "import os\nprint(os.path.exists('note'))") == ["False\n"]


def test_isolation_no_network(launcher: Launcher, lab: Lab) -> None:
    """There is no network, not even loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attempt = f"""
import socket, subprocess
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
        try:
            socket.socket(family, kind)
            print("OPENED", family, kind)
        except OSError as error:
            reason = error
print(reason)
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=2)
except OSError as error:
    print(error)
try:
    socket.getaddrinfo("example.org", 80)
except OSError as error:
    print(type(error).__name__)
"""
        (got,) = inside(launcher, lab, attempt)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert got.splitlines()[1:] == ["[Errno 101] Network is unreachable", "gaierror"]
    assert "OPENED" not in got


def test_isolation_no_secrets(launcher: Launcher, lab: Lab) -> None:
    """No secret is visible in environments, arguments or file descriptors."""
    look = """
import glob, os
for process in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "cmdline", "maps", "mountinfo"):
        try:
            text = open(f"{process}/{name}", "rb").read()
        except OSError:
            continue
        print(process, name, b"swordfish" in text)
print(len(glob.glob("/proc/[0-9]*")), dict(os.environ).get("COURSE_SECRET"))
print([os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")])
"""
    (got,) = inside(launcher, lab, look)
    assert "True" not in got
    *_, count, descriptors = got.strip().splitlines()
    assert count == "3 None"  # init, the worker, its kernel: no other processes
    assert not re.search(r"'/(?!dev|proc|tmp)", descriptors)


def test_isolation_no_signals_or_ptrace(launcher: Launcher, lab: Lab) -> None:
    """No process outside can be signalled or traced, and no privileges are left."""
    # a test whose parent has ended has 1 as parent, and the tree has processes 1 to 3 of its own
    outside = [pid for pid in (os.getpid(), os.getppid()) if pid > 3]
    assert outside
    attempt = f"""
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
print("kill", [pid for pid in {outside} if os.path.exists(f"/proc/{{pid}}")])
for name, call in {{"ptrace": lambda: libc.ptrace(16, os.getppid(), 0, 0), "unshare": lambda: libc.unshare(0x10000000),
                    "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), "chroot": lambda: libc.chroot(b"/tmp"),
                    "memfd": lambda: libc.memfd_create(b"x", 0)}}.items():
    print(name, call(), ctypes.get_errno())
os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGINT)
time.sleep(1)
print(open("/proc/self/status").read())
"""
    (got,) = inside(launcher, lab, attempt)
    lines = got.splitlines()
    assert lines[0] == "kill []"
    assert lines[1:6] == [f"{name} -1 1" for name in ("ptrace", "unshare", "mount", "chroot", "memfd")]
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert "0" not in status["Uid"].split()


def test_limit_memory(launcher: Launcher, small: Lab) -> None:
    """One large allocation and many processes together end at the memory limit."""
    many = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        block = bytearray(400_000_000)
        time.sleep(15)
        os._exit(0)
time.sleep(15)
"""
    one, several, after = inside(launcher, small, "block = bytearray(10**10)", many, "print('goes on')")
    assert one.startswith("MemoryError")
    assert several == "Grading: this cell used more memory than the limit of 0.6 GB"
    assert after == "goes on\n"


def test_limit_processes_files_disk(launcher: Launcher, small: Lab) -> None:
    """Threads, open files, file size and disk space are limited."""
    attempt = """
import os, resource, threading, time
def until_refused(step, most):
    made = []
    try:
        for i in range(most):
            made.append(step(i))
    except (OSError, RuntimeError):
        return len(made)
    return "NO LIMIT"
print(until_refused(lambda i: open(f"/tmp/{i}", "w"), 200) < 128)
def fill(i):
    with open(f"/tmp/big-{i}", "wb") as file:
        file.write(bytes(10_000_000))
print(until_refused(fill, 20) < 7)
def grow(i):
    with open("/tmp/large", "ab") as file:
        file.write(bytes(5_000_000))
os.system("rm /tmp/big-*")
print(until_refused(grow, 10) < 5)
def start(i):
    thread = threading.Thread(target=time.sleep, args=(1,))
    thread.start()
    return thread
print(until_refused(start, 100) < 64)
"""
    (got,) = inside(launcher, small, attempt)
    assert got.split() == ["True"] * 4


def test_limit_output(launcher: Launcher, small: Lab) -> None:
    """A flood of output is cut."""
    flood, after = inside(launcher, small, "for _ in range(200): print('x' * 100_000)", "print('goes on')")
    assert flood.startswith("xxx")
    assert "left out" in flood
    assert len(flood) < 4000
    assert after == "goes on\n"


def test_isolation_ends_daemons(launcher: Launcher, lab: Lab) -> None:
    """Daemons that a submission started end with it."""
    marker = f"amllab-stray-{os.getpid()}"
    daemon = f"""
import os, signal, sys, time, subprocess
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", "{marker}"])
    os._exit(0)
time.sleep(1)
print(subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout.count("{marker}"))
"""
    assert inside(launcher, lab, daemon) == ["1\n"]
    assert not [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and marker in _arguments(pid)]


def _arguments(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_limit_total_time(launcher: Launcher, lab: Lab) -> None:
    """The submission as a whole has a time limit."""
    hasty = dataclasses.replace(lab, limits={**lab.limits, "cell_seconds": 3, "total_seconds": 7})
    began = time.monotonic()
    got = inside(launcher, hasty, *["import time\ntime.sleep(60)"] * 40)
    assert time.monotonic() - began < 30
    assert got[0] == "Grading: stopped after 3 seconds"
    assert got[-1] == "Grading: not run: the time for the whole submission, 7 seconds, is used up"


@pytest.mark.slow
def test_isolation_grader_killed(tmp_path: Path) -> None:
    """If the grader is killed, its fork server and workers end."""
    script = tmp_path / "grader.py"
    script.write_text(
        "import nbformat, sys\n"
        "from amllab.lab import find_lab\nfrom autograder.grading.worker import Worker\n"
        "cell = nbformat.v4.new_code_cell('print(1)')\n"
        "worker = Worker(find_lab('transfer-learning'), nbformat.v4.new_notebook(cells=[cell])).__enter__()\n"
        "print(worker.launcher._server.pid, worker._tree.number, flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as grader:
        assert grader.stdout is not None
        processes = [int(number) for number in grader.stdout.readline().split()]
        assert all(Path(f"/proc/{pid}").exists() for pid in processes)
        grader.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["its worker ends by itself", "the fork server is killed"])
def test_no_isolation_kernel_ends_with_worker(lab: Lab, end: str) -> None:
    """Without isolation too, a kernel ends with its worker."""
    launcher = Launcher("none")
    cell = nbformat.v4.new_code_cell("import os\nprint(os.getpid(), os.getppid())")
    with Worker(lab, nbformat.v4.new_notebook(cells=[cell]), launcher=launcher) as worker:
        kernel, parent = map(psutil.Process, map(int, cell.outputs[0]["text"].split()))
        assert worker._tree is not None
        assert launcher._server is not None
        if end == "its worker ends by itself":
            worker._tree.connection.close()
            deadline = time.monotonic() + 10
            while parent.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.5)  # until its last thread has ended, too
        else:
            launcher._server.kill()
            with suppress(IsolationError):
                worker.close()
    launcher.close()
    assert psutil.wait_procs([kernel, parent], 10)[1] == []


def test_launcher_after_interrupted_request(launcher: Launcher, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted request does not affect the next one."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert inside(launcher, lab, "print(1)") == ["1\n"]
    with monkeypatch.context() as patch:
        patch.setattr(launcher, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inside(launcher, lab, "print(2)")
    assert inside(launcher, lab, "print(3)") == ["3\n"]


def test_isolation_unavailable_refused(lab: Lab) -> None:
    """Nothing is graded if a layer fails; here a package folder that must also be hidden makes one fail."""
    launcher = Launcher(course=Path(sys.prefix))
    limits = {"memory_bytes": 1 << 30, "processes": 64, "open_files": 64, "file_bytes": 1 << 20}
    with pytest.raises(
        IsolationError, match=r"does not isolate submissions \(mounts: .*Nothing was graded.*doctor.*none"
    ):
        launcher.start(
            lab, {**limits, "scratch_bytes": 1 << 24, "cpu_seconds": 60}, {"output_bytes": 1, "answer_bytes": 1}
        )
    launcher.close()


@pytest.mark.slow
def test_no_isolation_reported() -> None:
    """Without isolation, the result says so."""
    notebook = "assignments/transfer-learning/transfer_learning.ipynb"
    command = [sys.executable, "-m", "autograder", "grade", notebook, "--isolation=none", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["isolation"] == "none"


def test_seccomp_syscall_numbers() -> None:
    """The numbers of system calls match the kernel's headers."""
    headers = {0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 1: "/usr/include/asm-generic/unistd.h"}
    found = {column: Path(file).read_text() for column, file in headers.items() if Path(file).is_file()}
    if not found:
        pytest.skip("the kernel's headers are not installed")
    calls = {**allowed_syscalls.ALLOWED, **seccomp.REFUSED, **seccomp.INSPECTED, **seccomp.DONE_ALREADY}
    for column, text in found.items():
        known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
        for name, numbers in calls.items():
            if name in known:
                assert numbers[column] == known[name], name
    with pytest.raises(OSError, match="no seccomp filter for mips"):
        seccomp.program("mips")


@pytest.mark.slow
def test_doctor_reports_every_layer() -> None:
    """``autograder doctor`` reports every layer of isolation."""
    command = [sys.executable, "-m", "autograder", "doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for layer in ("mount namespace", "pid namespace", "network namespace", "seccomp", "Landlock", "all together"):
        assert re.search(rf"^ok +{layer}", done.stdout, re.MULTILINE), done.stdout
    assert "Submissions run isolated on this machine." in done.stdout
