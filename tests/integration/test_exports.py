"""Exports for other platforms: files with their documented columns, and a Gradescope autograder that is run."""

from __future__ import annotations

import copy
import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.plugins.export import CsvExportPlugin

from amllab.lab import find_lab
from autograder import exports
from autograder.checks.transfer_learning.corpus import TRAIN
from autograder.cli import main
from autograder.course import Course
from autograder.errors import ReferenceFailedError
from autograder.exports.gradescope.results import is_public, public_checks
from autograder.exports.gradescope.run import chosen
from autograder.exports.gradescope.run import main as grade_for_gradescope
from autograder.sandbox.diagnostics import examine
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader
from tests.helpers.synthetic_class import FOUR, LAB, Graded, build

CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
MOODLE = [
    "Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade", "Grade can be changed",
    "Last modified (submission)", "Last modified (grade)", "Feedback comments",
]  # fmt: skip
# https://gradescope-autograders.readthedocs.io/en/latest/specs/, "Output format"
_VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
_FORMAT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
GRADESCOPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tests", "score"],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "output_format": _FORMAT,
        "test_output_format": _FORMAT,
        "test_name_format": _FORMAT,
        "visibility": _VISIBILITY,
        "stdout_visibility": _VISIBILITY,
        "extra_data": {"type": "object"},
        "leaderboard": {"type": "array"},
        "tests": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["score", "max_score", "name", "visibility"],
                "properties": {
                    "score": {"type": "number", "minimum": 0},
                    "max_score": {"type": "number", "exclusiveMinimum": 0},
                    "status": {"enum": ["passed", "failed"]},
                    "name": {"type": "string", "minLength": 1},
                    "name_format": _FORMAT,
                    "number": {"type": "string"},
                    "output": {"type": "string"},
                    "output_format": _FORMAT,
                    "tags": {"type": "array"},
                    "visibility": _VISIBILITY,
                    "extra_data": {"type": "object"},
                },
            },
        },
    },
}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Return a class: Ada has 15 points and Ben 10; Cyd and Dan await a manual score; Eve has not submitted."""
    course = build(tmp_path, FOUR)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.update_or_create_student("ada", first_name="Ada", last_name="Lovelace", email="ada@uni.example")
        gradebook.update_or_create_student("ben", first_name="Ben", last_name="Ölçer", lms_user_id="12")
        gradebook.add_student("eve", email="eve@uni.example")
    return course


def export(
    course: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[Path, str]:
    """Export; return the file and the remarks."""
    patch.chdir(course)
    assert main(["export", LAB, *arguments]) == 0
    printed = capsys.readouterr()
    return course / printed.out.strip(), printed.err


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_csv_same_as_nbgrader(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The CSV format is that of nbgrader."""
    path, remarks = export(four, monkeypatch, capsys, "--format", "csv")
    with path.open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert remarks == ""
    assert (rows["ben"]["score"], rows["ben"]["late_submission_penalty"]) == ("10.0", "2.0")
    assert path.name == f"{LAB}-grades.csv"


def test_canvas_new_file(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has Canvas's columns; students without a grade have an empty field, and a line gives the reason."""
    path, remarks = export(four, monkeypatch, capsys, "--format", "canvas", "--column", "Lab 1 (4711)")
    assert rows_of(path) == [
        [*CANVAS, "Lab 1 (4711)"],
        ["    Points Possible", "", "", "", "", "15"],
        ["Lovelace, Ada", "", "", "ada", "", "15"],
        ["Ölçer, Ben", "12", "", "ben", "", "10"],
        ["cyd", "", "", "cyd", "", ""],
        ["dan", "", "", "dan", "", ""],
        ["eve", "", "", "eve", "", ""],
    ]
    assert remarks.splitlines() == [
        "cyd: no grade, waits for manual grading (discussion)",
        "dan: no grade, waits for manual grading (discussion)",
        "eve: no grade, no submission",
    ]
    path, remarks = export(four, monkeypatch, capsys, "--format", "canvas", "--partial", "--output", "here.csv")
    assert [row[-1] for row in rows_of(path)] == [LAB, "15", "15", "10", "3", "4.5", ""]
    assert "will create a new assignment" in remarks


CANVAS_EXPORT = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Lab 0 (4710),Linear Models (4711),Final Score\r\n"
    ",,,,,Manual Posting,,(read only)\r\n"
    "    Points Possible,,,,,10,20,(read only)\r\n"
    '"Lovelace, Ada",11,u11,ADA@uni.example,"One, and Two",7,,35\r\n'
    '"Olcer, Ben",12,u12,bolcer,One,8,1,40\r\n'
    '"Curie, Marie",13,u13,cyd,One,9,2,45\r\n'
    '"Noether, Emmy",14,u14,noether,One,9,,45\r\n'
    '"Student, Test",99,,0f2b,One,,,0\r\n'
)


