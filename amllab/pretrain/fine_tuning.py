"""Fine-tuning of a backbone on the drawn reptiles of lab 1: the teacher that lab 4 starts from.

All layers are trained with AdamW for a fixed number of epochs, as their new task has few images: shifted and flipped,
with a learning rate that rises and then falls (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019).
"""

from __future__ import annotations

import math
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

from amllab.images import LabelledImages, stratified_split
from amllab.pretrain.supervised import random_crop
from amllab.reptiles import VALIDATION, reptile_arrays
from amllab.training import evaluate, predict
from amllab.views import normalise

BATCH = 500  # images of a batch that is only evaluated


@dataclass(frozen=True)
class FineTuningRecipe:
    """The settings that determine a training run.

    Attributes:
        model: name of the pretrained backbone.
        epochs: number of epochs.
        batch_size: number of images in a batch.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay.
        warmup: share of all steps in which the learning rate rises; it falls as a cosine.
        pad: largest shift of an image, in pixels.
        seed: seed of the head, the order and the augmentation.
    """

    model: str = "net12"
    epochs: int = 6
    batch_size: int = 50
    lr: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: float = 0.2
    pad: int = 4
    seed: int = 0


def training_part() -> LabelledImages:
    """Return the images that lab 1 trains on: its drawn training images without the fifth for validation."""
    data = reptile_arrays("train", "drawn")
    return data.subset(stratified_split(data.labels, VALIDATION, seed=0)[0])


def fine_tune(recipe: FineTuningRecipe, data: LabelledImages) -> tuple[nn.Module, dict[str, Any]]:
    """Train a pretrained backbone with a new head on labelled images, on the CPU and in float32.

    Args:
        recipe: settings of the run.
        data: the training images.

    Returns:
        The model and the figures for its card: seconds, the mean loss of each epoch, and the number of images.

    Raises:
        ValueError: there are fewer images than in a batch.
    """
    per_epoch = len(data) // recipe.batch_size
    if not per_epoch:
        raise ValueError(f"{len(data)} images are fewer than one batch of {recipe.batch_size}")
    torch.manual_seed(recipe.seed)
    model = timm.create_model(recipe.model, pretrained=True, num_classes=len(data.classes))
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * per_epoch

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / (recipe.warmup * steps)) * (1 + math.cos(math.pi * step / steps)) / 2

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    began, losses = time.perf_counter(), []
    for _ in tqdm(range(recipe.epochs), unit="epoch", desc=recipe.model):
        total = 0.0
        for views, labels in _batches(data, recipe):
            loss = F.cross_entropy(model(views), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        losses.append(round(total / per_epoch, 4))
    return model.eval(), {"seconds": time.perf_counter() - began, "losses": losses, "images": len(data)}


def evaluated(model: nn.Module, data: LabelledImages) -> dict[str, float]:
    """Return accuracy, mean confidence (probability of the chosen class) and loss in nats of a model on images."""
    batches = [(normalise(data.images[i : i + BATCH]), data.labels[i : i + BATCH]) for i in range(0, len(data), BATCH)]
    probabilities, _, _ = predict(model, batches)
    return {**evaluate(model, batches), "confidence": float(probabilities.amax(1).mean())}


def write_teacher_card(
    path: Path, recipe: FineTuningRecipe, figures: dict[str, Any], results: dict[str, float], parameters: int, size: int
) -> None:
    """Write the model card: the model, its recipe and results, and the command that reproduces them.

    Args:
        path: file to write.
        recipe: settings of the run.
        figures: what :func:`fine_tune` returns.
        results: what :func:`evaluated` returns for the test images.
        parameters: number of parameters.
        size: size of the weights' file in bytes.
    """
    rows = "\n".join(f"| {key} | {value} |" for key, value in asdict(recipe).items())
    path.write_text(
        f"# {recipe.model}.reptiles\n\n"
        f"{recipe.model}, pretrained on CIFAR-10 and fine-tuned on {figures['images']:,} drawn reptiles of five classes: "
        f"the training images of lab 1, without its validation images; {parameters:,} parameters; {size:,} bytes.\n\n"
        "| 500 drawn test images, one view each | as shipped (fp16) |\n|---|---|\n"
        f"| accuracy | **{results['accuracy']:.1%}** |\n"
        f"| mean probability of the chosen class | {results['confidence']:.1%} |\n"
        f"| cross-entropy in nats | {results['loss']:.3f} |\n\n"
        f"```\npython -m amllab.pretrain {recipe.model} --reptiles --epochs {recipe.epochs} --seed {recipe.seed}\n```\n\n"
        f"took {figures['seconds'] / 60:.1f} minutes by the clock on cpu with {torch.get_num_threads()} threads "
        f"({platform.machine()}, float32, torch {torch.__version__}, timm {timm.__version__}).\n\n"
        "The recipe was fixed before the run; the test images were looked at once, at its end.\n\n"
        f"| setting | value |\n|---|---|\n{rows}\n\n"
        f"Training loss by epoch: {', '.join(f'{v:.3f}' for v in figures['losses'])}\n"
    )


def _batches(data: LabelledImages, recipe: FineTuningRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shifted and flipped images with their labels; the last, smaller batch is left out."""
    order = torch.randperm(len(data))
    for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(recipe.batch_size):
        moved = random_crop(data.images[index], recipe.pad)
        flip = torch.rand(len(index), 1, 1, 1) < 0.5
        yield normalise(torch.where(flip, moved.flip(-1), moved)), data.labels[index]
