"""Hidden checks of exercise 2: gradients of both views, steps of optimizers, temperature and defaults."""

from functools import partial

import pytest
import torch

from amllab.checks import expect
from amllab.checks.self_supervised_learning.pretrain_batches import evaluations, presented
from amllab.checks.self_supervised_learning.pretrain_runs import (
    PLAIN,
    Run,
    ask,
    question,
    wrong_views,
)
from amllab.checks.self_supervised_learning.test_pretrain import ONE_STEP, expect_descent
from amllab.kit.trainings import TINY
from autograder.checks.self_supervised_learning.pretrain_losses import (
    loss_of,
    nt_xent,
    temperatures,
    wrong_gradient,
)
from autograder.kit.loss_means import closest
from autograder.kit.step_symptoms import expect_default_lr, expect_lengths, expect_own_gradients, wrong_steps

pytestmark = pytest.mark.cell("check_pretrain", section="Exercise 2: pretraining without labels")

NETS = ("encoder", "projector")
GRADIENTS = {
    "without the projector": "a loss that is not of the projector's outputs",
    "no two views": "a loss that does not compare two views of every image",
    "none": "no gradient reaches the projector's outputs",
    "some images": "gradients for a part of the images",
    "one view": "gradients for one of the two views alone: is the other one detached, or computed without gradients?",
    "reversed": "the gradient with the opposite sign: training goes up the loss",
    "another": "the gradient of another loss than that of the two views",
    "none in the encoder": "no gradient reaches the encoder: are its outputs detached before the projector gets them?",
    "another in the encoder": "another gradient in the encoder than the one that comes through the projector: does a second loss use its outputs?",
    "one view in the encoder": "gradients for one of the two views alone in the encoder: is the other one computed without?",
}


@pytest.mark.points(2)
@pytest.mark.needs("test_encoder_learns")
def test_gradients_of_both_views(submission, rng):
    """Gradients of the loss reach both views, through the projector and through the encoder."""
    run = ask(submission, question(rng, (6, 4)), {**PLAIN, "lr": TINY})
    symptom = wrong_gradient(run, PLAIN["temperature"])
    if wrong_views(run) and (symptom == "no two views" or (not run.got["compared"] and run.of("projector"))):
        return  # charged elsewhere: which views belong together is not known
    expect(
        not symptom,
        expected="the gradient of the loss of both views, at the outputs of the projector and of the encoder",
        seen=GRADIENTS.get(symptom, ""),
        why="both views go through the same networks, which learn from both",
        symptom=f"gradients: {symptom}",
        reproduce=f"{run.call.setup}projector.register_forward_hook(lambda net, inputs, z: z.register_hook(lambda g: print(g)) and None)\n"
        f"{run.call.text}  # the gradients of the projector's outputs, one row for each view",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_encoder_learns")
def test_steps(submission, rng):
    """Each step goes down the gradient of its own batch, and is as large as `lr` says."""
    asked = question(rng, (6, 4))
    run = ask(submission, asked, {"epochs": 3, "lr": 1e-2, "temperature": 0.5})
    times = evaluations(run)
    expect_own_gradients(wrong_steps(run.got["steps"], times), run.call, "encoder")
    moved = {lr: distance(ask(submission, asked, {"epochs": 2, "lr": lr})) for lr in (1e-4, 1e-2)}
    expect_lengths(moved, run.call, "encoder", times)
    expect_descent(submission, rng, lambda one: loss_of(one, ONE_STEP["temperature"]))


def distance(run: Run) -> float:
    """Return how far a training has moved the weights that it started with."""
    started = {f"{net}.{name}": value for net in NETS for name, value in run.before(net).items()} | run.got["started"]
    parts = [run.got["final"][name] - value for name, value in started.items()]
    return float(torch.cat([part.flatten().double() for part in parts]).norm())


@pytest.mark.points(2)
@pytest.mark.needs("test_encoder_learns")
def test_temperature_and_defaults(submission, rng):
    """`temperature` is what the loss gets; arguments that are left out are `epochs=10, lr=1e-3, temperature=0.5`."""
    asked = question(rng, (6, 4))
    for given in (round(rng.uniform(0.25, 0.4), 2), round(rng.uniform(0.7, 0.9), 2)):
        run = ask(submission, asked, {"epochs": 2, "lr": TINY, "temperature": given})
        used = temperature_of(run, given)
        expect(
            used == "",
            expected=f"a loss with temperature={given:g}",
            seen=f"a loss with another temperature than that: {used}",
            why="the temperature decides how much the most similar of the other images count",
            symptom="another temperature",
            reproduce=run.call.lines,
        )
    # an epoch more or less is charged elsewhere, and so are the same views in several epochs
    more = run.epochs_run - run.epochs
    run = ask(submission, asked, {})
    expect(
        temperature_of(run, 0.5) == "",
        expected="a loss with temperature=0.5 if it is left out",
        seen=f"a loss with another temperature: {temperature_of(run, 0.5)}",
        why="experiments that name no temperature are compared with each other",
        symptom="another default of temperature",
        share=0.5,
        reproduce=run.call.lines,
    )
    expect(
        run.epochs_run - more == 10 or len(run.losses or []) == 10,
        expected="10 epochs if their number is left out",
        seen=f"{run.epochs_run} epochs",
        why="experiments that name no number of epochs are compared with each other",
        symptom="another default of epochs",
        share=0.5,
        reproduce=run.call.lines,
    )
    expect_default_lr(distance(run), distance(ask(submission, asked, {"lr": 1e-3})), run.call)


def temperature_of(run: Run, given: float) -> str:
    """Return the temperature that was used instead of the given one, in words; empty if it is the given one.

    Nothing is said about a training that compares nothing, which is charged elsewhere.
    """
    if run.got["compared"]:
        used = [done["temperature"] for done in run.got["compared"]]
        return next((f"{number:.4g}" for number in used if abs(number - given) > 1e-6), "")
    return closest(presented(run), {name: partial(nt_xent, temperature=t) for name, t in temperatures(given).items()})
