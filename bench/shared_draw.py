"""What one seed for a whole class does to its scores: ``python -m bench.shared_draw``

The calibrations measured correct functions with many seeds, and different functions with the same seeds. From this
evidence, nothing is trained again: how far a score scatters if each submission has a seed of its own, and how far the
scores of two submissions go up and down together if they have the same one (the mean correlation of two functions over
the seeds). From both, the scatter of the mean of 100 submissions, and the smallest distance of a score from the
threshold for full points, in standard deviations.
"""

from __future__ import annotations

import json

import numpy as np

from amllab.lab import all_labs, find_lab
from autograder.labs.calibrated import Calibrated, all_calibrated

CLASS = 100


def rows(declared: Calibrated) -> list[str]:
    """Return a row of the table for each kind of data that a training was calibrated on."""
    score, found = declared.task.score, []
    names = {style.name for style in declared.styles if style.right and style.fitted and style.every == 1}
    for data, evidence in json.loads(declared.task.evidence.read_text(encoding="utf-8")).items():
        samples = evidence["samples"]
        chosen = sorted(name for name in names & samples.keys() if samples[name]["every"] == 1)
        if len(chosen) < 2:
            continue
        scores = np.array([[score.best(run) for run in samples[n]["shares"]] for n in chosen])
        styles, seeds = scores.shape
        own = scores.std(axis=1, ddof=1).mean()
        correlations = np.corrcoef(scores)
        together = correlations[np.triu_indices(styles, 1)].mean()
        means = own / np.sqrt(CLASS), own * np.sqrt(max(together, 0) + (1 - max(together, 0)) / CLASS)
        nearest = np.abs(scores - evidence["thresholds"]["full"]).min() / own
        found.append(
            f"| {declared.task.lab.title} | {data} | {styles}, {seeds} | {own:.4f} | {together:.2f} | "
            f"{means[0]:.4f} | {means[1]:.4f} | {nearest:.1f} |"
        )
    return found


def main() -> None:
    """Print the table."""
    print(
        "| lab | data | functions, seeds | scatter of a score | correlation | of the class's mean, own seeds | one seed | nearest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for lab in map(find_lab, all_labs()):
        for declared in all_calibrated(lab):
            print(*rows(declared), sep="\n")


if __name__ == "__main__":
    main()
