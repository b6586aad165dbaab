"""``autograder calibrate``: measures the accuracies that right and wrong submissions reach, and fits the thresholds.

A lab says what is measured (``autograder/checks/<lab>/calibration.py``): ``STYLES`` to write the exercise, right and wrong
ones, ``budget(lab)``, of which the number of ``test_images`` is known here too, and ``measure(lab, style, seed)``, which tries
learning rates until ``complete(lab, shares)``, at ``ceiling(lab)`` at the latest. Thresholds are fitted on some seeds and judged on others. The result, with all that was measured, is one file that the
check reads: ``amllab/checks/<lab>/thresholds.json``.

Accuracies of a style are taken to be normal, with its own mean and spread: that is what tells probabilities far below one
over the number of runs. Counts on the fresh seeds stand beside them and assume nothing.
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
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from tqdm import tqdm

from amllab.checks.lab import Lab
from amllab.checks.seeds import derive
from autograder.errors import ThresholdError

WRONG_VERDICTS = 1e-3  # of a right submission, and of a wrong one
CONFIDENCE = 0.95
STEP = 0.005  # thresholds are whole numbers of it
PACKAGES = ("torch", "torchvision", "timm", "numpy")

Run = tuple[str, int, list[float], float]  # style, seed, shares of its attempts, seconds


@dataclass(frozen=True)
class Verdicts:
    """How often a style got the wrong verdict, on seeds that took no part in fitting.

    Attributes:
        style, right: its name, and whether it is correct.
        n: number of runs.
        mean, sd, low, high: of its accuracies.
        wrong: runs with the wrong verdict: a right style without full points, a wrong style with them.
        probability: of the wrong verdict, for normal accuracies of this mean and spread.
        at_most: the same, upper bound with 95 % confidence.
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


def tail_at_most(n: int, distance: float, confidence: float = CONFIDENCE) -> float:
    """Upper bound of the normal tail beyond ``distance`` estimated standard deviations from the mean of ``n`` values.

    The one-sided tolerance limit by the noncentral t distribution, turned round (Howe, *Journal of the American Statistical
    Association* 64, 1969).
    """
    t = distance * math.sqrt(n)
    if stats.nct.cdf(t, n - 1, 0.0) < confidence:
        return 0.5
    # the true distance, in true standard deviations, that the estimate exceeds in no more than 1 - confidence of all samples
    shift = optimize.brentq(lambda d: stats.nct.cdf(t, n - 1, d) - confidence, 0.0, t)
    return float(stats.norm.sf(shift / math.sqrt(n)))


def counted(shares: Sequence[float], enough: float) -> list[float]:
    """The attempts that would have been made: none after the first that is ``enough``."""
    first = next((i for i, share in enumerate(shares) if share >= enough), len(shares))
    return list(shares[: first + 1])


def fit(right: dict[str, list[float]], wrong: dict[str, list[float]], spread: float) -> dict[str, float]:
    """Thresholds from accuracies by style.

    Args:
        right, wrong: style -> accuracies.
        spread: smallest standard deviation to be believed: that of counting hits on so many images.

    Returns:
        ``full``, as many standard deviations below the nearest right style as above the nearest wrong one, and ``start``, below
        which 999 in a thousand of each wrong style stay.

    Raises:
        ThresholdError: the two are not that far apart; the message names the styles.
    """
    wrongs = {name: _normal(values, spread) for name, values in wrong.items()}
    rights = {name: _normal(values, spread) for name, values in right.items()}

    def nearest(full: float) -> tuple[tuple[float, str], tuple[float, str]]:
        """Distance from a threshold, in standard deviations, of the nearest right and of the nearest wrong style."""
        below = min(((mean - full) / sd, name) for name, (mean, sd) in rights.items())
        return below, min(((full - mean) / sd, name) for name, (mean, sd) in wrongs.items())

    candidates = [round(i * STEP, 4) for i in range(1, round(1 / STEP))]
    full = max(candidates, key=lambda value: min(side[0] for side in nearest(value)))
    (below, low), (above, high) = nearest(full)
    if min(below, above) < stats.norm.isf(WRONG_VERDICTS):
        raise ThresholdError(
            f"no threshold tells '{high}' (mean {wrongs[high][0]:.3f}) from '{low}' (mean {rights[low][0]:.3f}) as surely as once "
            f"in {1 / WRONG_VERDICTS:,.0f}: the best, {full}, lies {min(below, above):.1f} standard deviations from them. "
            "Give more epochs, images or attempts"
        )
    start = max(mean + stats.norm.isf(WRONG_VERDICTS) * sd for mean, sd in wrongs.values())
    return {"start": round(min(math.ceil(start / STEP) * STEP, full - STEP), 4), "full": full}


