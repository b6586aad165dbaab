"""The course, its environment and its folders behind symbolic links, as on clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from autograder.sandbox import interpreter_paths
from tests.helpers.course_copy import ROOT, CourseCopy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="submissions are isolated on Linux alone")

# starts a worker as grading does, in the course of the working directory; prints the outputs and doctor's finding
GRADE = """
import json, sys, nbformat
from amllab.lab import find_lab
from autograder.course import Course
from autograder.sandbox.launcher import Launcher
from autograder.grading.trial_run import trial
from autograder.grading.worker import Worker

root = Course.find().root
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
launcher = Launcher("namespaces", root)
with Worker(find_lab("transfer-learning"), notebook, launcher=launcher):
    pass
launcher.close()
found = trial()
print(json.dumps({"root": str(root), "outputs": notebook.cells[0].outputs, "doctor": [found.works, found.detail]}))
"""
# lazily imported modules and data files need visible folders; the course and the grading package must be hidden
CELL = """
import os, amllab, matplotlib.font_manager, timm.models.vision_transformer
amllab.load_backbone("net12")
for path in {hidden!r}:
    print(os.path.exists(path))
"""


@dataclass
class Cluster:
    """Folders as on clusters: ``/home``, ``/apps`` and the temporary folder are links."""

    home: Path
    apps: Path
    packages: Path
    scratch: Path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    folder = tmp_path_factory.mktemp("cluster")
    for place, target in {
        "home": folder / "storage" / "users",
        "apps": Path(sys.base_prefix),
        "packages": Path(sysconfig.get_path("purelib")),
        "scratch": folder / "storage" / "scratch",
    }.items():
        target.mkdir(parents=True, exist_ok=True)
        (folder / place).symlink_to(target)
    scratch = folder / "scratch" / ("job" * 30)  # too long for the address of a socket
    scratch.mkdir()
    return Cluster(folder / "home", folder / "apps", folder / "packages", scratch)


@pytest.fixture(scope="module")
def copy(cluster: Cluster) -> CourseCopy:
    """Return a course in the home folder, with an environment whose interpreter and packages are behind links too."""
    copy = CourseCopy(cluster.home / "ta")
    environment = copy.python.parent.parent
    settings = environment / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(("home", "executable"))]
    settings.write_text("\n".join([f"home = {cluster.apps}/bin", *lines]))
    base = environment / "bin" / f"python3.{sys.version_info.minor}"
    base.unlink()
    base.symlink_to(cluster.apps / "bin" / base.name)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    (site / "course.pth").write_text(f"{copy.root}\n{cluster.packages}\n")
    cache = cluster.home / "cache" / "5f2a" / "greeting"  # installers link to a cache instead of copying
    cache.mkdir(parents=True)
    (site / "greeting").mkdir()
    for name, text in {"__init__.py": "", "words.py": "HELLO = 'hello'"}.items():
        (cache / name).write_text(text)
        (site / "greeting" / name).symlink_to(cache / name)
    return copy


def graded(python: Path, course: Path, cell: str, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [python, "-c", GRADE, cell],
        cwd=course,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_environment_behind_symlinks(cluster: Cluster, copy: CourseCopy) -> None:
    """Grading works in an environment behind links, and the course stays hidden."""
    hidden = [str(copy.root / "autograder" / "grading" / "grader.py"), str((copy.root / "solutions").resolve())]
    cell = CELL.format(hidden=hidden) + "from greeting.words import HELLO; print(HELLO)"
    got = graded(copy.python, copy.root, cell, TMPDIR=str(cluster.scratch))
    assert [output.get("text") for output in got["outputs"]] == ["False\nFalse\nhello\n"], got
    assert got["doctor"][0] is True, got


@pytest.mark.slow
def test_packages_from_pythonpath(cluster: Cluster, copy: CourseCopy) -> None:
    """Grading works with packages from ``PYTHONPATH``, as in a module system, without an environment."""
    hidden = [str(copy.root / "autograder" / "grading" / "grader.py"), str(copy.root / "solutions")]
    path = os.pathsep.join(["", str(copy.root), str(cluster.packages)])
    got = graded(cluster.apps / "bin" / "python3", copy.root, CELL.format(hidden=hidden), PYTHONPATH=path)
    assert [output.get("text") for output in got["outputs"]] == ["False\nFalse\n"], got
    assert got["doctor"][0] is True, got


def test_doctor_names_missing_paths(copy: CourseCopy, tmp_path: Path) -> None:
    """``doctor`` names files and packages that a submission does not see, with a remedy."""
    from autograder.grading.trial_run import _failed

    there = tmp_path / "a.json"
    there.touch()
    found = _failed(f"a worker did not start:\nTraceback\nFileNotFoundError: [Errno 2] No such file: '{there}'\n")
    assert not found.works
    assert found.detail.startswith("FileNotFoundError")
    assert str(there) in found.remedy
    assert "python -m venv --copies" in found.remedy
    assert "pip install" in _failed("ModuleNotFoundError: No module named 'torch'").remedy


def test_symlinks_followed_like_kernel(tmp_path: Path) -> None:
    """Links are followed like the kernel does, and each one on the way is recorded."""
    root = tmp_path.resolve()
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").touch()
    (root / "relative").symlink_to("a/../a/b")
    (root / "absolute").symlink_to(root / "relative")
    (root / "a" / "up").symlink_to("..")
    (root / "circle").symlink_to("circle")
    (root / "dangling").symlink_to("nowhere/at/all")
    for name in ("relative/file", "absolute/file", "a/up/absolute/file", "a/b/file", "a/./b//file", "dangling/x"):
        links: dict[str, str] = {}
        assert interpreter_paths.follow(f"{root}/{name}", links) == os.path.realpath(root / name)
        assert all(os.readlink(place) == target for place, target in links.items())
    links = {}
    interpreter_paths.follow(f"{root}/absolute/file", links)
    assert links.keys() >= {f"{root}/absolute", f"{root}/relative"}
    assert interpreter_paths.follow(f"{root}/circle", {}) == f"{root}/circle"


def test_bind_mount_alias_hidden(tmp_path: Path) -> None:
    """A course behind a bind mount is hidden under its other name too, which is the one in the import path."""
    script = f"""
