"""Trainings of the lab report: every number of trainable layers and from scratch, with several seeds."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import jupytext
import timm
import torch
from torch import nn
from tqdm import tqdm

from amllab import best_device, evaluate, fast_math
from amllab.numerics import autocast_dtype
from amllab.reptiles import reptile_loaders, test_loader

ROOT = Path(__file__).resolve().parent.parent
MASTER = ROOT / "source" / "transfer-learning" / "transfer_learning.py"
FUNCTIONS = ("freeze_layers", "build_transfer_model", "train_with_early_stopping")
BACKBONE, LAYERS = "net12", 12


@dataclass(frozen=True)
class Settings:
    """What all runs share. Runs of two files may be combined only if these agree."""

    max_epochs: int
    patience: int
    batch_size: int
    lr: float
    weights: str  # hash of the pretrained weights
    functions: str  # hash of the three functions' source


@dataclass(frozen=True)
class Strategy:
    """A row of the report: random or pretrained weights, and the number of trainable layers."""

    pretrained: bool
    n_trainable: int

    @property
    def name(self) -> str:
        if not self.pretrained:
            return "from scratch, all 12"
        named = {1: "linear probe, 1 of 12", LAYERS: "full fine-tuning, 12 of 12"}
        return named.get(self.n_trainable, f"{self.n_trainable} of 12")


SCRATCH = Strategy(False, LAYERS)
TRANSFER = [Strategy(True, n) for n in range(1, LAYERS + 1)]
STRATEGIES = [SCRATCH, *TRANSFER]


def cell_sources() -> dict[str, str]:
    """Return the sources of the master's import cell and of its solution cells, by grade id."""
    notebook = jupytext.read(MASTER)
    by_id = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell.source for cell in notebook.cells}
    return {name: by_id[name] for name in ("setup", *FUNCTIONS)}


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Execute the three functions from the master itself and return them."""
    namespace: dict[str, Any] = {}
    for name, source in cell_sources().items():
        exec(compile(source, f"<{name}>", "exec"), namespace)
    return {name: namespace[name] for name in FUNCTIONS}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def train_once(strategy: Strategy, seed: int, settings: Settings, data: Path) -> dict[str, Any]:
    """Build, train and test a model once, and return the record of the run."""
    with redirect_stdout(StringIO()):
        train_loader, val_loader = reptile_loaders(settings.batch_size, seed, source=str(data))
        test = test_loader(source=str(data))
    num_classes = len(train_loader.dataset.classes)
    torch.manual_seed(seed)
    model: nn.Module
    if strategy.pretrained:
        model = functions()["build_transfer_model"](BACKBONE, num_classes, strategy.n_trainable)
    else:
        model = timm.create_model(BACKBONE, num_classes=num_classes).to(memory_format=torch.channels_last)
    model = model.to(best_device())
    began = time.perf_counter()
    with fast_math():
        history = functions()["train_with_early_stopping"](
            model,
            train_loader,
            val_loader,
            max_epochs=settings.max_epochs,
            patience=settings.patience,
            lr=settings.lr,
        )
        seconds = time.perf_counter() - began
        tested = evaluate(model, test)
    best = history["best_epoch"]
    return {
        **asdict(strategy),
        "seed": seed,
        "epochs": len(history["val_loss"]),
        "best_epoch": best,
        "seconds": round(seconds, 1),
        "train_acc": history["train_acc"][best],
        "val_acc": history["val_acc"][best],
        "test_acc": tested["accuracy"],
        "test_loss": tested["loss"],
        "sizes": [len(train_loader.dataset), len(val_loader.dataset), len(test.dataset)],
        "history": history,
        "settings": asdict(settings),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    device = best_device()
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "autocast": str(autocast_dtype(device)),
        "processor": platform.machine(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def start_worker(threads: int) -> None:
    os.environ["AMLLAB_PROGRESS"] = "0"  # a single progress bar, that of the parent
    torch.set_num_threads(threads)


def read_runs(file: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return the recorded runs.

    Raises:
        SystemExit: they were made with other settings.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    runs = [json.loads(line) for line in lines if line.endswith("}")]  # a killed run may have left a partial last line
    for run in runs:
        if run["settings"] != asdict(settings):
            differing = [key for key, value in asdict(settings).items() if run["settings"].get(key) != value]
            raise SystemExit(
                f"{file.name} was written with another {', '.join(differing)}: move it away to start again"
            )
    return runs


def key(run: dict[str, Any]) -> tuple[bool, int, int]:
    return run["pretrained"], run["n_trainable"], run["seed"]


def run_all(seeds: int, jobs: int, settings: Settings, data: Path, file: Path) -> list[dict[str, Any]]:
    """Train what is missing in ``file``, append each run to it as it ends, and return all runs."""
    runs = read_runs(file, settings)
    done = {key(run) for run in runs}
    plan = [(s, seed) for seed in range(seeds) for s in STRATEGIES if (s.pretrained, s.n_trainable, seed) not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=seeds * len(STRATEGIES), initial=seeds * len(STRATEGIES) - len(plan), unit="run", smoothing=0.1)
    # one complete line for each run, without partial lines of a killed run
    file.write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
    with file.open("a", encoding="utf-8") as out, bar:
        for run in _trained(plan, jobs, settings, data):
            out.write(json.dumps(run) + "\n")
            out.flush()
            runs.append(run)
            name = Strategy(run["pretrained"], run["n_trainable"]).name
            bar.set_postfix_str(f"seed {run['seed']}, {name}: test {run['test_acc']:.1%}")
            bar.update()
    return runs


def _trained(plan: list[tuple[Strategy, int]], jobs: int, settings: Settings, data: Path) -> Iterator[dict[str, Any]]:
    if jobs == 1:
        yield from (train_once(strategy, seed, settings, data) for strategy, seed in plan)
        return
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker, initargs=(threads,)) as pool:
        futures = [pool.submit(train_once, strategy, seed, settings, data) for strategy, seed in plan]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
