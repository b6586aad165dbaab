"""How long a large class takes, and what limits it: ``python -m bench.scale``

Simulate the queue with the times that ``bench/throughput.py`` measured (``bench/results/throughput.json``): submissions
arrive, each is graded by the first core that is free, and one process after the other updates the gradebook, as in
nbgrader. Print a table of class sizes and numbers of cores: hours until all are graded when they arrive at once at the
deadline, the share of that time in which the cores and the gradebook are busy, and how long a student waits if
submissions arrive over the last three days, most of them in the last hours.

The times of single submissions are sampled from the measured ones; the seed is fixed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "throughput.json"
DAYS = 3
LATE = 0.6  # share that arrives in the last tenth of the time


@dataclass
class Queue:
    """Results of a class.

    Attributes:
        seconds: seconds from the first arrival until the gradebook has the last grade.
        computing: share of the cores' time that was used.
        keeping: share of the gradebook's time that was used.
        waits: seconds from each arrival to its grade.
    """

    seconds: float
    computing: float
    keeping: float
    waits: list[float]

    def wait(self, share: float) -> float:
        return sorted(self.waits)[min(int(share * len(self.waits)), len(self.waits) - 1)]


def simulate(arrivals: list[float], gradings: list[float], cores: int, book: float) -> Queue:
    """Serve submissions in the order of arrival, by ``cores`` and then by the single gradebook.

    Args:
        arrivals: times of arrival in seconds, ascending.
        gradings: seconds of a core that each needs.
        cores: number of cores that grade.
        book: seconds that the gradebook needs for one.
    """
    free = [0.0] * cores
    heapq.heapify(free)
    book_free, waits = 0.0, []
    for arrival, seconds in zip(arrivals, gradings, strict=True):
        graded = max(arrival, heapq.heappop(free)) + seconds
        heapq.heappush(free, graded)
        book_free = max(graded, book_free) + book
        waits.append(book_free - arrival)
    whole = book_free - arrivals[0]
    return Queue(whole, sum(gradings) / (cores * whole), book * len(arrivals) / whole, waits)


def spread(number: int, rng: random.Random) -> list[float]:
    """Return arrivals over the last days, most of them late."""
    seconds = DAYS * 86400
    late = [rng.uniform(0.9, 1) if rng.random() < LATE else rng.uniform(0, 0.9) for _ in range(number)]
    return sorted(seconds * share for share in late)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--cores", type=int, nargs="*", default=[2, 8, 32, 128, 512])
    args = parser.parse_args()
    measured = json.loads(RESULTS.read_text())
    runs = {run["name"]: run for run in measured["runs"]}
    single, before = runs["one process"], runs["from cache"]
    grading = [seconds for seconds in single["grading"] if seconds > 0.5]  # unreadable ones cost nothing
    book = before["seconds"] / before["submissions"]
    print(f"measured: {sum(grading) / len(grading):.1f} s of a core and {book:.2f} s of the book for a submission\n")
    print(
        f"{'class':>7}{'cores':>7}{'hours':>9}{'cores busy':>12}{'book busy':>11}{'waits, median':>16}{'19 of 20':>10}"
    )
    for size in args.sizes:
        rng = random.Random(size)
        gradings = [rng.choice(grading) for _ in range(size)]
        arrivals = spread(size, rng)
        for cores in args.cores:
            if cores > size:
                continue
            at_once = simulate([0.0] * size, gradings, cores, book)
            coming_in = simulate(arrivals, gradings, cores, book)
            print(
                f"{size:>7}{cores:>7}{at_once.seconds / 3600:>9.2f}{at_once.computing:>12.0%}{at_once.keeping:>11.0%}"
                f"{coming_in.wait(0.5):>14.0f} s{coming_in.wait(0.95):>8.0f} s"
            )


if __name__ == "__main__":
    main()
