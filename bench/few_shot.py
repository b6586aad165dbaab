"""Measure the report of lab 3: ``python -m bench.few_shot [--seeds 3] [--jobs 2]``

Classify drawn species that no training has seen, from 1 and from 5 images each: with encoders that need no training on
these species, with an ordinary classifier, and with a prototypical network. Train a network on sinusoids with MAML and
with its first-order version. All with the functions of the lab's own solution.

Write ``docs/lab-report-meta-learning.md`` and its plots. Each run is stored as soon as it ends; the same command
continues with the missing ones. Exit with status 1 if a claim of the report does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import load_backbone, plots
from amllab.confidence import Interval
from amllab.few_shot import Episode, episode_accuracy, episode_loss, episodes, split_classes
from amllab.images import LabelledImages
from amllab.meta_tasks import sine_net, sinusoids
from amllab.meta_training import adaptation_curve, maml_loss, meta_train
from amllab.representations import extract_features
from amllab.species import draw_species
from amllab.views import normalise
from bench.lab_runs import RESULTS, ROOT, functions, measured, settings_digest, spread

ASSIGNMENT = "meta-learning"
RUNS = RESULTS / "few_shot.jsonl"
REPORT = ROOT / "docs" / "lab-report-meta-learning.md"

IMAGES, SINES = "images", "sinusoids"
SPECIES, OTHERS, PER_SPECIES = 64, 20, 40
WAY, SHOTS, QUERIES, EPISODES = 5, (1, 5), 15, 400  # of the evaluation
PIXELS, RANDOM, SUPERVISED, SELF_SUPERVISED, CLASSIFIER, PROTOTYPES = ENCODERS = (
    "pixels",
    "net5, random weights",
    "net6, trained on CIFAR-10",
    "net5, trained without labels on other species",
    "net5, classifier of the training species",
    "net5, prototypical network",
)
TRAINING_FREE = (PIXELS, RANDOM, SUPERVISED)  # no drawing has trained them
TRAINED_EPISODES, TRAINED_WAY, TRAINED_SHOTS, TRAINED_QUERIES, RATE = 900, 10, 5, 5, 3e-3
CLASSIFIER_STEPS, CLASSIFIER_BATCH = 600, 100
OUTER_STEPS, TASKS, POINTS, OUTER_RATE, INNER_RATE, TEST_TASKS = 400, 25, 10, 1e-2, 0.01, 500
MAML, FIRST_ORDER, JOINT = WAYS = ("MAML", "first-order MAML", "one network for all tasks")
STEPS = (0, 1, 5, 10)
WANTED_ACCURACY, WANTED_GAIN, WANTED_RATIO = 80.0, 20.0, 0.8

SETTINGS = {
    "species": (SPECIES, OTHERS, PER_SPECIES),
    "evaluation": (WAY, SHOTS, QUERIES, EPISODES),
    "episodes": (TRAINED_EPISODES, TRAINED_WAY, TRAINED_SHOTS, TRAINED_QUERIES, RATE),
    "classifier": (CLASSIFIER_STEPS, CLASSIFIER_BATCH),
    "sinusoids": (OUTER_STEPS, TASKS, POINTS, OUTER_RATE, INNER_RATE, TEST_TASKS),
}


def classified(data: LabelledImages, seed: int) -> nn.Module:
    """Train net5 as an ordinary classifier of all training species, and return it without its head."""
    encoder = timm.create_model("net5", num_classes=0)
    model = nn.Sequential(encoder, nn.Linear(encoder.num_features, len(data.classes))).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=CLASSIFIER_STEPS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(CLASSIFIER_STEPS):
        index = torch.randint(len(data), (CLASSIFIER_BATCH,), generator=generator)
        loss = F.cross_entropy(model(normalise(data.images[index])), data.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return encoder


def prototypical(data: LabelledImages, seed: int) -> nn.Module:
    """Train net5 on episodes with the prototypical loss."""
    own, encoder = functions(ASSIGNMENT), timm.create_model("net5", num_classes=0)
    tasks = episodes(
        data.images,
        data.labels,
        own["sample_episode"],
        n_way=TRAINED_WAY,
        k_shot=TRAINED_SHOTS,
        n_query=TRAINED_QUERIES,
        seed=seed,
    )
    meta_train(encoder, episode_loss(own["prototypical_loss"]), tasks, steps=TRAINED_EPISODES, lr=RATE)
    return encoder


def on_images(seed: int) -> dict[str, Any]:
    """Return the accuracy with every encoder: encoder -> similarity -> shots -> mean and half width, in per cent."""
    train, test = split_classes(draw_species(SPECIES + OTHERS, PER_SPECIES, seed), SPECIES, OTHERS)
    seconds: dict[str, float] = {}

    def features() -> Iterator[tuple[str, Tensor]]:
        yield PIXELS, test.images.flatten(1) / 255
        yield RANDOM, extract_features(timm.create_model("net5", num_classes=0), test.images)
        yield SUPERVISED, extract_features(without_head(load_backbone("net6")), test.images)
        yield SELF_SUPERVISED, extract_features(without_head(load_backbone("net5.ssl_species")), test.images)
        for name, training in ((CLASSIFIER, classified), (PROTOTYPES, prototypical)):
            torch.manual_seed(seed)
            began = time.process_time()
            encoder = training(train, seed)
            seconds[name] = round(time.process_time() - began, 1)
            yield name, extract_features(encoder, test.images)

    found: dict[str, Any] = {}
    for name, values in features():
        found[name] = {}
        for kind, ready in (("distance", values), ("cosine", F.normalize(values - values.mean(0)))):
            found[name][kind] = {shots: evaluated(ready, test.labels, shots) for shots in SHOTS}
    return {"accuracy": found, "seconds": seconds}


def without_head(model: nn.Module) -> nn.Module:
    """Return a model of timm that ends with its features."""
    model.reset_classifier(0)
    return model


def evaluated(features: Tensor, labels: Tensor, shots: int) -> list[float]:
    """Return the accuracy over episodes, and half the width of its 95 % interval, in per cent."""
    own = functions(ASSIGNMENT)
    got = episode_accuracy(
        features,
        labels,
        own["sample_episode"],
        own["prototypical_loss"],
        n_way=WAY,
        k_shot=shots,
        n_query=QUERIES,
        episodes=EPISODES,
    )
    return [100 * got.mean, 100 * got.half_width]


def training_tasks(seed: int) -> Iterator[Episode]:
    """Return batches of sinusoids without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield sinusoids(TASKS, POINTS, POINTS, generator)


