"""Measure the report of lab 4: ``python -m bench.distillation_report --data FOLDER [--seeds 3] [--jobs 2]``

Train net5, with the functions of the lab's own solution and in the same number of steps, on few labels, on all labels,
on few labels and the answers of a teacher, and on these answers alone. Measure accuracy and calibration error on test
images: of drawn reptiles, whose teacher ships with the library; of the photographs of reptiles in FOLDER, whose teacher
is fine-tuned here; and of CIFAR-10, if ``--cifar10 FOLDER`` is given, whose teacher is net12 as it is. Both folders
contain ``train/`` and ``test/`` with one sub-folder of images for each class.

Write ``docs/lab-report-knowledge-distillation.md`` and its plots. Each run is stored as soon as it ends; the same
command continues with the missing ones, and reports all that are stored. Exit with status 1 if a claim of the report
does not hold, or was not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from amllab import accuracy, load_backbone, plots
from amllab.distillation import NO_LABEL, RememberedAnswers, distillation_loader, hide_labels, logits_of
from amllab.downloads import VARIABLE
from amllab.images import LabelledImages, stratified_split
from amllab.photographs import cifar10_photographs
from amllab.pretrain.fine_tuning import FineTuningRecipe, fine_tune
from amllab.reptiles import VALIDATION, reptile_arrays
from amllab.synthetic_images import draw
from bench.lab_runs import RESULTS, ROOT, functions, measured, settings_digest, spread

ASSIGNMENT = "knowledge-distillation"
RUNS = RESULTS / "distillation.jsonl"
REPORT = ROOT / "docs" / "lab-report-knowledge-distillation.md"
PLOTS = "lab-report-knowledge-distillation"

DRAWN, REPTILES, PHOTOGRAPHS = KINDS = ("drawn reptiles", "photographs of reptiles", "CIFAR-10")
FEW, ALL, TAUGHT, ANSWERS = WAYS = ("few labels", "all labels", "few labels + teacher", "teacher alone")
TEACHER = "the teacher"
IMAGES, PER_CLASS = 2000, 50  # images to learn from, and labels of each class that are few
TEST = {DRAWN: 1000, PHOTOGRAPHS: 2000}
STEPS, BATCH, RATE, VIEWS = 320, 64, 3e-3, 4
TEMPERATURE, ALPHA = 4.0, 0.9
WANTED_GAIN, WANTED_RATIO = 10.0, 0.5

SETTINGS = {
    "images": (IMAGES, PER_CLASS, TEST),
    "training": (STEPS, BATCH, RATE, VIEWS, TEMPERATURE, ALPHA),
    "teacher": FineTuningRecipe().__dict__,
}


@cache
def images_of(kind: str, seed: int, folder: str) -> tuple[LabelledImages, LabelledImages]:
    """Return images to learn from and images to test on."""
    if kind == DRAWN:  # of seeds that the teacher has not seen
        return draw(IMAGES, 10_000 + seed), draw(TEST[DRAWN], 20_000 + seed)
    if kind == REPTILES:
        everything = reptile_arrays("train", folder)
        chosen = stratified_split(everything.labels, VALIDATION, seed)[0]
        return everything.subset(chosen), reptile_arrays("test", folder)
    os.environ[VARIABLE] = folder
    return cifar10_photographs(IMAGES, TEST[PHOTOGRAPHS], seed)


def teacher_of(kind: str, learning: LabelledImages, seed: int) -> nn.Module:
    """Return the teacher, in eval mode; that of the photographs of reptiles is fine-tuned on all labels."""
    if kind == REPTILES:
        return fine_tune(FineTuningRecipe(seed=seed), learning)[0]
    return load_backbone("net12.reptiles" if kind == DRAWN else "net12").eval()


def nobody(classes: int) -> nn.Module:
    """Return a model in place of a teacher whose answers have no weight: it takes no time."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes)).eval()


