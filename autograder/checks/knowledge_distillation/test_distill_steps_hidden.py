"""Hidden checks of exercise 2: the gradient of the loss, steps of optimizers, temperature, alpha and defaults."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.distill_batches import evaluations, likeness, trained_batches
from amllab.checks.knowledge_distillation.distill_runs import ASKED, PLAIN, TINY, Run, ask, question
from amllab.checks.knowledge_distillation.distill_symptoms import pairs_unknown
from amllab.checks.knowledge_distillation.test_distill import ONE_STEP, SIZES, WITHOUT, expect_descent
from autograder.checks.knowledge_distillation.distill_losses import losses_of, used, wrong_gradient

pytestmark = pytest.mark.cell("check_distill", section="Exercise 2: distill")

GRADIENTS = {
    "no batches": "a loss that does not compare the student with the teacher",
    "none": "no gradient reaches the student's logits",
    "some rows": "gradients for a part of the images",
    "reversed": "the gradient with the opposite sign: training goes up the loss",
    "another": "the gradient of another loss",
    "numbers": "another temperature or alpha for some batches than for the others",
}
STEPS = {
    "piled up": "gradients of the batches before are still in it: they were added up. Is `optimizer.zero_grad()` missing, or called too "
    "rarely?",
    "idle": "an optimizer steps while all gradients are zero or missing: are they cleared between `backward()` and the step?",
    "unused": "the gradients of the last batch are never used: does the optimizer step after `backward()`?",
    "twice": "a second step with the same gradient",
    "lost": "the gradients of some batches are cleared and never used: does the optimizer step after every batch?",
    "another gradient": "steps with a gradient that is not that of the batch",
    "some parameters": "no optimizer has some of the student's parameters",
}


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
    symptom = wrong_steps(run)
    expect(
        not symptom,
        expected="steps of all parameters of the student, with the gradient of their own batch",
        seen=STEPS.get(symptom, ""),
        why="a backward pass adds to the gradients that are there, and a step uses those that are there at that moment",
        symptom=symptom,
        reproduce=f"{run.call.setup}student[1].weight.register_post_accumulate_grad_hook(lambda p: print(p.grad.norm().item()))\n"
        f"{run.call.text}",
    )
    moved = {lr: distance(ask(submission, asked, {**PLAIN, "epochs": 2, "lr": lr})) for lr in (1e-4, 1e-2)}
    expect(
        # a line search finds its own length of a step, from several evaluations of a batch
        moved[1e-2] > 5 * moved[1e-4] or evaluations(run) > 2.5,
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {moved[1e-2]:.2g} and {moved[1e-4]:.2g} in two epochs: is `lr` what the optimizer gets?",
        why="a learning rate that is passed but not used makes every search for a good one pointless",
        symptom="learning rate ignored",
        reproduce=f"{run.call.setup}before = [p.detach().clone() for p in student.parameters()]\n{run.call.text}\n"
        "sum((a - b).norm() for a, b in zip(before, student.parameters()))  # compare with another lr",
    )
    given = ONE_STEP["temperature"], ONE_STEP["alpha"]
    expect_descent(submission, rng, lambda one: losses_of(one, *given)[0])


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
        used_, since, last = ([part[i] for part, own in zip(parts, owned, strict=True) if own] for parts in rows)
        if not any(owned):
            continue  # an optimizer of other parameters
        if not any(map(torch.any, used_)):
            if any(map(torch.any, since)):
                return "idle"
            continue  # a step without gradients, before the first backward pass, changes nothing
        if not any(map(torch.any, since)):
            return "twice"
        largest = max(float(gradient.norm()) for gradient in since)
        for u, s, t in zip(used_, since, last, strict=True):
            if s.norm() < 1e-3 * largest:
                continue
            # gradients that are clipped one by one keep their signs, and so roughly their direction
            if max(likeness(u, s), likeness(u, t)) < 0.4:
                return "another gradient"
            if not again and likeness(s, t) < 0.99 and likeness(u, t) > likeness(u, s):
                return "lost"
    if steps["taken"] and steps["unused"]:
        return "unused"
    before, after = run.before(), run.after()
    still = [name for name in before if torch.equal(before[name], after[name])]
    return "some parameters" if still else ""


def distance(run: Run) -> float:
    """Return how far a training has moved the weights of the student."""
    before, after = run.started, run.after()
    return float(torch.cat([(after[name] - before[name]).flatten().double() for name in before]).norm())


@pytest.mark.points(2)
@pytest.mark.needs("test_student_learns")
def test_numbers_and_defaults(submission, rng):
    """The loss gets `temperature` and `alpha`; without them, `epochs=10, lr=1e-3, temperature=4.0, alpha=0.9`."""
    asked = question(rng, (6, 4))
    # with some values of alpha, such as 0.8 for 4 classes, a loss of another size has the gradient of another alpha
    for temperature, alpha in ((rng.choice([0.57, 0.63]), 0.78), (rng.choice([2.4, 2.7]), 0.28)):
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
    own, wanted = distance(run), distance(named)
    expect(
        abs(own - wanted) <= 0.3 * wanted,
        expected="the steps of lr=0.001 if it is left out",
        seen=f"weights moved by {own:.2g} without lr, and by {wanted:.2g} with lr=0.001",
        why="experiments that name no learning rate are compared with each other",
        symptom="another default of lr",
        share=0.5,
        reproduce=run.call.lines,
    )
