"""Fixtures that several tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from tests.helpers.synthetic_class import FOUR, LAB, build


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Return a synthetic class of four, with a student who has not submitted and one who is not graded."""
    course = build(tmp_path, FOUR)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("eve")
    (course / "submitted" / "fay" / LAB).mkdir(parents=True)
    return course
