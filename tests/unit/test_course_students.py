"""The repository for students: what the platforms need, nothing secret, and edits of the instructor are kept."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autograder.authoring import students_repository as module
from autograder.authoring.leak_check import Leak
from autograder.authoring.new_course import new_course
from autograder.authoring.students_repository import repository_of
from autograder.cli import main
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, sampled
from tests.helpers.course_labs import forgotten_course

OTHER = "meta-learning"


@pytest.fixture
def students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a course with two built labs. The wheel and the search for leaks have tests of their own."""

    def wheel(folder: Path, *labs: tuple[object, Path]) -> Path:
        file = folder / "amllab-1-py3-none-any.whl"
        file.write_bytes(b"PK\0" + " ".join(release.name for _, release in labs).encode())
        return file

    monkeypatch.setattr(module, "build_wheel", wheel)
    monkeypatch.setattr(module, "find_leaks", lambda *arguments: [])
    with forgotten_course():
        new_course(tmp_path / "a course", [ASSIGNMENT, OTHER])
        for lab in (ASSIGNMENT, OTHER):
            for notebook in (ROOT / "assignments" / lab).glob("*.ipynb"):
                (target := tmp_path / "a course" / "assignments" / lab).mkdir(parents=True)
                (target / notebook.name).write_bytes(notebook.read_bytes())
        with contextlib.chdir(tmp_path / "a course"):
            yield tmp_path / "a course" / "students"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


ALWAYS = {"README.md", "requirements.txt", "wheels/amllab-1-py3-none-any.whl", f"{ASSIGNMENT}/{NOTEBOOK}"}
OF = {
    "docker": {"Dockerfile", ".dockerignore"},
    "binder": {"binder/requirements.txt", "binder/runtime.txt"},
    "colab": {f"colab/{ASSIGNMENT}/{NOTEBOOK}"},
}


@pytest.mark.parametrize("platform", OF)
def test_each_platform_has_its_files(students: Path, platform: str) -> None:
    """A platform that is not wanted leaves no trace."""
    assert main(["add-platform", platform, "--labs", ASSIGNMENT, "--repository", "ada/course"]) == 0
    assert files(students) == ALWAYS | OF[platform]
    readme = (students / "README.md").read_text()
    assert [word in readme for word in ("docker build", "mybinder.org", "colab.research")] == [
        name == platform for name in OF
    ]
    assert not re.search(r"\n{3}|[{}%]{2}|, run its first cell, and\n\n", readme)


