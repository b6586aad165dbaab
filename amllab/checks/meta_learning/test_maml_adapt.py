"""Public checks of exercise 3, ``maml_adapt``: networks so small that adapted weights are known without the function.

Adapted parameters are checked in one part of the checks, gradients of a loss after the adaptation in another one. The
latter are compared with what the submission's own adaptation does, whether its steps are right or not.
"""

import math

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning.maml_nets import modules_of
from amllab.checks.meta_learning.maml_steps import SAYS, flat, line, single_steps, two_layers
from amllab.checks.meta_learning.maml_tasks import (
    constant_steps,
    directions,
    measured_slopes,
    regression,
    same_slopes,
    slopes_of,
    still,
    usable,
)
from amllab.kit import symptoms
from amllab.kit.expectations import Call, close, printed, refuses, returned, returns, some, unchanged
from amllab.kit.snapshots import changes

pytestmark = pytest.mark.cell("check_maml_adapt", section="Exercise 3: adapt by gradient descent")

NOTHING = "adapted parameters of the model"
NO_SLOPE = "an adaptation whose result changes smoothly with the parameters of the model"


def adapt(submission, task):
    """Return the answer to a call of ``maml_adapt``; fail the check if it raised an error."""
    return returns(submission.ask("adapt", **task.question()), task.call())


def adapted(submission, task):
    """Return the adapted parameters; fail the check if the call raised an error, skip it if there are none."""
    found = adapt(submission, task)["adapted"]
    if not found:
        pytest.skip(NOTHING)
    return found


def numbers(tensors):
    """Return parameters as text, for a report."""
    return ", ".join(
        f"`{name}`: {[round(number, 4) for number in tensor.flatten().tolist()]}" for name, tensor in tensors.items()
    )


def symptom_of(name, stays):
    """Return the symptom of wrong parameters: a known mistake, or whether some parameters stay where they were."""
    return name or ("parameters that stay" if stays else "other parameters")


@pytest.mark.points(2)
def test_adapted_by_name(submission, rng):
    """Returns a dictionary with an adapted tensor for each parameter of the model, under its name there."""
    task = regression(rng, steps=1, lr=0.1)
    got = adapt(submission, task)
    called, names = task.call(), some(list(task.state), most=10)
    seen = returned(got["type"], "adapted")
    if got["names"]:
        seen = f"a dictionary with the names {some(got['names'], most=10)}"
        if not got["lacking"] and got["misshapen"]:
            seen = f"tensors of another shape or dtype for {some(got['misshapen'])}"
    kind = "another shape or dtype" if got["misshapen"] else "names missing" if got["names"] else "no dictionary"
    expect(
        got["names"] and not got["lacking"] and not got["misshapen"],
        expected=f"`{called.text}` returns a dictionary with tensors for {names}",
        seen=seen,
        why="`torch.func.functional_call(model, adapted, (x,))` looks up each parameter of the model by its name",
        symptom="nothing returned" if got["type"] == "NoneType" else kind,
        reproduce=called.lines,
    )


@pytest.mark.points(3)
def test_one_step(submission, rng):
    """One step moves each parameter down the gradient of the loss, by `lr` times the gradient."""
    task = two_layers(rng)
    ends, seen = single_steps(task), adapted(submission, task)
    name = next((name for name, end in ends.items() if close(flat(end, ends[""]), flat(seen, ends[""]))), None)
    stays = still(task.state, seen) if name is None else []
    said = f": {some(stays)} stays where it was" if stays else f": {SAYS[name]}" if name else ""
    expect(
        name == "",
        expected=f"after `{task.call().text}`: {numbers(ends[''])}, from {numbers(task.state)}",
        seen=numbers(seen) + said,
        why="gradient descent subtracts `lr` times the gradient from every parameter of the model",
        symptom=symptom_of(name, stays),
        reproduce=task.printed(),
    )


