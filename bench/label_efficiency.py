"""Measure the report of lab 2: ``python -m bench.label_efficiency [--data FOLDER] [--seeds 3] [--jobs 2]``

Pretrain net5 without labels, with the functions of the lab's own solution, and use it with 1, 5, 10 and 50 labels a
class: as a linear probe on the frozen encoder, and fine-tuned. Compare with a linear probe on random features, and with
a network that is trained from scratch on the same labels. Do this on drawn species, and on photographs of CIFAR-10 if
there are any: FOLDER contains ``train/`` and ``test/`` with one sub-folder of images for each class; without it, the
photographs come from torchvision's download.

Write ``docs/lab-report-self-supervised-learning.md`` and its plots. Each run is stored as soon as it ends; the same
command continues with the missing ones. Exit with status 1 if a claim of the report does not hold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import plots
from amllab.downloads import VARIABLE
from amllab.images import LabelledImages, labelled_subset
from amllab.photographs import cifar10_photographs
from amllab.representations import extract_features, knn_accuracy, linear_evaluation
from amllab.species import draw_species
from amllab.views import RandomViews, normalise
from bench.lab_runs import RESULTS, ROOT, functions, measured, settings_digest, spread

ASSIGNMENT = "self-supervised-learning"
RUNS = RESULTS / "label_efficiency.jsonl"
REPORT = ROOT / "docs" / "lab-report-self-supervised-learning.md"

LABELS = (1, 5, 10, 50)  # of each class
RANDOM, PROBE, SCRATCH, TUNED = WAYS = (
    "random features, linear probe",
    "self-supervised, linear probe",
    "from scratch",
    "self-supervised, fine-tuned",
)
SPECIES, PER_SPECIES, TEST_PER_SPECIES, SPECIES_SEED = 10, 400, 100, 0
PHOTOGRAPHS, TEST_PHOTOGRAPHS = 5000, 2000
EPOCHS, BATCH, LR, TEMPERATURE = 15, 128, 3e-3, 0.5
STEPS, STEP_BATCH, STEP_LR = 300, 64, 2e-3  # of a training with labels
CROPS = {"drawn species": 0.6, "photographs": 0.3}  # smallest crop of a view, as a share of the area
PROMISED = {(TUNED, SCRATCH): 10, (PROBE, RANDOM): 15}  # points, on drawn species with 5 labels a class

SETTINGS = {
    "labels": LABELS,
    "species": (SPECIES, PER_SPECIES, TEST_PER_SPECIES, SPECIES_SEED),
    "photographs": (PHOTOGRAPHS, TEST_PHOTOGRAPHS),
    "pretraining": (EPOCHS, BATCH, LR, TEMPERATURE),
    "training": (STEPS, STEP_BATCH, STEP_LR),
    "crops": CROPS,
}


class Loader:
    """A re-iterable of shuffled batches ``(images, labels)``, with uint8 images."""

    def __init__(self, data: LabelledImages, generator: torch.Generator) -> None:
        self.data, self.generator = data, generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(self.data), generator=self.generator).split(BATCH):
            yield self.data.images[index], self.data.labels[index]

    def __len__(self) -> int:
        return -(-len(self.data) // BATCH)


def images_of(kind: str, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Return images to learn from and images to test on."""
    if kind == "drawn species":
        learning = draw_species(SPECIES, PER_SPECIES, SPECIES_SEED, individuals=seed)
        return learning, draw_species(SPECIES, TEST_PER_SPECIES, SPECIES_SEED, individuals=1000 + seed)
    return cifar10_photographs(PHOTOGRAPHS, TEST_PHOTOGRAPHS, seed)


