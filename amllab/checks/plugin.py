"""The pytest plugin behind every check: markers, fixtures, prerequisites and results.

A check is a test function in ``test_*.py`` of a lab's folder::

    pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1")

    @pytest.mark.points(6)
    @pytest.mark.needs("test_returns_the_model")
    def test_last_layers(submission, rng):
        '''Exactly the last `n_trainable` layers can be trained.'''
        ...

Its docstring is its title in every report. A check reaches the submission only through the fixture ``submission``
(:class:`amllab.protocol.submission.Submission`). Hidden checks put the same question to the fixture ``reference``.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from amllab.checks.results import CheckResult, Outcome
from amllab.devices import ADVICE, is_absent
from amllab.lab import Lab
from amllab.protocol.failure import CheckFailure, Failure
from amllab.protocol.submission import Submission, SubmissionError
from amllab.seeds import derive

POINTS = "points.toml"  # next to hidden checks: what they are worth
MAX_TEXT = 2000  # characters of each part of a report
# symptoms that say nothing about a function when its check runs again at the end of the notebook
_SAYS_NOTHING = ("tampered", "lost", "budget", "memory")


def _readable(text: str) -> str:
    """Make text printable and limit its length: it includes a submission's messages, which may contain anything."""
    text = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[: MAX_TEXT + 1])
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " ..."