@pytest.mark.points(2)
def test_several_steps(submission, rng):
    """Each step starts where the step before ended, and uses the gradient there."""
    task, ends = line(rng)
    seen = adapted(submission, task)["weight"].item()
    name = next((name for name, end in ends.items() if math.isclose(end, seen, rel_tol=1e-5, abs_tol=1e-5)), None)
    expect(
        name == "",
        expected=f"a weight of {ends['']:.4g} after `{task.call().text}`, from {task.state['weight'].item():.4g}",
        seen=f"{seen:.4g}" + (f": {SAYS[name]}" if name else ""),
        why="with the gradients of other places, or another number of steps, the adaptation ends somewhere else",
        symptom=name or "another weight",
        reproduce=task.printed(),
    )


def learned(submission, task):
    """Return the answer with the gradients of the query loss; skip the check if no parameter was adapted."""
    got = adapt(submission, task)
    if not usable(got, task.state):
        pytest.skip(NOTHING)
    return got


def moving(submission, task):
    """Return the task, with one step more if the parameters do not move yet: that has lost points elsewhere."""
    more = task.given(steps=task.arguments["steps"] + 1)
    return task if usable(adapt(submission, task), task.state) else more


@pytest.mark.points(1)
def test_no_steps(submission, rng):
    """`steps=0` gives the parameters of the model."""
    task = regression(rng, steps=0, lr=0.3)
    got = adapt(submission, task)
    if not got["adapted"]:
        pytest.skip(NOTHING)
    moved = [name for name in task.state if not close(task.state[name], got["adapted"][name])]
    # a function whose results never have gradients has lost points elsewhere
    cut_off = not got["gradients"] and bool(adapt(submission, task.given(steps=1))["gradients"])
    expect(
        not moved and not cut_off,
        expected="the parameters themselves after 0 steps, or equal tensors through which gradients reach them",
        seen=f"other values of {some(moved)}" if moved else "tensors through which no gradient reaches the model",
        why="the curve of a loss over the number of steps starts with 0 steps",
        symptom="moved without a step" if moved else "no gradient without a step",
        reproduce=task.differentiated(),
    )


def fail_gradients(got, task, slopes, *, expected, why, symptom="", says=""):
    """Fail the check: the gradients of a query loss say others than these slopes; ``expected`` says of what they are."""
    found, along = slopes_of(got["gradients"], task), directions(task)
    lacking = [name for name in along if name not in got["gradients"]]
    i = int((found - slopes).abs().nan_to_num(-1).argmax())
    name = list(along)[i]
    seen = f"{found[i]:.4g} by the gradients of the model{': ' * bool(says)}{says}"
    if got["problem"]:
        seen, symptom = f"the backward pass failed: {got['problem']}", "no backward pass"
    elif len(lacking) == len(along):
        seen, symptom = (
            "no gradient reaches the model: the adapted tensors are not computed from its parameters",
            "no gradient",
        )
    elif lacking and not symptom:
        seen, symptom = f"no gradient reaches {some(lacking)}", "some without gradient"
    expect(
        False,
        expected=f"a slope of {slopes[i]:.4g}, in a random direction of `{name}`, {expected}",
        seen=seen,
        why=why,
        symptom=symptom or "other gradients",
        reproduce=task.differentiated(),
    )


FIRST_ORDER = (
    "this is the gradient for the adapted parameters, as with `first_order=True`: here each step counts as a constant"
)


def expect_second_order(submission, task, got, *, why, recognise=lambda slopes: ("", "")):
    """Fail the check unless the gradients of the query loss are its slopes; return whether it has any.

    ``recognise`` returns symptom and words for the slopes that wrong gradients say.
    """
    slopes = measured_slopes(submission, task)
    if same_slopes(slopes, slopes_of(got["gradients"], task)):
        return not slopes.isnan().all()
    constant = bool(got["gradients"]) and constant_steps(got, task)
    symptom, says = ("first order", FIRST_ORDER) if constant else recognise(slopes_of(got["gradients"], task))
    return fail_gradients(
        got,
        task,
        slopes,
        expected=f"of a loss after `{task.call().text}`, as small changes of the model's parameters show it",
        why=why,
        symptom=symptom,
        says=says,
    )


