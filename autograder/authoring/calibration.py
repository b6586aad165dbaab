"""The calibration of thresholds from measured right and wrong submissions: ``autograder calibrate``.

A lab declares what to measure next to its hidden checks (:mod:`autograder.labs.calibrated`): a training under a budget
with its score, and right and wrong variants of the functions that it trains with.

Thresholds are fitted on some seeds and judged on others (:mod:`autograder.authoring.fitting`). The result, including
all measurements, is one file that the check reads: :attr:`amllab.kit.task.Task.evidence`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from amllab.kit.task import Task
from amllab.lab import Lab
from amllab.protocol.failure import CheckFailure
from amllab.protocol.submission import InProcessSubmission, SubmissionError
from amllab.seeds import derive
from amllab.worker.hanging import answer_seconds
from autograder.authoring.fitting import Verdicts, counted, counted_at_most, fit, judge
from autograder.errors import ThresholdError
from autograder.labs.calibrated import Calibrated, Style, calibrated_of

FEWEST = 3  # runs of a variant that its spread can be estimated from
SLOWER = 3  # times that grading may be slower than the calibration
PACKAGES = ("torch", "torchvision", "timm", "numpy")

Run = tuple[str, int, list[float], float]  # variant, seed, score of each attempt, seconds


class Calibration:
    """A calibration of a lab: its measurements, the file that stores them, and the resulting thresholds.

    Args:
        lab: Lab to calibrate.
        data: Data that replaces ``data`` in the lab's budget.
        seeds: Number of seeds to fit the thresholds on.
        fresh: Number of further seeds to judge them on.
        part: Index of the training, for a lab with several.
    """

    def __init__(self, lab: Lab, *, data: str | None = None, seeds: int = 20, fresh: int = 40, part: int = 0) -> None:
        """Load what the lab declares.

        Raises:
            LookupError: The lab has nothing to calibrate.
            ValueError: There are fewer than three seeds for fitting or for judging, or the lab's data cannot be chosen.
        """
        if min(seeds, fresh) < FEWEST:
            raise ValueError("estimating a spread needs at least three seeds, both for fitting and for evaluation")
        self.seeds, self.fresh, self.part = seeds, fresh, part
        self.declared = calibrated_of(lab, part)
        if data is not None:
            table = self.declared.task.table
            if "data" not in lab.settings[table]:
                raise ValueError(f"the data of {lab.title} cannot be chosen: leave out --data")
            settings = {**lab.settings, table: {**lab.settings[table], "data": data}}
            self.declared = calibrated_of(replace(lab, settings=settings), part)
        self.task = self.declared.task
        # a variant that is measured on few of the seeds needs three of each kind, too
        most = max(min(seeds, fresh) // FEWEST, 1)
        styles = [replace(style, every=min(style.every, most)) for style in self.declared.styles]
        self.declared = replace(self.declared, styles=styles)
        # keeps out runs that were measured with another budget or another source of the variant
        self.marks = {
            s.name: hashlib.sha256(json.dumps([self.task.budget, s.source]).encode()).hexdigest()[:12]
            for s in self.declared.styles
        }

    def run(self, kept: Path, jobs: int) -> dict[str, Any]:
        """Measure what is missing and return the resulting :meth:`evidence`.

        Args:
            kept: File that each run is appended to as soon as it is done; an interrupted calibration resumes from it.
            jobs: Number of processes, each of which computes on one thread.
        """
        known = self._read(kept)
        missing = [
            (seed, [s.name for s in self.declared.styles if seed % s.every == 0 and (s.name, seed) not in known])
            for seed in range(self.seeds + self.fresh)
        ]
        missing = [(seed, styles) for seed, styles in missing if styles]
        total = sum(len(styles) for _, styles in missing)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            kept.open("a") as file,
            tqdm(total=total, desc=f"{self.task.lab.name}, {self.task.data}", unit="run") as progress,
        ):
            for runs in self._measured(missing, jobs):
                for style, seed, scores, seconds in runs:
                    row = {"style": style, "mark": self.marks[style], "seed": seed, "shares": scores}
                    file.write(json.dumps({**row, "seconds": round(seconds, 2)}) + "\n")
                    progress.update()
                file.flush()
        return self.evidence(self._read(kept))

    def _measured(self, missing: list[tuple[int, list[str]]], jobs: int) -> Iterator[list[Run]]:
        """Yield the runs of each seed as they finish."""
        if jobs == 1:
            yield from (_measure(self.task.lab, self.part, seed, styles) for seed, styles in missing)
            return
        # Python keeps the working directory out of the import path
        with (
            patch.dict(os.environ, {"PYTHONSAFEPATH": "1"}),
            ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
        ):
            futures = [pool.submit(_measure, self.task.lab, self.part, seed, styles) for seed, styles in missing]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True, wait=False)
                raise

    def evidence(self, known: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
        """Return the thresholds and all data that they were fitted on, for the file that the check reads."""
        styles, spread, score = self.declared.styles, self.task.spread, self.task.score
        ceiling = self.declared.ceiling

        def rows(style: Any, seeds: Iterable[int]) -> list[dict[str, Any]]:
            return [known[style.name, seed] for seed in seeds if seed % style.every == 0]

        def values(style: Any, seeds: Iterable[int]) -> list[float]:
            return [score.best(counted(row["shares"], ceiling, score)) for row in rows(style, seeds)]

        fitted, fresh = range(self.seeds), range(self.seeds, self.seeds + self.fresh)
        chosen = [s for s in styles if s.fitted]
        right, wrong = ({s.name: values(s, fitted) for s in chosen if s.right is side} for side in (True, False))
        thresholds = fit(right, wrong, spread, score)
        if ceiling is not None and score.beats(thresholds["full"], ceiling):
            raise ThresholdError(
                f"full points begin at {thresholds['full']}, but attempts stop at {ceiling}: change CEILINGS"
            )
        enough = thresholds["full"] if ceiling is None else ceiling
        names = {s.name for s in chosen}
        verdicts = [judge(s.name, s.right, values(s, fresh), thresholds["full"], spread, score) for s in styles]
        # attempts, not seconds, because they do not depend on the load of the machine
        attempts = [len(counted(row["shares"], enough, score)) for s in styles if s.right for row in rows(s, fresh)]
        return {
            "thresholds": thresholds,
            "budget": self.task.budget,
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
                    "shares": [counted(row["shares"], ceiling, score) for row in rows(s, (*fitted, *fresh))],
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
        file = self.task.evidence
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        known[self.task.data] = evidence
        # one line per variant, so that diffs are readable
        text = json.dumps(known, indent=1, sort_keys=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_compact(text) + "\n", encoding="utf-8")
        return dict(json.loads(text))

    def _read(self, kept: Path) -> dict[tuple[str, int], dict[str, Any]]:
        """Read the runs that are still valid; runs that stopped at a lower ceiling than today's are left out."""
        rows = [json.loads(line) for line in kept.read_text().splitlines() if line] if kept.is_file() else []
        mine = [r for r in rows if self.marks.get(r["style"]) == r["mark"]]
        return {(r["style"], r["seed"]): r for r in mine if self.declared.complete(r["shares"])}


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


