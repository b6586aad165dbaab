"""Public checks of exercise 2, ``pretrain``: what is shown, in which mode, what learns, and what is returned.

The checks lend another loss in place of ``nt_xent_loss``: a mistake in exercise 1 costs nothing here.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.self_supervised_learning.pretrain_batches import before_and_after, presented
from amllab.checks.self_supervised_learning.pretrain_runs import (
    PLAIN,
    Run,
    ask,
    call,
    expect_two_views,
    plain_question,
    question,
    watch,
)
from amllab.kit.expectations import printed, refuses, returns
from amllab.kit.loss_history import expect_list_as_loader, expect_losses
from amllab.kit.step_checks import expect_going_on, expect_learned, expect_smaller_loss

pytestmark = pytest.mark.cell("check_pretrain", section="Exercise 2: pretraining without labels")

LEARNING = {"epochs": 3, "lr": 1e-2, "temperature": 0.5}


@pytest.mark.points(1)
def test_history(submission, rng):
    """Returns `{"loss": [...]}` with one float for each epoch; the loader may be a plain list of batches."""
    asked = plain_question()
    got = returns(submission.ask("pretrained_watermarks", **asked, arguments=PLAIN), call(asked["sizes"], PLAIN))
    run = Run(asked, PLAIN, dict(got))
    expect_losses(got["history"], run.call, epochs=run.epochs, ran=run.epochs_run, batches=len(asked["sizes"]))
    listed = question(rng, (4, 6), as_list=True)
    got = submission.ask("pretrained_watermarks", **listed, arguments=PLAIN)
    expect_list_as_loader(got, call(listed["sizes"], PLAIN))


@pytest.mark.points(3)
def test_two_views(submission, rng):
    """Every image is shown in two new views in each epoch, both made from the batch itself, and these are compared."""
    expect_two_views(ask(submission, question(rng, (4, 4)), PLAIN))


@pytest.mark.points(2)
def test_train_mode(submission, rng):
    """Encoder and projector are in train mode while they are trained, whatever mode they come in."""
    arguments = {**PLAIN, "epochs": 2}
    expect_train_mode(
        ask(submission, question(rng, (6, 4), eval_mode=EVERYTHING), arguments), "encoder.eval()\nprojector.eval()\n"
    )


EVERYTHING = ["encoder", "projector"]


def expect_train_mode(run, before):
    """Fail the check unless both networks are in train mode in every call; ``before`` are lines that set their modes."""
    wrong = [net for net in EVERYTHING if any(not done["training"] for done in run.of(net))]
    always = all(not done["training"] for net in wrong for done in run.of(net))
    expect(
        not wrong,
        expected="encoder and projector in train mode, with all of their layers",
        seen=f"layers of {' and '.join(wrong)} in eval mode" + ("" if always else " in some of the calls"),
        why="in eval mode BatchNorm uses old statistics instead of those of the batch, and does not update them",
        symptom=f"eval mode: {', '.join(wrong)}" + ("" if always else ", at times"),
        reproduce=watch(run.asked["sizes"], run.arguments, before=before),
    )


@pytest.mark.points(1)
def test_encoder_learns(submission, rng):
    """Training changes the weights of the encoder, down the gradient of the loss."""
    run = ask(submission, question(rng, (6, 4)), LEARNING)
    expect_net_learned(run, "encoder", "the encoder is what pretraining is for")
    expect_descent(submission, rng, lambda one: one.lent_loss)


# the loss of the only batch, after one small step
ONE_STEP = {"epochs": 1, "lr": 1e-3, "temperature": 0.5}


def expect_descent(submission, rng, loss_of):
    """Fail the check if a step makes the loss of its batch larger; ``loss_of`` returns the loss, ``None`` if unknown."""
    asked = question(rng, (8,))
    got = submission.ask("pretrained_watermarks", **asked, arguments=ONE_STEP)
    if "error" in got:
        return
    run = Run(asked, ONE_STEP, dict(got))
    for one in presented(run)[:1]:
        loss = loss_of(one)
        # what is not trained, or with another loss than this one, is charged elsewhere
        if loss is not None and abs(one.likeness(loss)) > 0.999:
            expect_smaller_loss(before_and_after(one, run, loss), run.call)


def expect_net_learned(run, net, why):
    """Fail the check unless the weights of a network have learned something."""
    own = [i for i, name in enumerate(NAMES) if name.startswith(net)]
    owned = bool(run.got["steps"]["owned"][:, own].any())
    expect_learned(run, net, run.before(net), run.after(net), owned=owned, why=why)


# parameters in the order of the recorded steps
NAMES = [f"encoder.{name}" for name in ("layer.weight", "norm.weight", "norm.bias")] + [
    f"projector.{name}" for name in ("layer.weight", "norm.weight", "norm.bias", "head.weight", "head.bias")
]


@pytest.mark.points(1)
def test_projector_learns(submission, rng):
    """The projector is trained together with the encoder, and both from the weights that they come with."""
    run = ask(submission, question(rng, (6, 4)), LEARNING)
    expect(
        run.of("projector"),
        expected="the loss of the projector's outputs",
        seen="the projector is never called",
        why="the loss is computed behind the projector, so that the encoder keeps what the loss does not ask for",
        symptom="projector not used",
        reproduce=run.call.lines,
    )
    expect_net_learned(run, "projector", "a projector that stays random is no part of the training")
    started = run.got["started"]
    other = [name for net in EVERYTHING for name, value in run.before(net).items() if _other(started, net, name, value)]
    expect_going_on(other, run.call, "encoder", whose="both networks have")


def _other(started, net, name, value):
    """Return whether a parameter had another value at the first call of its network."""
    return f"{net}.{name}" in started and not torch.allclose(started[f"{net}.{name}"], value, atol=1e-6)


@pytest.mark.points(1)
def test_refuses_impossible_epochs(submission, rng):
    """`ValueError` for `epochs < 1`."""
    numbers = {"zero": 0, "negative": -rng.randint(1, 9)}
    asked = {words: {**plain_question(), "arguments": {"epochs": number}} for words, number in numbers.items()}
    refuses(
        {words: submission.ask("pretrained_watermarks", **given) for words, given in asked.items()},
        {words: call((6, 4), {"epochs": number}) for words, number in numbers.items()},
        why="a training of no epochs has no loss to report",
        printed=lambda words: printed(submission, "pretrained_watermarks", **asked[words]),
    )
    got = submission.ask("pretrained_watermarks", **plain_question(), arguments={"epochs": 1})
    if "ValueError" in got.get("error", []):
        returns(got, call((6, 4), {"epochs": 1}), why="one epoch is a training", symptom="1 epoch refused")


@pytest.mark.points(2)
def test_batch_of_one_image(submission, rng):
    """A batch of one image is left out, and the training goes on with the next batch."""
    sizes, arguments = (4, 1, 6, 4), PLAIN
    run = ask(
        submission,
        question(rng, sizes),
        arguments,
        expected="a batch of one image is left out",
        why="one image has no other to be told from, and BatchNorm has no statistics of a single row; the last batch of a loader is "
        "often that small",
    )
    shown, before, after = set(run.shown), set(range(4)), set(range(5, 11))
    # a last batch that is always left out is charged elsewhere, and so are images that are changed
    expect(
        4 not in shown and (after <= shown or not before <= shown),
        expected="all images but that of the batch of one",
        seen="the image of the batch of one is shown as well"
        if 4 in shown
        else "images of the batches after it are not shown",
        why="one image has no other to be told from: its loss says nothing, and must not move BatchNorm's statistics",
        symptom="batch of one is shown" if 4 in shown else "batches after it are left out",
        reproduce=watch(sizes, arguments),
    )
