"""Hidden checks of exercise 2: logits, losses and gradients on random embeddings, compared with the reference.

Support and query come by class, with equal numbers: the public checks have taken points if that is taken for granted.
The gradients of a wrong loss are compared with how that very loss changes, so that they lose points only for mistakes
of their own.
"""

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning import prototype_tables
from amllab.checks.meta_learning.test_prototypical_loss import (
    answer,
    call,
    logits_of,
    loss_of,
)
from amllab.kit.expectations import TOLERANCE, close, some
from autograder.checks.meta_learning import prototype_cases
from autograder.checks.meta_learning.prototype_mistakes import FEW_DIGITS, NEAR, recognised

pytestmark = pytest.mark.cell("check_prototypical_loss", section="Exercise 2: prototypes")

EMBEDDINGS = ("support", "query")
# changes of a number by which gradients are measured: one so small that it crosses no kink of a loss, and one for losses
# that are computed in float32 whatever comes in
STEPS = (1e-6, 3e-4)
ROUGH_STEP = 1e-2  # where float64 does not work
FEW = 30 * NEAR  # largest difference of gradients with few digits, relative
GROSS = 0.2  # largest difference of losses in special cases, relative: few digits lose points elsewhere
MEASURED = 0.05  # largest difference from measured gradients, relative
SAYS = {
    "prototypes are sums": "with these prototypes: sums of the support, not means",
    "prototypes are the first rows": "with these prototypes: the first row of each class alone",
    "prototypes are the last rows": "with these prototypes: the last row of each class alone",
    "prototypes are medians": "with these prototypes: medians of the support",
    "prototypes are the largest numbers": "with these prototypes: the largest numbers of the support",
    "prototypes by the wrong axis": "with these prototypes: means over rows of different classes",
    "prototypes of support and query": "with these prototypes: means of support and query together",
    "prototypes of the query": "with these prototypes: means of the query",
    "prototypes are unit vectors": "with these prototypes: means that are divided by their lengths",
    "label smoothing": "this is the loss with smoothed labels",
    FEW_DIGITS: "about right, with few digits: is something computed in half precision?",
}


def called(case):
    """Return the call on embeddings of these sizes, as a student reads it."""
    numbers = [case[f"{name}_labels"].bincount().tolist() for name in EMBEDDINGS]
    return call(*numbers, d=case["support"].shape[1])


def said(name):
    """Return what a report says about a mistake, to follow what was seen."""
    text = {**prototype_tables.SAYS, **SAYS}.get(name, "")
    return f": {text}" if text else ""


def expect_like_reference(submission, reference, run_seed, part, read):
    """Fail the check unless losses (part 0) or logits (part 1) are those of the reference."""
    cases = prototype_cases.usual(run_seed)
    seen = [read(answer(submission, case, called(case))) for case in cases]
    wanted = [read(answer(reference, case, called(case))) for case in cases]
    wrong = [i for i in range(len(cases)) if not close(wanted[i], seen[i])]
    if not wrong:
        return
    first, name = wrong[0], recognised(cases, part, seen)
    if part == 0 and name == FEW_DIGITS:
        logits = [logits_of(answer(submission, case, called(case))) for case in cases]
        # digits that are missing in the logits lose points there, however many are left in the loss
        if recognised(cases, 1, logits) == FEW_DIGITS:
            return
    what = "the loss" if part == 0 else "the logits"
    fits = wanted[first].shape == seen[first].shape
    expect(
        False,
        expected=f"{what} of random embeddings: here {_some_numbers(wanted[first])}",
        seen=(_some_numbers(seen[first]) if fits else f"shape {tuple(seen[first].shape)}") + said(name),
        why="it decides what the network learns, and nothing else would show that it is wrong",
        symptom=name or ("other values" if fits else "another shape"),
        reproduce=called(cases[first]).lines,
    )


def _some_numbers(tensor):
    return ", ".join(f"{value:.4g}" for value in tensor.flatten()[:3].tolist()) + ", ..." * (tensor.numel() > 3)


@pytest.mark.points(2)
def test_logits_of_random_embeddings(submission, reference, run_seed):
    """Logits of random embeddings are minus the squared distances to the means of the support."""
    expect_like_reference(submission, reference, run_seed, 1, logits_of)


@pytest.mark.points(2)
def test_loss_of_random_embeddings(submission, reference, run_seed):
    """The loss of random embeddings is right."""
    expect_like_reference(submission, reference, run_seed, 0, loss_of)


def learned(submission, case, **more):
    """Return the answer with the gradients of the loss; skip the check if there is no loss."""
    got = answer(submission, case, called(case), learning=True, **more)
    loss_of(got)
    return got


def reached(gradients):
    """Return the names of the embeddings that a gradient reaches."""
    return [name for name in EMBEDDINGS if name in gradients and gradients[name].any()]


def measured(submission, run_seed):
    """Return answers with gradients and with slopes: how much the loss changes with each number."""
    case = prototype_cases.small(run_seed)
    exact = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in case.items()}
    answers = [submission.ask("prototypes", **exact, learning=True, step=step) for step in STEPS]
    # float64 may not work, which loses points elsewhere
    return [learned(submission, case, step=ROUGH_STEP)] if "error" in answers[0] else answers


def right_losses(submission, reference, run_seed):
    """Return whether the losses of the usual cases are right."""
    cases = prototype_cases.usual(run_seed)
    losses = [[loss_of(answer(one, case, called(case))) for case in cases] for one in (reference, submission)]
    return all(close(wanted, seen, NEAR) for wanted, seen in zip(*losses, strict=True))


