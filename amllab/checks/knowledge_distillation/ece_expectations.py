"""What the checks of exercise 3 expect: a number, and the right one.

A value that is wrong where nothing is special has lost points for that. The checks of special cases then ask for a
finite number alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from amllab.checks import expect
from amllab.checks.knowledge_distillation.ece_tables import NEAR, ROUGH, SAYS, with_known_gaps
from amllab.kit.expectations import Call, returns
from amllab.protocol.submission import Submission

NO_VALUE = "a number to look at"


def answer(submission: Submission, question: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
    """Return the answer to a call; fail the check if it raises an error."""
    return returns(submission.ask("calibration_error", **question), call)


def number_of(got: Mapping[str, Any]) -> float:
    """Return the number of an answer, the sum of several; skip the check if there is none."""
    value = got["value"].get("value")
    if value is None or not value.numel():
        pytest.skip(NO_VALUE)
    return float(value.sum())


def number(submission: Submission, question: Mapping[str, Any], call: Call) -> float:
    """Return the number that a call gives."""
    return number_of(answer(submission, question, call))


def near(one: float, other: float, difference: float = NEAR) -> bool:
    """Return whether two values are the same, up to three decimals or a larger difference."""
    return abs(one - other) <= difference


def named(explains: Iterable[set[str]]) -> str:
    """Return the mistake that explains what was seen in all cases; empty if none does, or several do."""
    names = set.intersection(*explains)
    return names.pop() if len(names) == 1 else ""


def right_where_nothing_is_special(submission: Submission, run_seed: int) -> bool:
    """Return whether the values of groups with known gaps are right."""
    for case in with_known_gaps(run_seed):
        got = submission.ask("calibration_error", **case.question)
        if "error" in got or not got["value"] or not near(case.wanted, float(got["value"]["value"].sum())):
            return False
    return True


def expect_value(
    wanted: float, seen: float, call: Call, *, right: bool, words: str, why: str, symptom: str, said: str = ""
) -> None:
    """Fail the check unless a value is the right one; any finite one will do if all values are wrong.

    Args:
        wanted: The right value.
        seen: The value of the submission.
        call: The call.
        right: Whether the values of the submission are right where nothing is special.
        words: What is special here.
        why: Why it matters.
        symptom: Symptom of another finite value.
        said: Text to follow the value that was seen.
    """
    finite = math.isfinite(seen)
    expect(
        finite and (not right or near(wanted, seen, ROUGH)),
        expected=f"a calibration error of {wanted:.4f}: {words}",
        seen=f"{seen:.4f}{said}",
        why=why,
        symptom=symptom if finite else f"not finite; {symptom}",
        reproduce=call.lines,
    )


def expect_known_gaps(submission: Submission, run_seed: int) -> None:
    """Fail the check unless the values of groups with known gaps are right, each a single number."""
    cases = with_known_gaps(run_seed)
    answers = [answer(submission, case.question, case.call) for case in cases]
    seen = [number_of(got) for got in answers]
    name = named(
        {name for name, value in case.wrong.items() if near(value, one)} for case, one in zip(cases, seen, strict=True)
    )
    for case, got, one in zip(cases, answers, seen, strict=True):
        many = got["value"]["value"].numel()
        expect(
            many == 1 and near(case.wanted, one, ROUGH),
            expected=f"a calibration error of {case.wanted:.4f}, from groups of examples with known gaps",
            seen=f"{many} numbers" if many > 1 else f"{one:.4f}" + (f": {SAYS[name]}" if name else ""),
            why="it says how far the confidence of a model is from its accuracy: here each group has a bin of its own",
            symptom="several numbers" if many > 1 else name or "another value",
            reproduce=case.call.lines,
        )
