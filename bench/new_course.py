"""Seconds of the way from the wheel to grades in a course of one's own: ``python -m bench.new_course``.

Everything happens in an empty folder, in an environment that has the wheel and cannot import this repository. At the
end the course is upgraded twice: to a wheel whose master text is merged with an edit of the course, and to one that
changes the same line as the course.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from subprocess import CompletedProcess

from tests.helpers.wheels import Installation, build, source_tree

LABS = ("transfer-learning", "self-supervised-learning", "meta-learning", "knowledge-distillation")
FIRST_CELL = "# %% [markdown]\n"
THEIRS = "#\n# A sentence of the new version.\n"
THEIRS_LATER = "#\n# A sentence of the version after that.\n"
OURS = "#\n# Our own wording.\n"
OUR_CELL = "\n# %% [markdown]\n# A paragraph of this course.\n"


@dataclass(frozen=True)
class Step:
    """A command, the seconds that it took, the seconds of processors that it used, and its output."""

    command: str
    seconds: float
    processor_seconds: float
    output: str = ""


@dataclass
class Walk:
    """The way, step by step.

    Attributes:
        folder: An empty folder.
        labs: Assignments of the labs; the first is graded and upgraded.
        steps: The steps that were taken.
    """

    folder: Path
    labs: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.folder / "Übung 1"
        self.installation = Installation(self.folder / "environment")
        lab = self.labs[0]
        self.master = self.root / "source" / lab / f"{lab.replace('-', '_')}.py"

    def wheel(self, version: str, change: Callable[[str], str] | None = None) -> Path:
        """Build a wheel, with another master text of the first lab if there is a change."""
        tree = source_tree(self.folder / f"tree-{version}", version)
        master = tree / self.master.relative_to(self.root)
        if change is not None:
            master.write_text(change(master.read_text(encoding="utf-8")), encoding="utf-8")
        target = self.folder / f"wheel-{version}"
        target.mkdir()
        found = build("wheel", tree, target)
        shutil.rmtree(tree)
        return found

    def run(self, *command: str, status: int = 0, folder: Path | None = None) -> CompletedProcess[str]:
        """Take a step: a command in the course."""
        with self._step(" ".join(command)) as output:
            done = self.installation.run(folder or self.root, *command)
            output.append(done.stdout)
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
        return done

    def install(self, wheel: Path) -> None:
        """Take a step: install a wheel."""
        with self._step(f"pip install --no-deps {wheel.name}"):
            self.installation.install(wheel)

    @contextmanager
    def _step(self, command: str) -> Iterator[list[str]]:
        output: list[str] = []
        before, begun = getrusage(RUSAGE_CHILDREN), time.perf_counter()
        yield output
        seconds, after = time.perf_counter() - begun, getrusage(RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.steps.append(Step(command, seconds, used, "".join(output)))

    def grade(self) -> None:
        """Submit the solution and the untouched notebook of the bundle, and grade both."""
        lab = self.labs[0]
        notebook = f"{lab.replace('-', '_')}.ipynb"
        for student in ("ada", "bob"):
            (self.root / "submitted" / student / lab).mkdir(parents=True)
        shutil.copy(self.root / "solutions" / lab / notebook, self.root / "submitted" / "ada" / lab)
        with zipfile.ZipFile(self.root / "dist" / f"{lab}-student.zip") as bundle:
            released = bundle.read(f"{lab}/{notebook}")
        (self.root / "submitted" / "bob" / lab / notebook).write_bytes(released)
        with (self.root / "students.csv").open("a") as roster:
            roster.write("ada,Ada,Lovelace,ada@example.org\nbob,Bob,Moss,bob@example.org\n")
        self.run("nbgrader", "db", "student", "import", "students.csv")
        self.run("nbgrader", "autograde", lab)
        self.run("nbgrader", "generate_feedback", lab)
        self.run("autograder", "scores", lab)

    def own_lab(self) -> None:
        """Write a lab of the course's own, and grade its solution."""
        self.run("autograder", "new-lab", "own-lab")
        self.run("autograder", "build", "own-lab")
        self.run("autograder", "bundle", "own-lab")
        self.run("autograder", "grade", "solutions/own-lab/own_lab.ipynb")

    def upgrade(self) -> None:
        """Upgrade to a version that is merged, and to one that is a conflict."""
        text = self.master.read_text(encoding="utf-8")
        self.master.write_text(text + OUR_CELL, encoding="utf-8")
        self.install(self.wheel("0.2.0", lambda text: text.replace(FIRST_CELL, FIRST_CELL + THEIRS, 1)))
        self.run("autograder", "upgrade-course")
        self.run("autograder", "build", self.labs[0])
        self.master.write_text(self.master.read_text(encoding="utf-8").replace(THEIRS, OURS), encoding="utf-8")
        self.install(self.wheel("0.3.0", lambda text: text.replace(FIRST_CELL, FIRST_CELL + THEIRS_LATER, 1)))
        self.run("autograder", "upgrade-course", status=1)


def walk(folder: Path, labs: tuple[str, ...] = LABS) -> Walk:
    """Go the whole way in an empty folder."""
    way = Walk(folder, labs)
    way.install(way.wheel("0.1.0"))
    way.run("autograder", "new-course", way.root.name, "--labs", ",".join(labs), folder=folder)
    for lab in labs:
        way.run("autograder", "build", lab)
        way.run("autograder", "bundle", lab)
    way.grade()
    way.own_lab()
    way.run("autograder", "add-platform", "docker", "binder", "colab", "--labs", labs[0], "--repository", "ada/course")
    way.upgrade()
    return way


def main() -> int:
    """Print a table of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labs", nargs="+", default=LABS, choices=LABS, help="labs of the course")
    labs = tuple(parser.parse_args().labs)
    with tempfile.TemporaryDirectory(prefix="amllab-course-") as folder:
        way = walk(Path(folder), labs)
    print("| step | seconds | seconds of processors |\n|---|---|---|")
    for step in way.steps:
        print(f"| `{step.command}` | {step.seconds:.1f} | {step.processor_seconds:.1f} |")
    sums = (sum(getattr(step, name) for step in way.steps) for name in ("seconds", "processor_seconds"))
    print("| all | {:.0f} | {:.0f} |".format(*sums))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