import json, os
from autograder.sandbox import libc, interpreter_paths
root = os.geteuid() == 0
libc.unshare(libc.CLONE_NEWNS | (0 if root else libc.CLONE_NEWUSER))
libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
libc.mount({str(tmp_path / "users")!r}, {str(tmp_path / "home")!r}, flags=libc.MS_BIND)
course = {str(tmp_path / "users" / "ta" / "course")!r}
shown = [{str(tmp_path / "home" / "ta")!r}, {str(tmp_path / "home")!r}, course + "/.venv", "/usr"]
print(json.dumps(sorted(interpreter_paths.aliases(course, shown))))
"""
    for name in ("users/ta/course/.venv", "home"):
        (tmp_path / name).mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("this machine does not allow mounts")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(tmp_path / "home" / "ta" / "course")]


def test_package_symlinks_minimal_view(tmp_path: Path) -> None:
    """Links among packages make nothing visible beyond the package."""
    site, home = tmp_path / "site-packages", tmp_path / "home"
    for folder in (site / "one", home / "one", home / "two", home / "secrets"):
        folder.mkdir(parents=True)
    for file in (home / "one" / "__init__.py", home / "two" / "__init__.py", home / "settings.json"):
        file.touch()
    (site / "one" / "__init__.py").symlink_to(home / "one" / "__init__.py")
    (site / "two").symlink_to(home / "two")
    (site / "scratch").symlink_to(home)  # no package
    (site / "three").mkdir()
    (site / "three" / "settings.json").symlink_to(home / "settings.json")
    seen = {path for path in interpreter_paths.of_packages([str(site)]) if path.startswith(str(tmp_path))}
    assert seen == {str(home / "one"), str(home / "two"), str(home / "settings.json")}