def trained(encoder: nn.Module, data: LabelledImages, test: LabelledImages, seed: int) -> float:
    """Train an encoder with a new head on labelled images; return its accuracy on the test images."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    views = RandomViews(generator, crop=(0.6, 1.0), colour=0.0, grey=0.0)
    model = nn.Sequential(encoder, nn.Linear(encoder.num_features, len(data.classes))).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, STEP_LR, total_steps=STEPS)
    for _ in range(STEPS):
        index = torch.randint(len(data), (STEP_BATCH,), generator=generator)
        if len(data) >= STEP_BATCH:
            index = torch.randperm(len(data), generator=generator)[:STEP_BATCH]
        loss = F.cross_entropy(model(views(data.images[index])), data.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    with torch.no_grad():
        model.eval()
        logits = torch.cat([model(normalise(part)) for part in test.images.split(500)])
    return float((logits.argmax(1) == test.labels).double().mean())


def run(kind: str, seed: int) -> dict[str, Any]:
    """Pretrain once, and return all accuracies with every number of labels."""
    torch.set_num_threads(1)
    learning, test = images_of(kind, seed)
    torch.manual_seed(seed)
    encoder = timm.create_model("net5", num_classes=0)
    projector = nn.Sequential(nn.Linear(96, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    untrained = [extract_features(encoder, part.images) for part in (learning, test)]
    generator = torch.Generator().manual_seed(seed)
    augment = RandomViews(generator, crop=(CROPS[kind], 1.0))
    began = time.process_time()
    history = functions(ASSIGNMENT)["pretrain"](
        encoder, projector, Loader(learning, generator), augment, epochs=EPOCHS, lr=LR, temperature=TEMPERATURE
    )
    seconds = time.process_time() - began
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = [extract_features(encoder, part.images) for part in (learning, test)]
    found: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    for labels in LABELS:
        few = labelled_subset(learning.labels, labels, torch.Generator().manual_seed(seed))
        for way, (known, asked) in ((RANDOM, untrained), (PROBE, features)):
            found[way][labels] = linear_evaluation(known[few], learning.labels[few], asked, test.labels)
        for way, weights in ((SCRATCH, start), (TUNED, state)):
            encoder.load_state_dict(weights)
            found[way][labels] = trained(encoder, learning.subset(few), test, seed)
    knn = {
        name: knn_accuracy(known, learning.labels, asked, test.labels)
        for name, (known, asked) in (("random", untrained), ("self-supervised", features))
    }
    return {
        "seconds": round(seconds, 1), "loss": history["loss"], "knn": knn, "accuracy": found,
    }  # fmt: skip


def points(runs: list[dict[str, Any]], way: str, labels: int) -> list[float]:
    """Return the accuracies of all seeds in per cent."""
    return [100 * row["accuracy"][way][str(labels)] for row in runs]


def section(kind: str, runs: list[dict[str, Any]], plot: str) -> list[str]:
    """Return the part of the report about one kind of images."""
    knn = {name: spread([100 * row["knn"][name] for row in runs]) for name in ("random", "self-supervised")}
    seconds = statistics.mean(row["seconds"] for row in runs)
    lines = [f"## {kind.capitalize()}", "", f"| labels a class | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    for labels in LABELS:
        lines.append(f"| {labels} | " + " | ".join(spread(points(runs, way, labels)) for way in WAYS) + " |")
    lines += [
        "",
        f"![Accuracy over the number of labels a class]({plot})",
        "",
        f"Nearest neighbours with all labels: {knn['random']} % with random features, {knn['self-supervised']} % after "
        f"pretraining. One pretraining took {seconds:.0f} s of a core. The contrastive loss fell from "
        f"{statistics.mean(row['loss'][0] for row in runs):.2f} in the first epoch to "
        f"{statistics.mean(row['loss'][-1] for row in runs):.2f} in the last.",
        "",
    ]
    return lines


def report(runs: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Write the plots; return the text of the report, and claims that do not hold."""
    kinds = sorted({row["kind"] for row in runs})
    seeds = len({row["seed"] for row in runs})
    lines = [
        "# Lab report: self-supervised learning",
        "",
        "What is an encoder worth that was trained without labels? Accuracy in per cent on test images, mean ± standard",
        f"deviation over {seeds} seeds. A seed draws the images, the random weights and the labelled images. Pretraining",
        f"uses the functions of the lab's own solution: {EPOCHS} epochs, batches of {BATCH}, learning rate {LR:g},",
        f"temperature {TEMPERATURE:g}. Networks with labels are trained for {STEPS} steps. Written by",
        "`python -m bench.label_efficiency`.",
        "",
    ]  # fmt: skip
    for kind in kinds:
        mine = [row for row in runs if row["kind"] == kind]
        plot = f"lab-report-self-supervised-learning-{kind.replace(' ', '-')}.png"
        curves = {way: {n: [v / 100 for v in points(mine, way, n)] for n in LABELS} for way in WAYS}
        plots.label_efficiency(curves, kind.capitalize()).savefig(REPORT.with_name(plot))
        lines += section(kind, mine, plot)
    drawn = [row for row in runs if row["kind"] == "drawn species"]
    failed = []
    lines += ["## What was promised", "", "| on drawn species, 5 labels a class | wanted | measured |", "|---|---|---|"]
    for (better, worse), wanted in PROMISED.items():
        gains = [a - b for a, b in zip(points(drawn, better, 5), points(drawn, worse, 5), strict=True)]
        lines.append(f"| {better}, over {worse} | at least {wanted} points | {spread(gains)} points |")
        if statistics.mean(gains) < wanted:
            failed.append(lines[-1])
    return "\n".join(lines) + "\n", failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photographs with train/ and test/")
    parser.add_argument("--drawn-only", action="store_true", help="leave out the photographs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2, to estimate a spread")
    if options.data:
        os.environ[VARIABLE] = str(options.data)
    kinds = ["drawn species"] if options.drawn_only else ["drawn species", "photographs"]
    text, failed = report(
        measured(run, kinds, options.seeds, options.jobs, RUNS, settings_digest(ASSIGNMENT, SETTINGS))
    )
    REPORT.write_text(text, encoding="utf-8")
    print(text)
    for row in failed:
        print(f"does not hold: {row}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
