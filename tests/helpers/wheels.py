"""The package as others have it: a wheel, installed in an environment that cannot import this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("amllab", "autograder", "assignments", "source", "solutions")
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def source_tree(folder: Path, version: str = "") -> Path:
    """Copy what a wheel is built from, with another version if one is given."""
    for name in FOLDERS:
        left_out = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    if version:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        changed = re.sub(r'^version = ".*"$', f'version = "{version}"', text, count=1, flags=re.M)
        (folder / "pyproject.toml").write_text(changed, encoding="utf-8")
    return folder


def build(kind: str, tree: Path, target: Path) -> Path:
    """Build ``sdist`` or ``wheel`` with the installed setuptools, without downloads."""
    command = [sys.executable, "-P", "-c", BUILD, f"build_{kind}", str(target)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


class Installation:
    """An environment with the packages of this one, but with ``amllab`` and ``autograder`` from a wheel alone.

    Args:
        folder: Folder of the environment.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.folder, self.python = folder, folder / "bin" / "python"
        self._packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        # as an entry of a .pth: the editable installation of this repository in it is not loaded
        (self._packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def use(self, unpacked: Path) -> None:
        """Use an unpacked wheel where it is."""
        (self._packages / "a-wheel.pth").write_text(f"{unpacked}\n")

    def install(self, wheel: Path) -> None:
        """Install a wheel, in place of another one."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--no-deps", "--no-index"]
        done = subprocess.run(
            [*command, "--quiet", "--force-reinstall", "--no-compile", str(wheel)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``autograder``, ``nbgrader`` or ``python`` in a folder."""
        program, *arguments = command
        modules = {"autograder": ["-m", "autograder"], "nbgrader": ["-m", "nbgrader"], "python": []}
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMLLAB_LABS")}
        # nbgrader starts alembic by name
        environment["PATH"] = os.pathsep.join([environment["PATH"], str(Path(sys.executable).parent)])
        environment["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))  # templates of nbconvert
        return subprocess.run(
            [self.python, "-P", *modules[program], *arguments],
            cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
