"""Feedback for upload to the platform: one zip whose files have the names from the collected download.

Canvas (*Upload Submissions* of an assignment) identifies person and file by the numbers in a name. It shows the page
under the name of the student's file, so the zip contains a notebook where the student submitted one. Moodle (*Upload
multiple feedback files in a zip*) identifies the person by the name of the folder, or by the prefix of the file's name:
by the number between the first two underscores.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry

from autograder.collect.names import recognise
from autograder.collect.record import Record
from autograder.course import Course
from autograder.results.class_results import from_gradebook, require_gradebook
from autograder.text import number, safe_line

_MOODLE = re.compile(r"(?P<person>.+?)(?P<number>_\d+)(?P<plugin>_assignsubmission_[a-z]+)(?:_|(?P<file>_.+))?", re.S)


def write_feedback(course: Course, assignment: str, platform: str, path: Path) -> list[str]:
    """Write the zip and return remarks.

    Args:
        course: Course whose ``feedback`` folder to read.
        assignment: Name of the assignment, such as ``"transfer-learning"``.
        platform: ``"canvas"`` or ``"moodle"``.
        path: Path of the zip.

    Returns:
        One line for each student whose feedback is missing from the zip or out of date, with the remedy.

    Raises:
        FileNotFoundError: There is no gradebook or no feedback yet.
        LookupError: There is no such assignment.
    """
    require_gradebook(course, assignment)
    record, pages = Record.read(course.root), pages_of(course, assignment)
    with course.gradebook() as gradebook:
        remarks = to_generate(course, gradebook, assignment, pages)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for student, own in sorted(pages.items()):
                folder = course.directories["autograded_directory"] / student / assignment
                names = record.names(assignment, student, platform)
                taken = [name for name in names if _is_taken(name, platform)]
                if platform == "moodle":
                    # several files of a person may have the same place for each page
                    for place, page in {_in_moodle(name, page.name): page for name in taken for page in own}.items():
                        archive.write(page, place)
                for name in taken if platform == "canvas" else ():
                    page = next((page for page in own if page.stem in name), own[0])
                    notebook = folder / f"{page.stem}.ipynb"
                    if name.lower().endswith(".ipynb") and notebook.is_file():
                        graded_notebook = _graded(gradebook, assignment, student, notebook)
                        archive.writestr(name, nbformat.writes(graded_notebook))
                    else:
                        archive.write(page, name)
                if not taken:
                    remarks.append(f"{safe_line(student)}: not in the zip, {_why(names, assignment, platform)}")
    return remarks


def pages_of(course: Course, assignment: str) -> dict[str, list[Path]]:
    """Return the feedback pages of an assignment, by student: one for each of its notebooks."""
    found: dict[str, list[Path]] = {}
    for page in sorted(course.directories["feedback_directory"].glob("*/*/*.html")):
        if page.parent.name == assignment and page.is_file():
            found.setdefault(page.parent.parent.name, []).append(page)
    return found


def to_generate(
    course: Course, gradebook: Gradebook, assignment: str, pages: Mapping[str, Sequence[Path]]
) -> list[str]:
    """Return a line for each graded student whose page is missing or older than the grading, with the remedy.

    Raises:
        FileNotFoundError: There are no pages.
        LookupError: There is no such assignment.
    """
    command = f"run 'nbgrader generate_feedback {assignment}"
    graded = {submission.student for submission in from_gradebook(gradebook, assignment).graded}
    if not pages:
        raise FileNotFoundError(f"no feedback for {assignment} yet: {command}'")
    lines = [f"{safe_line(student)}: no feedback page, {command}'" for student in sorted(graded - pages.keys())]
    for student, own in sorted(pages.items()):
        folder = course.directories["autograded_directory"] / student / assignment
        if any(_is_newer(folder / f"{page.stem}.ipynb", page) for page in own):
            lines.append(f"{safe_line(student)}: the page is older than the grading, {command} --force'")
    return lines


def _is_newer(notebook: Path, page: Path) -> bool:
    return notebook.is_file() and notebook.stat().st_mtime > page.stat().st_mtime


def _is_taken(name: str, platform: str) -> bool:
    """Return whether the platform accepts feedback under a name: Canvas only for files, Moodle only for people."""
    owner = recognise([name, "x"] if platform == "moodle" else [name])
    return owner is not None and bool(owner.person) and not (platform == "canvas" and owner.text)


def _in_moodle(name: str, page: str) -> str:
    """Return the path of a page in the zip: Moodle looks for the number between the first two underscores."""
    if (match := _MOODLE.fullmatch(name)) is None:
        return f"{name}/{page}"
    front = f"{match['person'].replace('_', ' ')}{match['number']}{match['plugin']}"
    return f"{front}_{page}" if match["file"] else f"{front}{name[match.end('plugin') :]}/{page}"


def _why(names: list[str], assignment: str, platform: str) -> str:
    if names:
        what = "text that was typed into its form" if platform == "canvas" else "the group of students without a group"
        return f"{platform.capitalize()} accepts no file for {what}: send the page in feedback/ yourself"
    return (
        f"it is not known what {platform.capitalize()} called the submission: collect its download with "
        f"'nbgrader zip_collect {assignment} --force', or send the page in feedback/ yourself"
    )


def _graded(gradebook: Gradebook, assignment: str, student: str, path: Path) -> NotebookNode:
    """Return the graded notebook for its student.

    Scores and comments are inserted above the cells; metadata that only graders need is removed from the outputs.
    """
    graded = nbformat.read(path, as_version=4)
    said = dict(_said(gradebook, assignment, student, path.stem))
    cells = [nbformat.v4.new_markdown_cell(f"# Feedback\n\n{said.pop('')}")] if "" in said else []
    for cell in graded.cells:
        if text := said.get(cell.metadata.get("nbgrader", {}).get("grade_id", "")):
            cells.append(nbformat.v4.new_markdown_cell(text))
        if cell.cell_type != "code":
            cells.append(nbformat.v4.new_markdown_cell(cell.source, attachments=cell.get("attachments", {})))
            continue
        outputs = [
            nbformat.from_dict({**output, **({"metadata": {}} if "metadata" in output else {})})
            for output in cell.outputs
        ]
        cells.append(nbformat.v4.new_code_cell(cell.source, outputs=outputs))
    kernelspec = graded.metadata.get("kernelspec", {})
    page: NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    return page


def _said(gradebook: Gradebook, assignment: str, student: str, notebook: str) -> Iterator[tuple[str, str]]:
    """Yield grade ids with scores and comments; the empty id stands for the total."""
    try:
        found = gradebook.find_submission_notebook(notebook, assignment, student)
    except MissingEntry:
        return
    late = f", {number(found.late_submission_penalty)} lost for being late" if found.late_submission_penalty else ""
    waiting = {
        grade.name: grade.max_score
        for grade in found.grades
        if grade.needs_manual_grade and grade.auto_score is None and grade.manual_score is None
    }
    most = found.max_score - sum(waiting.values())
    more = f" so far; {number(sum(waiting.values()))} further points are not graded yet" if waiting else ""
    earned = max(found.score - (found.late_submission_penalty or 0.0), 0.0)
    yield "", f"{number(earned)} of {number(most)} points{late}{more}"
    comments = {comment.name: comment.comment for comment in found.comments if comment.comment}
    scores = {
        grade.name: f"**{grade.name}: {number(grade.score)} of {number(grade.max_score)}**"
        if grade.name not in waiting
        else f"**{grade.name}: not graded yet**"
        for grade in found.grades
    }
    for name in scores | comments:
        yield name, "\n\n".join(filter(None, [scores.get(name), comments.get(name)]))
