"""Small files in the format in which torchvision stores CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import CIFAR10


def write_cifar(
    dataset: type[CIFAR10],
    root: Path,
    contents: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, str, str],
) -> None:
    """Write pickled dictionaries, and let torchvision expect the checksums of these files.

    Args:
        dataset: ``CIFAR10`` or ``CIFAR100``.
        root: Folder that the data set is loaded from.
        contents: By the name of a file, what it contains.
        monkeypatch: Restores the checksums after the test.
        names: Names of the file with the training images, with the test images, and with the classes.
    """
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    sums = {}
    for name, content in contents.items():
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        sums[name] = hashlib.md5(raw).hexdigest()
    train, test, meta = names
    monkeypatch.setattr(dataset, "train_list", [[train, sums[train]]])
    monkeypatch.setattr(dataset, "test_list", [[test, sums[test]]])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": sums[meta]})
