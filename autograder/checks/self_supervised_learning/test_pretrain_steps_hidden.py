"""Hidden checks of exercise 2: gradients of both views, steps of optimizers, temperature and defaults."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.self_supervised_learning.pretrain_batches import evaluations, likeness, presented
from amllab.checks.self_supervised_learning.pretrain_runs import (
    PLAIN,
    TINY,
    Run,
    ask,
    question,
    wrong_views,
)
from amllab.checks.self_supervised_learning.test_pretrain import ONE_STEP, expect_descent
from autograder.checks.self_supervised_learning.pretrain_losses import (
    LIKE,
    loss_of,
    temperatures,
    wrong_gradient,
)

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
STEPS = {
    "piled up": "gradients of the batches before are still in it: they were added up. Is `optimizer.zero_grad()` missing, or called too "
    "rarely?",
    "idle": "an optimizer steps while all gradients are zero or missing: are they cleared between `backward()` and the step?",
    "unused": "the gradients of the last batch are never used: does the optimizer step after `backward()`?",
    "twice": "a second step with the same gradient",
    "lost": "the gradients of some batches are cleared and never used: does the optimizer step after every batch?",
    "another gradient": "steps with a gradient that is not that of the batch",
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
    symptom = wrong_steps(run)
    clear = f"{run.call.setup}" + (
        "encoder[1].weight.register_post_accumulate_grad_hook(lambda p: print(p.grad.norm().item()))\n" + run.call.text
    )
    expect(
        not symptom,
        expected="steps with the gradient of their own batch",
        seen=STEPS.get(symptom, ""),
        why="a backward pass adds to the gradients that are there, and a step uses those that are there at that moment",
        symptom=symptom,
        reproduce=clear,
    )
    moved = {lr: distance(ask(submission, asked, {"epochs": 2, "lr": lr})) for lr in (1e-4, 1e-2)}
    expect(
        # a line search finds its own length of a step, from several evaluations of a batch
        moved[1e-2] > 5 * moved[1e-4] or evaluations(run) > 2.5,
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {moved[1e-2]:.2g} and {moved[1e-4]:.2g} in two epochs: is `lr` what the optimizer gets?",
        why="a learning rate that is passed but not used makes every search for a good one pointless",
        symptom="learning rate ignored",
        reproduce=f"{run.call.setup}before = [p.detach().clone() for p in encoder.parameters()]\n{run.call.text}\n"
        "sum((a - b).norm() for a, b in zip(before, encoder.parameters()))  # compare with another lr",
    )
    expect_descent(submission, rng, lambda one: loss_of(one, ONE_STEP["temperature"]))


def wrong_steps(run: Run) -> str:
    """Return the symptom of wrong steps; empty if each uses the gradient of its own batch."""
    steps = run.got["steps"]
    if steps["piled_up"]:
        return "piled up"
    sizes = steps["sizes"]
    # of several evaluations of a batch, the last one may be what counts
    again = evaluations(run) > 1.5
    rows = [steps[name].split(sizes, dim=1) for name in ("used", "since", "last")] if len(steps["owned"]) else []
    for i, owned in enumerate(steps["owned"].tolist()):
        used, since, last = ([part[i] for part, own in zip(parts, owned, strict=True) if own] for parts in rows)
        if not any(map(torch.any, used)):
            if any(map(torch.any, since)):
                return "idle"
            continue  # a step without gradients, before the first backward pass, changes nothing
        if not any(map(torch.any, since)):
            return "twice"
        largest = max(float(gradient.norm()) for gradient in since)
        for u, s, t in zip(used, since, last, strict=True):
            if s.norm() < 1e-3 * largest:
                continue
            # gradients that are clipped one by one keep their signs, and so roughly their direction
            if max(likeness(u, s), likeness(u, t)) < 0.4:
                return "another gradient"
            if not again and likeness(s, t) < 0.99 and likeness(u, t) > likeness(u, s):
                return "lost"
    return "unused" if steps["taken"] and steps["unused"] else ""


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
    own, named = distance(run), distance(ask(submission, asked, {"lr": 1e-3}))
    expect(
        abs(own - named) <= 0.3 * named,
        expected="the steps of lr=0.001 if it is left out",
        seen=f"weights moved by {own:.2g} without lr, and by {named:.2g} with lr=0.001",
        why="experiments that name no learning rate are compared with each other",
        symptom="another default of lr",
        share=0.5,
        reproduce=run.call.lines,
    )


def temperature_of(run: Run, given: float) -> str:
    """Return the temperature that was used instead of the given one, in words; empty if it is the given one.

    Nothing is said about a training that compares nothing, which is charged elsewhere.
    """
    if run.got["compared"]:
        used = [done["temperature"] for done in run.got["compared"]]
        return next((f"{number:.4g}" for number in used if abs(number - given) > 1e-6), "")
    batches = presented(run)
    alike = {
        name: min(one.likeness(loss_of(one, number)) for one in batches)
        for name, number in temperatures(given).items()
        if batches
    }
    best = max(alike, key=alike.__getitem__, default="")
    return best if batches and alike[best] > max(LIKE, alike[""]) else ""
