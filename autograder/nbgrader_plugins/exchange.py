"""Replacements for nbgrader's ``collect`` and ``release_feedback``.

In nbgrader's own versions of these exchange commands, one bad submission stops the run for the whole class.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nbgrader.exchange.default import ExchangeCollect, ExchangeReleaseFeedback
from nbgrader.utils import notebook_hash

from autograder.collect.submission_folders import inside
from autograder.gradebook.timestamps import NAME, settle
from autograder.text import safe_line

_SECRET = "submission_secret.txt"  # 'nbgrader fetch_feedback' locates a student's page by it
_CLOCKS = timedelta(minutes=5)  # between the clock of the notebook server and that of the file system
_NOBODY = 65534  # the owner of all files on some network file systems
_MAX_BYTES = 100_000_000  # size limit for files copied out of a folder that nbgrader cannot copy


class Collect(ExchangeCollect):  # type: ignore[misc]
    """A ``collect`` in which a bad submission affects only the student concerned.

    Everybody may create folders in the exchange, under any name. If the student in the name has an account on this
    machine, only submissions that belong to it count. Submissions that were changed after the due date are listed.
    """

    src_records: list[dict[str, Any]]  # nbgrader's choice of submissions

    def init_src(self) -> None:
        """Choose a submission of each student, without those that somebody else submitted in their name."""
        super().init_src()
        self.src_records = [r for r in self.src_records if self._has_name(r) and not self._is_foreign(r)]
        if changed := sorted(filter(None, map(self._changed_late, self.src_records))):
            self.log.warning(
                "Look at %s: by their own word in time, but changed after the due date; 'ls -lc %s' shows when",
                ", ".join(changed), self.inbound_path,
            )  # fmt: skip

    def _has_name(self, record: dict[str, Any]) -> bool:
        """Return whether a submission names a student whose folder nbgrader will find, and say so if not."""
        if not record["username"]:
            self.log.error("Look at %s: it names no student, and is not collected", safe_line(record["filename"]))
        return bool(record["username"])

    def _sort_by_timestamp(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        own = [record for record in records if not self._owner(record)]
        for record in records if own else []:
            self._is_foreign(record)
        found: list[dict[str, Any]] = super()._sort_by_timestamp(own or records)
        return found

    def _is_foreign(self, record: dict[str, Any]) -> bool:
        """Return whether a submission is not the student's own, and say so."""
        owner = self._owner(record)
        if owner:
            self.log.error(
                "Look at %s: the account %s submitted %s in this name; it is not collected. If submissions do not belong to "
                "their students here, set c.ExchangeCollect.check_owner = False", record["username"], owner, record["filename"],
            )  # fmt: skip
        return bool(owner)

    def _owner(self, record: dict[str, Any]) -> str:
        """Return the account that submitted in the name of another account; empty if it was the student's own.

        Accounts that may act for students are root and the one that collects.
        """
        if not self.check_owner:
            return ""
        try:
            student = pwd.getpwnam(record["username"]).pw_uid
            owner = os.lstat(os.path.join(self.inbound_path, record["filename"])).st_uid
        except (KeyError, OSError):
            return ""  # on a hub of containers, students have no account on this machine
        if owner in (student, 0, os.geteuid(), _NOBODY):
            return ""
        try:
            return pwd.getpwuid(owner).pw_name
        except KeyError:
            return str(owner)

    def _changed_late(self, record: dict[str, Any]) -> str:
        """Return the student of a submission that says it was in time, although its files changed later.

        The time in the folder's name is the student's word. When a file was last changed is the kernel's, and nobody
        can set it.
        """
        if self.duedate is None or record["timestamp"] > self.duedate:
            return ""
        folder = Path(self.inbound_path, record["filename"])
        try:
            with os.scandir(folder) as files:
                times = [folder.lstat().st_ctime, *(file.stat(follow_symlinks=False).st_ctime for file in files)]
        except OSError:
            return ""  # what cannot be read is reported when it is copied
        changed = datetime.fromtimestamp(max(times), UTC).replace(tzinfo=None)
        return str(record["username"]) if changed > self.duedate + _CLOCKS else ""

    def _path_to_record(self, path: str) -> dict[str, Any]:
        try:
            record: dict[str, Any] = super()._path_to_record(path)
        except (ValueError, OverflowError):
            filename = os.path.basename(path)
            self.log.warning("%s: its name has no time; collected without a time", filename)
            record = {"username": filename.rsplit("+", 3)[0], "filename": filename, "timestamp": datetime(1970, 1, 1)}
        return record

    def copy_files(self) -> None:
        """Copy the submissions one by one, and correct their timestamps before and after."""
        self._settle()  # nbgrader compares timestamps with those of earlier collections
        records, course = self.src_records, self.coursedir
        if records:
            self.log.info(
                "Processing %d submissions of '%s' for course '%s'",
                len(records),
                course.assignment_id,
                course.course_id,
            )
        for record in records:
            self.src_records = [record]
            self.log.addFilter(_not_a_count_of_one)
            try:
                super().copy_files()
            except OSError as error:
                self.log.error(
                    "Look at %s: not collected (%s): correct that, and collect again",
                    safe_line(record["username"]),
                    safe_line(error),
                )
            finally:
                self.log.removeFilter(_not_a_count_of_one)
        self.src_records = records
        self._settle()
        if not records:
            super().copy_files()  # it says so

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copy a folder, or only its top-level notebooks and text files if nbgrader cannot copy it."""
        if why := inside(Path(src)):
            self._copy_files_alone(Path(src), Path(dest), why)
            return
        try:
            super().do_copy(src, dest, log)
            if not self.coursedir.groupshared:
                # 'nbgrader submit' opens the folder to everybody, so that the course can delete it
                os.chmod(dest, stat.S_IMODE(os.stat(dest).st_mode) & ~0o022)
        except (OSError, RuntimeError) as error:
            self._copy_files_alone(Path(src), Path(dest), str(error)[:200])

    def _copy_files_alone(self, src: Path, dest: Path, why: str) -> None:
        shutil.rmtree(dest, ignore_errors=True)
        dest.mkdir(parents=True)
        self.log.error("Look at %s: its notebooks were collected, other files were not: %s", dest.parent.name, why)
        for path in src.glob("*.*"):
            own = path.suffix in (".ipynb", ".txt") and not path.is_symlink() and path.is_file()
            if own and path.stat().st_size <= _MAX_BYTES:
                shutil.copy(path, dest)

    def _settle(self) -> None:
        for record in self.src_records:
            student = record["username"]
            folder = self.coursedir.format_path(
                self.coursedir.submitted_directory, student, self.coursedir.assignment_id
            )
            try:
                if remark := settle(Path(folder)):
                    self.log.warning("%s: %s", student, remark)
            except OSError as error:
                self.log.error("%s: its %s cannot be corrected (%s)", student, NAME, error.strerror)


def _not_a_count_of_one(message: logging.LogRecord) -> bool:
    """Keep the message with which nbgrader counts the submissions out of the log, as it gets them one by one."""
    return not message.getMessage().startswith("Processing 1 submissions ")


class ReleaseFeedback(ExchangeReleaseFeedback):  # type: ignore[misc]
    """A ``release_feedback`` that releases every page it can, and lists the students whose pages it cannot."""

    def copy_files(self) -> None:
        """Copy each page under the name that the exchange expects, and list the pages that have none."""
        coursedir, released, elsewhere = self.coursedir, 0, []
        excluded = set(coursedir.student_id_exclude.split(","))
        for page in sorted(Path(coursedir.root).glob(os.path.relpath(f"{self.src_path}/*.html", coursedir.root))):
            student = page.parent.parent.name
            if student in excluded:
                continue
            if not (secret := _text(page.parent / _SECRET)):
                elsewhere.append(student)
                continue
            name = f"{notebook_hash(secret=secret, notebook_id=page.stem)}.html"
            part = Path(self.dest_path, f"{name}.part")
            shutil.copy(page, part)
            os.replace(part, Path(self.dest_path, name))  # atomic: a student fetching now gets the old or new page
            released += 1
            self.log.info("Feedback of %s released: %s", student, name)
        self.log.info("%d pages released", released)
        if elsewhere:
            self.log.warning(
                "Not released, because their submissions did not come through the exchange: %s. Give it to them with "
                "'autograder export %s --format canvas-feedback' or '--format moodle-feedback', or send them the pages in %s/",
                ", ".join(sorted(set(elsewhere))), coursedir.assignment_id, coursedir.feedback_directory,
            )  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
