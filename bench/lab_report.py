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
import json
import math
import statistics
import textwrap
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm

from amllab import plots
from amllab.backbones import WEIGHTS
from bench.lab_report_runs import (
    BACKBONE,
    FUNCTIONS,
    LAYERS,
    ROOT,
    SCRATCH,
    STRATEGIES,
    TRANSFER,
    Settings,
    Strategy,
    cell_sources,
    digest,
    functions,
    key,
    read_runs,
    run_all,
)

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


# The text of the discussion is fixed; every number and every verdict in it is computed.


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
        wrapped(_introduction(results, settings)),
        table(results),
        wrapped(
            "In bold: the strategy with the best mean validation accuracy. Training and validation accuracy are those "
            "of the best epoch, test accuracy is that of the model that early stopping hands back. The original report "
            f"gives {ORIGINAL_TRANSFER} % for its best transfer, and says that fine-tuning all layers overfits."
        ),
        f"![Test accuracy over trainable layers: mean and spread over seeds, baseline as a band]({sweep_file.name})",
        f"![Loss and accuracy over epochs for {len(shown)} strategies, one seed]({curves_file.name})",
        "## Discussion",
        *(wrapped(part(results)) for part in parts),
        "## How it was measured",
        f"```\n{command}\n```",
        wrapped(_circumstances(results, settings)),
    ]
    out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False)


def _introduction(results: Results, settings: Settings) -> str:
    train, val, test = results.runs(SCRATCH)[0]["sizes"]
    return (
        "Transfer learning from CIFAR-10 to the five reptiles of CIFAR-100 with net12, measured with the functions of "
        "the lab's own solution, next to the report that the lab grew from. Mean ± standard deviation over "
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
