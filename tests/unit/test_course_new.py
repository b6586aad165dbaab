"""A new course is complete or not there at all, and a folder that is in use stays as it is."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.authoring import new_course as module
from autograder.authoring.new_course import course_id, new_course
from autograder.authoring.shipped import chosen_labs, files_of_lab, shipped_labs
from autograder.cli import main
from autograder.course import Course
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, sampled
from tests.helpers.course_labs import forgotten_course
from tests.unit.test_gitignore import OTHERS

LAB = "transfer_learning"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    with forgotten_course():
        yield


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_new_course_files(tmp_path: Path) -> None:
    """A course has what it needs, and its own folders for the checks of its labs."""
    root = tmp_path / "My Course"
    assert new_course(root, [ASSIGNMENT]) == [ASSIGNMENT]
    found = {name for name in files(root) if not name.startswith(".shipped/")}
    hidden = {name for name in found if name.startswith("labs/hidden/")}
    assert {"labs/hidden/transfer_learning/corpus/costs.toml", "labs/hidden/transfer_learning/mistakes.json"} <= hidden
    public = {name for name in found if name.startswith("labs/public/")}
    assert {f"labs/public/{LAB}/lab.toml", f"labs/public/{LAB}/probes.py"} <= public
    notebook = NOTEBOOK.removesuffix(".ipynb")
    assert found - hidden - public == {
        *("README.md", "nbgrader_config.py", "students.csv", "requirements.txt", ".gitignore"),
        *(f"source/{ASSIGNMENT}/{notebook}.py", f"solutions/{ASSIGNMENT}/{NOTEBOOK}"),
    }
    assert not [name for name in found if name.endswith((".pyc", "own.toml")) or "__pycache__" in name]
    course = Course.find(root)
    assert course.directories["source_directory"] == root / "source"
    assert 'course_id = "my-course"' in (root / "nbgrader_config.py").read_text()


def test_new_course_has_whole_labs() -> None:
    """Every file of a lab's folders of checks is shipped."""
    for assignment in shipped_labs():
        lab = assignment.replace("-", "_")
        listed = subprocess.check_output(
            ["git", "ls-files", f"amllab/checks/{lab}", f"autograder/checks/{lab}", f"source/{assignment}/*.py"],
            cwd=ROOT, text=True,
        ).split()  # fmt: skip
        wanted = {
            name.replace("amllab/checks", "labs/public").replace("autograder/checks", "labs/hidden")
            for name in listed
            if (ROOT / name).is_file()
        }
        assert wanted <= set(files_of_lab(assignment))
        assert wanted


