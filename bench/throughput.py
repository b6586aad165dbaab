"""How fast a class is graded, compared with stock nbgrader: ``python -m bench.throughput --submissions 40``

The same mixed submissions (right and wrong ones of the lab's corpus, unreadable files) are graded with
``nbgrader autograde`` in two courses. In the stock one, the check cells run the very same checks, with the same
training budget, inside the notebook, as usual in nbgrader: nothing is isolated, and submissions are graded one after
the other. Everything counts: start, isolation, repair, checks, training, gradebook. Stock nbgrader is measured on
``--stock`` of the submissions, as its time depends only on their number.

Also measured: one process and several, submissions whose results are cached (``rm -r autograded``, then ``autograde``
again), the memory that a further process needs (proportional set size, which counts shared pages once), and the
computing time of checks and submissions in one warm process that does nothing else: no grader can be faster than that
on these cores.

With ``--lab``, another lab than lab 1 is graded; its figures go to a file of their own, and into no picture.

With ``--without-training``, both courses of lab 1 lack the check that trains, in a copy of this one: what remains is
start, isolation, repair, all other checks, and the gradebook. Both draw ``docs/throughput.png`` from the latest
measurements.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil

from amllab.lab import Lab, find_lab
from autograder.labs.corpus import Corpus, corpus_of
from autograder.notebooks.metadata import is_autograded
from tests.conftest import ASSIGNMENT, assignment_of, new_course, submit
from tests.helpers.course_copy import CourseCopy
from tests.helpers.notebooks import CORPUS, notebook_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = {"with training": "throughput.json", "without training": "throughput-without-training.json"}
FOLDER = ROOT / "bench" / "results"
PICTURE = ROOT / "docs" / "throughput.png"
# in place of the accuracy check; the replacements keep its points
NO_CHECK = '''"""Nothing is trained."""

import pytest

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


@pytest.mark.points({points})
def {name}():
    """Left out."""
'''
ACCURACY = {
    "amllab/checks/transfer_learning/test_accuracy.py": ("test_learns", 8),
    "autograder/checks/transfer_learning/test_accuracy_hidden.py": ("test_transfers", 12),
}
A_FEW = 8  # submissions whose memory and computing time are measured
REPEATED = 3  # runs that measure memory
STYLES, MISTAKES = 3, 35  # so many of the corpus, from its beginning, are in a class
STOCK_CONFIG = """
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.release_directory = "assignments"
c.ClearMarkScheme.enforce_metadata = False
c.ExecutePreprocessor.timeout = 900
c.Execute.timeout = 900
"""
# the checks of a cell, public and hidden, on the functions of the notebook; its value is nbgrader's partial credit
STOCK_CELL = """
### BEGIN HIDDEN TESTS
from pathlib import Path

from amllab.lab import find_lab
from amllab.checks.results import score
from amllab.checks.runner import run_checks
from amllab.protocol.submission import InProcessSubmission

_lab = find_lab({assignment!r})
if "_reference" not in globals():
    import nbformat

    _names = {{}}
    for _cell in nbformat.read({solution!r}, as_version=4).cells:
        if _cell.cell_type == "code" and not {{"experiment"}} & set(_cell.metadata.get("tags", [])) and "check(" not in _cell.source:
            exec(_cell.source, _names)
    _reference = InProcessSubmission(_lab.name, _names)
    _submission = InProcessSubmission(_lab.name, globals())
