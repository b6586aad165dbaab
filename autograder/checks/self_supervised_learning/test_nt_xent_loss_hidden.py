"""Hidden checks of exercise 1: values and gradients on random views, compared with the reference.

A loss with a known mistake loses points for its value. Its gradients are then compared with those of that very loss, so
that they lose points only for mistakes of their own. A loss that is right up to a factor has lost points in the public
checks.
"""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning import test_nt_xent_loss as public
from amllab.checks.self_supervised_learning.test_nt_xent_loss import NO_VALUE, call, loss, number_of, value
from amllab.kit.expectations import TOLERANCE, close, returns, some
from autograder.checks.self_supervised_learning import loss_cases
from autograder.checks.self_supervised_learning.loss_mistakes import (
    DETACHED,
    FACTORS,
    FEW_DIGITS,
    NEAR,
    ROUGH,
    SAYS,
    formula,
)

pytestmark = pytest.mark.cell("check_nt_xent_loss", section="Exercise 1: the contrastive loss")

NO_FORMULA = "a loss that is right, or has a usual mistake"


def called(case):
    """Return a call on views of these sizes."""
    return call(*case[0].shape, case[2])


def values(submission, run_seed):
    """Return the losses of the usual cases."""
    return [value(submission, case[:2], case[2], called(case)) for case in loss_cases.usual(run_seed)]


def mistake(submission, run_seed):
    """Return the mistake in the loss: empty for none, ``None`` for one that is not known."""
    return loss_cases.mistake(run_seed, tuple(map(float, values(submission, run_seed))))


def said(name):
    """Return what a report says about these mistakes, to follow what was seen; empty if nothing."""
    known = {**public.SAYS, **SAYS}
    texts = [known[part] for part in (name or "").split("; ") if part in known]
    return f": {'; and '.join(texts)}" if texts else ""


@pytest.mark.points(4)
def test_value(submission, reference, run_seed):
    """The loss is right for random views, at temperatures from 0.1 to 3."""
    cases, seen = loss_cases.usual(run_seed), values(submission, run_seed)
    wanted = [number_of(loss(reference, case[:2], case[2])) for case in cases]
    wrong = [i for i in range(len(cases)) if not close(wanted[i], seen[i])]
    name = mistake(submission, run_seed)
    if not wrong or name in FACTORS:
        return
    # few digits lose points with the gradients
    few_digits = name in ("", FEW_DIGITS) and other_gradients(submission, reference, run_seed, "")
    shown = called(cases[wrong[0]])
    expect(
        few_digits,
        expected=f"the loss of two random views, such as `{shown.text}`: here {wanted[wrong[0]]:.4g}",
        seen=f"{seen[wrong[0]]:.4g}{said(name)}",
        why="with another loss the network learns something else, and no error says so",
        symptom=name or "another loss",
        reproduce=shown.lines,
    )


def learned(submission, case):
    """Return the gradients of both views; of the mean if several numbers were returned."""
    got = returns(
        loss(submission, case[:2], case[2], learning=True), called(case), more=", in the call or in `backward()`"
    )
    if number_of(got) is None:
        pytest.skip(NO_VALUE)
    many = got["value"]["value"].numel()
    return {name: gradient / many for name, gradient in got["gradients"].items()}


def reached(gradients):
    """Return the names of the views that a gradient reaches."""
    return [name for name, gradient in sorted(gradients.items()) if gradient.any()]


@pytest.mark.points(3)
def test_gradients_reach_both_views(submission, run_seed):
    """Gradients reach both views."""
    case = loss_cases.usual(run_seed)[1]
    found = reached(learned(submission, case))
    expect(
        len(found) == 2,
        expected=f"gradients of `z1` and `z2`, after `backward()` of `{called(case).text}`",
        seen=f"gradients of {some(found, 'neither')}",
        why="the network learns from the views that a gradient reaches: from both, since each has to find the other",
        symptom=f"gradients of {' and '.join(found) or 'neither view'}",
        reproduce=f"z1, z2 = torch.randn(2, {len(case[0])}, {case[0].shape[1]}, requires_grad=True)\n{called(case).text}.backward()",
    )


