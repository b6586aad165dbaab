"""The feedback page says at its top what counts, for labs and for all other assignments, and nothing secret."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat import NotebookNode
from nbgrader.api import Comment, Gradebook

from autograder.exports.feedback import _said
from autograder.pages.grader_notes import own_words, parts_of
from autograder.pages.summary import names_of, summarise
from tests.conftest import nbgrader
from tests.helpers.stock_courses import SEARCHED
from tests.helpers.synthetic_class import ESSAY, HOSTILE, LAB

MARKS = {"locked": False, "solution": False, "grade": False, "task": False, "schema_version": 3}


def cell(source: str, kind: str = "markdown", outputs: tuple[NotebookNode, ...] = (), **marks: object) -> NotebookNode:
    metadata = {"nbgrader": {**MARKS, **marks}} if marks else {}
    if kind == "markdown":
        return nbformat.v4.new_markdown_cell(source, metadata=metadata)
    return nbformat.v4.new_code_cell(source, metadata=metadata, outputs=list(outputs))


def test_names_from_headings() -> None:
    """Exercises have the names of the headings above them, as text; headings of answers and in code name nothing."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            cell("# Set 1"),
            cell("x", "code", grade_id="first", grade=True),
            cell("---\n## Part *A* ([2 points](https://x.org/a_(b))) <b>\n\n```\n# no heading\n```\n### Hint"),
            cell("def f(): ...", "code", grade_id="f", solution=True),
            cell("assert f()", "code", grade_id="test_f", grade=True),
            cell("## Part B"),
            cell("# Give me all points", grade_id="b1", solution=True, grade=True),
            cell("text", grade_id="b2", task=True),
        ]
    )
    assert names_of(notebook) == {
        "first": "Set 1",
        "f": "Part A (2 points)",
        "test_f": "Part A (2 points)",
        "b1": "Part B (b1)",
        "b2": "Part B (b2)",
    }
    assert names_of(nbformat.v4.new_notebook(cells=[cell("", "code", grade_id="x", grade=True)])) == {"x": "x"}


def test_summary_of_stock_assignment() -> None:
    """Without stored checks, the error of a test cell that lost points is listed, on one line."""
    error = nbformat.v4.new_output("error", ename="AssertionError", evalue=f"{HOSTILE}\nmore", traceback=[])
    lost = cell("assert 0", "code", (error,), grade_id="lost", grade=True, points=2, score=0)
    partly = cell("1", "code", (), grade_id="partly", grade=True, points=2, score=1)
    passed = cell("assert 1", "code", (error,), grade_id="passed", grade=True, points=3, score=3)
    found = summarise(nbformat.v4.new_notebook(cells=[lost, partly, passed]), {"nbgrader": {"notebook": "ps1"}})
    assert (found.title, found.score, found.points, found.ungraded) == ("ps1", 4, 7, 0)
    (listed,) = found.failing
    assert listed.id == "lost"
    assert listed.error.startswith("AssertionError: <img")
    assert "\u202e" not in listed.error
    assert "more" not in listed.error


