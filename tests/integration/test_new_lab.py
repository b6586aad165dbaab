"""A new lab works as generated, and the guide for writing a lab, followed literally, leads to a working one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from amllab.lab import all_labs, find_lab
from autograder import cli
from autograder.authoring.new_lab import new_lab
from autograder.course import Course
from autograder.labs.locations import hidden_checks
from tests.helpers.course_copy import ROOT, CourseCopy, Done, blocks_of, steps_of
from tests.helpers.course_labs import forgotten_course

GUIDE = ROOT / "docs" / "new-lab.md"
NEW = "label-smoothing"


def empty_course(folder: Path) -> Course:
    """Return a course with the folders that a lab needs, all empty."""
    for package in ("amllab", "autograder"):
        (folder / package / "checks").mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text((ROOT / "nbgrader_config.py").read_text())
    return Course.find(folder)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["", "1st-lab", "Big-Lab", "a lab", "-x", "x--y", "../x", "import", "über", "a/b", "x" * 41]
)
def test_new_lab_invalid_names(tmp_path: Path, name: str) -> None:
    """Names that Python cannot import are refused, and nothing is written."""
    course = empty_course(tmp_path)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="lower-case letters"):
        new_lab(course, name)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "there", ["amllab/checks/a_lab/x", "autograder/checks/a_lab/x", "amllab/checks/a_lab.py", "tests/test_a_lab.py"]
)
def test_new_lab_overwrites_nothing(tmp_path: Path, there: str) -> None:
    """Existing files are neither overwritten nor shadowed."""
    course = empty_course(tmp_path)
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("mine")
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match="choose another name") as error:
        new_lab(course, "a-lab")
    assert there.removesuffix("/x") in str(error.value)
    assert files(tmp_path) == before


def test_new_lab_existing_name() -> None:
    """Names of existing labs are refused."""
    for name in all_labs():
        with pytest.raises(FileExistsError):
            new_lab(Course.find(ROOT), name.replace("_", "-"))


def test_new_lab_without_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a course that is no checkout of the packages, a lab is in the course's own folder, and found there."""
    (tmp_path / "nbgrader_config.py").write_text((ROOT / "nbgrader_config.py").read_text())
    with forgotten_course():
        assert cli.main(["new-lab", "a-lab", "--root", str(tmp_path)]) == 0
        lab = find_lab("a-lab")
        assert hidden_checks(lab.name) == tmp_path / "labs" / "hidden" / "a_lab"
        for name in ("transfer-learning", "a-lab"):  # that of the package, and its own
            assert cli.main(["new-lab", name, "--root", str(tmp_path)]) == 2
    assert lab.folder == tmp_path / "labs" / "public" / "a_lab"
    assert {name.split("/")[0] for name in files(tmp_path)} == {"labs", "source", "tests", "nbgrader_config.py"}
    told = capsys.readouterr()
    assert "next: run 'autograder build a-lab'" in told.out
    assert "pip install" not in told.out
    assert "'autograder upgrade-course --labs transfer-learning'" in told.err
    with pytest.raises(LookupError):
        find_lab("a-lab")


