"""The class report: exact statistics of classes with known scores, and a page that is safe to open and share."""

from __future__ import annotations

import contextlib
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pytest
from nbgrader.api import Gradebook

from autograder.cli import main
from tests.helpers.synthetic_class import ESSAY, HOSTILE, LAB, Graded, build, build_four, table


def report(course: Path, *options: str) -> str:
    """Run the command and return the page."""
    with contextlib.chdir(course):
        assert main(["report", LAB, *options]) == 0
    (page,) = course.glob("reports/*anonymous.html" if "--anonymous" in options else f"reports/{LAB}.html")
    return page.read_text()


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


class Reported(NamedTuple):
    """A course, and the page of its report."""

    course: Path
    html: str


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Return the synthetic class of four, reported."""
    course = build_four(tmp_path_factory.mktemp("four"))
    return Reported(course, report(course))


def test_report_scores_match_gradebook(reported: Reported) -> None:
    """Totals and their statistics are those of the gradebook."""
    page = Page(reported.html)
    # totals 15, 10, 3, 4.5: mean 8.125, deviation √(88.6875 / 3), quartiles by linear interpolation
    assert page.row("4", "8.1")[:9] == ["4", "8.1", "5.5", "3", "4.1", "7.2", "11.2", "15", "15"]
    assert page.row("fit", "6")[2:9] == ["4", "3.9", "65 %", "2.6", "4.8", "6", "2"]
    assert page.row("discussion", "5")[2:5] == ["2", "4", "80 %"]
    assert page.row("ada")[1:] == ["6", "4", "5", "", "15", "graded", "10.0 s"]
    assert page.row("ben")[1:] == ["6", "3", "3", "2", "10", "graded", "10.0 s"]
    assert page.row("cyd")[1:] == ["0", "3", "to grade", "", "3", "to grade manually", "10.0 s"]
    assert page.row("eve")[-2] == "no submission"
    assert page.row("fay")[-2] == "not graded"
    rows = {row["student"]: row for row in table(reported.course, "students")}
    assert [rows[s]["total"] for s in ("ada", "ben", "cyd", "dan", "eve", "fay")] == ["15", "10", "3", "4.5", "", ""]
    assert rows["ben"]["late_penalty"] == "2"
    assert [rows[s][ESSAY] for s in ("ada", "cyd", "eve")] == ["5", "", ""]
    assert [rows[s]["status"] for s in ("ada", "dan", "eve", "fay")] == [
        "graded", "to grade manually", "missing", "not graded",
    ]  # fmt: skip


def test_report_check_statistics(reported: Reported) -> None:
    """The statistics of checks of four students match manual calculations."""
    page = Page(reported.html)
    rows = {row["check"]: row for row in table(reported.course, "checks")}
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


def test_report_small_class(reported: Reported) -> None:
    """In a small class no checks are singled out for review."""
    assert "Checks to review" not in reported.html


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    """All students pass the first check, none the second, the six weakest the third, the six best the fourth."""
    return build(
        tmp_path,
        [
            Graded(
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


def test_report_checks_to_review(twelve: Path) -> None:
    """Checks that all or none pass, or that better students fail, are listed for review."""
    page = Page(report(twelve))
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


def test_report_lists_problems(tmp_path: Path) -> None:
    """Every kind of problem with a submission is listed."""
    unreadable = {"readable": False, "notes": ["The file is empty."]}
    course = build(
        tmp_path,
        [
            Graded("broken", {"test_slope": "error"}),
            Graded("slow", {"test_slope": "failed:timeout", "test_range": "failed:timeout", "test_nan": "failed:memory"}),
            Graded("stopped", submission={"stopped": ["cell 3: stopped after 60 seconds"]}),
            Graded("bare", submission={"isolation": "none"}),
            Graded("repaired", submission={"notes": ["There were several cells."]}),
            Graded("empty", dict.fromkeys(["test_slope", "test_intercept", "test_range", "test_nan"], "failed"),
                   submission=unreadable),
            Graded("old", stored=False),
            Graded("edited", scores={"check_fit": 1.0}),
            Graded("bent", {"test_slope": "failed:tampered"}),
            Graded("lost"),
            Graded("cut"),
        ],
    )  # fmt: skip
    (course / "autograded" / "lost" / LAB / "lab.ipynb").unlink()
    (course / "autograded" / "cut" / LAB / "lab.ipynb").write_text('{"cells": [')
    html = report(course)
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


def test_report_counts_mistakes(tmp_path: Path) -> None:
    """Recognised mistakes are counted."""

    def made(name: str) -> dict[str, Any]:
        return {"mistakes": [{"name": name}]}

    course = build(
        tmp_path,
        [
            Graded("a", more=made("divides by n + 1")),
            Graded("b", more=made("divides by n + 1")),
            Graded("c", more=made("forgets the intercept")),
            Graded("d", more={"mistakes": "?"}),
        ],
    )
    page = Page(report(course))
    found = [row for row in page.rows if row and row[0] in ("divides by n + 1", "forgets the intercept")]
    assert found == [
        ["divides by n + 1", "fit", "2", "50 %"],
        ["forgets the intercept", "fit", "1", "25 %"],
    ]


def test_report_escapes_hostile_text(tmp_path: Path) -> None:
    """Hostile text in a submission is inert, and the page loads nothing."""
    mistakes = {"mistakes": [{"name": HOSTILE}]}
    notes = {"notes": [HOSTILE * 200], "stopped": [HOSTILE], "isolation": "none"}
    course = build(
        tmp_path,
        [
            Graded(HOSTILE.replace("/", ""), {"test_slope": "error"}, submission=notes, more=mistakes),
            Graded("=cmd|' '!A1", {"test_range": "failed"}),
            Graded("../../outside"),
            Graded("plain"),
        ],
    )
    html = report(course)
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


def test_report_plot_descriptions(reported: Reported) -> None:
    """Plots have text descriptions, and tables have header scopes."""
    html = reported.html
    assert len(re.findall(r"<svg", html)) == 4
    assert len(re.findall(r'<svg[^>]*role="img"', html)) == len(re.findall(r"<svg[^>]*aria-labelledby", html)) == 4
    assert "Histogram of the total scores of 4 students: from 3 to 15 of 15 points" in html
    assert not re.search(r"#0b0[cd]\d\d", html)  # placeholder colours
    assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", html))


def test_report_anonymous(tmp_path: Path) -> None:
    """The anonymous report contains no names and no text of submissions."""
    secret = "notebook of zoe.ipynb"
    students = ["zoe_1", "yan_2", "xia_3"]
    submissions = [
        Graded(s, {"test_nan": "failed"} if i else {}, submission={"notes": [secret]}) for i, s in enumerate(students)
    ]
    course = build(tmp_path, submissions)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("wim_4")
    html = report(course, "--anonymous")
    tables = (course / "reports" / f"{LAB}-anonymous-students.csv").read_text()
    for text in [*students, "wim_4", secret]:
        assert text not in html + tables
    assert "Repaired before grading" in html
    assert [row["total"] for row in table(course, "students", f"{LAB}-anonymous")] == ["10", "9", "9"]


def test_report_one_submission(tmp_path: Path) -> None:
    """A class of one has no deviation and no discrimination."""
    course = build(tmp_path, [Graded("only", {"test_slope": "failed"}, essay=2.0)])
    page = Page(report(course))
    assert page.row("1", "8")[:3] == ["1", "8", "–"]
    assert {row["discrimination"] for row in table(course, "checks")} == {""}


def test_report_all_zero(tmp_path: Path) -> None:
    """A class in which nobody has points gets a report."""
    failed = dict.fromkeys(["test_slope", "test_intercept", "test_range", "test_nan"], "failed")
    report(build(tmp_path, [Graded(f"s{i}", failed, submission={"seconds": 0.0}) for i in range(12)]))


def test_report_older_version_only(tmp_path: Path) -> None:
    """Without stored results of checks the report has scores only."""
    page = Page(report(build(tmp_path, [Graded("a", stored=False), Graded("b", stored=False)])))
    assert "No results of checks are stored" in page.text
    assert page.row("2", "10")
    assert table(tmp_path, "checks") == []


@pytest.mark.slow
def test_report_large_class_time(tmp_path: Path) -> None:
    """A class of 500 with large notebooks takes seconds."""
    random = np.random.default_rng(0)
    submissions = [
        Graded(f"s{i:03d}", {"test_slope": "passed" if random.random() < 0.6 else "failed"}, submission={"seconds": float(random.gamma(9, 1))})
        for i in range(500)
    ]  # fmt: skip
    course = build(tmp_path, submissions)
    padding = nbformat.v4.new_code_cell("0", outputs=[nbformat.v4.new_output("stream", text="x" * 300_000)])
    for path in course.glob("autograded/*/*/*.ipynb"):
        notebook = json.loads(path.read_text())
        notebook["cells"].append(padding)
        path.write_text(json.dumps(notebook))
    began = time.process_time()
    html = report(course)
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
