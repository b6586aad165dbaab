"""The two plugins with which ``nbgrader zip_collect`` collects downloads from learning platforms.

The extractor does the work: it identifies the student of each file (:mod:`~autograder.collect.names`), reads archives
within limits (:mod:`~autograder.collect.archives`), selects the notebooks that count
(:mod:`~autograder.collect.choose`), assigns permanent ids (:mod:`~autograder.collect.record`), and writes the notebooks
to ``extracted/STUDENT/``. All students who uploaded something get a folder there. If none of their files can be read as
a notebook, it contains a note, so that grading gives 0 points and says why. The collector passes these files to
nbgrader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.plugins.zipcollect import ExtractorPlugin, FileNameCollectorPlugin
from nbgrader.utils import find_all_notebooks
from sqlalchemy.exc import SQLAlchemyError

from autograder.collect import downloads
from autograder.collect.choose import Chosen, choose
from autograder.collect.downloads import Upload
from autograder.collect.names import Owner, letters
from autograder.collect.record import Known, Person, Record, give_ids, key_of
from autograder.collect.uploads import read_upload
from autograder.gradebook.timestamps import read_timestamp
from autograder.notebooks.metadata import COLLECTION_NOTE
from autograder.text import counted

__all__ = ["SubmissionCollector", "SubmissionExtractor"]

_MAX_LINES = 20  # about files that were not collected


class SubmissionExtractor(ExtractorPlugin):  # type: ignore[misc]
    """An extractor that writes one folder per student.

    If the course has its own rule for file names (``named_regexp``), notebooks keep the names of the download instead.
    """

    def extract(self, archive_path: str, extracted_path: str) -> None:
        """Extract all downloads; called by nbgrader.

        If some files cannot be collected, everything else is collected first, and the command exits with status 1.
        """
        app, extracted = self.parent, Path(extracted_path)
        release = app.coursedir.format_path(app.coursedir.release_directory, ".", app.coursedir.assignment_id)
        released = {Path(name).stem for name in find_all_notebooks(release)}
        found = downloads.find(Path(archive_path), released)
        if not found.uploads and not found.failures:
            self.log.warning("No files found in directory: %s", archive_path)
        if app.collector_plugin_inst.named_regexp:
            self._by_own_rule(found.uploads, extracted)
            return
        try:
            self._by_student(found.uploads, extracted, released)
        except (ValueError, SQLAlchemyError) as error:
            app.fail(f"Nothing was collected: {getattr(error, 'orig', None) or error}")
        for failure in found.failures[:_MAX_LINES]:
            self.log.error("Not collected: %s", failure)
        if found.failures:
            app.process_extracted_files()
            app.fail(
                f"{counted(len(found.failures), 'file was', 'files were')} not collected (the first are listed above); everything else was. Remove "
                "files that do not belong to a student, put the others into submitted/STUDENT/LAB/ or rename them as the "
                "platform does, then run the command again with --force"
            )

    def _by_student(self, uploads: list[Upload], extracted: Path, released: set[str]) -> None:
        root, assignment = Path(self.parent.coursedir.root), self.parent.coursedir.assignment_id
        record = Record.read(root)
        people = _people(uploads, assignment)
        ids, remarks = give_ids([person for person, _ in people.values()], record, self._roster())
        collected = record.uploads[assignment] = dict(record.uploads.get(assignment, {}))
        for key, (person, theirs) in sorted(people.items(), key=lambda item: ids[item[0]]):
            student = ids[key]
            chosen = choose(theirs, released)
            self._log(student, chosen)
            _write(extracted / student, chosen)
            names = [upload.owner.part for upload in chosen.uploads if upload.owner is not None]
            collected[student] = {"platform": person.platform, "names": list(dict.fromkeys(names))}
        for remark in remarks:
            self.log.warning("%s", remark)
        record.write(root)

    def _roster(self) -> list[Known]:
        """Return the gradebook's students; empty if there is no gradebook.

        A missing gradebook is not opened, because nbgrader would create an empty one.
        """
        url = self.parent.coursedir.db_url
        database = url.removeprefix("sqlite:///").partition("?")[0]
        if url.startswith("sqlite:///") and not Path(self.parent.coursedir.root, database).is_file():
            return []
        with Gradebook(url, self.parent.coursedir.course_id) as gradebook:
            return [
                Known(
                    student.id,
                    frozenset({letters(student.id), *_both_ways(student.first_name or "", student.last_name or "")}),
                    student.lms_user_id or "",
                )
                for student in gradebook.students
            ]

    def _log(self, student: str, chosen: Chosen) -> None:
        for upload in chosen.uploads:
            self.log.info("%s: %s%s", student, upload.path, f" in {upload.download}" if upload.download else "")
        for line in chosen.notes + chosen.remarks:
            self.log.warning("%s: %s", student, line)
        if any(upload.owner is not None and upload.owner.late for upload in chosen.uploads):
            self.log.warning(
                "%s: marked late by Canvas, but there is no late penalty, because the time is not known", student
            )

    def _by_own_rule(self, uploads: list[Upload], extracted: Path) -> None:
        """Write notebooks under their names in the downloads, with archives as folders, for the course's own rule."""
        for upload in uploads:
            try:
                with upload.open() as stream:
                    read = read_upload("/".join(upload.parts), stream)
            except ValueError as error:
                self.log.warning("Not read: %s: %s", upload.path, error)
                continue
            for reason in read.reasons:
                self.log.warning("Not read: %s", reason)
            for content in read.contents:
                parts = [Path(upload.download).stem, *content.path.split("/")]
                path = extracted.joinpath(*(_safe(part) for part in parts if part not in ("", ".", "..")))
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.with_name(f"{_safe(content.stem)}.ipynb").write_bytes(content.data)
                except OSError as error:  # a file and a folder with the same name
                    self.log.warning("Not read: %s: %s", upload.path, error.strerror)