def _normal(values: Sequence[float], spread: float) -> tuple[float, float]:
    return float(np.mean(values)), max(float(np.std(values, ddof=1)), spread)


def judge(name: str, right: bool, values: Sequence[float], full: float, spread: float) -> Verdicts:
    """What the threshold for full points makes of a style's accuracies."""
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean, sd = _normal(values, spread)
    distance = (mean - full if right else full - mean) / sd
    wrong = int((array < full).sum() if right else (array >= full).sum())
    return Verdicts(
        name, right, len(array), mean, float(array.std(ddof=1)), float(array.min()), float(array.max()), wrong,
        float(stats.norm.sf(distance)), tail_at_most(len(array), distance),
    )  # fmt: skip


def counted_at_most(wrong: int, n: int) -> float:
    """Upper bound (Clopper and Pearson) of a probability that came true ``wrong`` times in ``n``."""
    return float(stats.binomtest(wrong, n).proportion_ci(2 * CONFIDENCE - 1, "exact").high)


class Calibration:
    """One calibration of a lab: what is measured, where it is kept, what comes of it.

    Args:
        lab: the lab.
        data: replaces the ``data`` of its accuracy budget.
        seeds: number of seeds that thresholds are fitted on.
        fresh: number of further seeds that they are judged on.
    """

    def __init__(self, lab: Lab, *, data: str | None = None, seeds: int = 20, fresh: int = 40) -> None:
        if min(seeds, fresh) < 3:
            raise ValueError("a spread needs three seeds at least, for fitting and for judging")
        if data is not None:
            accuracy = {**lab.settings["accuracy"], "data": data}
            lab = replace(lab, settings={**lab.settings, "accuracy": accuracy})
        self.lab, self.seeds, self.fresh = lab, seeds, fresh
        self.module = _module(lab)
        self.kind: str = self.module.kind(lab)
        self.budget = self.module.budget(lab)
        # what was measured with another budget, or of another style, is not mixed in
        self.marks = {
            s.name: hashlib.sha256(json.dumps([self.budget, s.source]).encode()).hexdigest()[:12]
            for s in self.module.STYLES
        }
        self.file = lab.folder / "thresholds.json"

    def run(self, kept: Path, jobs: int) -> dict[str, Any]:
        """Measures what is not measured yet; returns what :meth:`evidence` makes of it.

        Args:
            kept: file that every run is appended to as soon as it is done; who starts again goes on from there.
            jobs: processes; each computes on one thread.
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
        """The runs of each seed, as they come in."""
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
        """Thresholds with all that they were fitted on, for the file that the check reads."""
        styles, n = self.module.STYLES, self.budget["test_images"]
        ceiling = self.module.ceiling(self.lab)
        spread = (
            math.sqrt(0.25 / n) / 2
        )  # a standard deviation below this is luck: counting alone gives about twice as much

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
        # attempts, not seconds: they do not depend on what else the machine did
        attempts = [len(counted(row["shares"], ceiling)) for s in styles if s.right for row in rows(s, fresh)]
        return {
            "thresholds": thresholds,
            "budget": self.budget,
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
        """Puts thresholds and evidence for this kind of data into the lab's file; returns all of it. Other kinds stay."""
        known = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
        known[self.kind] = evidence
        # one line for a style: a reader sees what changed
        text = json.dumps(known, indent=1, sort_keys=True)
        self.file.write_text(_compact(text) + "\n", encoding="utf-8")
        return dict(json.loads(text))

    def _read(self, kept: Path) -> dict[tuple[str, int], dict[str, Any]]:
        """The runs that count; one that ended at a lower ceiling than there is now is made again."""
        rows = [json.loads(line) for line in kept.read_text().splitlines() if line] if kept.is_file() else []
        mine = [r for r in rows if self.marks.get(r["style"]) == r["mark"]]
        return {(r["style"], r["seed"]): r for r in mine if self.module.complete(self.lab, r["shares"])}


def _compact(text: str) -> str:
    """Indented JSON with every list of numbers, and of such lists, on one line."""
    lines: list[str] = []
    depth = 0
    for line in text.split("\n"):
        bare = line.strip()
        if depth:
            lines[-1] += bare + (" " if bare.endswith(",") else "")
        else:
            lines.append(line)
        # only lists that hold no objects: "verdicts" is one of objects
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
    """All styles of one seed, in a process of the pool: they share its images."""
    import torch

    torch.set_num_threads(1)
    module = _module(lab)
    styles = [style for style in module.STYLES if style.name in names]
    return [(s.name, seed, *module.measure(lab, s, derive(seed, "calibration"))) for s in styles]
