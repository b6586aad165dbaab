"""Photographs of CIFAR-10: how they are chosen, and the error if they are missing."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from amllab import DataUnavailable, cifar10_photographs, photographs
from tests.helpers.cifar_files import write_cifar


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and no data."""

    def unreachable(*_args: Any, **_kwargs: Any) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMLLAB_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    photographs._part.cache_clear()


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small CIFAR-10 in its format on disk; the value of an image's pixels is its number."""
    contents: dict[str, dict[str, Any]] = {"batches.meta": {"label_names": [f"class{i}" for i in range(10)]}}
    for part, each in (("data_batch_1", 8), ("test_batch", 4)):
        pixels = np.repeat(np.arange(10 * each, dtype=np.uint8)[:, None], 3072, axis=1)
        contents[part] = {"data": pixels, "labels": list(range(10)) * each}
    names = ("data_batch_1", "test_batch", "batches.meta")
    write_cifar(CIFAR10, tmp_path / "data", contents, monkeypatch, names)


@pytest.mark.usefixtures("on_disk")
def test_equally_many_of_each_class() -> None:
    """Each class has its share, no image is repeated, and classes are mixed."""
    train, test = cifar10_photographs(50, 20)
    for part, each in ((train, 5), (test, 2)):
        assert part.images.shape == (10 * each, 3, 32, 32)
        assert torch.bincount(part.labels).tolist() == [each] * 10
        numbers = part.images[:, 0, 0, 0]
        assert len(numbers.unique()) == len(numbers)
        assert torch.equal(numbers % 10, part.labels)
        assert not torch.equal(part.labels, part.labels.sort().values)


@pytest.mark.usefixtures("on_disk")
def test_seed_determines_the_images() -> None:
    """The same seed gives the same images, another seed others."""
    first, again, other = (cifar10_photographs(50, 20, seed)[0].images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_missing_data_is_explained() -> None:
    """The error gives the reason and two ways out."""
    with pytest.raises(
        DataUnavailable, match=r"no network in tests.*Connect.*unpack cifar-10-python\.tar\.gz in data/"
    ):
        cifar10_photographs()


@pytest.mark.usefixtures("on_disk")
def test_own_images_are_no_photographs_of_cifar10() -> None:
    """A folder ``data/train`` of a student's own images does not replace CIFAR-10."""
    for name in ("apple", "pear"):
        folder = Path("data", "train", name)
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(folder / "0.png")
    assert cifar10_photographs(50, 20)[0].source == "CIFAR-10"


def test_unpacked_after_an_error(request: pytest.FixtureRequest) -> None:
    """In the same process, the data are found once they have been unpacked, as the error advises."""
    with pytest.raises(DataUnavailable):
        cifar10_photographs(50, 20)
    request.getfixturevalue("on_disk")
    assert len(cifar10_photographs(50, 20)[0]) == 50


@pytest.mark.parametrize("damage", ["truncated", "missing", "a file for the folder"])
def test_damaged_data_is_explained(request: pytest.FixtureRequest, damage: str) -> None:
    """Files that are not whole count as missing."""
    if damage == "a file for the folder":
        Path("data").write_bytes(b"")
    else:
        request.getfixturevalue("on_disk")
        file = Path("data", CIFAR10.base_folder, "test_batch")
        file.write_bytes(file.read_bytes()[:100]) if damage == "truncated" else file.unlink()
    with pytest.raises(DataUnavailable, match=r"could not be downloaded"):
        cifar10_photographs(50, 20)


@pytest.mark.parametrize(
    ("n", "n_test", "name"),
    [(5, 10, "n"), (15, 10, "n"), (0, 10, "n"), (10, 20_000, "n_test"), (50.0, 10, "n"), ("50", 10, "n")],
)
def test_numbers_outside_the_range(n: Any, n_test: int, name: str) -> None:
    """A number that cannot be divided among the classes is refused before anything is downloaded."""
    with pytest.raises(ValueError, match=rf"^{name} must be a multiple of 10"):
        cifar10_photographs(n, n_test)


def test_numpy_numbers_of_images(on_disk: None) -> None:
    """Numbers of NumPy are numbers."""
    train, test = cifar10_photographs(np.int64(50), np.int32(20))
    assert (len(train), len(test)) == (50, 20)


def write_classes(folder: Path, classes: int, each: int = 3) -> Path:
    """Write images of some classes, whose red channel tells the class."""
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (40, 32), (20 * label, number, 0)).save(folder / f"class{label}" / f"{number}.png")
    return folder


def test_photographs_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AMLLAB_DATA` names a folder of photographs, with or without a test part."""
    write_classes(tmp_path / "both" / "train", 10)
    write_classes(tmp_path / "both" / "test", 10, each=2)
    write_classes(tmp_path / "one", 10, each=10)
    for name in ("both", "one"):
        monkeypatch.setenv("AMLLAB_DATA", str(tmp_path / name))
        train, test = cifar10_photographs(20, 10)
        assert (train.images.shape, test.images.shape) == ((20, 3, 32, 32), (10, 3, 32, 32))
        for part in (train, test):
            assert torch.equal(part.images[:, 0, 0, 0] // 20, part.labels.byte())


def test_photographs_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is wrong with the images that `AMLLAB_DATA` names."""
    write_classes(tmp_path / "five", 5)
    for part, classes in (("train", 10), ("test", 9)):
        write_classes(tmp_path / "different" / part, classes)
    write_classes(tmp_path / "few", 10)
    for name, error, message in (
        ("drawn", DataUnavailable, "AMLLAB_DATA=drawn: no photographs"),
        (str(tmp_path / "five"), DataUnavailable, "10 classes are needed here, and this folder has 5 classes"),
        (str(tmp_path / "different"), ValueError, "train/ and test/ need the same classes"),
        (str(tmp_path / "few"), ValueError, "class 0 has 2 examples, but 5 are needed"),
        (str(tmp_path / "missing"), FileNotFoundError, "AMLLAB_DATA=.*there is no such folder"),
        (str(tmp_path / "empty"), ValueError, "needs a sub-folder of images for each of at least 2 classes"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        monkeypatch.setenv("AMLLAB_DATA", name)
        with pytest.raises(error, match=message):
            cifar10_photographs(50, 10)
