"""Pretrainings of the small networks for the checks of exercise 2: what was asked, shown, compared and returned."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor

from amllab.checks import expect
from amllab.checks.self_supervised_learning.pretrain_nets import SIDE, Compared, Encoder, Pass, Projector, Views
from amllab.kit.expectations import Call, returns
from amllab.kit.loss_history import RETURNS
from amllab.kit.trainings import Training, named, randomise_norms
from amllab.kit.watermarks import UNDRAWN, UNREADABLE, Mark, marks, watermarked
from amllab.protocol.submission import Submission

PLAIN: dict[str, Any] = {"epochs": 3, "lr": 1e-3, "temperature": 0.5}
ENCODER = "encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8))\nprojector = nn.Linear(8, 6)\n"
MARKED = """from amllab.kit.watermarks import Draws, watched, watermarked

{encoder}images, sizes = watermarked({n}, size=4), {sizes}
loader = [(part, torch.zeros(len(part))) for part in images.split(sizes)]
with watched(encoder) as calls:
    {call}
for seen in calls:  # number of each image, number of the draw of each view; draw 0 is the image as it came
    print(seen["numbers"].tolist(), seen["draws"].tolist(), "train mode:", seen["training"])
"""

Loss = Callable[[Tensor, Tensor], Tensor]


def states(rng: random.Random) -> dict[str, dict[str, Tensor]]:
    """Return random states of both networks, with BatchNorm statistics other than those of a new network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        nets = {"encoder": Encoder(), "projector": Projector()}
        for net in nets.values():
            randomise_norms(net)
        return {name: net.state_dict() for name, net in nets.items()}


def question(rng: random.Random, sizes: Sequence[int], *, noise: Sequence[float] = (), **more: Any) -> dict[str, Any]:
    """Return the arguments of the probe but for those of ``pretrain``.

    Args:
        rng: Generator of weights, images, labels and views.
        sizes: Sizes of the batches.
        noise: Size of the noise in the views of each batch; half as large as the images if it is not given.
        more: Further arguments of the probe.
    """
    n = sum(sizes)
    return {
        **states(rng),
        "images": watermarked(n, size=SIDE, seed=rng.getrandbits(63)),
        "labels": torch.tensor([rng.randrange(3) for _ in range(n)]),
        "sizes": list(sizes),
        "noise": [size for size, count in zip(noise or [0.5] * len(sizes), sizes, strict=True) for _ in range(count)],
        "seed": rng.getrandbits(63),
        **more,
    }


