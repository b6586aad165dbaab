"""Measure the accuracy checks: ``python -m bench.accuracy_seconds [--seeds 5]``

For each lab, and each of its trainings, print the processor seconds of one training with the first correct functions of
the lab's calibration, and those of the grader's part, images included: drawing, measuring. One thread; the median and
the most over the seeds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from amllab.lab import all_labs, find_lab
from autograder.authoring.calibration import submission_of
from autograder.labs.calibrated import Calibrated, all_calibrated


def measured(declared: Calibrated, seed: int) -> tuple[float, float]:
    """Return the processor seconds of the submission's answers, and of everything else."""
    task = declared.task
    submission = submission_of(task, next(style for style in declared.styles if style.right))
    asked, answering = submission.exchange, 0.0

    def timed(question: bytes) -> bytes:
        nonlocal answering
        began = time.process_time()
        answer = asked(question)
        answering += time.process_time() - began
        return answer

    submission.exchange = timed  # type: ignore[method-assign]
    began = time.process_time()
    task.rate(task.train(submission, seed))
    return answering, time.process_time() - began - answering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    for lab in map(find_lab, all_labs()):
        try:
            parts = all_calibrated(lab)
        except LookupError:  # a lab without a training that counts
            continue
        for declared in parts:
            found = [measured(declared, seed) for seed in range(seeds + 1)][1:]  # the first one loads modules
            for what, values in zip(("training", "grader"), zip(*found, strict=True), strict=True):
                text = f"{statistics.median(values):.1f} s (at most {max(values):.1f} s)"
                print(f"{lab.title}, {declared.task.data}, {what}: {text}")


if __name__ == "__main__":
    main()
