"""Submissions in the style of public code, graded by the contract before any check ran on them."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

from autograder.checks.transfer_learning.corpus.plain import PLAIN
from autograder.labs.corpus import Solution, replaced

FREEZE, BUILD, TRAIN = PLAIN


def correct(name: str, reason: str, *, freeze: str = "", build: str = "", train: str = "") -> Solution:
    """Return a correct submission of these functions, and why it is correct under the contract."""
    given = zip(PLAIN, (freeze, build, train), strict=True)
    return Solution(name, {cell: dedent(source) for cell, source in given if source}, reason, public=True)


def wrong(cell: str, name: str, mistake: str, cost: tuple[float, float], source: str) -> Solution:
    """Return a wrong submission: this function, and the plain correct ones."""
    return Solution(name, {cell: dedent(source)}, mistake, cell, cost=cost, public=True)


def changed(base: Solution, cell: str, name: str, mistake: str, cost: tuple[float, float], *texts: str) -> Solution:
    """Return a correct submission with texts replaced in one cell: old, new, old, new, ..."""
    sources = {**base.sources, cell: replaced(base.sources[cell], *texts)}
    return replace(base, name=name, sources=sources, text=mistake, cell=cell, cost=cost, public=True)
