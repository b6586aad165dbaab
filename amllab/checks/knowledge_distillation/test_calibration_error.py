"""Public checks of exercise 3, ``expected_calibration_error``: examples whose calibration error is known.

Each check looks at one property. Mistakes that change all values lose points where nothing is special.
"""

import random

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.ece_expectations import (
    answer,
    expect_known_gaps,
    expect_value,
    named,
    near,
    number,
    right_where_nothing_is_special,
)
from amllab.checks.knowledge_distillation.ece_tables import ROUGH, rows, setup_of, with_known_gaps
from amllab.kit.expectations import Call, printed, refuses, returned

pytestmark = pytest.mark.cell("check_calibration_error", section="Exercise 3: the calibration error")


def generator(rng: random.Random) -> torch.Generator:
    """Return a generator of PyTorch that starts at random."""
    return torch.Generator().manual_seed(rng.getrandbits(63))


@pytest.mark.points(1)
def test_calibration_error_is_one_number(submission, run_seed):
    """Returns one number, such as a Python `float`."""
    case = with_known_gaps(run_seed)[0]
    got = answer(submission, case.question, case.call)
    value = got["value"].get("value")
    many = 0 if value is None else value.numel()
    seen, symptom = "", ""
    if got["entries"] or got["type"] in ("tuple", "list"):
        seen, symptom = f"a {got['type']} with {len(got['entries'])} entries", "a tuple"
    elif value is None:
        seen = returned(got["type"], "the value")
        symptom = "nothing returned" if got["type"] == "NoneType" else "no number"
    elif many != 1:
        seen, symptom = f"a `{got['type']}` with {many} numbers", "several numbers"
    expect(
        not symptom,
        expected=f"`{case.call.text}` returns one number",
        seen=seen,
        why="the experiments print it, and compare models by it",
        symptom=symptom,
        reproduce=case.call.lines,
    )


@pytest.mark.points(2)
def test_groups_with_known_gaps(submission, run_seed):
    """The value is right for groups of examples whose confidence and accuracy are known, each in a bin of its own."""
    expect_known_gaps(submission, run_seed)


@pytest.mark.points(1)
def test_one_bin(submission, rng):
    """With a single bin, the value is the difference between accuracy and mean confidence."""
    cases, made = [], generator(rng)
    for low, many_low, high, right_high in ((0.25, 5, 0.93, 9), (0.4, 4, 0.87, 2)):
        confidences = [low + rng.uniform(-0.02, 0.02), high + rng.uniform(-0.02, 0.02)]
        sizes, right = [many_low, 10], [many_low, right_high]
        each = [confidences[0]] * many_low + [confidences[1]] * 10
        hits = [True] * many_low + [place < right_high for place in range(10)]
        logits, labels = rows(each, hits, 5, made)
        accuracy, confidence = sum(right) / len(each), sum(each) / len(each)
        # what more bins give: the two groups are apart
        apart = (many_low * (1 - confidences[0]) + 10 * abs(right_high / 10 - confidences[1])) / len(each)
        call = Call("expected_calibration_error(logits, labels, n_bins=1)", setup_of(confidences, sizes, right, 5))
        cases.append(({"logits": logits, "labels": labels, "n_bins": 1}, accuracy, confidence, apart, call))
    seen = [number(submission, question, call) for question, *_, call in cases]
    name = named(
        {name for name, value in (("more bins", apart), ("signed", a - c), ("signed", c - a)) if near(value, one)}
        for (_, a, c, apart, _), one in zip(cases, seen, strict=True)
    )
    said = {
        "more bins": ": this is the value with more bins: does `n_bins` have an effect?",
        "signed": ": this is the difference without absolute value",
    }
    for (_, accuracy, confidence, _, call), one in zip(cases, seen, strict=True):
        expect(
            near(abs(accuracy - confidence), one, ROUGH),
            expected=f"{abs(accuracy - confidence):.4f}: the accuracy is {accuracy:.4f}, the mean confidence {confidence:.4f}",
            seen=f"{one:.4f}{said.get(name, '')}",
            why="a single bin holds all examples; `n_bins` decides what is averaged before accuracy and confidence are compared",
            symptom=name or "another value",
            reproduce=call.lines,
        )


