"""The three-way merge of a file: the version that a course was made from, the course's own, and a new one.

Only Git merges texts (``git merge-file``). It is needed only if both sides changed the same file.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autograder.labs.conflicts import MARKS, conflict_lines

# what people write, line by line; other files are written by commands, and half of one does not fit half of another
TEXTS = (".py", ".toml", ".md", ".txt", ".csv", ".gitignore", "Dockerfile")
_LONGEST_COMPARED = 4000  # lines; longer files are notebooks and evidence, of which nobody counts differences


@dataclass(frozen=True)
class Base:
    """What is known of the version that a course was made from.

    Attributes:
        digest: Its digest, as of :func:`digest`.
        text: Its content, if it is a text and still there.
    """

    digest: str
    text: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """What happens to a file of a course.

    Attributes:
        what: A word for people: ``updated``, ``merged``, ``conflict``, ...; empty if there is nothing to say.
        why: The rest of the sentence.
        content: The new content; ``None`` if the file stays as it is.
        deleted: Whether the file is deleted.
        other: The new version, if it is to be written to another place because the file keeps the course's version.
    """

    what: str = ""
    why: str = ""
    content: bytes | None = None
    deleted: bool = False
    other: bytes | None = None


def is_text(name: str) -> bool:
    """Return whether a file of this name is merged line by line."""
    return name.endswith(TEXTS)


def digest(content: bytes) -> str:
    """Return a digest of a file, which for texts does not depend on the kind of line ends."""
    return hashlib.sha256(_plain(content)).hexdigest()


def merge(
    name: str, base: Base | None, ours: bytes | None, theirs: bytes | None, labels: tuple[str, str, str]
) -> Outcome:
    """Decide what happens to a file.

    Args:
        name: Path of the file in the course.
        base: The version that the course was made from; ``None`` if there was no such file, or it is unknown.
        ours: The course's version; ``None`` if the course deleted the file.
        theirs: The new version; ``None`` if there is none any more.
        labels: Names of the course's version, the base and the new version, for conflict markers.
    """
    new = labels[2]
    if theirs is None:
        if ours is None or base is None:
            return Outcome()
        if digest(ours) == base.digest:
            return Outcome("deleted", f"{new} no longer has it", deleted=True)
        return Outcome("kept", f"{new} no longer has it, but you changed it")
    if ours is None:
        if base is None:
            return Outcome("added", "", theirs)
        return Outcome() if digest(theirs) == base.digest else Outcome("left out", f"deleted here, changed in {new}")
    if digest(ours) == digest(theirs) or (base is not None and digest(theirs) == base.digest):
        return Outcome()
    if base is not None and digest(ours) == base.digest:
        return Outcome("updated", _count(ours, theirs), _with_line_ends_of(ours, theirs))
    if name.endswith(".ipynb"):
        return Outcome("kept", "the build makes it again")
    if base is None or base.text is None or not is_text(name):
        return Outcome("conflict", "yours is unchanged; compare it with the new version", other=theirs)
    return _merged(ours, base.text, theirs, labels)


def _merged(ours: bytes, base: bytes, theirs: bytes, labels: tuple[str, str, str]) -> Outcome:
    if shutil.which("git") is None:
        return Outcome("conflict", "yours is unchanged: without Git, texts cannot be merged", other=theirs)
    with tempfile.TemporaryDirectory(prefix="amllab-merge-") as folder:
        names = ("ours", "base", "theirs")
        for file, content in zip(names, (ours, base, theirs), strict=True):
            Path(folder, file).write_bytes(_plain(content))
        options = [option for label in labels for option in ("-L", label)]
        # without those that name a repository, as in a hook of Git
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        # nor settings of a person, which may be broken
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "merge-file", "-p", "--diff3", *options, *names]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode < 0 or done.returncode > 127:  # otherwise it is the number of conflicts
        reason = done.stderr.decode(errors="replace").strip()
        return Outcome("conflict", f"yours is unchanged: Git cannot merge it ({reason})", other=theirs)
    content = _with_line_ends_of(ours, done.stdout)
    if lines := conflict_lines(content):
        where = f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"
        return Outcome("conflict", f"{where}: {MARKS}", content)
    return Outcome("merged", f"your changes and those of {labels[2]}", content)


def _plain(content: bytes) -> bytes:
    """Return a text with the line ends of Unix; anything else as it is."""
    return content if b"\0" in content else content.replace(b"\r\n", b"\n")


def _with_line_ends_of(model: bytes, content: bytes) -> bytes:
    """Return a text with the kind of line ends that most lines of another one have."""
    if b"\0" in content or 2 * model.count(b"\r\n") <= model.count(b"\n"):
        return content
    return _plain(content).replace(b"\n", b"\r\n")


def _count(before: bytes, after: bytes) -> str:
    """Return how many lines differ, such as ``+3 -1 lines``; empty for what is not a text."""
    if b"\0" in before + after:
        return ""
    old, new = (_plain(content).decode("latin-1").splitlines() for content in (before, after))
    if len(old) + len(new) > _LONGEST_COMPARED:
        return ""
    lines = [line[0] for line in difflib.unified_diff(old, new, n=0) if not line.startswith(("+++", "---", "@@"))]
    return f"+{lines.count('+')} -{lines.count('-')} lines"
