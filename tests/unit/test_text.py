"""Tables for terminals fit the width and lose nothing but the end of long names; numbers of things have a singular."""

from __future__ import annotations

import pytest

from autograder.text import counted, fitted

HEADER = ["student", "state", "freeze_layers (20)", "train_with_early_stopping (30)", "reflection (10)", "sum (60)"]
ROWS = [
    ["ada", "graded", "20", "30", "to grade", "50"],
    ["a.very-long.name@university.example", "to grade manually", "19.5", "0", "10", "29.5"],
]


@pytest.mark.parametrize("width", [50, 60, 80, 100, 200])
@pytest.mark.parametrize("cells", [1, 4])
def test_table_fits_width(width: int, cells: int) -> None:
    """No line is longer than the terminal, and every heading and score is there."""
    header = [*HEADER[:2], *HEADER[2:5] * cells, HEADER[5]]
    rows = [[*row[:2], *row[2:5] * cells, row[5]] for row in ROWS]
    text = fitted(header, rows, width, left=(0, 1))
    assert max(map(len, text.splitlines())) <= width
    assert text.count("to grade manually") == 1
    assert text.count("19.5") == text.count("early_") == cells
    for name in ("student", "ada", "a.very-l"):  # each table says whose rows these are
        assert text.count(name) == len(text.split("\n\n"))


def test_table_short_stays_whole() -> None:
    """What fits is not shortened or broken."""
    text = fitted(["student", "state", "fit (6)"], [["ada", "graded", "6"]], 80, left=(0, 1))
    assert text == "student  state   fit (6)\n-------  ------  -------\nada      graded        6"


def test_counted_singular_and_plural() -> None:
    """One thing is not several."""
    assert [counted(n, "cell") for n in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [counted(n, "copy was", "copies were") for n in (1, 2)] == ["1 copy was", "2 copies were"]
