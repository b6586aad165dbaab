"""The layers of isolation, seen from inside a process tree that was built without privileges and without PyTorch."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autograder.sandbox import FileSystemView, Limits, libc, run_isolated
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces exist only on Linux")


def attempt(action: Callable[[], Any]) -> str:
    """Return what the error says that an action raises, or an empty text."""
    try:
        action()
    except OSError as error:
        return error.strerror or ""
    return ""


def look() -> dict[str, Any]:
    """Return what a process can see and do."""
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    memfd = ctypes.CDLL(None, use_errno=True).memfd_create(b"x", 0)
    return {
        "processes": [name for name in os.listdir("/proc") if name.isdigit()],
        "user": os.getuid(),
        "course": os.path.exists(ROOT),
        "capabilities": int(status["CapEff"], 16),
        "filters": (status["NoNewPrivs"], status["Seccomp"]),
        "memfd": (memfd, os.strerror(ctypes.get_errno())),
        "packet socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "network": attempt(lambda: socket.create_connection(("127.0.0.1", 9), timeout=1)),
        "own file": attempt(lambda: Path("/tmp/file").write_text("x")),
        "other file": attempt(lambda: Path("/proc/self/comm").write_text("x")),
    }


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a worker without privileges sees and can do, also if the tests run as root."""
    limits = Limits(1 << 30, 64, 64, 1 << 20, 1 << 24, 60)
    ready, writing = os.pipe()
    inside, told = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            libc.set_dumpable(True)  # otherwise a process that changed its user cannot write its own uid_map

        def worker() -> int:
            os.write(told, json.dumps(look()).encode())
            return 7

        os._exit(run_isolated(FileSystemView((), ()), limits, worker, writing))
    os.close(writing)
    os.close(told)
    with os.fdopen(ready, "rb") as failure, os.fdopen(inside, "rb") as answer:
        assert failure.read() == b""
        found: dict[str, Any] = json.loads(answer.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    return found


def test_namespaces(seen: dict[str, Any]) -> None:
    """The worker sees itself and the first process of its tree, as another user, and no file of the course."""
    assert (seen["processes"], seen["user"], seen["course"]) == (["1", "2"], 1000, False)


def test_no_privileges(seen: dict[str, Any]) -> None:
    """The worker has no privileges and cannot get any."""
    assert seen["capabilities"] == 0
    assert seen["filters"][0] == "1"


def test_system_calls_filtered(seen: dict[str, Any]) -> None:
    """A filter refuses system calls that notebooks do not need."""
    assert seen["filters"][1] == "2"
    assert seen["memfd"] == [-1, "Operation not permitted"]
    assert seen["packet socket"] == "Network is unreachable"


def test_no_network(seen: dict[str, Any]) -> None:
    """There is no network, not even to this machine."""
    assert seen["network"] == "Network is unreachable"


def test_own_files_only(seen: dict[str, Any]) -> None:
    """Only the scratch directory can be written."""
    assert (seen["own file"], seen["other file"]) == ("", "Permission denied")
