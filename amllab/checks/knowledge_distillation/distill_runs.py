"""Distillations of the small networks for the checks of exercise 2: what was asked, shown, compared and returned."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amllab.checks.knowledge_distillation.distill_nets import (
    CLASSES,
    SIDE,
    Answered,
    Compared,
    Student,
    Teacher,
    Views,
)
from amllab.kit.expectations import Call, returns
from amllab.kit.loss_history import RETURNS
from amllab.kit.trainings import Training, named, randomise_norms
from amllab.kit.watermarks import Mark, marks, watermarked
from amllab.protocol.submission import Submission

SHOWN = "Each epoch shows the student every image, in a new view as the loader gives it, also images without a label."
ASKED = "The teacher answers for the very views that the student sees, and the loss compares row with row."
PLAIN: dict[str, Any] = {"epochs": 3, "lr": 1e-3, "temperature": 0.8, "alpha": 0.5}
NETS = """class Student(nn.Sequential):
    pass

class Teacher(nn.Sequential):
    pass

student = Student(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
teacher = Teacher(nn.Flatten(), nn.Linear(48, 12), nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 4))
"""
MARKED = """from amllab.kit.watermarks import Draws, watched, watermarked

{nets}images, labels, views, sizes = watermarked({n}, size=4), torch.randint(4, ({n},)), Draws(), {sizes}
{labels}
class Loader:  # gives new views in each pass
    def __len__(self):
        return len(sizes)

    def __iter__(self):
        return ((views(x), y) for x, y in zip(images.split(sizes), labels.split(sizes)))

with watched(student) as shown, watched(teacher) as asked:
    {call}
for name, calls in {{"student": shown, "teacher": asked}}.items():
    for seen in calls:  # number of each image, number of the draw of each view
        print(name, seen["numbers"].tolist(), seen["draws"].tolist(), "train mode:", seen["training"])
"""
UNLABELLED = "labels[:5] = -1  # no label\n"


def states(rng: random.Random) -> dict[str, dict[str, Tensor]]:
    """Return random states of both networks, with BatchNorm statistics other than those of a new network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        nets: dict[str, nn.Module] = {"student": Student(), "teacher": Teacher()}
        for net in nets.values():
            randomise_norms(net)
            nn.init.normal_(net.get_submodule("head").get_parameter("weight"), std=0.6)
        return {name: net.state_dict() for name, net in nets.items()}


