"""How fast an ordinary nbgrader assignment is graded, compared with stock nbgrader: ``python -m bench.stock``

The submissions of nbgrader's own example course, ``ps1`` with two notebooks, are graded ``--submissions`` times with
``nbgrader autograde`` in two courses: in one with ``configure(c)``, isolated and several at a time, and in a stock one.
Everything counts: start, isolation, notebooks, gradebook. Points and comments of both must be the same. On a machine
that other programs keep busy, the times say little: compare the time of processors, too.

The status is 1 if they are not, or if stock nbgrader takes less than ``--times`` as long.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.stock_courses import OURS, STOCK, Recorded, example, new_stock_course, recorded

KINDS = ("bitdiddle", "hacker")
AS_BY_DEFAULT = OURS.replace("c.GradeChecks.jobs = 2\n", "")


def run(course: Path, *arguments: str) -> tuple[float, float]:
    """Run nbgrader in a course; return how many seconds that took, and how much time of processors."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(config: str, submissions: int) -> tuple[tuple[float, float], Recorded]:
    """Grade a class; return the seconds of ``nbgrader autograde``, those of processors, and what it recorded."""
    students = {f"student-{i:04}": KINDS[i % len(KINDS)] for i in range(submissions)}
    with tempfile.TemporaryDirectory(prefix="amllab-stock-") as folder:
        course = new_stock_course(Path(folder), example(students), config)
        run(course, "generate_assignment", "ps1")
        return run(course, "autograde", "ps1"), recorded(course)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--times", type=float, default=5.0, help="how many times as fast it has to be")
    args = parser.parse_args()
    ours, points = measure(AS_BY_DEFAULT, args.submissions)
    stock, wanted = measure(STOCK, args.submissions)
    differing = sorted("/".join(place) for place in points.keys() | wanted if points.get(place) != wanted.get(place))
    times = stock[0] / ours[0]
    print(f"{args.submissions} submissions of ps1 on {os.cpu_count()} cores:")
    for name, (seconds, used) in (("isolated", ours), ("stock nbgrader", stock)):
        print(f"{name:<15}{seconds:>8.1f} s{seconds / args.submissions:>8.2f} s each, {used:.1f} s of processors")
    print(f"{times:.1f} times as fast; {len(wanted)} scores and comments, {len(differing)} of them differ")
    for place in differing[:20]:
        print(f"  {place}")
    return int(bool(differing) or times < args.times)


if __name__ == "__main__":
    sys.exit(main())