def other_gradients(submission, reference, run_seed, name):
    """Return the first case with another gradient than that of a loss, and the view; ``None`` if there is none.

    Views that no gradient reaches lose points elsewhere.
    """
    for case in loss_cases.usual(run_seed):
        found = learned(submission, case)
        wanted = (
            formula(name).gradients(*case) if name else loss(reference, case[:2], case[2], learning=True)["gradients"]
        )
        for view in reached(found):
            if not close(wanted[view], found[view], NEAR if name else TOLERANCE):
                return case, view
    return None


@pytest.mark.points(3)
def test_gradients_of_the_loss(submission, reference, run_seed):
    """The gradients of both views are those of the loss."""
    name = mistake(submission, run_seed)
    if not reached(learned(submission, loss_cases.usual(run_seed)[1])):
        pytest.skip("gradients of at least one view")
    if name is None:
        pytest.skip(NO_FORMULA)
    name = "" if name == FEW_DIGITS else name
    other = other_gradients(submission, reference, run_seed, name)
    if other is None:
        return
    case, view = other
    explained = DETACHED if name == "" else ()
    symptom = next((d for d in explained if other_gradients(submission, reference, run_seed, d) is None), "")
    found = learned(submission, case)[view]
    if not symptom and close(formula(name).gradients(*case)[view], found, ROUGH):
        symptom = FEW_DIGITS
    expect(
        False,
        expected=f"gradients of the loss, for `{called(case).text}`",
        seen=f"another gradient of `{view}`" + said(symptom),
        why="every step of the training follows this gradient: a part that is cut off never learns",
        symptom=symptom or "other gradients",
        reproduce=called(case).lines,
    )


@pytest.mark.points(2)
def test_low_temperature(submission, reference, run_seed):
    """Loss and gradients are finite numbers down to a temperature of 0.01."""
    case, name = loss_cases.cold(run_seed), mistake(submission, run_seed)
    opposite = call(*case[0].shape, case[2], text="z, -z", setup=f"z = torch.randn{tuple(case[0].shape)}")
    seen = value(submission, case[:2], case[2], called(case))
    gradients = learned(submission, case)
    broken = [f"the gradient of `{view}`" for view, gradient in gradients.items() if not gradient.isfinite().all()]
    expect(
        seen.isfinite() and not broken,
        expected=f"finite numbers at a temperature of {case[2]:g}, where the views of two images are opposite",
        seen=f"a loss of {seen:.4g}" if not seen.isfinite() else f"not finite: {', '.join(broken)}",
        why=f"similarities are divided by {case[2]:g}: exp(100) has no value in float32, and one NaN ends a training",
        symptom="not finite" if not seen.isfinite() else "gradients not finite",
        reproduce=opposite.lines,
    )
    if name is None:
        return
    wanted = formula(name)(*case) if name else number_of(loss(reference, case[:2], case[2]))
    expect(
        close(wanted, seen, ROUGH),
        expected=f"a loss of {wanted:.4g}, where the views of two images are opposite",
        seen=f"{seen:.4g}",
        why="a probability that is rounded to 0, or has a number added to it, says nothing about how far away the other view is",
        symptom="other value at a low temperature",
        reproduce=opposite.lines,
    )


@pytest.mark.points(1)
def test_default_temperature(submission, run_seed):
    """Without a temperature, it is 0.5."""
    first, second, _ = loss_cases.usual(run_seed)[0]
    wanted, seen = (value(submission, (first, second), number, call(*first.shape, number)) for number in (0.5, None))
    expect(
        close(wanted, seen),
        expected=f"the same loss with and without `temperature=0.5`: {wanted:.4g}",
        seen=f"{seen:.4g}",
        why="the contract gives this default",
        symptom="another default",
        reproduce=call(*first.shape, None).lines,
    )


@pytest.mark.points(1)
def test_few_and_many_rows(submission, reference, run_seed):
    """Works for two images, for many, and for rows of a single number."""
    name = mistake(submission, run_seed)
    if name is None:
        pytest.skip(NO_FORMULA)
    for words, case in loss_cases.sizes(run_seed).items():
        seen = value(submission, case[:2], case[2], called(case))
        # other values have lost points already
        wanted = seen if name not in ("", FEW_DIGITS) else number_of(loss(reference, case[:2], case[2]))
        expect(
            close(wanted, seen, ROUGH),
            expected=f"a loss of {wanted:.4g}, for {words}",
            seen=f"{seen:.4g}",
            why="two images are the smallest batch, and large batches have more negatives",
            symptom=f"wrong for {words}",
            reproduce=called(case).lines,
        )
