"""Lab 3: its accuracy check, and the calibration of both trainings. See test_labs.py for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amllab.checks.meta_learning.accuracy_tasks import NOT_YOURS, PrototypeTask, SinusoidTask
from amllab.kit.task import calibrations, thresholds
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import CheckFailure
from autograder.authoring.calibration import Calibration
from autograder.authoring.calibration_page import page
from autograder.checks.meta_learning import calibration
from autograder.course import Course
from autograder.labs.calibrated import all_calibrated
from autograder.labs.corpus import Solution, corpus_of, replaced
from tests.conftest import ROOT
from tests.helpers.labs import submission

pytestmark = pytest.mark.full_training

LAB = find_lab("meta-learning")
COURSE = Course.find(ROOT)
CORPUS = corpus_of(LAB)


def small(part: str, **changes: int) -> Lab:
    """Return the lab with a smaller budget for one of its trainings."""
    accuracy = LAB.settings["accuracy"]
    return replace(LAB, settings={**LAB.settings, "accuracy": {**accuracy, part: {**accuracy[part], **changes}}})


@pytest.mark.parametrize("style", [s for s in CORPUS.correct if "sample_episode" in s.sources], ids=lambda s: s.name)
def test_own_episodes_in_accuracy_check(style: Solution) -> None:
    """The accuracy check trains with the episodes of every correct ``sample_episode``."""
    assert PrototypeTask(LAB).prepare(submission(COURSE, LAB, **style.sources)) == ""


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no episode')",
        "return None",
        "return (torch.zeros(n_way * k_shot).long(),) * 2 + (torch.zeros(n_way * n_query).long(),) * 2",
        "return tuple(torch.full((5000,), 10**6) for _ in range(4))",
        "return tuple(torch.tensor([float('nan')]) for _ in range(4))",
    ],
)
def test_episodes_of_checks_in_accuracy_check(body: str) -> None:
    """Where ``sample_episode`` is wrong, the accuracy check trains with episodes of its own, and says so."""
    source = f"def sample_episode(labels, n_way, k_shot, n_query, generator):\n    {body}\n"
    task = PrototypeTask(small("prototypes", steps=2))
    asked = submission(COURSE, LAB, sample_episode=source)
    assert task.prepare(asked) == NOT_YOURS
    trained = task.train(asked, seed=1, remark=NOT_YOURS)
    task.verify(trained, earns=True)
    assert trained.fitted["images"] == 2 * 10 * (5 + 5)


def test_more_images_than_the_budget() -> None:
    """Episodes with more images than were asked for exceed the budget."""
    source = replaced(CORPUS.plain["sample_episode"], "):\n", "):\n    n_query += 1\n")
    task = PrototypeTask(small("prototypes", steps=2))
    trained = task.train(submission(COURSE, LAB, sample_episode=source), seed=1)
    with pytest.raises(CheckFailure, match="220 images"):
        task.verify(trained, earns=True)


@pytest.mark.parametrize("style", [s for s in CORPUS.correct if "maml_adapt" in s.sources], ids=lambda s: s.name)
def test_maml_in_accuracy_check(style: Solution) -> None:
    """Every correct ``maml_adapt`` trains the network for all tasks at once, and to the same weights."""
    task = SinusoidTask(small("sinusoids", steps=3, tasks=4, test_tasks=20))
    found, plain = (
        task.rate(task.train(submission(COURSE, LAB, **sources), seed=1)) for sources in (style.sources, {})
    )
    assert found == pytest.approx(plain, rel=1e-3)


def test_first_order_is_worse_on_sinusoids() -> None:
    """On sinusoids, first-order gradients end with too large an error, and second-order gradients do not."""
    task = SinusoidTask(LAB)
    first = replaced(CORPUS.plain["maml_adapt"], "create_graph=not first_order", "create_graph=False")
    wanted = thresholds(task)
    assert task.rate(task.train(submission(COURSE, LAB), seed=5)) <= wanted["full"]
    assert task.rate(task.train(submission(COURSE, LAB, maml_adapt=first), seed=5)) > wanted["full"]


def test_each_training_has_thresholds() -> None:
    """Both trainings of the lab are calibrated, under different names."""
    tasks = [declared.task for declared in all_calibrated(LAB)]
    assert [task.data for task in tasks] == ["species", "sinusoids"]
    assert all(task.score.beats(wanted["full"], wanted["start"]) for task in tasks for wanted in [thresholds(task)])


def test_trainings_need_different_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings with data of one name would overwrite the thresholds of each other, and are refused."""
    monkeypatch.setattr(calibration, "PARTS", [calibration.PARTS[0]] * 2)
    with pytest.raises(ValueError, match="PARTS need data of different names"):
        all_calibrated(LAB)


def test_calibration_without_choice_of_data() -> None:
    """A lab whose data cannot be chosen refuses the option, and keeps its thresholds."""
    with pytest.raises(ValueError, match="leave out --data"):
        Calibration(LAB, data="drawn")


def test_calibration_page() -> None:
    """The page about the thresholds is made from the evidence, each training with its own score."""
    tasks = [declared.task for declared in all_calibrated(LAB)]
    text = (ROOT / "docs" / "calibration-meta-learning.md").read_text(encoding="utf-8")
    assert text == page(tasks, calibrations(tasks[0]))
    assert "thresholds of the gain and error checks" in text
    assert "mean ± sd, points" in text
    assert "| mean ± sd |" in text
