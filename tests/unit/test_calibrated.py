"""An accuracy check that would cost everybody points is refused before anything is built or graded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from amllab.lab import Lab
from amllab.reptiles import REPTILES
from autograder.authoring.calibration import Calibration
from autograder.labs import settings
from autograder.labs.calibrated import accuracy_problems
from tests.conftest import ASSIGNMENT, autograder_cli, nbgrader, submit

CALIBRATE = f"run 'autograder calibrate {ASSIGNMENT}'"


def changed(lab: Lab, **accuracy: Any) -> Lab:
    """Return the lab with other settings of its accuracy check."""
    return replace(lab, settings={**lab.settings, "accuracy": {**lab.settings["accuracy"], **accuracy}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ten images to learn from and five to test, of as many classes as the check is for."""
    generator = torch.Generator().manual_seed(0)
    for part, number in (("train", 2), ("test", 1)):
        for name in REPTILES:
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(number):
                pixels = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(tmp_path / "images" / part / name / f"{i}.png")
    return tmp_path / "images"


def small(lab: Lab, folder: Path, **more: Any) -> Lab:
    """Return the lab with a budget for which there are enough images in the folder."""
    sizes = {"train_images": 6, "val_images": 4, "test_images": 5, "batch_size": 2}
    return changed(lab, data=str(folder), photographs={**sizes, **more})


def calibrated(lab: Lab, folder: Path, place: Path) -> Lab:
    """Return the lab with thresholds that were measured for its settings and its images."""
    calibration = Calibration(lab)
    evidence = {"thresholds": {"start": 0.2, "full": 0.5}, "budget": calibration.budget, "data": calibration.data}
    place.mkdir()
    (place / "thresholds.json").write_text(json.dumps({calibration.kind: evidence}))
    return replace(lab, folder=place)


def test_calibrated_as_shipped(lab: Lab) -> None:
    """The lab as shipped has thresholds for its settings."""
    assert accuracy_problems(lab) == []
    assert accuracy_problems(replace(lab, settings={})) == []


@pytest.mark.parametrize(
    ("accuracy", "named"),
    [
        ({"backbone": "net12"}, "backbone = 'net12'"),
        ({"backbone": "vit_tiny_patch16_224", "max_epochs": 4}, "backbone = 'vit_tiny_patch16_224', max_epochs = 4"),
        ({"learning_rates": [0.001]}, "learning_rates = [0.001]"),
        ({"n_trainable": 0}, "n_trainable = 0"),
        ({"test_images": 10**6}, "test_images = 1000000"),
    ],
)
def test_calibrated_for_another_budget(lab: Lab, accuracy: dict[str, Any], named: str) -> None:
    """A setting that no thresholds were measured for is named, with the command that measures them."""
    (problem,) = accuracy_problems(changed(lab, **accuracy))
    assert problem == f"transfer_learning/lab.toml: [accuracy]: no thresholds were measured for {named}: {CALIBRATE}"


def test_calibrated_without_thresholds(lab: Lab, tmp_path: Path) -> None:
    """A lab without thresholds is refused, too."""
    (problem,) = accuracy_problems(replace(lab, folder=tmp_path))
    assert "no thresholds were measured for backbone = 'net6', n_trainable = 3, " in problem


def test_calibrated_for_other_images(lab: Lab, folder: Path, tmp_path: Path) -> None:
    """Thresholds hold for the images that they were measured with, wherever these lie and whatever their names are."""
    mine = small(lab, folder)
    (problem,) = accuracy_problems(mine)
    assert f"no thresholds were measured for the images '{folder}', " in problem
    right = calibrated(mine, folder, tmp_path / "lab")
    assert accuracy_problems(right) == []
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    first = moved / "train" / REPTILES[0]
    (first / "0.png").rename(first / "z.png")
    assert accuracy_problems(replace(right, settings=small(lab, moved).settings)) == []
    # one pixel, two images with each other's class, an image of the test part in place of one to learn from
    crocodile, dinosaur = REPTILES[:2]
    pixels = Image.open(first / "1.png")
    pixels.putpixel((0, 0), (1, 2, 3))
    changes = {
        "pixel": [("train", crocodile, "1.png")],
        "classes": [("train", crocodile, "1.png"), ("train", dinosaur, "1.png")],
        "parts": [("train", crocodile, "1.png"), ("test", crocodile, "0.png")],
    }
    for name, files in changes.items():
        other = Path(shutil.copytree(moved, tmp_path / name))
        for file, source in zip(files, reversed(files), strict=True):
            shutil.copy(moved.joinpath(*source), other.joinpath(*file))
        if name == "pixel":
            pixels.save(other.joinpath(*files[0]))
        (problem,) = accuracy_problems(replace(right, settings=small(lab, other).settings))
        assert f"no thresholds were measured for the images '{other}': {CALIBRATE}" in problem


def test_calibrated_with_too_few_images(lab: Lab, folder: Path) -> None:
    """Too few images for the budget are counted in the message."""
    (problem,) = accuracy_problems(small(lab, folder, val_images=5))
    assert problem == (
        "transfer_learning/lab.toml: [accuracy]: the budget needs 11 images to learn from and 5 to test, and "
        f"'{folder}' has 10 and 5; add images, or lower the numbers in lab.toml and {CALIBRATE}"
    )
    assert "6 to test" in accuracy_problems(small(lab, folder, test_images=6))[0]
    for part in ("train", "test"):
        shutil.copytree(folder / part / REPTILES[0], folder / part / "sixth")
    assert "the check is for 5 classes, and the images " in accuracy_problems(small(lab, folder))[0]


def test_calibrated_without_images(lab: Lab, folder: Path) -> None:
    """Images that are not there or cannot be read are reported as such."""
    (problem,) = accuracy_problems(changed(lab, data=str(folder / "nowhere")))
    assert "there is no such folder" in problem
    (folder / "train" / REPTILES[0] / "0.png").write_bytes(b"no image")
    (problem,) = accuracy_problems(small(lab, folder))
    assert "cannot be read as an image" in problem


def test_build_and_autograde_refuse_uncalibrated(course: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither command does anything for a lab whose accuracy check would cost everybody points."""
    submit(course, "ada", b"Dear TA")
    release = course / "assignments" / ASSIGNMENT
    before = [path.stat().st_mtime_ns for path in release.iterdir()]
    monkeypatch.setattr(settings, "find_lab", lambda name: changed(lab, backbone="net12"))
    says = f"[accuracy]: no thresholds were measured for backbone = 'net12': {CALIBRATE}"
    built = autograder_cli(course, "build", ASSIGNMENT)
    assert built.returncode == 2
    assert says in built.stderr
    assert [path.stat().st_mtime_ns for path in release.iterdir()] == before
    graded = nbgrader(course, "autograde", ASSIGNMENT)
    assert graded.returncode == 1
    assert "Nothing was graded: " in graded.stderr
    assert says in graded.stderr
    assert not (course / "autograded").exists()
