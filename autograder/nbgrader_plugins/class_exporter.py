"""What the exporters of labs and of ordinary assignments share: the list of submissions, and what a run must not do.

nbgrader creates one exporter per run of ``autograde`` (``parent`` is its converter), after it has listed the
submissions and before it iterates over them.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import weakref
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook, SubmittedAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.utils import find_all_files, rmtree
from sqlalchemy.exc import SQLAlchemyError

from autograder.collect.submission_folders import closed, in_the_way, refusal
from autograder.gradebook.timestamps import read_timestamp, settle
from autograder.nbgrader_plugins.late_penalty import renew_penalties
from autograder.nbgrader_plugins.run import Run
from autograder.text import counted


class ClassExporter(NotebookExporter):
    """An exporter for the submissions of a class.

    Attributes:
        run: State of the run.
        digests: Student -> digest of the submission at the start of the run.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        gc.collect()  # formgrader grades inside its server: release what an earlier run there still holds
        self.run = Run(self.log, Path(self.parent.coursedir.root))
        weakref.finalize(self, self.run.end)
        self.digests: dict[str, str] = {}

    def course_path(self, directory: str, assignment: str) -> Path:
        """Return the absolute path of an assignment in a course directory such as ``release_directory``."""
        coursedir = self.parent.coursedir
        relative = coursedir.format_path(getattr(coursedir, directory), ".", assignment)
        return Path(coursedir.root, relative)

    def refuse(self, fault: str) -> NoReturn:
        """End the run the way nbgrader does, before anything has been changed."""
        self.log.error("Nothing was graded: %s", fault)
        raise NbGraderException(fault)

    def stop(self, student: str, fault: str) -> NoReturn:
        """End the run because of a fault of the course, before it costs anyone points."""
        self.run.stopped = True
        if self.run.folders[student].exists():
            rmtree(str(self.run.folders[student]))  # as nbgrader does when grading fails
        self.log.error(
            "Grading stopped at %s; this and all later submissions keep their previous results: %s", student, fault
        )
        sys.exit(1)

    def submissions(self) -> Iterator[tuple[Path, str, Path]]:
        """Yield the folder, the student and the folder of results of each submission that nbgrader may process.

        The others are taken off nbgrader's list, and the end of the log says why.
        """
        converter, run = self.parent, self.run
        coursedir = converter.coursedir
        named = converter._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True)
        pattern = converter._format_source(coursedir.assignment_id, coursedir.student_id)
        of_course = self._files_of_course()
        for folder in sorted(run.root.glob(os.path.relpath(pattern, run.root))):
            match = re.match(named, str(folder), re.S)  # nbgrader's own matching fails on names with a line break
            if match is None or match["student_id"] in coursedir.student_id_exclude.split(","):
                continue
            graded = Path(converter._format_dest(match["assignment_id"], match["student_id"]))
            if why := self._prepare(folder, match["student_id"], graded, of_course):
                run.left_out[match["student_id"]] = why
                converter.assignments.pop(str(folder), None)
                continue
            yield folder, match["student_id"], graded
        run.left_out |= (
            closed(Path(coursedir.root, coursedir.submitted_directory)) if coursedir.student_id == "*" else {}
        )
        if run.left_out:
            converter.assignments = Listed(converter.assignments)

    def leave_out(self, student: str, why: str) -> None:
        """Take a submission off nbgrader's list after all; the end of the log says why."""
        folder = next(folder for folder, of in self.run.students.items() if of == student)
        self.run.left_out[student] = why
        del self.run.students[folder], self.run.folders[student]
        del self.parent.assignments[folder]
        if not isinstance(self.parent.assignments, Listed):
            self.parent.assignments = Listed(self.parent.assignments)

    def _prepare(self, folder: Path, student: str, graded: Path, of_course: list[str]) -> str:
        """Fix a submission's timestamp.

        Returns:
            Why nbgrader must not process the submission; empty if it may.
        """
        if why := refusal(folder, student) or in_the_way(folder, of_course):
            return why
        try:
            settle(graded)
            if remark := settle(folder):
                self.log.warning("%s: %s", student, remark)
        except OSError as error:
            return (
                f"its timestamp.txt has no time and cannot be replaced ({error.strerror}); correct it and grade again"
            )
        return ""

    def _files_of_course(self) -> list[str]:
        """Return the files that nbgrader copies over those of each submission, as paths in its folder."""
        converter, coursedir = self.parent, self.parent.coursedir
        source = self.course_path("source_directory", coursedir.assignment_id)
        found = [os.path.relpath(path, source) for path in find_all_files(str(source), [*coursedir.ignore, "*.ipynb"])]
        return sorted(set(found) - set(converter.exclude_overwriting.get(coursedir.assignment_id, [])))

    def forget_times(self, assignment: str) -> None:
        """Clear gradebook times of submissions that no longer have one, because nbgrader would keep them.

        Args:
            assignment: Random ID of the assignment in the gradebook.
        """
        coursedir, row = self.parent.coursedir, SubmittedAssignment
        untimed = {student for folder, student in self.run.students.items() if not _time(Path(folder))}
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                timed = gradebook.db.query(row.student_id).filter(
                    row.assignment_id == assignment, row.timestamp.is_not(None)
                )
                for student in untimed & {student for (student,) in timed}:
                    self.log.warning("%s: no longer has a timestamp.txt, and counts as on time", student)
                    gradebook.find_submission(coursedir.assignment_id, student).timestamp = None
                    gradebook.db.commit()
        except SQLAlchemyError as error:
            self.refuse(f"the gradebook cannot be written: {getattr(error, 'orig', None) or error}")

    def renew_penalties(self) -> None:
        """Apply a deadline or an extension that changed since the last run to what is graded already."""
        coursedir = self.parent.coursedir
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                step = AssignLatePenalties(parent=self)
                if changed := renew_penalties(step, gradebook, coursedir.assignment_id):
                    gradebook.db.commit()
                    self.log.warning(
                        "Penalty of %s changed: %s", counted(len(changed), "submission"), "; ".join(changed)
                    )
        except SQLAlchemyError as error:
            self.refuse(f"the gradebook cannot be written: {getattr(error, 'orig', None) or error}")

    def remove(self, unfinished: dict[str, tuple[Path, str]]) -> None:
        """Remove gradings that are not up to date.

        nbgrader skips every submission that has a folder of results, and removes failed ones in the same way.

        Args:
            unfinished: Student -> folder of the results, and why they are not up to date.
        """
        alone = self.run.lock()
        for student, (folder, why) in unfinished.items():
            if alone:
                self.log.warning("%s: %s; it is graded again", student, why)
                rmtree(str(folder))
            else:
                self.log.warning("%s: skipped, because another run is grading it", student)
        self.run.share_lock()


class Listed(dict[str, list[str]]):
    """An incomplete list of submissions that makes nbgrader exit with status 1 after the last one.

    nbgrader iterates over the sorted keys, and offers no other way to report that some submissions were not graded.
    """

    _END = "\U0010ffff"  # sorts after all paths

    def __init__(self, submissions: dict[str, list[str]]) -> None:
        super().__init__(submissions | {self._END: []})

    def __getitem__(self, key: str) -> list[str]:
        if key == self._END:
            raise NbGraderException("some submissions were left out")
        return super().__getitem__(key)


def _time(folder: Path) -> datetime | None:
    found = read_timestamp(folder)
    return found.time if found is not None else None