def _measure(lab: Lab, part: int, seed: int, names: list[str]) -> list[Run]:
    """Measure variants with one seed in the same process, so that they share its data."""
    import torch

    torch.set_num_threads(1)
    declared = calibrated_of(lab, part)
    styles = [style for style in declared.styles if style.name in names]
    return [(s.name, seed, *measure(declared, s, derive(seed, "calibration"))) for s in styles]


def measure(declared: Calibrated, style: Style, seed: int) -> tuple[list[float], float]:
    """Return the score of each attempt of a variant that has to be made, and the seconds that they took.

    The scores alone must tell the variants apart: wrong ones need not keep to the rules.

    Raises:
        ThresholdError: A right variant breaks a rule of the check, or takes too long: so would submissions.
    """
    task, submission = declared.task, submission_of(declared.task, style)
    began, scores = time.perf_counter(), []
    best: Any = None
    for attempt in range(len(task.attempts)):
        start = time.process_time()  # on one thread, and whatever else the machine does
        try:
            trained = task.train(submission, seed, attempt)
            scores.append(task.score.credible(task.rate(trained)))
        except (CheckFailure, SubmissionError):
            if attempt == 0:
                raise
            trained = None
            scores.append(task.score.worst)
        in_time(task, style, time.process_time() - start)
        if trained is not None and scores[-1] == task.score.best(scores):
            best = trained
        if declared.complete(scores):
            break
    if style.right:
        try:
            task.verify(best, earns=True)
        except CheckFailure as error:
            raise ThresholdError(f"the check rejects the right variant {style.name!r}: {error}") from None
    return scores, time.perf_counter() - began


def in_time(task: Task, style: Style, seconds: float) -> None:
    """Reject a training that leaves too little time for a slower machine."""
    limits = task.lab.limits
    limit = max(answer_seconds(limits, cell) for cell in [None, *limits.get("answer_seconds_at", {})])
    if seconds > limit / SLOWER:
        raise ThresholdError(
            f"one training of {style.name!r} took {seconds:.0f} s, and a submission, perhaps on a slower machine, has "
            f"{limit:g} s: use fewer or smaller images, fewer epochs or a smaller model"
        )


def submission_of(task: Task, style: Style) -> InProcessSubmission:
    """Return a submission with the functions of a variant."""
    namespace: dict[str, object] = {}
    exec(style.source, namespace)
    return InProcessSubmission(task.lab.name, namespace)
