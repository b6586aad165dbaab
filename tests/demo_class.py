"""Grade a class from end to end with nbgrader's own commands, in the folder ``demo/``: ``make demo LAB=<lab>``.

The lab is released from its master; solutions of its corpus are delivered as from a learning platform, collected with
``nbgrader zip_collect`` and graded with ``nbgrader autograde``; then feedback and the table of the class are written.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from amllab.lab import Lab, find_lab
from autograder.labs.corpus import corpus_of
from tests.helpers.notebooks import notebook_of

ROOT = Path(__file__).resolve().parent.parent
STUDENTS = ("ada", "ben", "chloe", "dan", "eve", "fay")


def main() -> None:
    lab = find_lab(sys.argv[1] if len(sys.argv) > 1 else "transfer-learning")
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
        lab.assignment,
    )
    deliver(course, lab)
    step(course, "Collect: what the learning platform delivered", "nbgrader", "zip_collect", lab.assignment)
    step(course, "Grade", "nbgrader", "autograde", lab.assignment)
    step(course, "Feedback", "nbgrader", "generate_feedback", lab.assignment)
    step(course, "The class", "autograder", "scores", lab.assignment)
    pages = sorted(path.relative_to(ROOT) for path in course.glob("feedback/*/*/*.html"))
    print(f"\n{len(pages)} pages of feedback, such as {pages[0]}; {time.perf_counter() - began:.0f} s in all")
    print("Look around with formgrader:  cd demo && ../.venv/bin/jupyter lab")


def deliver(course: Path, lab: Lab) -> None:
    """Write the samples into nbgrader's folder for downloads, with the file names that Canvas uses."""
    name, corpus = f"{lab.notebook}.ipynb", corpus_of(lab)
    release = nbformat.read(course / "assignments" / lab.assignment / name, as_version=4)
    archive = course / "downloaded" / lab.assignment / "archive"
    archive.mkdir(parents=True)
    for i, (student, sample) in enumerate(zip(STUDENTS, corpus.demo, strict=False)):
        nbformat.write(notebook_of(sample, release, corpus), archive / f"{student}_{1000 + i}_{2000 + i}_{name}")
    nbformat.write(release, archive / f"gus_1006_2006_{name}")
    (archive / f"hal_1007_2007_{name}").write_text("I could not get it to work, sorry!")


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
