"""Hidden checks of exercise 2: the gradient of the loss, steps of optimizers, temperature, alpha and defaults."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.distill_batches import evaluations, trained_batches
from amllab.checks.knowledge_distillation.distill_runs import ASKED, PLAIN, Run, ask, question
from amllab.checks.knowledge_distillation.distill_symptoms import pairs_unknown
from amllab.checks.knowledge_distillation.test_distill import ONE_STEP, SIZES, WITHOUT, expect_descent
from amllab.kit.trainings import TINY
from autograder.checks.knowledge_distillation.distill_losses import losses_of, used, wrong_gradient
from autograder.kit.step_symptoms import STEPS, expect_default_lr, expect_lengths, expect_own_gradients, wrong_steps

pytestmark = pytest.mark.cell("check_distill", section="Exercise 2: distill")

GRADIENTS = {
    "no batches": "a loss that does not compare the student with the teacher",
    "none": "no gradient reaches the student's logits",
    "some rows": "gradients for a part of the images",
    "reversed": "the gradient with the opposite sign: training goes up the loss",
    "another": "the gradient of another loss",
    "numbers": "another temperature or alpha for some batches than for the others",
}
OF_THE_STUDENT = {**STEPS, "some parameters": "no optimizer has some of the student's parameters"}


@pytest.mark.points(1)
@pytest.mark.needs("test_student_learns")
def test_gradient_of_the_loss(submission, rng):
    """What comes back to the student is the gradient of the distillation loss, for images with and without a label."""
    run = ask(submission, question(rng, SIZES, unlabelled=WITHOUT), {**PLAIN, "lr": TINY, "alpha": 0.7})
    if not run.answers:
        pytest.skip(f"waits for this check: {ASKED}")
    symptom = wrong_gradient(run)
    if pairs_unknown(run):
        return  # charged elsewhere: which rows belong together is not known
    symptom = symptom or ("numbers" if other_numbers(run) else "")
    expect(
        not symptom,
        expected="the gradient of the distillation loss at the logits of the student",
        seen=GRADIENTS.get(symptom, ""),
        why="the student learns what this gradient says, whatever loss is printed",
        symptom=f"gradients: {symptom}",
        reproduce=f"{run.call.setup}student.register_forward_hook(lambda net, inputs, z: z.register_hook(lambda g: print(g)) and None)\n"
        f"{run.call.text}  # the gradients of the student's logits, one row for each image",
    )


def other_numbers(run: Run) -> bool:
    """Return whether the batches of an epoch got several temperatures or alphas; wrong ones are charged elsewhere."""
    seen: dict[int, set[tuple[float, float]]] = {}
    for one in trained_batches(run):
        if one.lent:
            seen.setdefault(one.epoch, set()).add((one.lent["temperature"], one.lent["alpha"]))
    return any(len(found) > 1 for found in seen.values())


@pytest.mark.points(2)
@pytest.mark.needs("test_student_learns")
def test_steps_of_the_student(submission, rng):
    """Each step goes down the gradient of its own batch, and is as large as `lr` says."""
    asked = question(rng, (6, 4))
    run = ask(submission, asked, {**PLAIN, "lr": 1e-2})
    times = evaluations(run)
    symptom = wrong_steps(run.got["steps"], times)
    if not symptom and any(torch.equal(value, run.after()[name]) for name, value in run.before().items()):
        symptom = "some parameters"
    everything = "steps of all parameters of the student,"
    expect_own_gradients(symptom, run.call, "student", steps=everything, texts=OF_THE_STUDENT)
    moved = {lr: distance(ask(submission, asked, {**PLAIN, "epochs": 2, "lr": lr})) for lr in (1e-4, 1e-2)}
    expect_lengths(moved, run.call, "student", times)
    given = ONE_STEP["temperature"], ONE_STEP["alpha"]
    expect_descent(submission, rng, lambda one: losses_of(one, *given)[0])


def distance(run: Run) -> float:
    """Return how far a training has moved the weights of the student."""
    before, after = run.started, run.after()
    return float(torch.cat([(after[name] - before[name]).flatten().double() for name in before]).norm())


@pytest.mark.points(2)
@pytest.mark.needs("test_student_learns")
def test_numbers_and_defaults(submission, rng):
    """The loss gets `temperature` and `alpha`; without them, `epochs=10, lr=1e-3, temperature=4.0, alpha=0.9`."""
    asked = question(rng, (6, 4))
    # with some numbers, a part of the loss that lacks a factor, such as the squared temperature, has the gradient of one
    # of the alphas that are tried; with these, the alphas are at least 0.01 apart
    for temperature, alpha in ((rng.choice([0.57, 0.7]), 0.78), (rng.choice([2.4, 2.7]), 0.28)):
        numbers = {"temperature": temperature, "alpha": alpha}
        run = ask(submission, asked, {"epochs": 2, "lr": TINY, **numbers})
        if not run.answers:
            pytest.skip(f"waits for this check: {ASKED}")
        seen = used(run)
        expect(
            seen == "",
            expected=f"a loss with temperature={numbers['temperature']:g} and alpha={numbers['alpha']:g}",
            seen=f"a loss with other numbers: {seen}. The order of the arguments is temperature, alpha",
            why="the temperature says how soft the teacher's answers are, alpha how much they count against the labels",
            symptom="another temperature or alpha",
            reproduce=run.call.lines,
        )
    # what is wrong with numbers that are given is charged elsewhere
    named = ask(submission, asked, {"epochs": 10, "lr": 1e-3, "temperature": 4.0, "alpha": 0.9})
    run = ask(submission, asked, {})
    expect(
        used(run) == "",
        expected="a loss with temperature=4 and alpha=0.9 if they are left out",
        seen=f"a loss with other numbers: {used(run)}",
        why="experiments that name neither are compared with each other",
        symptom="other defaults of temperature and alpha",
        share=0.5,
        reproduce=run.call.lines,
    )
    ran = len(run.epochs_run)
    expect(
        ran == len(named.epochs_run) and len(run.losses or []) == len(named.losses or []),
        expected="10 epochs if their number is left out",
        seen=f"{ran} epochs without, and {len(named.epochs_run)} with epochs=10",
        why="experiments that name no number of epochs are compared with each other",
        symptom="another default of epochs",
        share=0.5,
        reproduce=run.call.lines,
    )
    expect_default_lr(distance(run), distance(named), run.call)
