"""Findings and reports of the preflight as plain text."""

from __future__ import annotations

import html
import re

from nbformat import NotebookNode

from amllab.preflight.inspections import Finding
from amllab.preflight.report import Preflight
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT

SOLUTION = ROOT / "solutions" / ASSIGNMENT / NOTEBOOK


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    (cell,) = [cell for cell in notebook.cells if (cell.metadata.get("nbgrader") or {}).get("grade_id") == grade_id]
    return cell


def texts(findings: list[Finding], level: str = "fix") -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def plain(report: Preflight) -> str:
    """Return the text of the panel, without tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", report._repr_html_())).split())
