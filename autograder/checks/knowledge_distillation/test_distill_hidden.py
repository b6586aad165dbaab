"""Hidden checks of exercise 2: the reported losses, and the teacher afterwards.

What lost points in the public checks does not lose them again.
"""

import math

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.distill_batches import trained_batches
from amllab.checks.knowledge_distillation.distill_probes import gradient_of, hooks_of, settings_of, teacher_of
from amllab.checks.knowledge_distillation.distill_runs import (
    ASKED,
    PLAIN,
    ask,
    call,
    question,
    wait_for_training,
    watch,
)
from amllab.checks.knowledge_distillation.distill_symptoms import pairs_unknown, wrong_views
from amllab.checks.knowledge_distillation.test_distill import SIZES, TEACHER, WITHOUT
from amllab.kit.expectations import some, unchanged
from amllab.kit.loss_history import RETURNS
from amllab.kit.snapshots import changes, snapshot
from amllab.kit.state_dicts import values_changed
from amllab.kit.trainings import TINY
from autograder.checks.knowledge_distillation.distill_losses import OTHER_MEANS, losses_of, reported
from autograder.kit.loss_means import expect_means, way_of

pytestmark = pytest.mark.cell("check_distill", section="Exercise 2: distill")

# how the teacher comes -> its modules in train mode, and lines that make it so
CAME = {
    "in eval mode": ([], "teacher.eval()\n"),
    "in train mode": (TEACHER, "teacher.train()\n"),
    # a part that is sent to train mode or to eval mode as a whole would not be in these modes
    "in part in train mode": (["", "body", "body.0", "body.3"], "teacher.train()\nteacher[2].eval()  # BatchNorm\n"),
}
FROZEN = ["body.0.weight"]
FREEZE = "for p in teacher[1].parameters():\n    p.requires_grad = False\n"


def came_back(submission, rng, modes):
    """Return the distillation with a teacher that comes in these modes, what it was before, and the call."""
    training, setup = CAME[modes]
    asked = question(rng, (6, 4), teacher_in_train=training, teacher_frozen=FROZEN)
    run = ask(submission, asked, {**PLAIN, "lr": 1e-2})
    if not run.answers:
        wait_for_training(run)
    return run, teacher_of(asked["teacher"], training, FROZEN), call(asked, run.arguments, before=FREEZE + setup)


@pytest.mark.points(2)
def test_teacher_bit_for_bit(submission, rng):
    """The teacher comes back bit for bit, the statistics of BatchNorm included, with the same layers and hooks."""
    for modes in CAME:
        run, before, made = came_back(submission, rng, modes)
        changed = values_changed(snapshot(before)["state"], run.got["teacher"]["state"])
        statistics = [name for name in changed if "running" in name or "tracked" in name]
        drifted = statistics == changed
        unchanged(
            changed,
            made,
            expected=f"a teacher that comes {modes} and goes with the same parameters and buffers, bit for bit",
            more=". In train mode, BatchNorm updates its running statistics at each batch, also without gradients"
            if drifted
            else "",
            why="a teacher that changes while it teaches gives other answers from batch to batch, and to the next student",
            symptom="teacher's statistics drift" if drifted else "teacher's values changed",
        )
        settings, hooks = settings_of(before), hooks_of(before)
        expect(
            run.got["settings"] == settings,
            expected="the same modules of the teacher with the same settings afterwards",
            seen="a module that was replaced, or a setting that was changed, such as the rate of dropout",
            why="the teacher is used further, as it was built",
            symptom="teacher's settings changed",
            share=0.5,
            reproduce=f"{made.lines}\nteacher",
        )
        expect(
            run.got["hooks"] == hooks,
            expected="the hooks of its owner on the teacher, and no others",
            seen="hooks were added and not removed" if run.got["hooks"] > hooks else "hooks were removed",
            why="a hook that stays behind runs at each further call of the teacher; one that is missing was there for a reason",
            symptom="teacher's hooks left" if run.got["hooks"] > hooks else "teacher's hooks removed",
            share=0.5,
            reproduce=f"{made.lines}\n[len(module._forward_hooks) for module in teacher.modules()]",
        )


@pytest.mark.points(2)
def test_teacher_modes_come_back(submission, rng):
    """Every module of the teacher is in the mode in which it came, train or eval."""
    for modes in CAME:
        run, before, made = came_back(submission, rng, modes)
        if run.got["settings"] != settings_of(before):
            return  # modules that were replaced have lost points
        other = changes(snapshot(before), run.got["teacher"]).get("modes", [])
        left = sorted({name in run.got["teacher"]["training"] for name in other})
        uniform = modes != "in part in train mode"
        what = "train mode" if left == [True] else "eval mode" if left == [False] else "the other mode"
        expect(
            not other,
            expected=f"a teacher that comes {modes} and goes as it came",
            seen=f"{len(other)} modules in {what} that were not: {some([name or '(the teacher)' for name in other])}"
            + ("" if uniform else ". Is the mode of the teacher set again, which sets that of all its modules?"),
            why="the owner of the teacher may train it further: in eval mode BatchNorm and dropout do nothing for it, and what was "
            "frozen on purpose must not be thawed",
            symptom="teacher: one mode for all" if not uniform else f"teacher left in {what}",
            share=0.0 if uniform else 0.5,
            reproduce=f"{made.lines}\n[(name, module.training) for name, module in teacher.named_modules()]",
        )


