"""How long does each step of a new lab take? ``python -m bench.tiny_lab``

Follow the guide ``docs/new-lab.md`` in a fresh copy of the course: write its files and run its commands, each in a
process of its own, as a person does. Then grade the solution and a wrong notebook, one by one. Print a table with the
seconds of each command, from its start to its end.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

from tests.helpers.course_copy import ROOT, CourseCopy, steps_of

GUIDE = ROOT / "docs" / "new-lab.md"
LAB = "label-smoothing"
WRONG = "build/try_wrong.ipynb"  # the guide writes it
SOLUTION = f"solutions/{LAB}/{LAB.replace('-', '_')}.ipynb"
# what is measured, by the beginning of the command; of several, the last one
STEPS = {
    "build: notebook, release and solution": f"autograder build {LAB}",
    "audit: all checks before a release": f"autograder audit {LAB}",
    "calibrate: thresholds of the training": f"autograder calibrate {LAB}",
    "study: mutants and the corpus": f"autograder study {LAB}",
    "grade a correct submission": f"autograder grade {SOLUTION}",
    "grade a wrong submission": f"autograder grade {WRONG}",
}


def seconds_of(course: CourseCopy) -> dict[str, tuple[float, str]]:
    """Follow the guide, grade the two notebooks, and return each command with its seconds and its output."""
    found: dict[str, tuple[float, str]] = {}

    def run(command: str) -> None:
        began = time.perf_counter()
        (done,) = course.run([command])
        found[command] = time.perf_counter() - began, done.output

    for files, commands in steps_of(GUIDE):
        for file in files:
            course.write(file.title, file.text)
        for command in commands:
            run(command)
    for notebook in (SOLUTION, WRONG):
        run(f"autograder grade {notebook}")
    return found


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory(prefix="amllab-tiny-lab-") as folder:
        found = seconds_of(CourseCopy(Path(folder)))
    print("| step | command | seconds | points |\n|---|---|---|---|")
    for what, start in STEPS.items():
        # the guide also grades both notebooks together, with one command
        command = start if start in found else next(c for c in reversed(found) if c.startswith(start))
        seconds, output = found[command]
        points = re.findall(r"(\d+ of \d+) automatic points", output)
        print(f"| {what} | `{command}` | {seconds:.1f} | {', '.join(points)} |")


if __name__ == "__main__":
    main()
