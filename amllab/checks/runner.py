"""Run the checks of a lab with pytest, quietly, and return their results."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from amllab.checks.plugin import ChecksPlugin
from amllab.checks.results import CheckResult
from amllab.lab import Lab
from amllab.protocol.submission import Submission

# pytest as an engine: without the configuration of the working directory, our command-line options, a cache, or
# captured streams
QUIET = [
    "-c",
    os.devnull,
    "--noconftest",
    "--disable-plugin-autoload",  # other installed plugins must not affect grades
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",  # collects garbage several times at its end, which takes seconds with PyTorch loaded
    "-p",
    "no:logging",  # visits all loggers, of which PyTorch has many, several times for each check
    "--import-mode=importlib",
    "--capture=no",
    "-q",
    # read only if the checks themselves are broken; other styles look up the source of every frame
    "--tb=native",
]


# with these, anyone who runs the checks could change what pytest does
VARIABLES = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


class ChecksBrokenError(RuntimeError):
    """pytest could not run the checks at all, which is a fault of the checks and never of a submission."""


@contextlib.contextmanager
def _last_error_restored() -> Iterator[None]:
    """Remove the last error that pytest leaves in ``sys``.

    Its frames keep alive everything that the run and its callers hold.
    """
    names = ("last_exc", "last_type", "last_value", "last_traceback")
    before = {name: getattr(sys, name) for name in names if hasattr(sys, name)}
    try:
        yield
    finally:
        for name in names:
            if name in before:
                setattr(sys, name, before[name])
            elif hasattr(sys, name):
                delattr(sys, name)


def run_checks(
    lab: Lab,
    paths: Sequence[Path],
    submission: Submission,
    *,
    reference: Callable[[], Submission] | None = None,
    seed: int = 0,
    stop_at_failure: bool = False,
) -> list[CheckResult]:
    """Run the checks in ``paths`` against a submission.

    Args:
        lab: The lab that the checks belong to.
        paths: Files or folders with ``test_*.py``.
        submission: The submission to check.
        reference: A function that returns the reference, for hidden checks.
        seed: Seed of all inputs that the checks sample.
        stop_at_failure: Stop after the first check that fails, without results of the remaining checks.

    Raises:
        ChecksBrokenError: The checks could not be collected; the message is pytest's output.
        KeyboardInterrupt: A person interrupted the run.
    """
    from amllab.numerics import one_thread  # loads PyTorch, which only runs of checks need

    plugin = ChecksPlugin(lab, submission, reference, seed)
    output = io.StringIO()
    root = str(lab.folder.parent.parent)
    arguments = [*QUIET, *(["--exitfirst"] if stop_at_failure else []), f"--rootdir={root}", *map(str, paths)]
    silent = contextlib.redirect_stdout(output), contextlib.redirect_stderr(output)
    with patch.dict(os.environ), _last_error_restored(), silent[0], silent[1], one_thread():
        for name in VARIABLES:
            os.environ.pop(name, None)
        code = pytest.main(arguments, plugins=[plugin])
    if plugin.interrupted:  # pytest does not raise it again
        raise KeyboardInterrupt
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not plugin.results:
        raise ChecksBrokenError(f"pytest ended with {code!r}:\n{output.getvalue()[-4000:]}")
    return plugin.results
