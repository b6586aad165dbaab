"""Is the feedback enough to name the mistake? ``python -m bench.blind_reading --reading 1``

Write the reports of wrong submissions, as students read them, to ``build/reading/NN.txt``: in random order, without
code, without the name of the mistake, and without the line that names a known mistake in a report. Half of them are
mistakes of public code (``corpus/public`` of the lab), for which no check was written, as long as there are some that
have not been read before. The reader enters what each mistake seems to be in ``build/reading/answers.json``
(``{"01": "..."}``).

``--key`` prints number, mistake and answer side by side, for the person who decides which answers are right. Those
decisions are stored in ``bench/results/blind_reading.json``, from which ``--page`` writes ``docs/blind-reading.md``:
the mistakes that were named, and the points lost next to those that were specified for the mistake before any check
saw it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

from amllab.checks.render import to_text
from amllab.checks.results import score
from autograder.authoring.study.checker import Checker
from autograder.authoring.study.study import FIRST_SEED, MutationStudy
from autograder.authoring.study.subjects import HAND, PUBLIC, Subject
from autograder.course import Course

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "reading"
RESULTS = ROOT / "bench" / "results" / "blind_reading.json"
PAGE = ROOT / "docs" / "blind-reading.md"
STUDY = MutationStudy(Course.find(ROOT), "transfer-learning")


def chosen(number: int, reading: int, again: bool = False) -> list[Subject]:
    """Return wrong submissions in random order, if possible half of them by hand and half of public code.

    None of them was in an earlier reading, or, with ``again``, all of them were.
    """
    picked = random.Random(reading)
    before = {row["id"] for row in json.loads(RESULTS.read_text()) if row["reading"] < reading}
    wrong = [
        s
        for s in STUDY.subjects
        if s.kind in (HAND, PUBLIC) and (s.id.removeprefix("mistake/"),) not in STUDY.materials.corpus.equivalent
    ]
    by_kind = {kind: [s for s in wrong if s.kind == kind and (s.id in before) == again] for kind in (HAND, PUBLIC)}
    public = min(number // 2, len(by_kind[PUBLIC]))
    by_hand = min(number - public, len(by_kind[HAND]))
    found = [s for kind, n in ((HAND, by_hand), (PUBLIC, public)) for s in picked.sample(by_kind[kind], n)]
    return picked.sample(found, len(found))


def write_reports(among: list[Subject], seed: int) -> None:
    """Write the reports, and the key next to them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    checker, key = Checker(STUDY.materials, seed), {}
    for i, subject in enumerate(among, 1):
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # some write checkpoints
            results = checker.results(subject.sources)
        cells = list(dict.fromkeys(r.cell for r in results if r.earned < r.points))
        texts = []
        for cell in cells:
            own = [r for r in results if r.cell == cell]
            texts.append(to_text(own))
        number = f"{i:02}"
        (FOLDER / f"{number}.txt").write_text("\n\n".join(texts) or "full points\n", encoding="utf-8")
        lost = {cell: score(results, cell)[1] - score(results, cell)[0] for cell in cells}
        key[number] = {
            "id": subject.id,
            "exercise": subject.exercise,
            "mistake": subject.name,
            "lost": lost,
            "cost": subject.cost,
        }
    (FOLDER / "key.json").write_text(json.dumps(key, indent=1))


def print_key() -> None:
    """Print number, mistake and answer of each report."""
    key = json.loads((FOLDER / "key.json").read_text())
    answers = json.loads((FOLDER / "answers.json").read_text())
    for number, row in key.items():
        print(f"{number} {row['id']}: {row['mistake']}\n   read: {answers.get(number, '')}\n   lost {row['lost']}")


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page about the readings."""
    readings: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        readings.setdefault(row["reading"], []).append(row)
    counts = [
        "| reading | reports | mistake named rightly | points within what was written down |",
        "|---|---|---|---|",
    ]
    for number, read in readings.items():
        right, written = sum(row["right"] for row in read), [row for row in read if row["cost"]]
        fitting = sum(row["cost"][0] <= sum(row["lost"].values()) <= row["cost"][1] for row in written)
        share = f"{right} ({100 * right / len(read):.0f} %)"
        counts.append(f"| {number} | {len(read)} | {share} | {fitting} of {len(written)} |")
    parts = [
        "# Is the feedback enough to name the mistake?",
        "Written by `python -m bench.blind_reading --page`; every figure comes from `bench/results/blind_reading.json`.",
        "Reports of wrong submissions were read without the code and the checks at hand, and one sentence was written down for "
        "each: what the code does wrong. Readings 1 to 6 had other submissions than those before; twenty of the sixth were written by "
        "somebody who had seen the notebook, and no check. The seventh to the ninth had submissions of all readings before, with "
        "the reports of that day, and other readers. An answer is right where its "
        "first guess is the mistake. After each reading the reports that had misled were improved, so that a report may read "
        "differently today. In readings 1 to 4, reports had the line that names a known mistake, where grading has one for it; in "
        "those after them it was left out. What a mistake should cost was written down without knowing what it costs.",
        "\n".join(counts),
    ]
    for number, read in readings.items():
        table = ["| mistake | what was read | right | points lost | should cost |", "| --- | --- | --- | --- | --- |"]
        for row in read:
            cost = f"{row['cost'][0]:g} to {row['cost'][1]:g}" if row["cost"] else ""
            lost = ", ".join(f"{points:g}" for points in row["lost"].values()) or "0"
            cells = (row["mistake"], row["answer"], "yes" if row["right"] else "**no**", lost, cost)
            table.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        parts += [f"## Reading {number}", "\n".join(table)]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=44, help="number of submissions")
    parser.add_argument("--reading", type=int, default=1, help="number of the reading: 2 has other submissions than 1")
    parser.add_argument(
        "--again", action="store_true", help="submissions that were read before, with the reports of today"
    )
    parser.add_argument("--key", action="store_true", help="prints mistakes and answers side by side")
    parser.add_argument("--page", action="store_true", help="writes the page from the decisions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.key:
        print_key()
    elif arguments.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text())) + "\n", encoding="utf-8")
    else:
        write_reports(chosen(arguments.number, arguments.reading, arguments.again), FIRST_SEED + 100)


if __name__ == "__main__":
    main()
