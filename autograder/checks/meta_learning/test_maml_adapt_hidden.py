"""Hidden checks of exercise 3: networks of several kinds, compared with the reference and with themselves.

A wrong adaptation loses points where adapted parameters are compared with those of the reference. Gradients are
compared with what the submission's own adaptation does, so that they lose points only for mistakes of their own. Tasks
on which a call fails lose points for the adapted parameters, and do not count again.
"""

import random

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning import maml_steps
from amllab.checks.meta_learning.maml_nets import modules_of, shapes_of
from amllab.checks.meta_learning.maml_tasks import Task, normal, slopes_of, still, usable
from amllab.checks.meta_learning.test_maml_adapt import (
    NO_SLOPE,
    NOTHING,
    adapt,
    adapted,
    expect_first_order,
    expect_second_order,
    learned,
    moving,
    regression,
    symptom_of,
)
from amllab.kit.expectations import close, returns, some
from amllab.kit.snapshots import changes
from autograder.checks.meta_learning import maml_cases
from autograder.checks.meta_learning.maml_mistakes import GRAPHS, NEAR, SAYS, recognised

pytestmark = pytest.mark.cell("check_maml_adapt", section="Exercise 3: adapt by gradient descent")

# networks as a report calls them
CALLED = {
    "classifier": "a network of linear layers",
    "regression": "a small network for regression",
    "images": "a convolutional network",
    "branched": "a network with modules in modules, a skip connection and parameters of its own",
}


def is_right(reference, task, found):
    """Return whether adapted parameters are those of the reference."""
    wanted = reference.ask("adapt", **task.question())["adapted"]
    start = maml_steps.flat(task.state, task.state)
    return close(maml_steps.flat(wanted, wanted) - start, maml_steps.flat(found, wanted) - start)


def mistake(submission, run_seed):
    """Return the mistake that explains the adapted parameters of all tasks on which the call returns; empty if none does."""
    names = None
    for task in (*maml_cases.one_step(run_seed), *maml_cases.several_steps(run_seed)):
        got = submission.ask("adapt", **task.question())
        if got.get("adapted"):
            found = recognised(task, got["adapted"])
            names = found if names is None else names & found
    return min(names, default="") if names else ""


def expect_adapted(submission, reference, run_seed, tasks, *, why):
    """Fail the check unless the adapted parameters of all tasks are those of the reference."""
    for task in tasks:
        seen = adapted(submission, task)
        if is_right(reference, task, seen):
            continue
        wanted = reference.ask("adapt", **task.question())["adapted"]
        name, stays = mistake(submission, run_seed), still(task.state, seen)
        said = {**maml_steps.SAYS, **SAYS}.get(name) or (f"{some(stays)} stays where it was" if stays else "")
        wrong = max(wanted, key=lambda name: float((wanted[name] - seen[name]).abs().max()))
        place = (wanted[wrong] - seen[wrong]).abs().flatten().argmax()
        expect(
            False,
            expected=f"after `{task.call().text}` of {CALLED[task.net]}: {wanted[wrong].flatten()[place]:.4g} at a place "
            f"of `{wrong}` where it was {task.state[wrong].flatten()[place]:.4g}",
            seen=f"{seen[wrong].flatten()[place]:.4g}{': ' * bool(said)}{said}",
            why=why,
            symptom=symptom_of(name, stays),
            reproduce=task.printed(),
        )


@pytest.mark.points(2)
def test_one_step_of_networks(submission, reference, run_seed):
    """One step is right for networks of several kinds and for several losses."""
    why = (
        "every parameter takes the step, whatever the network is made of, down the gradient of the loss that was passed"
    )
    expect_adapted(submission, reference, run_seed, maml_cases.one_step(run_seed), why=why)


@pytest.mark.points(3)
def test_several_steps_of_networks(submission, reference, run_seed):
    """Several steps are right for networks of several kinds."""
    why = "each step is plain gradient descent on all examples, from where the step before ended"
    expect_adapted(submission, reference, run_seed, maml_cases.several_steps(run_seed), why=why)


def working(submission, tasks, **arguments):
    """Return the tasks, with arguments added, on which the call returns; the first one if it does on none."""
    given = [task.given(**arguments) for task in tasks]
    return [task for task in given if "error" not in submission.ask("adapt", **task.question())] or given[:1]


def expect_gradients(submission, reference, tasks, *, why):
    """Fail the check unless gradients pass through all steps, in all tasks on which the call returns."""
    measured = False
    for given in working(submission, tasks, first_order=False):
        task = moving(submission, given)
        got = learned(submission, task)
        known = GRAPHS if is_right(reference, task, got["adapted"]) else {}

        def recognise(slopes, task=task, known=known):
            name = next((name for name, of in known.items() if close(of(task), slopes, NEAR)), "")
            return name, SAYS.get(name, "")

        measured |= bool(expect_second_order(submission, task, got, why=why, recognise=recognise))
    if not measured:
        pytest.skip(NO_SLOPE)


