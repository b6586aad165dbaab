"""The texts of the labs' notebooks: what readers see as it was meant, on any screen."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

from tests.conftest import ROOT

MASTERS = sorted((ROOT / "source").glob("*/*.py"))


@pytest.fixture(params=MASTERS, ids=lambda path: path.stem)
def texts(request: pytest.FixtureRequest) -> list[NotebookNode]:
    """Return the text cells of a notebook."""
    path: Path = request.param
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]


def test_no_year_becomes_the_number_of_a_list(texts: list[NotebookNode]) -> None:
    """A line begins with a number and a dot only in a list, whose numbers follow each other from 1."""
    for cell in texts:
        last = 0
        for line in cell.source.split("\n"):
            if number := re.match(r"\s*(\d+)[.)]( |$)", line):
                assert int(number[1]) in (1, last + 1), line
                last = int(number[1])


def test_contracts_fit_a_narrow_screen(texts: list[NotebookNode]) -> None:
    """No table has a signature in its head, where it cannot be wrapped and takes the width of the text."""
    for cell in texts:
        for head in re.findall(r"^(\|.*\|)\n\|[-| :]+\|$", cell.source, re.M):
            assert max(map(len, re.findall(r"\S+", head))) <= 20, head


def test_predictions_have_a_place(texts: list[NotebookNode]) -> None:
    """Who is asked to predict has a cell for it, which the preflight knows by its tag."""
    for cell in texts:
        assert ("prediction" in cell.metadata.get("tags", [])) == cell.source.startswith("*My prediction (")
        assert "*Predict" not in cell.source


def test_last_section_says_how_to_submit(texts: list[NotebookNode]) -> None:
    """A notebook names the preflight and where the deadline is, and refers to nothing that students do not get."""
    (last,) = [cell.source for cell in texts if cell.source.startswith("## Hand in")]
    assert "amllab.preflight()" in last
    assert "START.md" in last
    assert not any(re.search(r"`(docs|bench|source|solutions|autograder|tests)/", cell.source) for cell in texts)