def student_of(way: str, learning: LabelledImages, few: Tensor, teacher: nn.Module, seed: int) -> nn.Module:
    """Train net5 in one of the ways."""
    images, labels = learning.images, {ALL: learning.labels, ANSWERS: torch.full_like(few, NO_LABEL)}.get(way, few)
    if way == FEW:
        images, labels = images[few != NO_LABEL], few[few != NO_LABEL]
    classes = len(learning.classes)
    loader = distillation_loader(images, labels, batch_size=BATCH, views=VIEWS, seed=seed)
    torch.manual_seed(seed)
    student = timm.create_model("net5", num_classes=classes)
    functions(ASSIGNMENT)["distill"](
        student,
        teacher if way in (TAUGHT, ANSWERS) else nobody(classes),
        loader,
        epochs=max(1, round(STEPS / len(loader))),
        lr=RATE,
        temperature=TEMPERATURE,
        alpha={TAUGHT: ALPHA, ANSWERS: 1.0}.get(way, 0.0),
    )
    return student


def figures(model: nn.Module, test: LabelledImages) -> tuple[dict[str, float], Tensor]:
    """Return accuracy and calibration error of a model, and its logits."""
    logits = logits_of(model, test.images)
    error = functions(ASSIGNMENT)["expected_calibration_error"](logits, test.labels)
    return {"accuracy": float(accuracy(logits, test.labels)), "ece": float(error)}, logits


