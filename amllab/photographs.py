"""Photographs of CIFAR-10, for pretraining without labels.

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images* (2009).
"""

from __future__ import annotations

import os
from functools import cache
from numbers import Integral

import torch
from torchvision.datasets import CIFAR10

from amllab.downloads import ROOT, VARIABLE, DataUnavailable, problem_with
from amllab.images import LabelledImages, downloaded_cifar10, labelled_subset
from amllab.reptiles import reptile_arrays

CLASSES, SIDE = 10, 32


def cifar10_photographs(n: int = 5000, n_test: int = 1000, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """Return some training images and some test images of CIFAR-10, equally many of each of its ten classes.

    The data set is downloaded into ``data/`` if it is not there yet (170 MB). If the environment variable
    ``AMLLAB_DATA`` names a folder, its images ``train/<class>/<image>`` and ``test/<class>/<image>`` are taken in their
    place; with ``drawn``, there are no photographs. Labels come along to measure features with; pretraining does not
    look at them.

    Args:
        n: number of training images, a multiple of 10 from 10 to 50,000.
        n_test: number of test images, a multiple of 10 from 10 to 10,000.
        seed: seed of the choice.

    Returns:
        The training and the test images, uint8 ``(n, 3, 32, 32)``, in random order.

    Raises:
        DataUnavailable: CIFAR-10 is not on this machine and cannot be downloaded, or ``AMLLAB_DATA`` names no
            photographs of ten classes.
        FileNotFoundError: ``AMLLAB_DATA`` names no folder, or a class has no images.
        ValueError: a number is not one of those above, or is more than the images of a class in the folder; or the
            folder cannot be used (see :func:`amllab.reptiles.reptile_arrays`).
    """
    for name, number, most in (("n", n, 50_000), ("n_test", n_test, 10_000)):
        if not isinstance(number, Integral) or number % 10 or not 10 <= number <= most:
            raise ValueError(f"{name} must be a multiple of 10 from 10 to {most:,}, not {number!r}")
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for train, number in ((True, n), (False, n_test)):
        everything = _part(train, os.environ.get(VARIABLE, ""))
        index = labelled_subset(everything.labels, number // 10, generator)
        parts.append(everything.subset(index[torch.randperm(len(index), generator=generator)]))
    return parts[0], parts[1]


@cache
def _part(train: bool, source: str) -> LabelledImages:
    """Return all training or all test images."""
    if source == "drawn":
        raise DataUnavailable(f"{VARIABLE}=drawn: no photographs are loaded.")
    if source not in ("", "auto", "cifar100"):  # the last is for lab 1
        data = reptile_arrays("train" if train else "test", image_size=SIDE)
        if len(data.classes) != CLASSES:
            raise DataUnavailable(
                f"{VARIABLE}={source}: photographs of {CLASSES} classes are needed here, and this folder has {len(data.classes)} "
                f"classes. Unset {VARIABLE} to download CIFAR-10, or name a folder with train/<class>/<image> and test/<class>/<image>."
            )
        return data
    if (problem := problem_with(CIFAR10)) is not None:
        raise DataUnavailable(
            f"CIFAR-10 is not in {ROOT}/ and could not be downloaded ({problem}). Connect to the internet and try "
            f"again, or unpack cifar-10-python.tar.gz in {ROOT}/."
        )
    return downloaded_cifar10(ROOT, train=train)