def test_canvas_roster(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A roster from Canvas stays as it is, except for the grades; students without a grade or row are reported."""
    (four / "canvas.csv").write_text(CANVAS_EXPORT, encoding="utf-8", newline="")
    path, remarks = export(four, monkeypatch, capsys, "--format", "canvas", "--roster", "canvas.csv")
    # Ada is found by her address, Ben by Canvas's id; Cyd has no grade, so Canvas's value stays
    expected = CANVAS_EXPORT.replace('Two",7,,35', 'Two",7,15,35').replace("One,8,1,40", "One,8,10,40")
    # newlines and the byte order mark are kept; quotes only if needed
    assert path.read_bytes().decode() == expected
    assert remarks.splitlines() == [
        "Canvas has 20 points for Linear Models (4711), the gradebook 15: scores are not converted",
        "cyd: no grade, waits for manual grading (discussion)",
        "dan: no grade, waits for manual grading (discussion) (and not in the roster)",
        "eve: no grade, no submission (and not in the roster)",
        "row 7 (Noether, Emmy): no student in the gradebook matches",
    ]


def test_canvas_roster_download_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Student ids from Canvas's file names find their rows, even if two students have the same name."""
    ids = ["lovelaceada", "smithjohn-21", "smithjohn-22", "nobody"]
    course = build(tmp_path, [Graded(student, essay=float(i)) for i, student in enumerate(ids)])
    roster = "Student,ID,SIS User ID,SIS Login ID,Section,X (1)\n" + "".join(
        f'"{name}",{number},,{number},,\n'
        for name, number in (("Lovelace, Ada", 7), ("Smith, John", 22), ("Smith, John", 21), ("Smith, John", 23))
    )
    (course / "canvas.csv").write_text(roster)
    options = ("--format", "canvas", "--roster", "canvas.csv", "--column", "X (1)")
    path, remarks = export(course, monkeypatch, capsys, *options)
    assert [row[-1] for row in rows_of(path)[1:]] == ["10", "12", "11", ""]
    assert remarks.splitlines() == [
        "nobody: 13 points, but no row of the roster matches, or several do",
        "row 5 (Smith, John): no student in the gradebook matches",
    ]


def test_canvas_roster_ambiguous_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that matches two students is not filled in."""
    course = build(tmp_path, [Graded("ada", essay=1.0), Graded("lovelaceada", essay=2.0)])
    (course / "canvas.csv").write_text('Student,ID,SIS Login ID,X (1)\n"Lovelace, Ada",7,ada,3\n')
    options = ("--format", "canvas", "--roster", "canvas.csv", "--column", "X (1)")
    path, remarks = export(course, monkeypatch, capsys, *options)
    assert rows_of(path)[1][-1] == "3"
    assert remarks.count("not filled in, row 2 (Lovelace, Ada) matches several students") == 2


def test_moodle_new_file(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has Moodle's columns; students without an e-mail address are reported."""
    path, remarks = export(four, monkeypatch, capsys, "--format", "moodle")
    rows = rows_of(path)
    assert rows[0] == MOODLE
    assert [row[:6] for row in rows[1:4]] == [
        ["", "Ada Lovelace", "ada@uni.example", "Graded", "15", "15"],
        ["Participant 12", "Ben Ölçer", "", "Graded", "10", "15"],
        ["", "cyd", "", "Waits for manual grading (discussion)", "", "15"],
    ]
    assert "no e-mail address in the gradebook, so Moodle cannot identify these students: ben, cyd, dan" in remarks


def test_moodle_worksheet(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Grades are filled into Moodle's worksheet; what cannot be filled in is reported."""
    date = '"Monday, 4 May 2026, 9:00 AM"'
    sheet = (
        f"\ufeff{','.join(MOODLE)}\n"
        f"Participant 31,Ada Lovelace,ada@uni.example,Submitted for grading,,15.00,Yes,{date},-,\n"
        f"Participant 12,Ben Olcer,x@uni.example,Submitted for grading,2.00,20.00,No,{date},-,\n"
        f"Participant 33,Dan,dan@uni.example,No submission,,15.00,Yes,-,-,\n"
    )
    (four / "moodle.csv").write_text(sheet)
    path, remarks = export(four, monkeypatch, capsys, "--format", "moodle", "--roster", "moodle.csv")
    expected = sheet.replace("grading,,15.00", "grading,15,15.00").replace("grading,2.00,", "grading,10,")
    assert path.read_text() == expected
    assert remarks.splitlines() == [
        "Moodle has a maximum grade of 20.00, the gradebook 15: scores are not converted",
        "row 3 (Ben Olcer): Moodle says that the grade cannot be changed",
        "cyd: no grade, waits for manual grading (discussion) (and not in the roster)",
        "dan: no grade, waits for manual grading (discussion)",
        "eve: no grade, no submission (and not in the roster)",
    ]


def test_moodle_by_nbgrader_export(four: Path) -> None:
    """``nbgrader export`` accepts the exporters."""
    (four / "moodle.csv").write_text(
        "Identifier;Email address;Grade;Last modified (grade)\nParticipant 1;ADA@uni.example;;-\n"
    )
    done = nbgrader(four, "export", "--exporter=autograder.exports.moodle.MoodleExportPlugin", "--to=out.csv",
                    f"--assignment={LAB}", "--MoodleExportPlugin.roster=moodle.csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (four / "out.csv").read_text().splitlines()[1] == "Participant 1;ADA@uni.example;15;-"
    assert "ben: 10 points, but no row" in done.stderr


def test_export_escapes_formulas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text that a spreadsheet would run as a formula is escaped."""
    course = build(tmp_path, [Graded("=cmd|' '!A1", essay=1.0)])
    for form in ("canvas", "moodle"):
        path, _ = export(course, monkeypatch, capsys, "--format", form)
        assert not [field for row in rows_of(path) for field in row if field.startswith("=")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "canvas", "--roster", "none.csv"], "no roster none.csv"),
        (["--format", "canvas", "--roster", "binary"], "not text in UTF-8"),
        (["--format", "canvas", "--roster", "moodle.csv"], "lacks the columns Student, ID; it has: Identifier, Grade"),
        (["--format", "canvas", "--roster", "canvas.csv"], "'Lab 0 (1)', 'Lab 2 (2)'"),
        (["--format", "canvas", "--roster", "canvas.csv", "--column", "Lab"], "no column in the roster for Lab"),
        (["--format", "moodle", "--roster", "moodle.csv"], "lacks the columns Last modified (grade)"),
        (["--format", "moodle", "--roster", "uneven.csv"], "row 2 has more fields"),
        (["--format", "csv", "--roster", "canvas.csv"], "--roster is only for the formats canvas and moodle"),
        (["--format", "gradescope-autograder"], f"no lab '{LAB}'"),
    ],
)
def test_export_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    """Wrong arguments and unusable rosters end with status 2 and a message."""
    course = build(tmp_path, [Graded("ada")])
    (course / "binary").write_bytes(b"PK\x03\x04\xff\xfe")
    (course / "moodle.csv").write_text("Identifier,Grade\n")
    (course / "uneven.csv").write_text("Identifier,Grade,Last modified (grade)\n1,2,3,4\n")
    (course / "canvas.csv").write_text("Student,ID,Lab 0 (1),Lab 2 (2)\n")
    monkeypatch.chdir(course)
    assert main(["export", LAB, *arguments]) == 2
    assert says in capsys.readouterr().err
    assert main(["export", "linear", "--format", "csv"]) == 2
    assert f"there are: {LAB}" in capsys.readouterr().err


def test_export_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is interrupted keeps the file of the last one, and leaves no draft; the next one replaces it."""

    def half(plugin: CsvExportPlugin, gradebook: object) -> None:
        Path(plugin.to).write_text("assignment,")
        raise KeyboardInterrupt

    course = build(tmp_path, [Graded("ada")])
    (course / "reports").mkdir()
    (file := course / "reports" / "old.csv").write_text("old")
    (link := course / "link.csv").symlink_to(file)
    monkeypatch.chdir(course)
    with monkeypatch.context() as patched:
        patched.setattr(CsvExportPlugin, "export", half)
        with pytest.raises(KeyboardInterrupt):
            exports.export(Course.find(), LAB, "csv", link)
    assert [(path.name, path.read_text()) for path in file.parent.iterdir()] == [("old.csv", "old")]
    exports.export(Course.find(), LAB, "csv", link)
    assert [path.name for path in file.parent.iterdir()] == ["old.csv"]
    assert file.read_text().startswith("assignment,")
    assert link.is_symlink()
    (course / "lost").symlink_to(course / "nowhere" / "grades.csv")
    with pytest.raises(FileNotFoundError, match=re.escape(str(course / "nowhere" / "grades.csv"))):
        exports.export(Course.find(), LAB, "csv", course / "lost")
    (course / "loop").symlink_to(course / "loop")
    exports.export(Course.find(), LAB, "csv", course / "loop")
    assert (course / "loop").read_text().startswith("assignment,")


def test_gradescope_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results of a graded class; its lab has no checks in the library, so that all are hidden."""
    course = build(tmp_path, [Graded("ada", {"test_slope": 1.5}, submission={"notes": ["repaired\x1b[2J"]}),
                              Graded("old", stored=False)])  # fmt: skip
    for module in ("autograder.exports", "autograder.exports.gradescope.results"):
        monkeypatch.setattr(f"{module}.find_lab", lambda name: find_lab(ASSIGNMENT))
    path, remarks = export(course, monkeypatch, capsys, "--format", "gradescope-results")
    assert [file.name for file in path.iterdir()] == ["ada.json"]
    found = json.loads((path / "ada.json").read_text())
    jsonschema.validate(found, GRADESCOPE)
    assert found["score"] == 7.5
    assert found["execution_time"] == 10
    assert "\x1b" not in found["output"]
    assert [(t["number"], t["score"], t["max_score"], t["status"]) for t in found["tests"]] == [
        ("1.1", 1.5, 4, "failed"), ("1.2", 2, 2, "passed"), ("2.1", 3, 3, "passed"), ("2.2", 1, 1, "passed"),
    ]  # fmt: skip
    assert "old: left out, it was graded before results were stored" in remarks


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the zip is unpacked to ``source``, as Gradescope does."""
    folder = tmp_path_factory.mktemp("autograder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["export", ASSIGNMENT, "--format", "gradescope-autograder", "--output", str(folder / "a.zip")]) == 0
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder / "source")
        scripts = [archive.getinfo(name) for name in ("setup.sh", "run_autograder")]
    assert [script.external_attr >> 16 for script in scripts] == [0o755, 0o755]
    for script in scripts:  # Python's zipfile does not set modes
        (folder / "source" / script.filename).chmod(0o755)
    return folder


def test_gradescope_package_complete(unpacked: Path) -> None:
    """The zip contains both packages completely, and its scripts are valid."""
    packages = unpacked / "source" / "packages"
    for package in ("amllab", "autograder"):
        shipped = {path.relative_to(packages) for path in (packages / package).rglob("*") if path.is_file()}
        there = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
        notebooks = (ROOT / "assignments").glob("*/*.ipynb") if package == "amllab" else ()
        releases = {Path("amllab", "releases", path.parent.name, path.name) for path in notebooks}
        assert shipped == {path for path in there if "__pycache__" not in path.parts} | releases
    for name in ("setup.sh", "run_autograder"):
        text = (unpacked / "source" / name).read_text()
        assert "@" not in text.replace('"$@"', "")
        assert subprocess.run(["bash", "-n", unpacked / "source" / name], check=False).returncode == 0
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    done = subprocess.run([*command, "-w", unpacked], cwd=packages, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = unpacked.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in (
        "amllab/weights/net12.safetensors",
        f"amllab/releases/{ASSIGNMENT}/{NOTEBOOK}",
        "amllab/checks/transfer_learning/lab.toml",
        "autograder/checks/transfer_learning/test_freeze_layers_hidden.py",
        "autograder/exports/gradescope/templates/run_autograder",
    ):
        assert name in names


def start(unpacked: Path, folder: Path, notebook: Path, isolation: str) -> subprocess.Popen[str]:
    """Run the script as Gradescope does, but with other folders and this interpreter."""
    (folder / "submission").mkdir(parents=True)
    (folder / "source").symlink_to(unpacked / "source")
    (folder / "submission" / NOTEBOOK).write_bytes(notebook.read_bytes())
    places = {"AUTOGRADER_ROOT": str(folder), "AUTOGRADER_PYTHON": sys.executable, "AUTOGRADER_ISOLATION": isolation}
    return subprocess.Popen(
        [unpacked / "source" / "run_autograder"],
        env={**os.environ, "PATH": "/usr/bin:/bin", **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results_of(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    log, _ = process.communicate()
    assert process.returncode == 0, log
    found = json.loads((folder / "results" / "results.json").read_text())
    jsonschema.validate(found, GRADESCOPE)
    return found


@pytest.mark.slow
def test_gradescope_autograder_grades(unpacked: Path, tmp_path: Path) -> None:
    """The unpacked autograder gives the solution full points and the release none."""
    solution, untouched = (ROOT / folder / ASSIGNMENT / NOTEBOOK for folder in ("solutions", "assignments"))
    runs = {
        name: (start(unpacked, tmp_path / name, notebook, isolation), tmp_path / name)
        for name, notebook, isolation in (("full", solution, "where-possible"), ("zero", untouched, "none"))
    }
    full, zero = (results_of(*runs[name]) for name in ("full", "zero"))
    assert (full["score"], sum(test["max_score"] for test in full["tests"])) == (90, 90)
    assert (zero["score"], sum(test["max_score"] for test in zero["tests"])) == (0, 90)
    assert {test["status"] for test in full["tests"]} == {"passed"}
    assert full["stdout_visibility"] == "hidden"
    first = next(test for test in full["tests"] if test["number"] == "1.1")
    assert "freeze_layers" in first["name"]
    assert "without isolation" in zero["output"]
    assert ("without isolation" in full["output"]) != examine()[-1].works
    visible = {test["name"] for test in full["tests"] if test["visibility"] == "visible"}
    hidden = {test["name"] for test in full["tests"] if test["visibility"] == "after_published"}
    assert len(visible) > 5
    assert len(hidden) > 5
    assert visible | hidden == {test["name"] for test in full["tests"]}
    failed = next(test for test in zero["tests"] if test["visibility"] == "visible")
    assert "expected" in failed["output"]


@pytest.mark.slow
def test_gradescope_course_error_no_results(unpacked: Path, tmp_path: Path, release: NotebookNode) -> None:
    """A missing solution is an error, and no results are written."""
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "release.ipynb").symlink_to(unpacked / "source" / "course" / "release.ipynb")
    trained = copy.deepcopy(release)
    for cell in trained.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "train_with_early_stopping":
            cell.source = TRAIN  # whose checks compare with the solution
    nbformat.write(trained, tmp_path / NOTEBOOK)
    places = {"course": "course", "submission": ".", "results": "results"}
    options = [f"--{name}={tmp_path / place}" for name, place in places.items()]
    with pytest.raises(ReferenceFailedError, match=r"solution\.ipynb does not exist"):
        grade_for_gradescope([f"--lab={ASSIGNMENT}", "--isolation=where-possible", *options])
    assert not (tmp_path / "results").exists()


def test_gradescope_isolation_setting() -> None:
    """The isolation setting is resolved to what the machine supports."""
    assert [chosen(setting) for setting in ("none", "namespaces")] == ["none", "namespaces"]
    assert chosen("where-possible") == ("namespaces" if examine()[-1].works else "none")


def test_gradescope_public_checks() -> None:
    """Visible checks are those of the library, and no hidden check is among them."""
    public = public_checks(find_lab(ASSIGNMENT))
    assert is_public("test_works_in_place[net6]", {"test_works_in_place"})
    assert public
    hidden = [path.read_text() for path in (ROOT / "autograder" / "checks" / "transfer_learning").glob("test_*.py")]
    assert hidden
    assert not [name for name in public for text in hidden if f"def {name}(" in text]
    assert not is_public("test_x", public)
