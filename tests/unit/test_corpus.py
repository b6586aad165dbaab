"""Corpora of labs: files with equivalent mutants."""

from __future__ import annotations

from pathlib import Path

import pytest

from amllab.lab import Lab
from autograder.labs import corpus


def test_equivalent_of_lab_1(lab: Lab) -> None:
    """The shipped file is read; all of its entries are mutants, each with a reason."""
    found = corpus.corpus_of(lab).equivalent
    assert {len(key) for key in found} == {4}
    assert all(found.values())


@pytest.mark.parametrize(
    "content",
    [
        b"equivalent = 3",
        b"[[equivalent]]\nreason = 'x'",
        b"[[equivalent]]\nof = 'plain'\nnew = ['a']\ncell = 'c'\nold = 'o'\nreason = 'r'",
        b"[[equivalent]]\nmistake = 'm'\nreason = 'r'\nreasons = 'r'",
        b"[[equivalent",
        b"\xff",
    ],
)
def test_equivalent_damaged(content: bytes, tmp_path: Path) -> None:
    """A damaged file is named."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "equivalent.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"corpus/equivalent\.toml: "):
        corpus._equivalent(tmp_path)


def test_equivalent_empty(tmp_path: Path) -> None:
    """An empty file lists nothing."""
    (tmp_path / "equivalent.toml").touch()
    assert corpus._equivalent(tmp_path) == {}
