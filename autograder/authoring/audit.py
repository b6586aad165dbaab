"""The audit of a lab: ``autograder audit LAB`` checks, item by item, everything that must hold before its release."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nbformat
from nbformat import NotebookNode

from amllab.checks.results import score
from amllab.course_folder import CONFIG
from amllab.lab import Lab
from autograder.authoring.build import generate_assignment, notebook_of, same_text, solved
from autograder.course import Course
from autograder.errors import ReferenceFailedError, SettingsError
from autograder.grading.result import GradingResult
from autograder.grading.session import GradingSession
from autograder.labs.catalog import Check, checks_of
from autograder.labs.corpus import Corpus, Solution, corpus_of, not_passed
from autograder.labs.locations import hidden_name
from autograder.labs.own import require_thresholds
from autograder.labs.points import name_problems, point_problems
from autograder.labs.probes import probe_problems
from autograder.labs.settings import load_lab
from autograder.labs.study import Study, command, evidence_of, read_study
from autograder.text import counted

SEED = 1  # for sampling the inputs; it is fixed so that an audit is reproducible

State = Literal["ok", "FAIL", "not measured"]


@dataclass(frozen=True)
class Finding:
    """The result of one item of the audit.

    Attributes:
        what: Property that must hold.
        state: ``"not measured"`` if there is no evidence either way.
        seen: Figures, and what to do if the property does not hold.
    """

    what: str
    state: State
    seen: str

    @classmethod
    def of(cls, what: str, problems: Sequence[str], fine: str) -> Finding:
        """Return a failure if there are problems, otherwise a pass."""
        return cls(what, "FAIL" if problems else "ok", "; ".join(problems) or fine)


def audit(course: Course, assignment: str, *, class_size: int = 100) -> Iterator[Finding]:
    """Audit a lab and yield results as they become available, the slow ones last.

    Args:
        course: Course that the lab belongs to.
        assignment: Name of the lab's assignment.
        class_size: Number of students for which to estimate the grading time.

    Raises:
        LookupError: There is no such lab.
        FileNotFoundError: The lab has no master text.
        IsolationError: This machine cannot isolate submissions.
    """
    try:
        lab = load_lab(assignment)
        require_thresholds(lab)
    except SettingsError as error:
        yield Finding("settings", "FAIL", "; ".join(str(error).splitlines()))
        return
    yield Finding("settings", "ok", f"{lab.name}/lab.toml")
    if problems := probe_problems(lab):
        yield Finding("probes import, and trusted functions exist", "FAIL", "; ".join(problems))
        return
    yield Finding(
        "probes import, and trusted functions exist", "ok", f"{len(lab.trusted)} functions of {lab.name}/lab.toml"
    )
    master = course.directories["source_directory"] / lab.assignment / f"{lab.notebook}.py"
    if not master.is_file():
        raise FileNotFoundError(f"no master text {lab.assignment}/{master.name} in {master.parent.parent.name}/")
    notebook, checks = notebook_of(master), checks_of(lab)
    cells = {check.cell for check in checks}
    reached = f"{sum(check.points for check in checks):g} points in {counted(len(checks), 'check')} of {counted(len(cells), 'cell')}"
    problems = name_problems(lab, checks) + point_problems(notebook, checks)
    yield Finding.of("every point can be reached", problems, reached)
    built = list(_built(course, lab, notebook))
    yield from built
    if any(finding.state == "FAIL" for finding in built):
        return  # any further result would describe outdated files
    yield _leaks(course, lab)
    with GradingSession.of_course(course, assignment) as session:
        yield from _graded(course, session, checks, class_size)


def table(findings: Sequence[Finding]) -> str:
    """Format all results, one line each."""
    state, what = (
        max(len(text) for text in column) for column in zip(*((f.state, f.what) for f in findings), strict=True)
    )
    return "\n".join(f"{f.state:{state}}  {f.what:{what}}  {f.seen}".rstrip() for f in findings)


def passes(findings: Sequence[Finding], *, strict: bool = False) -> bool:
    """Return whether nothing failed and, with ``strict``, nothing was left unmeasured."""
    return all(f.state == "ok" or (f.state == "not measured" and not strict) for f in findings)


def _built(course: Course, lab: Lab, notebook: NotebookNode) -> Iterator[Finding]:
    """Check that the notebook, the release and the solution are what the master text builds."""
    build = f"run autograder build {lab.assignment}"
    from_master = course.directories["source_directory"] / lab.assignment / f"{lab.notebook}.ipynb"
    problems = [] if _read(from_master) == notebook else [f"{_name(course, from_master)} is out of date: {build}"]
    with tempfile.TemporaryDirectory(prefix="amllab-audit-") as folder:
        other = _course_of_one(course, lab, notebook, Path(folder))
        generate_assignment(other, lab.assignment)
        release = _read(other.release(lab))
    if _read(course.release(lab)) != release:
        problems.append(f"{_name(course, course.release(lab))} is out of date: {build}")
    yield Finding.of("the release is what the master builds", problems, _name(course, course.release(lab)))
    solution = _read(course.solution(lab))
    right = solution is not None and same_text(solution, solved(notebook))
    problems = [] if right else [f"{_name(course, course.solution(lab))} is out of date: {build}"]
    yield Finding.of("the solution is what the master builds", problems, _name(course, course.solution(lab)))
    code = [cell for cell in solution.cells if cell.cell_type == "code"] if solution is not None and right else []
    errors = sum(output.output_type == "error" for cell in code for output in cell.outputs)
    if right and any(cell.execution_count is None for cell in code):
        again = f"it has no stored outputs: {build} --execute"
        yield Finding("the solution runs from top to bottom", "not measured", again)
    elif right:
        yield Finding.of(
            "the solution runs from top to bottom",
            [counted(errors, "cell ends in an error", "cells end in an error")] if errors else [],
            counted(len(code), "cell"),
        )


def _course_of_one(course: Course, lab: Lab, notebook: NotebookNode, folder: Path) -> Course:
    """Create a course in another folder that contains only this lab's notebook."""
    shutil.copy(course.root / CONFIG, folder)
    other = Course.find(folder)
    source = other.directories["source_directory"] / lab.assignment
    source.mkdir(parents=True)
    nbformat.write(notebook, source / f"{lab.notebook}.ipynb")
    return other


