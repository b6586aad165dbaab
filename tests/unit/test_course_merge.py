"""The three-way merge of a course's files: both sides keep what they changed, and nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autograder.authoring import three_way
from autograder.authoring.three_way import Base, Outcome, digest, merge
from autograder.labs.conflicts import conflict_lines

LABELS = ("your course", "amllab 1", "amllab 2")
OLD = b"".join(b"line %d\n" % i for i in range(20))
MINE = OLD.replace(b"line 3\n", b"line 3, mine\n")
NEW = OLD.replace(b"line 16\n", b"line 16, new\n")
CLASH = OLD.replace(b"line 3\n", b"line 3, new\n")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def merged(ours: bytes | None, theirs: bytes | None, old: bytes | None = OLD, name: str = "source/x/x.py") -> Outcome:
    base = None if old is None else Base(digest(old), old)
    return merge(name, base, ours, theirs, LABELS)


@pytest.mark.parametrize(
    ("ours", "theirs", "what", "content"),
    [
        (OLD, OLD, "", None),
        (MINE, OLD, "", None),  # only the course has changed it
        (MINE, MINE, "", None),  # both have made the same change
        (OLD, NEW, "updated", NEW),
        (None, OLD, "", None),  # deleted by the course, unchanged in the new version
        (None, NEW, "left out", None),
        (MINE, None, "kept", None),
        (None, None, "", None),
    ],
)
def test_merge_without_clash(ours: bytes | None, theirs: bytes | None, what: str, content: bytes | None) -> None:
    """If one side has left a file as it was, the other side decides, and no change of the course is overwritten."""
    outcome = merged(ours, theirs)
    assert (outcome.what, outcome.content, outcome.deleted, outcome.other) == (what, content, False, None)


def test_merge_removed_file() -> None:
    """A file that the new version lacks is deleted if the course has not changed it."""
    assert merged(OLD, None).deleted
    assert merged(MINE, None, None) == Outcome()  # a file of the course's own


@needs_git
def test_merge_both_changed() -> None:
    """Changes in different places are both there."""
    outcome = merged(MINE, NEW)
    assert outcome.what == "merged"
    assert outcome.content == MINE.replace(b"line 16\n", b"line 16, new\n")


@needs_git
def test_merge_conflict() -> None:
    """Changes in the same place are both there, with marks that name the versions, and the lines are told."""
    outcome = merged(MINE, CLASH)
    assert outcome.what == "conflict"
    assert outcome.content is not None
    for part in (
        b"line 3, mine\n",
        b"line 3, new\n",
        b"<<<<<<< your course\n",
        b">>>>>>> amllab 2\n",
        b"||||||| amllab 1\n",
    ):
        assert outcome.content.count(part) == 1
    assert conflict_lines(outcome.content) == [4]
    assert "line 4:" in outcome.why


@needs_git
def test_merge_inside_a_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that Git sets for hooks, or that are wrong, do not matter."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, "/nothing/there")
    assert merged(MINE, NEW).what == "merged"


def test_merge_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Git, the course's version stays, and the new one is handed out for comparison."""
    monkeypatch.setattr(three_way.shutil, "which", lambda name: None)
    outcome = merged(MINE, NEW)
    assert (outcome.what, outcome.content, outcome.other) == ("conflict", None, NEW)
    assert "Git" in outcome.why
    assert merged(OLD, NEW).content == NEW  # nothing to merge


@pytest.mark.parametrize(
    "name", ["labs/public/x/thresholds.json", "labs/hidden/x/evidence/study.jsonl", "w.safetensors"]
)
def test_merge_generated_files_whole(name: str) -> None:
    """Files that commands write are never mixed line by line."""
    outcome = merged(MINE, NEW, name=name)
    assert (outcome.what, outcome.content, outcome.other) == ("conflict", None, NEW)
    assert merged(OLD, NEW, name=name).content == NEW


def test_merge_solution_is_built_again() -> None:
    """An executed solution that both sides changed stays: the build makes it again from the merged master text."""
    outcome = merged(MINE, NEW, name="solutions/x/x.ipynb")
    assert (outcome.what, outcome.content, outcome.other) == ("kept", None, None)


@pytest.mark.parametrize("known", [None, Base(digest(OLD))])
def test_merge_unknown_base(known: Base | None) -> None:
    """If the text that the course was made from is lost, nothing is overwritten."""
    outcome = merge("source/x/x.py", known, MINE, NEW, LABELS)
    assert (outcome.what, outcome.content, outcome.other) == ("conflict", None, NEW)
    # its digest alone shows that the course has changed nothing
    assert merge("source/x/x.py", known, OLD, NEW, LABELS).content == (NEW if known else None)


def crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


@needs_git
@pytest.mark.parametrize(("ours", "what"), [(OLD, "updated"), (MINE, "merged")])
def test_merge_keeps_line_ends(ours: bytes, what: str) -> None:
    """A file with the line ends of Windows is no changed file, and it keeps them."""
    assert merged(crlf(OLD), OLD).what == ""
    outcome = merged(crlf(ours), NEW)
    assert (outcome.what, outcome.content) == (what, crlf(ours.replace(b"line 16\n", b"line 16, new\n")))
    conflict = merged(crlf(MINE), CLASH)
    assert conflict.content is not None
    assert conflict.content.count(b"\n") == conflict.content.count(b"\r\n")
    assert conflict_lines(conflict.content) == [4]


@needs_git
@pytest.mark.parametrize(
    "changed",
    [
        MINE.replace(b"mine", "über".encode("latin-1")),  # not UTF-8
        b"\xef\xbb\xbf" + MINE,  # the mark that some editors of Windows write
        MINE.rstrip(b"\n"),  # no line end at the end
        MINE.replace(b"line 5\n", b"line 5\r\n"),  # mixed line ends
        b"# " + b"x" * 200_000 + b"\n" + MINE,
        MINE.replace(b"line 9\n", b"=======\n"),  # a line that looks like a mark
    ],
)
def test_merge_unusual_texts(changed: bytes) -> None:
    """Whatever an editor makes of a text, its changes and the new ones are both there."""
    outcome = merged(changed, NEW)
    assert outcome.what == "merged"
    assert outcome.content is not None
    assert b"line 16, new\n" in outcome.content
    assert b"line 3, " in outcome.content


@needs_git
def test_merge_binary_in_text() -> None:
    """A text with bytes that are none cannot be merged, and both versions stay."""
    outcome = merged(MINE + b"\0", NEW)
    assert (outcome.what, outcome.content, outcome.other) == ("conflict", None, NEW)


@needs_git
def test_merge_whatever_git_is_configured_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither broken settings of a person nor other ways to write conflicts change a merge."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for settings in ("[merge\n bad", "[merge]\nconflictStyle = zdiff3\n[core]\nautocrlf = true\neol = crlf\n"):
        (tmp_path / ".gitconfig").write_text(settings)
        outcome = merged(MINE, NEW)
        assert outcome.what == "merged"
        assert outcome.content is not None
        assert b"\r" not in outcome.content
