"""Feedback reaches every student: through the exchange, and as zips for Canvas and Moodle."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbgrader.api import Gradebook
from nbgrader.utils import notebook_hash

from autograder.exports.feedback import _in_moodle
from autograder.pages.grader_notes import between
from tests.conftest import autograder_cli, nbgrader, new_course, submit
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK
from tests.helpers.synthetic_class import HOSTILE
from tests.security.test_pages import CHROMIUM, formgrader

STEM = "mini_lab"
PAGE = f"{STEM}.html"
DOWNLOADS = {
    "canvas.zip": {
        f"lovelaceada_1_11_{NOTEBOOK}": b"Dear TA",
        f"LATE_anon_AbC12_13_{STEM}-2.ipynb": b"Dear TA",
        "olcerben_LATE_2_12_work.7z": b"7z\xbc\xaf'\x1c",
        "curiemarie_3_text.html": b"my text",
    },
    "moodle.zip": {
        f"Emmy O'Noether_41_assignsubmission_file_/{NOTEBOOK}": b"Dear TA",
        f"Carl Gauß_42_assignsubmission_file/sub/{NOTEBOOK}": b"Dear TA",
        f"Leonhard Euler_43_assignsubmission_file_{NOTEBOOK}": b"Dear TA",
    },
}
EMMY, NO_TIME, EULER = "emmy_onoether", "carl_gauss", "leonhard_euler"
SECRETS = {EMMY: "s1", NO_TIME: "s2", EULER: "s3"}


def export(course: Path, form: str) -> subprocess.CompletedProcess[str]:
    return autograder_cli(course, "export", ASSIGNMENT, "--format", form)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a class with feedback, from Canvas, Moodle and the exchange, and one file that was copied manually."""
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    archive.mkdir(parents=True)
    for name, files in DOWNLOADS.items():
        with zipfile.ZipFile(archive / name, "w") as download:
            for path, content in files.items():
                download.writestr(path, content)
    collected = nbgrader(course, "zip_collect", ASSIGNMENT)
    assert collected.returncode == 0, collected.stderr
    for student, secret in SECRETS.items():  # as if from the exchange, too
        folder = course / "submitted" / student / ASSIGNMENT
        (folder / "submission_secret.txt").write_text(secret)
        time = folder / "timestamp.txt"
        time.unlink(missing_ok=True)
        if student != NO_TIME:
            time.write_bytes(b"2026-11-28 10:00:00 UTC" if student == EULER else b"\xff\xfe\0")
    submit(course, "by_hand", b"Dear TA")
    assert export(course, "canvas-feedback").returncode == 2
    for command in ("autograde", "generate_feedback"):
        done = nbgrader(course, command, ASSIGNMENT)
        assert done.returncode == 0, done.stderr[-3000:]
    return course


def test_exchange_releases_feedback(course: Path, tmp_path: Path) -> None:
    """The exchange gets every page that it can take; a line names the students without one."""
    done = nbgrader(course, "release_feedback", ASSIGNMENT, f"--Exchange.root={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (released,) = tmp_path.glob("*/feedback")
    pages = {notebook_hash(secret=secret, notebook_id=STEM): student for student, secret in SECRETS.items()}
    assert {path.name for path in released.iterdir()} == {f"{name}.html" for name in pages}
    for name, student in pages.items():
        page = course / "feedback" / student / ASSIGNMENT / PAGE
        assert (released / f"{name}.html").read_bytes() == page.read_bytes()
    (line,) = [line for line in done.stderr.splitlines() if "Not released" in line]
    for student in ("by_hand", "lovelaceada", "olcerben"):
        assert student in line
    assert f"autograder export {ASSIGNMENT} --format canvas-feedback" in line


def test_canvas_feedback_file_names(course: Path) -> None:
    """The zip for Canvas has the file names of Canvas's download."""
    done = export(course, "canvas-feedback")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(course / "reports" / f"{ASSIGNMENT}-canvas-feedback.zip") as archive:
        assert set(archive.namelist()) == DOWNLOADS["canvas.zip"].keys() - {"curiemarie_3_text.html"}
        # Canvas shows it under the name of the student's file: a notebook for a notebook, otherwise the page
        shown = nbformat.reads(archive.read(f"lovelaceada_1_11_{NOTEBOOK}").decode(), as_version=4)
        page = archive.read("olcerben_LATE_2_12_work.7z")
    assert shown.cells[0].source == "# Feedback\n\n0 of 25 points"
    assert any(cell.source == "**check_standardise: 0 of 10**" for cell in shown.cells)
    assert not any("nbgrader" in cell.metadata for cell in shown.cells)
    assert page == (course / "feedback" / "olcerben" / ASSIGNMENT / PAGE).read_bytes()
    assert "curiemarie: not in the zip, Canvas accepts no file for text that was typed into its form" in done.stderr
    assert f"by_hand: not in the zip, it is not known what Canvas called the submission: collect its download with 'nbgrader zip_collect {ASSIGNMENT} --force'" in done.stderr  # fmt: skip


def test_moodle_feedback_folders(course: Path) -> None:
    """The zip for Moodle has the folders of Moodle's download."""
    done = export(course, "moodle-feedback")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(course / "reports" / f"{ASSIGNMENT}-moodle-feedback.zip") as archive:
        assert set(archive.namelist()) == {
            f"Emmy O'Noether_41_assignsubmission_file_/{PAGE}",
            f"Carl Gauß_42_assignsubmission_file/{PAGE}",
            f"Leonhard Euler_43_assignsubmission_file_{PAGE}",
        }
        emmy = archive.read(f"Emmy O'Noether_41_assignsubmission_file_/{PAGE}")
    assert emmy == (course / "feedback" / "emmy_onoether" / ASSIGNMENT / PAGE).read_bytes()
    assert "lovelaceada: not in the zip" in done.stderr


def test_pdf_of_each_page(course: Path, tmp_path: Path) -> None:
    """Each page becomes a PDF; without a browser, the message says what to install."""
    if CHROMIUM is None:
        done = export(course, "pdf")
        assert done.returncode == 2
        assert "Install Chromium" in done.stderr
        return
    fake = tmp_path / "chromium"  # prints one page only, as each takes seconds
    fake.write_text(f'#!/bin/sh\ncase "$*" in *by_hand*) exec {CHROMIUM} "$@";; esac\necho no display >&2; exit 3\n')
    fake.chmod(0o755)
    earlier = course / "reports" / f"{ASSIGNMENT}-pdf" / f"{EMMY}.pdf"
    earlier.parent.mkdir(parents=True, exist_ok=True)
    earlier.write_bytes(b"earlier scores")
    done = autograder_cli(course, "export", ASSIGNMENT, "--format", "pdf", PATH=f"{tmp_path}:/bin:/usr/bin")
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_bytes() for path in (course / "reports" / f"{ASSIGNMENT}-pdf").iterdir()}
    assert list(made) == ["by_hand.pdf"]
    assert made["by_hand.pdf"].startswith(b"%PDF-")
    assert len(made["by_hand.pdf"]) > 10_000
    assert f"{EMMY}: no PDF, chromium ended with status 3: no display" in done.stderr


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Ada Lovelace_41_assignsubmission_file_", "Ada Lovelace_41_assignsubmission_file_/x.html"),
        ("Ada Lovelace_41_assignsubmission_file", "Ada Lovelace_41_assignsubmission_file/x.html"),
        ("Ada Lovelace_41_assignsubmission_file_my_work.ipynb", "Ada Lovelace_41_assignsubmission_file_x.html"),
        ("ada_king 3_41_assignsubmission_file", "ada king 3_41_assignsubmission_file/x.html"),
        ("Ada_7_41_assignsubmission_onlinetext_a.html", "Ada 7_41_assignsubmission_onlinetext_x.html"),
    ],
)
def test_moodle_feedback_path(name: str, path: str) -> None:
    """Moodle finds the number of each person, as its import does: between the first two underscores."""
    assert _in_moodle(name, "x.html") == path
    assert path.split("/")[0].split("_", 4)[1:3] == ["41", "assignsubmission"]