@pytest.mark.points(1)
def test_teacher_flags_and_gradients(submission, rng):
    """The teacher's parameters require gradients as before, and have the gradients that they came with."""
    run, before, made = came_back(submission, rng, "in eval mode")
    if run.got["settings"] != settings_of(before):
        return  # modules that were replaced have lost points
    flags = changes(snapshot(before), run.got["teacher"]).get("requires_grad", [])
    thawed = [name for name in flags if name in run.got["teacher"]["trainable"]]
    expect(
        not flags,
        expected="the same parameters of the teacher trainable as before: all but those of the first layer",
        seen=f"{'trainable' if thawed else 'frozen'} now: {some(thawed or flags)}",
        why="which parts of the teacher are trained is decided by its owner",
        symptom="teacher thawed" if thawed else "teacher frozen for good",
        reproduce=f"{made.lines}\n[name for name, p in teacher.named_parameters() if p.requires_grad]",
    )
    if learns_from_student(run):
        return  # charged with the gradients that reach the teacher
    wanted = {n: gradient_of(p) for n, p in before.named_parameters() if n.startswith("head")}
    seen = run.got["teacher_gradients"]
    left = [name for name in seen if name not in wanted or not torch.equal(seen[name], wanted[name])]
    lost = [name for name in wanted if name not in seen]
    expect(
        not left and not lost,
        expected="the gradients that the teacher's parameters came with, and no others",
        seen=f"`.grad` of {some(lost)} is gone: does an optimizer or `zero_grad` get the teacher's parameters?"
        if lost
        else f"another `.grad` of {some(left)}: does an optimizer or `zero_grad` get the teacher's parameters?",
        why="gradients of the teacher belong to its own training",
        symptom="teacher's gradients changed",
        reproduce=f"{made.setup}for p in teacher.parameters():\n    p.grad = torch.ones_like(p)\n{made.text}\n"
        "[p.grad for p in teacher.parameters()]",
    )
    enabled, dtype = run.got["gradients_enabled"], run.got["dtype"]
    expect(
        enabled and dtype == "torch.float32",
        expected="gradients enabled and torch.float32 as the default dtype after the call, as before it",
        seen=f"gradients {'enabled' if enabled else 'disabled'}, {dtype}",
        why="settings of PyTorch hold for the whole notebook: use `with torch.no_grad():` for a part of a function",
        symptom="settings changed",
        reproduce=f"{made.lines}\nprint(torch.is_grad_enabled())\nprint(torch.get_default_dtype())",
    )


def learns_from_student(run):
    """Return whether gradients reach the teacher's answers, or could."""
    return any(done["attached"] for done in run.got["compared"]) or any(done["reached"] for done in run.answers)


@pytest.mark.points(1)
def test_teacher_without_gradients(submission, rng):
    """No gradient comes back to the teacher: it answers without gradients, or its answers are detached."""
    run = ask(submission, question(rng, (6, 4)), PLAIN)
    if not run.answers:
        pytest.skip(f"waits for this check: {ASKED}")
    expect(
        not learns_from_student(run),
        expected="answers of the teacher that require no gradient, as within `torch.no_grad()`",
        seen="the teacher's logits in the loss require a gradient",
        why="the teacher would be pulled towards the student, and its activations are kept in memory for nothing",
        symptom="gradients of the teacher",
        reproduce=f"{run.call.setup}teacher.register_forward_hook(lambda net, inputs, logits: print(logits.requires_grad))\n{run.call.text}",
    )


@pytest.mark.points(3)
@pytest.mark.needs("test_student_learns")
def test_losses_of_epochs(submission, rng):
    """The losses are means over all images of an epoch, with or without label, of the views that it has shown."""
    asked = question(rng, SIZES, unlabelled=WITHOUT, scales=(0.3, 1.0, 3.0))
    given = {"epochs": 3, "lr": TINY, "temperature": round(rng.uniform(0.6, 0.9), 2), "alpha": 0.6}
    run = ask(
        submission,
        asked,
        given,
        expected="a training on images of which some have no label, and their label is -1",
        why="images without a label are what the teacher is for",
    )
    if run.losses is None:
        pytest.skip(f"waits for this check: {RETURNS}")
    if not run.answers:
        pytest.skip(f"waits for this check: {ASKED}")
    batches = trained_batches(run)
    temperature, alpha = given["temperature"], given["alpha"]
    # another temperature or alpha is charged elsewhere
    several = range(len(losses_of(batches[0], temperature, alpha))) if batches else ()
    ways = [reported(batches, i, temperature, alpha) for i in several]
    numbers = all(map(math.isfinite, run.losses))
    if not way_of(ways, run.losses, OTHER_MEANS) and numbers and (wrong_views(run) or pairs_unknown(run)):
        return  # charged elsewhere
    lent = "; another loss is lent for `distillation_loss`" if run.got["compared"] else ""
    expect_means(
        ways,
        run.losses,
        OTHER_MEANS,
        batches=f"batches of {', '.join(map(str, SIZES))} images{lent}",
        other="another loss" if numbers else "not a number",
        reproduce=watch(run),
    )