def test_new_lab_command_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command lists the files that it wrote and the next command."""
    empty_course(tmp_path)
    before = files(tmp_path)
    assert cli.main(["new-lab", "a-lab", "--root", str(tmp_path)]) == 0
    *written, packages, following = capsys.readouterr().out.splitlines()
    assert set(written) == files(tmp_path) - before
    assert packages == f"this Python uses other copies of the packages: run 'pip install -e {tmp_path}'"
    assert following.startswith("next: run 'autograder build a-lab'")
    assert cli.main(["new-lab", "a-lab", "--root", str(tmp_path)]) == 2
    assert "choose another name" in capsys.readouterr().err


def test_new_lab_name_spellings(tmp_path: Path) -> None:
    """Hyphens and underscores in the name give the same lab."""
    written = [new_lab(empty_course(tmp_path / str(i)), name) for i, name in enumerate(("two-words", "two_words"))]
    first, second = ([str(path.relative_to(tmp_path / str(i))) for path in paths] for i, paths in enumerate(written))
    assert first == second
    assert "source/two-words/two_words.py" in first


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the packages and of the settings of their tools."""
    for package in ("amllab", "autograder", "tests", "bench"):
        left_out = shutil.ignore_patterns("__pycache__", "*.json*", "*.safetensors", "*.png")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=left_out)
    for name in ("nbgrader_config.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def complaints(checkout: Path, *command: str) -> str:
    """Return what a tool has to say about a checkout; empty if it has nothing to complain about."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=checkout, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


LINT = [
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "--diff", "."),
    pytest.param(("mypy",), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("command", LINT)
def test_new_lab_is_clean(checkout: Path, command: tuple[str, ...]) -> None:
    """What is generated passes ``make lint``, whatever the name of the lab is."""
    for name in ("a-lab", "zoo-of-models", "x" * 40):
        new_lab(Course.find(checkout), name)
    assert complaints(checkout, *command) == ""


@pytest.mark.parametrize("command", LINT)
def test_new_lab_guide_is_clean(checkout: Path, command: tuple[str, ...]) -> None:
    """The files of the guide pass ``make lint``, too."""
    new_lab(Course.find(checkout), NEW)
    for block in blocks_of(GUIDE):
        if block.title and not block.title.startswith("build/"):  # which is no part of the repository
            (checkout / block.title).parent.mkdir(parents=True, exist_ok=True)
            (checkout / block.title).write_text(block.text)
    assert complaints(checkout, *command) == ""


# exercises of the other labs of the series, whose solutions must not be printed anywhere
EXERCISES = (
    "nt_xent_loss", "pretrain", "linear_probe", "sample_episode", "prototypical_loss", "maml_adapt",
    "distillation_loss", "distill", "expected_calibration_error",
)  # fmt: skip


def test_no_solutions_of_other_labs() -> None:
    """No file of the repository defines an exercise of a lab that it does not hold."""
    tested = {file.stem for lab in map(find_lab, all_labs()) for file in lab.folder.glob("test_*.py")}
    # an exercise may be called by the end of its function's name
    released = {name for name in EXERCISES if any(f"test_{name}".endswith(t.removeprefix("test")) for t in tested)}
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    files = [ROOT / name for name in listed if name.endswith((".py", ".md", ".j2", ".ipynb", ".toml", ".jsonl"))]
    pattern = re.compile(rf"\bdef ({'|'.join(EXERCISES)})\(")
    found = {
        (file.name, name)
        for file in files
        if file.is_file()
        for name in pattern.findall(file.read_text(encoding="utf-8"))
    }
    assert {(file, name) for file, name in found if name not in released} <= {("supervised.py", "pretrain")}


@pytest.mark.slow
def test_new_lab_guide(tmp_path: Path) -> None:
    """The guide, followed literally, leads to a working lab."""
    course = CourseCopy(tmp_path)
    done: list[Done] = []
    for written, commands in steps_of(GUIDE):
        for block in written:
            course.write(block.title, block.text)
        done += course.run(commands)

    assert [d.command for d in done][:2] == [f"autograder new-lab {NEW}", f"autograder build {NEW}"]
    (tests,) = (d.output for d in done if d.command.startswith("pytest"))
    assert "7 passed" in tests  # 3 of the notebooks, 4 of the corpus
    (calibrated,) = (d.output for d in done if d.command.startswith("autograder calibrate"))
    verdicts = re.findall(r"^\| (\w+) \| (right|wrong) \| 10 \| .* \| (\d+) \| [^|]* \| [^|]* \|$", calibrated, re.M)
    assert sorted(verdicts) == [
        ("built_in", "right", "0"),
        ("ignores_smoothing", "wrong", "0"),
        ("other_classes_only", "wrong", "0"),
        ("plain", "right", "0"),
    ]
    assert calibrated.rstrip().endswith("written to thresholds.json and docs/calibration-label-smoothing.md")
    (grades,) = (d.output for d in done if d.command.startswith("autograder grade"))
    marks = re.findall(r"^(\w+)\.ipynb: (\d+) of (\d+) automatic points", grades, re.M)
    assert marks == [
        ("label_smoothing", "10", "10"),
        ("label_smoothing", "0", "10"),
        ("try_wrong", "3", "10"),
    ]
    wrong = grades[grades.index("label_smoothing.ipynb: 0 of 10") :]
    lost = [line for line in wrong.splitlines() if line.startswith(("✗", "–"))]
    assert lost == [
        "✗ Smoothing takes its share from the label, and gives it to all classes alike.  [0/3]",
        "– not run until the other checks pass: Gradients reach the logits. · The loss is finite for logits of any size. · "
        "A classifier that is trained with the loss is as sure of new points as the smoothing says.  [0/4]",
    ]
    (studied,) = (d.output for d in done if d.command.startswith("autograder study"))
    assert "survived" in studied  # a change of the text of an error is no mistake
    assert not re.search("false alarm|flaky", studied)
    assert f"wrote autograder/checks/{NEW.replace('-', '_')}/evidence/study.json" in studied
    (findings,) = (d.output for d in done if d.command.startswith("autograder audit"))
    assert re.search(r"^ok .* wrong functions fail their checks and no other +6 wrong functions$", findings, re.M)
    assert re.search(
        r"^ok .* every check is failed by a wrong submission +6 of 6 checks, by 6 wrong functions and \d+ submissions of .*$",
        findings,
        re.M,
    )
    assert "FAIL" not in findings
    assert "- Gradients reach the logits." in (course.root / "docs" / "checks.md").read_text()