@pytest.mark.parametrize("form", ["moodle-feedback", "pdf"])
def test_feedback_stale_or_missing_reported(course: Path, tmp_path: Path, form: str) -> None:
    """Outdated and missing feedback pages are reported."""
    os.utime(course / "feedback" / EMMY / ASSIGNMENT / PAGE, (0, 0))
    (course / "feedback" / NO_TIME / ASSIGNMENT / PAGE).unlink(missing_ok=True)
    browser = tmp_path / "chromium"
    browser.symlink_to("/bin/false")
    done = autograder_cli(course, "export", ASSIGNMENT, "--format", form, PATH=f"{tmp_path}:/bin:/usr/bin")
    said = done.stderr.splitlines()
    assert f"{EMMY}: the page is older than the grading, run 'nbgrader generate_feedback {ASSIGNMENT} --force'" in said
    assert f"{NO_TIME}: no feedback page, run 'nbgrader generate_feedback {ASSIGNMENT}'" in said


def test_formgrader_scheme_and_comments(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formgrader shows the marking scheme and comments that others got; the feedback has neither."""
    master = nbformat.read(course / "source" / ASSIGNMENT / NOTEBOOK, 4)
    (answer,) = [cell for cell in master.cells if "BEGIN MARK SCHEME" in cell.source]
    grade_id = answer.metadata.nbgrader.grade_id
    said = re.findall(r"\w+", between(answer.source, "BEGIN MARK SCHEME", "END MARK SCHEME"))
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        comment = gradebook.find_comment(grade_id, STEM, ASSIGNMENT, EULER)
        comment.manual_comment = f"Points: A: 1 of 2\n\nToo short {HOSTILE}"
        gradebook.db.commit()
        own = {who: gradebook.find_submission_notebook(STEM, ASSIGNMENT, who).id for who in (EMMY, EULER)}
    monkeypatch.chdir(course)
    exporter, offered = formgrader(course), {}
    for student, submission in own.items():
        names = {"assignment_id": ASSIGNMENT, "notebook_id": STEM, "submission_id": submission}
        html, _ = exporter.from_filename(
            str(course / "autograded" / student / ASSIGNMENT / NOTEBOOK),
            resources={**names, "base_url": "", "index": 0, "total": 2},
        )
        page = BeautifulSoup(html, "html.parser")
        scheme = page.select_one(".grader-notes .rendered_html")
        assert scheme is not None
        assert re.findall(r"\w+", scheme.get_text()) == said
        assert page.select("#check_standardise")  # the field for the score
        assert not page.select("div.output_execute_result")
        assert not [link for link in page.select("script[src]") if link["src"].startswith("http")]
        offered[student] = [text.get_text() for text in page.select(".add-comment")]
    assert offered == {EMMY: [f"Too short {HOSTILE}"], EULER: []}  # not its own
    feedback = (course / "feedback" / EMMY / ASSIGNMENT / PAGE).read_text(encoding="utf-8")
    assert "grader-notes" not in feedback
    assert " ".join(said[:4]) not in " ".join(re.findall(r"\w+", feedback))
