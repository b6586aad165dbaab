"""The calibration of accuracy thresholds from measured right and wrong submissions: ``autograder calibrate``.

A lab defines what to measure in ``autograder/checks/<lab>/calibration.py``: ``STYLES``, the right and wrong variants of
the exercise; ``kind(lab)``, the kind of images; ``budget(lab)``, of which this module reads only ``test_images``; and
``measure(lab, style, seed)``, which tries learning rates until ``complete(lab, shares)`` holds, at the latest when an
accuracy reaches ``ceiling(lab)``.

Thresholds are fitted on some seeds and judged on others. The result, including all measurements, is one file that the
check reads: ``amllab/checks/<lab>/thresholds.json``.

The accuracies of each variant are assumed to be normally distributed, with their own mean and standard deviation. This
makes it possible to estimate probabilities far below one over the number of runs. The counts on the fresh seeds are
reported next to the estimates and assume nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from tqdm import tqdm

from amllab.lab import Lab
from amllab.seeds import derive
from autograder.errors import ThresholdError
from autograder.labs.calibrated import digest_of_images

WRONG_VERDICTS = 1e-3  # highest accepted probability, for a right submission and for a wrong one
CONFIDENCE = 0.95
STEP = 0.005  # thresholds are multiples of this
PACKAGES = ("torch", "torchvision", "timm", "numpy")

Run = tuple[str, int, list[float], float]  # variant, seed, accuracy of each attempt, seconds


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on one variant, on seeds that were not used for fitting.

    Attributes:
        style: Name of the variant.
        right: Whether the variant is correct.
        n: Number of runs.
        mean: Mean of the accuracies.
        sd: Standard deviation of the accuracies.
        low: Lowest accuracy.
        high: Highest accuracy.
        wrong: Number of runs with the wrong verdict: a right variant without full points, or a wrong variant with them.
        probability: Probability of the wrong verdict, for normally distributed accuracies with this mean and standard
            deviation, or with the smallest credible standard deviation if that is larger.
        at_most: Upper bound of ``probability`` with 95 % confidence.
    """

    style: str
    right: bool
    n: int
    mean: float
    sd: float
    low: float
    high: float
    wrong: int
    probability: float
    at_most: float


def tail_at_most(n: int, distance: float) -> float:
    """Return an upper bound of the normal tail beyond an estimated distance from the mean.

    The tail begins ``distance`` estimated standard deviations from the mean of ``n`` values. The bound inverts the
    one-sided tolerance limit based on the noncentral t distribution (Howe, *Journal of the American Statistical
    Association* 64, 1969).
    """
    t = distance * math.sqrt(n)
    if stats.nct.cdf(t, n - 1, 0.0) < CONFIDENCE:
        return 0.5
    # the distance, in true standard deviations, at which only 1 - CONFIDENCE of all samples exceed the estimate
    shift = optimize.brentq(lambda d: stats.nct.cdf(t, n - 1, d) - CONFIDENCE, 0.0, t)
    return float(stats.norm.sf(shift / math.sqrt(n)))


def counted(shares: Sequence[float], enough: float) -> list[float]:
    """Return the attempts that would have been made: none after the first one that reaches ``enough``."""
    first = next((i for i, share in enumerate(shares) if share >= enough), len(shares))
    return list(shares[: first + 1])


def fit(right: dict[str, list[float]], wrong: dict[str, list[float]], spread: float) -> dict[str, float]:
    """Fit thresholds to accuracies by variant.

    Args:
        right: Accuracies of each right variant.
        wrong: Accuracies of each wrong variant.
        spread: Smallest credible standard deviation; it replaces smaller estimates.

    Returns:
        ``full``, which lies as many standard deviations below the nearest right variant as above the nearest wrong one,
        and ``start``, below which 999 in 1,000 submissions of each wrong variant stay.

    Raises:
        ThresholdError: Right and wrong variants are too close to each other; the message names the nearest ones.
    """
    wrongs = {name: _normal(values, spread) for name, values in wrong.items()}
    rights = {name: _normal(values, spread) for name, values in right.items()}

    def nearest(full: float) -> tuple[tuple[float, str], tuple[float, str]]:
        """Return distance (in standard deviations) and name of the nearest right and wrong variants."""
        below = min(((mean - full) / sd, name) for name, (mean, sd) in rights.items())
        return below, min(((full - mean) / sd, name) for name, (mean, sd) in wrongs.items())

    candidates = [round(i * STEP, 4) for i in range(1, round(1 / STEP))]
    full = max(candidates, key=lambda value: min(side[0] for side in nearest(value)))
    (below, low), (above, high) = nearest(full)
    if min(below, above) < stats.norm.isf(WRONG_VERDICTS):
        raise ThresholdError(
            f"no threshold separates '{high}' (mean {wrongs[high][0]:.3f}) from '{low}' (mean {rights[low][0]:.3f}) with at most "
            f"one error in {1 / WRONG_VERDICTS:,.0f}: the best, {full}, is {min(below, above):.1f} standard deviations away. "
            "Allow more epochs, images or attempts"
        )
    start = max(mean + stats.norm.isf(WRONG_VERDICTS) * sd for mean, sd in wrongs.values())
    return {"start": round(min(math.ceil(start / STEP) * STEP, full - STEP), 4), "full": full}


