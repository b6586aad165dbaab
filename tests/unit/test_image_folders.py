"""Folders of class images: usable ones are read in any format; for others, the error is one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amllab.image_folders import FolderError, class_folder, digest_of

SIDE = 20


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def two_classes(folder: Path, n: int = 6) -> Path:
    for number, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            picture(100 * number + i).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "images")


def test_folder_is_read(images: Path) -> None:
    """Classes, sizes and labels come from the folder; the images are as they were saved."""
    found = class_folder(images)
    assert (found.classes, found.counts, found.side) == (("cats", "dogs"), [6, 6], SIDE)
    data = found.read(SIDE)
    assert data.images.shape == (12, 3, SIDE, SIDE)
    assert data.labels.tolist() == [0] * 6 + [1] * 6
    saved = {np.asarray(picture(seed)).tobytes() for seed in (*range(6), *range(100, 106))}
    assert {image.permute(1, 2, 0).numpy().tobytes() for image in data.images} == saved


def test_folder_digest_is_of_the_content(images: Path, tmp_path: Path) -> None:
    """Digest and order depend on classes and contents, not on file names, copies or hidden files."""
    found = class_folder(images)
    before = found.read(SIDE).images
    assert digest_of(images) == found.digest
    (images / "cats" / "0.png").rename(images / "cats" / "zebra.png")
    shutil.copy(images / "cats" / "1.png", images / "cats" / "copy.png")
    (images / ".DS_Store").write_text("")
    (images / "cats" / "Thumbs.db").write_text("")
    again = class_folder(images)
    assert again.digest == found.digest
    assert torch.equal(again.read(SIDE).images, before)
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    assert digest_of(moved) == found.digest
    picture(7).save(images / "cats" / "1.png")
    (images / "cats" / "copy.png").unlink()
    assert digest_of(images) != found.digest
    (moved / "cats").rename(moved / "kittens")
    assert digest_of(moved) != found.digest


def test_folder_of_mixed_sizes(images: Path) -> None:
    """The shortest side sets the size; other shapes are scaled and cropped in the middle."""
    wide = np.zeros((30, 90, 3), dtype=np.uint8)
    wide[:, 30:60] = 200
    Image.fromarray(wide).save(images / "cats" / "wide.png")
    found = class_folder(images)
    assert found.side == SIDE
    data = found.read(SIDE)
    place = [file.name for file, _ in found.files].index("wide.png")
    assert data.images[place, :, :, 2:-2].min() > 190


def _grey(path: Path) -> int:
    Image.new("L", (SIDE, SIDE), 77).save(path.with_suffix(".png"))
    return 77


def _sixteen_bits(path: Path) -> int:
    Image.fromarray(np.full((SIDE, SIDE), 77 * 257, dtype=np.uint16)).save(path.with_suffix(".png"))
    return 77


def _palette(path: Path) -> int:
    Image.new("RGB", (SIDE, SIDE), (77, 77, 77)).quantize(4).save(path.with_suffix(".gif"))
    return 77


def _transparent(path: Path) -> int:
    Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)).save(path.with_suffix(".png"))
    return 255


def _cmyk(path: Path) -> int:
    Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 255 - 77)).save(path.with_suffix(".jpg"), quality=100)
    return 77


def _bilevel(path: Path) -> int:
    Image.new("1", (SIDE, SIDE), 1).save(path.with_suffix(".png"))
    return 255


@pytest.mark.parametrize("save", [_grey, _sixteen_bits, _palette, _transparent, _cmyk, _bilevel])
def test_folder_of_any_mode(images: Path, save: Callable[[Path], int]) -> None:
    """Images of any colour mode become RGB with the levels that they show."""
    level = save(images / "cats" / "other")
    found = class_folder(images)
    place = [file.stem for file, _ in found.files].index("other")
    assert (found.read(SIDE).images[place].float() - level).abs().max() <= 4


def test_folder_rotated_images(images: Path) -> None:
    """A photograph whose file only stores a rotation is rotated."""
    values = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    values[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right
    Image.fromarray(values).save(images / "cats" / "turned.png", exif=exif)
    found = class_folder(images)
    place = [file.stem for file, _ in found.files].index("turned")
    image = found.read(SIDE).images[place]
    assert image[:, :, -4:].min() == 255
    assert image[:, :, :-4].max() == 0


def test_folder_names_outside_ascii(tmp_path: Path) -> None:
    """Names of classes and files may have any letters, spaces and quotes."""
    images = two_classes(tmp_path / "Bilder – 图片")
    (images / "cats").rename(images / "Kätzchen 'klein'")
    (images / "dogs" / "0.png").rename(images / "dogs" / "狗 🐕.png")
    found = class_folder(images)
    assert found.classes == ("Kätzchen 'klein'", "dogs")
    assert len(found.read(SIDE)) == 12


def _remove_class(folder: Path) -> None:
    shutil.rmtree(folder / "dogs")


def _empty(folder: Path) -> None:
    for name in ("cats", "dogs"):
        shutil.rmtree(folder / name)


def _only_images(folder: Path) -> None:
    _empty(folder)
    picture(1).save(folder / "a.png")


def _animated(folder: Path) -> None:
    frames = [picture(seed).quantize(8) for seed in (1, 2)]
    frames[0].save(folder / "cats" / "moves.gif", save_all=True, append_images=frames[1:])


def _split(folder: Path) -> None:
    for name in ("train", "test"):
        shutil.copytree(folder / "cats", folder / name / "cats")
    for name in ("cats", "dogs"):
        shutil.rmtree(folder / name)


def _truncated(folder: Path) -> None:
    file = folder / "cats" / "1.png"
    file.write_bytes(file.read_bytes()[:300])


def _many(folder: Path) -> None:
    for i in range(100):
        shutil.copytree(folder / "cats", folder / f"c{i}")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (_empty, "has no folders of images: the images belong to images/<class>/<image>"),
    "no class": (_only_images, "has images, but no folder for each class: the images belong to"),
    "one class": (_remove_class, "has 1 class, but 2 to 100 are needed"),
    "too many classes": (_many, "has 102 classes, but 2 to 100 are needed"),
    "an empty class": (lambda f: (f / "none").mkdir(), "class 'none' has no images"),
    "few images": (
        lambda f: [(f / "cats" / f"{i}.png").unlink() for i in range(2)],
        "class 'cats' has 4 images, but at least 5 are needed",
    ),
    "no image": (lambda f: (f / "cats" / "a.png").write_text("a"), "cats/a.png cannot be read as an image"),
    "part of an image": (_truncated, "cats/1.png cannot be read as an image"),
    "another file": (
        lambda f: (f / "cats" / "notes.txt").write_text("a"),
        "cats/notes.txt is no image: move or remove it",
    ),
    "a loose file": (lambda f: picture(1).save(f / "a.png"), "a.png is in no class: move or remove it"),
    "nested": (
        lambda f: (f / "cats" / "more").mkdir(),
        "cats/more is a folder within a class: put its images into cats",
    ),
    "a linked image": (lambda f: os.symlink(f / "dogs" / "1.png", f / "cats" / "l.png"), "cats/l.png is a link"),
    "a linked class": (
        lambda f: os.symlink(f / "dogs", f / "birds"),
        "birds is a link: put the images themselves there",
    ),
    "a split": (_split, "is split into test, train: put each class into one folder, the split is made for you"),
    "an animation": (_animated, "cats/moves.gif has several frames: save the one to use"),
    "two labels": (
        lambda f: shutil.copy(f / "dogs" / "1.png", f / "cats" / "x.png"),
        "dogs/1.png and cats/x.png are the same image in two classes",
    ),
    "tiny": (
        lambda f: picture(1, (40, 15)).save(f / "cats" / "s.png"),
        "cats/s.png is 15 pixels wide or high, but at least 16",
    ),
    "fractions": (
        lambda f: Image.new("F", (SIDE, SIDE), 0.5).save(f / "cats" / "f.tiff"),
        "cats/f.tiff has fractions for colours: save it with 8 bits",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_folder_that_cannot_be_used(images: Path, name: str) -> None:
    """Each fault of a folder is one sentence with the name of what is wrong."""
    spoil, message = BAD[name]
    spoil(images)
    with pytest.raises(FolderError) as error:
        class_folder(images)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_that_is_missing(tmp_path: Path) -> None:
    """A missing folder is reported by name."""
    with pytest.raises(FolderError, match="there is no folder"):
        class_folder(tmp_path / "none")


def test_folder_too_large_for_memory(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many images for the memory are refused; the error says how many are possible."""
    monkeypatch.setattr("amllab.image_folders.MOST_BYTES", 11 * 3 * SIDE * SIDE)
    with pytest.raises(FolderError, match="12 images of 20 pixels are too many to hold in memory: use at most 11"):
        class_folder(images)
