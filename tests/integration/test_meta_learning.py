"""Lab 3: notebooks are up to date, the reference gets full marks, and the corpus gets what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import nbformat
import pytest
import torch
from nbformat import NotebookNode

from amllab.checks.meta_learning.accuracy_tasks import NOT_YOURS, PrototypeTask, SinusoidTask
from amllab.kit.task import calibrations, thresholds
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import CheckFailure
from amllab.protocol.submission import InProcessSubmission
from autograder.authoring.build import notebook_of, same_text, solved
from autograder.authoring.calibration import Calibration
from autograder.authoring.calibration_page import page
from autograder.authoring.study.checker import Checker, Verdict
from autograder.authoring.study.materials import Materials
from autograder.authoring.study.study import MutationStudy
from autograder.checks.meta_learning import calibration
from autograder.checks.meta_learning.corpus import FAILS
from autograder.course import Course
from autograder.grading.session import GradingSession
from autograder.labs.calibrated import all_calibrated
from autograder.labs.corpus import Solution, corpus_of, replaced
from autograder.labs.study import checks_digest, command
from tests.conftest import ROOT, sampled

pytestmark = pytest.mark.full_training

LAB = find_lab("meta-learning")
COURSE = Course.find(ROOT)
CORPUS = corpus_of(LAB)
SEED = 11
POINTS = {
    "check_sample_episode": 15,
    "check_prototypical_loss": 25,
    "check_maml_adapt": 30,
    "check_accuracy": 20,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: submissions run in forked processes, which need no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def checker() -> Checker:
    materials = Materials.of(COURSE, LAB)
    return Checker(materials, SEED, correct=list(materials.bases.values()))


def verdict(solution: Solution) -> Verdict:
    found = checker().verdict({**CORPUS.plain, **solution.sources})
    assert not found.broken
    assert not found.ended
    return found


def submission(**sources: str) -> InProcessSubmission:
    """Return a submission of the plain functions, some of them replaced."""
    namespace: dict[str, Any] = {}
    exec(Materials.of(COURSE, LAB).setup, namespace)
    for source in {**CORPUS.plain, **sources}.values():
        exec(source, namespace)
    return InProcessSubmission(LAB.name, namespace)


def small(part: str, **changes: int) -> Lab:
    """Return the lab with a smaller budget for one of its trainings."""
    accuracy = LAB.settings["accuracy"]
    return replace(LAB, settings={**LAB.settings, "accuracy": {**accuracy, part: {**accuracy[part], **changes}}})


def read(kind: str) -> NotebookNode:
    return nbformat.read(COURSE.release(LAB) if kind == "release" else COURSE.solution(LAB), as_version=4)


def test_notebooks_are_up_to_date() -> None:
    """The notebooks are those that the master builds."""
    master = COURSE.directories["source_directory"] / LAB.assignment / f"{LAB.notebook}.py"
    notebook = notebook_of(master)
    assert nbformat.read(master.with_suffix(".ipynb"), as_version=4) == notebook
    assert same_text(read("solution"), solved(notebook))


def test_solution_run_in_order() -> None:
    """The solution was run from top to bottom, without errors, with its plots and without paths of a machine."""
    notebook = read("solution")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 6
    text = COURSE.solution(LAB).read_text(encoding="utf-8")
    assert not [root for root in (str(ROOT), "/home/", "/Users/", "/tmp/", "site-packages") if root in text]


def test_solution_full_marks_and_release_none() -> None:
    """Graded as submissions are, the solution gets full marks, and the release none."""
    with GradingSession.of_course(COURSE, LAB.assignment) as session:
        graded = {kind: session.grade(read(kind), seed=1).as_dict() for kind in ("solution", "release")}
    assert {kind: (found["score"], found["max_score"]) for kind, found in graded.items()} == {
        "solution": (sum(POINTS.values()), sum(POINTS.values())),
        "release": (0, sum(POINTS.values())),
    }


@pytest.mark.parametrize("style", sampled(CORPUS.correct, 12), ids=lambda style: style.name)
def test_correct_style_full_marks(style: Solution) -> None:
    """Correct styles lose no points."""
    found = verdict(style)
    assert not found.lost, found.failed


@pytest.mark.parametrize("mistake", sampled(CORPUS.wrong, 24), ids=lambda mistake: mistake.name)
def test_mistake_costs_as_recorded(mistake: Solution) -> None:
    """A mistake loses the points that were specified for it, in its cell alone, by the checks that look for it."""
    found = verdict(mistake)
    assert found.lost.keys() == {f"check_{mistake.cell}"}, found
    assert mistake.cost is not None
    assert mistake.cost[0] <= sum(found.lost.values()) <= mistake.cost[1], found
    if mistake.name in FAILS:
        assert {*found.failed, *found.skipped} == FAILS[mistake.name]


@pytest.mark.parametrize("style", [s for s in CORPUS.correct if "sample_episode" in s.sources], ids=lambda s: s.name)
def test_own_episodes_in_accuracy_check(style: Solution) -> None:
    """The accuracy check trains with the episodes of every correct ``sample_episode``."""
    assert PrototypeTask(LAB).prepare(submission(**style.sources)) == ""


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
    asked = submission(sample_episode=source)
    assert task.prepare(asked) == NOT_YOURS
    trained = task.train(asked, seed=1, remark=NOT_YOURS)
    task.verify(trained, earns=True)
    assert trained.fitted["images"] == 2 * 10 * (5 + 5)


def test_more_images_than_the_budget() -> None:
    """Episodes with more images than were asked for exceed the budget."""
    source = replaced(CORPUS.plain["sample_episode"], "):\n", "):\n    n_query += 1\n")
    task = PrototypeTask(small("prototypes", steps=2))
    trained = task.train(submission(sample_episode=source), seed=1)
    with pytest.raises(CheckFailure, match="220 images"):
        task.verify(trained, earns=True)


@pytest.mark.parametrize("style", [s for s in CORPUS.correct if "maml_adapt" in s.sources], ids=lambda s: s.name)
def test_maml_in_accuracy_check(style: Solution) -> None:
    """Every correct ``maml_adapt`` trains the network for all tasks at once, and to the same weights."""
    task = SinusoidTask(small("sinusoids", steps=3, tasks=4, test_tasks=20))
    found, plain = (task.rate(task.train(submission(**sources), seed=1)) for sources in (style.sources, {}))
    assert found == pytest.approx(plain, rel=1e-3)


def test_first_order_is_worse_on_sinusoids() -> None:
    """On sinusoids, first-order gradients end with too large an error, and second-order gradients do not."""
    task = SinusoidTask(LAB)
    first = replaced(CORPUS.plain["maml_adapt"], "create_graph=not first_order", "create_graph=False")
    wanted = thresholds(task)
    assert task.rate(task.train(submission(), seed=5)) <= wanted["full"]
    assert task.rate(task.train(submission(maml_adapt=first), seed=5)) > wanted["full"]


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


def test_study_of_present_checks() -> None:
    """The study is of the present checks: it caught all mistakes in their cells, and correct solutions lost nothing."""
    study = MutationStudy(COURSE, LAB.assignment)
    assert study.summary()["checks"] == checks_digest(LAB), f"run {command(LAB)}"
    rows = study.read_rows()
    assert [row.id for row in rows if row.state not in ("caught", "equivalent", "correct")] == []
    assert [row.id for row in rows if row.elsewhere or row.broken or len(row.points_lost) > 1] == []
    assert len(rows) == len(study.subjects)


def test_corpus_is_large_enough() -> None:
    """The corpus has correct styles and mistakes of all exercises."""
    assert len(CORPUS.correct) >= 12
    assert len(CORPUS.wrong) >= 25
    assert {f"check_{mistake.cell}" for mistake in CORPUS.wrong} == POINTS.keys() - {"check_accuracy"}
