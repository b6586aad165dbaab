"""Attempts: a copy of each submission that was graded, so that a later one does not replace the only copy.

Collecting again replaces what is in ``submitted/``. ``attempts/<assignment>/<student>/<number>/`` of the course keeps
what was graded, and ``attempts.json`` next to these folders when, and with how many automatic points.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from pydantic import TypeAdapter

from autograder.gradebook.regrading import digest_of
from autograder.gradebook.timestamps import read_timestamp
from autograder.text import safe_line

FOLDER, RECORD = "attempts", "attempts.json"
_TIME = "%Y-%m-%d %H:%M:%S UTC"
_LEFT_OUT = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", ".DS_Store")


@dataclass(frozen=True)
class Attempt:
    """A submission that was graded.

    Attributes:
        number: 1 for the first one.
        digest: Of the submitted folder, see :func:`autograder.gradebook.regrading.digest_of`.
        submitted: Time of the submission; empty if it is not known.
        graded: When it was graded, for the last time.
        points: Automatic points, by notebook.
    """

    number: int
    digest: str
    submitted: str
    graded: str
    points: dict[str, float]


_RECORDS = TypeAdapter(list[Attempt])


def attempts_of(root: Path, assignment: str) -> Iterator[tuple[str, list[Attempt]]]:
    """Yield each student with their attempts, the first one first.

    Raises:
        ValueError: A record is damaged; the message names it.
    """
    for file in sorted(Path(root, FOLDER, assignment).glob(f"*/{RECORD}")):
        yield file.parent.name, _read(file)


def keep_attempt(root: Path, submitted: Path, assignment: str, student: str, points: dict[str, float]) -> None:
    """Copy a submission that was graded, unless the last copy is the same.

    Raises:
        OSError: It cannot be copied.
        ValueError: The record of this student is damaged.
    """
    folder = Path(root, FOLDER, assignment, student)
    file = folder / RECORD
    kept, digest = _read(file) if file.is_file() else [], digest_of(submitted)
    stamp = read_timestamp(submitted)
    time = stamp.time.strftime(_TIME) if stamp is not None and stamp.time is not None else ""
    now = datetime.now(UTC).strftime(_TIME)
    if kept and kept[-1].digest == digest:
        kept[-1] = Attempt(kept[-1].number, digest, time, now, {**kept[-1].points, **points})
    else:
        kept.append(Attempt(_copied(submitted, folder, kept, digest), digest, time, now, points))
    written = file.with_suffix(".part")
    written.write_text(json.dumps([asdict(attempt) for attempt in kept], indent=1) + "\n", encoding="utf-8")
    written.replace(file)


def _copied(submitted: Path, folder: Path, kept: list[Attempt], digest: str) -> int:
    """Copy a submission to a number that has never been used, and return the number.

    Folders that the record does not have are of a run that was killed, or the record was lost: nothing replaces them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    used = {attempt.number for attempt in kept} | {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    last = max(used, default=0)
    if all(attempt.number < last for attempt in kept) and last and digest_of(folder / str(last)) == digest:
        return last
    part = folder / "part"
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    shutil.copytree(submitted, part, symlinks=True, ignore=_LEFT_OUT)
    part.rename(folder / str(last + 1))
    return last + 1


def _read(file: Path) -> list[Attempt]:
    try:
        return _RECORDS.validate_json(file.read_bytes(), strict=True)
    except (OSError, ValueError) as error:
        where = "/".join(file.parts[-4:])
        raise ValueError(
            f"{where} is damaged ({safe_line(error)}): move it away; the folders next to it stay"
        ) from None


class KeepAttempt(NbGraderPreprocessor):  # type: ignore[misc]
    """A step of ``nbgrader autograde`` that keeps what was graded; a failure is logged and changes no score."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Keep the submission of a graded notebook."""
        about = resources["nbgrader"]
        student, assignment = about["student"], about["assignment"]
        course = CourseDirectory(parent=self)
        submitted = Path(course.root, course.format_path(course.submitted_directory, student, assignment))
        with Gradebook(about["db_url"]) as gradebook:
            grades = gradebook.find_submission_notebook(about["notebook"], assignment, student).grades
            points = {about["notebook"]: sum(grade.auto_score or 0.0 for grade in grades)}
        try:
            keep_attempt(Path(course.root), submitted, assignment, student, points)
        except (OSError, ValueError) as error:
            self.log.warning("%s: this attempt is not kept: %s", student, error)
        return nb, resources
