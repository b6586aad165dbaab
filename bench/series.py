"""Measure the figure that runs through all four labs: ``python -m bench.series [--seeds 3] [--jobs 2]``

Few of 2,000 drawn reptiles have a label. What does each lab make of that? Recognise reptiles with the functions of each
lab's own solution, from the same labels and on the same test images: from scratch, with a network that has seen other
labelled images (lab 1), after pretraining without labels (lab 2), by prototypes of an encoder that has learned from
episodes of other animals (lab 3), and with the network of lab 1 as the teacher of a small one (lab 4).

Write ``docs/series.md`` and its plot. Each run is stored as soon as it ends; the same command continues with the
missing ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import timm
import torch
from torch import Tensor, nn

from amllab import accuracy, plots
from amllab.distillation import NO_LABEL, RememberedAnswers, distillation_loader, hide_labels, logits_of
from amllab.few_shot import split_classes
from amllab.images import LabelledImages, stratified_split
from amllab.representations import extract_features
from amllab.species import draw_species
from amllab.synthetic_images import draw
from amllab.views import RandomViews, normalise
from bench import distillation_report, few_shot, label_efficiency
from bench.lab_runs import RESULTS, ROOT, functions, measured, settings_digest, spread

RUNS = RESULTS / "series.jsonl"
PAGE = ROOT / "docs" / "series.md"
PLOT = "series.png"

ASSIGNMENTS = ("transfer-learning", "self-supervised-learning", "meta-learning", "knowledge-distillation")
IMAGES, TEST = 2000, 1000
LABELS = (10, 50)  # of each of the five classes
SCRATCH, TRANSFER, UNLABELLED, EPISODES, DISTILLED = WAYS = (
    "from scratch",
    "lab 1: fine-tuned from CIFAR-10",
    "lab 2: pretrained without labels",
    "lab 3: prototypes",
    "lab 4: taught by lab 1's network",
)
# network, and where else its knowledge comes from
FROM = {
    SCRATCH: ("net5", "nowhere"),
    TRANSFER: ("net12", "50,000 labelled photographs of CIFAR-10"),
    UNLABELLED: ("net5", f"{IMAGES:,} drawn reptiles, without labels"),
    EPISODES: ("net5", f"{few_shot.SPECIES} other drawn species, with labels"),
    DISTILLED: ("net5", f"lab 1's network, about {IMAGES:,} drawn reptiles without labels"),
}
LAYERS, EPOCHS, PATIENCE, RATE, BATCH = 10, 30, 5, 1e-3, 32  # of lab 1

SETTINGS = {
    "images": (IMAGES, TEST, LABELS),
    "lab 1": (LAYERS, EPOCHS, PATIENCE, RATE, BATCH),
    "lab 2": label_efficiency.SETTINGS,
    "lab 3": few_shot.SETTINGS,
    "lab 4": distillation_report.SETTINGS,
}


def fine_tuned(data: LabelledImages, seed: int) -> nn.Module:
    """Fine-tune net12 with the functions of lab 1; a fifth of the images is for validation."""
    own = functions("transfer-learning")
    train, validation = (data.subset(part) for part in stratified_split(data.labels, 0.2, seed))
    torch.manual_seed(seed)
    model = own["build_transfer_model"]("net12", len(data.classes), LAYERS)
    own["train_with_early_stopping"](
        model,
        distillation_loader(train.images, train.labels, batch_size=BATCH, seed=seed),
        [(normalise(validation.images), validation.labels)],
        max_epochs=EPOCHS,
        patience=PATIENCE,
        lr=RATE,
    )
    return model.eval()


def pretrained(images: LabelledImages, seed: int) -> dict[str, Tensor]:
    """Pretrain net5 with lab 2's function, without labels; return its weights."""
    torch.manual_seed(seed)
    encoder = timm.create_model("net5", num_classes=0)
    projector = nn.Sequential(nn.Linear(96, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    generator = torch.Generator().manual_seed(seed)
    views = RandomViews(generator, crop=(label_efficiency.CROPS["drawn species"], 1.0))
    functions("self-supervised-learning")["pretrain"](
        encoder,
        projector,
        label_efficiency.Loader(images, generator),
        views,
        epochs=label_efficiency.EPOCHS,
        lr=label_efficiency.LR,
        temperature=label_efficiency.TEMPERATURE,
    )
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def by_prototypes(encoder: nn.Module, few: LabelledImages, test: LabelledImages) -> Tensor:
    """Return logits of the test images by the distances from the means of the labelled ones, with lab 3's loss."""
    support, query = (extract_features(encoder, part.images) for part in (few, test))
    logits: Tensor = functions("meta-learning")["prototypical_loss"](support, few.labels, query, test.labels)[1]
    return logits


def run(kind: str, seed: int) -> dict[str, Any]:
    """Measure all labs with one seed, with a number of labels that ``kind`` names."""
    torch.set_num_threads(1)
    labels = int(kind)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        learning, test = draw(IMAGES, 30_000 + seed), draw(TEST, 40_000 + seed)
        known = hide_labels(learning.labels, labels, seed=seed)
        few = learning.subset((known != NO_LABEL).nonzero().squeeze(1))
        found: dict[str, float] = {}
        seconds: dict[str, float] = {}
        began = time.process_time()
        for way, reached in measurements(learning, known, few, test, seed):
            found[way] = reached
            seconds[way] = round(time.process_time() - began, 1)
            began = time.process_time()
    return {"accuracy": found, "seconds": seconds}


def measurements(
    learning: LabelledImages, known: Tensor, few: LabelledImages, test: LabelledImages, seed: int
) -> Iterator[tuple[str, float]]:
    """Yield each way and the accuracy that it reaches on the test images."""
    torch.manual_seed(seed)
    encoder = timm.create_model("net5", num_classes=0)
    yield SCRATCH, label_efficiency.trained(encoder, few, test, seed)

    teacher = fine_tuned(few, seed)
    yield TRANSFER, float(accuracy(logits_of(teacher, test.images), test.labels))

    encoder.load_state_dict(pretrained(learning, seed))
    yield UNLABELLED, label_efficiency.trained(encoder, few, test, seed)

    species = draw_species(few_shot.SPECIES + few_shot.OTHERS, few_shot.PER_SPECIES, seed)
    torch.manual_seed(seed)
    trained = few_shot.prototypical(split_classes(species, few_shot.SPECIES, few_shot.OTHERS)[0], seed)
    yield EPISODES, float(accuracy(by_prototypes(trained, few, test), test.labels))

    way = distillation_report.TAUGHT
    student = distillation_report.student_of(way, learning, known, RememberedAnswers(teacher).eval(), seed)
    yield DISTILLED, float(accuracy(logits_of(student, test.images), test.labels))


def points(runs: list[dict[str, Any]], way: str, labels: int) -> list[float]:
    """Return the accuracies of all seeds in per cent."""
    return [100 * row["accuracy"][way] for row in runs if row["kind"] == str(labels)]


def page(runs: list[dict[str, Any]]) -> str:
    """Write the plot, and return the text of the page."""
    seeds = len({row["seed"] for row in runs})
    curves = {way: {n: [value / 100 for value in points(runs, way, n)] for n in LABELS} for way in WAYS}
    plots.label_efficiency(curves, "Drawn reptiles").savefig(PAGE.with_name(PLOT))
    lines = [
        TEXT,
        "## One figure for all four",
        "",
        f"Of {IMAGES:,} drawn reptiles, a few have a label. {TEST:,} others are to be recognised; guessing gives 20 %. Every lab gets the",
        "same labels, and adds what it can get without more of them. This figure was chosen since labels are what all four",
        "labs save, and since the reptiles are what the series begins and ends with. All numbers are those of the labs' own",
        f"solutions: accuracy in per cent, mean ± standard deviation over {seeds} seeds. A seed draws the images, the labels and the",
        "random weights. Written by `python -m bench.series`.",
        "",
        f"| | network | other knowledge from | {' | '.join(f'{n} labels a class' for n in LABELS)} | seconds of a core |",
        "|---|---|---|" + "---|" * len(LABELS) + "---|",
    ]  # fmt: skip
    for way in WAYS:
        network, source = FROM[way]
        cells = " | ".join(spread(points(runs, way, n)) for n in LABELS)
        seconds = statistics.mean(row["seconds"][way] for row in runs)
        lines.append(f"| {way} | {network} | {source} | {cells} | {seconds:.0f} |")
    lines += [
        "",
        f"![Accuracy with few labels, by the method of each lab]({PLOT})",
        "",
        "| gain over training from scratch, in points | " + " | ".join(f"{n} labels a class" for n in LABELS) + " |",
        "|---|" + "---|" * len(LABELS),
    ]
    for way in WAYS[1:]:
        gains = ([a - b for a, b in zip(points(runs, way, n), points(runs, SCRATCH, n), strict=True)] for n in LABELS)
        lines.append(f"| {way} | " + " | ".join(map(spread, gains)) + " |")
    return "\n".join([*lines, "", CLOSING.format(times=times_as_large())]) + "\n"


TEXT = """\
# The series

Labels are expensive. Each of the four labs takes knowledge from where it is cheaper:

| lab | knowledge from | question |
|---|---|---|
| 1, transfer learning | other images that have labels | How many layers of a trained network should be trained again? |
| 2, self-supervised learning | images that have no labels | And if nobody had labelled those images? |
| 3, meta-learning | other tasks | What can be learned from five images? |
| 4, knowledge distillation | another network | How much of that fits into a network of a twentieth of the size? |

No lab needs a solution of an earlier one. Where a lab uses what an earlier notebook has made, the library has a
replacement.

## What each lab hands on

| from | to | what |
|---|---|---|
| 1 | 2 | *A lesson:* a frozen network in train mode changes, since its BatchNorm statistics do. Lab 2 measures encoders that must come back as they were |
| 1 | 2 | *A measurement:* the linear probe is lab 1's network with one trainable layer |
| 1 | 3 | *Weights:* features of CIFAR-10 as a baseline that needs no training |
| 1 | 4 | *Weights:* the last cell of code keeps the best model, with `amllab.keep("reptile-teacher", ...)`. In lab 4 it is the teacher, if it has learned from drawn reptiles |
| 1 | 4 | *Data:* the drawn reptiles |
| 2 | 3 | *Weights:* the notebook keeps its encoder with `amllab.keep("species-encoder", ...)`. In lab 3 it is another baseline |
| 2 | 3, 4 | *Data and a network:* drawn species, random views, and net5, which all later labs train |
| 2 | 4 | *A measurement:* accuracy over the number of labels; networks that are measured stay as they are |
| 3 | 4 | *A measurement:* intervals and seeds before conclusions, and the same care for the baseline |
"""

CLOSING = """\
What the figure does not say: the ways differ in more than one thing. Lab 1's network has {times:.0f} times as many parameters
as the others. Lab 4's student needs lab 1's network for its training, but not afterwards. Lab 3's encoder has seen no
reptile at all before it gets the labelled ones, and is not trained on these. The reports of the labs measure each method
on the task that it was made for: [lab 1](lab-report.md), [lab 2](lab-report-self-supervised-learning.md),
[lab 3](lab-report-meta-learning.md) and [lab 4](lab-report-knowledge-distillation.md)."""


def times_as_large() -> float:
    """Return how many times as many parameters lab 1's network has as the others."""
    large, small = (timm.create_model(name, num_classes=5) for name in ("net12", "net5"))
    return sum(p.numel() for p in large.parameters()) / sum(p.numel() for p in small.parameters())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2, to estimate a spread")
    digest = "-".join(settings_digest(assignment, SETTINGS) for assignment in ASSIGNMENTS)
    text = page(measured(run, [str(n) for n in LABELS], options.seeds, options.jobs, RUNS, digest))
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
