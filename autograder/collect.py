"""Collects what Canvas and Moodle let a teacher download: the collector of ``nbgrader zip_collect``.

Canvas names files ``lovelaceada_LATE_1234_567890_notebook-1.ipynb``: the name as it sorts, a mark where it is late, the id of
the person, that of the file, and what the student called it, with ``-1`` and so on behind it from the second upload on. Moodle
makes a folder ``Ada Lovelace_1234_assignsubmission_file_``, or puts that in front of the file's name.

Of several attempts the last counts, and the log lists the others: of several downloads the latest that has anything of the
student, in it the file with the lab's name that was uploaded last; where none has that name, the last file at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.plugins.zipcollect import FileNameCollectorPlugin
from nbgrader.utils import find_all_notebooks

_CANVAS = re.compile(r"(?P<name>.+?)_(?P<late>LATE_)?(?P<person>\d+)_(?P<file>\d+)_(?P<rest>.+)")
_MOODLE = re.compile(r"(?P<name>.+)_(?P<person>\d+)_assignsubmission_file(?:_(?P<rest>.*))?")
_AGAIN = re.compile(r"(?:-(\d+)| ?\((\d+)\))$")  # as Canvas, and as browsers number what is there already
_NOT_HIS = re.compile(r"\.|__MACOSX$")  # folders and files that systems and Jupyter add


@dataclass(frozen=True)
class Found:
    """A notebook in a download.

    Attributes:
        path: where it was unpacked.
        name: of the student, as it can be an id.
        person: number of the student on the platform.
        file: number of the file on Canvas, which grows with time; 0 on Moodle.
        again: how often a file of this name was uploaded before.
        notebook: name of the lab's notebook that it is, or its own.
        archive: what was downloaded; empty for files that were not in one.
        late: whether Canvas marked it.
    """

    path: Path
    name: str
    person: int
    file: int
    again: int
    notebook: str
    archive: str
    late: bool


class SubmissionCollector(FileNameCollectorPlugin):  # type: ignore[misc]
    """Collects from Canvas and Moodle alike; ``c.FileNameCollectorPlugin.named_regexp`` replaces its own rules."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._chosen: dict[str, dict[str, str]] | None = None

    def collect(self, submitted_file: str) -> dict[str, str] | None:
        """As nbgrader asks for each file: whose it is, or ``None`` where it is not collected."""
        if self.named_regexp:
            collected: dict[str, str] | None = super().collect(submitted_file)
            return collected
        if self._chosen is None:
            self._chosen = self._choose()
        return self._chosen.get(submitted_file)

    def _choose(self) -> dict[str, dict[str, str]]:
        """What is collected of all that was unpacked."""
        app = self.parent
        unpacked, archives = (
            Path(app._format_collect_path(d)) for d in (app.extracted_directory, app.archive_directory)
        )
        release = app.coursedir.format_path(app.coursedir.release_directory, ".", app.coursedir.assignment_id)
        released = {Path(name).stem for name in find_all_notebooks(release)}
        found = [entry for path in sorted(unpacked.rglob("*.ipynb")) if (entry := recognise(path, unpacked, released))]
        times = {path.stem: path.stat().st_mtime for path in archives.glob("*") if path.is_file()}
        chosen = {}
        for student, files in _by_student(found).items():
            kept = last(files, released, times)
            for entry in kept:
                chosen[str(entry.path)] = {"student_id": student, "file_id": entry.notebook}
            if others := [entry.path.relative_to(unpacked) for entry in files if entry not in kept]:
                last_ones = ", ".join(repr(str(entry.path.relative_to(unpacked))) for entry in kept)
                self.log.warning(
                    "%s: of several files %s counts, not collected: %s",
                    student,
                    last_ones,
                    ", ".join(map(repr, map(str, others))),
                )
            if any(entry.late for entry in kept):
                self.log.warning("%s: late, says Canvas; without a time there is no late penalty", student)
        return chosen


def recognise(path: Path, unpacked: Path, released: Iterable[str]) -> Found | None:
    """Whose notebook a file is, by its name and those of its folders.

    Args:
        path: of the file.
        unpacked: folder that everything was unpacked in.
        released: names of the lab's notebooks, without ``.ipynb``.
    """
    parts = path.relative_to(unpacked).parts
    if any(_NOT_HIS.match(part) for part in parts):
        return None
    for i, part in enumerate(parts):
        is_file = i == len(parts) - 1
        text = path.stem if is_file else part
        match = _CANVAS.fullmatch(text) or _MOODLE.fullmatch(text)
        name = student_name(match["name"]) if match is not None else ""
        if match is None or not name:
            continue
        numbers = match.groupdict()
        # in a folder of the student's, or in a zip that the student made, files have their own names
        stem = (numbers["rest"] or "") if is_file else path.stem
        notebook, again = _notebook(stem, set(released))
        if not notebook:
            continue
        archive = parts[0] if i else ""
        file, late = int(numbers.get("file") or 0), bool(numbers.get("late"))
        return Found(path, name, int(numbers["person"]), file, again, notebook, archive, late)
    return None


def student_name(name: str) -> str:
    """A name as an id: in small letters, ``_`` for blanks, without what has a meaning in paths, patterns or HTML."""
    text = unicodedata.normalize("NFC", name).casefold()
    return "_".join(re.sub(r"[^\w.-]", "", word) for word in text.split()).strip("._-")


def last(files: Iterable[Found], released: Iterable[str], times: dict[str, float]) -> list[Found]:
    """Of a student's files those that count, one for each notebook.

    Args:
        files: all of one student.
        released: names of the lab's notebooks.
        times: archive -> when it was downloaded.
    """
    archives = defaultdict(list)
    for entry in files:
        archives[entry.archive].append(entry)
    latest = max(archives.items(), key=lambda item: (max(e.file for e in item[1]), times.get(item[0], 0.0), item[0]))[1]
    ordered = sorted(latest, key=lambda entry: (entry.file, entry.again, str(entry.path)))
    named = {entry.notebook: entry for entry in ordered if entry.notebook in set(released)}
    return list(named.values()) or ordered[-1:]


def _by_student(found: Iterable[Found]) -> dict[str, list[Found]]:
    """Student id -> files. Where two people have one name, their numbers on the platform are put behind it."""
    people = defaultdict(set)
    for entry in found:
        people[entry.name].add(entry.person)
    students = defaultdict(list)
    for entry in found:
        several = len(people[entry.name]) > 1
        students[f"{entry.name}-{entry.person}" if several else entry.name].append(entry)
    return students


def _notebook(stem: str, released: set[str]) -> tuple[str, int]:
    """The lab's notebook that a name stands for, and how often it was uploaded before."""
    match = _AGAIN.search(stem)
    if stem in released or match is None:
        return stem, 0
    original, again = stem[: match.start()], int(match[1] or match[2])
    return (original, again) if original in released else (stem, again)
