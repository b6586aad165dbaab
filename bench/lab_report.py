"""Measure the results of the lab report: ``python -m bench.lab_report --data FOLDER``

Train net12 on the reptiles with the three functions of the lab's master, from scratch and for every number of trainable
layers, with several seeds, and write ``docs/lab-report.md`` with its plots. FOLDER contains ``train/`` and ``test/``,
each with one subfolder of images for each class.

Every run is recorded as soon as it ends; after an interruption, the same command continues with the missing runs. Seeds
are the outer loop, so that the available runs form whole seeds. ``--report-only`` writes the report from the available
runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import jupytext
import timm
import torch
from torch import nn
from tqdm import tqdm

from amllab import best_device, evaluate, fast_math, plots
from amllab.backbones import WEIGHTS
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


# --- the report -------------------------------------------------------------------------------------------------------

ORIGINAL = {SCRATCH: "54", Strategy(True, 2): "worse, “too rigid”", Strategy(True, 10): "about 66"}
ORIGINAL_SCRATCH, ORIGINAL_TRANSFER = 54, 68

T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31}  # by degrees of freedom


@dataclass(frozen=True)
class Sample:
    """A figure over seeds, in the unit of the report."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def sd(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __sub__(self, other: Sample) -> Sample:
        """Return differences seed by seed: the same split, the same order of batches."""
        return Sample(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    @property
    def is_clear(self) -> bool:
        """Return whether the mean differs from zero by a two-sided t test at 5 %."""
        n = len(self.values)
        return n > 1 and abs(self.mean) > T_95.get(n - 1, 2.26) * self.sd / math.sqrt(n)

    def text(self, digits: int = 1) -> str:
        return f"{self.mean:.{digits}f} ± {self.sd:.{digits}f}"


class Results:
    """The runs of complete seeds, by strategy."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        by_key = {key(run): run for run in runs}
        seeds = sorted({run["seed"] for run in runs})
        self.seeds = [s for s in seeds if all((st.pretrained, st.n_trainable, s) in by_key for st in STRATEGIES)]
        if not self.seeds:
            raise SystemExit("no seed is complete yet")
        self._runs = {st: [by_key[st.pretrained, st.n_trainable, s] for s in self.seeds] for st in STRATEGIES}

    def runs(self, strategy: Strategy) -> list[dict[str, Any]]:
        return self._runs[strategy]

    def sample(self, strategy: Strategy, figure: str, scale: float = 1) -> Sample:
        return Sample(tuple(scale * run[figure] for run in self._runs[strategy]))

    def test(self, strategy: Strategy) -> Sample:
        """Return the test accuracy in per cent."""
        return self.sample(strategy, "test_acc", 100)

    def gap(self, strategy: Strategy) -> Sample:
        """Return training minus validation accuracy in the last epoch, in percentage points."""
        histories = [run["history"] for run in self._runs[strategy]]
        return Sample(tuple(100 * (h["train_acc"][-1] - h["val_acc"][-1]) for h in histories))

    def rise(self, strategy: Strategy) -> Sample:
        """Return the validation loss of the last epoch minus that of the best."""
        histories = [run["history"] for run in self._runs[strategy]]
        return Sample(tuple(h["val_loss"][-1] - h["val_loss"][h["best_epoch"]] for h in histories))

    @property
    def chosen(self) -> Strategy:
        """Return the best strategy by validation accuracy; the test images have no influence."""
        return max(TRANSFER, key=lambda strategy: self.sample(strategy, "val_acc").mean)


def table(results: Results) -> str:
    lines = [
        "| strategy | test accuracy, % | original report, % | validation, % | training, % | epochs run | seconds, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for strategy in STRATEGIES:
        figures = [results.sample(strategy, name, 100).text() for name in ("test_acc", "val_acc", "train_acc")]
        epochs = results.sample(strategy, "epochs").mean
        seconds = statistics.median(results.sample(strategy, "seconds").values)  # a busy machine makes some runs long
        original = ORIGINAL.get(strategy, "")
        name = f"**{strategy.name}**" if strategy == results.chosen else strategy.name
        cells = (name, figures[0], original, *figures[1:], f"{epochs:.0f}", f"{seconds:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(sample: Sample) -> str:
    verdict = "" if sample.is_clear else ", not clearly different from zero"
    return f"{sample.mean:+.1f} ± {sample.sd:.1f} points{verdict}"


# The text of the discussion is written by hand; every number and every verdict in it is computed.


def on_transfer(results: Results) -> str:
    test, chosen = results.test, results.chosen
    limit = results.runs(SCRATCH)[0]["settings"]["max_epochs"]
    exhausted = sum(run["epochs"] == limit for run in results.runs(SCRATCH))
    epochs = {s: results.sample(s, "epochs").mean for s in (SCRATCH, chosen)}
    return (
        f"**Transfer or not.** From scratch: {test(SCRATCH).text()} %. The strategy with the best validation accuracy, "
        f"{chosen.name}: {test(chosen).text()} %. The gain, seed by seed: "
        f"{difference(test(chosen) - test(SCRATCH))}. The original report has {ORIGINAL_TRANSFER} against "
        f"{ORIGINAL_SCRATCH}, {ORIGINAL_TRANSFER - ORIGINAL_SCRATCH} points. "
        f"The baseline ran for {epochs[SCRATCH]:.0f} epochs on average and used up the limit of {limit} in {exhausted} "
        f"of {len(results.seeds)} runs; {chosen.name} ran for {epochs[chosen]:.0f}. "
        + (
            "Both levels are above those of the original, so a part of what separates the two reports is network and "
            "training, and not transfer."
            if test(SCRATCH).mean > ORIGINAL_SCRATCH and test(chosen).mean > ORIGINAL_TRANSFER
            else ""
        )
    ).strip()


def on_few_layers(results: Results) -> str:
    test, chosen, probe, two = results.test, results.chosen, Strategy(True, 1), Strategy(True, 2)
    steps = {b: test(b) - test(a) for a, b in pairwise(TRANSFER)}
    largest = max(steps, key=lambda strategy: steps[strategy].mean)
    behind = test(chosen) - test(two)
    against_scratch = test(two) - test(SCRATCH)
    return (
        f"**Too rigid?** A linear probe reaches {test(probe).text()} %, "
        f"{'more' if test(probe).mean > test(SCRATCH).mean else 'less'} than the same network trained from scratch: "
        f"CIFAR-10's features as they are. The largest single step of the sweep is to {largest.name} "
        f"({difference(steps[largest])}). With 2 of 12 layers the accuracy is {test(two).text()} %, "
        f"{difference(against_scratch)} from the baseline, and the chosen strategy differs from it by "
        f"{difference(behind)}. "
        + (
            'So the original\'s "too rigid" is confirmed, '
            if behind.is_clear and behind.mean > 0
            else 'So the original\'s "too rigid" is not confirmed, '
        )
        + f"and how rigid two layers are is a matter of the network: the last two of net12 hold {share(2):.0f} % of "
        "its parameters. Where another network has its parameters earlier, the same count leaves less freedom."
    )


def on_many_layers(results: Results) -> str:
    test, chosen, ten, full = results.test, results.chosen, Strategy(True, 10), Strategy(True, LAYERS)
    level = [s for s in TRANSFER if s != chosen and not ((d := test(chosen) - test(s)).is_clear and d.mean > 0)]
    return (
        f"**Ten or twelve.** 10 of 12: {test(ten).text()} %; 12 of 12: {test(full).text()} %; 12 minus 10: "
        f"{difference(test(full) - test(ten))}. Not clearly below the chosen strategy ({chosen.name}): "
        f"{', '.join(str(s.n_trainable) for s in level) or 'none'}. Strategies this close cannot be ranked "
        "by one run each."
    )


def on_overfitting(results: Results) -> str:
    test, chosen = results.test, results.chosen
    probe, two, full = (Strategy(True, n) for n in (1, 2, LAYERS))
    widest = max(TRANSFER, key=lambda strategy: results.gap(strategy).mean)
    loss = test(chosen) - test(full)
    return (
        "**Overfitting.** In the last epoch run, training accuracy is above validation accuracy by "
        f"{results.gap(full).text()} points with 12 trainable layers, {results.gap(two).text()} with 2, "
        f"{results.gap(probe).text()} with the head alone; the gap is widest with {widest.n_trainable}. "
        f"Validation loss is by then above its minimum by {results.rise(full).text(2)} (12 layers) and "
        f"{results.rise(two).text(2)} (2 layers). "
        + (
            "So all 12 layers do overfit, as the original saw, and 2 layers do so as well. "
            if results.gap(two).mean > results.gap(full).mean / 2
            else "So all 12 layers overfit, as the original saw, and 2 layers much less. "
        )
        + "Early stopping goes back to the minimum of the validation loss; on the test images, 12 of 12 then "
        + (
            "is clearly behind the chosen strategy"
            if loss.is_clear and loss.mean > 0
            else "does not clearly pay for it"
        )
        + ". Training accuracy is measured on augmented images while they are trained on, which understates the gap."
    )


def on_trust(results: Results) -> str:
    test, chosen = results.test, results.chosen
    images = results.runs(SCRATCH)[0]["sizes"][2]
    p = test(chosen).mean / 100
    highest = max(TRANSFER, key=lambda strategy: test(strategy).mean)
    return (
        f"**How far to trust this.** With {images} test images the standard error of one accuracy is about "
        f"{100 * math.sqrt(p * (1 - p) / images):.1f} points. Mean and standard deviation are over "
        f"{len(results.seeds)} seeds; a seed draws the split into training and validation, the weights of the "
        "head, the order of batches and the augmentation. All runs share the test images and one pretraining of "
        "net12: others would move all rows together. A difference is called clear when a paired t test over the seeds "
        "does so at 5 %; among so many comparisons some will be called clear by chance. The strategy was chosen by "
        f"validation accuracy ({chosen.name}); the highest test accuracy belongs to {highest.name} "
        f"({test(highest).text()} %)."
    )


def share(n_trainable: int) -> float:
    """Return the percentage of net12's parameters in its last ``n_trainable`` layers."""
    model = functions()["freeze_layers"](timm.create_model(BACKBONE, num_classes=5), n_trainable)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return 100 * trainable / sum(p.numel() for p in model.parameters())


def write_report(results: Results, settings: Settings, out: Path, command: str) -> None:
    """Write the Markdown file and its two plots next to it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep_file, curves_file = (out.with_name(f"{out.stem}-{part}.png") for part in ("sweep", "curves"))
    accuracies = {s.n_trainable: [v / 100 for v in results.test(s).values] for s in TRANSFER}
    baseline = [v / 100 for v in results.test(SCRATCH).values]
    title = f"net12 on reptiles: test accuracy, {len(results.seeds)} seeds"
    plots.sweep(accuracies, baseline, title=title).savefig(sweep_file, dpi=120)
    shown = (SCRATCH, Strategy(True, 1), Strategy(True, 2), Strategy(True, LAYERS))
    histories = {strategy.name: results.runs(strategy)[0]["history"] for strategy in shown}
    plots.curves(histories, title=f"net12 on reptiles, seed {results.seeds[0]}").savefig(curves_file, dpi=120)
    parts = (on_transfer, on_few_layers, on_many_layers, on_overfitting, on_trust)
    sections = [
        "# Lab report",
        _wrapped(_introduction(results, settings)),
        table(results),
        _wrapped(
            "In bold: the strategy with the best mean validation accuracy. Training and validation accuracy are those "
            "of the best epoch, test accuracy is that of the model that early stopping hands back. The original report "
            f"gives {ORIGINAL_TRANSFER} % for its best transfer, and says that fine-tuning all layers overfits."
        ),
        f"![Test accuracy over trainable layers: mean and spread over seeds, baseline as a band]({sweep_file.name})",
        f"![Loss and accuracy over epochs for {len(shown)} strategies, one seed]({curves_file.name})",
        "## Discussion",
        *(_wrapped(part(results)) for part in parts),
        "## How it was measured",
        f"```\n{command}\n```",
        _wrapped(_circumstances(results, settings)),
    ]
    out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False)


def _introduction(results: Results, settings: Settings) -> str:
    train, val, test = results.runs(SCRATCH)[0]["sizes"]
    return (
        "Transfer learning from CIFAR-10 to the five reptiles of CIFAR-100 with net12, measured with the functions of "
        "the lab's own solution, beside the report that the lab grew from. Mean ± standard deviation over "
        f"{len(results.seeds)} seeds; {train:,} training, {val:,} validation and {test:,} test images; AdamW, learning "
        f"rate {settings.lr:g}, batches of {settings.batch_size}; early stopping with patience {settings.patience}, "
        f"at most {settings.max_epochs} epochs, for all strategies alike."
    )


def _circumstances(results: Results, settings: Settings) -> str:
    facts = results.runs(SCRATCH)[0]["machine"]
    threads = f"{facts['threads']} thread" + ("s" if facts["threads"] != 1 else "")
    return (
        f"On {facts['device']} ({facts['processor']}), {threads} a training, "
        f"autocast {facts['autocast']}, torch {facts['torch']}, timm {facts['timm']}. SHA-256 of the pretrained "
        f"weights begins with {settings.weights}, of the three functions with {settings.functions}. Every run, with "
        "its whole history, is in `bench/results/`. This page was written by the command above."
    )


def summary(results: Results, settings: Settings) -> dict[str, Any]:
    rows = [
        {
            **asdict(strategy),
            "name": strategy.name,
            **{
                figure: {"mean": round(sample.mean, 4), "sd": round(sample.sd, 4), "values": list(sample.values)}
                for figure in ("test_acc", "val_acc", "train_acc", "epochs", "best_epoch", "seconds")
                for sample in [results.sample(strategy, figure)]
            },
        }
        for strategy in STRATEGIES
    ]
    return {
        "seeds": results.seeds,
        "chosen_by_validation": results.chosen.name,
        "settings": asdict(settings),
        "machine": results.runs(SCRATCH)[0]["machine"],
        "strategies": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of images with train/ and test/")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, which share the CPU's threads")
    parser.add_argument("--max-epochs", type=int, default=30)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "lab-report.md")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "lab_report.json")
    parser.add_argument(
        "--report-only", action="store_true", help="train nothing, write the report from the stored results"
    )
    args = parser.parse_args()
    sources = cell_sources()
    settings = Settings(
        max_epochs=args.max_epochs,
        patience=args.patience,
        batch_size=64,
        lr=1e-3,
        weights=digest((WEIGHTS / f"{BACKBONE}.safetensors").read_bytes()),
        functions=digest("\n".join(sources[name] for name in FUNCTIONS).encode()),
    )
    file = args.results.with_suffix(".jsonl")
    if args.report_only:
        runs = read_runs(file, settings)
    elif args.data is None:
        parser.error("--data FOLDER is needed for training (or --report-only)")
    else:
        runs = run_all(args.seeds, args.jobs, settings, args.data, file)
    results = Results(runs)
    args.results.write_text(json.dumps(summary(results, settings), indent=1) + "\n", encoding="utf-8")
    jobs = f" --jobs {args.jobs}" if args.jobs > 1 else ""
    limits = f" --max-epochs {args.max_epochs} --patience {args.patience}"
    command = f"python -m bench.lab_report --data FOLDER --seeds {len(results.seeds)}{limits}{jobs}"
    write_report(results, settings, args.out, command)
    print(table(results))


if __name__ == "__main__":
    main()