def _leaks(course: Course, lab: Lab) -> Finding:
    """Check that students get nothing secret: building the bundle fails if it would contain a secret."""
    from autograder.authoring.bundle import bundle
    from autograder.errors import LeakError

    what = "nothing secret is in the students' bundle"
    try:
        archive = bundle(course, lab.assignment)
    except LeakError as error:
        return Finding(what, "FAIL", " ".join(str(error).split()))
    return Finding(what, "ok", _name(course, archive))


def _graded(course: Course, session: GradingSession, checks: Sequence[Check], class_size: int) -> Iterator[Finding]:
    """Grade the reference, the release and the wrong functions, check their points, and estimate the grading time."""

    def graded(notebook: NotebookNode | None, seed: int = SEED) -> GradingResult:
        assert notebook is not None, "the built files were checked before"
        return session.grade(notebook, seed)

    lab = session.lab

    try:
        # the first run starts the processes; the second samples its own inputs, as for each student, and shows the time
        first, second = (graded(_read(course.solution(lab)), seed) for seed in (SEED, SEED + 1))
    except ReferenceFailedError as error:
        yield Finding("the reference gets full marks", "FAIL", str(error))
        return
    most = sum(check.points for check in checks)
    yield marks("the reference gets full marks", min(first, second, key=lambda g: score(g.results)), most)
    yield marks("the release gets nothing", graded(_read(course.release(lab))), 0.0)
    corpus = corpus_of(lab)
    release = _read(course.release(lab))
    assert release is not None
    yield has_corpus(corpus, lab)
    # those that list their checks are few; `autograder study` checks all, without isolation
    wrong = [w for w in corpus.wrong if w.fails is not None]
    failed = {w.name: not_passed(graded(corpus.put_into(release, w)).results) for w in wrong}
    if wrong:
        yield noticed(wrong, failed)
    yield from kills(read_study(lab), lab, checks, wrong, failed)
    minutes = (first.seconds + (class_size - 1) * second.seconds) / 60
    seen = (
        f"about {minutes:.1f} minutes, one after the other: {second.seconds:.1f} s each, as measured for the reference"
    )
    yield Finding(f"time to grade a class of {class_size}", "ok", seen)


