"""Does a submission get the same points whatever the seed? ``python -m bench.same_points --seeds 20 --jobs 2``

Check every solution of the lab's corpus, correct ones and wrong ones, with the checks of several seeds, and print a
table and every submission that

* gets other points with another seed,
* is correct and loses points, or is wrong and loses none,
* loses points in another exercise than that of its mistake, or
* loses fewer or more points than were specified for its mistake before it was checked.

Runs are shared with ``autograder study``: what was checked with the current checks is not checked again, also after an
interruption. ``--text`` prints the report of each submission instead, as the student reads
it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from amllab.checks.render import to_text
from autograder.authoring.study.checker import Checker
from autograder.authoring.study.rows import Row
from autograder.authoring.study.study import FIRST_SEED, MutationStudy
from autograder.authoring.study.subjects import BY_PEOPLE, HAND, PUBLIC, STYLE, Subject
from autograder.course import Course

ROOT = Path(__file__).resolve().parent.parent
STUDY = MutationStudy(Course.find(ROOT), "transfer-learning")
TITLES = {STYLE: "correct", HAND: "wrong, by hand", PUBLIC: "wrong, as public code"}


def chosen(only: str) -> list[Subject]:
    """Return subjects that a person wrote, and whose id contains ``only``."""
    return [s for s in STUDY.subjects if s.kind in BY_PEOPLE and any(part in s.id for part in only.split(","))]


def faults(row: Row, lost: Sequence[float]) -> list[str]:
    """Return what is wrong with the points of a submission."""
    found = []
    if len(set(lost)) > 1:
        found.append("other points with other seeds")
    if row.broken:
        found.append(f"a check or the process broke: {', '.join(sorted(set(row.broken)))}")
    if row.kind == STYLE:
        return found + ["correct, but loses points"] * any(lost)
    if row.reason:
        return found + ["called equivalent, but loses points"] * any(lost)
    if row.elsewhere:
        found.append("loses points in another exercise")
    if row.caught < len(row.lost):
        found.append(f"caught by {row.caught} of {len(row.lost)} seeds")
    if row.cost and any(not row.cost[0] <= points <= row.cost[1] for points in row.lost if points):
        found.append(f"should cost {row.cost[0]:g} to {row.cost[1]:g}")
    return found


def line(row: Row, lost: Sequence[float], found: Sequence[str]) -> str:
    """Describe a submission whose points are not as they should be."""
    counts = ", ".join(f"{points:g} ({seeds} seeds)" for points, seeds in sorted(Counter(lost).items()))
    other = "".join(f"; {cell.removeprefix('check_')}: {points:g}" for cell, points in row.elsewhere.items())
    checks = "\n".join(
        f"      {check.removeprefix('test_')}: {', '.join(f'{symptom!r} ({n})' for symptom, n in symptoms.items())}"
        for check, symptoms in row.failed.items()
    )
    where = f" [{row.exercise}]" if row.exercise else ""
    return f"{row.id}{where}: {'; '.join(found)}\n    {row.name}\n    loses {counts}{other}\n{checks}"


def report(seeds: Sequence[int], among: Sequence[Subject]) -> str:
    """Return the table, and every submission that is not as it should be."""
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in TITLES}
    lines = []
    for row in STUDY.collect(seeds, among):
        lost = row.lost
        if not lost:
            continue
        found = faults(row, lost)
        counter = kinds[row.kind]
        counter["submissions"] += 1
        counter["the same points with every seed"] += len(set(lost)) == 1
        counter["as they should be"] += not found
        lines += [line(row, lost, found)] if found else []
    columns = ("submissions", "the same points with every seed", "as they should be")
    table = [
        f"{title:24}" + "".join(f"{kinds[kind][c]:>{len(c) + 3}}" for c in columns) for kind, title in TITLES.items()
    ]
    head = " " * 24 + "".join(f"   {column}" for column in columns)
    known = STUDY.done()
    used = [v.seconds for s in among for seed in seeds if (v := known.get((s.digest, seed, "all")))]
    time = f"{len(used)} runs, {sum(used):.0f} s of processor time, {sum(used) / max(1, len(used)):.2f} s each"
    return "\n".join([*lines, "", f"{len(seeds)} seeds, {time}", head, *table])


def print_texts(seed: int, among: Sequence[Subject]) -> None:
    """Print what the student reads about each subject, with one seed, in this process."""
    checker = Checker(STUDY.materials, seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for subject in among:
            results = checker.results(subject.sources)
            print(f"=== {subject.id}: {subject.name}")
            print(to_text([result for result in results if result.outcome != "passed"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds of the checks")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="the first of them; the others follow")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--only", default="", help="subjects whose id has one of these in it, with commas in between")
    parser.add_argument("--text", action="store_true", help="prints the reports with the first seed instead")
    parser.add_argument("--report-only", action="store_true", help="prints what is known, and checks nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no use for more
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    among = chosen(arguments.only)
    if arguments.text:
        print_texts(seeds[0], among)
        return
    if not arguments.report_only:
        STUDY.check(seeds, arguments.jobs, among)
    print(report(seeds, among))


if __name__ == "__main__":
    main()