class SubmissionCollector(FileNameCollectorPlugin):  # type: ignore[misc]
    """A collector that names the student and notebook of each extracted file, unless ``named_regexp`` is set."""

    def collect(self, submitted_file: str) -> dict[str, Any] | None:
        """Return the student and name of a file, or ``None`` to skip it; called by nbgrader for each file."""
        if self.named_regexp:
            collected: dict[str, Any] | None = super().collect(submitted_file)
            return collected
        path = Path(submitted_file)
        found = {"student_id": path.parent.name, "file_id": path.name}
        if (time := self._time(path)) is not None:
            found["timestamp"] = time
        return found

    def _time(self, path: Path) -> str | None:
        """Return the time recorded for an identical notebook collected earlier, so that collecting again keeps it."""
        coursedir = self.parent.coursedir
        before = Path(coursedir.format_path(coursedir.submitted_directory, path.parent.name, coursedir.assignment_id))
        try:
            if (before / path.name).read_bytes() != path.read_bytes():
                return None
        except OSError:
            return None
        read = read_timestamp(before)
        return f"{read.time} UTC" if read is not None and read.time is not None else None


def _people(uploads: list[Upload], assignment: str) -> dict[str, tuple[Person, list[Upload]]]:
    people: dict[str, tuple[Person, list[Upload]]] = {}
    for upload in uploads:
        if (owner := upload.owner) is not None:
            key = key_of(owner, assignment)
            people.setdefault(key, (_person(owner, key), []))[1].append(upload)
    return people


def _person(owner: Owner, key: str) -> Person:
    return Person(key, owner.platform, owner.person, owner.id, letters(owner.name))


def _both_ways(first: str, last: str) -> set[str]:
    return {letters(first + last), letters(last + first)} if first and last else set()


def _write(folder: Path, chosen: Chosen) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in chosen.notebooks.items():
        (folder / f"{name}.ipynb").write_bytes(content.data)
    if chosen.notes:
        (folder / COLLECTION_NOTE).write_text("".join(f"{line}\n" for line in chosen.notes), encoding="utf-8")


def _safe(part: str) -> str:
    plain = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in part)
    return plain.encode()[:150].decode(errors="ignore") or "_"
