"""A PDF of a feedback page, printed by a browser: ``autograder export LAB --format pdf``.

nbconvert's own ways to a PDF need a TeX distribution, or Playwright with a browser that it has downloaded. The feedback
page is one file, so any installed Chromium can print it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autograder.course import Course
from autograder.exports.feedback import pages_of, to_generate
from autograder.results.class_results import require_gradebook
from autograder.text import safe_line

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
_SECONDS = 120.0  # for one page
_OPTIONS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-pdf-header-footer",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page has no reason to load anything
)  # fmt: skip


def write_pdfs(course: Course, assignment: str, folder: Path) -> list[str]:
    """Print the feedback page of each student.

    Args:
        course: Course whose ``feedback`` folder to read.
        assignment: Name of the assignment.
        folder: Folder for the files, ``<student>.pdf``, or ``<student>/<notebook>.pdf`` if there are several notebooks.

    Returns:
        A line for each student whose page is missing, is older than the grading, or could not be printed.

    Raises:
        FileNotFoundError: There is no gradebook, no feedback, or no browser; the message says what to run or install.
        LookupError: There is no such assignment.
        ValueError: No page could be printed; the message says why.
    """
    require_gradebook(course, assignment)
    pages = pages_of(course, assignment)
    with course.gradebook() as gradebook:
        remarks = to_generate(course, gradebook, assignment, pages)
    browser = find_browser()
    one_each = all(len(several) == 1 for several in pages.values())
    faults = []
    for student, page in [(student, page) for student, several in sorted(pages.items()) for page in several]:
        target = folder / f"{student}.pdf" if one_each else folder / student / f"{page.stem}.pdf"
        target.parent.mkdir(parents=True, exist_ok=True)
        if fault := _print(browser, page, target):
            faults.append(f"{safe_line(student)}: no PDF, {fault}")
    if faults and len(faults) == sum(map(len, pages.values())):
        raise ValueError("\n".join(["no page could be printed", *faults, *remarks]))
    return [*remarks, *faults]


def find_browser() -> str:
    """Return the path of a browser that can print.

    Raises:
        FileNotFoundError: There is none.
    """
    for path in (*map(shutil.which, BROWSERS), *_of_playwright()):
        if path is not None:
            return path
    raise FileNotFoundError(
        "no browser to print with. Install Chromium, such as with 'apt install chromium', or with "
        "'pip install playwright' and 'playwright install chromium'"
    )


def _of_playwright() -> Iterator[str]:
    """Yield the browser that Playwright has downloaded, if there is one."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return
    with sync_playwright() as playwright:
        if os.path.exists(path := playwright.chromium.executable_path):
            yield path


def _print(browser: str, page: Path, target: Path) -> str:
    """Print a page; return why that failed, or an empty text."""
    target.unlink(missing_ok=True)  # of an earlier export, maybe with other scores
    with tempfile.TemporaryDirectory(prefix="amllab-pdf-") as scratch:
        made = Path(scratch, "page.pdf")
        # Chromium cannot isolate itself for root. The policy of the page forbids scripts, and its content is clean
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [browser, *_OPTIONS, *root, f"--user-data-dir={scratch}/profile", f"--print-to-pdf={made}"]
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, timeout=_SECONDS, check=False, text=True,
                errors="replace",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return safe_line(error)
        if not made.is_file() or not made.stat().st_size:
            return f"{Path(browser).name} ended with status {done.returncode}: {safe_line(done.stderr[-300:].strip())}"
        shutil.move(made, target)
    return ""
