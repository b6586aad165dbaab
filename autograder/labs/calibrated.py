"""Whether the thresholds of a lab's accuracy check were measured for its settings and its images.

Under other ones, the check would break or judge everybody by numbers that say nothing, and the reference too.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from typing import Any

from amllab.lab import Lab
from autograder.labs.locations import HIDDEN_CHECKS

_DRAWN = "drawn"  # images that the library draws, as many as are asked for


def accuracy_problems(lab: Lab) -> list[str]:
    """Return why the accuracy check of a lab would cost everybody points; empty if it would not.

    The check cannot be passed if there are too few images, and means nothing if its thresholds were not measured with
    this budget and these images.
    """
    if "accuracy" not in lab.settings or not (HIDDEN_CHECKS / lab.name / "calibration.py").is_file():
        return []
    module: Any = importlib.import_module(f"autograder.checks.{lab.name}.calibration")
    budget, data = module.budget(lab), lab.settings["accuracy"]["data"]
    evidence = _evidence(lab).get(module.kind(lab), {})
    measured = evidence.get("budget", {})
    different = [f"{name} = {budget[name]!r}" for name in budget if measured.get(name) != budget[name]]
    different += [f"no {name}" for name in measured.keys() - budget.keys()]
    again = f"run 'autograder calibrate {lab.assignment}'"
    where = f"{lab.name}/lab.toml: [accuracy]"
    if data != _DRAWN:
        try:
            images = Images(data)
        except (OSError, ValueError, RuntimeError) as error:
            return [f"{where}: the images {data!r} cannot be used: {error}"]
        if few := images.too_few(budget):
            return [f"{where}: {few}; add images, or lower the numbers in lab.toml and {again}"]
        if evidence.get("data") != images.digest:
            different.insert(0, f"the images {data!r}")
    if different:
        return [f"{where}: no thresholds were measured for {', '.join(different)}: {again}"]
    return []


def _evidence(lab: Lab) -> dict[str, Any]:
    file = lab.folder / "thresholds.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


class Images:
    """The images that ``data`` of ``[accuracy]`` names, other than those that the library draws.

    Attributes:
        data: The name, as in the settings.
        numbers: Number of images to learn from, and of images to test.
        classes: Number of classes.
        digest: Digest of the images with their classes, whatever their files are called and in whatever order they are.
    """

    def __init__(self, data: str) -> None:
        """Read the images.

        Raises:
            OSError, ValueError, RuntimeError: The images are not there or cannot be read.
        """
        from amllab.reptiles import reptile_arrays  # loads PyTorch

        learning, test = (reptile_arrays(part, os.path.expanduser(data)) for part in ("train", "test"))
        self.data, self.numbers, self.classes = data, (len(learning), len(test)), len(learning.classes)
        digests = [
            [part.classes[label], hashlib.sha256(image.numpy().tobytes()).hexdigest(), *image.shape]
            for part in (learning, test)
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        ]
        split = [sorted(digests[: len(learning)]), sorted(digests[len(learning) :])]
        self.digest = hashlib.sha256(json.dumps(split).encode()).hexdigest()

    def too_few(self, budget: dict[str, Any]) -> str:
        """Return what a budget needs that is not there; empty if there is enough."""
        from amllab.synthetic_images import CLASSES

        wanted = budget["train_images"] + budget["val_images"], budget["test_images"]
        if self.classes != len(CLASSES):
            return f"the check is for {len(CLASSES)} classes, and the images {self.data!r} have {self.classes}"
        if any(has < needs for has, needs in zip(self.numbers, wanted, strict=True)):
            return (
                f"the budget needs {wanted[0]} images to learn from and {wanted[1]} to test, and {self.data!r} has "
                f"{self.numbers[0]} and {self.numbers[1]}"
            )
        return ""


def digest_of_images(lab: Lab) -> str | None:
    """Return the digest of the images of the accuracy check; ``None`` if the library draws them."""
    data = lab.settings["accuracy"]["data"]
    return None if data == _DRAWN else Images(data).digest
