"""Hidden checks on one notebook: ``pytest autograder/checks/transfer_learning --submission notebook.ipynb``.

Public checks can be added to the command line, as they are of the same kind. The submission is repaired and run in a
worker, as in grading.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from amllab.checks.plugin import ChecksPlugin
from amllab.lab import Lab, all_labs, find_lab
from autograder.course import Course
from autograder.grading.session import GradingSession


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name a submission and a seed."""
    group = parser.getgroup("checks of a lab")
    group.addoption("--submission", type=Path, help="notebook to check")
    group.addoption("--check-seed", type=int, help="seed of the checks' inputs (default: a fresh one)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that runs the checks of one lab against the given submission."""
    if config.getoption("--submission") is None:
        return
    labs = {name for name in all_labs() for argument in config.args if name in Path(argument).parts}
    if len(labs) != 1:
        raise pytest.UsageError(f"name the folder of one lab's checks; found {sorted(labs) or 'none'} in {config.args}")
    seed = config.getoption("--check-seed")
    plugin = _plugin(config, find_lab(labs.pop()), secrets.randbits(63) if seed is None else seed)
    config.pluginmanager.register(plugin, "amllab-checks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip all checks if no submission is given."""
    if config.getoption("--submission") is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="give a notebook with --submission"))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return the lab and the seed, for the head of pytest's output."""
    plugin = config.pluginmanager.get_plugin("amllab-checks")
    return f"checks of {plugin.lab.title}, seed {plugin.seed}" if plugin else None


def _plugin(config: pytest.Config, lab: Lab, seed: int) -> ChecksPlugin:
    session = GradingSession.of_course(Course.find(), lab.name)
    config.add_cleanup(session.close)
    worker = session.worker(config.getoption("--submission")).__enter__()
    config.add_cleanup(worker.close)
    return ChecksPlugin(lab, worker, lambda: session.reference, seed)
