"""What the reports of several labs share: the functions of a lab's own solution, and runs that are stored."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amllab.lab import find_lab
from autograder.authoring.study.materials import Materials
from autograder.course import Course

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


@cache
def functions(assignment: str) -> dict[str, Callable[..., Any]]:
    """Execute the functions of a lab's solution and return them by their names."""
    materials = Materials.of(Course.find(ROOT), find_lab(assignment))
    namespace: dict[str, Any] = {}
    for source in (materials.setup, *materials.reference.values()):
        exec(source, namespace)
    return {name: namespace[name] for name in materials.functions.values()}


def settings_digest(assignment: str, settings: object) -> str:
    """Return a digest of what results depend on: settings, and the functions of the solution."""
    materials = Materials.of(Course.find(ROOT), find_lab(assignment))
    return hashlib.sha256(json.dumps([settings, materials.reference]).encode()).hexdigest()[:12]


def measured(
    run: Callable[[str, int], dict[str, Any]], kinds: Sequence[str], seeds: int, jobs: int, file: Path, settings: str
) -> list[dict[str, Any]]:
    """Run what is missing, and return the runs of these settings in the order of kinds and seeds.

    Args:
        run: Function of kind and seed that returns the results, of a module that other processes can import.
        kinds: What is measured with each seed.
        seeds: Number of seeds.
        jobs: Number of processes.
        file: File that each run is appended to as soon as it ends.
        settings: Digest of what results depend on; runs with another one are left out.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    runs = [row for row in map(json.loads, lines) if row["settings"] == settings]
    done = {(row["kind"], row["seed"]) for row in runs}
    missing = [(kind, seed) for seed in range(seeds) for kind in kinds if (kind, seed) not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
        file.open("a", encoding="utf-8") as stored,
    ):
        futures = {pool.submit(run, kind, seed): (kind, seed) for kind, seed in missing}
        for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
            kind, seed = futures[future]
            row = {"kind": kind, "seed": seed, "settings": settings, **future.result()}
            # keys of JSON are strings
            runs.append(json.loads(json.dumps(row)))
            stored.write(json.dumps(runs[-1]) + "\n")
            stored.flush()
    return sorted((row for row in runs if row["seed"] < seeds), key=lambda row: (row["kind"], row["seed"]))


def spread(values: list[float], digits: int = 1) -> str:
    """Return mean ± standard deviation."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
