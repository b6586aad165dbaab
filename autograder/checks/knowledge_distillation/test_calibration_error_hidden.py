"""Hidden checks of exercise 3: values of random logits, compared with the reference.

A value with a mistake loses points there, and in the public checks. Special cases then ask for a finite number alone.
"""

import math

import pytest

from amllab.checks import expect
from amllab.checks.knowledge_distillation import ece_tables
from amllab.checks.knowledge_distillation.ece_expectations import (
    answer,
    expect_value,
    near,
    number,
    number_of,
    right_where_nothing_is_special,
)
from amllab.kit.expectations import Call, unchanged
from autograder.checks.knowledge_distillation import ece_cases, ece_mistakes

pytestmark = pytest.mark.cell("check_calibration_error", section="Exercise 3: the calibration error")


def asked(case):
    """Return the question of a case."""
    return {"logits": case.logits, "labels": case.labels, "n_bins": case.n_bins}


def called(case, n_bins=True):
    """Return a call on random logits of this size, as a student reads it."""
    n, classes = case.logits.shape
    more = f", n_bins={case.n_bins}" if n_bins else ""
    setup = f"logits, labels = torch.randn({n}, {classes}), torch.randint({classes}, ({n},))"
    return Call(f"expected_calibration_error(logits, labels{more})", setup)


def right(submission, reference, run_seed):
    """Return whether the values of groups with known gaps and of random logits are right."""
    if not right_where_nothing_is_special(submission, run_seed):
        return False
    pairs = [
        [one.ask("calibration_error", **asked(case)) for one in (submission, reference)]
        for case in ece_cases.usual(run_seed)
    ]
    return all("error" not in got and got["value"] and near(number_of(wanted), number_of(got)) for got, wanted in pairs)


@pytest.mark.points(3)
def test_error_of_random_logits(submission, reference, run_seed):
    """The value is right for random logits, with few and with many bins."""
    cases = ece_cases.usual(run_seed)
    answers = [answer(submission, asked(case), called(case)) for case in cases]
    seen = [number_of(got) for got in answers]
    wanted = [number(reference, asked(case), called(case)) for case in cases]
    many = answers[0]["value"]["value"].numel()
    wrong = [i for i in range(len(cases)) if not near(wanted[i], seen[i])]
    if not wrong and many == 1:
        return
    first = wrong[0] if wrong else 0
    name = ece_mistakes.recognised(cases, seen) if wrong else ""
    nan = any(math.isnan(one) for one in seen)
    words = {**ece_tables.SAYS, **ece_mistakes.SAYS}.get(name, "")
    expect(
        False,
        expected=f"the calibration error of random logits: here {wanted[first]:.4f}",
        seen=f"{many} numbers" if many > 1 else f"{seen[first]:.4f}" + (f": {words}" if words else ""),
        why="models are compared by this number, and nothing else would show that it is wrong",
        symptom="several numbers" if many > 1 else name or ("not a number" if nan else "another value"),
        reproduce=called(cases[first]).lines,
    )


@pytest.mark.points(1)
def test_default_number_of_bins(submission, run_seed):
    """Without `n_bins`, there are 15."""
    case = ece_cases.usual(run_seed)[0]
    assert case.n_bins == 15
    with_number = number(submission, asked(case), called(case))
    without = number(submission, {**asked(case), "n_bins": None}, called(case, n_bins=False))
    expect(
        near(with_number, without) or (math.isnan(with_number) and math.isnan(without)),
        expected=f"the same value with and without `n_bins=15`: {with_number:.4f}",
        seen=f"{without:.4f}",
        why="the contract gives this default",
        symptom="another default",
        reproduce=called(case, n_bins=False).lines,
    )


@pytest.mark.points(1)
def test_calibration_error_of_large_logits(submission, reference, run_seed):
    """Works for logits up to 1000 and down to -1000."""
    case = ece_cases.large(run_seed)
    shown = called(case)
    call = Call(shown.text, f"{shown.setup}\nlogits = logits + 980 * torch.randn(len(logits), 1).sign()")
    seen = number(submission, asked(case), call)
    expect_value(
        number(reference, asked(case), call),
        seen,
        call,
        right=right(submission, reference, run_seed),
        words="the logits of an example are all about 980, or all about -980",
        why="exp(980) is infinite and exp(-980) is 0 in float32 and in float64: only the differences of logits matter",
        symptom="wrong for large logits",
    )


@pytest.mark.points(1)
def test_classes_examples_and_types(submission, reference, run_seed):
    """Works for two classes and for many, for one example, and for logits in float64."""
    fine = right(submission, reference, run_seed)
    for words, case in ece_cases.sizes(run_seed).items():
        seen = number(submission, asked(case), called(case))
        if not math.isfinite(seen) and not fine:
            continue  # NaN for empty bins has lost points
        expect_value(
            number(reference, asked(case), called(case)),
            seen,
            called(case),
            right=fine,
            words=words,
            why="models have any number of classes, and sets any number of examples",
            symptom=f"wrong for {words}",
        )


@pytest.mark.points(1)
def test_logits_and_labels_stay(submission, run_seed):
    """Logits that require gradients are welcome, and neither logits nor labels are changed."""
    case = ece_cases.usual(run_seed)[3]
    call = Call(called(case).text, f"{called(case).setup}\nlogits.requires_grad_()")
    got = answer(submission, {**asked(case), "learning": True}, call)
    unchanged(got["changed"], call, why="logits and labels belong to the caller, who goes on with them")
