"""Results in Gradescope's format: ``results.json``, as its documentation of autograders (*Output format*) defines it.

A submission has the fields ``score`` (replaces the sum of the tests), ``execution_time`` in seconds, ``output``,
``output_format``, ``visibility``, ``stdout_visibility`` and ``tests``. A test has ``score``, ``max_score``, ``status``
(``passed`` or ``failed``), ``name``, ``number``, ``output``, ``output_format`` and ``visibility``. The visibility
``after_published`` hides a test from students until the grades are published; as long as there is such a test,
Gradescope hides the total from them too.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amllab.lab import Lab, find_lab
from autograder.course import Course
from autograder.results.class_results import collect
from autograder.text import safe_line

VISIBLE, HIDDEN = "visible", "after_published"


def test(
    name: str, number: str, points: float, earned: float, *, passed: bool, output: str, public: bool
) -> dict[str, Any]:
    """Return the entry of one check."""
    return {
        "score": earned,
        "max_score": points,
        "status": "passed" if passed else "failed",
        "name": name,
        "number": number,
        "output": output,
        "output_format": "text",
        "visibility": VISIBLE if public else HIDDEN,
    }


def results(tests: Sequence[Mapping[str, Any]], output: Sequence[str], seconds: float | None) -> dict[str, Any]:
    """Return the results of a submission."""
    more = {} if seconds is None else {"execution_time": round(seconds)}
    return {
        "score": sum(test["score"] for test in tests),
        **more,
        "output": "\n".join(output),
        "output_format": "text",
        "visibility": VISIBLE,
        "stdout_visibility": "hidden",
        "tests": list(tests),
    }


def public_checks(lab: Lab) -> set[str]:
    """Return the names of the checks that students have too, which are those in the library."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in lab.folder.glob("test_*.py")]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def is_public(name: str, public: set[str]) -> bool:
    """Return whether a result is that of a public check, whose name may have parameters in brackets."""
    return name.partition("[")[0] in public


def write_results(course: Course, assignment: str, folder: Path) -> list[str]:
    """Write ``STUDENT.json`` for each graded submission, from its stored results, and return remarks.

    The sentences of the reports stay in the notebooks; a test that did not pass shows only cell, outcome and symptom.

    Raises:
        FileNotFoundError, LookupError, ValueError: As for :func:`autograder.results.class_results.collect`.
    """
    found, public = collect(course, assignment), public_checks(find_lab(assignment))
    folder.mkdir(parents=True, exist_ok=True)
    remarks = [f"{safe_line(student)}: no submission" for student in found.missing]
    for submission in found.submissions:
        reason = found.state(submission) if submission.graded else "not graded"
        if reason or Path(submission.student).name != submission.student:
            remarks.append(
                f"{safe_line(submission.student)}: left out, {_REASONS.get(reason, reason) or 'its id has a slash'}"
            )
            continue
        tests, notes = [], []
        for part, (cell, checks) in enumerate(
            (
                (cell, checks)
                for stored in submission.stored.values()
                if stored
                for cell, checks in stored.checks.items()
            ),
            1,
        ):
            for i, check in enumerate(checks, 1):
                output = "" if check.outcome == "passed" else f"{cell}: {check.outcome} {check.symptom}".rstrip()
                tests.append(
                    test(check.title, f"{part}.{i}", check.points, check.earned, passed=check.outcome == "passed",
                         output=safe_line(output), public=is_public(check.name, public))
                )  # fmt: skip
        notes = [
            safe_line(note) for stored in submission.stored.values() if stored for note in stored.notes + stored.stopped
        ]
        text = json.dumps(results(tests, notes, submission.seconds), indent=2)
        (folder / f"{submission.student}.json").write_text(text, encoding="utf-8")
    return remarks


_REASONS = {
    "absent": "its autograded notebook is missing or damaged",
    "older": "it was graded before results were stored: autograder regrade",
    "differs": "results in its autograded notebook differ from the gradebook",
}