def run(kind: str, seed: int, folders: dict[str, str]) -> dict[str, Any]:
    """Measure one kind of images with one seed."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        learning, test = images_of(kind, seed, folders.get(kind, ""))
        few = hide_labels(learning.labels, PER_CLASS, seed=seed)
        began = time.process_time()
        teacher = RememberedAnswers(teacher_of(kind, learning, seed)).eval()
        seconds = {TEACHER: time.process_time() - began}
        found = {TEACHER: figures(teacher, test)[0]}
        shown: dict[str, Any] = {}
        for way in WAYS:
            began = time.process_time()
            student = student_of(way, learning, few, teacher, seed)
            seconds[way] = time.process_time() - began
            found[way], logits = figures(student, test)
            if kind == REPTILES and seed == 0 and way in (FEW, TAUGHT):  # for the reliability diagrams
                shown[way] = {"logits": logits.mul(1000).round().div(1000).tolist(), "labels": test.labels.tolist()}
    return {"figures": found, "seconds": {name: round(value, 1) for name, value in seconds.items()}, "logits": shown}


def values(runs: list[dict[str, Any]], name: str, figure: str) -> list[float]:
    """Return a figure of all seeds; accuracies in per cent."""
    return [row["figures"][name][figure] * (100 if figure == "accuracy" else 1) for row in runs]


def section(kind: str, runs: list[dict[str, Any]]) -> list[str]:
    """Write the plot of one kind of images, and return its part of the report."""
    plot = f"{PLOTS}-{kind.lower().replace(' ', '-')}.png"
    means = {
        name: {"accuracy": statistics.mean(values(runs, name, "accuracy")) / 100, "ece": statistics.mean(values(runs, name, "ece"))}
        for name in (*WAYS, TEACHER)
    }  # fmt: skip
    shown = {way: means[way] for way in WAYS}
    plots.students(shown, means[TEACHER], kind[0].upper() + kind[1:]).savefig(REPORT.with_name(plot))
    lines = [
        f"## {kind[0].upper() + kind[1:]}",
        "",
        TOLD[kind],
        "",
        "| learns from | accuracy, % | calibration error | seconds of a core |",
        "|---|---|---|---|",
    ]
    for name in (*WAYS, TEACHER):
        seconds = statistics.mean(row["seconds"][name] for row in runs)
        lines.append(
            f"| {name} | {spread(values(runs, name, 'accuracy'))} | {spread(values(runs, name, 'ece'), 3)} "
            f"| {seconds:.0f} |"
        )
    return [*lines, "", f"![Accuracy and calibration error of every student]({plot})", ""]


TOLD = {
    DRAWN: f"{IMAGES:,} drawn reptiles to learn from, 50 of each of the 5 classes with a label; {TEST[DRAWN]:,} others to test "
    "on. The teacher is `net12.reptiles` of the library, and has seen none of these images.",
    REPTILES: f"{IMAGES:,} photographs of the superclass *reptiles* of CIFAR-100, 50 of each of the 5 classes with a label; the 500 "
    "test images to test on. The teacher is net12, fine-tuned on the same photographs with all labels: a seed's teacher has "
    "seen every image that its student learns from.",
    PHOTOGRAPHS: f"{IMAGES:,} photographs, 50 of each of the 10 classes with a label; {TEST[PHOTOGRAPHS]:,} test images. The "
    "teacher is net12 as it is. It was pretrained on all training images of CIFAR-10, so it has seen these.",
}


def report(runs: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Write the plots; return the text of the report, and claims that do not hold or were not measured."""
    by_kind = {kind: [row for row in runs if row["kind"] == kind] for kind in KINDS}
    seeds = len({row["seed"] for row in runs})
    lines = [
        "# Lab report: knowledge distillation",
        "",
        "What is a teacher worth to a network with a twentieth of its parameters? Means ± standard deviations over",
        f"{seeds} seeds. A seed draws the images or chooses them, chooses those that have a label, and draws the random weights. Students",
        f"are net5, from scratch, trained for {STEPS} steps of {BATCH} images with a learning rate of {RATE:g}, whatever they learn",
        f"from; with a teacher at temperature {TEMPERATURE:g} and with alpha = {ALPHA:g} (without any label: 1). {VIEWS} views of each image are made",
        "once, and the teacher answers for each of them. The functions are those of the lab's own solution. Written by",
        "`python -m bench.distillation_report`.",
        "",
    ]  # fmt: skip
    for kind, mine in by_kind.items():
        if len(mine) >= 2:
            lines += section(kind, mine)
    pictured = [row["logits"] for row in by_kind[REPTILES] if row["logits"]]
    if pictured:
        plot = f"{PLOTS}-reliability.png"
        shown = {way: (torch.tensor(one["logits"]), torch.tensor(one["labels"])) for way, one in pictured[0].items()}
        plots.reliability(
            shown, functions(ASSIGNMENT)["expected_calibration_error"], title="Photographs of reptiles, one seed"
        ).savefig(REPORT.with_name(plot))
        lines += [
            "## Confidence and accuracy",
            "",
            f"![Accuracy over confidence, without and with a teacher]({plot})",
            "",
        ]
    rows, failed = claims(by_kind[REPTILES])
    lines += ["## What was promised", "", "| on photographs of reptiles | wanted | measured |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n", failed


def claims(reptiles: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return one row of a table for each claim, and those that do not hold or were not measured."""

    def pairs(name: str, other: str, figure: str) -> list[tuple[float, float]]:
        return list(zip(values(reptiles, name, figure), values(reptiles, other, figure), strict=True))

    gain = f"| accuracy with {FEW} and a teacher, over {FEW} alone | at least {WANTED_GAIN:g} points |"
    ratio = f"| its calibration error, as a share of that of {FEW} alone | at most {WANTED_RATIO:g} |"
    if len(reptiles) < 2:
        rows = [f"{row} not measured |" for row in (gain, ratio)]
        return rows, rows
    gains = [taught - few for taught, few in pairs(TAUGHT, FEW, "accuracy")]
    ratios = [taught / few for taught, few in pairs(TAUGHT, FEW, "ece")]
    behind = [all_ - taught for all_, taught in pairs(ALL, TAUGHT, "accuracy")]
    found = [
        (f"{gain} {spread(gains)} points", statistics.mean(gains) >= WANTED_GAIN),
        (f"{ratio} {spread(ratios, 2)}", statistics.mean(ratios) <= WANTED_RATIO),
    ]
    rows = [f"{row}{'' if holds else ': does not hold'} |" for row, holds in found]
    failed = [row for row, (_, holds) in zip(rows, found, strict=True) if not holds]
    return [*rows, f"| accuracy with {ALL}, over the same student | no claim | {spread(behind)} points |"], failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photographs of reptiles with train/ and test/")
    parser.add_argument("--cifar10", type=Path, help="folder of photographs of CIFAR-10 with train/ and test/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2, to estimate a spread")
    folders = {
        kind: str(folder) for kind, folder in ((REPTILES, options.data), (PHOTOGRAPHS, options.cifar10)) if folder
    }
    text, failed = report(
        measured(
            partial(run, folders=folders),
            [DRAWN, *folders],
            options.seeds,
            options.jobs,
            RUNS,
            settings_digest(ASSIGNMENT, SETTINGS),
        )
    )
    REPORT.write_text(text, encoding="utf-8")
    print(text)
    for row in failed:
        print(f"does not hold, or was not measured: {row}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
