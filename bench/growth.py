"""Measure what a submission costs without the student's own code, by size of the class: ``python -m bench.growth``

Classes of unchanged releases are graded with ``nbgrader autograde``: they are started, isolated, repaired, checked and
recorded like any other, but compute nothing. Printed for each size of the class: seconds, and the maximum memory of all
processes together (proportional set size). Each class includes one start, so the cost of a further submission is the
difference between two sizes. In small classes, a start that took a second longer would distort this: they are graded
three times, and the median counts. Each class is then graded again without changes (``rm -r autograded``, then
``autograde``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import nbformat

from bench.throughput import FOLDER, ROOT, Timed, autograde
from tests.conftest import ASSIGNMENT, NOTEBOOK, new_course, submit

SMALL = 50  # submissions
PICTURE = ROOT / "docs" / "growth.png"


def graded(folder: Path, size: int, jobs: int) -> tuple[Timed, Timed]:
    """Grade one class in a separate course, then grade it again."""
    course = new_course(folder)
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text() + f"c.GradeChecks.jobs = {jobs}\n")
    release = nbformat.read(course / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    for i in range(size):
        notebook = nbformat.from_dict(release)
        # no two students of a class submit the same file
        notebook.cells = [*release.cells, nbformat.v4.new_code_cell(f"# student {i}")]
        submit(course, f"s{i:04}", notebook)
    run = autograde(course, f"{size}", size, closely=True)
    if len(run.points) != size or any(run.points.values()):
        raise RuntimeError(f"{len(run.points)} of {size} in the gradebook, with {sum(run.points.values())} points")
    shutil.rmtree(course / "autograded")
    again = autograde(course, f"{size}, from cache", size, closely=True)
    if again.points != run.points:
        raise RuntimeError("what was kept gives other points")
    return run, again


def further(runs: list[Timed]) -> list[float]:
    """Return the seconds for each submission by which a class exceeds the previous one."""
    return [(b.seconds - a.seconds) / (b.submissions - a.submissions) for a, b in itertools.pairwise(runs)]


def plot(runs: list[Timed]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    sizes = [run.submissions for run in runs]
    time.plot(sizes, [run.seconds for run in runs], "o-", color="#0072b2")
    time.set_ylabel("seconds for the class")
    memory.plot(sizes, [run.memory for run in runs], "o-", color="#d55e00")
    memory.set_ylabel("MB, all processes")
    for axes, most in ((time, runs[-1].seconds), (memory, max(run.memory for run in runs))):
        axes.set_xlabel("untouched releases in the class")
        axes.set_xlim(0)
        axes.set_ylim(0, 1.1 * most)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 50, 200, 500])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    runs, again = [], []
    print(f"{'class':>7}{'s':>9}{'MB':>7}{'s for a further submission':>29}{'s each, from cache':>24}")
    for size in sorted(args.sizes):
        with tempfile.TemporaryDirectory(prefix="growth-") as folder:
            times = 3 if size <= SMALL else 1
            tried = [graded(Path(folder, f"course{i}"), size, args.jobs) for i in range(times)]
        first, second = sorted(tried, key=lambda both: both[0].seconds)[times // 2]
        runs.append(first)
        again.append(second)
        more = f"{further(runs)[-1]:.2f}" if len(runs) > 1 else ""
        print(f"{size:>7}{first.seconds:>9.1f}{first.memory:>7.0f}{more:>29}{second.each:>24.3f}", flush=True)
    costs = further(runs)
    if len(costs) > 1:
        print(f"\na further submission, in the largest class against the smallest: {costs[-1] / costs[0]:.2f}×")
    if costs:
        print(f"of a core: {args.jobs * costs[-1]:.2f} s a submission, with {args.jobs} at a time")
    rows = [
        {name: getattr(run, name) for name in ("submissions", "seconds", "memory")} | {"again": second.seconds}
        for run, second in zip(runs, again, strict=True)
    ]
    FOLDER.joinpath("growth.json").write_text(json.dumps({"jobs": args.jobs, "runs": rows}, indent=1) + "\n")
    plot(runs)


if __name__ == "__main__":
    main()
