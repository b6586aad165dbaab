"""Hidden checks of exercise 2: views of every epoch, reported losses, modes, and batches of any size."""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning.pretrain_batches import presented
from amllab.checks.self_supervised_learning.pretrain_runs import (
    PLAIN,
    ask,
    expect_two_views,
    question,
    watch,
    wrong_pairs,
    wrong_views,
)
from amllab.checks.self_supervised_learning.test_pretrain import expect_train_mode
from amllab.kit.loss_history import RETURNS
from amllab.kit.trainings import TINY
from autograder.checks.self_supervised_learning.pretrain_losses import OTHER_MEANS, reported, temperatures
from autograder.kit.loss_means import MEAN, expect_means, fits, way_of

pytestmark = pytest.mark.cell("check_pretrain", section="Exercise 2: pretraining without labels")


@pytest.mark.points(3)
def test_views_of_every_epoch(submission, rng):
    """Each epoch shows two new views of every image, also if batches differ in size and the loader shuffles."""
    asked = question(rng, (4, 8, 6), shuffle_seed=rng.getrandbits(63))
    expect_two_views(ask(submission, asked, PLAIN))


@pytest.mark.points(1)
def test_modes_and_settings(submission, rng):
    """All parts of both networks are in train mode, whichever were not before, and PyTorch's settings stay as they were."""
    run = ask(submission, question(rng, (6, 4), eval_mode=["encoder.norm", "projector.norm"]), {**PLAIN, "epochs": 2})
    expect_train_mode(run, "encoder[2].eval()\n")
    got = run.got
    expect(
        got["gradients_enabled"] and got["dtype"] == "torch.float32",
        expected="gradients enabled and torch.float32 as the default dtype after the training, as before it",
        seen=f"gradients {'enabled' if got['gradients_enabled'] else 'disabled'}, {got['dtype']}",
        why="settings of PyTorch hold for the whole notebook: use `with torch.no_grad():` for a part of a function",
        symptom="settings changed",
        reproduce=f"{run.call.lines}\nprint(torch.is_grad_enabled())\nprint(torch.get_default_dtype())",
    )


@pytest.mark.points(1)
@pytest.mark.needs("test_batch_of_one_image")
def test_batches_of_one_and_two(submission, rng):
    """A batch of one image does not count in the mean either; one of two images is trained on."""
    sizes = (1, 2, 4)
    run = ask(submission, question(rng, sizes), {**PLAIN, "lr": TINY, "epochs": 2})
    left_out = run.shown and not {1, 2} & set(run.shown) and {3, 4, 5, 6} <= set(run.shown)
    expect(
        not left_out,
        expected="a batch of two images is trained on",
        seen="its images are never shown",
        why="only a single image has no other to be told from",
        symptom="batch of two is left out",
        reproduce=watch(sizes, run.arguments),
    )
    # BatchNorm may give both views of two images the same outputs, and then it is not known which of them are compared
    sizes = (1, 3, 4)
    run = ask(submission, question(rng, sizes, noise=(0.5, 0.3, 2.0)), {**PLAIN, "lr": TINY, "epochs": 2})
    batches = [one for one in presented(run) if one.batch > 0]
    if not batches or not run.losses:
        return  # charged elsewhere
    ways = [reported(batches, number) for number in temperatures(run.arguments["temperature"]).values()]
    n = sum(sizes)
    counted = any(fits([value * (n - 1) / n for value in way[MEAN]], run.losses) for way in ways)
    expect(
        not counted,
        expected="a mean over the images of the other batches",
        seen=f"{run.losses[0]:.4g} in the first epoch: the sum of their losses, divided by {n}, the number of all images",
        why="an image that is left out has no loss",
        symptom="batch of one counts in the mean",
        reproduce=watch(sizes, run.arguments),
    )


@pytest.mark.points(3)
@pytest.mark.needs("test_encoder_learns")
def test_losses(submission, rng):
    """The losses are means over the images of an epoch, of the views that it has shown; labels do not matter."""
    sizes = (8, 4, 6)
    asked = question(rng, sizes, noise=(0.1, 2.0, 0.7))
    asked["labels"] = asked["labels"].fill_(-1)
    temperature = round(rng.uniform(0.3, 0.45), 2)
    run = ask(
        submission,
        asked,
        {"epochs": 3, "lr": TINY, "temperature": temperature},
        expected="a training on images without labels, whose label is -1",
        why="labels are not looked at",
    )
    if run.losses is None:
        pytest.skip(f"waits for this check: {RETURNS}")
    expect(
        run.shown,
        expected="a training on images without labels, whose label is -1",
        seen="no image is shown in training",
        why="labels are not looked at",
        symptom="looks at labels",
        reproduce=run.call.lines.replace("torch.zeros(n)", "torch.full((n,), -1)"),
    )
    batches = presented(run)
    # another temperature is charged elsewhere
    ways = [reported(batches, number) for number in temperatures(temperature).values()] if batches else []
    unknown = wrong_views(run) or wrong_pairs(run) or not run.of("projector")
    if not way_of(ways, run.losses, OTHER_MEANS) and unknown:
        return  # charged elsewhere
    batches = f"batches of {', '.join(map(str, sizes))} images"
    expect_means(ways, run.losses, OTHER_MEANS, batches=batches, reproduce=run.call.lines)