def on_sinusoids(seed: int) -> dict[str, Any]:
    """Return the errors on new sinusoids: way of training -> number of steps -> mean and half width."""
    own = functions(ASSIGNMENT)
    test = sinusoids(TEST_TASKS, POINTS, 100, torch.Generator().manual_seed(10**6 + seed))
    found: dict[str, Any] = {}
    for way in WAYS:
        torch.manual_seed(seed)
        model = sine_net()
        loss = maml_loss(
            own["maml_adapt"],
            steps=0 if way == JOINT else 1,
            lr=INNER_RATE,
            loss_fn=F.mse_loss,
            first_order=way == FIRST_ORDER,
        )
        meta_train(model, loss, training_tasks(seed), steps=OUTER_STEPS, lr=OUTER_RATE)
        curve = adaptation_curve(model, own["maml_adapt"], test, steps=STEPS, lr=INNER_RATE, loss_fn=F.mse_loss)
        found[way] = {number: [interval.mean, interval.half_width] for number, interval in curve.items()}
    return {"errors": found}


def run(kind: str, seed: int) -> dict[str, Any]:
    """Measure one kind of tasks with one seed."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        return on_images(seed) if kind == IMAGES else on_sinusoids(seed)


def accuracies(runs: list[dict[str, Any]], encoder: str, shots: int, kind: str = "distance") -> list[float]:
    """Return the accuracies of all seeds in per cent."""
    return [row["accuracy"][encoder][kind][str(shots)][0] for row in runs]


def width(values: list[list[float]]) -> float:
    """Return the mean of the half widths of intervals."""
    return statistics.mean(half for _, half in values)


def report(runs: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Write the plots; return the text of the report, and claims that do not hold."""
    images, sines = ([row for row in runs if row["kind"] == kind] for kind in (IMAGES, SINES))
    seeds = len(images)
    lines = [
        "# Lab report: meta-learning",
        "",
        f"All figures are means ± standard deviations over {seeds} seeds. A seed draws the species or the sinusoids, and the",
        "random weights. The functions are those of the lab's own solution. Written by `python -m bench.few_shot`.",
        "",
        "## Species that no training has seen",
        "",
        f"Accuracy in per cent on {OTHERS} drawn species, in {EPISODES} episodes of {WAY} classes with {QUERIES} query images",
        f"each. Training on {SPECIES} other species with {PER_SPECIES} images each: {TRAINED_EPISODES} episodes of {TRAINED_WAY} classes",
        f"with {TRAINED_SHOTS} + {TRAINED_QUERIES} images, or {CLASSIFIER_STEPS} steps of a classifier with {CLASSIFIER_BATCH} images.",
        "*Cosine*: with features that are centred and normalised.",
        "",
        "| encoder | 1-shot | 5-shot | 1-shot, cosine | 5-shot, cosine |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for encoder in ENCODERS:
        cells = [spread(accuracies(images, encoder, n, kind)) for kind in ("distance", "cosine") for n in SHOTS]
        lines.append(f"| {encoder} | " + " | ".join(cells) + " |")
    half = {n: width([row["accuracy"][PROTOTYPES]["distance"][str(n)] for row in images]) for n in SHOTS}
    seconds = {name: statistics.mean(row["seconds"][name] for row in images) for name in (CLASSIFIER, PROTOTYPES)}
    lines += [
        "",
        f"Over the episodes of one seed, the 95 % interval of the prototypical network is ± {half[1]:.1f} (1-shot) and ± {half[5]:.1f}",
        f"(5-shot). It leaves out the choice of the species. One training took {seconds[PROTOTYPES]:.0f} s of a core, the classifier",
        f"{seconds[CLASSIFIER]:.0f} s.",
        "",
        "![Accuracy of every encoder](lab-report-meta-learning-encoders.png)",
        "",
        "## Sinusoids",
        "",
        f"Mean squared error on {TEST_TASKS} new sinusoids after adapting to {POINTS} points, with steps of {INNER_RATE:g}. Training:",
        f"{OUTER_STEPS} steps with {TASKS} sinusoids each, one step of adaptation.",
        "",
        "| training | " + " | ".join(f"{n} steps" if n != 1 else "1 step" for n in STEPS) + " |",
        "|---" * (len(STEPS) + 1) + "|",
    ]  # fmt: skip
    for way in WAYS:
        values = [[row["errors"][way][str(n)][0] for row in sines] for n in STEPS]
        lines.append(f"| {way} | " + " | ".join(spread(one, 2) for one in values) + " |")
    lines += ["", "![Error over the number of steps](lab-report-meta-learning-sinusoids.png)", ""]
    pictures(images, sines)
    promised, failed = claims(images, sines)
    lines += ["## What was promised", "", "| claim | wanted | measured |", "|---|---|---|", *promised]
    return "\n".join(lines) + "\n", failed


def gains_over(images: list[dict[str, Any]], encoders: Sequence[str]) -> tuple[str, list[float]]:
    """Return the best of some encoders, and how many points the prototypical network is above it, 5-shot."""
    means = {
        (name, kind): statistics.mean(accuracies(images, name, 5, kind))
        for name in encoders
        for kind in ("distance", "cosine")
    }
    name, kind = max(means, key=lambda key: means[key])
    pairs = zip(accuracies(images, PROTOTYPES, 5), accuracies(images, name, 5, kind), strict=True)
    return f"{name}, {kind}", [a - b for a, b in pairs]


def claims(images: list[dict[str, Any]], sines: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return one row of a table for each claim, and those that do not hold."""
    reached = accuracies(images, PROTOTYPES, 5)
    free, gains = gains_over(images, TRAINING_FREE)
    unlabelled, other_gains = gains_over(images, (SELF_SUPERVISED,))
    errors = [[row["errors"][way]["1"][0] for row in sines] for way in (MAML, FIRST_ORDER)]
    ratios = [a / b for a, b in zip(*errors, strict=True)]
    rows = [
        (
            f"| prototypical network, 5-shot | at least {WANTED_ACCURACY:g} % | {spread(reached)} % |",
            statistics.mean(reached) >= WANTED_ACCURACY,
        ),
        (
            f"| the same, over the best encoder that was trained on no drawings ({free}) | at least {WANTED_GAIN:g} points "
            f"| {spread(gains)} points |",
            statistics.mean(gains) >= WANTED_GAIN,
        ),
        (f"| the same, over {unlabelled} | no claim | {spread(other_gains)} points |", True),
        (
            f"| error of MAML after one step, as a share of the first-order version's | at most {WANTED_RATIO:g} | {spread(ratios, 2)} |",
            statistics.mean(ratios) <= WANTED_RATIO,
        ),
    ]
    return [row for row, _ in rows], [row for row, holds in rows if not holds]


def pictures(images: list[dict[str, Any]], sines: list[dict[str, Any]]) -> None:
    """Write the plots: of the accuracies, with the intervals over episodes, and of the errors over steps."""

    def interval(values: list[list[float]], scale: float = 1.0) -> Interval:
        return Interval(scale * statistics.mean(mean for mean, _ in values), scale * width(values))

    shown = {
        encoder: {
            f"{n}-shot": interval([row["accuracy"][encoder]["distance"][str(n)] for row in images], 0.01) for n in SHOTS
        }
        for encoder in ENCODERS
    }
    plots.intervals(shown, chance=1 / WAY).savefig(REPORT.with_name("lab-report-meta-learning-encoders.png"))
    curves = {way: {n: interval([row["errors"][way][str(n)] for row in sines]) for n in STEPS} for way in WAYS}
    plots.adaptation(curves).savefig(REPORT.with_name("lab-report-meta-learning-sinusoids.png"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2, to estimate a spread")
    digest = settings_digest(ASSIGNMENT, SETTINGS)
    text, failed = report(measured(run, (SINES, IMAGES), options.seeds, options.jobs, RUNS, digest))
    REPORT.write_text(text, encoding="utf-8")
    print(text)
    for row in failed:
        print(f"does not hold: {row}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
