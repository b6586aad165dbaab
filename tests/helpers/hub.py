"""A JupyterHub on a private machine: real accounts, the real proxy, and the configuration of docs/hub.md.

``/etc``, ``/home``, ``/opt`` and ``/srv`` are replaced for the hub's processes alone, in a mount namespace. Nothing on
the machine itself changes, and nothing is left when the hub ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from amllab.lab import find_lab
from autograder.authoring.bundle import build_wheel
from tests.helpers import hub_machine
from tests.helpers.course_copy import blocks_of

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "hub.md"
ACCOUNTS = "accounts"  # title of the page's block of commands
SUBDOMAINS = "with subdomains"  # title of the page's lines for these
EXAMPLE = "https://hub.example.org"  # and their host
CONFIG = "/srv/jupyterhub/jupyterhub_config.py"
COURSE = "advanced-machine-learning"
GRADER = "grader-aml"
STAFF, STUDENTS = ("instructor", "ta"), ("ada", "ben")
PASSWORD = "correct horse"
START_SECONDS = 120.0
INSTALL_PROXY = "npm install --global --prefix .venv configurable-http-proxy"
# what the test changes: ports that are free
PORTS = """
c.JupyterHub.bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.hub_port = {inner}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.JupyterHub.services[0]["url"] = "http://127.0.0.1:{service}"
"""
# images that the library draws; nothing asks the network for news
QUIET = """
c.Spawner.environment["AMLLAB_DATA"] = "drawn"
c.JupyterHub.services[0]["environment"]["AMLLAB_DATA"] = "drawn"
"""


def missing() -> str:
    """Return why no hub can be started here, with the command that helps; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the hub is tested as root on Linux, with real accounts in a namespace of their own"
    if importlib.util.find_spec("jupyterhub") is None:
        return "no jupyterhub: pip install --group hub"
    if _proxy() is None:
        return f"no configurable-http-proxy: {INSTALL_PROXY}"
    for program in ("setpriv", "unshare", "nsenter", "useradd", "chpasswd", "runuser"):
        if shutil.which(program) is None:
            return f"no {program} on this machine"
    tried = subprocess.run([*_namespaces(), "true"], capture_output=True, text=True, check=False)
    return f"this machine allows no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _proxy() -> str | None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return shutil.which("configurable-http-proxy", path=places)


def _namespaces() -> list[str]:
    # the kernel ends all processes of the namespace with its first one, and that one with the tests
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@dataclass(frozen=True)
class Hub:
    """A running hub.

    Attributes:
        address: address of the proxy, without a slash at the end.
        folder: folder on this machine that contains the hub's ``etc``, ``home``, ``opt`` and ``srv``.
        process: number of its first process.
    """

    address: str
    folder: Path
    process: int

    @property
    def course(self) -> Path:
        return self.folder / "home" / GRADER / "course"

    @property
    def exchange(self) -> Path:
        return self.folder / "srv" / "nbgrader" / "exchange" / COURSE

    def log(self) -> str:
        return (self.folder / "srv" / "jupyterhub" / "hub.log").read_text(encoding="utf-8", errors="replace")

    def run(self, account: str, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the hub's machine with an account, in its home unless ``cwd`` is given."""
        folder = more.pop("cwd", f"/home/{account}")
        inside = ["nsenter", "--target", str(self.process), "--mount", "--pid"]
        shell = 'cd "$0" && exec "$@"'
        line = [*inside, "runuser", "--login", account, "--command", shlex.join(["sh", "-c", shell, folder, *command])]
        return subprocess.run(line, capture_output=True, text=True, check=False, env=_environment(), **more)


def _environment() -> dict[str, str]:
    return {"PATH": hub_machine.PATH, "LANG": "C.UTF-8"}


@contextmanager
def hub(
    folder: Path,
    assignment: str,
    *,
    subdomains: bool = False,
    settings: str = "",
    students: tuple[str, ...] = STUDENTS,
) -> Iterator[Hub]:
    """Start a hub, and end it with all servers and kernels.

    Args:
        folder: an empty folder for its files.
        assignment: the lab of its course.
        subdomains: whether each server has a subdomain of ``hub.localhost``.
        settings: lines to add to the configuration of the page.
        students: accounts of students, in place of those of the page.
    """
    ports = dict(zip(("hub", "inner", "proxy", "service"), _free_ports(4), strict=True))
    blocks = {block.title: block.text for block in blocks_of(PAGE) if block.title}
    accounts = blocks.pop(ACCOUNTS).replace(" ".join(STUDENTS), " ".join(students))
    address = f"http://hub.localhost:{ports['hub']}"
    more = blocks.pop(SUBDOMAINS).replace(EXAMPLE, address)
    blocks[CONFIG] += PORTS.format(**ports) + QUIET + settings + (more if subdomains else "")
    files = folder / "machine"
    files.mkdir(parents=True)
    lab = find_lab(assignment)
    proxy = _proxy()
    assert proxy is not None
    plan = {
        "folder": str(files),
        "reachable": sorted({sys.prefix, sys.base_prefix, str(ROOT), str(Path(proxy).resolve().parents[3])}),
        "prefix": sys.prefix,
        "packages": sysconfig.get_path("purelib"),
        "wheel": str(build_wheel(folder, (lab, ROOT / "assignments" / assignment / f"{lab.notebook}.ipynb"))),
        "accounts": accounts,
        "files": blocks,
        "people": [*STAFF, *students],
        "password": PASSWORD,
        "course": str(_course(folder / "course", assignment)),
        "grader": GRADER,
        "proxy": str(Path(proxy).parent),
    }
    with (folder / "log").open("w") as log:
        command = [*_namespaces(), sys.executable, "-I", hub_machine.__file__, json.dumps(plan)]
        process = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            if not subdomains:
                address = f"http://127.0.0.1:{ports['hub']}"
            _wait(process, ports["hub"], [folder / "log", files / "srv" / "jupyterhub" / "hub.log"])
            yield Hub(address, files, psutil.Process(process.pid).children()[0].pid)
        finally:
            process.kill()  # the kernel then ends all that runs in its namespaces
            process.wait()


def _course(folder: Path, assignment: str) -> Path:
    for part in ("source", "assignments", "solutions"):
        shutil.copytree(ROOT / part / assignment, folder / part / assignment)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    return folder


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def _wait(process: subprocess.Popen[bytes], port: int, logs: list[Path]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/hub/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    said = "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.is_file())
    raise AssertionError(f"the hub did not start:\n{said}")
