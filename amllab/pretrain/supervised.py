"""Pretraining on the labelled images of CIFAR-10.

Training uses SGD with Nesterov momentum, linear warm-up and linear decay, label smoothing, random crop, flip and
cutout.

Sources: Page, *How to Train Your ResNet* (2018); Jordan, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU* (2024), for
the flip that alternates between epochs; DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks
with Cutout* (2017).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from amllab.images import LabelledImages, cifar10
from amllab.numerics import autocast_dtype, best_device, fast_math
from amllab.pretrain.checkpoints import load_checkpoint, save_checkpoint
from amllab.views import normalise


@dataclass(frozen=True)
class Recipe:
    """The settings that determine a training run.

    Attributes:
        model: name of the backbone.
        epochs: number of epochs.
        batch_size: number of images in a batch.
        lr: peak learning rate.
        momentum: Nesterov momentum.
        weight_decay: weight decay of weights; biases and normalisation parameters have none.
        label_smoothing: label smoothing of the cross-entropy.
        warmup: share of all steps in which the learning rate rises.
        pad: largest shift of the random crop, in pixels.
        cutout: side length of the square that is cut out, in pixels.
        seed: seed of weights, order and augmentation.
    """

    model: str
    epochs: int = 26
    batch_size: int = 256
    lr: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup: float = 0.2
    pad: int = 4
    cutout: int = 8
    seed: int = 0


def random_crop(images: Tensor, pad: int) -> Tensor:
    """Shift each image by up to ``pad`` pixels in both directions, with a reflected border."""
    n, _, h, w = images.shape
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect").permute(0, 2, 3, 1)
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1, 1), device=images.device)
    rows = top + torch.arange(h, device=images.device).view(1, h, 1)
    columns = left + torch.arange(w, device=images.device).view(1, 1, w)
    image = torch.arange(n, device=images.device).view(n, 1, 1)
    return padded[image, rows, columns].permute(0, 3, 1, 2)


def cutout(images: Tensor, size: int) -> Tensor:
    """Set a random square of ``size`` x ``size`` pixels of each normalised image to zero, the mean colour."""
    n, _, h, w = images.shape
    top = torch.randint(0, h - size + 1, (n, 1, 1), device=images.device)
    left = torch.randint(0, w - size + 1, (n, 1, 1), device=images.device)
    row = torch.arange(h, device=images.device).view(1, h, 1)
    column = torch.arange(w, device=images.device).view(1, 1, w)
    hole = (row >= top) & (row < top + size) & (column >= left) & (column < left + size)
    return images.masked_fill(hole.unsqueeze(1), 0.0)


def training_batches(data: LabelledImages, recipe: Recipe, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of augmented batches, determined only by the seed and the epoch.

    Each image is flipped in every second epoch, half of the images in the even ones, so that the network sees both
    views equally often.
    """
    torch.manual_seed(recipe.seed * 1_000_003 + epoch)
    flip_first = torch.rand(len(data), generator=torch.Generator().manual_seed(recipe.seed)) < 0.5
    flipped = flip_first ^ bool(epoch % 2)
    order = torch.randperm(len(data))
    for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(recipe.batch_size):
        images = random_crop(data.images[index], recipe.pad)
        images = torch.where(flipped[index].view(-1, 1, 1, 1), images.flip(-1), images)
        yield cutout(normalise(images), recipe.cutout), data.labels[index]