class ChecksPlugin:
    """A pytest plugin that runs checks against one submission and collects their results.

    Args:
        lab: The lab that the checks belong to.
        submission: The submission to check.
        reference: A function that returns the reference, called when a check requests it; ``None`` if there is none.
        seed: The seed of the run. Each check seeds its generator with this and its own name. The seed never leaves the
            grader: questions contain only values derived from it one way.
    """

    def __init__(
        self, lab: Lab, submission: Submission, reference: Callable[[], Submission] | None = None, seed: int = 0
    ) -> None:
        self.lab = lab
        self._submission = submission
        self._reference = reference
        self.seed = seed
        # by node id
        self._results: dict[str, CheckResult] = {}
        self._cells: dict[str, str] = {}  # node id -> the check cell that a check runs at, in the order of the files
        self._lacking: dict[str, str] = {}  # node id -> the definition that a check lacked
        self._at_the_end = False
        self.interrupted = False  # by a person: pytest's exit code is the same for modules that it cannot import

    @property
    def results(self) -> list[CheckResult]:
        """Results of all checks that ran, in the order of their files."""
        return [self._results[node] for node in self._cells if node in self._results]

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the markers of checks with pytest."""
        for line in (
            "cell(grade_id, section): the grade cell that the checks of a module count for",
            "points(n): what a check is worth",
            "needs(*names): checks that must pass first, if they are part of the same run",
        ):
            config.addinivalue_line("markers", line)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Record whether a person stopped the run: pytest also calls this for ``pytest.exit``."""
        self.interrupted = excinfo.type is KeyboardInterrupt

    @pytest.fixture
    def submission(self, request: pytest.FixtureRequest) -> Submission:
        """Return the submission, set to the check cell of this check."""
        self._submission.reach(None if self._at_the_end else self._cells[request.node.nodeid])
        return self._submission

    @pytest.fixture
    def reference(self, request: pytest.FixtureRequest) -> Submission:
        """Return the reference, set to the check cell of this check; fail if there is none."""
        if self._reference is None:
            pytest.fail("this check needs the reference, which is not available here")
        reference = self._reference()
        reference.reach(self._cells[request.node.nodeid])
        return reference

    @pytest.fixture
    def lab_settings(self) -> Lab:
        """Return the lab that the checks belong to, with its settings."""
        return self.lab

    @pytest.fixture
    def run_seed(self) -> int:
        """Return the seed of the run, for inputs that several checks share.

        Never put it into a question: derive a seed for each purpose.
        """
        return self.seed

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> random.Random:
        """Return a generator for this check alone, the same for the same seed of the run."""
        return random.Random(derive(self.seed, request.node.name))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Order checks by check cell as in the notebook, then by file and line, public before hidden.

        This puts prerequisites first.
        """
        items.sort(key=lambda item: (not is_public(self.lab, item), str(item.path)))
        places = {cell: place for place, cell in enumerate(self._submission.order)}
        at: dict[str, str] = {}
        for item in items:
            marker = item.get_closest_marker("cell")
            cells = [str(marker.args[0]) if marker else "", *(at[name] for name in needs_of(item) if name in at)]
            # a check that needs one of a later exercise runs at the cell of that exercise
            at[item.name] = self._cells[item.nodeid] = max(cells, key=lambda cell: places.get(cell, len(places)))
        items.sort(key=lambda item: places.get(self._cells[item.nodeid], len(places)))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip a check if one of its prerequisites did not pass."""
        not_passed = {r.name: r.title for r in self.results if r.outcome != "passed"}
        for name in needs_of(item):
            if name in not_passed:
                pytest.skip(f"waits for this check: {not_passed[name]}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run checks that lacked a definition at their check cell again at the end of the notebook."""
        done = yield
        self._at_the_end = True
        lacks: dict[tuple[str, str], bool] = {}  # (check cell, name) -> whether the name is still undefined
        again: set[str] = set()
        for item in session.items if self._submission.order else ():
            name = self._lacking.pop(item.nodeid, None)
            key = (self._cells[item.nodeid], name or "")
            skipped = self._results[item.nodeid].outcome == "skipped"
            if lacks.get(key, False) if name is not None else not (skipped and again.intersection(needs_of(item))):
                continue
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if name is not None:
                lacks[key] = self._lacking.get(item.nodeid) == name
            if self._results[item.nodeid].outcome == "passed":
                again.add(item.name)
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Store the result of a check, unless its second run says nothing about it."""
        report = yield
        if call.when == "call" or (call.when == "setup" and not report.passed):
            result = self._result(item, call, report)
            if not (self._at_the_end and result.failure and result.failure.symptom in _SAYS_NOTHING):
                self._results[item.nodeid] = result
        return report

    def _result(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> CheckResult:
        cell, points, title, _ = declared(item)
        section = cell.kwargs.get("section", "")
        outcome: Outcome = report.outcome
        failure = None
        if call.excinfo is not None:
            error = call.excinfo.value
            if isinstance(error, SubmissionError) and error.may_come_later:
                self._lacking[item.nodeid] = error.undefined
            if isinstance(error, (CheckFailure, SubmissionError)):
                failure = error.failure
                kind = error.kind if isinstance(error, SubmissionError) else ""
                failure = replace(
                    failure,
                    expected=_readable(failure.expected),
                    seen=_readable(failure.seen),
                    why=_readable(ADVICE if is_absent(failure.seen) else failure.why),
                    where=_readable(failure.where or section),
                    symptom=failure.symptom or kind,
                    reproduce=_readable(failure.reproduce),
                )
            elif report.skipped:
                failure = Failure(str(error).removeprefix("Skipped: "), "", "")
            else:
                outcome = "error"
                failure = Failure("the check runs", f"{type(error).__name__}: {error}", "")
        worth = points_of(self.lab, item, points)
        return CheckResult(item.name, title, cell.args[0], worth, outcome, failure, report.duration)


def needs_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the names of the checks that must have passed."""
    marker = item.get_closest_marker("needs")
    return marker.args if marker else ()


def declared(item: pytest.Item) -> tuple[pytest.Mark, pytest.Mark, str, str]:
    """Return the markers ``cell`` and ``points`` of a check, its title, and the rest of its docstring.

    Raises:
        pytest.UsageError: One of them is missing.
    """
    cell, points = item.get_closest_marker("cell"), item.get_closest_marker("points")
    docstring = item.obj.__doc__  # type: ignore[attr-defined]
    if cell is None or points is None or not docstring:
        raise pytest.UsageError(f"{item.nodeid}: a check needs the markers cell and points, and a docstring")
    title, _, more = docstring.strip().partition("\n\n")
    return cell, points, " ".join(title.split()), " ".join(more.split())


def is_public(lab: Lab, item: pytest.Item) -> bool:
    """Return whether students have this check too: it is in the library's folder of the lab."""
    return Path(item.path).is_relative_to(lab.folder)


def points_of(lab: Lab, item: pytest.Item, marker: pytest.Mark) -> float:
    """Return what a check is worth: what a file of the lab says, or else its marker.

    The file is ``lab.toml`` for public checks, and ``points.toml`` next to the hidden ones, which students do not get.

    Args:
        lab: The lab, with its settings.
        item: The check.
        marker: Its ``points`` marker.
    """
    folder = Path(item.path).parent
    weights = lab.settings.get("points", {}) if folder == lab.folder else _weights(folder / POINTS)
    points: float = weights.get(function_name(item), marker.args[0])
    return points


def _weights(file: Path) -> dict[str, float]:
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def function_name(item: pytest.Item) -> str:
    """Return the name of a check without its parameters."""
    return getattr(item, "originalname", item.name)