def question(
    rng: random.Random,
    sizes: Sequence[int],
    *,
    unlabelled: Iterable[int] = (),
    scales: Sequence[float] = (),
    student_in_eval: Sequence[str] = (),
    teacher_in_train: Sequence[str] = (),
    teacher_frozen: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return the arguments of the probe but for those of ``distill``.

    Args:
        rng: Generator of weights, images, labels and views.
        sizes: Sizes of the batches.
        unlabelled: Numbers of the images without a label.
        scales: Size of the values in the views of each batch; 1 if it is not given.
        student_in_eval: Modules of the student that come in eval mode; all others are in train mode.
        teacher_in_train: Modules of the teacher that come in train mode; all others are in eval mode.
        teacher_frozen: Parameters of the teacher that require no gradient.
        more: Further arguments of the probe.
    """
    n = sum(sizes)
    # all classes occur, so that no constant is right for all images
    classes = [(i + rng.randrange(CLASSES)) % CLASSES if i >= CLASSES else i for i in range(n)]
    without = set(unlabelled)
    return {
        **states(rng),
        "images": watermarked(n, size=SIDE, seed=rng.getrandbits(63)),
        "labels": torch.tensor([-1 if i in without else label for i, label in enumerate(classes)]),
        "sizes": list(sizes),
        "scales": [size for size, count in zip(scales or [1.0] * len(sizes), sizes, strict=True) for _ in range(count)],
        "seed": rng.getrandbits(63),
        "student_in_eval": list(student_in_eval),
        "teacher_in_train": list(teacher_in_train),
        "teacher_frozen": list(teacher_frozen),
        **more,
    }


@dataclass(frozen=True)
class Run(Training):
    """A distillation; ``arguments`` are those of ``distill``."""

    @property
    def call(self) -> Call:
        """The call as a student can repeat it."""
        return call(self.asked, self.arguments)

    @cached_property
    def trained(self) -> list[Answered]:
        """The calls of the student that belong to the training: a backward pass came back, or at least could have."""
        calls = [done for done in self.got["answers"] if done["net"] == "student"]
        return [done for done in calls if done["reached"]] or [done for done in calls if done["learning"]]

    @cached_property
    def answers(self) -> list[Answered]:
        """The calls of the teacher."""
        return [done for done in self.got["answers"] if done["net"] == "teacher"]

    @cached_property
    def shown(self) -> dict[Mark, int]:
        """The views that the student was trained on -> how often it was evaluated for each."""
        found: dict[Mark, int] = {}
        for done in self.trained:
            for mark in marks(done["numbers"], done["draws"]):
                found[mark] = found.get(mark, 0) + 1
        return found

    @cached_property
    def passing(self) -> dict[Mark, int]:
        """The views that the loader gave -> the number of the pass."""
        return {mark: part["passing"] for part in self.got["given"] for mark in marks(part["numbers"], part["draws"])}

    @cached_property
    def epochs_run(self) -> list[int]:
        """The passes over the loader that the student was trained on."""
        return sorted({self.passing[mark] for mark in self.shown if mark in self.passing})

    @cached_property
    def compared(self) -> list[Compared]:
        """The calls of the lent loss that belong to the training, each of some rows once.

        Some optimizers evaluate a batch several times.
        """
        found: dict[tuple[Mark, ...], Compared] = {}
        for done in self.got["compared"]:
            own = rows_of(done, 0)
            # evaluations of the student without a backward pass are no training
            if done["learning"] and (done["nets"][0] != "student" or set(own) <= self.shown.keys()):
                found.setdefault(tuple(own), done)
        return list(found.values())

    @cached_property
    def mixed(self) -> set[tuple[Mark, ...]]:
        """The rows for which the lent loss was called with several temperatures or alphas.

        Its parts may be added up, or looked at: what counts is the gradient that comes back.
        """
        found: dict[tuple[Mark, ...], set[tuple[float, float]]] = {}
        for done in self.got["compared"]:
            found.setdefault(tuple(rows_of(done, 0)), set()).add((done["temperature"], done["alpha"]))
        return {rows for rows, numbers in found.items() if len(numbers) > 1}

    def view(self, mark: Mark) -> Tensor:
        """Return a view as the loader gave it, float ``(3, 4, 4)``."""
        image: Tensor = self.asked["images"][mark[0]]
        return Views(self.asked["seed"], self.asked["scales"]).view(image, *mark)

    def before(self) -> dict[str, Tensor]:
        """Return the parameters of the student that it came with."""
        return {name: self.asked["student"][name] for name, _ in Student().named_parameters()}

    def after(self) -> dict[str, Tensor]:
        """Return the parameters of the student after the training."""
        return {name: self.got["final"][name] for name in self.before()}

    @property
    def started(self) -> dict[str, Tensor]:
        """The parameters of the student at its first call; those that it came with if there was none."""
        return {name: self.got["started"].get(f"student.{name}", value) for name, value in self.before().items()}


def rows_of(done: Compared, i: int) -> list[Mark]:
    """Return the marks of the first or of the second argument of a call of the lent loss."""
    return marks(done["numbers"][i], done["draws"][i])


def call(asked: dict[str, Any], arguments: dict[str, Any], *, before: str = "") -> Call:
    """Return a call on random images, for a student to repeat; ``before`` are further lines that make the networks."""
    loader = f"loader = [(torch.randn(n, 3, 4, 4), torch.randint(4, (n,))) for n in {tuple(asked['sizes'])}]\n"
    if bool((asked["labels"] < 0).any()):
        loader += "for _, labels in loader[:2]:\n    labels[1:] = -1  # no label\n"
    return Call(f"distill(student, teacher, loader{named(arguments)})", NETS + before + loader)


def watch(run: Run, *, before: str = "") -> str:
    """Return lines with which a student sees what the training shows both networks."""
    sizes, some_without = run.asked["sizes"], bool((run.asked["labels"] < 0).any())
    return MARKED.format(
        nets=NETS + before,
        n=sum(sizes),
        sizes=sizes,
        labels=UNLABELLED if some_without else "",
        call=f"distill(student, teacher, Loader(){named(run.arguments)})",
    )


def plain_question() -> dict[str, Any]:
    """Return a question that is the same for all checks, with a label for every image."""
    return question(random.Random(1), (6, 4))


def ask(submission: Submission, asked: dict[str, Any], arguments: dict[str, Any], **more: str) -> Run:
    """Return a distillation.

    Fails the check if it raised an error; skips it if every distillation does.

    Args:
        submission: The submission.
        asked: The arguments of the probe but for those of ``distill``.
        arguments: The arguments of ``distill``.
        more: Parts of the report if it raised an error: what is expected, and why.
    """
    got = submission.ask("distilled_watermarks", **asked, arguments=arguments)
    if "error" in got and "error" in submission.ask("distilled_watermarks", **plain_question(), arguments=PLAIN):
        pytest.skip(f"waits for this check: {RETURNS}")
    returns(got, call(asked, arguments), **more)
    return Run(asked, arguments, dict(got))


def wait_for_training(run: Run) -> None:
    """Skip the check if the student was never called with gradients: there is nothing to see."""
    if not run.trained:
        pytest.skip(f"waits for this check: {SHOWN}")
