"""The wheel that ``pip`` builds is complete, even if it is built from the source distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from amllab.lab import released_notebooks
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT

SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def build(kind: str, tree: Path, target: Path) -> Path:
    """Build ``sdist`` or ``wheel`` with the installed setuptools, without downloads."""
    command = [sys.executable, "-P", "-c", BUILD, f"build_{kind}", str(target)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of the source distribution."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "checkout"
    for package in ("amllab", "autograder", "assignments"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    shutil.unpack_archive(build("sdist", tree, folder), folder / "source")
    (source,) = (folder / "source").iterdir()
    with zipfile.ZipFile(build("wheel", source, folder)) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_releases_found_in_wheel(wheel: Path) -> None:
    """The library finds its releases in the wheel."""
    assert not (wheel / "assignments").exists()
    found = released_notebooks(wheel / "amllab")
    releases = {path.relative_to(ROOT / "assignments"): path for path in (ROOT / "assignments").glob("*/*.ipynb")}
    assert found == {str(name): wheel / "amllab" / "releases" / name for name in releases}
    assert len(found) >= 2
    assert all(found[str(name)].read_bytes() == path.read_bytes() for name, path in releases.items())


def test_releases_found_in_checkout(tmp_path: Path) -> None:
    """Releases are found in a checkout, also in one with a text file in place of the symbolic link."""
    release = tmp_path / "assignments" / ASSIGNMENT / NOTEBOOK
    release.parent.mkdir(parents=True)
    release.touch()
    (tmp_path / "amllab").mkdir()
    (tmp_path / "amllab" / "releases").write_text("../assignments")
    assert released_notebooks(tmp_path / "amllab") == {f"{ASSIGNMENT}/{NOTEBOOK}": release}


@pytest.mark.parametrize("package", ["amllab", "autograder"])
def test_wheel_contains_every_file(wheel: Path, package: str) -> None:
    """The wheel contains every file of the packages."""
    there = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
    there = {path for path in there if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)}
    packed = {path.relative_to(wheel) for path in (wheel / package).rglob("*") if path.is_file()}
    assert there <= packed
    assert {path.parts[1] for path in packed - there} <= {"releases"}
