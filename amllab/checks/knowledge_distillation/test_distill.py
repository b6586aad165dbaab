"""Public checks of exercise 2, ``distill``: what both networks are shown, in which modes, what learns, what is returned.

The checks lend another loss in place of ``distillation_loss``: a mistake in exercise 1 costs nothing here.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.distill_batches import before_and_after, trained_batches
from amllab.checks.knowledge_distillation.distill_runs import (
    ASKED,
    PLAIN,
    Run,
    ask,
    call,
    plain_question,
    question,
    wait_for_training,
    watch,
)
from amllab.checks.knowledge_distillation.distill_symptoms import (
    left_out_of_loss,
    wrong_answers,
    wrong_labels,
    wrong_views,
)
from amllab.kit.expectations import returns, some
from amllab.kit.loss_history import expect_list_as_loader, expect_losses
from amllab.kit.step_checks import expect_going_on, expect_learned, expect_smaller_loss

pytestmark = pytest.mark.cell("check_distill", section="Exercise 2: distill")

LEARNING = {**PLAIN, "lr": 1e-2}
TEACHER = ["", "body", "body.0", "body.1", "body.2", "body.3", "head"]  # all modules of the teacher
STUDENT = ["", "layer", "norm", "head"]  # all modules of the student
# sizes of batches, and the images without a label: some of the first batch, and all of the second
SIZES, WITHOUT = (5, 6, 3), (1, 3, *range(5, 11))


@pytest.mark.points(1)
def test_returns_losses(submission, rng):
    """Returns `{"loss": [...]}` with one float for each epoch; the loader may be a plain list of batches."""
    asked = plain_question()
    got = returns(submission.ask("distilled_watermarks", **asked, arguments=PLAIN), call(asked, PLAIN))
    run = Run(asked, PLAIN, dict(got))
    expect_losses(got["history"], run.call, epochs=run.epochs, ran=len(run.epochs_run), batches=len(asked["sizes"]))
    listed = {**question(rng, (4, 6)), "as_list": True}
    expect_list_as_loader(submission.ask("distilled_watermarks", **listed, arguments=PLAIN), call(listed, PLAIN))


VIEWS = {
    "no view shown": "the student is never called with gradients",
    "plain images": "images as they are in the data set, not in the views that the loader gives",
    "changed": "images that the loader did not give: are they changed before the student gets them?",
    "same views": "the same views in all epochs: is the loader iterated again in each epoch?",
    "without label left out": "images without a label are never shown, or not in every epoch",
    "last batch left out": "the last batch, which is small, is never shown, or not in every epoch",
    "images left out": "some images are never shown, or not in every epoch",
}


@pytest.mark.points(3)
def test_student_sees_every_view(submission, rng):
    """Each epoch shows the student every image, in a new view as the loader gives it, also images without a label."""
    run = ask(
        submission,
        question(rng, SIZES, unlabelled=WITHOUT),
        PLAIN,
        expected="a training on images of which some have no label, and their label is -1",
        why="images without a label are what the teacher is for",
    )
    symptom = wrong_views(run)
    expect(
        not symptom,
        expected=f"every image in each of {run.epochs} epochs, in the view of that pass over the loader (batches of "
        f"{', '.join(map(str, SIZES))} images; some have no label)",
        seen=VIEWS.get(symptom, ""),
        why="the teacher answers for every image, so the student learns from images without a label as well, and from new views",
        symptom=symptom,
        reproduce=watch(run),
    )


ANSWERS = {
    "never asked": "the teacher is never called",
    "plain images": "the teacher is asked about the images in the data set, not about the views of the loader",
    "changed": "the teacher is asked about images that the loader did not give: are they changed, or drawn again?",
    "answers computed once": "the teacher is asked about the views of one pass over the loader alone, and each pass gives new ones",
    "other views": "the teacher answers for other views than those that the student sees",
    "images left out": "the teacher is not asked about some of the views that the student sees",
    "arguments swapped": "the loss gets the teacher's logits first: the student's come first",
    "own answers": "the loss compares the student with itself: the second argument is the teacher's logits",
    "not the student's logits": "the first argument of the loss is not what the student returns",
    "not the teacher's logits": "the second argument of the loss is not what the teacher returns: the loss applies softmax itself",
    "other rows": "row i of both networks' logits belongs to different images",
}


@pytest.mark.points(4)
def test_same_views_for_teacher(submission, rng):
    """The teacher answers for the very views that the student sees, and the loss compares row with row."""
    for more in ({}, {"shuffle_seed": rng.getrandbits(63)}):
        run = ask(submission, question(rng, (4, 6, 4), **more), PLAIN)
        symptom = wrong_answers(run)
        expect(
            not symptom,
            expected="an answer of the teacher for each view that the student is trained on, compared with the student's own answer",
            seen=ANSWERS.get(symptom, ""),
            why="what the teacher says of another view is not the right answer for this one (Beyer et al. 2022)",
            symptom=symptom,
            reproduce=watch(run),
        )


LABELS = {
    "teacher's choice where there is no label": "the class that the teacher finds most probable, where the label is -1",
    "a class for no label": "a class where the label is -1",
    "teacher's choice": "the class that the teacher finds most probable, in place of the labels",
    "no labels": "-1 for all images",
    "other labels": "labels of other images",
    "changed labels": "other labels than those of the loader",
}


@pytest.mark.points(2)
def test_labels_of_the_loader(submission, rng):
    """The loss gets the labels as the loader gives them, for all images of a batch; -1 stays -1."""
    run = ask(
        submission,
        question(rng, SIZES, unlabelled=WITHOUT),
        PLAIN,
        expected="a training on images of which some have no label, and their label is -1",
        why="images without a label are what the teacher is for",
    )
    wait_for_training(run)
    symptom = wrong_labels(run)
    expect(
        not symptom,
        expected="the labels of the loader, -1 included",
        seen=LABELS.get(symptom, ""),
        why="the loss has both parts: the teacher's answers for all images, and the labels where there are any",
        symptom=symptom,
        reproduce=watch(run),
    )
    # images that are not shown at all are charged elsewhere
    expect(
        wrong_answers(run) or wrong_views(run) or not left_out_of_loss(run),
        expected="a loss of all images that the student is shown",
        seen="the student is shown images that the loss does not get: are those without a label left out?",
        why="the teacher's answers are there for images without a label as well",
        symptom="left out of the loss",
        reproduce=watch(run),
    )


@pytest.mark.points(2)
def test_teacher_in_eval_mode(submission, rng):
    """The teacher answers in eval mode, whatever mode it comes in."""
    run = ask(submission, question(rng, (6, 4), teacher_in_train=TEACHER), PLAIN)
    if not run.answers:
        pytest.skip(f"waits for this check: {ASKED}")
    modes = [done["in_train_mode"] for done in run.answers]
    names = sorted({name for found in modes for name in found})
    expect(
        not names,
        expected="all layers of the teacher in eval mode when it answers",
        seen=f"in train mode{'' if all(modes) else ' in some of the calls'}: {some([f'teacher.{name}' for name in names])}",
        why="in train mode the answer for an image depends on the other images of the batch and, with dropout, on chance; and "
        "BatchNorm's statistics change",
        symptom="teacher in train mode" + ("" if all(modes) else ", at times"),
        reproduce=watch(run, before="teacher.train()\n"),
    )


@pytest.mark.points(2)
def test_student_in_train_mode(submission, rng):
    """The student is in train mode while it is trained, with all of its layers, whatever mode it comes in."""
    for came, line in ((STUDENT, "student.eval()\n"), (["norm"], "student[2].eval()\n")):
        run = ask(submission, question(rng, (6, 4), student_in_eval=came), {**PLAIN, "epochs": 2})
        wait_for_training(run)
        modes = [done["in_eval_mode"] for done in run.trained]
        always = all(modes)
        expect(
            not any(modes),
            expected="the student in train mode, with all of its layers",
            seen="its BatchNorm layer is in eval mode" + ("" if always else " in some of the calls"),
            why="in eval mode BatchNorm uses old statistics instead of those of the batch, and does not update them",
            symptom="student in eval mode" + ("" if always else ", at times"),
            share=0.0 if came == STUDENT else 0.5,
            reproduce=watch(run, before=line),
        )


@pytest.mark.points(1)
def test_student_learns(submission, rng):
    """Training changes the weights of the student."""
    run = ask(submission, question(rng, (6, 4)), LEARNING)
    owned = bool(run.got["steps"]["owned"].any())
    why = "the student is what distillation is for"
    expect_learned(run, "student", run.before(), run.after(), owned=owned, why=why)


@pytest.mark.points(1)
@pytest.mark.needs("test_student_learns")
def test_goes_down_from_its_weights(submission, rng):
    """Training goes on from the weights that the student comes with, down the gradient of the loss."""
    run = ask(submission, question(rng, (6, 4)), LEARNING)
    started = run.started
    other = [name for name, value in run.before().items() if not torch.allclose(started[name], value, atol=1e-6)]
    expect_going_on(other, run.call, "student", whose="the student has")
    expect_descent(submission, rng, lambda one: one.lent_loss)


# the loss of the only batch, after one small step
ONE_STEP = {**PLAIN, "epochs": 1}


def expect_descent(submission, rng, loss_of):
    """Fail the check if a step makes the loss of its batch larger; ``loss_of`` returns the loss, ``None`` if unknown."""
    asked = question(rng, (8,))
    got = submission.ask("distilled_watermarks", **asked, arguments=ONE_STEP)
    if "error" in got:
        return
    run = Run(asked, ONE_STEP, dict(got))
    for one in trained_batches(run)[:1]:
        loss = loss_of(one)
        # what is not trained, or with another loss than this one, is charged elsewhere
        if loss is not None and abs(one.likeness(loss)) > 0.999:
            expect_smaller_loss(before_and_after(one, run, loss), run.call)
