"""Are two mistakes in one function recognised as these two? ``python -m bench.pairs_of_mistakes``

The study of a lab makes one mistake at a time. Here the mistakes of its corpus are made two at a time:

* *predicted*, for all pairs in an exercise: each check fails as for one of the two mistakes. Where both make it fail,
  the one or the other way is seen; both are tried.
* *made* (``--made``), for all pairs of which both changes fit into the same function: the two changes are merged, and
  the merged function is checked. This runs checks: with ``--exercise freeze_layers`` it takes minutes.

The table counts what a report says: both mistakes, one of the two, nothing, a third mistake that fails in the same
way, or several of which at least one was not made. ``--wrong`` lists the last two.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from amllab.lab import all_labs, find_lab
from autograder.authoring.study.checker import Checker
from autograder.authoring.study.rows import Row
from autograder.authoring.study.study import FIRST_SEED, MutationStudy
from autograder.authoring.study.subjects import HAND, Subject
from autograder.course import Course
from autograder.grading.mistakes import Pattern, effect, explain
from autograder.text import table

ROOT = Path(__file__).resolve().parent.parent
# from best to worst; a wrong single name is no matter of pairs: the failures are those of a third mistake
ANSWERS = ("both", "one of the two", "nothing", "a third mistake", "others")
Failed = dict[str, str]  # check -> symptom


def failures(row: Row) -> list[Failed]:
    """Return how the checks of a mistake's own cell fail: each way once."""
    cell = f"check_{row.exercise}"
    found = [dict(text.split(": ", 1) for text in by_cell[cell]) for _, by_cell in row.patterns if cell in by_cell]
    return [failed for i, failed in enumerate(found) if failed not in found[:i]]


def pattern(failed: Failed) -> Pattern:
    return tuple(sorted(f"{check}: {symptom}" for check, symptom in failed.items()))


def answer(lab: str, cell: str, seen: Pattern, made: Sequence[set[str]]) -> str:
    """Return what a report says about two mistakes, in a word.

    Args:
        lab: Name of the lab.
        cell: Grade id of the check cell.
        seen: How the checks fail.
        made: For each of the two mistakes, the names that are right for it: its own, and that of its effect.
    """
    found = explain(lab, cell, seen)
    if found is None:
        return "nothing"
    right = {said: [i for i, names in enumerate(made) if said in names] for said in found.names}
    if not all(right.values()):
        return "others" if len(right) > 1 or found.partly else "a third mistake"
    return "both" if {i for which in right.values() for i in which} == {0, 1} else "one of the two"


def right_names(row: Row) -> set[str]:
    """Return the names that are right for a mistake."""
    return {row.name, *(effect(pattern(failed)) for failed in failures(row))} - {""}


def predicted(lab: str, rows: Sequence[Row]) -> Iterator[tuple[str, str, Row, Row]]:
    """Yield exercise and answer for each pair of mistakes; the worst one if they can be seen in several ways."""
    for first, second in itertools.combinations(rows, 2):
        if first.exercise != second.exercise or first.name == second.name:
            continue
        seen = {
            pattern(whole)
            for a, b in itertools.product(failures(first), failures(second))
            for whole in ({**a, **b}, {**b, **a})
        }
        said = [
            answer(lab, f"check_{first.exercise}", each, [right_names(first), right_names(second)]) for each in seen
        ]
        if said:
            yield first.exercise, max(said, key=ANSWERS.index), first, second


def merged(plain: str, first: str, second: str) -> str | None:
    """Return a function with two changes; ``None`` if they are in the same place."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("first", "plain", "second")]
        for file, text in zip(files, (first, plain, second), strict=True):
            file.write_text(text.strip("\n") + "\n")
        done = subprocess.run(
            ["git", "merge-file", "-p", "-q", *map(str, files)], capture_output=True, text=True, check=False
        )
    return done.stdout if done.returncode == 0 else None


def made(
    study: MutationStudy, subjects: Sequence[Subject], jobs: int, sample: int
) -> Iterator[tuple[str, str, Subject, Subject]]:
    """Make both mistakes of each pair in one function, check it, and yield exercise and answer."""
    plain, pairs = study.materials.plain, []
    for first, second in itertools.combinations(subjects, 2):
        if first.exercise != second.exercise or first.name == second.name:
            continue
        own = first.exercise
        source = merged(plain[own], first.sources[own], second.sources[own])
        if source is not None and source.strip() not in {s.sources[own].strip() for s in (first, second)}:
            pairs.append((first, second, {**first.sources, own: source}))
    by_exercise = [[pair for pair in pairs if pair[0].exercise == own] for own in study.materials.exercises]
    if sample:
        pairs = [pair for own in by_exercise for pair in random.Random(0).sample(own, min(sample, len(own)))]
    right = {row.id: right_names(row) for row in study.read_rows()}
    checker = Checker(study.materials, FIRST_SEED, correct=list(study.materials.bases.values()))
    for index, verdict in checker.verdicts([sources for _, _, sources in pairs], jobs):
        first, second, _ = pairs[index]
        cell = f"check_{first.exercise}"
        seen = tuple(sorted(verdict.patterns.get(cell, ())))
        if seen:  # the second mistake may undo the first
            names = [right.get(subject.id, {subject.name}) for subject in (first, second)]
            yield first.exercise, answer(study.lab.name, cell, seen, names), first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", nargs="*", default=[name.replace("_", "-") for name in all_labs()])
    parser.add_argument("--exercise", default="", help="of this exercise only")
    parser.add_argument("--made", action="store_true", help="make the pairs, and check them")
    parser.add_argument("--sample", type=int, default=0, help="make so many pairs, chosen by chance, of each exercise")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--wrong", action="store_true", help="list the pairs that are named wrongly")
    asked = parser.parse_args()
    rows = []
    for assignment in asked.labs:
        study = MutationStudy(Course.find(ROOT), find_lab(assignment).assignment)
        if asked.made:
            chosen = [s for s in study.subjects if s.kind == HAND and asked.exercise in ("", s.exercise)]
            results = list(made(study, chosen, asked.jobs, asked.sample))
        else:
            known = [r for r in study.read_rows() if r.kind == HAND and asked.exercise in ("", r.exercise) and r.caught]
            results = list(predicted(study.lab.name, known))
        for exercise in dict.fromkeys(result[0] for result in results):
            counts = Counter(said for own, said, _, _ in results if own == exercise)
            rows.append([assignment, exercise, str(counts.total()), *(str(counts[name]) for name in ANSWERS)])
        for exercise, said, first, second in results if asked.wrong else ():
            if said in ANSWERS[-2:]:
                print(f"{exercise}: {first.id} and {second.id} are named as {said}")
    sums = [sum(int(row[i]) for row in rows) for i in range(2, 3 + len(ANSWERS))]
    rows.append(["all", "", *map(str, sums)])
    print(table(["lab", "exercise", "pairs", *ANSWERS], rows, left=(0, 1)))


if __name__ == "__main__":
    main()
