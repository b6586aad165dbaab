"""Faults of a course or a machine: they end the run, and cost nobody points."""

from __future__ import annotations

from amllab.checks.run import ChecksBroken
from autograder.grading.reference import ReferenceFailed
from autograder.grading.worker import WorkerFailed
from autograder.sandbox import IsolationError


class ClusterFailed(RuntimeError):  # noqa: N818
    """The other machines cannot grade: none is there, or what runs on them is another version."""


# faults of the course or of its machines: they would cost every student the same
COURSE_FAULTS = (ReferenceFailed, ChecksBroken, WorkerFailed, IsolationError, ClusterFailed)
