"""Names of the PDFs of feedback pages, and what remains if the browser fails; it is a script that copies pages."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from autograder.course import Course
from autograder.exports import pdf

COPY = """#!/bin/sh
for argument in "$@"; do
  case "$argument" in --print-to-pdf=*) target="${argument#*=}";; file://*) page="${argument#file://}";; esac
done
case "$page" in *broken*) echo no display >&2; exit 3;; esac
cp "$page" "$target"
"""


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A course without a gradebook, and a browser."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    (tmp_path / "bin").mkdir()
    browser = tmp_path / "bin" / "chromium"
    browser.write_text(COPY)
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{browser.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(pdf, "require_gradebook", lambda *arguments: None)
    monkeypatch.setattr(pdf, "to_generate", lambda *arguments: [])
    monkeypatch.setattr(Course, "gradebook", lambda course: contextlib.nullcontext())
    return Course.find(tmp_path)


def page(course: Course, student: str, notebook: str) -> None:
    folder = course.directories["feedback_directory"] / student / "ps1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{notebook}.html").write_text(f"{student} {notebook}")


def printed(course: Course) -> dict[str, str]:
    folder = course.root / "pdf"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.pdf")}


def test_pdf_names_do_not_clash(course: Course) -> None:
    """With several notebooks, each student has a folder: no name of one student's PDF is that of another's."""
    page(course, "ada", "p1")
    page(course, "ada-p1", "p1")
    (course.directories["feedback_directory"] / "eve" / "ps1" / "p1.html").mkdir(parents=True)
    assert pdf.write_pdfs(course, "ps1", course.root / "pdf") == []
    assert printed(course) == {"ada.pdf": "ada p1", "ada-p1.pdf": "ada-p1 p1"}
    page(course, "ada", "p2")
    assert pdf.write_pdfs(course, "ps1", course.root / "pdf" / "2") == []
    assert {name: text for name, text in printed(course).items() if name.startswith("2/")} == {
        "2/ada/p1.pdf": "ada p1",
        "2/ada/p2.pdf": "ada p2",
        "2/ada-p1/p1.pdf": "ada-p1 p1",
    }


def test_pdf_of_an_older_page_does_not_stay(course: Course) -> None:
    """A page that cannot be printed has no PDF; if none can be printed, the command fails."""
    page(course, "ada", "p1")
    page(course, "broken", "p1")
    (course.root / "pdf").mkdir()
    (course.root / "pdf" / "broken.pdf").write_text("of an older page")
    (fault,) = pdf.write_pdfs(course, "ps1", course.root / "pdf")
    assert fault == "broken: no PDF, chromium ended with status 3: no display"
    assert list(printed(course)) == ["ada.pdf"]
    (course.directories["feedback_directory"] / "ada" / "ps1" / "p1.html").unlink()
    with pytest.raises(ValueError, match="no page could be printed\nbroken: no PDF, chromium ended with status 3"):
        pdf.write_pdfs(course, "ps1", course.root / "pdf")