def _normal(values: Sequence[float], spread: float) -> tuple[float, float]:
    return float(np.mean(values)), max(float(np.std(values, ddof=1)), spread)


def judge(name: str, right: bool, values: Sequence[float], full: float, spread: float) -> Verdicts:
    """Judge a variant's accuracies by the threshold for full points."""
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean, sd = _normal(values, spread)
    distance = (mean - full if right else full - mean) / sd
    wrong = int((array < full).sum() if right else (array >= full).sum())
    return Verdicts(
        name, right, len(array), mean, float(array.std(ddof=1)), float(array.min()), float(array.max()), wrong,
        float(stats.norm.sf(distance)), tail_at_most(len(array), distance),
    )  # fmt: skip


def counted_at_most(wrong: int, n: int) -> float:
    """Return the Clopper-Pearson upper bound of a probability, for ``wrong`` occurrences in ``n`` runs."""
    return float(stats.binomtest(wrong, n).proportion_ci(2 * CONFIDENCE - 1, "exact").high)


class Calibration:
    """A calibration of a lab: its measurements, the file that stores them, and the resulting thresholds.

    Args:
        lab: Lab to calibrate.
        data: Images that replace ``data`` in the lab's accuracy budget.
        seeds: Number of seeds to fit the thresholds on.
        fresh: Number of further seeds to judge them on.
    """

    def __init__(self, lab: Lab, *, data: str | None = None, seeds: int = 20, fresh: int = 40) -> None:
        """Load the lab's calibration module and its budget.

        Raises:
            LookupError: The lab has nothing to calibrate.
            ValueError: There are fewer than three seeds for fitting or for judging.
        """
        if min(seeds, fresh) < 3:
            raise ValueError("estimating a spread needs at least three seeds, both for fitting and for evaluation")
        if data is not None:
            accuracy = {**lab.settings["accuracy"], "data": data}
            lab = replace(lab, settings={**lab.settings, "accuracy": accuracy})
        self.lab, self.seeds, self.fresh = lab, seeds, fresh
        self.module = _module(lab)
        self.kind: str = self.module.kind(lab)
        self.budget = self.module.budget(lab)
        self.file = lab.folder / "thresholds.json"

    @cached_property
    def data(self) -> str | None:
        """The digest of the images; ``None`` if the library draws them."""
        return digest_of_images(self.lab)

    @cached_property
    def marks(self) -> dict[str, str]:
        """A mark for the runs of each variant: not those with another budget, other images or another source."""
        parts = [self.budget, self.data] if self.data else [self.budget]
        return {
            s.name: hashlib.sha256(json.dumps([*parts, s.source]).encode()).hexdigest()[:12] for s in self.module.STYLES
        }

    def run(self, kept: Path, jobs: int) -> dict[str, Any]:
        """Measure what is missing and return the resulting :meth:`evidence`.

        Args:
            kept: File that each run is appended to as soon as it is done; an interrupted calibration resumes from it.
            jobs: Number of processes, each of which computes on one thread.
        """
        known = self._read(kept)
        missing = [
            (seed, [s.name for s in self.module.STYLES if seed % s.every == 0 and (s.name, seed) not in known])
            for seed in range(self.seeds + self.fresh)
        ]
        missing = [(seed, styles) for seed, styles in missing if styles]
        total = sum(len(styles) for _, styles in missing)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            kept.open("a") as file,
            tqdm(total=total, desc=f"{self.lab.name}, {self.kind}", unit="run") as progress,
        ):
            for runs in self._measured(missing, jobs):
                for style, seed, shares, seconds in runs:
                    row = {"style": style, "mark": self.marks[style], "seed": seed, "shares": shares}
                    file.write(json.dumps({**row, "seconds": round(seconds, 2)}) + "\n")
                    progress.update()
                file.flush()
        return self.evidence(self._read(kept))

    def _measured(self, missing: list[tuple[int, list[str]]], jobs: int) -> Iterator[list[Run]]:
        """Yield the runs of each seed as they finish."""
        if jobs == 1:
            yield from (_measure(self.lab, seed, styles) for seed, styles in missing)
            return
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_measure, self.lab, seed, styles) for seed, styles in missing]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True, wait=False)
                raise

    def evidence(self, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
        """Return the thresholds and all data that they were fitted on, for the file that the check reads."""
        styles, n = self.module.STYLES, self.budget["test_images"]
        ceiling = self.module.ceiling(self.lab)
        # a standard deviation below this is luck: counting hits alone gives about twice as much
        spread = math.sqrt(0.25 / n) / 2

        def rows(style: Any, seeds: Iterable[int]) -> list[dict[str, Any]]:
            return [known[style.name, seed] for seed in seeds if seed % style.every == 0]

        def values(style: Any, seeds: Iterable[int]) -> list[float]:
            return [max(counted(row["shares"], ceiling)) for row in rows(style, seeds)]

        fitted, fresh = range(self.seeds), range(self.seeds, self.seeds + self.fresh)
        chosen = [s for s in styles if s.fitted]
        right, wrong = ({s.name: values(s, fitted) for s in chosen if s.right is side} for side in (True, False))
        thresholds = fit(right, wrong, spread)
        if thresholds["full"] > ceiling:
            raise ThresholdError(f"full points from {thresholds['full']}: attempts stop at {ceiling}, raise CEILINGS")
        names = {s.name for s in chosen}
        verdicts = [judge(s.name, s.right, values(s, fresh), thresholds["full"], spread) for s in styles]
        # attempts, not seconds, because they do not depend on the load of the machine
        attempts = [len(counted(row["shares"], ceiling)) for s in styles if s.right for row in rows(s, fresh)]
        return {
            "thresholds": thresholds,
            "budget": self.budget,
            **({"data": self.data} if self.data else {}),
            "seeds": {"fitted": [0, self.seeds], "fresh": [self.seeds, self.seeds + self.fresh]},
            "verdicts": [vars(verdict) for verdict in verdicts],
            "right": self._count([v for v in verdicts if v.right and v.style in names]),
            "wrong": self._count([v for v in verdicts if not v.right and v.style in names]),
            "attempts": {"mean": round(float(np.mean(attempts)), 2), "most": max(attempts)},
            "packages": {name: version(name) for name in PACKAGES},
            "machine": f"{platform.system()} {platform.machine()}",
            "samples": {
                s.name: {
                    "every": s.every,
                    "fitted": s.fitted,
                    "shares": [counted(row["shares"], ceiling) for row in rows(s, (*fitted, *fresh))],
                }
                for s in styles
            },
        }

    @staticmethod
    def _count(chosen: Sequence[Verdicts]) -> dict[str, Any]:
        n, wrong = sum(v.n for v in chosen), sum(v.wrong for v in chosen)
        return {
            "runs": n,
            "wrong_verdicts": wrong,
            "counted_at_most": counted_at_most(wrong, n),
            "worst_style": max(chosen, key=lambda v: v.at_most).style,
            "worst_at_most": max(v.at_most for v in chosen),
        }

    def write(self, evidence: dict[str, Any]) -> dict[str, Any]:
        """Store thresholds and evidence for this kind of data in the lab's file and return its contents.

        Entries for other kinds of data stay unchanged.
        """
        known = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        known[self.kind] = evidence
        # one line per variant, so that diffs are readable
        text = json.dumps(known, indent=1, sort_keys=True)
        self.file.write_text(_compact(text) + "\n", encoding="utf-8")
        return dict(json.loads(text))

    def _read(self, kept: Path) -> dict[tuple[str, int], dict[str, Any]]:
        """Read the runs that are still valid; runs that stopped at a lower ceiling than today's are left out."""
        rows = [json.loads(line) for line in kept.read_text().splitlines() if line] if kept.is_file() else []
        mine = [r for r in rows if self.marks.get(r["style"]) == r["mark"]]
        return {(r["style"], r["seed"]): r for r in mine if self.module.complete(self.lab, r["shares"])}


def _compact(text: str) -> str:
    """Put each list of numbers, or of such lists, on one line of the indented JSON."""
    lines: list[str] = []
    depth = 0
    for line in text.split("\n"):
        bare = line.strip()
        if depth:
            lines[-1] += bare + (" " if bare.endswith(",") else "")
        else:
            lines.append(line)
        # but not "verdicts", which is a list of objects
        if bare.endswith("["):
            depth += 1 if depth or not bare.startswith('"verdicts"') else 0
        elif bare in ("]", "],") and depth:
            depth -= 1
    return "\n".join(line.rstrip() for line in lines)


def _module(lab: Lab) -> Any:
    try:
        return importlib.import_module(f"autograder.checks.{lab.name}.calibration")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("autograder.checks"):
            raise
        raise LookupError(
            f"{lab.title} has nothing to calibrate: there is no autograder/checks/{lab.name}/calibration.py"
        ) from None


def _measure(lab: Lab, seed: int, names: list[str]) -> list[Run]:
    """Measure variants with one seed in the same process, so that they share its images."""
    import torch

    torch.set_num_threads(1)
    module = _module(lab)
    styles = [style for style in module.STYLES if style.name in names]
    return [(s.name, seed, *module.measure(lab, s, derive(seed, "calibration"))) for s in styles]