@pytest.mark.points(3)
def test_gradient_through_the_step(submission, rng):
    """A loss after the adaptation has gradients for the model's parameters, and these pass through the step."""
    task = moving(submission, regression(rng, steps=1, lr=round(rng.uniform(0.2, 0.3), 2), first_order=False))
    why = "meta-learning changes the parameters so that a step from there leads to a small loss: this gradient says how"
    if not expect_second_order(submission, task, learned(submission, task), why=why):
        pytest.skip(NO_SLOPE)


def expect_first_order(submission, task, got):
    """Fail the check unless the model's parameters get the gradients of the adapted ones."""
    if got["gradients"] and constant_steps(got, task):
        return
    second = learned(submission, task.given(first_order=False))["gradients"]
    ignored = bool(second) and close(slopes_of(second, task), slopes_of(got["gradients"], task))
    fail_gradients(
        got,
        task,
        slopes_of(got["constants"], task),
        expected=f"of a loss after `{task.call().text}`, as the gradient for the adapted parameters gives it",
        why="first-order MAML saves the second derivatives: its gradient for the model is the one for the adapted parameters",
        symptom="first_order ignored" if ignored else "",
        says="the same gradient as with `first_order=False`" if ignored else "",
    )


@pytest.mark.points(2)
def test_first_order(submission, rng):
    """With `first_order=True`, the model's parameters get the gradient of the adapted ones."""
    task = moving(submission, regression(rng, steps=1, lr=round(rng.uniform(0.2, 0.3), 2), first_order=True))
    expect_first_order(submission, task, learned(submission, task))


@pytest.mark.points(2)
def test_model_stays(submission, rng):
    """The model is left alone: its values, its `.grad`, what requires gradients; so are the data."""
    task = regression(rng, steps=2, lr=0.1)
    more = {"training": modules_of(task.net), "earlier": {}}
    got = returns(submission.ask("left", state=task.state, **task.shared(), **more), task.call())
    if not usable(got, task.state):
        pytest.skip(NOTHING)
    changed = changes(got["before"], got["after"])
    changed.pop("modes", None)
    words = {"values": "values", "gradients": "`.grad`", "requires_grad": "`requires_grad`"}
    texts = [f"{words[what]} of {some(names)}" for what, names in changed.items()]
    if got["replaced"]:
        texts.append(f"the parameters {some(got['replaced'])}, which are other objects now")
    expect(
        not texts,
        expected="a model with the same parameters, the same values and no `.grad` after the call",
        seen=f"changed: {'; '.join(texts)}",
        why="the next task starts from the same model, and the outer loop alone trains it",
        symptom=symptoms.join(*(f"changed {what}" for what in changed), "replaced" * bool(got["replaced"])),
        reproduce=task.call("print([(p, p.grad) for p in model.parameters()])").lines,
    )
    unchanged(got["data"], Call(task.call().text, task.call().setup), why="the task belongs to the caller")


@pytest.mark.points(1)
def test_refuses_negative_steps(submission, rng):
    """`ValueError` for `steps < 0`."""
    numbers = {"one step less than none": -1, "several steps less": -rng.randint(2, 9)}
    tasks = {words: regression(rng, steps=steps, lr=0.1) for words, steps in numbers.items()}
    refuses(
        {words: submission.ask("adapt", **task.question()) for words, task in tasks.items()},
        {
            words: Call(task.call().text, task.call().setup, short=f"`steps={numbers[words]}`")
            for words, task in tasks.items()
        },
        why="a loop over `range(-1)` takes no step, and says nothing",
        printed=lambda words: printed(submission, "adapt", **tasks[words].question()),
    )
