"""The class report: exact statistics of classes with known scores, and a page that is safe to open and share."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbgrader.api import Grade, Gradebook, Student, SubmittedAssignment, SubmittedNotebook

from autograder.cli import main
from autograder.gradebook.regrading import digest_of
from autograder.notebooks.metadata import STORED, STORED_VERSION, SUBMITTED
from autograder.report.item_statistics import Item, correlation, items, summary, upper_lower
from autograder.results.stored_checks import read
from tests.conftest import ASSIGNMENT, NOTEBOOK, autograded, nbgrader, new_course, submit

LAB = "linear-models"  # no such lab exists: reports do not need one
CELLS = {"check_fit": {"test_slope": 4.0, "test_intercept": 2.0}, "check_predict": {"test_range": 3.0, "test_nan": 1.0}}
TITLES = {"test_slope": "The slope is that of least squares.", "test_nan": "A NaN is refused."}
ESSAY, ESSAY_POINTS = "discussion", 5.0
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'&"


@dataclass
class CachedGrading:
    """A submission of a synthetic class.

    Attributes:
        student: its id.
        outcomes: check -> outcome, "passed" where none is given; or a number of points that a failure leaves.
        essay: manual points, ``None`` while it awaits them.
        penalty: for lateness.
        submission: replaces what is stored for the whole submission.
        more: additional stored data of the first cell.
        stored: False as if graded by an older version.
        scores: replaces automatic scores in the gradebook.
    """

    student: str
    outcomes: Mapping[str, str | float] = field(default_factory=dict)
    essay: float | None = None
    penalty: float = 0.0
    submission: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    stored: bool = True
    scores: Mapping[str, float] = field(default_factory=dict)


def checks_of(
    graded: CachedGrading, cell: str, cells: Mapping[str, Mapping[str, float]] = CELLS
) -> list[dict[str, Any]]:
    checks = []
    for name, points in cells[cell].items():
        outcome = graded.outcomes.get(name, "passed")
        earned = outcome if isinstance(outcome, float) else points if outcome == "passed" else 0.0
        checks.append(
            {
                "name": name,
                "title": TITLES.get(name, f"Title of {name}."),
                "points": points,
                "earned": earned,
                "outcome": "failed" if isinstance(outcome, float) else outcome.partition(":")[0],
                "symptom": outcome.partition(":")[2] if isinstance(outcome, str) and outcome != "error" else "",
                "seconds": 0.5,
                "broke": "ZeroDivisionError: in the check" if outcome == "error" else "",
            }
        )
    return checks


def notebook_of(graded: CachedGrading, cells: Mapping[str, Mapping[str, float]] = CELLS) -> NotebookNode:
    """Return the notebook as ``nbgrader autograde`` leaves it."""
    notebook = nbformat.v4.new_notebook()
    for number, cell in enumerate(cells):
        checks = checks_of(graded, cell, cells)
        stored: dict[str, Any] = {"version": STORED_VERSION, "checks": checks}
        if number == 0:
            known = {"seconds": 10.0, "isolation": "namespaces", "readable": True, "stopped": [], "notes": []}
            stored |= {"submission": {**known, **graded.submission}, **graded.more}
        score = sum(check["earned"] for check in checks)
        metadata = {STORED: stored} if graded.stored else {}
        source = nbformat.v4.new_code_cell("pass")
        source.metadata.nbgrader = {"grade": True, "solution": False, "grade_id": cell, "points": 1, "locked": True}
        source.outputs = [
            nbformat.v4.new_output("display_data", data={"text/plain": "report"}, metadata=metadata),
            nbformat.v4.new_output("execute_result", data={"text/plain": f"{score:g}"}, execution_count=1),
        ]
        notebook.cells.append(source)
    return notebook


@cache
def empty_gradebook() -> Path:
    """Return an empty gradebook, created once: nbgrader needs seconds for it, and starts a command by name."""
    file = Path(tempfile.mkdtemp()) / "gradebook.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        Gradebook(f"sqlite:///{file}").close()
    return file


def build(folder: Path, submissions: Sequence[CachedGrading], cells: Mapping[str, Mapping[str, float]] = CELLS) -> Path:
    """Create a course with a gradebook and autograded notebooks of these submissions."""
    (folder / "nbgrader_config.py").write_text(
        f"from autograder import configure\nc = get_config()\nc.CourseDirectory.root = {str(folder)!r}\nconfigure(c)\n"
    )
    shutil.copy(empty_gradebook(), folder / "gradebook.db")
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
        gradebook.add_assignment(LAB)
        gradebook.add_notebook("lab", LAB)
        for cell, checks in cells.items():
            gradebook.add_grade_cell(cell, "lab", LAB, max_score=sum(checks.values()), cell_type="code")
            gradebook.add_source_cell(cell, "lab", LAB, cell_type="code")
        gradebook.add_grade_cell(ESSAY, "lab", LAB, max_score=ESSAY_POINTS, cell_type="markdown")
        gradebook.add_solution_cell(ESSAY, "lab", LAB)
        gradebook.add_source_cell(ESSAY, "lab", LAB, cell_type="markdown")
        assignment, notebook = gradebook.find_assignment(LAB), gradebook.find_notebook("lab", LAB)
        graded_cells = {cell.name: cell for cell in notebook.grade_cells}
        for graded in submissions:
            gradebook.db.add(gradebook_entry(graded, assignment, notebook, graded_cells, cells))
            folder_of = folder / "autograded" / graded.student / LAB
            if Path(graded.student).name == graded.student:
                folder_of.mkdir(parents=True)
                (folder_of / "lab.ipynb").write_text(json.dumps(notebook_of(graded, cells)))
        gradebook.db.commit()
    return folder


def gradebook_entry(
    graded: CachedGrading, assignment: Any, notebook: Any, graded_cells: Mapping[str, Any], cells: Any
) -> SubmittedAssignment:
    entry = SubmittedNotebook(notebook=notebook, late_submission_penalty=graded.penalty)
    for cell in cells:
        score = graded.scores.get(cell, sum(check["earned"] for check in checks_of(graded, cell, cells)))
        entry.grades.append(Grade(cell=graded_cells[cell], auto_score=score, needs_manual_grade=False))
    waits = graded.essay is None
    entry.grades.append(Grade(cell=graded_cells[ESSAY], manual_score=graded.essay, needs_manual_grade=waits))
    student = Student(id=graded.student)
    return SubmittedAssignment(assignment=assignment, student=student, notebooks=[entry])


def report(course: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """Run the command and return the page."""
    monkeypatch.chdir(course)
    assert main(["report", LAB, *options]) == 0
    (page,) = course.glob("reports/*anonymous.html" if "--anonymous" in options else f"reports/{LAB}.html")
    return page.read_text()


def table(course: Path, kind: str, name: str = LAB) -> list[dict[str, str]]:
    with (course / "reports" / f"{name}-{kind}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """A parsed page: rows of tables as text, and everything that a browser would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, *beginning: str) -> list[str]:
        """Return the first row whose first cells begin with these texts."""
        return next(row for row in self.rows if len(row) >= len(beginning) and all(map(str.startswith, row, beginning)))


