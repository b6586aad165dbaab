"""Regrade single submissions with nbgrader's own command, and show what changed: ``autograder regrade``."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Sequence

from autograder.course import Course
from autograder.results.class_results import Submission, collect, submitters
from autograder.text import closest, number, safe_line, table

_LAST_LINES = 15  # of nbgrader's log, shown if it failed


def regrade(course: Course, assignment: str, students: Sequence[str]) -> bool:
    """Run ``nbgrader autograde --force`` for each student and print the scores before and after.

    The same code is asked the same questions again: see :mod:`autograder.gradebook.seeds`. Scores by
    hand stay, and nbgrader marks them for review.

    Returns:
        Whether all submissions were graded.

    Raises:
        LookupError: if there is no such lab or submission; raised before anything is graded.
    """
    submitted = submitters(course, assignment)
    if not submitted:
        known = {folder.name for folder in course.directories["submitted_directory"].glob("*/*") if folder.is_dir()}
        raise closest(assignment, known, "assignment with submissions")
    for student in students:
        if student not in submitted:
            raise closest(student, submitted, f"submission for {assignment} by")
    graded = [_regrade(course, assignment, student) for student in dict.fromkeys(students)]
    return all(graded)


def _regrade(course: Course, assignment: str, student: str) -> bool:
    before, points = _scores(course, assignment, student)
    print(f"{safe_line(student)}: grading again ...", flush=True)
    command = [
        sys.executable,
        "-P",
        "-m",
        "nbgrader",
        "autograde",
        assignment,
        f"--student={glob.escape(student)}",
        "--force",
    ]
    done = subprocess.run(
        command, cwd=course.root, env=os.environ, capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if done.returncode != 0:
        lines = done.stderr.splitlines()[-_LAST_LINES:]
        print(f"{safe_line(student)}: nbgrader autograde failed:", *map(safe_line, lines), sep="\n  ", file=sys.stderr)
        return False
    after, points = _scores(course, assignment, student)
    if after is None:
        print(
            f"{safe_line(student)}: still not graded; run 'nbgrader autograde {assignment}' to see why", file=sys.stderr
        )
        return False
    rows = [
        [key, _score(before, key), _score(after, key), _change(before, after, key), number(most)]
        for key, most in points.items()
    ]
    totals = [number(before.total) if before else "", number(after.total)]
    rows.append(["sum", *totals, _signed(after.total - before.total) if before else "", number(sum(points.values()))])
    print(table(["cell", "before", "after", "change", "of"], rows))
    kept = [key for key, score in after.scores.items() if score.by_hand]
    if kept:
        print(f"Manual scores were kept: check whether they still hold: {', '.join(map(safe_line, kept))}")
    print()
    return True


def _scores(course: Course, assignment: str, student: str) -> tuple[Submission | None, dict[str, float]]:
    """Return the student's submission in the gradebook, ``None`` if it is not graded, and the points of the cells."""
    try:
        results = collect(course, assignment, [student])
    except (FileNotFoundError, LookupError):  # no gradebook, or nothing is graded yet
        return None, {}
    found = next((s for s in results.graded if s.student == student), None)
    return found, {cell.key: cell.points for cell in results.cells}


def _score(submission: Submission | None, key: str) -> str:
    if submission is None:
        return ""
    score = submission.scores[key]
    return "to grade" if score.to_grade else number(score.score)


def _change(before: Submission | None, after: Submission, key: str) -> str:
    return _signed(after.scores[key].score - before.scores[key].score) if before else ""


def _signed(points: float) -> str:
    return f"{points:+.6g}" if abs(points) > 1e-9 else ""
