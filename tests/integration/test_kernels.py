"""Warm kernels differ from ordinary ones only in their start time."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from amllab.kernels import _arguments

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)

# what a notebook can see of its kernel
LOOK = """
import json, os, signal, sys, torch
import matplotlib.pyplot as plt
from torch.utils.data import DataLoader

plt.plot([1, 2])
seen = {
    "path": sys.path,
    "arguments": [a for a in sys.argv[1:] if not a.endswith(".json")],
    "folder": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k not in ("JPY_PARENT_PID", "JUPYTER_DEFAULT_PROVISIONER_NAME")},
    "own group": os.getpgrp() == os.getpid(),
    "interrupts": repr(signal.getsignal(signal.SIGINT)),
    "batches of two workers": len(list(DataLoader(torch.arange(8), num_workers=2, batch_size=4))),
    "names": sorted(sys.modules["__main__"].__dict__),
}
print(json.dumps(seen))
"""
# a program without a ``__main__`` guard: it must not be run again in the kernel
PROGRAM = f"""
import sys, nbformat
from nbclient import NotebookClient

print("the program begins")
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({LOOK!r})])
NotebookClient(notebook, kernel_name="python3", resources={{"metadata": {{"path": sys.argv[1]}}}}).execute()
outputs = notebook.cells[0].outputs
print(*(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"))
print(*(kind for output in outputs if output.output_type == "display_data" for kind in output.data))
"""
LIVES = """
import time
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")

def run(code):
    answer = client.execute_interactive(code, timeout=60, output_hook=lambda message: None)["content"]
    return answer.get("ename", answer["status"])

assert run("x = 1") == "ok"
request = client.execute("import time\\nwhile True: time.sleep(0.01)")
time.sleep(1)
manager.interrupt_kernel()
while (answer := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != request:
    pass
assert answer["content"]["ename"] == "KeyboardInterrupt"
assert run("x") == "ok"
manager.restart_kernel(now=True)
client.wait_for_ready(timeout=60)
assert run("x") == "NameError"
for _ in range(5):
    client.execute("import os; os._exit(7)")
    until = time.monotonic() + 20
    while manager.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert not manager.is_alive()
    manager._control_socket.linger = 400  # the request to shut down, which the dead one did not take, is not for the next one
    manager.restart_kernel()
    client.wait_for_ready(timeout=60)
assert run("import os; print(os.getpid())") == "ok"
print("KERNEL", manager.provisioner.pid, manager.provisioner.process.__class__.__name__, flush=True)
time.sleep(600)
"""


def program(tmp_path: Path, text: str, *arguments: str, provisioner: str = "amllab-warm") -> subprocess.Popen[str]:
    file = tmp_path / "program.py"
    file.write_text(text)
    environment = {**os.environ, "JUPYTER_DEFAULT_PROVISIONER_NAME": provisioner, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(file), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_warm_kernel_indistinguishable(tmp_path: Path) -> None:
    """A notebook sees the same environment in a warm kernel as in an ordinary one."""
    (tmp_path / "folder").mkdir()
    seen = []
    for provisioner in ("local-provisioner", "amllab-warm"):
        running = program(tmp_path, PROGRAM, str(tmp_path / "folder"), provisioner=provisioner)
        printed, log = running.communicate(timeout=120)
        assert running.returncode == 0, log
        begins, look, picture = filter(str.strip, printed.splitlines())
        assert begins == "the program begins"
        seen.append((picture, json.loads(look)))
    assert "image/png" in seen[1][0]
    assert seen[0] == seen[1]
    assert seen[1][1]["folder"] == str(tmp_path / "folder")


@pytest.mark.slow
def test_warm_kernel_lifecycle(tmp_path: Path) -> None:
    """A warm kernel can be interrupted and restarted, also after it died, and ends with its program."""
    with program(tmp_path, LIVES) as running:
        assert running.stdout is not None
        line = running.stdout.readline().split()
        if not line:
            running.kill()
            raise AssertionError(running.communicate()[1][-3000:])
        kernel = psutil.Process(int(line[1]))
        assert line[2] == "ForkedKernel"
        assert kernel.is_running()
        below = psutil.Process(running.pid).children(recursive=True)
        assert kernel in below
        running.kill()  # without a chance to clean up
        until = time.monotonic() + 20
        while any(process.is_running() for process in below) and time.monotonic() < until:
            time.sleep(0.1)
    assert not [process for process in below if process.is_running()]


def test_warm_kernel_ignores_other_kernels(tmp_path: Path) -> None:
    """Kernels of other environments and languages start as usual."""
    launcher = ["-m", "ipykernel_launcher", "-f", "x.json"]
    assert _arguments([sys.executable, *launcher]) == ["-f", "x.json"]
    environment = tmp_path / "python"  # another environment, on the same Python
    environment.symlink_to(Path(sys.executable).resolve())
    for other in ([str(environment), *launcher], [sys.executable, "-m", "bash_kernel", "-f", "x"], ["ark", "x.json"]):
        assert _arguments(other) is None
