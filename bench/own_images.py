"""Walk through data sets and backbones of an instructor's own: ``python -m bench.own_images --photographs FOLDER``

In a fresh copy of the course, each of four data sets is combined with two backbones: ``autograder use-data``,
``autograder use-backbone`` and ``autograder calibrate`` are run as an instructor runs them, then the solution and a
notebook that trains nothing are graded. The table says what was measured, or why the calibration refuses.

The data sets are drawn species, coloured shapes in five colour modes and several sizes, reptiles of 64 pixels as JPEG,
and, from FOLDER with a sub-folder for each class, photographs. Without FOLDER there are only three.

The backbones are net6, which is a convolutional network of the course, and ``test_vit``, a small transformer of timm
for images of 160 pixels. Its weights cannot be downloaded everywhere, so it is pretrained here for some minutes: on
SOURCE, a folder like FOLDER with other classes, or on 60 other drawn species.

Each row trains at least 90 times, with up to three learning rates each: it takes many minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.species import draw_species
from tests.conftest import ASSIGNMENT, NOTEBOOK
from tests.helpers.course_copy import CourseCopy
from tests.helpers.drawings import drawn_folder
from tests.helpers.notebooks import CORPUS, notebook_of

VIT, VIT_SIDE = "test_vit", 160
BACKBONES = ("net6", VIT)
UNTRAINED = "never_steps"  # of the corpus: a training without a step of the optimizer


def written(folder: Path, images: np.ndarray, labels: Sequence[int], names: Sequence[str], suffix: str) -> Path:
    """Write images ``(n, side, side, 3)`` into a folder for each class."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:05d}{suffix}")
    return folder