@pytest.mark.points(1)
def test_empty_bins(submission, rng, run_seed):
    """Bins without examples count nothing."""
    # two confidences, and more than right ones of each: other bins around them would give the same value
    confidences, sizes, right = [0.93 + rng.uniform(-0.01, 0.01), 0.97 + rng.uniform(-0.01, 0.01)], [6, 6], [1, 2]
    each = [confidence for confidence, size in zip(confidences, sizes, strict=True) for _ in range(size)]
    hits = [place < many for many, size in zip(right, sizes, strict=True) for place in range(size)]
    logits, labels = rows(each, hits, 4, generator(rng))
    call = Call("expected_calibration_error(logits, labels, n_bins=10)", setup_of(confidences, sizes, right, 4))
    expect_value(
        sum(each) / 12 - 3 / 12,
        number(submission, {"logits": logits, "labels": labels, "n_bins": 10}, call),
        call,
        right=right_where_nothing_is_special(submission, run_seed),
        words=f"all confidences are above 0.9, {sum(each) / 12:.4f} on average, 3 of 12 examples are right, and nine of ten "
        "bins are empty",
        why="a mean over no examples is NaN, and there are empty bins in all uses: no confidence is below 1 / classes",
        symptom="empty bins count",
    )


@pytest.mark.points(1)
def test_confidence_of_one(submission, rng, run_seed):
    """A confidence of exactly 1 belongs to the last bin."""
    low, middle, right = 0.27 + rng.uniform(-0.02, 0.02), 0.5 + rng.uniform(-0.02, 0.02), 4
    each = [low] * 4 + [middle] * 6 + [0.99] * 12
    hits = [True] * 3 + [False] + [True] * 5 + [False] + [True] * right + [False] * 8
    logits, labels = rows(each, hits, 6, generator(rng))
    # exp(-50) is lost in the sum of a softmax, in float32 and in float64: the largest probability is 1
    sure = logits.softmax(dim=1).amax(dim=1) > 0.9
    top = torch.nn.functional.one_hot(logits.argmax(dim=1), 6)
    logits = torch.where(sure[:, None], 50.0 * top, logits)
    setup = "logits = 50 * torch.nn.functional.one_hot(torch.arange(12) % 4, 4).float()\nlabels = torch.zeros(12, dtype=torch.long)"
    call = Call("expected_calibration_error(logits, labels, n_bins=3)", setup)
    wanted = (4 * (3 / 4 - low) + 6 * (5 / 6 - middle) + 12 * (1 - right / 12)) / 22
    seen = number(submission, {"logits": logits, "labels": labels, "n_bins": 3}, call)
    expect_value(
        wanted,
        seen,
        call,
        right=right_where_nothing_is_special(submission, run_seed),
        words=f"12 of 22 examples have a confidence of 1, and {right} of these are right",
        why="a network that is sure gives 1.0 in float32: without these examples, the worst errors are not counted",
        symptom="confidence of 1 lost",
    )


def expect_refusals(submission, cases, why):
    """Fail the check unless each call raises ``ValueError``; cases: what is wrong -> question, call."""
    refuses(
        {words: submission.ask("calibration_error", **question) for words, (question, _) in cases.items()},
        {words: call for words, (_, call) in cases.items()},
        why=why,
        printed=lambda words: printed(submission, "calibration_error", **cases[words][0]),
    )


@pytest.mark.points(1)
def test_refuses_no_bins(submission, rng):
    """`ValueError` for `n_bins < 1`."""
    logits, labels = rows([0.8] * 6, [True] * 4 + [False] * 2, 3, generator(rng))
    cases = {}
    for words, n_bins in (("zero", 0), ("negative", -rng.randint(1, 5))):
        short = f"n_bins={n_bins}"
        call = Call(
            f"expected_calibration_error(torch.randn(6, 3), torch.zeros(6, dtype=torch.long), {short})", short=short
        )
        cases[words] = ({"logits": logits, "labels": labels, "n_bins": n_bins}, call)
    expect_refusals(
        submission, cases, "without bins there is nothing to compare, and 0 would look like a perfect model"
    )


@pytest.mark.points(1)
def test_refuses_another_number_of_labels(submission, rng):
    """`ValueError` if there are not as many labels as rows of logits."""
    logits, labels = rows([0.8] * 6, [True] * 4 + [False] * 2, 3, generator(rng))
    cases = {}
    for words, many in (("too many labels", 9), ("too few labels", 4), ("one label", 1)):
        short = f"6 rows and {many} label{'s' * (many > 1)}"
        call = Call(
            f"expected_calibration_error(torch.randn(6, 3), torch.zeros({many}, dtype=torch.long))", short=short
        )
        cases[words] = ({"logits": logits, "labels": labels.repeat(2)[:many], "n_bins": 5}, call)
    expect_refusals(
        submission, cases, "a single label is compared with all rows, without any error, and gives a number"
    )