@pytest.mark.points(1)
def test_gradients_through_one_step(submission, reference, run_seed):
    """The gradients of a loss after one step are right for every parameter of the model."""
    why = (
        "each parameter of the model takes part in the loss after the step: by itself, and by the gradient of the step"
    )
    expect_gradients(submission, reference, maml_cases.one_step(run_seed), why=why)


@pytest.mark.points(3)
def test_gradients_through_several_steps(submission, reference, run_seed):
    """The gradients of a loss after several steps pass through all of them."""
    why = "a step that counts as a constant hides how the model's parameters change where it leads"
    expect_gradients(submission, reference, maml_cases.several_steps(run_seed), why=why)


@pytest.mark.points(2)
def test_first_order_of_networks(submission, run_seed):
    """First-order gradients are right after several steps, and the adapted parameters are the same as without."""
    for task in working(submission, maml_cases.several_steps(run_seed), first_order=True):
        got = learned(submission, task)
        expect_first_order(submission, task, got)
        other = adapted(submission, task.given(first_order=False))
        differing = [name for name in other if not close(other[name], got["adapted"][name])]
        expect(
            not differing,
            expected=f"the same adapted parameters after `{task.call().text}` as with `first_order=False`",
            seen=f"other values of {some(differing)}",
            why="first-order MAML changes the gradient of the outer loop, and not the steps",
            symptom="other parameters with first_order",
            reproduce=task.printed(),
        )


def left(submission, task, training, earlier):
    """Return what a call leaves behind; skip the check if no parameter was adapted."""
    question = {"state": task.state, "training": training, "earlier": earlier, **task.shared()}
    got = returns(submission.ask("left", **question), task.call())
    if not usable(got, task.state):
        pytest.skip(NOTHING)
    return got


@pytest.mark.points(1)
def test_earlier_gradients_stay(submission, rng):
    """Gradients that the model already has stay as they are, bit for bit; PyTorch goes on recording gradients."""
    task = regression(rng, steps=2, lr=0.1)
    earlier = {name: normal(rng, *shape) for name, shape in shapes_of(task.net).items()}
    got = left(submission, task, modules_of(task.net), earlier)
    expect(
        not got["gradients"] and got["gradients_enabled"],
        expected="the gradients that the parameters had before the call",
        seen=f"another `.grad` of {some(got['gradients'])}" if got["gradients"] else "gradients are turned off",
        why="an outer loop adds up the gradients of several tasks before its optimizer takes a step",
        symptom="earlier gradients changed" if got["gradients"] else "gradients turned off",
        reproduce=task.call().lines,
    )


def branched(rng, net):
    """Return a task for a network with dropout, or for the same network without."""
    state, data = maml_cases.weights_near_usual(rng, "branched"), (normal(rng, 6, 3), normal(rng, 6, 2))
    return Task(net, state, *data, {}, "F.mse_loss", {"steps": 2, "lr": 0.1}, rng.getrandbits(31))


@pytest.mark.points(1)
def test_modes_stay(submission, rng):
    """Each module comes back in the mode in which it came, train or eval, and is used in it."""
    modules = modules_of("branched, with dropout")
    dropout = next(name for name in modules if name.endswith("second.1"))
    body = [name for name in modules if name.startswith("body")]
    seed = rng.random()
    for training in (
        [name for name in modules if name not in body],
        [name for name in body if name != dropout],
        [],
    ):
        with_dropout, without = (branched(random.Random(seed), net) for net in ("branched, with dropout", "branched"))
        got = left(submission, with_dropout, training, {})
        modes = changes(got["before"], got["after"]).get("modes", [])
        expect(
            not modes,
            expected="each module in the mode in which it came",
            seen=f"another mode of {some([name or 'model' for name in modes])}",
            why="the caller decides on the mode, which may differ from module to module",
            symptom="modes changed",
            reproduce=with_dropout.call().lines,
        )
        plain = left(submission, without, training, {})["adapted"]
        wrong = [name for name, tensor in plain.items() if not close(tensor, got["adapted"][name])]
        expect(
            not wrong,
            expected="the same adapted parameters with and without dropout, where the dropout is in eval mode",
            seen=f"other values of {some(wrong)}",
            why="the caller decides on the mode of the model, also for the time of the call",
            symptom="used in another mode",
            reproduce=with_dropout.call().lines,
        )


@pytest.mark.points(1)
def test_defaults(submission, rng):
    """Arguments that are left out are `steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False`."""
    task = maml_cases.classification(rng)
    explicit = task.given(steps=1, lr=0.01, first_order=False)
    learned(submission, moving(submission, explicit))
    short, full = adapt(submission, task), adapt(submission, explicit)
    if not short["adapted"] or not full["adapted"]:
        pytest.skip(NOTHING)
    same = all(close(full["adapted"][name] - at, short["adapted"][name] - at) for name, at in task.state.items())
    order = close(slopes_of(full["gradients"], task), slopes_of(short["gradients"], task))
    expect(
        same and order,
        expected=f"the same results of `{task.call().text}` and `{explicit.call().text}`",
        seen="other gradients" if same else "other adapted parameters",
        why="the contract gives these defaults",
        symptom="another default of first_order" if same else "another default",
        reproduce=task.printed(),
    )