def pictures(images: Tensor) -> np.ndarray:
    """Return images ``(n, 3, side, side)`` with the colours last."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def data_sets(folder: Path, photographs: Path | None, per_class: int) -> dict[str, Path]:
    """Write the data sets, with so many photographs of each class, and return their folders by name."""
    species = draw_species(12, 40, seed=41)
    reptiles = draw_species(5, 80, seed=43, size=64)
    names = [f"species {i}" for i in range(12)]
    found = {
        "12 drawn species, 32 px, PNG": written(
            folder / "species", pictures(species.images), species.labels.tolist(), names, ".png"
        ),
        "5 drawn species, 64 px, JPEG": written(
            folder / "large", pictures(reptiles.images), reptiles.labels.tolist(), names, ".jpg"
        ),
        "12 coloured shapes, 64 to 120 px, five colour modes": drawn_folder(folder / "shapes", "twelve"),
    }
    if photographs is not None:
        place = folder / "photographs"
        for kind in sorted(path for path in photographs.iterdir() if path.is_dir()):
            (place / kind.name).mkdir(parents=True)
            for file in sorted(kind.iterdir())[:per_class]:
                shutil.copy(file, place / kind.name)
        found[f"photographs, {len(list(place.iterdir()))} classes"] = place
    return found


def source_images(source: Path | None) -> tuple[Tensor, Tensor]:
    """Return images, uint8 ``(n, 3, 32, 32)``, and labels of the task that the transformer is pretrained on."""
    if source is None:
        drawn = draw_species(60, 100, seed=47)
        return drawn.images, drawn.labels
    images, labels = [], []
    for label, kind in enumerate(sorted(path for path in source.iterdir() if path.is_dir())):
        for file in sorted(kind.iterdir())[:1200]:
            image = np.array(Image.open(file).convert("RGB").resize((32, 32)))
            images.append(torch.from_numpy(image).permute(2, 0, 1))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def pretrained_vit(file: Path, source: Path | None, epochs: int) -> float:
    """Pretrain the transformer, store its weights, and return its accuracy on images that were held out."""
    torch.manual_seed(0)
    images, labels = source_images(source)
    held_out = torch.arange(len(images)) % 10 == 0
    model = timm.create_model(VIT, num_classes=int(labels.max()) + 1)
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))

    def batch(rows: Tensor) -> Tensor:
        scaled = F.interpolate(images[rows].float() / 255, size=VIT_SIDE, mode="bilinear")
        return (scaled - mean) / std

    rows = (~held_out).nonzero()[:, 0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * (len(rows) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        order = rows[torch.randperm(len(rows))]
        for part in order.split(64)[: len(rows) // 64]:
            x = batch(part)
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(3))
            optimizer.zero_grad()
            F.cross_entropy(model(x), labels[part]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = [(model(batch(part)).argmax(1) == labels[part]).float() for part in held_out.nonzero()[:, 0].split(256)]
    model.reset_classifier(timm.get_pretrained_cfg(VIT).num_classes)  # what timm expects in a file of its weights
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return float(torch.cat(right).mean())


def command(course: CourseCopy, *words: str) -> tuple[int, str]:
    """Run a command of autograder in the course; return its status and what it printed."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(
        [course.python, "-m", "autograder", *words],
        cwd=course.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def points(course: CourseCopy, notebook: str) -> str:
    """Grade a notebook, and return the points of its accuracy check."""
    _, said = command(course, "grade", notebook, "--lab", ASSIGNMENT)
    found = re.search(r"^check_accuracy$.*?^(\S+ of \S+) points", said, re.M | re.S)
    return found[1] if found else said.strip().splitlines()[-1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of photographs, with a sub-folder for each class")
    parser.add_argument("--per-class", type=int, default=100, help="photographs of each class (default 100)")
    parser.add_argument("--source", type=Path, help="a folder of images to pretrain the transformer on")
    parser.add_argument("--epochs", type=int, default=15, help="of this pretraining (default 15)")
    parser.add_argument("--seeds", type=int, default=3, help="of the calibration (default 3)")
    parser.add_argument("--fresh", type=int, default=3, help="fresh runs of the calibration (default 3)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose data or backbone contain one of these texts"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="amllab-own-images-") as temporary:
        folder = Path(temporary)
        course = CourseCopy(folder)
        rows = [
            (name, images, backbone)
            for name, images in data_sets(folder, args.photographs, args.per_class).items()
            for backbone in BACKBONES
            if any(text in f"{name} {backbone}" for text in args.only)
        ]
        if any(backbone == VIT for _, _, backbone in rows):
            reached = pretrained_vit(
                course.root / "amllab" / "weights" / f"{VIT}.safetensors", args.source, args.epochs
            )
            print(f"{VIT}: {reached:.1%} on images of its own task that it has not seen\n", flush=True)
        release = nbformat.read(course.root / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
        (untrained,) = [solution for solution in CORPUS.wrong if solution.name == UNTRAINED]
        nbformat.write(notebook_of(untrained, release), course.root / "untrained.ipynb")
        print("| data | backbone | classes, side, training images | calibration | s | right | trains nothing |")
        print("|---|---|---|---|---|---|---|")
        for name, images, backbone in rows:
            print(row(course, name, images, backbone, args), flush=True)


def row(course: CourseCopy, name: str, images: Path, backbone: str, args: argparse.Namespace) -> str:
    """Choose images and backbone, calibrate, grade, and return a row of the table."""
    command(course, "use-backbone", ASSIGNMENT, "net6")
    for words in (("use-data", ASSIGNMENT, str(images)), ("use-backbone", ASSIGNMENT, backbone)):
        status, said = command(course, *words)
        if status:
            return f"| {name} | {backbone} | {said.strip().splitlines()[-1]} | | | | |"
    values = dict(re.findall(r"^\s*(\w+) = (.+)$", said, re.M))
    budget = f"{values['classes']}, {values['side']}, {values['train_images']}"
    began = time.perf_counter()
    numbers = ["--seeds", str(args.seeds), "--fresh", str(args.fresh), "--jobs", str(args.jobs)]
    status, said = command(course, "calibrate", ASSIGNMENT, *numbers)
    seconds = time.perf_counter() - began
    last = said.strip().splitlines()[-1].removeprefix("autograder: ")
    if status:
        return f"| {name} | {backbone} | {budget} | {last} | {seconds:.0f} | | |"
    found = re.search(r"points from .+ on, full points from [^\n;]+", said)
    graded = [points(course, notebook) for notebook in (f"solutions/{ASSIGNMENT}/{NOTEBOOK}", "untrained.ipynb")]
    return f"| {name} | {backbone} | {budget} | {found[0] if found else last} | {seconds:.0f} | {' | '.join(graded)} |"


if __name__ == "__main__":
    main()
