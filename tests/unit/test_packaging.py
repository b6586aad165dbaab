"""The wheel that ``pip`` builds is complete, even if it is built from the source distribution."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from amllab.lab import released_notebooks
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT
from tests.helpers.wheels import Installation, build, source_tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of the source distribution."""
    folder = tmp_path_factory.mktemp("build")
    tree = source_tree(folder / "checkout")
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
    assert {path.parts[1] for path in packed - there} == {"amllab": {"releases"}, "autograder": {"shipped"}}[package]


def test_wheel_contains_courses(wheel: Path) -> None:
    """The wheel contains master texts and solutions of all labs, once, where graders alone have them."""
    packed = {
        path.relative_to(wheel / "autograder" / "shipped") for path in (wheel / "autograder" / "shipped").rglob("*")
    }
    masters = [path.relative_to(ROOT) for path in (ROOT / "source").glob("*/*.py")]
    solutions = [path.relative_to(ROOT) for path in (ROOT / "solutions").glob("*/*.ipynb")]
    assert {path for path in packed if path.suffix} == {*masters, *solutions, Path("pyproject.toml")}
    assert len(masters) >= 4
    assert not [path for path in (wheel / "amllab").rglob("*") if "shipped" in path.parts]


def test_new_course_from_wheel(wheel: Path, tmp_path: Path) -> None:
    """In an environment with the wheel alone, a course is made in an empty folder, and its labs are found there."""
    installed = Installation(tmp_path / "environment")
    installed.use(wheel)
    assert "No module named 'tests'" in installed.run(tmp_path, "python", "-c", "import tests").stderr
    made = installed.run(tmp_path, "autograder", "new-course", "a course", "--labs", ASSIGNMENT)
    assert made.returncode == 0, made.stderr
    shown = (
        "import amllab.checks.transfer_learning as public, autograder.checks.transfer_learning as hidden, amllab.lab as lab; "
        "print(public.__file__, hidden.__file__, lab.find_lab('transfer-learning').folder, sep='\\n')"
    )
    found = installed.run(tmp_path / "a course" / "source", "python", "-c", shown).stdout.splitlines()
    labs = tmp_path / "a course" / "labs"
    folders = (labs / "public" / "transfer_learning", labs / "hidden" / "transfer_learning")
    assert found == [*(str(folder / "__init__.py") for folder in folders), str(folders[0])]
