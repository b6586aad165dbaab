"""How fast are random views of batches, compared to torchvision's views of single images? ``python -m bench.views``

Both make views of the same drawn species. Print images a second of one core and their ratio, then statistics of the
views of both: mean and standard deviation of each channel, the mean difference of neighbouring pixels, the share of
grey images, and the mean of the range between the channels of a pixel.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from amllab import draw_species
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.views import DISTORTED, HUE, JITTER, RATIO, RandomViews

BATCH = 128


def one_by_one(crop: tuple[float, float] = (0.3, 1.0)) -> Callable[[Tensor], Tensor]:
    """Return torchvision's transforms of the same views, applied to one image at a time."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=crop, ratio=(1 / RATIO, RATIO), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),  # first: changes of whole numbers would be rounded down
            v2.RandomApply([v2.ColorJitter(JITTER, JITTER, JITTER, HUE)], DISTORTED),
            v2.RandomGrayscale(0.2),
            v2.Normalize(CIFAR10_MEAN, CIFAR10_STD),
        ]
    )
    return lambda images: torch.stack([transform(image) for image in images])


def rate(views: Callable[[Tensor], Tensor], images: Tensor, repeats: int) -> float:
    """Return images a second of one core, the best of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        views(images)
        best = min(best, time.process_time() - began)
    return len(images) / best


def statistics(views: Tensor) -> dict[str, list[float]]:
    """Return figures that describe views, of images with values in [0, 1]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    x = views * std + mean
    between = x.amax(1) - x.amin(1)
    return {
        "mean of each channel": x.mean((0, 2, 3)).tolist(),
        "standard deviation": x.std((0, 2, 3)).tolist(),
        "neighbours' difference": [float((x[..., 1:] - x[..., :-1]).abs().mean())],
        "share of grey images": [float((between.flatten(1).amax(1) < 0.005).float().mean())],
        "range of the channels": [float(between.mean())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="of the timing, with batches of 128")
    parser.add_argument("--images", type=int, default=4000, help="for the statistics")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = draw_species(10, -(-arguments.images // 10), seed=0).images
    ways = {"batches (amllab.views)": RandomViews(), "one by one (torchvision)": one_by_one()}
    rates = {}
    for name, views in ways.items():
        rates[name] = rate(views, images[:BATCH], arguments.repeats)
        print(f"{name}: {rates[name]:.0f} images a second")
    fast, slow = rates.values()
    print(f"ratio: {fast / slow:.1f}\n")
    for name, views in ways.items():
        print(name)
        for what, values in statistics(torch.cat([views(part) for part in images.split(BATCH)])).items():
            print(f"  {what}: {', '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()