@pytest.mark.points(3)
def test_gradients_reach_support_and_query(submission, reference, run_seed):
    """Gradients of the loss reach support and query."""
    case = prototype_cases.usual(run_seed)[1]
    found, needed = reached(learned(submission, case)["gradients"]), EMBEDDINGS
    if not right_losses(submission, reference, run_seed):
        # a wrong loss, which has lost points already, need not depend on both
        needed = reached(measured(submission, run_seed)[-1]["slopes"]) or EMBEDDINGS
    shown = called(case)
    expect(
        set(needed) <= set(found),
        expected="gradients of support and query, after `backward()` of the loss",
        seen=f"gradients of {some(found, 'neither')}",
        why="one network makes both: without a gradient of the prototypes, half of what it should learn is missing",
        symptom=f"gradients of {' and '.join(found) or 'neither'}",
        reproduce=f"{shown.setup}\nsupport.requires_grad_(), query.requires_grad_()\n{shown.text}[0].backward()",
    )


@pytest.mark.points(3)
def test_gradients_are_those_of_the_loss(submission, reference, run_seed):
    """The gradients of support and query are those of the loss."""
    cases = prototype_cases.usual(run_seed)
    seen = [learned(submission, case) for case in cases]
    if not any(reached(got["gradients"]) for got in seen):
        pytest.skip("gradients of support or query")
    if right_losses(submission, reference, run_seed):
        wanted = [learned(reference, case)["gradients"] for case in cases]
        compared = [(case, got, [one], TOLERANCE) for case, got, one in zip(cases, seen, wanted, strict=True)]
    else:
        # another loss has other gradients: its own
        answers = measured(submission, run_seed)
        compared = [(prototype_cases.small(run_seed), answers[0], [one["slopes"] for one in answers], MEASURED)]
    for case, got, wanted, tolerance in compared:
        many = got["loss"]["loss"].numel() if tolerance == TOLERANCE else 1
        for name in reached(got["gradients"]):
            found = got["gradients"][name] / many
            expect(
                any(close(one[name], found, tolerance) for one in wanted),
                expected=f"the gradient of `{name}` that the loss has: here {_some_numbers(wanted[0][name])}",
                seen=_some_numbers(found),
                why="every step of the training follows this gradient: a part that is cut off never learns",
                symptom=FEW_DIGITS if close(wanted[0][name], found, FEW) else f"another gradient of the {name}",
                reproduce=called(case).lines,
            )


@pytest.mark.points(1)
def test_finite_numbers(submission, reference, run_seed):
    """Loss and gradients are finite numbers for large distances, and for queries that lie on a prototype."""
    right = right_losses(submission, reference, run_seed)
    cases = {
        "squared distances in the thousands": prototype_cases.far(run_seed),
        "a query on a prototype": prototype_cases.touching(run_seed),
    }
    for words, case in cases.items():
        got = learned(submission, case)
        broken = ["the loss"] * (not bool(loss_of(got).isfinite()))
        broken += [f"the gradient of `{name}`" for name, g in got["gradients"].items() if not g.isfinite().all()]
        expect(
            not broken,
            expected=f"finite numbers for {words}",
            seen=f"not finite: {', '.join(broken)}",
            why="exp(-1000) is 0 in float32, and its logarithm is infinite; a single NaN ends a training",
            symptom=f"not finite for {words}",
            reproduce=called(case).lines,
        )
        wanted = loss_of(answer(reference, case, called(case)))
        expect(
            not right or close(wanted, loss_of(got), GROSS),
            expected=f"a loss of {wanted:.4g}, for {words}",
            seen=f"{loss_of(got):.4g}",
            why="a probability that is rounded to 0, or has a number added to it, says nothing about a distance",
            symptom=f"another loss for {words}",
            reproduce=called(case).lines,
        )


@pytest.mark.points(1)
def test_sizes_and_dtypes(submission, reference, run_seed):
    """Works for one query, one class, many classes, embeddings of one number, and in float64."""
    right = right_losses(submission, reference, run_seed)
    usual = prototype_cases.usual(run_seed)[0]
    # another shape in all cases has lost points already
    other_shape = logits_shape(answer(submission, usual, called(usual))) != shape_of(usual)
    for words, case in prototype_cases.sizes(run_seed).items():
        got = answer(submission, case, called(case))
        wanted = loss_of(answer(reference, case, called(case)))
        expect(
            # another loss has lost points already; that of one class is 0, up to rounding
            not right or abs(wanted - loss_of(got)) <= GROSS * max(abs(wanted), 0.1),
            expected=f"a loss of {wanted:.4g}, for {words}",
            seen=f"{loss_of(got):.4g}",
            why="episodes come in all sizes",
            symptom=f"wrong for {words}",
            reproduce=called(case).lines,
        )
        shape, wanted = logits_shape(got), shape_of(case)
        expect(
            not shape or other_shape or shape == wanted,
            expected=f"logits of shape {wanted}, for {words}",
            seen=f"shape {shape}",
            why="rows are queries and columns are classes, however many there are",
            symptom=f"logits of another shape for {words}",
            reproduce=called(case).lines,
        )


def logits_shape(got):
    """Return the shape of the logits of an answer; empty if there are none."""
    return tuple(got["logits"]["logits"].shape) if got["logits"] else ()


def shape_of(case):
    """Return the shape that the logits of a case should have."""
    return len(case["query"]), int(case["support_labels"].max()) + 1
