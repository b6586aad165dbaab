"""Do synthetic images suit the lesson on transfer? ``python -m bench.drawn_data [--seeds 3] [--epochs 15]``

Train net12 on 2,000 synthetic images: from random weights, and from the CIFAR-10 weights with the last 1, 4, 8 and 12
of its 12 layers trainable; with the same number of epochs, AdamW at 1e-3 and augmentation for all. The epoch with the
best validation accuracy (500 images) is measured on 1,000 images that are generated from another seed. Print a table,
then the conditions that synthetic images must meet; exit with status 1 if one is not met.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from amllab.layers import layers_of
from amllab.loading import load_backbone
from amllab.numerics import best_device, fast_math
from amllab.reptiles import reptile_loaders
from amllab.synthetic_images import draw
from amllab.views import normalise

LAYERS = 12
ROWS = {"from scratch, all 12": (False, LAYERS)} | {f"pretrained, {k} of 12": (True, k) for k in (1, 4, 8, LAYERS)}
SCRATCH, PROBE = "from scratch, all 12", "pretrained, 1 of 12"
LR = 1e-3
TEST_IMAGES, TEST_SEED = 1000, 300
MARGIN, CEILING = 0.08, 0.90  # what transfer must gain, and what no strategy may exceed

Batches = Iterable[tuple[Tensor, Tensor]]


def build(pretrained: bool, num_classes: int) -> nn.Module:
    """Build net12 with a new head; its other weights are random or those of CIFAR-10."""
    model = load_backbone("net12") if pretrained else timm.create_model("net12")
    model.reset_classifier(num_classes)  # type: ignore[operator]
    return model.to(best_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """Return the share of the images of ``batches`` that is classified correctly."""
    model.eval()
    right = total = 0
    for images, labels in batches:
        with fast_math():
            predicted = model(images.to(best_device())).argmax(1).cpu()
        right += int((predicted == labels).sum())
        total += len(labels)
    return right / total


def train(model: nn.Module, n_trainable: int, loader: Batches, val: Batches, test: Batches, epochs: int) -> float:
    """Train the last ``n_trainable`` layers; return the test accuracy of the epoch that validates best."""
    frozen = layers_of(model)[: LAYERS - n_trainable]
    for layer in frozen:
        for parameter in layer.parameters():
            parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
    best = tested = -1.0
    for _epoch in range(epochs):
        model.train()
        for layer in frozen:
            for module in layer.modules():
                module.eval()  # otherwise batch normalisation would continue to collect statistics
        for images, labels in loader:
            with fast_math():
                logits = model(images.to(best_device(), memory_format=torch.channels_last))
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels.to(best_device())).backward()
            optimizer.step()
        validated = accuracy(model, val)
        if validated > best:
            best, tested = validated, accuracy(model, test)
    return tested


def measure(seeds: int, epochs: int) -> dict[str, list[float]]:
    """Return test accuracies of every row, one for each seed (of head, split, order and augmentation)."""
    drawn = draw(TEST_IMAGES, TEST_SEED)
    test = list(zip(normalise(drawn.images).split(250), drawn.labels.split(250), strict=True))
    results: dict[str, list[float]] = {row: [] for row in ROWS}
    runs = [(seed, row) for seed in range(seeds) for row in ROWS]
    for seed, row in (bar := tqdm(runs, unit="run")):
        pretrained, n_trainable = ROWS[row]
        with redirect_stdout(StringIO()):  # the table is the only output
            loader, val = reptile_loaders(seed=seed, source="drawn")
        torch.manual_seed(seed)
        model = build(pretrained, len(drawn.classes))
        results[row].append(train(model, n_trainable, loader, val, test, epochs))
        bar.write(f"seed {seed}, {row}: {results[row][-1]:.1%}", file=sys.stderr)
    return results


def report(results: dict[str, list[float]]) -> bool:
    """Print table and conditions; return whether all are met."""
    print("| net12 on drawn reptiles | test accuracy, mean ± sd | single seeds |\n|---|---|---|")
    for row, values in results.items():
        spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {row} | {100 * statistics.mean(values):.1f}{spread} % | {', '.join(f'{v:.1%}' for v in values)} |")
    mean = {row: statistics.mean(values) for row, values in results.items()}
    tuned = max(value for row, value in mean.items() if row not in (SCRATCH, PROBE))
    gain = tuned - mean[SCRATCH]
    conditions = {
        f"fine-tuning gains at least {100 * MARGIN:.0f} points over from scratch: {100 * gain:.1f}": gain >= MARGIN,
        f"none is above {CEILING:.0%}: at most {max(mean.values()):.1%}": max(mean.values()) <= CEILING,
        f"the linear probe is below the best fine-tuning: {mean[PROBE]:.1%} < {tuned:.1%}": mean[PROBE] < tuned,
    }
    print()
    for condition, met in conditions.items():
        print(f"- {'pass' if met else 'FAIL'}: {condition}")
    return all(conditions.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()
    began = time.perf_counter()
    results = measure(args.seeds, args.epochs)
    met = report(results)
    minutes = (time.perf_counter() - began) / 60
    print(f"\n{args.epochs} epochs, {args.seeds} seeds: {minutes:.0f} minutes on {best_device().type}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
