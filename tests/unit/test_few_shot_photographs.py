"""Photographs of CIFAR-FS: the split by class, where they are found, and the errors if they are missing."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from amllab import DataUnavailable, cifar_fs
from amllab.few_shot_photographs import TEST, VALIDATION
from tests.helpers.cifar_files import write_cifar

# CIFAR-100's classes by superclass, as its home page lists them; the files have them in alphabetical order
SUPERCLASSES = """
beaver dolphin otter seal whale
aquarium_fish flatfish ray shark trout
orchid poppy rose sunflower tulip
bottle bowl can cup plate
apple mushroom orange pear sweet_pepper
clock keyboard lamp telephone television
bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach
bear leopard lion tiger wolf
bridge castle house road skyscraper
cloud forest mountain plain sea
camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk
crab lobster snail spider worm
baby boy girl man woman
crocodile dinosaur lizard snake turtle
hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree
bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor
"""
NAMES = sorted(SUPERCLASSES.split())
SIZES = {"train": 64, "validation": 16, "test": 20}
EACH = {"train": 3, "test": 2}  # images of a class in the small CIFAR-100 of these tests


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and no data."""

    def unreachable(*_args: Any, **_kwargs: Any) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMLLAB_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


def write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a small CIFAR-100: red is the number of the class, green that of the image, blue 1 for test images."""
    contents: dict[str, dict[str, Any]] = {"meta": {"fine_label_names": NAMES}}
    for part, each in EACH.items():
        labels = list(range(100)) * each
        pixels = np.empty((100 * each, 3, 1024), np.uint8)
        pixels[:, 0], pixels[:, 1], pixels[:, 2] = (
            np.asarray(values)[:, None]
            for values in (labels, np.arange(100 * each) // 100, [part == "test"] * 100 * each)
        )
        contents[part] = {"data": pixels.reshape(100 * each, -1), "fine_labels": labels}
    write_cifar(CIFAR100, root, contents, monkeypatch, ("train", "test", "meta"))


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data", monkeypatch)


def check_parts(parts: dict[str, Any]) -> None:
    """Check that each part has all images of its own classes, class by class."""
    assert {name: len(part.classes) for name, part in parts.items()} == SIZES
    assert sorted(name for part in parts.values() for name in part.classes) == NAMES
    for part in parts.values():
        assert list(part.classes) == sorted(part.classes)
        assert part.images.shape == (5 * len(part.classes), 3, 32, 32)
        assert part.images.dtype == torch.uint8
        assert part.images.is_contiguous()
        assert torch.equal(part.labels, torch.arange(len(part.classes)).repeat_interleave(5))
        red, green, blue = part.images[:, :, 0, 0].unbind(1)
        assert [NAMES[number] for number in red.tolist()] == [part.classes[label] for label in part.labels.tolist()]
        assert list(zip(green.tolist(), blue.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)] * len(
            part.classes
        )


@pytest.mark.usefixtures("on_disk")
def test_parts() -> None:
    """The parts share no class, and have the training and the test images of CIFAR-100."""
    parts = cifar_fs()
    check_parts(parts)
    assert parts["validation"].source == "CIFAR-FS, CIFAR-100"


def test_split_is_the_published_one() -> None:
    """The split has classes of all but a few superclasses in training, as published, and names of CIFAR-100 only."""
    held_out = {*VALIDATION, *TEST}
    assert len(VALIDATION) == 16
    assert len(TEST) == 20
    assert len(held_out) == 36
    assert held_out < {*NAMES}
    left = [len({*line.split()} - held_out) for line in SUPERCLASSES.split("\n") if line]
    assert left == [2, 3, 3, 5, 4, 2, 2, 3, 4, 5, 3, 2, 4, 2, 2, 4, 5, 4, 2, 3]


def test_folder_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument or `AMLLAB_DATA` names the folder where CIFAR-100 lies."""
    write(tmp_path / "elsewhere", monkeypatch)
    check_parts(cifar_fs(tmp_path / "elsewhere"))
    monkeypatch.setenv("AMLLAB_DATA", str(tmp_path / "elsewhere"))
    check_parts(cifar_fs())


def write_images(folder: Path, names: list[str], each: int, blue: int = 0) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (32, 32), (NAMES.index(name), number, blue)).save(folder / name / f"{number}.png")


def test_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images by class name is split in the same way."""
    for blue, (part, each) in enumerate(EACH.items()):
        write_images(tmp_path / "images" / part, NAMES, each, blue)
    monkeypatch.setenv("AMLLAB_DATA", str(tmp_path / "images"))
    parts = cifar_fs()
    check_parts(parts)
    assert parts["test"].source == "CIFAR-FS, folder images"


def test_data_of_other_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn data, or a folder of other images, contains no photographs of CIFAR-FS."""
    write_images(tmp_path / "reptiles", ["crocodile", "dinosaur", "lizard", "snake", "turtle"], 5)
    for name, error, message in (
        ("drawn", DataUnavailable, "AMLLAB_DATA=drawn: no photographs are loaded"),
        (
            str(tmp_path / "reptiles"),
            DataUnavailable,
            "reptiles: the 100 classes .* 5 classes; it lacks baby, beaver, bed ",
        ),
        (str(tmp_path / "missing"), FileNotFoundError, "there is no such folder"),
    ):
        monkeypatch.setenv("AMLLAB_DATA", name)
        with pytest.raises(error, match=message):
            cifar_fs()


@pytest.mark.parametrize("name", ["", "auto", "cifar100"])
def test_missing_data_is_explained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error gives the reason and two ways out; once unpacked, the data are found in the same process."""
    monkeypatch.setenv("AMLLAB_DATA", name)
    with pytest.raises(
        DataUnavailable, match=r"no network in tests.*Connect.*unpack cifar-100-python\.tar\.gz in data/"
    ):
        cifar_fs()
    write(Path("data"), monkeypatch)
    check_parts(cifar_fs())


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_damaged_data_is_explained(file: str) -> None:
    """Files that are not whole count as missing."""
    path = Path("data", CIFAR100.base_folder, file)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataUnavailable, match=r"could not be downloaded"):
        cifar_fs()
    with pytest.raises(DataUnavailable, match=r"cifar-100-python is not whole"):
        cifar_fs("data")


@pytest.mark.parametrize("name", ["cifar-100-binary", "cifar-100-matlab", "cifar-100-python.tar.gz"])
def test_other_versions_are_explained(tmp_path: Path, name: str) -> None:
    """Versions for other programs, and an archive that is not unpacked, end in a message that names the right file."""
    (tmp_path / name).touch()
    with pytest.raises(DataUnavailable, match=rf"{name} cannot be read. Unpack cifar-100-python.tar.gz there"):
        cifar_fs(tmp_path)
