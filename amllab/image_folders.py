"""A folder of class images, ``folder/<class>/<image>``: its classes, a digest of its content, the images as tensors.

Images may have any size and colour mode. They are turned as their EXIF data say, scaled and centre-cropped to squares,
and converted to RGB. What has no single meaning, such as an animation or a link, is refused with a sentence that names
it.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from amllab.images import LabelledImages

SMALLEST, LARGEST = 16, 224  # pixels, of the side of the squares
CLASSES = 2, 100  # fewest and most
NEEDED = 5  # images of every class, of which one is for testing
MOST_BYTES = 1 << 28  # of all images in memory
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_IGNORED = ("thumbs.db", "desktop.ini")  # what file managers leave; hidden files are ignored too
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
_OF_16_BITS = 257  # 65,535 / 255


class FolderError(ValueError):
    """A folder of images that cannot be used; the message is one sentence that says what is wrong, and where."""


@dataclass(frozen=True)
class ClassFolder:
    """A folder of class images that can be used.

    Attributes:
        folder: The folder.
        classes: Names of the classes, sorted.
        files: Path and label of every image, copies left out. Within each class they are in the order of the digests of
            their contents, so that the names of files do not matter.
        digest: Digest of the classes' names and of the contents of all images.
        side: The shortest side of any image, in pixels, between 16 and 224.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]
    digest: str
    side: int

    @property
    def counts(self) -> list[int]:
        """Number of images of each class."""
        labels = [label for _, label in self.files]
        return [labels.count(label) for label in range(len(self.classes))]

    def read(self, side: int) -> LabelledImages:
        """Read all images as squares of this side."""
        import torch  # a process that only compares digests does not load it

        from amllab.images import LabelledImages

        images = torch.empty(len(self.files), 3, side, side, dtype=torch.uint8)
        for place, (file, _) in zip(images, self.files, strict=True):
            place.copy_(torch.from_numpy(_square(file, side)).permute(2, 0, 1))
        labels = torch.tensor([label for _, label in self.files])
        return LabelledImages(images, labels, self.classes, f"folder {self.folder.name}")


def digest_of(folder: Path) -> str:
    """Return :attr:`ClassFolder.digest` without looking at the images themselves.

    Raises:
        FolderError: The folder has another structure.
    """
    classes, files = _listed(folder)
    return _digest(classes, [(digest, label) for digest, _, label in files])


def class_folder(folder: Path) -> ClassFolder:
    """Look at every image of a folder.

    Raises:
        FolderError: The folder cannot be used.
    """
    classes, listed = _listed(folder)
    counts = [sum(label == own for _, _, label in listed) for own in range(len(classes))]
    for name, count in zip(classes, counts, strict=True):
        if count < NEEDED:
            number = "1 image" if count == 1 else f"{count} images"
            raise FolderError(f"{folder}: class {name!r} has {number}, but at least {NEEDED} are needed")
    seen: dict[str, tuple[Path, int]] = {}
    for digest, file, label in listed:
        if digest in seen and seen[digest][1] != label:
            other = seen[digest][0]
            raise FolderError(
                f"{folder}: {_name(folder, file)} and {_name(folder, other)} are the same image in two classes"
            )
        seen[digest] = file, label
    sides = {file: min(_size(folder, file)) for _, file, _ in listed}
    small = min(sides, key=lambda file: sides[file])
    if sides[small] < SMALLEST:
        raise FolderError(
            f"{folder}: {_name(folder, small)} is {sides[small]} pixels wide or high, but at least {SMALLEST} are needed"
        )
    side = min(sides[small], LARGEST)
    most = MOST_BYTES // (3 * side * side)
    if len(listed) > most:
        raise FolderError(
            f"{folder}: {len(listed)} images of {side} pixels are too many to hold in memory: use at most {most}, or smaller ones"
        )
    files = tuple((file, label) for _, file, label in listed)
    return ClassFolder(folder, classes, files, _digest(classes, [(d, label) for d, _, label in listed]), side)


def _listed(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, Path, int]]]:
    """Return the classes, and for each image the digest of its content, its path and its label, in order."""
    if not folder.is_dir():
        raise FolderError(f"there is no folder {folder}")
    places = [path for path in sorted(folder.iterdir()) if not _ignored(path)]
    for path in places:
        if path.is_symlink():
            raise FolderError(f"{folder}: {path.name} is a link: put the images themselves there")
    loose = [path for path in places if not path.is_dir()]
    classes = [path for path in places if path.is_dir()]
    if {path.name.lower() for path in classes} in ({"train", "test"}, {"train", "val"}, {"train", "val", "test"}):
        raise FolderError(
            f"{folder} is split into {', '.join(p.name for p in classes)}: put each class into one folder, the split is made for you"
        )
    if not classes:
        what = (
            "images, but no folder for each class" if any(_is_image(path) for path in loose) else "no folders of images"
        )
        raise FolderError(f"{folder} has {what}: the images belong to {folder.name}/<class>/<image>")
    if loose:
        raise FolderError(f"{folder}: {loose[0].name} is in no class: move or remove it")
    fewest, most = CLASSES
    if not fewest <= len(classes) <= most:
        raise FolderError(
            f"{folder} has {len(classes)} {'class' if len(classes) == 1 else 'classes'}, but {fewest} to {most} are needed"
        )
    found = []
    for label, place in enumerate(classes):
        files = [path for path in sorted(place.iterdir()) if not _ignored(path)]
        for file in files:
            if file.is_symlink():
                raise FolderError(f"{folder}: {_name(folder, file)} is a link: put the image itself there")
            if not file.is_file():
                raise FolderError(
                    f"{folder}: {_name(folder, file)} is a folder within a class: put its images into {place.name}"
                )
            if not _is_image(file):
                raise FolderError(f"{folder}: {_name(folder, file)} is no image: move or remove it")
        if not files:
            raise FolderError(f"{folder}: class {place.name!r} has no images")
        once = {_content(folder, file): file for file in files}  # a copy would be in training and in testing
        found += [(digest, file, label) for digest, file in sorted(once.items())]
    return tuple(place.name for place in classes), found


def _digest(classes: tuple[str, ...], contents: list[tuple[str, int]]) -> str:
    text = "\n".join(f"{classes[label]!r} {digest}" for digest, label in contents)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _IGNORED


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _name(folder: Path, file: Path) -> str:
    return ascii(str(file.relative_to(folder)))[1:-1] if not str(file).isprintable() else str(file.relative_to(folder))


def _content(folder: Path, file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise FolderError(f"{folder}: {_name(folder, file)} cannot be read: {error.strerror}") from None


def _size(folder: Path, file: Path) -> tuple[int, int]:
    """Decode an image, and return its width and height in pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if getattr(image, "n_frames", 1) > 1:
                    raise FolderError(f"{folder}: {_name(folder, file)} has several frames: save the one to use")
                if image.mode == "F":
                    raise FolderError(f"{folder}: {_name(folder, file)} has fractions for colours: save it with 8 bits")
                image.load()
                return image.size
    except FolderError:
        raise
    except Exception as error:  # Pillow's decoders raise exceptions of many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FolderError(
            f"{folder}: {_name(folder, file)} cannot be read as an image ({first}): repair or remove it"
        ) from None


def _square(file: Path, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an image as RGB values ``(side, side, 3)``."""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode in _SIXTEEN_BITS:  # Pillow's own conversion would clip everything above 255
        levels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((levels / _OF_16_BITS).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BILINEAR))