FOUR = [
    CachedGrading("ada", {}, essay=5.0),  # 10 + 5
    CachedGrading("ben", {"test_nan": "failed"}, essay=3.0, penalty=2.0),  # 9 + 3 - 2
    CachedGrading("cyd", {"test_slope": "failed", "test_intercept": "skipped", "test_nan": "failed"}),  # 3, waits
    CachedGrading("dan", {"test_slope": 1.5, "test_intercept": "passed", "test_range": "error"}),  # 1.5 + 2 + 1, waits
]


@pytest.fixture
def four(tmp_path: Path) -> Path:
    course = build(tmp_path, FOUR)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("eve")
    (course / "submitted" / "fay" / LAB).mkdir(parents=True)
    return course


def test_report_scores_match_gradebook(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals and their statistics are those of the gradebook."""
    page = Page(report(four, monkeypatch))
    # totals 15, 10, 3, 4.5: mean 8.125, deviation √(88.6875 / 3), quartiles by linear interpolation
    assert page.row("4", "8.1")[:9] == ["4", "8.1", "5.5", "3", "4.1", "7.2", "11.2", "15", "15"]
    assert page.row("fit", "6")[2:9] == ["4", "3.9", "65 %", "2.6", "4.8", "6", "2"]
    assert page.row("discussion", "5")[2:5] == ["2", "4", "80 %"]
    assert page.row("ada")[1:] == ["6", "4", "5", "", "15", "graded", "10.0 s"]
    assert page.row("ben")[1:] == ["6", "3", "3", "2", "10", "graded", "10.0 s"]
    assert page.row("cyd")[1:] == ["0", "3", "to grade", "", "3", "to grade by hand", "10.0 s"]
    assert page.row("eve")[-2] == "no submission"
    assert page.row("fay")[-2] == "not graded"
    rows = {row["student"]: row for row in table(four, "students")}
    assert [rows[s]["total"] for s in ("ada", "ben", "cyd", "dan", "eve", "fay")] == ["15", "10", "3", "4.5", "", ""]
    assert rows["ben"]["late_penalty"] == "2"
    assert [rows[s][ESSAY] for s in ("ada", "cyd", "eve")] == ["5", "", ""]
    assert [rows[s]["status"] for s in ("ada", "dan", "eve", "fay")] == [
        "graded", "to grade by hand", "missing", "not graded",
    ]  # fmt: skip


def test_report_check_statistics(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics of checks of four students match those computed by hand."""
    page = Page(report(four, monkeypatch))
    rows = {row["check"]: row for row in table(four, "checks")}
    slope = rows["test_slope"]
    assert [slope[k] for k in ("passed", "failed", "skipped", "broke", "pass_rate")] == ["2", "2", "0", "0", "0.5"]
    # shares 1, 1, 0, 0.375; points 4, 4, 0, 1.5 with the others' 6, 5, 3, 3
    assert float(slope["difficulty"]) == pytest.approx(2.375 / 4)
    assert float(slope["discrimination"]) == pytest.approx(np.corrcoef([4, 4, 0, 1.5], [6, 5, 3, 3])[0, 1], abs=1e-5)
    # of four students the groups are the best and the last: ada 10 points, cyd 3
    assert slope["upper_lower_27"] == "1"
    assert [rows["test_range"][k] for k in ("passed", "broke", "difficulty")] == ["3", "1", "1"]
    assert rows["test_range"]["discrimination"] == ""  # all students with a result passed
    assert rows["test_intercept"]["skipped"] == "1"
    assert page.row("1", "The slope is that of least squares.")[4:9] == ["50 %", "2", "2", "0", "0"]
    assert "nan" not in page.text.lower().replace("test_nan", "").replace("a nan is refused.", "")
    assert "discrimination is not to be trusted" in page.text


def test_report_small_class(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a small class no checks are singled out for review."""
    assert "Checks to review" not in report(four, monkeypatch)


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    """All students pass the first check, none the second, the six weakest the third, the six best the fourth."""
    return build(
        tmp_path,
        [
            CachedGrading(
                f"s{i:02d}",
                {
                    "test_intercept": "failed",
                    "test_range": "passed" if i < 6 else "failed",
                    "test_nan": "failed" if i < 6 else "passed",
                },
                essay=0.0,
            )
            for i in range(12)
        ],
    )


def test_report_checks_to_review(twelve: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that all or none pass, or that better students fail, are listed for review."""
    page = Page(report(twelve, monkeypatch))
    assert "not to be trusted" not in page.text
    remarks = {row[0]: row[2] for row in page.rows if len(row) == 3}
    assert remarks["1"].startswith("Everyone passes")
    assert remarks["2"].startswith("Nobody passes")
    assert remarks["3"].startswith("Students who do better elsewhere do worse here")
    assert "chance" not in remarks["3"]
    rows = {row["check"]: row for row in table(twelve, "checks")}
    assert (rows["test_range"]["discrimination"], rows["test_nan"]["discrimination"]) == ("-1", "-1")
    assert (rows["test_slope"]["discrimination"], rows["test_slope"]["upper_lower_27"]) == ("", "")
    # students who pass the third have 7 points, the others 5: the groups of three come from six each
    assert (rows["test_range"]["upper_lower_27"], rows["test_nan"]["upper_lower_27"]) == ("1", "-1")


def test_report_lists_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of problem with a submission is listed."""
    unreadable = {"readable": False, "notes": ["The file is empty."]}
    course = build(
        tmp_path,
        [
            CachedGrading("broken", {"test_slope": "error"}),
            CachedGrading("slow", {"test_slope": "failed:timeout", "test_range": "failed:timeout", "test_nan": "failed:memory"}),
            CachedGrading("stopped", submission={"stopped": ["cell 3: stopped after 60 seconds"]}),
            CachedGrading("bare", submission={"isolation": "none"}),
            CachedGrading("repaired", submission={"notes": ["There were several cells."]}),
            CachedGrading("empty", dict.fromkeys(["test_slope", "test_intercept", "test_range", "test_nan"], "failed"),
                   submission=unreadable),
            CachedGrading("old", stored=False),
            CachedGrading("edited", scores={"check_fit": 1.0}),
            CachedGrading("bent", {"test_slope": "failed:tampered"}),
            CachedGrading("lost"),
            CachedGrading("cut"),
        ],
    )  # fmt: skip
    (course / "autograded" / "lost" / LAB / "lab.ipynb").unlink()
    (course / "autograded" / "cut" / LAB / "lab.ipynb").write_text('{"cells": [')
    html = report(course, monkeypatch)
    for title, entry in {
        "Checks with internal errors": "<strong>broken</strong>: The slope is that of least squares. — ZeroDivisionError",
        "Ended by a limit": "<strong>stopped</strong>: cell 3: stopped after 60 seconds",
        "Run without isolation": "<strong>bare</strong>",
        "Repaired before grading": "<strong>repaired</strong>: There were several cells.",
        "Nothing could be run": "<strong>empty</strong>: The file is empty.",
        "Graded by an older version": "<strong>old</strong>",
        "Stored results differ from the gradebook": "<strong>edited</strong>",
        "Replaced functions that the checks use": "<strong>bent</strong>",
        "No autograded notebook": "<strong>cut, lost</strong>",
    }.items():
        section = html.partition(f"<h3>{title}")[2].partition("<h3>")[0]
        assert entry in section, title
    assert "no answer within the time limit, in 2 checks" in html
    assert "exceeded the memory limit, in 1 check" in html
    rows = {row["student"]: row["total"] for row in table(course, "students")}
    assert (rows["old"], rows["edited"], rows["lost"]) == ("10", "5", "10")
    # unusable results and submissions that do not run are left out of the statistics of checks
    assert {row["students"] for row in table(course, "checks")} == {"6"}


def test_report_counts_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognised mistakes are counted."""

    def made(name: str) -> dict[str, Any]:
        return {"mistakes": [{"name": name}]}

    course = build(
        tmp_path,
        [
            CachedGrading("a", more=made("divides by n + 1")),
            CachedGrading("b", more=made("divides by n + 1")),
            CachedGrading("c", more=made("forgets the intercept")),
            CachedGrading("d", more={"mistakes": "?"}),
        ],
    )
    page = Page(report(course, monkeypatch))
    found = [row for row in page.rows if row and row[0] in ("divides by n + 1", "forgets the intercept")]
    assert found == [
        ["divides by n + 1", "fit", "2", "50 %"],
        ["forgets the intercept", "fit", "1", "25 %"],
    ]


def test_report_escapes_hostile_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile text in a submission is inert, and the page loads nothing."""
    mistakes = {"mistakes": [{"name": HOSTILE}]}
    notes = {"notes": [HOSTILE * 200], "stopped": [HOSTILE], "isolation": "none"}
    course = build(
        tmp_path,
        [
            CachedGrading(HOSTILE.replace("/", ""), {"test_slope": "error"}, submission=notes, more=mistakes),
            CachedGrading("=cmd|' '!A1", {"test_range": "failed"}),
            CachedGrading("../../outside"),
            CachedGrading("plain"),
        ],
    )
    html = report(course, monkeypatch)
    page = Page(html)
    assert "<img" not in html
    assert "\u202e" not in html
    assert "script" not in page.tags
    assert all(re.fullmatch(r"#[\w-]+|[\w-]+\.csv", address) for address in page.addresses), page.addresses
    assert not re.search(r"url\((?!#)|@import", html)
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", html)
    assert str(course) not in html
    assert max(map(len, re.findall(r"<li>(.*?)</li>", html))) < 2000
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {r"'=cmd|' '!A1", HOSTILE} <= {row["student"] for row in table(course, "students")}


def test_report_plot_descriptions(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots have text descriptions, and tables have header scopes."""
    html = report(four, monkeypatch)
    assert len(re.findall(r"<svg", html)) == 4
    assert len(re.findall(r'<svg[^>]*role="img"', html)) == len(re.findall(r"<svg[^>]*aria-labelledby", html)) == 4
    assert "Histogram of the total scores of 4 students: from 3 to 15 of 15 points" in html
    assert not re.search(r"#0b0[cd]\d\d", html)  # placeholder colours
    assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", html))


def test_report_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The anonymous report contains no names and no text of submissions."""
    secret = "notebook of zoe.ipynb"
    students = ["zoe_1", "yan_2", "xia_3"]
    submissions = [
        CachedGrading(s, {"test_nan": "failed"} if i else {}, submission={"notes": [secret]})
        for i, s in enumerate(students)
    ]
    course = build(tmp_path, submissions)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("wim_4")
    html = report(course, monkeypatch, "--anonymous")
    tables = (course / "reports" / f"{LAB}-anonymous-students.csv").read_text()
    for text in [*students, "wim_4", secret]:
        assert text not in html + tables
    assert "Repaired before grading" in html
    assert [row["total"] for row in table(course, "students", f"{LAB}-anonymous")] == ["10", "9", "9"]


def test_report_one_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of one has no deviation and no discrimination."""
    course = build(tmp_path, [CachedGrading("only", {"test_slope": "failed"}, essay=2.0)])
    page = Page(report(course, monkeypatch))
    assert page.row("1", "8")[:3] == ["1", "8", "–"]
    assert {row["discrimination"] for row in table(course, "checks")} == {""}


def test_report_all_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class in which nobody has points gets a report."""
    failed = dict.fromkeys(["test_slope", "test_intercept", "test_range", "test_nan"], "failed")
    report(
        build(tmp_path, [CachedGrading(f"s{i}", failed, submission={"seconds": 0.0}) for i in range(12)]), monkeypatch
    )


def test_report_older_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without stored results of checks the report has scores only."""
    page = Page(
        report(build(tmp_path, [CachedGrading("a", stored=False), CachedGrading("b", stored=False)]), monkeypatch)
    )
    assert "No results of checks are stored" in page.text
    assert page.row("2", "10")
    assert table(tmp_path, "checks") == []


@pytest.mark.slow
def test_report_large_class_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of 500 with large notebooks takes seconds."""
    random = np.random.default_rng(0)
    submissions = [
        CachedGrading(f"s{i:03d}", {"test_slope": "passed" if random.random() < 0.6 else "failed"}, submission={"seconds": float(random.gamma(9, 1))})
        for i in range(500)
    ]  # fmt: skip
    course = build(tmp_path, submissions)
    padding = nbformat.v4.new_code_cell("0", outputs=[nbformat.v4.new_output("stream", text="x" * 300_000)])
    for path in course.glob("autograded/*/*/*.ipynb"):
        notebook = json.loads(path.read_text())
        notebook["cells"].append(padding)
        path.write_text(json.dumps(notebook))
    began = time.process_time()
    html = report(course, monkeypatch)
    assert time.process_time() - began < 30  # typically 5
    assert len(html) < 1_000_000


@pytest.mark.parametrize(
    ("prepare", "lab", "says"),
    [
        ("nothing", LAB, "no gradebook yet"),
        ("empty", "no-such-lab", "there are: linear-models"),
        ("empty", LAB, "no submission for linear-models is graded yet"),
        ("damaged", LAB, "the gradebook cannot be read"),
    ],
)
def test_report_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prepare: str,
    lab: str,
    says: str,
) -> None:
    """Errors are reported in one line, and nothing is written."""
    build(tmp_path, [])
    if prepare == "nothing":
        (tmp_path / "gradebook.db").unlink()
    if prepare == "damaged":
        (tmp_path / "gradebook.db").write_text("no database, but long enough to be taken for one " * 100)
    monkeypatch.chdir(tmp_path)
    assert main(["report", lab]) == 2
    assert says in capsys.readouterr().err
    assert prepare != "nothing" or not (tmp_path / "gradebook.db").exists()
    assert not (tmp_path / "reports").exists()


def test_report_output_folder(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``--output`` names the folder of the written files."""
    monkeypatch.chdir(four)
    assert main(["report", LAB, "--output", "elsewhere/deep"]) == 0
    assert capsys.readouterr().out.split() == [
        f"elsewhere/deep/{LAB}{end}" for end in (".html", "-checks.csv", "-students.csv")
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"checks": "none"},
        {"checks": [{"name": "x"}]},
        {"checks": [{"name": "x", "points": float("nan"), "earned": 1, "outcome": "passed"}]},
        {"checks": [{"name": "x", "points": 1, "earned": True, "outcome": "passed"}]},
        {"checks": [{"name": "x", "points": 1, "earned": 1, "outcome": "won"}]},
    ],
)
def test_stored_checks_malformed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Malformed stored results of a cell are ignored."""
    path = tmp_path / "lab.ipynb"
    path.write_text(json.dumps(notebook_of(CachedGrading("a", more=change))))
    stored = read(path)
    assert stored is not None
    assert list(stored.checks) == ["check_predict"]


def test_stored_checks_grade_cells_only(tmp_path: Path) -> None:
    """Stored results are read only from the outputs of grade cells."""
    notebook = notebook_of(CachedGrading("a", {"test_slope": "failed"}))
    forged = notebook_of(CachedGrading("a"))
    notebook.metadata[STORED] = forged.cells[0].outputs[0].metadata[STORED]
    own = nbformat.v4.new_code_cell("mine", outputs=forged.cells[0].outputs)
    own.metadata.nbgrader = {"grade": True, "solution": True, "grade_id": "check_fit"}
    notebook.cells.insert(0, own)
    (tmp_path / "lab.ipynb").write_text(json.dumps(notebook))
    stored = read(tmp_path / "lab.ipynb")
    assert stored is not None
    assert stored.checks["check_fit"][0].outcome == "failed"


def test_item_statistics() -> None:
    """Difficulty and discrimination match values computed by hand."""
    earned = np.array([[1, 0, 2.0], [1, 1, 0.0], [1, 1, 2.0], [1, np.nan, 0.0]])
    always, second, third = items(earned, np.array([1.0, 1.0, 2.0]))
    assert always == Item(4, 1.0, None, None)
    # of the second: 0, 1, 1 with the others' 3, 1, 3; totals 3, 2, 4
    assert second == Item(3, pytest.approx(2 / 3), pytest.approx(-0.5), pytest.approx(0.0))
    assert third.difficulty == 0.5
    assert third.discrimination == pytest.approx(np.corrcoef([2, 0, 2, 0], [1, 2, 2, 1])[0, 1])
    assert correlation(np.array([1.0]), np.array([2.0])) is None
    assert items(np.full((3, 1), np.nan), np.ones(1)) == [Item(0, None, None, None)]


def test_upper_lower_ties() -> None:
    """Students with equal totals at the border of a group count in equal shares."""
    shares, total = np.array([1, 0, 1, 0, 0.0]), np.array([5, 5, 5, 1, 1.0])
    # each group has one student: a third of each of the best three, half of each of the last two
    expected = 2 / 3
    assert upper_lower(shares, total) == pytest.approx(expected)
    assert upper_lower(shares[::-1], total[::-1]) == pytest.approx(expected)
    assert upper_lower(shares, np.ones(5)) is None


def test_summary() -> None:
    """Mean, quartiles and deviation of scores."""
    known = summary([4, 1, 3, 2])
    assert known is not None
    assert (known.mean, known.lower, known.median, known.upper) == (2.5, 1.75, 2.5, 3.25)
    assert known.deviation == pytest.approx((5 / 3) ** 0.5)
    assert summary([]) is None


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> Path:
    """Return a graded class: an untouched notebook that claims results in every possible place, and plain text."""
    course = new_course(tmp_path_factory.mktemp("course"))
    forged = nbformat.from_dict(json.loads(json.dumps(release)))
    claim = {"version": STORED_VERSION, "checks": [], "submission": {"seconds": 1e6, "notes": ["forged"]}}
    shown = nbformat.v4.new_output("display_data", data={"text/plain": "own"}, metadata={STORED: claim})
    forged.metadata[STORED] = claim
    for cell in forged.cells:
        cell.metadata[STORED] = claim
        if cell.cell_type == "code":
            cell.outputs = [shown]
    code = f"from IPython.display import display\ndisplay('own', metadata={{{STORED!r}: {claim!r}}})"
    forged.cells += [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("1", metadata={"tags": ["experiment"]})]
    forged.cells[-1].outputs = [shown]
    submit(course, "forger", forged)
    submit(course, "letter", b"Dear TA")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    return course


def test_stored_checks_survive_nbgrader(graded: Path) -> None:
    """The grader's stored results survive nbgrader's conversion and replace claimed ones."""
    notebook = autograded(graded, "forger")
    nbformat.validate(notebook)
    with_results = [
        (cell.metadata.get("nbgrader", {}).get("grade_id", ""), output.metadata[STORED])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if STORED in output.get("metadata", {})
    ]
    assert all(name.startswith("check_") for name, _ in with_results)
    assert len(with_results) == 4
    digest = digest_of(graded / "submitted" / "forger" / ASSIGNMENT)
    assert notebook.metadata[STORED] == {SUBMITTED: digest}, (
        "what the grader writes takes the place of what was claimed"
    )
    assert not any(STORED in cell.metadata for cell in notebook.cells)
    stored = read(graded / "autograded" / "forger" / ASSIGNMENT / NOTEBOOK)
    assert stored is not None
    assert stored.notes == []
    assert stored.isolation == "namespaces"
    assert 0 < (stored.seconds or 0) < 1e5
    freeze = stored.checks["check_freeze_layers"]
    assert {(check.outcome, check.symptom) for check in freeze if check.outcome == "failed"} == {("failed", "missing")}
    assert sum(data.get("submission", {}).get("seed", "").isdigit() for _, data in with_results) == 1


def test_feedback_hides_stored_checks(graded: Path) -> None:
    """The feedback does not show the stored results."""
    done = nbgrader(graded, "generate_feedback", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    (page,) = graded.glob("feedback/forger/*/*.html")
    html = page.read_text()
    assert "0 of 20 points" in html
    digest = digest_of(graded / "submitted" / "forger" / ASSIGNMENT)
    machine = ("symptom", "test_freezes", '"outcome"', "&#34;outcome", "namespaces", digest)
    assert not any(word in html for word in machine)


def test_report_graded_class(graded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a class graded with the real command ignores forged results."""
    monkeypatch.chdir(graded)
    assert main(["report", ASSIGNMENT]) == 0
    html = (graded / "reports" / f"{ASSIGNMENT}.html").read_text()
    assert "forged" not in html
    assert "<strong>letter</strong>: transfer_learning.ipynb is not a notebook" in html
    rows = table(graded, "checks", ASSIGNMENT)
    assert {row["students"] for row in rows} == {"1"}
    assert sum(float(row["points"]) for row in rows) == 90
    assert {row["total"] for row in table(graded, "students", ASSIGNMENT)} == {"0"}
