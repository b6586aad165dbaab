"""Labs 2 to 4: notebooks are up to date, the reference gets full marks, and the corpus gets what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import nbformat
import pytest
import torch
from nbformat import NotebookNode

from amllab.lab import Lab, find_lab
from autograder.authoring.build import notebook_of, same_text, solved
from autograder.authoring.study.checker import Checker, Verdict
from autograder.authoring.study.materials import Materials
from autograder.authoring.study.study import FIRST_SEED, MutationStudy
from autograder.authoring.study.subjects import HAND
from autograder.course import Course
from autograder.grading.session import GradingSession
from autograder.labs.corpus import Solution, corpus_of, replaced
from autograder.labs.settings import load_lab
from autograder.labs.study import checks_digest, command, evidence_of
from autograder.notebooks.normalize import read_release
from tests.conftest import ROOT, sampled, shared_launcher

pytestmark = pytest.mark.full_training

COURSE = Course.find(ROOT)
SEED = 11
STUDIED = FIRST_SEED  # what a mistake costs was recorded with this seed
POINTS = {
    "self-supervised-learning": {
        "check_nt_xent_loss": 25,
        "check_pretrain": 25,
        "check_linear_probe": 20,
        "check_accuracy": 20,
    },
    "meta-learning": {
        "check_sample_episode": 15,
        "check_prototypical_loss": 25,
        "check_maml_adapt": 30,
        "check_accuracy": 20,
    },
    "knowledge-distillation": {
        "check_distillation_loss": 25,
        "check_distill": 30,
        "check_calibration_error": 15,
        "check_accuracy": 20,
    },
}
# mistakes that cost up to 3 points more with some seeds, as one more check notices them then
VARYING: dict[str, set[str]] = {
    "self-supervised-learning": {"probe_lr_left_out"},
    "meta-learning": {"prototypes_rounded_loss"},
    "knowledge-distillation": {
        "loss_bfloat16",
        "loss_confident_rows",
        "loss_cosine",
        "loss_larger_part",
        "loss_product",
    },
}
LABS = [find_lab(assignment) for assignment in POINTS]
each_lab = pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: submissions run in forked processes, which need no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def checker(lab: str, seed: int) -> Checker:
    materials = Materials.of(COURSE, find_lab(lab))
    return Checker(materials, seed, correct=list(materials.bases.values()))


def verdict(lab: Lab, solution: Solution, seed: int = SEED) -> Verdict:
    found = checker(lab.assignment, seed).verdict({**corpus_of(lab).plain, **solution.sources})
    assert not found.broken
    assert not found.ended
    return found


def read(lab: Lab, kind: str) -> NotebookNode:
    return nbformat.read(COURSE.release(lab) if kind == "release" else COURSE.solution(lab), as_version=4)


def sample(kind: str, every: int) -> pytest.MarkDecorator:
    """Run a test with solutions of each lab's corpus: one in ``every``, or all with ``make test-all``."""
    chosen = [
        pytest.param(lab, *one.values, marks=one.marks, id=one.values[0].name)
        for lab in LABS
        for one in sampled(getattr(corpus_of(lab), kind), every)
    ]
    return pytest.mark.parametrize(("lab", "solution"), chosen)


@each_lab
def test_notebooks_are_up_to_date(lab: Lab) -> None:
    """The notebooks are those that the master builds."""
    master = COURSE.directories["source_directory"] / lab.assignment / f"{lab.notebook}.py"
    notebook = notebook_of(master)
    assert nbformat.read(master.with_suffix(".ipynb"), as_version=4) == notebook
    assert same_text(read(lab, "solution"), solved(notebook))


@each_lab
def test_solution_run_in_order(lab: Lab) -> None:
    """The solution was run from top to bottom, without errors, with its plots and without paths of a machine."""
    notebook = read(lab, "solution")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 6
    text = COURSE.solution(lab).read_text(encoding="utf-8")
    assert not [root for root in (str(ROOT), "/home/", "/Users/", "/tmp/", "site-packages") if root in text]


@each_lab
def test_solution_full_marks_and_release_none(lab: Lab) -> None:
    """Graded as submissions are, the solution gets full marks, and the release none."""
    possible = sum(POINTS[lab.assignment].values())
    release, solution = read_release(COURSE.release(lab)), COURSE.solution(lab)
    with GradingSession(load_lab(lab.assignment), release, solution, shared_launcher()) as session:
        graded = {kind: session.grade(read(lab, kind), seed=1).as_dict() for kind in ("solution", "release")}
    assert {kind: (found["score"], found["max_score"]) for kind, found in graded.items()} == {
        "solution": (possible, possible),
        "release": (0, possible),
    }