def marks(what: str, grading: GradingResult, wanted: float) -> Finding:
    """Check that a grading gave the expected points and that no check broke."""
    earned, possible = score(grading.results)
    broken = [result.name for result in grading.results if result.outcome == "error"]
    problems = [] if earned == wanted else [f"{earned:g} of {possible:g} points, not {wanted:g}"]
    problems += [f"broken checks: {', '.join(broken)}"] if broken else []
    return Finding.of(what, problems, f"{earned:g} of {possible:g} points")


def has_corpus(corpus: Corpus, lab: Lab) -> Finding:
    """Check that there are solutions that show what the checks are worth."""
    what = "the lab has a corpus of solutions"
    if not corpus.wrong:
        return Finding(what, "not measured", f"write wrong solutions to {hidden_name(lab.name, 'corpus.py')}")
    return Finding(what, "ok", f"{len(corpus.correct)} correct, {len(corpus.wrong)} wrong")


def noticed(wrong: Sequence[Solution], failed: dict[str, frozenset[str]]) -> Finding:
    """Check that each wrong function fails exactly the checks that it declares."""
    problems = [
        f"'{w.name}' fails {', '.join(sorted(failed[w.name])) or 'nothing'}, but the corpus says {', '.join(sorted(w.fails))}"
        for w in wrong
        if w.fails is not None and failed[w.name] != w.fails
    ]
    return Finding.of("wrong functions fail their checks and no other", problems, _functions(wrong))


def kills(
    study: Study, lab: Lab, checks: Sequence[Check], wrong: Sequence[Solution], failed: dict[str, frozenset[str]]
) -> Iterator[Finding]:
    """Check that every check is failed by a wrong submission, either of this audit or of a mutation study.

    A check that was merely skipped, because a check that it needs had failed, has not shown that it detects anything.
    """
    titles = {check.name: check for check in checks}
    alone = {
        name
        for w in wrong
        for name in failed[w.name] & titles.keys()
        if not failed[w.name].intersection(titles[name].needs)
    }
    killed = alone | (set() if study.stale else study.killed)
    measured = {titles[name].cell for name in killed & titles.keys()}
    what = "every check is failed by a wrong submission"
    missing = [check for check in checks if check.name not in killed]
    unmeasured = [check.name for check in missing if check.cell not in measured]
    survivors = [check.name for check in missing if check.cell in measured]
    sources = [_functions(wrong)] if wrong else []
    sources += [study.source] if study.source and not study.stale else []
    counted = f"{len(checks) - len(missing)} of {len(checks)} checks, by {' and '.join(sources)}"
    if survivors:
        yield Finding(what, "FAIL", f"{counted}; no wrong submission fails {', '.join(survivors)}")
    elif len(unmeasured) < len(checks):
        yield Finding(what, "ok", counted)
    if unmeasured and study.stale:
        still = len(study.killed & titles.keys())
        seen = f"{still} of {len(checks)} checks, by {study.source}, but the checks have changed since: run '{command(lab)}'"
        yield Finding(what, "not measured", seen)
    elif unmeasured:
        where = f"the corpus or evidence/{evidence_of(lab).name} of {hidden_name(lab.name, '')}"
        yield Finding(what, "not measured", f"{', '.join(unmeasured)}: no evidence in {where}")


def _functions(wrong: Sequence[Solution]) -> str:
    return f"{len(wrong)} wrong function{'' if len(wrong) == 1 else 's'}"


def _read(path: Path) -> NotebookNode | None:
    return nbformat.read(path, as_version=4) if path.is_file() else None


def _name(course: Course, path: Path) -> str:
    return str(path.relative_to(course.root)) if path.is_relative_to(course.root) else path.name
