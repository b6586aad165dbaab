"""Attacks and faults with the real nbgrader command line: what each earns, and that nothing else is affected.

Several are graded at a time. Honest students come first and last, with the attacks between them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from autograder.labs.corpus import Solution
from tests.conftest import autograded, nbgrader, new_course, report, scores, submit
from tests.helpers import mini_lab
from tests.helpers.notebooks import notebook_of
from tests.security.hostile.attack_base import FULL, LAB_1, MINI, Attack, Surroundings, Target
from tests.security.hostile.attacks import ATTACKS
from tests.security.hostile.hostile_traces import Ears, marked_files, marked_processes, snapshot

pytestmark = pytest.mark.full_training

HONEST = ("aa_honest", "zz_honest")
AT_A_TIME = 4  # if there is enough memory: many of them only wait for their limits
# shorter than those of lab.toml, so that attacks that hang do not delay the tests
LIMITS = {
    "cell_seconds": 6,
    "answer_seconds": 30,
    "total_seconds": 120,
    "memory_bytes": 3 << 30,
    "scratch_bytes": 256 << 20,
}
PLAYED = [attack for attack in ATTACKS if attack.only != "stock"]
ON_MINI = [attack for attack in PLAYED if not attack.lab]
TARGETS = [
    pytest.param(MINI, id=MINI.assignment),
    pytest.param(LAB_1, id=LAB_1.assignment, marks=pytest.mark.slow),
]
# each attack on the small lab; and on lab 1, where some are about its checks
GAMES = [
    *(
        pytest.param(MINI, attack, id=attack.name, marks=() if i % 12 == 0 else pytest.mark.slow)
        for i, attack in enumerate(ON_MINI)
    ),
    *(pytest.param(LAB_1, attack, id=f"lab1-{attack.name}", marks=pytest.mark.slow) for attack in PLAYED),
]


@dataclass
class Batch:
    """The graded attacks, and their results.

    Attributes:
        target: the lab.
        course: the course of all students.
        students: the students who submitted.
        canaries: secrets that must not appear anywhere.
        traces: what was found but should not exist: names of files, processes, connections.
    """

    target: Target
    course: Path
    students: set[str]
    canaries: list[str]
    traces: dict[str, list[str]] = field(default_factory=dict)


def selected_on(request: pytest.FixtureRequest, target: Target) -> list[Attack]:
    """Return the attacks on a lab whose tests were selected."""
    played = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return list({p["attack"].name: p["attack"] for p in played if "attack" in p and p.get("target") is target}.values())


def honest(target: Target, request: pytest.FixtureRequest) -> NotebookNode:
    """Return a correct submission."""
    if target is MINI:
        return mini_lab.submission(mini_lab.RIGHT, request.getfixturevalue("mini_release"))
    return notebook_of(Solution("plain"), request.getfixturevalue("release"))


@pytest.fixture(scope="module")
def batches(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Target], Batch]]:
    """Grade the attacks whose tests were selected, once on each lab: ``pytest tests/security/hostile -k memory``."""
    with ExitStack() as stack:
        yield cache(lambda target: graded(request, tmp_path_factory.mktemp("hostile"), target, stack))


@pytest.fixture
def batch(batches: Callable[[Target], Batch], target: Target) -> Batch:
    return batches(target)


def graded(request: pytest.FixtureRequest, base: Path, target: Target, stack: ExitStack) -> Batch:
    """Grade the attacks on a lab whose tests were selected, and look for what they left behind."""
    marker = f"amlh{secrets.token_hex(5)}"
    canaries = [f"{marker}-canary-{place}" for place in ("file", "home", "environment")]
    home = base / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine example.org login ta password {canaries[1]}\n")
    (base / "secret.txt").write_text(canaries[0])
    ears = stack.enter_context(closing(Ears(marker, home)))
    course = new_course(base / "course", target.assignment)
    (course / "secret.txt").write_text(canaries[0])
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.GradeChecks.limits = {LIMITS!r}\nc.GradeChecks.jobs = {AT_A_TIME}\n")
    surroundings = Surroundings(course, home, ears.tcp, ears.udp, marker, target)
    release = request.getfixturevalue("mini_release" if target is MINI else "release")
    attacks = selected_on(request, target)
    for attack in attacks:
        submit(course, attack.name, attack.submit(release, surroundings))
    for student in HONEST:
        submit(course, student, honest(target, request))
    before = snapshot(course, home)
    secret = {"HOME": str(home), "COURSE_SECRET": canaries[2], "OMP_NUM_THREADS": "1"}
    done = nbgrader(course, "autograde", target.assignment, **secret)
    found = Batch(target, course, {*HONEST, *(attack.name for attack in attacks)}, canaries)
    found.traces["commands that failed"] = [done.stderr[-3000:]] if done.returncode else []
    found.traces["processes left"] = marked_processes(marker)
    after = snapshot(course, home)
    found.traces["files changed"] = sorted(path for path in before if after.get(path) != before[path])
    # Jupyter and Matplotlib keep their files in the grader's home
    new = [path for path in after.keys() - before.keys() if not path.startswith(str(home))]
    found.traces["files added"] = sorted(new)
    found.traces["files written"] = marked_files(marker, base)
    found.traces["connections"] = ears.heard
    made = nbgrader(course, "generate_feedback", target.assignment)
    found.traces["commands that failed"] += [made.stderr[-3000:]] if made.returncode else []
    return found


def printed(course: Path, student: str) -> str:
    """Return what the cells printed and returned, without the tracebacks, which quote the source."""
    texts = []
    for cell in autograded(course, student).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                texts.append(output.text)
            elif "data" in output:
                texts += [str(value) for value in output.data.values()]
    return "\n".join(texts)


@pytest.mark.parametrize(("target", "attack"), GAMES)
def test_attack_points(batch: Batch, attack: Attack) -> None:
    """An attack earns the points of its honest work."""
    course = batch.course
    got = scores(course, attack.name)
    cells = batch.target.full
    reports = "\n\n".join(report(course, attack.name, cell) for cell in cells)
    assert {cell: got[cell] for cell in cells} == attack.points(batch.target), reports
    assert not got["reflection"], "an untouched answer is worth zero, any other waits for a person"
    assert "! " not in reports, "a check itself broke"


@pytest.mark.parametrize(("target", "attack"), GAMES)
def test_attack_leaks_nothing(batch: Batch, attack: Attack) -> None:
    """An attack learns no secret, and its report and feedback are as expected."""
    course = batch.course
    text = json.dumps(autograded(course, attack.name))
    (page,) = course.glob(f"feedback/{attack.name}/*/*.html")
    html = page.read_text()
    assert [c for c in batch.canaries if c in text or c in html] == []
    shown = printed(course, attack.name)
    assert "REFUSED:" not in shown, "the attack was not tried: its process is not shut off"
    assert attack.says in text, "\n\n".join(report(course, attack.name, cell) for cell in batch.target.full)
    if attack.never:
        assert attack.never not in shown
    if attack.inert:
        assert attack.inert not in html
    assert len(text) < 20_000_000


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("student", HONEST)
def test_honest_students_points(batch: Batch, student: str) -> None:
    """Honest students keep their points."""
    got = scores(batch.course, student)
    assert {cell: got[cell] for cell in batch.target.full} == batch.target.full
    assert got["reflection"] is None


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "trace", ["commands that failed", "processes left", "files changed", "files added", "files written", "connections"]
)
def test_attack_leaves_no_traces(batch: Batch, trace: str) -> None:
    """The attacks leave no files, processes or connections."""
    assert batch.traces[trace] == []


@pytest.mark.parametrize("target", TARGETS)
def test_gradebook_only_grader_scores(batch: Batch) -> None:
    """The gradebook contains only what the grader wrote."""
    with Gradebook(f"sqlite:///{batch.course}/gradebook.db") as gradebook:
        submissions = gradebook.assignment_submissions(batch.target.assignment)
        graded = {s.student.id for s in submissions}
        manual = [g.manual_score for s in submissions for n in s.notebooks for g in n.grades]
        waiting = [g.name for s in submissions for n in s.notebooks for g in n.grades if g.needs_manual_grade]
    assert graded == batch.students
    assert set(manual) == {None}
    assert set(waiting) == {"reflection"}


def test_attack_collection() -> None:
    """At least 40 attacks are played on each lab, each with the points that it should earn."""
    assert len(ON_MINI) >= 40
    assert len(PLAYED) >= len(ON_MINI) + 20
    assert all(attack.points().keys() == FULL.keys() for attack in ATTACKS)
    assert all(not attack.earns or sum(attack.earns.values()) for attack in ATTACKS)