def test_new_course_default_labs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default, a course has all labs; the command tells the next one."""
    assert main(["new-course", str(tmp_path / "a")]) == 0
    assert sorted(path.name for path in (tmp_path / "a" / "source").iterdir()) == shipped_labs()
    assert len(shipped_labs()) >= 4
    assert f"'autograder build {shipped_labs()[0]}'" in capsys.readouterr().out


def test_new_course_roster_imports_nothing(tmp_path: Path) -> None:
    """The roster has the columns that nbgrader imports, and no made-up student."""
    new_course(tmp_path / "a", [])
    with (tmp_path / "a" / "students.csv").open() as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["id", "first_name", "last_name", "email"]
        assert list(reader) == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_new_course_gitignore(tmp_path: Path) -> None:
    """Git ignores what a running course writes about its students, and nothing of the course."""
    new_course(tmp_path / "a", [ASSIGNMENT])
    subprocess.run(["git", "init", "-q", str(tmp_path / "a")], check=True)
    personal = [*OTHERS, "submitted/ada/x/x.ipynb", "autograded/ada/x", "feedback/ada/x", ".graded/x", "gradebook.db",
                "gradebook.db.2026-12-18T10-00-00", "collected.json", "students.csv", "dist/x.zip"]  # fmt: skip
    own = sorted(files(tmp_path / "a") - {"students.csv"} - {n for n in files(tmp_path / "a") if n.startswith(".git/")})
    command = ["git", "-C", str(tmp_path / "a"), "-c", "core.excludesFile=", "check-ignore", "--no-index"]
    # `make demo` is not in a course
    wanted = {path for path in personal if not path.startswith("demo/")}
    assert (
        set(subprocess.run([*command, *wanted], capture_output=True, text=True, check=False).stdout.splitlines())
        == wanted
    )
    kept = subprocess.run([*command, *own], capture_output=True, text=True, check=False).stdout.splitlines()
    assert kept == [".shipped/students.csv"]  # the header alone


def test_new_course_gitignore_like_the_repository(tmp_path: Path) -> None:
    """What a running course writes is ignored in a course of one's own too."""
    new_course(tmp_path / "a", [])
    ours = {line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")}
    assert len(ours) > 10
    assert ours - {"/demo/"} <= set((tmp_path / "a" / ".gitignore").read_text().splitlines())


def test_new_course_readme_commands_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of the README exists, with its options."""
    from tests.unit.test_docs import commands

    new_course(tmp_path / "a", [ASSIGNMENT])
    found = commands((tmp_path / "a" / "README.md").read_text())
    assert {"build", "audit", "bundle", "scores", "export", "doctor", "new-lab", "upgrade-course"} <= {
        c[0] for c in found
    }
    for name, *arguments in found:
        assert main([name, "--help"]) == 0
        known = capsys.readouterr().out
        assert all(argument in known for argument in arguments if argument.startswith("--"))


@pytest.mark.parametrize("name", sampled(["Kurs für Anfänger", "a  b", "курс", "...", "-x", "a'b", "1", "c.d"], 4))
def test_new_course_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, umlauts and other alphabets in the name of the folder are fine."""
    monkeypatch.chdir(tmp_path)
    assert main(["new-course", "--labs", ASSIGNMENT, "--", name]) == 0
    course = Course.find(tmp_path / name)
    assert course.root == tmp_path / name
    assert course_id(name).replace("-", "").isalnum()


@pytest.mark.parametrize("name", sampled(["a*b", "a[1]", "a?", "$x", "{a}", "a\nb"], 5))
def test_new_course_impossible_names(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """nbgrader would take these for patterns: nothing is written, and the message says why."""
    assert main(["new-course", str(tmp_path / name), "--labs", ASSIGNMENT]) == 2
    assert "nbgrader treats as patterns" in (text := capsys.readouterr().err) or "cannot be displayed" in text
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ([ASSIGNMENT], [ASSIGNMENT]),
        ([LAB], [ASSIGNMENT]),
        (["Transfer-Learning", "transfer learning "], [ASSIGNMENT]),
        (["meta-learning", ASSIGNMENT], ["meta-learning", ASSIGNMENT]),
        ([], []),
    ],
)
def test_chosen_labs(wanted: list[str], chosen: list[str]) -> None:
    """Labs are found by the names that people give them."""
    assert chosen_labs(wanted) == chosen


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tranfer-learning", "did you mean transfer-learning?"), ("", "There are: "), ("../x", "There are: ")],
)
def test_new_course_unknown_lab(tmp_path: Path, name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelled lab is named, with the one that was meant and all that there are; nothing is written."""
    assert main(["new-course", str(tmp_path / "a"), "--labs", f"meta-learning,{name or '?'}"]) == 2
    text = capsys.readouterr().err
    assert hint in text
    assert ", ".join(shipped_labs()) in text
    assert files(tmp_path) == set()


@pytest.mark.parametrize("there", sampled(["x.txt", "README.md", "labs/x", ".gitignore", "thesis/x"], 3))
def test_new_course_folder_in_use(tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with files is refused, and stays as it is."""
    (tmp_path / "a" / there).parent.mkdir(parents=True)
    (tmp_path / "a" / there).write_text("mine")
    assert main(["new-course", str(tmp_path / "a"), "--labs", ASSIGNMENT]) == 2
    assert f"is not empty ({there.split('/')[0]})" in capsys.readouterr().err
    assert files(tmp_path) == {f"a/{there}"}


@pytest.mark.parametrize("where", [".", "empty"])
def test_new_course_empty_folder(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder becomes the course, and so does a new repository of Git with an environment in it."""
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "empty" / ".venv").mkdir()
    monkeypatch.chdir(tmp_path / where if where == "empty" else tmp_path / "empty")
    before = os.stat(tmp_path / "empty").st_ino
    target = "." if where == "." else str(tmp_path / "empty")
    assert main(["new-course", target, "--labs", ASSIGNMENT]) == 0
    assert os.stat(tmp_path / "empty").st_ino == before  # somebody may be in it
    names = {path.name for path in (tmp_path / "empty").iterdir()}
    assert {".git", ".venv", "nbgrader_config.py", "labs"} <= names
    assert not [name for name in names if "draft" in name]


def test_new_course_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time, the course is left alone, and the message names the command that upgrades it."""
    assert main(["new-course", str(tmp_path / "a"), "--labs", ASSIGNMENT]) == 0
    (tmp_path / "a" / "README.md").write_text("mine")
    before = files(tmp_path)
    assert main(["new-course", str(tmp_path / "a"), "--labs", ASSIGNMENT]) == 2
    assert "autograder upgrade-course" in capsys.readouterr().err
    assert files(tmp_path) == before
    assert (tmp_path / "a" / "README.md").read_text() == "mine"


def test_new_course_in_a_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A course inside another one, such as a clone of the repository, is refused."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    assert main(["new-course", str(tmp_path / "deep" / "a"), "--labs", ASSIGNMENT]) == 2
    assert f"would be inside the course {tmp_path}" in capsys.readouterr().err
    assert files(tmp_path) == {"nbgrader_config.py"}
    assert main(["new-course", str(tmp_path), "--labs", ASSIGNMENT]) == 2
    assert "is a course already" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["file", "below a file", "dangling link"])
def test_new_course_impossible_places(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A place where no folder can be gives a message, no traceback."""
    target = tmp_path / "x"
    if what == "dangling link":
        target.symlink_to(tmp_path / "nothing")
    else:
        target.write_text("mine")
    assert main(["new-course", str(target / "a" if what == "below a file" else target), "--labs", ASSIGNMENT]) == 2
    assert str(target) in capsys.readouterr().err
    assert target.is_symlink() or target.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
def test_new_course_read_only_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A place where nobody may write gives a message that names it."""
    assert main(["new-course", "/proc/self/a", "--labs", ASSIGNMENT]) == 2
    assert capsys.readouterr().err.startswith("autograder: /proc/self/")


@pytest.mark.parametrize("existing", [True, False])
def test_new_course_interrupted(tmp_path: Path, existing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the command is interrupted half-way, there is no course, and the same command then makes one."""
    if existing:
        (tmp_path / "a").mkdir()
    written, count = Path.write_bytes, 0

    def interrupted(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count == 20:
            raise KeyboardInterrupt
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert main(["new-course", str(tmp_path / "a"), "--labs", ASSIGNMENT]) == 130
    assert files(tmp_path) == set()
    assert main(["new-course", str(tmp_path / "a"), "--labs", ASSIGNMENT]) == 0
    assert Course.find(tmp_path / "a").root == tmp_path / "a"


def test_new_course_killed(tmp_path: Path) -> None:
    """What a killed command leaves is hidden, and does not get in the way of the next one."""
    program = (
        "import os, sys; from pathlib import Path; import autograder.authoring.new_course as m; written = m._write\n"
        "def dies(folder, files):\n    written(folder, dict(list(files.items())[:9])); os.kill(os.getpid(), 9)\n"
        "m._write = dies; m.new_course(Path(sys.argv[1]), ['transfer-learning'])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=False, cwd=tmp_path)
    assert done.returncode == -9
    assert {path.name[0] for path in tmp_path.iterdir()} == {"."}
    new_course(tmp_path / "a", [ASSIGNMENT])
    assert (tmp_path / "a" / "nbgrader_config.py").is_file()


def test_new_course_record(tmp_path: Path) -> None:
    """A course knows what it was made from: every file, and the text of those that people edit."""
    new_course(tmp_path / "a", [ASSIGNMENT])
    record = json.loads((tmp_path / "a" / ".shipped" / "course.json").read_text())
    assert record["labs"] == [ASSIGNMENT]
    assert record["amllab"] == module.installed_version()
    assert set(record["files"]) == {name for name in files(tmp_path / "a") if not name.startswith(".shipped/")}
    for name in (f"source/{ASSIGNMENT}/{LAB}.py", f"labs/public/{LAB}/lab.toml", "README.md"):
        assert (tmp_path / "a" / ".shipped" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
