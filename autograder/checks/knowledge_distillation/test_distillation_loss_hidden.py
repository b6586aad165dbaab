"""Hidden checks of exercise 1: values and gradients on random logits, compared with the reference.

A loss with a known mistake loses points for its value. In the other checks it is compared with that very loss, and its
gradients with how it changes, so that it loses points only for mistakes of their own.
"""

import random

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.loss_calls import (
    NO_VALUE,
    call,
    expect_rows_without_label,
    number_of,
    partly_labelled,
    question,
    value,
)
from amllab.kit.expectations import TOLERANCE, close, returns
from amllab.seeds import derive
from autograder.checks.knowledge_distillation import loss_cases
from autograder.checks.knowledge_distillation.loss_mistakes import (
    CROSS_ENTROPY,
    FEW_DIGITS,
    NEAR,
    SAYS,
    explains,
    formula,
    without_label,
)

pytestmark = pytest.mark.cell("check_distillation_loss", section="Exercise 1: the distillation loss")

STUDENT, TEACHER = "student_logits", "teacher_logits"
# changes of a number by which gradients are measured: one for float64, and one for losses that are computed in float32
STEPS = (1e-5, 3e-3)
FEW = 0.03  # largest difference of gradients with few digits, relative
MEASURED = 0.05  # largest difference from measured gradients, relative
GROSS = 0.1  # largest difference of losses in special cases, relative: few digits lose points elsewhere


def values(submission, cases):
    """Return the losses of some cases."""
    return tuple(float(value(submission, *case)) for case in cases)


def mistake(submission, run_seed):
    """Return the mistake in the loss where all rows have a label: empty for none, ``None`` for one that is not known."""
    return loss_cases.mistake(run_seed, values(submission, loss_cases.usual(run_seed)))


def as_known_without_labels(submission, run_seed):
    """Return whether a loss that is known is so, too, where some rows have no label: if not, that has lost points."""
    cases, name = loss_cases.partly(run_seed), mistake(submission, run_seed)
    answers = [submission.ask("loss", **question(*case)) for case in cases]
    if name is None or any("error" in got for got in answers):
        return False
    numbers = [float(number_of(got)) for got in answers]
    few = name == FEW_DIGITS
    return explains("" if few else name, cases, numbers, GROSS if few else NEAR)


def said(name):
    """Return what a report says about these mistakes, to follow what was seen; empty if nothing."""
    texts = [SAYS[part] for part in (name or "").split("; ") if part in SAYS]
    return f": {'; and '.join(texts)}" if texts else ""


def expected_of(name, reference, case):
    """Return the loss with a known mistake, or that of the reference if there is none."""
    return number_of(reference.ask("loss", **question(*case))) if name in ("", FEW_DIGITS) else formula(name)(*case)


@pytest.mark.points(3)
def test_values_of_random_logits(submission, reference, run_seed):
    """The loss is right for random logits with a label for each row, at several temperatures and weights."""
    cases = loss_cases.usual(run_seed)
    seen, wanted = values(submission, cases), values(reference, cases)
    wrong = [i for i in range(len(cases)) if not close(torch.tensor(wanted[i]), torch.tensor(seen[i]))]
    name = mistake(submission, run_seed)
    if not wrong or name == CROSS_ENTROPY:
        return
    shown = call(*cases[wrong[0]])
    expect(
        False,
        expected=f"the loss of random logits, such as `{shown.text}`: here {wanted[wrong[0]]:.4g}",
        seen=f"{seen[wrong[0]]:.4g}{said(name)}",
        why="with another loss the student learns something else, and no error says so",
        symptom=name or "another loss",
        reproduce=shown.lines,
    )


@pytest.mark.points(2)
def test_values_without_labels(submission, reference, run_seed):
    """The loss is right where some rows have no label, or none has one."""
    name = mistake(submission, run_seed)
    if name in (None, FEW_DIGITS):
        rng = random.Random(derive(run_seed, "relations of distillation_loss"))
        for n, k, rows in ((6, 3, (0, 1, 4)), (5, 4, (3,))):
            expect_rows_without_label(submission, *partly_labelled(rng, n, k, rows), 2.5, 0.5)
        return
    cases = (*loss_cases.partly(run_seed), loss_cases.unlabelled(run_seed))
    seen = values(submission, cases)
    other = without_label(name, cases[:-1], seen[:-1])
    for case, number in zip(cases, seen, strict=True):
        wanted = expected_of(name, reference, case)
        expect(
            close(wanted, torch.tensor(number).double(), NEAR),
            expected=f"a loss of {wanted:.4g}, where {int((case[2] < 0).sum())} of {len(case[2])} labels are -1",
            seen=f"{number:.4g}{said(other)}",
            why="all examples count in the teacher's part, and those with a label alone in the labels' part",
            symptom=other or "another loss without labels",
            reproduce=call(*case).lines,
        )