@torch.no_grad()
def whiten_stem(model: nn.Module, data: LabelledImages) -> None:
    """Initialise the first convolution with the principal components of image patches, each with both signs.

    With the batch normalisation that follows, this gives the rest of the network decorrelated channels of equal
    variance, which shortens training (Page 2018). Training then updates the convolution as usual.
    """
    weight: Tensor = model.stem.conv.weight  # type: ignore[assignment]
    patches = F.unfold(normalise(data.images[:2000]), weight.shape[-1]).transpose(1, 2).reshape(-1, weight[0].numel())
    _, vectors = torch.linalg.eigh(patches.double().T.cov())
    components = vectors.flip(1).T[: len(weight) // 2].view(-1, *weight.shape[1:]).to(weight)
    weight.copy_(torch.cat([components, -components]))


@torch.no_grad()
def accuracy(model: nn.Module, data: LabelledImages, device: torch.device) -> float:
    """Return the share of ``data`` that is classified correctly, without test-time augmentation."""
    model.eval()
    hits = 0
    for images, labels in zip(data.images.split(1000), data.labels.split(1000), strict=True):
        with fast_math(device):
            hits += (model(normalise(images.to(device))).argmax(1).cpu() == labels).sum().item()
    return hits / len(data)


def pretrain(recipe: Recipe, data_root: Path, checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Train a model to the end, starting from ``checkpoint`` if it exists.

    Args:
        recipe: settings of the run.
        data_root: folder of CIFAR-10, see :func:`amllab.images.cifar10`.
        checkpoint: file that is written after each epoch.

    Returns:
        The model and the figures for its card: test accuracy, seconds, loss of each epoch, device and autocast dtype.

    Raises:
        ValueError: the checkpoint was written with another recipe.
    """
    device = best_device()
    train, test = cifar10(data_root, train=True), cifar10(data_root, train=False)
    torch.manual_seed(recipe.seed)
    model = timm.create_model(recipe.model, num_classes=len(train.classes))
    whiten_stem(model, train)
    model = model.to(device, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    steps = recipe.epochs * (len(train) // recipe.batch_size)

    def schedule(step: int) -> float:
        done = step / steps
        return min(done / recipe.warmup, (1 - done) / (1 - recipe.warmup))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    start, seconds, losses = 0, 0.0, []
    if (state := load_checkpoint(checkpoint, asdict(recipe), device)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        start, seconds, losses = state["epoch"], state["seconds"], state["losses"]

    bar = tqdm(range(start, recipe.epochs), initial=start, total=recipe.epochs, unit="epoch", desc=recipe.model)
    for epoch in bar:
        began, total = time.perf_counter(), 0.0
        model.train()
        batches = training_batches(train, recipe, epoch)
        per_epoch = len(train) // recipe.batch_size
        for images, labels in tqdm(batches, total=per_epoch, unit="batch", leave=False, mininterval=5):
            with fast_math(device):
                logits = model(images.to(device))
            loss = F.cross_entropy(logits.float(), labels.to(device), label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        losses.append(total / per_epoch)
        seconds += time.perf_counter() - began
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
        state = {
            "recipe": asdict(recipe),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "epoch": epoch + 1,
            "seconds": seconds,
            "losses": losses,
        }
        save_checkpoint(checkpoint, state)
    figures = {"seconds": round(seconds), "losses": [round(v, 4) for v in losses], "device": device.type}
    return model, {**figures, "autocast": str(autocast_dtype(device)), "test_accuracy": accuracy(model, test, device)}


def write_card(path: Path, recipe: Recipe, figures: dict[str, Any], parameters: int, size: int) -> None:
    """Write the model card: the model, its recipe and results, and the command that reproduces them."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in asdict(recipe).items())
    path.write_text(
        f"# {recipe.model}\n\n"
        f"CIFAR-10 test accuracy **{figures['test_accuracy']:.2%}** (10,000 images, one view each, measured on the fp16 "
        f"weights as shipped); {parameters:,} parameters; {size:,} bytes.\n\n"
        f"```\npython -m amllab.pretrain {recipe.model} --epochs {recipe.epochs} --seed {recipe.seed}\n```\n\n"
        f"took {figures['seconds'] / 60:.0f} minutes of training on {figures['device']} with {torch.get_num_threads()} "
        f"threads ({platform.machine()}, autocast {figures['autocast']}, torch {torch.__version__}, timm "
        f"{timm.__version__}).\n\n"
        "Trained on the 50,000 training images of CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from "
        "Tiny Images*, 2009). The recipe was fixed before the run; the test images were looked at once, at its end.\n\n"
        f"| setting | value |\n|---|---|\n{rows}\n\n"
        f"Training loss by epoch: {', '.join(f'{v:.3f}' for v in figures['losses'])}\n"
    )
