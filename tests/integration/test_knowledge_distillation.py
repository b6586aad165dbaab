"""Lab 4: its accuracy check and the teacher of that check. See test_labs.py for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from amllab.checks.knowledge_distillation.accuracy import images_of, new_student, shuffled_teacher, start
from amllab.checks.knowledge_distillation.accuracy_task import NOT_YOURS, DistillationTask
from amllab.checks.knowledge_distillation.teacher import new_teacher
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import CheckFailure
from autograder.course import Course
from autograder.labs.corpus import Solution, corpus_of, replaced
from tests.conftest import ROOT, sampled
from tests.helpers.labs import submission

pytestmark = pytest.mark.full_training

LAB = find_lab("knowledge-distillation")
COURSE = Course.find(ROOT)
CORPUS = corpus_of(LAB)


def small(**changes: int) -> Lab:
    """Return the lab with a smaller budget."""
    return replace(LAB, settings={**LAB.settings, "accuracy": {**LAB.settings["accuracy"], **changes}})


@pytest.mark.parametrize(
    "style", sampled([s for s in CORPUS.correct if "distillation_loss" in s.sources], 12), ids=lambda s: s.name
)
def test_own_loss_in_accuracy_check(style: Solution) -> None:
    """The accuracy check trains with every correct loss."""
    asked = submission(COURSE, LAB, distillation_loss=style.sources["distillation_loss"])
    assert DistillationTask(LAB).prepare(asked) == ""


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no loss')",
        "return None",
        "return float('nan') * student_logits.sum()",
        "return student_logits.sum() * 0",
        "return torch.nn.functional.cross_entropy(student_logits, labels.clamp(min=0))",
        "return -(student_logits - teacher_logits).square().mean()",
    ],
)
def test_loss_of_checks_in_accuracy_check(body: str) -> None:
    """Where the loss does not follow the teacher, the accuracy check trains with another one, and says so."""
    source = f"def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):\n    {body}\n"
    asked = submission(COURSE, LAB, distillation_loss=source)
    task = DistillationTask(small(images=10, test_images=5, epochs=1))
    assert task.prepare(asked) == NOT_YOURS
    trained = task.train(asked, seed=1, remark=NOT_YOURS)
    task.verify(trained, earns=True)
    before = start(task.budget["network_seed"], task.budget["species"])
    moved = [name for name, value in trained.fitted["state"].items() if not torch.equal(value, before[name])]
    assert "head.fc.weight" in moved


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_more_views_than_the_budget(mode: str) -> None:
    """A training that takes three steps for each batch exceeds the budget, in train mode and in eval mode."""
    source = (
        "def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):\n"
        f"    student.{mode}()\n"
        "    for _ in range(epochs):\n"
        "        for images, labels in loader:\n"
        "            for _ in range(3):\n"
        "                student(images).sum().backward()\n"
        "    return {'loss': [1.0] * epochs}\n"
    )
    task = DistillationTask(small(images=10, test_images=5))
    trained = task.train(submission(COURSE, LAB, distill=source), seed=1)
    with pytest.raises(CheckFailure, match="views"):
        task.verify(trained, earns=True)


def test_another_student() -> None:
    """A student whose layers were replaced fails the check, with a sentence that says so."""
    source = (
        "def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):\n"
        "    student.head.fc = torch.nn.Linear(64, 3)\n"
        "    return {'loss': [1.0] * epochs}\n"
    )
    task = DistillationTask(small(images=10, test_images=5, epochs=1))
    with pytest.raises(CheckFailure) as caught:
        task.train(submission(COURSE, LAB, distill=source), seed=1)
    assert caught.value.failure.symptom == "another student"


def test_order_of_outputs_changes() -> None:
    """The outputs of the teacher are in another order in every run, and right for the labels of the same run."""
    budget = LAB.settings["accuracy"]
    orders = []
    for seed in (1, 2):
        images = images_of(seed, budget["species"], budget["species_seed"], 2, 20, budget["side"])
        teacher = new_teacher(budget["species"])
        teacher.load_state_dict(shuffled_teacher(images.order))
        with torch.no_grad():
            right = teacher.eval()(images.test).argmax(1) == images.labels
        assert right.double().mean() > 0.9
        orders.append(images.order.tolist())
    assert orders[0] != orders[1]


def test_student_without_stored_weights() -> None:
    """The student is narrower than every network whose weights come with the library."""
    student, teacher = new_student(10), new_teacher(10)
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in teacher.parameters()) / 2


def test_wrong_answers_teach_nothing() -> None:
    """A student that learns from a teacher's answers to other images stays where it started."""
    wrong = replaced(CORPUS.plain["distill"], "teacher(images)", "teacher(images.roll(1, 0))")
    task = DistillationTask(LAB)
    right, shifted = (task.rate(task.train(submission(COURSE, LAB, **s), seed=5)) for s in ({}, {"distill": wrong}))
    assert right > 0.75
    assert 0.4 < shifted < 0.6