def learned(submission, case, *names):
    """Return the gradients of these logits; of the mean if several numbers were returned."""
    got = returns(
        submission.ask("loss", **question(*case), learning=list(names)),
        call(*case),
        more=", in the call or in `backward()`",
    )
    if number_of(got) is None:
        pytest.skip(NO_VALUE)
    many = got["value"]["value"].numel()
    return {name: gradient / many for name, gradient in got["gradients"].items()}


def reaches(gradients, name):
    """Return whether a gradient reaches logits."""
    return name in gradients and bool(gradients[name].any())


def measured(submission, case):
    """Return the gradient of a case in double precision, and what it should be, as measured in several ways."""
    exact = (case[0].double(), case[1].double(), *case[2:])
    answers = [submission.ask("loss_slopes", **question(*exact), step=step) for step in STEPS]
    if any("error" in got for got in answers):
        # float64 may not work
        exact, answers = case, [submission.ask("loss_slopes", **question(*case), step=STEPS[-1])]
    slopes = [returns(got, call(*case))["slopes"][STUDENT] for got in answers]
    return learned(submission, exact, STUDENT).get(STUDENT), slopes


@pytest.mark.points(3)
def test_gradient_of_the_student(submission, reference, run_seed):
    """The gradient of the student's logits is that of the loss."""
    cases = loss_cases.usual(run_seed)
    name = mistake(submission, run_seed)
    right = name in ("", FEW_DIGITS, CROSS_ENTROPY)
    if right and as_known_without_labels(submission, run_seed):
        cases = (*cases, *loss_cases.partly(run_seed))
    found = [learned(submission, case, STUDENT).get(STUDENT) for case in cases]
    expect(
        any(gradient is not None and gradient.any() for gradient in found),
        expected=f"a gradient of `student_logits`, after `backward()` of `{call(*cases[0]).text}`",
        seen="none" if all(gradient is None for gradient in found) else "a gradient of zeros",
        why="the student learns by this gradient alone",
        symptom="no gradient of the student",
        reproduce=f"{call(*cases[0]).setup}\nstudent_logits.requires_grad_()\n{call(*cases[0]).text}.backward()",
    )
    if right:
        wanted = [[learned(reference, case, STUDENT)[STUDENT]] for case in cases]
        tolerance = FEW if name == FEW_DIGITS else TOLERANCE
    like_reference = right and all(
        gradient is not None and close(one, gradient, tolerance) for gradient, (one,) in zip(found, wanted, strict=True)
    )
    # a loss that is about right may be another one
    if not right or (name == FEW_DIGITS and not like_reference):
        # another loss has another gradient: its own
        cases = (loss_cases.small(run_seed),)
        own, slopes = measured(submission, cases[0])
        found, wanted, tolerance = [own], [slopes], MEASURED
    for case, gradient, possible in zip(cases, found, wanted, strict=True):
        gradient = torch.zeros_like(case[0]) if gradient is None else gradient
        expect(
            any(close(one, gradient, tolerance) for one in possible),
            expected=f"the gradient of `student_logits` that the loss has, for `{call(*case).text}`",
            seen=f"another gradient{_part_without_gradient(case, gradient) if name == '' else ''}",
            why="every step of the training follows this gradient: a part that is cut off never learns",
            symptom="another gradient of the student",
            reproduce=call(*case).lines,
        )


def _part_without_gradient(case, gradient):
    """Return which part of the loss a gradient leaves out, to follow what was seen; empty if that is not known."""
    for name, part in (("no labels' part", "labels'"), ("no teacher's part", "teacher's")):
        if close(formula(name).gradient(*case), gradient, NEAR):
            return f": that of a loss whose {part} part is a constant"
    return ""


