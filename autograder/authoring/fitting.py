"""Thresholds fitted to the scores of right and wrong submissions, and the verdicts that follow from them.

The scores of each variant are assumed to be normally distributed, with their own mean and standard deviation. This
makes it possible to estimate probabilities far below one over the number of runs. The counts on the fresh seeds are
reported next to the estimates and assume nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from amllab.kit.task import ACCURACY, Score
from autograder.errors import ThresholdError

WRONG_VERDICTS = 1e-3  # highest accepted probability, for a right submission and for a wrong one
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on one variant, on seeds that were not used for fitting.

    Attributes:
        style: Name of the variant.
        right: Whether the variant is correct.
        n: Number of runs.
        mean: Mean of the scores.
        sd: Standard deviation of the scores.
        low: Lowest score.
        high: Highest score.
        wrong: Number of runs with the wrong verdict: a right variant without full points, or a wrong variant with them.
        probability: Probability of the wrong verdict, for normally distributed scores with this mean and standard
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


def counted(scores: Sequence[float], enough: float | None, score: Score = ACCURACY) -> list[float]:
    """Return the attempts that would have been made: none after the first one that reaches ``enough``."""
    if enough is None:
        return list(scores)
    first = next((i for i, value in enumerate(scores) if score.reaches(value, enough)), len(scores))
    return list(scores[: first + 1])


def fit(
    right: dict[str, list[float]], wrong: dict[str, list[float]], spread: float, score: Score = ACCURACY
) -> dict[str, float]:
    """Fit thresholds to scores by variant.

    Args:
        right: Scores of each right variant.
        wrong: Scores of each wrong variant.
        spread: Smallest credible standard deviation; it replaces smaller estimates.
        score: What the scores are.

    Returns:
        ``full``, which lies as many standard deviations from the nearest right variant as from the nearest wrong one,
        and ``start``, which 999 in 1,000 submissions of each wrong variant do not pass.

    Raises:
        ThresholdError: Right and wrong variants are too close to each other; the message names the nearest ones.
    """
    # upside down if lower is better, so that better is higher in what follows
    sign = 1.0 if score.higher_is_better else -1.0
    wrongs = {name: _normal([sign * v for v in values], spread) for name, values in wrong.items()}
    rights = {name: _normal([sign * v for v in values], spread) for name, values in right.items()}

    def nearest(full: float) -> tuple[tuple[float, str], tuple[float, str]]:
        """Return distance (in standard deviations) and name of the nearest right and wrong variants."""
        below = min(((mean - full) / sd, name) for name, (mean, sd) in rights.items())
        return below, min(((full - mean) / sd, name) for name, (mean, sd) in wrongs.items())

    if not wrongs or not rights:
        raise ThresholdError("thresholds lie between right and wrong variants: both kinds are needed")
    means = [mean for mean, _ in (*wrongs.values(), *rights.values())]
    steps = range(math.floor(min(means) / score.step), math.ceil(max(means) / score.step) + 1)
    full = max((_rounded(i * score.step) for i in steps), key=lambda value: min(side[0] for side in nearest(value)))
    (below, low), (above, high) = nearest(full)
    if min(below, above) < stats.norm.isf(WRONG_VERDICTS):
        advice = "Allow more epochs, images or attempts"
        if wrongs[high][0] >= rights[low][0]:
            advice = f"Choose data on which '{high}' is worse, such as more classes, or more similar ones"
        raise ThresholdError(
            f"no threshold separates '{high}' (mean {sign * wrongs[high][0]:.3f}) from '{low}' (mean "
            f"{sign * rights[low][0]:.3f}) with at most one error in {1 / WRONG_VERDICTS:,.0f}: the best, {sign * full:g}, "
            f"is {min(below, above):.1f} standard deviations away. {advice}"
        )
    start = max(mean + stats.norm.isf(WRONG_VERDICTS) * sd for mean, sd in wrongs.values())
    start = min(math.ceil(start / score.step) * score.step, full - score.step)
    return {"start": _rounded(sign * start), "full": sign * full}


def _rounded(value: float) -> float:
    """Round away what floating-point numbers add to a multiple of a step."""
    return float(f"{value:.10g}")


def _normal(values: Sequence[float], spread: float) -> tuple[float, float]:
    return float(np.mean(values)), max(float(np.std(values, ddof=1)), spread)


def judge(
    name: str, right: bool, values: Sequence[float], full: float, spread: float, score: Score = ACCURACY
) -> Verdicts:
    """Judge a variant's scores by the threshold for full points."""
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mean, sd = _normal(values, spread)
    distance = (mean - full if right is score.higher_is_better else full - mean) / sd
    wrong = sum(score.reaches(value, full) is not right for value in array.tolist())
    return Verdicts(
        name, right, len(array), mean, float(array.std(ddof=1)), float(array.min()), float(array.max()), wrong,
        float(stats.norm.sf(distance)), tail_at_most(len(array), distance),
    )  # fmt: skip


def counted_at_most(wrong: int, n: int) -> float:
    """Return the Clopper-Pearson upper bound of a probability, for ``wrong`` occurrences in ``n`` runs."""
    return float(stats.binomtest(wrong, n).proportion_ci(2 * CONFIDENCE - 1, "exact").high)
