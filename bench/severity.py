"""Do points follow severity? ``python bench/severity.py --seeds 20 --exercises freeze_layers build_transfer_model``

Checks the mistakes that people make (``mutants/mistakes.py``), one at a time, and compares what each costs in its cell with what it
should cost (``mutants/severity.toml``, written down before). Writes the tables of these exercises into ``docs/checks.md``, and
lists mistakes that cost something else, or not the same with every seed.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from mutants.mistakes import MISTAKES, Mistake
from mutants.runs import Checker
from variants import CELLS

from autograder.catalogue import SEVERITY

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "checks.md"
WANTED = tomllib.loads((Path(__file__).parent / "mutants" / "severity.toml").read_text(encoding="utf-8"))
FIRST_SEED = 30_000


def measure(exercise: str, seeds: Sequence[int], jobs: int) -> dict[str, list[float]]:
    """Points that each mistake of an exercise costs in its cell, one number for each seed."""
    chosen = [m for m in MISTAKES if m.exercise == exercise and m.id in WANTED.get(exercise, {})]
    costs: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        checker = Checker(seed, (exercise,))
        for index, verdict in checker.verdicts([{**CELLS, exercise: m.source} for m in chosen], jobs):
            if verdict.broken or verdict.ended:
                raise RuntimeError(f"{chosen[index].id}: {verdict.broken} {verdict.ended}")
            costs[chosen[index].id].append(sum(verdict.lost.values()))
        print(f"{exercise}, seed {seed}", file=sys.stderr)
    return costs


def table(exercise: str, costs: dict[str, list[float]], seeds: int) -> str:
    """The costs of an exercise as a part of the page."""
    by_id: dict[str, Mistake] = {m.id: m for m in MISTAKES}
    lines = [
        f"### Mistakes in `{exercise}`",
        "",
        f"| mistake | should cost | costs, over {seeds} seeds |",
        "|---|---|---|",
    ]
    for id_, (least, most) in WANTED[exercise].items():
        lines.append(f"| {by_id[id_].name} | {least}–{most} | {', '.join(f'{c:g}' for c in sorted(set(costs[id_])))} |")
    return "\n".join(lines) + "\n"


def put_in(page: str, exercise: str, part: str) -> str:
    """The page with this part in place of the one that it has for the exercise, or at its end."""
    head, _, rest = page.partition(SEVERITY)
    parts = [p for p in rest.split("### Mistakes in ")[1:] if not p.startswith(f"`{exercise}`")]
    texts = sorted(["### Mistakes in " + p.strip() + "\n" for p in parts] + [part], key=_place)
    intro = (
        "Written by `python bench/severity.py`. One mistake at a time, in plain correct functions: what it should cost in its "
        "cell was written down\nbefore (`bench/mutants/severity.toml`), and is compared with what it costs.\n"
    )
    return "\n".join([f"{head.rstrip()}\n", f"{SEVERITY}\n", intro, *texts])


def _place(part: str) -> int:
    return next(i for i, exercise in enumerate([*CELLS, ""]) if exercise in part.split("\n")[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds of the checks")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--exercises", nargs="+", default=list(WANTED), choices=list(WANTED))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process that is forked has no use for more
    for exercise in arguments.exercises:
        costs = measure(exercise, range(FIRST_SEED, FIRST_SEED + arguments.seeds), arguments.jobs)
        for id_, (least, most) in WANTED[exercise].items():
            if len(set(costs[id_])) != 1 or not least <= costs[id_][0] <= most:
                print(f"{exercise}, {id_}: should cost {least} to {most}, costs {sorted(set(costs[id_]))}")
        part = table(exercise, costs, arguments.seeds)
        PAGE.write_text(put_in(PAGE.read_text(encoding="utf-8"), exercise, part), encoding="utf-8")


if __name__ == "__main__":
    main()
