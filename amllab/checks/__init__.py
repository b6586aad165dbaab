"""Checks: pytest tests worth points, run in a student's notebook or by the grader."""

from amllab.checks.failure import CheckFailure, Failure, Series, expect, series
from amllab.checks.notebook import CheckReport, check

__all__ = ["CheckFailure", "CheckReport", "Failure", "Series", "check", "expect", "series"]