@sample("correct", 96)
def test_correct_style_full_marks(lab: Lab, solution: Solution) -> None:
    """Correct styles lose no points."""
    found = verdict(lab, solution)
    assert not found.lost, found.failed


@sample("wrong", 96)
def test_mistake_costs_as_recorded(lab: Lab, solution: Solution) -> None:
    """A mistake loses the points that were specified for it, in its cell alone, by the checks that look for it."""
    found = verdict(lab, solution, STUDIED)
    assert found.lost.keys() == {f"check_{solution.cell}"}, found
    assert solution.cost is not None
    assert solution.cost[0] <= sum(found.lost.values()) <= solution.cost[1], found
    if solution.recorded:
        assert {*found.failed, *found.skipped} == solution.recorded


# what trainings with {"loss": [...]} may return in its place
HISTORIES = [
    '{"loss": []}',
    '{"loss": ["a"]}',
    '{"loss": [None, None]}',
    '{"loss": [float("nan")] * epochs}',
    '{"loss": [float("inf")] * epochs}',
    '{"loss": (1.0,) * epochs}',
    '{"loss": {}}',
    '{"loss": [[1.0]] * epochs}',
    '{"loss": [1] * 5000}',
    '{"loss": [True] * epochs}',
    '{"loss": [1.0] * (epochs - 1)}',
    '{"loss": [1e300] * epochs}',
    '{"loss": 1.0}',
    '{"loss": None}',
    "{1: [2.0]}",
    "{}",
    "[]",
    "[None]",
    "object()",
]


@pytest.mark.parametrize("history", sampled(HISTORIES, len(HISTORIES)))
@pytest.mark.parametrize(
    ("lab", "cell"), [("self-supervised-learning", "pretrain"), ("knowledge-distillation", "distill")]
)
def test_any_history(lab: str, cell: str, history: str) -> None:
    """Whatever a training returns, no check breaks, and points are lost."""
    corpus = corpus_of(find_lab(lab))
    source = replaced(corpus.plain[cell], "return history", f"return {history}")
    found = verdict(find_lab(lab), Solution("history", {cell: source}))
    assert found.lost.keys() == {f"check_{cell}"}


@pytest.mark.slow
@each_lab
def test_accuracy_where_nothing_is_learned(lab: Lab) -> None:
    """Submissions that learn nothing fail the accuracy checks that the corpus names."""
    corpus = corpus_of(lab)
    accuracy = Checker(Materials.of(COURSE, lab), SEED, exercises=())
    found = {one.name: accuracy.verdict({**corpus.plain, **one.sources}) for one in corpus.wrong if one.fails}
    assert found
    for one in corpus.wrong:
        if one.fails:
            assert found[one.name].failed.keys() == one.fails & accuracy.checks.keys(), one.name


@each_lab
def test_corpus_is_large_enough(lab: Lab) -> None:
    """The corpus has correct styles and mistakes of all exercises."""
    corpus = corpus_of(lab)
    assert len(corpus.correct) >= 12
    assert len(corpus.wrong) >= 25
    cells = {f"check_{mistake.cell}" for mistake in corpus.wrong}
    assert cells == POINTS[lab.assignment].keys() - {"check_accuracy"}


@pytest.mark.parametrize("lab", [lab for lab in LABS if evidence_of(lab).is_file()], ids=lambda lab: lab.name)
def test_study_of_present_checks(lab: Lab) -> None:
    """The study is of the present checks: it caught all mistakes in their cells, and correct solutions lost nothing."""
    study = MutationStudy(COURSE, lab.assignment)
    assert study.summary()["checks"] == checks_digest(lab), f"run {command(lab)}"
    rows = study.read_rows()
    assert [row.id for row in rows if row.state not in ("caught", "equivalent", "correct")] == []
    assert [row.id for row in rows if row.elsewhere or row.broken] == []
    varying = {row.id.removeprefix("mistake/") for row in rows if row.kind == HAND and len(row.points_lost) > 1}
    assert varying == VARYING[lab.assignment]
    assert max(row.lost[-1] - row.lost[0] for row in rows if row.lost) <= 3
    assert len(rows) == len(study.subjects)