@dataclass(frozen=True)
class Run(Training):
    """A pretraining; ``arguments`` are those of ``pretrain``."""

    @property
    def call(self) -> Call:
        """The call as a student can repeat it."""
        return call(self.asked["sizes"], self.arguments)

    @cached_property
    def passes(self) -> list[Pass]:
        """The calls of both networks that belong to the training: the others are in eval mode, without gradients."""
        return [done for done in self.got["passes"] if done["training"] or done["learning"]]

    def of(self, net: str) -> list[Pass]:
        """Return the calls of one network that belong to the training."""
        return [done for done in self.passes if done["net"] == net]

    @cached_property
    def shown(self) -> dict[int, set[int]]:
        """For each image that the encoder has seen, by number, the draws of the views."""
        found: dict[int, set[int]] = {}
        for done in self.of("encoder"):
            for number, draw in marks(done["numbers"], done["draws"]):
                found.setdefault(number, set()).add(draw)
        return found

    @cached_property
    def compared(self) -> list[Compared]:
        """The calls of the lent loss on outputs of the networks, each pair of views once.

        Some optimizers evaluate a batch several times, and some losses are the mean of both orders of the views.
        """
        found: dict[frozenset[frozenset[Mark]], Compared] = {}
        for done in self.got["compared"]:
            if done["learning"] and all(done["nets"]):
                found.setdefault(frozenset(map(frozenset, pairs(done))), done)
        return list(found.values())

    @cached_property
    def epochs_run(self) -> int:
        """The number of epochs that were run: how often new pairs of views of an image were compared."""
        times: dict[int, int] = {}
        for done in self.compared:
            for number in set(done["numbers"].flatten().tolist()):
                times[number] = times.get(number, 0) + 1
        if not self.got["compared"]:
            # an odd number of views is one for each epoch
            counts = {number: len(draws) for number, draws in self.shown.items()}
            times = {number: count if count % 2 else count // 2 for number, count in counts.items()}
        return max(times.values(), default=0)

    def view(self, mark: Mark) -> Tensor:
        """Return a view as the training has shown it, float ``(3, 4, 4)``."""
        number, draw = mark
        image: Tensor = self.asked["images"][number]
        if not 1 <= draw <= len(self.got["drawn_from"]):
            return image
        source = int(self.got["drawn_from"][draw - 1][1])
        return Views(self.asked["seed"], self.asked["noise"]).view(self.view((number, source)), number, draw)

    def before(self, net: str) -> dict[str, Tensor]:
        """Return the parameters of a network that it came with."""
        names = dict((Encoder() if net == "encoder" else Projector()).named_parameters())
        return {name: self.asked[net][name] for name in names}

    def after(self, net: str) -> dict[str, Tensor]:
        """Return the parameters of a network after the training."""
        return {name: self.got["final"][f"{net}.{name}"] for name in self.before(net)}


def pairs(done: Compared) -> list[tuple[Mark, Mark]]:
    """Return the pairs of views in a call of the lent loss."""
    first, second = (marks(done["numbers"][i], done["draws"][i]) for i in (0, 1))
    return list(zip(first, second, strict=True))


def call(sizes: Sequence[int], arguments: dict[str, Any], *, before: str = "") -> Call:
    """Return a call on random images, for a student to repeat; ``before`` are further lines that make the networks."""
    text = f"pretrain(encoder, projector, loader, augment{named(arguments)})"
    loader = f"loader = [(torch.randn(n, 3, 4, 4), torch.zeros(n)) for n in {tuple(sizes)}]\n"
    augment = "def augment(images):\n    return images + 0.5 * torch.randn_like(images)\n\n"
    return Call(text, ENCODER + before + loader + augment)


def watch(sizes: Sequence[int], arguments: dict[str, Any], *, before: str = "") -> str:
    """Return lines with which a student sees the views that a training shows."""
    text = f"pretrain(encoder, projector, loader, Draws(){named(arguments)})"
    return MARKED.format(encoder=ENCODER + before, n=sum(sizes), sizes=list(sizes), call=text)


def plain_question() -> dict[str, Any]:
    """Return a question that is the same for all checks."""
    return question(random.Random(1), (6, 4))


def ask(submission: Submission, asked: dict[str, Any], arguments: dict[str, Any], **more: str) -> Run:
    """Return a pretraining.

    Fails the check if it raised an error; skips it if every pretraining does.

    Args:
        submission: The submission.
        asked: The arguments of the probe but for those of ``pretrain``.
        arguments: The arguments of ``pretrain``.
        more: Parts of the report if it raised an error: what is expected, and why.
    """
    got = submission.ask("pretrained_watermarks", **asked, arguments=arguments)
    if "error" in got and "error" in submission.ask("pretrained_watermarks", **plain_question(), arguments=PLAIN):
        pytest.skip(f"waits for this check: {RETURNS}")
    returns(got, call(asked["sizes"], arguments), **more)
    return Run(asked, arguments, dict(got))


def expect_two_views(run: Run) -> None:
    """Fail the check unless each epoch shows two new views of every image, and the loss compares these two."""
    sizes, symptom = run.asked["sizes"], wrong_views(run) or wrong_pairs(run)
    expect(
        not symptom,
        expected=f"two new views of every image in each of {run.epochs} epochs (batches of {', '.join(map(str, sizes))} images), both made "
        "by `augment` from the batch itself, and a loss that compares these two",
        seen=SAYS[symptom] if symptom else "",
        why="the two views of an image are all that a training without labels has to learn from",
        symptom=symptom,
        reproduce=watch(sizes, run.arguments),
    )


SAYS = {
    "no view shown": "the encoder was called with no images in training",
    "changed": "images that no call of `augment` returned: are they changed before or after it?",
    "plain image": "images as they come from the loader: does each of the two views go through `augment`?",
    "view of a view": "a view that was made from another view",
    "images left out": "some images are never shown, or not in every epoch",
    "augmented once": "two views of an image in all epochs together: is `augment` called in the loop over the batches, in every epoch?",
    "one view": "a single view of an image in each epoch: is `augment` called once for each of the two?",
    "another number of views": "another number of views of an image in an epoch than two",
    "view with itself": "a loss that compares a view with itself",
    "other images": "a loss that compares views of different images: row i of both arguments belongs to the same image",
    "part of a batch": "a loss of some images of a batch, or of several batches",
}


def wrong_views(run: Run) -> str:
    """Return the symptom of wrong views; empty if every image is shown in two new views in each epoch."""
    # an epoch more or less is charged with the history
    ran = run.epochs_run if abs(run.epochs_run - run.epochs) == 1 else run.epochs
    sources = dict(enumerate(run.got["drawn_from"].tolist(), start=1))
    draws = {number: found for number, found in run.shown.items() if number != UNREADABLE}
    counts = [len(draws.get(number, ())) for number in range(len(run.asked["images"]))]
    every = {draw for found in draws.values() for draw in found}
    if not run.shown:
        return "no view shown"
    if UNREADABLE in run.shown or not every <= {UNDRAWN, *sources}:
        return "changed"
    if UNDRAWN in every:
        return "plain image"
    if any(sources[draw][1] != UNDRAWN for draw in every):
        return "view of a view"
    if len(set(counts)) > 1:
        return "images left out"
    if counts[0] == 2 and ran > 1:
        return "augmented once"
    return "" if counts[0] == 2 * ran else "one view" if counts[0] == ran else "another number of views"


def wrong_pairs(run: Run) -> str:
    """Return the symptom of wrong pairs in calls of the lent loss; empty if each is of two views of an image."""
    batches = {frozenset(batch.tolist()) for batch in run.got["batches"]}
    for done in run.compared:
        found = pairs(done)
        if any(first[0] != second[0] for first, second in found):
            return "other images"
        if any(first == second for first, second in found):
            return "view with itself"
        if len(found) != len({first for first, _ in found}) or {first[0] for first, _ in found} not in batches:
            return "part of a batch"
    return ""
