"""Submissions of lab 1 in this process, without isolation."""

from __future__ import annotations

from typing import Any

from amllab.lab import Lab
from amllab.protocol.submission import InProcessSubmission
from autograder.checks.transfer_learning.corpus import PLAIN


def submission(lab: Lab, prelude: str = "", **sources: str) -> InProcessSubmission:
    """Return the plain correct functions, with some replaced."""
    namespace: dict[str, Any] = {}
    exec("import copy, timm, torch\nfrom amllab import layers_of, load_backbone\n" + prelude, namespace)
    for cell, source in PLAIN.items():
        exec(sources.get(cell, source), namespace)
    return InProcessSubmission(lab.name, namespace)