@pytest.mark.points(2)
def test_no_gradient_of_the_teacher(submission, run_seed):
    """No gradient reaches the teacher's logits, also if they require one."""
    some = loss_cases.partly(run_seed)[:1] if as_known_without_labels(submission, run_seed) else ()
    for case in (loss_cases.usual(run_seed)[0], *some):
        found = learned(submission, case, STUDENT, TEACHER)
        if not reaches(found, STUDENT):
            pytest.skip("a gradient of the student's logits")
        expect(
            not reaches(found, TEACHER),
            expected=f"no gradient of `teacher_logits`, after `backward()` of `{call(*case).text}`",
            seen="a gradient of `teacher_logits`",
            why="the student follows the teacher: a teacher that learns would come to meet it, and be none any more",
            symptom="a gradient of the teacher",
            reproduce=f"{call(*case).setup}\nteacher_logits.requires_grad_()\nstudent_logits.requires_grad_()\n"
            f"{call(*case).text}.backward()\nprint(teacher_logits.grad)",
        )


@pytest.mark.points(1)
def test_large_logits(submission, reference, run_seed):
    """Loss and gradient are finite numbers, and right, for logits from -1000 to 1000."""
    name = mistake(submission, run_seed)
    as_known = as_known_without_labels(submission, run_seed)
    for case in loss_cases.extreme(run_seed):
        if not as_known:
            # what happens to -1 has lost points already
            case = (*case[:2], case[2].clamp(min=0), *case[3:])
        seen = value(submission, *case)
        gradient = learned(submission, case, STUDENT).get(STUDENT)
        finite = bool(seen.isfinite()), gradient is None or bool(gradient.isfinite().all())
        expect(
            all(finite),
            expected=f"finite numbers for logits of 1000 and -1000, at a temperature of {case[3]:g}",
            seen=f"a loss of {seen:.4g}" if not finite[0] else "a gradient that is not finite",
            why="exp(-2000) is 0 in float32: its logarithm is infinite, and 0 times that is NaN, which ends a training",
            symptom="not finite" if not finite[0] else "gradient not finite",
            reproduce=call(*case).lines.replace("torch.randn", "1000 * torch.randn"),
        )
        if name is None:
            continue
        wanted = expected_of(name, reference, case)
        expect(
            not wanted.isfinite() or close(wanted, seen, GROSS if name == FEW_DIGITS else NEAR),
            expected=f"a loss of {wanted:.4g}, for logits of 1000 and -1000 at a temperature of {case[3]:g}",
            seen=f"{seen:.4g}",
            why="a probability that is rounded to 0, or has a number added to it, does not say how far it is from another one",
            symptom="another loss of large logits",
            reproduce=call(*case).lines.replace("torch.randn", "1000 * torch.randn"),
        )


@pytest.mark.points(1)
def test_defaults(submission, run_seed):
    """Arguments that are left out are `temperature=4.0, alpha=0.9`."""
    logits = loss_cases.usual(run_seed)[1][:3]
    for left_out, explicit in (((), (4.0, 0.9)), ((2.5,), (2.5, 0.9))):
        seen, wanted = (value(submission, *logits, *numbers) for numbers in (left_out, explicit))
        expect(
            close(wanted, seen),
            expected=f"a loss of {wanted:.4g}, as with `temperature={explicit[0]:g}, alpha={explicit[1]:g}`",
            seen=f"{seen:.4g}",
            why="the contract gives these defaults",
            symptom="other defaults",
            reproduce=call(*logits, *left_out).lines,
        )


@pytest.mark.points(1)
def test_sizes_and_whole_numbers(submission, reference, run_seed):
    """Works for one example, two classes, many of both, and for temperatures and weights without a decimal point."""
    name = mistake(submission, run_seed)
    as_known = as_known_without_labels(submission, run_seed)
    for words, case in loss_cases.sizes(run_seed).items():
        missing = bool((case[2] < 0).any())
        if missing and not as_known:
            continue  # what happens to -1 has lost points already
        seen = value(submission, *case)
        if name is None:
            continue
        wanted = expected_of(name, reference, case)
        expect(
            close(wanted, seen, GROSS if name == FEW_DIGITS else NEAR),
            expected=f"a loss of {wanted:.4g}, for {words}",
            seen=f"{seen:.4g}",
            why="batches come in all sizes: the last one of a pass may have a single image",
            symptom=f"wrong for {words}",
            reproduce=call(*case).lines,
        )
