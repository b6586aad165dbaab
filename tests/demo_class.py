"""Grade a class from end to end with nbgrader's own commands, in the folder ``demo/``: ``make demo``.

The lab is released from its master; sample submissions are delivered as from a learning platform, collected with
``nbgrader zip_collect`` and graded with ``nbgrader autograde``; then feedback and the table of the class are written.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from tests.helpers.notebooks import notebook_of

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT, NOTEBOOK = "transfer-learning", "transfer_learning.ipynb"
SAMPLES = {variant.name: variant for variant in CORRECT + TYPICAL}
STUDENTS = {
    "ada": "with_the_library",
    "ben": "batchnorm_in_freeze",
    "chloe": "statistics_drift",
    "dan": "best_by_reference",
    "eve": "not_pretrained",
    "fay": "never_thaws",
}


def main() -> None:
    course = ROOT / "demo"
    shutil.rmtree(course, ignore_errors=True)
    for folder in ("source", "solutions"):
        shutil.copytree(ROOT / folder, course / folder)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    began = time.perf_counter()

    step(
        course,
        "Release: one master text becomes the notebook and what students get",
        "autograder",
        "build",
        ASSIGNMENT,
    )
    deliver(course)
    step(course, "Collect: what the learning platform delivered", "nbgrader", "zip_collect", ASSIGNMENT)
    step(course, "Grade", "nbgrader", "autograde", ASSIGNMENT)
    step(course, "Feedback", "nbgrader", "generate_feedback", ASSIGNMENT)
    step(course, "The class", "autograder", "scores", ASSIGNMENT)
    pages = sorted(path.relative_to(ROOT) for path in course.glob("feedback/*/*/*.html"))
    print(f"\n{len(pages)} pages of feedback, such as {pages[0]}; {time.perf_counter() - began:.0f} s in all")
    print("Look around with formgrader:  cd demo && ../.venv/bin/jupyter lab")


def deliver(course: Path) -> None:
    """Write the samples into nbgrader's folder for downloads, with the file names that Canvas uses."""
    release = nbformat.read(course / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    archive.mkdir(parents=True)
    for i, (student, sample) in enumerate(STUDENTS.items()):
        nbformat.write(notebook_of(SAMPLES[sample], release), archive / f"{student}_{1000 + i}_{2000 + i}_{NOTEBOOK}")
    nbformat.write(release, archive / f"gus_1006_2006_{NOTEBOOK}")
    (archive / f"hal_1007_2007_{NOTEBOOK}").write_text("I could not get it to work, sorry!")


def step(course: Path, title: str, module: str, *arguments: str) -> None:
    """Run a command of this environment in the course, whether or not the environment is active."""
    name = module.split(".")[0]
    print(f"\n== {title}\n$ {name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=course, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if name == "autograder" or "automatic points" in line or ("WARNING" in line and "Creating" not in line):
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit("".join(lines[-40:]) + f"{name} {arguments[0]} failed")


if __name__ == "__main__":
    main()
