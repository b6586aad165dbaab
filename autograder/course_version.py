"""The version of the package whose labs a course has, which the course keeps next to what it was made from."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

SHIPPED = ".shipped"  # folder of a course with what it was made from
RECORD = "course.json"
_NOTED = "AMLLAB_VERSION_NOTED"


def version_note(labs: Path | None) -> str:
    """Return what to do if a course has the labs of another version than the installed package; empty if it has not.

    It is returned once, also if this process starts others.

    Args:
        labs: Folder of the course's labs.
    """
    record = labs.parent / SHIPPED / RECORD if labs is not None else None
    if record is None or not record.is_file() or os.environ.get(_NOTED):
        return ""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["amllab"]
    except (OSError, ValueError, TypeError, KeyError):  # 'autograder upgrade-course' says what is wrong with it
        return ""
    if known == (installed := version("amllab")):
        return ""
    os.environ[_NOTED] = "1"
    return f"this course has the labs of amllab {known}, and {installed} is installed: run 'autograder upgrade-course'"
