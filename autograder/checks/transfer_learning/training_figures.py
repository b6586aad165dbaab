"""The numbers that the lists of a history must contain, and those that the usual mistakes would give."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.transfer_learning.training_runs import Run

Figures = dict[str, dict[str, list[float]]]  # list of a history -> name -> numbers, one per epoch

MEAN = "mean over the examples"
LAST_LOOK = "mean over the examples, at the last look"
LOWEST = "share of hits of the lowest logit: `argmin` for `argmax`"
SECOND_PASS = "mean of a second pass, after the epoch"


def figures(script: dict[str, Any]) -> Figures:
    """Return, for each list of a history, name -> the numbers that it would contain."""
    train, val = script["train"], script["val"]
    tables = {"train": script["train_logits"], "after": script["after_logits"], "val": script["val_logits"]}
    values: dict[tuple[str, str], list[Tensor]] = {}
    for part, table in tables.items():
        labels = (val if part == "val" else train)["labels"]
        values[part, "loss"] = [F.cross_entropy(z, labels, reduction="none").double() for z in table]
        values[part, "acc"] = [(z.argmax(1) == labels).double() for z in table]
    found: Figures = {}
    for part, key in itertools.product(("train", "val"), ("loss", "acc")):
        found[f"{part}_{key}"] = _alternatives(values[part, key], (train if part == "train" else val)["sizes"], key)
    lowest = [(z.argmin(1) == val["labels"]).double() for z in script["val_logits"]]
    found["val_acc"][LOWEST] = [float(v.mean()) for v in lowest]
    for key in ("loss", "acc"):
        means = found[f"train_{key}"]
        both = [torch.cat(parts) for parts in zip(values["train", key], values["val", key], strict=True)]
        means["mean over both loaders"] = [float(v.mean()) for v in both]
        means[SECOND_PASS] = [float(v.mean()) for v in values["after", key]]
        means["mean over all epochs so far"] = [
            float(torch.stack(values["train", key][: e + 1]).mean()) for e in range(len(both))
        ]
        found[f"val_{key}"]["mean over both loaders"] = means["mean over both loaders"]
    return found


def last_looks(run: Run, script: dict[str, Any]) -> dict[str, list[float]]:
    """Return the training figures at the last evaluation of each batch, for optimizers that have several."""
    rows, journal, labels = run.journal.got["rows"], run.journal, script["train"]["labels"]
    found: dict[str, list[float]] = {"train_loss": [], "train_acc": []}
    for epoch in range(journal.epochs):
        sums = [0.0, 0.0]
        for i, batch in enumerate(journal.batches):
            last = i + 1 == len(journal.batches) or not journal.again[i + 1]
            if journal.epoch_of[i] == epoch and last and (batch >= 0).all():
                logits, y = journal.logits(i), labels[batch]
                first = [float(F.cross_entropy(logits, y, reduction="sum")), float((logits.argmax(1) == y).sum())]
                sums = [a + b for a, b in zip(sums, rows[i, 2:].tolist() if journal.again[i] else first, strict=True)]
        for key, total in zip(found, sums, strict=True):
            found[key].append(total / len(labels))
    return found


def of_trained(run: Run, script: dict[str, Any]) -> dict[str, list[float]]:
    """Return the training figures of only the examples that were trained on."""
    labels = script["train"]["labels"]
    found: dict[str, list[float]] = {"train_loss": [], "train_acc": []}
    for epoch in range(run.epochs):
        parts = [i for i in run.journal.first_looks if run.journal.epoch_of[i] == epoch]
        if parts:
            logits = torch.cat([run.journal.logits(i) for i in parts])
            y = labels[torch.cat([run.journal.batches[i] for i in parts])]
            found["train_loss"].append(float(F.cross_entropy(logits, y)))
            found["train_acc"].append(float((logits.argmax(1) == y).double().mean()))
    return found


def _alternatives(by_example: Sequence[Tensor], sizes: list[int], key: str) -> dict[str, list[float]]:
    """Return what each usual mistake makes of the values of the examples: name -> one number per epoch."""

    def of(make: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
        return [float(make(values, torch.stack([v.mean() for v in values.split(sizes)]))) for values in by_example]

    found = {
        MEAN: of(lambda values, means: values.mean()),
        "mean over the batches": of(lambda values, means: means.mean()),
        "sum over the examples": of(lambda values, means: values.sum()),
        "sum over the batches": of(lambda values, means: means.sum()),
        "sum over the examples, divided by the number of batches": of(lambda values, means: values.sum() / len(sizes)),
        "sum over the batches, divided by the number of examples": of(lambda values, means: means.sum() / len(values)),
        "mean of the last batch alone": of(lambda values, means: means[-1]),
        "mean of the first batch alone": of(lambda values, means: means[0]),
    }
    found["mean of the first epoch, again in each epoch"] = [float(by_example[0].mean())] * len(by_example)
    if key == "acc":
        found["percent"] = of(lambda values, means: 100 * values.mean())
        found["share of errors"] = of(lambda values, means: 1 - values.mean())
    return found


def apart(alternatives: Iterable[Sequence[float]]) -> bool:
    """Return whether any two alternatives differ in some epoch, by more than numbers that count as the same."""
    return all(
        max(abs(a - b) for a, b in zip(*pair, strict=True)) > 5e-3 for pair in itertools.combinations(alternatives, 2)
    )


def fits(wanted: Sequence[float], seen: Sequence[float], epochs: int) -> bool:
    """Return whether a list contains these numbers.

    Its length is checked elsewhere, so numbers may be missing or come twice.
    """
    if len(seen) == epochs > len(wanted):  # more epochs than requested
        seen, epochs = seen[: len(wanted)], len(wanted)
    few, many = (seen, wanted[:epochs]) if len(seen) <= epochs else (wanted[:epochs], seen)
    rest = iter(many)
    return bool(few) and all(any(abs(a - b) < 1e-3 for b in rest) for a in few)
