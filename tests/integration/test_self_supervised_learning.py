"""Lab 2: notebooks are up to date, the reference gets full marks, and the corpus gets what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import nbformat
import pytest
import torch
from nbformat import NotebookNode

from amllab.checks.self_supervised_learning.accuracy_task import NOT_YOURS, PretrainingTask
from amllab.lab import find_lab
from amllab.protocol.failure import CheckFailure
from amllab.protocol.submission import InProcessSubmission
from autograder.authoring.build import notebook_of, same_text, solved
from autograder.authoring.study.checker import Checker, Verdict
from autograder.authoring.study.materials import Materials
from autograder.course import Course
from autograder.grading.session import GradingSession
from autograder.labs.corpus import Solution, corpus_of, replaced
from tests.conftest import ROOT, sampled

pytestmark = pytest.mark.full_training

LAB = find_lab("self-supervised-learning")
COURSE = Course.find(ROOT)
CORPUS = corpus_of(LAB)
SEED = 11
# mistakes with which nothing can be learned, or something else
WITHOUT_A_LOSS = ("loss_itself_not_masked", "loss_no_grad", "loss_returns_nothing", "loss_divided_by_n")
POINTS = {"check_nt_xent_loss": 25, "check_pretrain": 25, "check_linear_probe": 20, "check_accuracy": 20}


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
    """A mistake loses the points that were specified for it, in its cell and in no other."""
    found = verdict(mistake)
    assert found.lost.keys() == {f"check_{mistake.cell}"}, found
    assert mistake.cost is not None
    assert mistake.cost[0] <= sum(found.lost.values()) <= mistake.cost[1], found


@pytest.mark.parametrize(
    ("solution", "remark"),
    [
        *[(s, "") for s in CORPUS.correct if "nt_xent_loss" in s.sources],
        *[(s, NOT_YOURS) for s in CORPUS.wrong if s.name in WITHOUT_A_LOSS],
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_own_loss_in_accuracy_check(solution: Solution, remark: str) -> None:
    """The accuracy check trains with the submission's own loss if that is the contrastive one, else with another."""
    namespace: dict[str, object] = {}
    exec(Materials.of(COURSE, LAB).setup, namespace)
    exec(solution.sources["nt_xent_loss"], namespace)
    assert PretrainingTask(LAB).prepare(InProcessSubmission(LAB.name, namespace)) == remark


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_more_views_than_the_budget(mode: str) -> None:
    """A training that takes three steps for each batch exceeds the budget, in train mode and in eval mode."""
    namespace: dict[str, object] = {}
    exec(Materials.of(COURSE, LAB).setup, namespace)
    exec(CORPUS.plain["nt_xent_loss"], namespace)
    source = replaced(
        CORPUS.plain["pretrain"],
        "            first, second",
        f"            encoder.{mode}()\n            for _ in range(2):\n"
        "                nt_xent_loss(projector(encoder(augment(images))), projector(encoder(augment(images)))).backward()\n"
        "            first, second",
    )
    exec(source, namespace)
    settings = {**LAB.settings, "accuracy": {**LAB.settings["accuracy"], "images": 10, "test_images": 5}}
    task = PretrainingTask(replace(LAB, settings=settings))
    trained = task.train(InProcessSubmission(LAB.name, namespace), seed=1)
    with pytest.raises(CheckFailure, match="views"):
        task.verify(trained, earns=True)


def test_corpus_is_large_enough() -> None:
    """The corpus has correct styles and mistakes of all exercises."""
    assert len(CORPUS.correct) >= 12
    assert len(CORPUS.wrong) >= 25
    assert {f"check_{mistake.cell}" for mistake in CORPUS.wrong} == POINTS.keys() - {"check_accuracy"}
