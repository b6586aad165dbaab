"""Lab 2: its accuracy check. See test_labs.py for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amllab.checks.self_supervised_learning.accuracy_task import NOT_YOURS, PretrainingTask
from amllab.lab import find_lab
from amllab.protocol.failure import CheckFailure
from autograder.course import Course
from autograder.labs.corpus import Solution, corpus_of, replaced
from tests.conftest import ROOT, sampled
from tests.helpers.labs import submission

pytestmark = pytest.mark.full_training

LAB = find_lab("self-supervised-learning")
COURSE = Course.find(ROOT)
CORPUS = corpus_of(LAB)
# mistakes with which nothing can be learned, or something else
WITHOUT_A_LOSS = ("loss_itself_not_masked", "loss_no_grad", "loss_returns_nothing", "loss_divided_by_n")


@pytest.mark.parametrize(
    "solution",
    [
        *sampled([s for s in CORPUS.correct if "nt_xent_loss" in s.sources], 12),
        *[s for s in CORPUS.wrong if s.name in WITHOUT_A_LOSS],
    ],
    ids=lambda solution: solution.name,
)
def test_own_loss_in_accuracy_check(solution: Solution) -> None:
    """The accuracy check trains with the submission's own loss if that is the contrastive one, else with another."""
    asked = submission(COURSE, LAB, nt_xent_loss=solution.sources["nt_xent_loss"])
    assert PretrainingTask(LAB).prepare(asked) == (NOT_YOURS if solution.cell else "")


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_more_views_than_the_budget(mode: str) -> None:
    """A training that takes three steps for each batch exceeds the budget, in train mode and in eval mode."""
    source = replaced(
        CORPUS.plain["pretrain"],
        "            first, second",
        f"            encoder.{mode}()\n            for _ in range(2):\n"
        "                nt_xent_loss(projector(encoder(augment(images))), projector(encoder(augment(images)))).backward()\n"
        "            first, second",
    )
    settings = {**LAB.settings, "accuracy": {**LAB.settings["accuracy"], "images": 10, "test_images": 5}}
    task = PretrainingTask(replace(LAB, settings=settings))
    trained = task.train(submission(COURSE, LAB, pretrain=source), seed=1)
    with pytest.raises(CheckFailure, match="views"):
        task.verify(trained, earns=True)
