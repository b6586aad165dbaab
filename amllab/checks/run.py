"""Runs the checks of a lab with pytest, quietly, and returns their results."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from amllab.checks.lab import Lab
from amllab.checks.plugin import ChecksPlugin
from amllab.checks.results import CheckResult
from amllab.checks.submission import Submission

# pytest as an engine: no configuration of the working directory, no command-line options of ours, no cache, no capturing of our own streams
QUIET = [
    "-c",
    os.devnull,
    "--noconftest",
    "--disable-plugin-autoload",  # whatever else is installed has no say in grades
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",  # collects garbage at its end, several times: seconds in a process that holds PyTorch
    "-p",
    "no:logging",  # goes through all loggers, of which PyTorch has many, several times for each check
    "--import-mode=importlib",
    "--capture=no",
    "-q",
    "--tb=native",  # nobody reads it unless the checks themselves are broken, and others look for the source of every frame
]


# with these, whoever runs the checks could change what pytest does
VARIABLES = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


class ChecksBroken(RuntimeError):  # noqa: N818
    """pytest could not run the checks at all: a fault of the checks, never of a submission."""


def run_checks(
    lab: Lab,
    paths: Sequence[Path],
    submission: Submission,
    *,
    reference: Callable[[], Submission] | None = None,
    seed: int = 0,
    stop_at_failure: bool = False,
) -> list[CheckResult]:
    """Runs the checks in ``paths`` against a submission.

    Args:
        lab: whose checks these are.
        paths: files or folders with ``test_*.py``.
        submission: what is checked.
        reference: makes the reference, for hidden checks.
        seed: of all inputs that the checks draw.
        stop_at_failure: runs no further checks after one that was not passed: their results are missing.

    Raises:
        ChecksBroken: the checks could not be collected; the message is pytest's.
        KeyboardInterrupt: somebody interrupted them.
    """
    from amllab.numerics import one_thread  # with PyTorch, which is loaded where checks are run

    plugin = ChecksPlugin(lab, submission, reference, seed)
    output = io.StringIO()
    root = str(lab.folder.parent.parent)
    arguments = [*QUIET, *(["--exitfirst"] if stop_at_failure else []), f"--rootdir={root}", *map(str, paths)]
    with patch.dict(os.environ), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), one_thread():
        for name in VARIABLES:
            os.environ.pop(name, None)
        code = pytest.main(arguments, plugins=[plugin])
    if plugin.interrupted:  # pytest would keep it to itself
        raise KeyboardInterrupt
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not plugin.results:
        raise ChecksBroken(f"pytest ended with {code!r}:\n{output.getvalue()[-4000:]}")
    return plugin.results