score(run_checks(_lab, [Path(file) for file in {files!r}], _submission, reference=lambda: _reference, seed=20240917))[0]
### END HIDDEN TESTS
"""


@dataclass
class Timed:
    """A run of ``nbgrader autograde``.

    Attributes:
        name: name of the row.
        submissions: number of submissions that it graded.
        seconds: seconds for all of them.
        first: seconds until the first of them was in the gradebook.
        memory: maximum sum of proportional set sizes of the processes below it, in MB.
        points: student -> automatic points.
        grading: seconds that the grading of each submission took by itself, without nbgrader's part.
    """

    name: str
    submissions: int
    seconds: float
    memory: float = 0.0
    first: float = 0.0
    points: dict[str, float] = field(default_factory=dict)
    grading: list[float] = field(default_factory=list)

    @property
    def each(self) -> float:
        return self.seconds / self.submissions


class Memory(threading.Thread):
    """Watch the memory of a process and all below it.

    Args:
        process: its number.
        closely: whether to measure every second. Measuring takes processor time from the grading: by default it takes
            at most a fiftieth of the time, and may miss what is needed only for a moment.
    """

    def __init__(self, process: int, *, closely: bool = False) -> None:
        super().__init__(daemon=True)
        self.closely = closely
        self.process, self.most, self.over = process, 0.0, threading.Event()

    def run(self) -> None:
        pause = 1.0
        while not self.over.wait(pause):
            began, total = time.perf_counter(), 0
            try:
                top = psutil.Process(self.process)
                for process in [top, *top.children(recursive=True)]:
                    try:
                        total += process.memory_full_info().pss
                    except psutil.Error:
                        continue
            except psutil.Error:
                continue
            self.most = max(self.most, total / 1e6)
            pause = 1.0 if self.closely else max(1.0, 50 * (time.perf_counter() - began))


def autograde(course: Path, name: str, submissions: int, *, closely: bool = False) -> Timed:
    environment = {**os.environ, "AMLLAB_PROGRESS": "0", "AMLLAB_DATA": "drawn"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    began = time.perf_counter()
    command = [sys.executable, "-m", "nbgrader", "autograde", assignment_of(course)]
    with subprocess.Popen(command, cwd=course, env=environment, stderr=subprocess.PIPE, text=True) as run:
        memory = Memory(run.pid, closely=closely)
        memory.start()
        assert run.stderr is not None
        log, first = "", 0.0
        for line in run.stderr:
            log += line
            if "Setting destination file permissions" in line and not first:  # nbgrader's last step
                first = time.perf_counter() - began
        run.wait()
        memory.over.set()
    seconds = time.perf_counter() - began
    if run.returncode:
        raise RuntimeError(log[-4000:])
    kept = [json.loads(file.read_text())["graded"]["seconds"] for file in course.glob(".graded/*.json")]
    return Timed(
        name,
        submissions,
        seconds,
        round(memory.most),
        round(first, 1),
        points(course),
        sorted(round(s, 2) for s in kept),
    )


def points(course: Path) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        submissions = gradebook.assignment_submissions(assignment_of(course))
        return {s.student.id: sum(g.auto_score or 0 for n in s.notebooks for g in n.grades) for s in submissions}


def released(lab: Lab, course: Path = ROOT) -> nbformat.NotebookNode:
    """Return what students get."""
    return nbformat.read(course / "assignments" / lab.assignment / f"{lab.notebook}.ipynb", as_version=4)


def mixed(
    number: int, release: nbformat.NotebookNode, corpus: Corpus = CORPUS
) -> dict[str, nbformat.NotebookNode | bytes]:
    """Return submissions like those of a class: half are right, others wrong in one place, one in twenty unreadable."""
    right, wrong = itertools.cycle(corpus.correct[:STYLES]), itertools.cycle(corpus.wrong[:MISTAKES])
    found: dict[str, nbformat.NotebookNode | bytes] = {}
    for i in range(number):
        variant = next(right if i % 2 else wrong)
        notebook = notebook_of(variant, release, corpus)
        # no two students of a class submit the same file
        notebook.cells.append(nbformat.v4.new_code_cell(f"# student {i}"))
        found[f"s{i:03}"] = b"not a notebook" if i % 20 == 19 else notebook
    return found


def computing(number: int, lab: Lab) -> float:
    """Return seconds of a core for a submission's functions, the reference and the checks.

    Start, isolation, notebook and gradebook are not included.
    """
    import torch

    from amllab.checks.runner import run_checks
    from amllab.protocol.submission import InProcessSubmission
    from autograder.labs.locations import HIDDEN_CHECKS
    from autograder.notebooks.metadata import skipped_cells

    torch.set_num_threads(1)
    solution = nbformat.read(ROOT / "solutions" / lab.assignment / f"{lab.notebook}.ipynb", as_version=4)

    def functions(notebook: nbformat.NotebookNode) -> InProcessSubmission:
        names: dict[str, object] = {}
        left_out = skipped_cells(notebook)
        for i, cell in enumerate(notebook.cells):
            if cell.cell_type == "code" and i not in left_out and "check(" not in cell.source:
                with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                    exec(cell.source, names)
        return InProcessSubmission(lab.name, names)

    reference = functions(solution)

    def graded(notebook: nbformat.NotebookNode) -> float:
        began = time.process_time()
        paths = [lab.folder, HIDDEN_CHECKS / lab.name]
        run_checks(lab, paths, functions(notebook), reference=lambda: reference, seed=20240917)
        return time.process_time() - began

    graded(solution)  # the first loads what all need
    submissions = mixed(number, released(lab), corpus_of(lab)).values()
    notebooks = [notebook for notebook in submissions if not isinstance(notebook, bytes)]
    return sum(map(graded, notebooks)) / len(notebooks)


def computing_alone(number: int, jobs: int, lab: Lab) -> tuple[float, float]:
    """Run :func:`computing` in one process, then in ``jobs`` processes in parallel.

    Cores that share a processor slow each other down.
    """
    command = [sys.executable, "-m", "bench.throughput", "--computing", "--submissions", str(number)]
    command += ["--lab", lab.assignment]

    def at_a_time(n: int) -> float:
        running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(n)]
        printed = [process.communicate()[0] for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError("what computes alone has failed")
        return sum(float(text.split()[-1]) for text in printed) / n

    return at_a_time(1), at_a_time(jobs)


def files_of_checks(lab: Lab, cells: list[str]) -> dict[str, list[str]]:
    """Return the files of the checks, public and hidden, of each check cell.

    Their names begin with the name of the cell; that of a cell can begin with that of another.
    """
    from autograder.labs.locations import HIDDEN_CHECKS

    found: dict[str, list[str]] = {cell: [] for cell in cells}
    for folder in (lab.folder, HIDDEN_CHECKS / lab.name):
        for file in sorted(folder.glob("test_*.py")):
            name = file.stem.replace("test_", "check_", 1)
            found[max((cell for cell in cells if name.startswith(cell)), key=len)].append(str(file))
    return found


def stock_course(folder: Path, lab: Lab) -> Path:
    from autograder.authoring.build import notebook_of as built

    folder.mkdir()
    (folder / "nbgrader_config.py").write_text(STOCK_CONFIG.format(root=str(folder)))
    source = folder / "source" / lab.assignment
    source.mkdir(parents=True)
    notebook = built(ROOT / "source" / lab.assignment / f"{lab.notebook}.py")
    solution = str(ROOT / "solutions" / lab.assignment / f"{lab.notebook}.ipynb")
    checked = [cell for cell in notebook.cells if is_autograded(cell)]
    files = files_of_checks(lab, [cell.metadata.nbgrader.grade_id for cell in checked])
    for cell in checked:
        own = files[cell.metadata.nbgrader.grade_id]
        cell.source = STOCK_CELL.format(assignment=lab.assignment, solution=solution, files=own).strip()
    # stock nbgrader would run them, for minutes
    notebook.cells = [cell for cell in notebook.cells if "experiment" not in cell.metadata.get("tags", [])]
    nbformat.write(notebook, source / f"{lab.notebook}.ipynb")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lab.assignment]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lab", default=ASSIGNMENT, help=f"assignment to grade (default {ASSIGNMENT})")
    parser.add_argument("--submissions", type=int, default=40)
    parser.add_argument("--stock", type=int, default=8, help="how many of them stock nbgrader grades (default 8)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--without-training", action="store_true", help="leaves out the check that trains")
    parser.add_argument("--computing", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    lab = find_lab(args.lab)
    corpus = corpus_of(lab)
    if not (corpus.correct and corpus.wrong):
        parser.error(f"the corpus of {lab.assignment} has no correct or no wrong solutions")
    if args.without_training and lab.assignment != ASSIGNMENT:
        parser.error(f"--without-training is for {ASSIGNMENT}")
    if args.computing:
        print(computing(args.submissions, lab))
        return
    if args.without_training:
        without_training([argument for argument in sys.argv[1:] if argument != "--without-training"])
        plot()
        return
    timed: list[Timed] = []
    with tempfile.TemporaryDirectory(prefix="throughput-") as base:
        ours = Path(base, "ours")
        ours.mkdir()
        new_course(ours, lab.assignment)
        every = mixed(args.submissions, released(lab, ours), corpus)

        def use(number: int) -> None:
            config = ours / "nbgrader_config.py"
            config.write_text(config.read_text() + f"c.GradeChecks.jobs = {number}\n")

        def again(students: dict[str, nbformat.NotebookNode | bytes]) -> None:
            for folder in ("submitted", "autograded"):
                shutil.rmtree(ours / folder, ignore_errors=True)
            for student, notebook in students.items():
                submit(ours, student, notebook)

        def forget() -> None:
            """Leave the course as ``autograder build`` does."""
            for grading in (ours / ".graded").glob("*.json"):
                grading.unlink()

        # a single process grades inside nbgrader's own: two and three show the cost of a further one
        few = dict(itertools.islice(every.items(), A_FEW))
        watched: dict[int, list[Timed]] = {args.jobs: [], args.jobs + 1: []}
        for _, number in itertools.product(range(REPEATED), watched):
            use(number)
            again(few)
            name = f"{number} processes, memory watched closely"
            watched[number].append(autograde(ours, name, len(few), closely=True))
            forget()
        # whether peaks coincide is chance: the median of several runs
        fewer, more = (sorted(runs, key=lambda run: run.memory)[REPEATED // 2] for runs in watched.values())
        use(1)
        again(every)
        one = autograde(ours, "one process", len(every))
        timed += [one, fewer, more]
        forget()
        use(args.jobs)
        again(every)
        timed.append(autograde(ours, f"{args.jobs} processes", len(every)))
        shutil.rmtree(ours / "autograded")
        timed.append(autograde(ours, "from cache", len(every)))

        stock = stock_course(Path(base, "stock"), lab)
        submissions = mixed(args.submissions, released(lab, stock), corpus)
        for student, notebook in itertools.islice(submissions.items(), args.stock):
            if not isinstance(notebook, bytes):  # it stops at those
                submit(stock, student, notebook)
        timed.append(autograde(stock, "stock nbgrader", len(list((stock / "submitted").iterdir()))))

    alone, together = computing_alone(A_FEW, args.jobs, lab)
    by_name = {run.name: run for run in timed}
    whole, before, plain = by_name[f"{args.jobs} processes"], by_name["from cache"], by_name["stock nbgrader"]
    print(f"{'':42}{'submissions':>12}{'s each':>8}{'a minute':>10}{'MB':>7}{'of stock':>10}")
    for run in timed:
        row = f"{run.name:42}{run.submissions:>12}{run.each:>8.2f}{60 / run.each:>10.1f}{run.memory:>7.0f}"
        print(row + f"{plain.each / run.each:>9.1f}×")
    print(f"\n{args.jobs} processes against one: {one.seconds / whole.seconds:.2f}×, everything included")
    print(f"a further process needs {more.memory - fewer.memory:.0f} MB (medians of {REPEATED} runs each)")
    print(f"the first submission is in the gradebook after {whole.first:.1f} s")
    best = args.jobs / together
    print(
        f"computing alone: {alone:.2f} s of a core a submission, {together:.2f} s of each where {args.jobs} compute at a time; "
        f"so at most {60 * best:.1f} a minute, {plain.each * best:.1f}× stock, {args.jobs * alone / together:.2f}× one process"
    )
    same = sum(plain.points[student] == whole.points[student] for student in plain.points)
    print(f"the same points as on stock nbgrader: {same} of {len(plain.points)}")
    print(f"the same points when they come from what was kept: {before.points == whole.points}")
    name = RESULTS["with training"] if lab.assignment == ASSIGNMENT else f"throughput-{lab.assignment}.json"
    FOLDER.joinpath(name).write_text(
        json.dumps(
            {
                "jobs": args.jobs,
                "cores": os.cpu_count(),
                "versions": {"python": platform.python_version(), "torch": version("torch"), "nbgrader": version("nbgrader")},
                "computing": [alone, together],
                "runs": [asdict(run) for run in timed],
            },
            indent=1,
        )
        + "\n"
    )  # fmt: skip
    if lab.assignment == ASSIGNMENT:
        plot()


def without_training(arguments: list[str]) -> None:
    """Measure the same in a copy of the course whose accuracy check does nothing."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        copy = CourseCopy(Path(folder))
        for file, (name, points_of) in ACCURACY.items():
            (copy.root / file).write_text(NO_CHECK.format(name=name, points=points_of))
        # nbgrader looks for it next to the interpreter
        copy.python.with_name("alembic").symlink_to(Path(sys.executable).with_name("alembic"))
        subprocess.run([copy.python, "bench/throughput.py", *arguments], cwd=copy.root, check=True)
        measured = copy.root / "bench" / "results" / RESULTS["with training"]
        shutil.copy(measured, FOLDER / RESULTS["without training"])


def plot() -> None:
    """Plot submissions per minute, with and without training, from the latest measurements."""
    from matplotlib.figure import Figure

    found = {title: FOLDER / name for title, name in RESULTS.items() if (FOLDER / name).is_file()}
    figure = Figure(figsize=(9, 1.6 * len(found) + 0.6), layout="constrained")
    for axes, (title, file) in zip(figure.subplots(len(found), squeeze=False)[:, 0], found.items(), strict=True):
        runs = [run for run in json.loads(file.read_text())["runs"] if not run["name"].endswith(("before", "closely"))][
            ::-1
        ]
        rates = [60 * run["submissions"] / run["seconds"] for run in runs]
        colours = ["#999999" if run["name"].startswith("stock") else "#0072b2" for run in runs]
        bars = axes.barh([f"{run['name']} ({run['submissions']})" for run in runs], rates, color=colours)
        axes.bar_label(bars, [f"{rate:.1f}" for rate in rates], padding=3, fontsize=8)
        axes.set_title(title, fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("submissions a minute (number of submissions in brackets)")
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
