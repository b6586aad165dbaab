"""The inside of :mod:`tests.helpers.hub`: set up a machine as docs/hub.md says, and run the hub.

The program is started in mount and process namespaces of its own, so it may replace ``/etc``, ``/home``, ``/opt`` and
``/srv``: accounts and files exist only there, and end with it. It needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAMS = ("jupyterhub", "jupyterhub-singleuser", "jupyter", "jupyter-lab", "jupyter-labhub", "nbgrader")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIG = Path("/srv/jupyterhub/jupyterhub_config.py")


def main() -> None:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    os.environ["PATH"] = PATH
    replace_folders(Path(plan["folder"]))
    make_reachable(Path(plan["folder"], "reachable"), plan["reachable"])
    students_environment(plan["prefix"], plan["packages"], plan["wheel"])
    Path("/opt/graders").symlink_to(plan["prefix"])
    run("bash", "-eu", input=plan["accounts"])
    for name, text in plan["files"].items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    run("chpasswd", input="".join(f"{name}:{plan['password']}\n" for name in plan["people"]))
    create_course(plan["course"], plan["grader"])
    os.environ["PATH"] = f"{plan['proxy']}:{PATH}"
    with CONFIG.with_name("hub.log").open("w") as log:
        command = ["/opt/students/bin/jupyterhub", "--config", str(CONFIG)]
        # as the first process of its namespace, this program also waits for those whose parents have ended
        subprocess.run(command, cwd=CONFIG.parent, stdout=log, stderr=log, check=False)


def run(*command: str, **more: Any) -> None:
    subprocess.run(command, check=True, text=True, **more)


def replace_folders(folder: Path) -> None:
    """Put a copy over ``/etc``, and empty folders over those for accounts, programs and services."""
    run("cp", "--archive", "/etc", str(folder / "etc"))
    for name in ("home", "opt", "srv"):
        (folder / name).mkdir()
    for name in ("etc", "home", "opt", "srv"):
        run("mount", "--bind", str(folder / name), f"/{name}")


def make_reachable(stash: Path, paths: list[str]) -> None:
    """Let all accounts reach files below folders that only root may enter, such as an interpreter in ``/root``.

    The closed folder is covered by an empty one in which only these paths exist.
    """
    closed: dict[Path, list[Path]] = {}
    for path in map(Path, paths):
        above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
        if above:
            closed.setdefault(above[0], []).append(path)
    for folder, inside in closed.items():
        places = []
        for i, path in enumerate(inside):
            place = stash / f"{len(str(folder))}-{i}"
            place.mkdir(parents=True)
            run("mount", "--bind", str(path), str(place))
            # its own descriptor, as the path may be covered in a moment
            places.append((os.open(place, os.O_PATH), path))
        run("mount", "--types", "tmpfs", "--options", "mode=755", "none", str(folder))
        for descriptor, path in places:
            path.mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{descriptor}"
            run("mount", "--no-canonicalize", "--bind", source, str(path), pass_fds=[descriptor])


def students_environment(prefix: str, packages: str, wheel: str) -> None:
    """Create ``/opt/students``: the packages of this environment, but of the course only what students get."""
    run(f"{prefix}/bin/python", "-m", "venv", "--without-pip", "/opt/students")
    students = Path("/opt/students")
    (site,) = students.glob("lib/python*/site-packages")
    shutil.unpack_archive(wheel, site, "zip")
    # a folder on the path whose own .pth files are not read, and so without the checkout of the course
    (site / "packages.pth").write_text(f"{packages}\n")
    (students / "share").symlink_to(f"{prefix}/share")
    shutil.copytree(f"{prefix}/etc", students / "etc")
    for name in PROGRAMS:
        script = students / "bin" / name
        script.write_text(f'#!/bin/sh\nexec /opt/students/bin/python {prefix}/bin/{name} "$@"\n')
        script.chmod(0o755)


def create_course(origin: str, grader: str) -> None:
    """Copy a course into the home of the account that grades."""
    course = Path(f"/home/{grader}/course")
    shutil.copytree(origin, course)
    run("chown", "--recursive", f"{grader}:{grader}", str(course))


if __name__ == "__main__":
    main()