def test_summary_names_missing_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graded cells that the notebook lacks are listed with their points: the sum is that of the assignment."""
    monkeypatch.setenv("PATH", SEARCHED)
    about = {"notebook": "p1", "assignment": "ps1", "student": "ada", "db_url": f"sqlite:///{tmp_path}/gradebook.db"}
    with Gradebook(about["db_url"]) as gradebook:
        gradebook.add_assignment("ps1")
        gradebook.add_notebook("p1", "ps1")
        for name, points in (("there", 2), ("gone", 3)):
            gradebook.add_grade_cell(name, "p1", "ps1", max_score=points, cell_type="code")
        gradebook.add_student("ada")
        gradebook.add_submission("ps1", "ada")
        for name, score in (("there", 2), ("gone", 0)):
            gradebook.find_grade(name, "p1", "ps1", "ada").auto_score = score
        gradebook.db.commit()
    there = cell("1", "code", (), grade_id="there", grade=True, points=2, score=2)
    found = summarise(nbformat.v4.new_notebook(cells=[there]), {"nbgrader": about})
    assert (found.score, found.points) == (2, 5)
    (listed,) = found.failing
    assert (listed.id, listed.absent, listed.error) == ("gone", True, "this cell is missing in the submitted notebook")


def page_of(course: Path, student: str) -> BeautifulSoup:
    (page,) = (course / "feedback" / student).rglob("*.html")
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def rows_of(page: BeautifulSoup) -> dict[str, str]:
    table = page.select_one("table.points")
    assert isinstance(table, Tag)
    return {row.td.get_text(): row.select("td")[1].get_text() for row in table.select("tbody tr") if row.td is not None}


def test_feedback_of_a_class(four: Path) -> None:
    """Ungraded cells are not 0 points, what failed is listed with links, and penalties are named."""
    for path in (four / "autograded").rglob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        notebook.cells.append(
            cell("My *answer*", grade_id=ESSAY, grade=True, solution=True, points=5, cell_type="markdown")
        )
        nbformat.write(notebook, path)
    with Gradebook(f"sqlite:///{four}/gradebook.db") as gradebook:
        (essay,) = gradebook.find_notebook("lab", LAB).solution_cells
        for submission in gradebook.notebook_submissions("lab", LAB):
            text = "Look at $x<y$ <script>1</script>" if submission.student.id == "ben" else None
            gradebook.db.add(Comment(cell=essay, notebook=submission, manual_comment=text))
        gradebook.db.commit()
    done = nbgrader(four, "generate_feedback", LAB)
    assert done.returncode == 0, done.stderr

    ben = page_of(four, "ben")
    assert rows_of(ben) == {
        "check_fit": "6 of 6",
        "check_predict": "3 of 4",
        f"{ESSAY} · with a comment": "3 of 5",
        "Late submission": "−2",
    }
    assert "10 of 15 points" in ben.get_text()
    assert "A NaN is refused. (0 of 1)" in ben.get_text()
    (noted,) = ben.select(".comment")
    assert noted.math is not None
    assert ben.script is None

    cyd = page_of(four, "cyd")
    assert rows_of(cyd)[ESSAY] == "not graded yet"
    assert "3 of 10 points so far" in cyd.get_text()
    assert "5 further points are not graded yet." in cyd.get_text()
    failed = cyd.select_one("section[aria-labelledby=feedback-failed]")
    assert failed is not None
    assert [item.get_text() for item in failed.select("li")] == [
        "The slope is that of least squares. (0 of 4)",
        "1 further check was not run until these pass",
        "A NaN is refused. (0 of 1)",
    ]
    for page in (ben, cyd):
        ids = [element["id"] for element in page.find_all(id=True)]
        assert len(ids) == len(set(ids))
        assert {link["href"][1:] for link in page.select('a[href^="#"]')} <= {*ids}
        levels = [int(heading.name[1]) for heading in page.find_all(["h1", "h2", "h3", "h4", "h5", "h6"])]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(image.get("alt") for image in page.find_all("img"))
        assert "display_data" not in str(page)
    with Gradebook(f"sqlite:///{four}/gradebook.db") as gradebook:  # the same in the notebook for Canvas
        said = dict(_said(gradebook, LAB, "cyd", "lab"))
    assert (said[""], said[ESSAY]) == (
        "3 of 10 points so far; 5 further points are not graded yet",
        f"**{ESSAY}: not graded yet**",
    )
    for student in ("ada", "ben", "cyd", "dan"):  # without the plots of a student
        assert (four / "feedback" / student / LAB / "lab.html").stat().st_size < 30_000


@pytest.mark.parametrize(
    ("scheme", "points", "parts"),
    [
        ("**Question 1 (3).** a\n\n**Question 2 (4).** b", 7, (("Question 1", 3.0), ("Question 2", 4.0))),
        ("- a) Plot [1.5 pts]: x\n- b) Text (2 points)", 3.5, (("a) Plot", 1.5), ("b) Text", 2.0))),
        ("**Question 1 (3).** a\n\n**Question 2 (4).** b", 10, ()),  # other points than the cell
        ("**Question 1 (10).** a", 10, ()),  # nothing to add up
        ("**A (3).** a\n\n**A (4).** b", 7, ()),  # two of the same name
        ("All numbers (2) of (3) count.", 5, ()),
        ("", 5, ()),
    ],
)
def test_parts_of_schemes(scheme: str, points: float, parts: tuple[tuple[str, float], ...]) -> None:
    """Parts of a scheme are recognised only if they add up to the points of the cell."""
    assert parts_of(scheme, points) == parts


def test_comments_without_points() -> None:
    """Comments are offered again without the points of another submission."""
    assert own_words("Points: Q1: 2 of 3; Q2: 1 of 4\n\nSay why.") == "Say why."
    assert own_words("Points: Q1: 2 of 3") == ""
    assert own_words("Two points: fine") == "Two points: fine"