def test_platforms_and_labs_add_up(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was chosen stays chosen: the command without arguments brings everything up to date."""
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 0
    assert main(["add-platform", "binder,colab", "--repository", "https://github.com/ada/course.git"]) == 0
    assert main(["add-platform", "--labs", "meta_learning"]) == 0
    assert files(students) == ALWAYS.union(*OF.values()) | {
        f"{OTHER}/meta_learning.ipynb",
        f"colab/{OTHER}/meta_learning.ipynb",
    }
    readme = (students / "README.md").read_text()
    assert (
        "https://colab.research.google.com/github/ada/course/blob/main/colab/meta-learning/meta_learning.ipynb"
        in readme
    )
    capsys.readouterr()
    release = students.parent / "assignments" / ASSIGNMENT / NOTEBOOK
    release.write_text(release.read_text().replace("Transfer", "Transport", 1))
    assert main(["add-platform"]) == 0
    changed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert changed == [
        ["updated", f"students/colab/{ASSIGNMENT}/{NOTEBOOK}"],
        ["updated", f"students/{ASSIGNMENT}/{NOTEBOOK}"],
    ]
    assert main(["add-platform"]) == 0
    assert "nothing has changed" in capsys.readouterr().out


def test_edits_are_kept(students: Path) -> None:
    """Edits of texts are merged; copies of notebooks and wheels are what was built; deleted files come back."""
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 0
    for name in ("README.md", "Dockerfile"):
        with (students / name).open("a") as file:
            file.write("\n# ours\n")
    (students / ASSIGNMENT / NOTEBOOK).write_text("{}")
    (students / ".dockerignore").unlink()
    (students / "SYLLABUS.md").write_text("ours")
    assert main(["add-platform", "binder", "--repository", "ada/course", "--labs", OTHER]) == 0
    for name in ("README.md", "Dockerfile"):
        assert (students / name).read_text().endswith("\n# ours\n")
    assert "mybinder.org" in (students / "README.md").read_text()
    released = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK
    assert (students / ASSIGNMENT / NOTEBOOK).read_bytes() == released.read_bytes()
    assert (students / ".dockerignore").is_file()
    assert (students / "SYLLABUS.md").read_text() == "ours"


def test_old_wheel_goes(students: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of an older version does not stay next to the new one."""
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 0
    made = module.build_wheel

    def newer(folder: Path, *labs: tuple[object, Path]) -> Path:
        return made(folder, *labs).rename(folder / "amllab-2-py3-none-any.whl")  # type: ignore[arg-type]

    monkeypatch.setattr(module, "build_wheel", newer)
    assert main(["add-platform"]) == 0
    assert {path.name for path in (students / "wheels").iterdir()} == {"amllab-2-py3-none-any.whl"}
    assert "amllab-2-" in (students / "requirements.txt").read_text()


def test_colab_notebook(students: Path) -> None:
    """The notebook for Colab is the release with one more cell, which does nothing elsewhere."""
    assert main(["add-platform", "colab", "--labs", ASSIGNMENT, "--repository", "ada/course", "--branch", "2026"]) == 0
    released = nbformat.read(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    first, *others = nbformat.read(students / "colab" / ASSIGNMENT / NOTEBOOK, as_version=4).cells
    assert others == released.cells
    assert "https://raw.githubusercontent.com/ada/course/2026/wheels/amllab-1-py3-none-any.whl" in first.source
    assert first.source.splitlines()[3:4] == ['if "google.colab" in sys.modules:']
    assert "nbgrader" not in first.metadata


def test_packages_of_labs_are_installed(students: Path) -> None:
    """Packages that a lab declares are installed on each platform."""
    file = students.parent / "labs" / "public" / "transfer_learning" / "lab.toml"
    file.write_text('packages = ["einops>=0.7"]\n' + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["add-platform", *OF, "--labs", ASSIGNMENT, "--repository", "ada/course"]) == 0
    for name in ("requirements.txt", "binder/requirements.txt"):
        assert "einops>=0.7" in (students / name).read_text().splitlines()
    assert '"einops>=0.7"' in nbformat.read(students / "colab" / ASSIGNMENT / NOTEBOOK, as_version=4).cells[0].source


@pytest.mark.parametrize(
    "choice",
    sampled(
        [
            ([], "name at least one platform: docker, binder, colab"),
            (["docker"], "--labs"),
            (["dokcer", "--labs", ASSIGNMENT], "no platform 'dokcer'; there are: docker, binder, colab"),
            (["docker", "--labs", "tranfer"], "no lab 'tranfer'"),
            (["colab", "--labs", ASSIGNMENT], "--repository OWNER/NAME"),
            (["binder", "--labs", ASSIGNMENT, "--repository", "https://gitlab.com/a/b"], "is no repository on GitHub"),
            (["docker", "--labs", "self-supervised-learning"], "'autograder build self-supervised-learning'"),
        ],
        3,
    ),
)
def test_wrong_choices(students: Path, choice: tuple[list[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """A choice that cannot be carried out is explained, and nothing is written or remembered."""
    arguments, message = choice
    assert main(["add-platform", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not students.exists()
    assert not (students.parent / ".shipped" / "students").exists()


def test_leak_stops_everything(
    students: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a file would reveal a secret, no file is written."""
    monkeypatch.setattr(module, "find_leaks", lambda *arguments: [Leak("README.md", "a solution")])
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 2
    assert "README.md: a solution" in capsys.readouterr().err
    assert not students.exists()


@pytest.mark.parametrize("damage", sampled(["{", "[]", '{"choices": {}}', '{"choices": {"platforms": 1}}'], 4))
def test_damaged_choices(students: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged record of choices is named, with the way out."""
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 0
    (students.parent / ".shipped" / "students" / "choices.json").write_text(damage)
    assert main(["add-platform"]) == 2
    assert "choices.json is damaged" in capsys.readouterr().err


def test_students_repository_survives_upgrade(students: Path) -> None:
    """An upgrade of the course does not touch what the command remembers."""
    assert main(["add-platform", "docker", "--labs", ASSIGNMENT]) == 0
    record = students.parent / ".shipped" / "students" / "choices.json"
    before = record.read_bytes()
    assert main(["upgrade-course"]) == 0
    (students.parent / ".shipped" / "course.json").unlink()
    assert main(["upgrade-course", "--without-base"]) == 0
    assert record.read_bytes() == before
    assert json.loads(before)["choices"]["labs"] == [ASSIGNMENT]


@pytest.mark.parametrize(
    "address", ["ada/course", "https://github.com/ada/course", "https://github.com/ada/course.git", "github.com/ada/course/",
                "git@github.com:ada/course.git", "ssh://git@github.com/ada/course"]
)  # fmt: skip
def test_repository_addresses(address: str) -> None:
    """A repository is recognised in the forms that people copy."""
    assert repository_of(address) == "ada/course"
