"""Pretraining of an encoder on images without labels, by VICReg.

Two random views of each image are mapped to embeddings by the encoder and an expander, which is not used afterwards.
The loss has three terms: both embeddings of an image are close (invariance), each of their dimensions varies over the
batch (variance), and dimensions are uncorrelated (covariance); no image is compared with another one. See Bardes et
al., *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning* (2022).
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from amllab.images import LabelledImages, cifar10
from amllab.numerics import autocast_dtype, best_device, fast_math
from amllab.pretrain.checkpoints import load_checkpoint, save_checkpoint
from amllab.representations import extract_features, knn_accuracy, linear_evaluation
from amllab.species import draw_species
from amllab.views import RandomViews, normalise

Source = Literal["cifar10", "species"]

SPECIES, PER_SPECIES, SPECIES_SEED = 200, 200, 1000  # drawn for training
NEW_SPECIES, KNOWN, ASKED, NEW_SEED = 20, 100, 50, 2000  # drawn for evaluation: other species
PER_CLASS = 10  # labels of each class in the linear evaluation


@dataclass(frozen=True)
class SelfSupervisedRecipe:
    """The settings that determine a training run.

    Attributes:
        data: ``"cifar10"`` or ``"species"``.
        model: name of the encoder.
        epochs: number of epochs.
        batch_size: number of images in a batch, each with two views.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay.
        warmup: share of all steps in which the learning rate rises; it falls as a cosine.
        expander: number of hidden and output features of the expander.
        invariance: weight of the distance between the views of an image.
        variance: weight of the spread of each dimension.
        covariance: weight of the correlation of dimensions.
        crop: smallest share of an image in a view.
        colour: strength of the colour distortion.
        grey: share of views in grey.
        seed: seed of weights, order and views.
    """

    data: Source
    model: str = "net5"
    epochs: int = 30
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    expander: int = 512
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    crop: float = 0.3
    colour: float = 1.0
    grey: float = 0.2
    seed: int = 0


def variance_invariance_covariance(first: Tensor, second: Tensor, recipe: SelfSupervisedRecipe) -> Tensor:
    """Return the loss of VICReg for embeddings ``(n, d)`` of two views of the same ``n`` images."""
    n, d = first.shape
    spread = correlated = torch.zeros((), device=first.device)
    for embeddings in (first, second):
        centred = embeddings - embeddings.mean(0)
        deviation = (centred.pow(2).sum(0) / (n - 1) + 1e-4).sqrt()
        spread = spread + F.relu(1 - deviation).mean() / 2
        covariance = centred.T @ centred / (n - 1)
        correlated = correlated + (covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()) / d
    distance = F.mse_loss(first, second)
    return recipe.invariance * distance + recipe.variance * spread + recipe.covariance * correlated


def expander(features: int, width: int) -> nn.Sequential:
    """Return a network from features to embeddings, with two hidden layers."""
    layers: list[nn.Module] = []
    for inputs in (features, width):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, width))


def pairs_of_views(images: Tensor, recipe: SelfSupervisedRecipe, epoch: int) -> Iterator[Tensor]:
    """Yield one epoch of batches, determined only by the seed and the epoch.

    Each has the first views of its images, then the second ones: float32 ``(2 * batch_size, 3, h, w)``.
    """
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    views = RandomViews(generator, crop=(recipe.crop, 1.0), colour=recipe.colour, grey=recipe.grey)
    order = torch.randperm(len(images), generator=generator)
    for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(recipe.batch_size):
        yield views(images[index].repeat(2, 1, 1, 1))


def training_images(recipe: SelfSupervisedRecipe, root: Path) -> Tensor:
    """Return the images to train on, uint8 ``(n, 3, 32, 32)``, without their labels."""
    if recipe.data == "species":
        return draw_species(SPECIES, PER_SPECIES, SPECIES_SEED).images
    return cifar10(root, train=True).images


def evaluation_images(recipe: SelfSupervisedRecipe, root: Path) -> tuple[LabelledImages, LabelledImages]:
    """Return labelled images that are known, and such whose class is asked for.

    Of CIFAR-10, these are the training and the test images; of the species, new ones that training has not seen.
    """
    if recipe.data == "species":
        known = draw_species(NEW_SPECIES, KNOWN, NEW_SEED)
        return known, draw_species(NEW_SPECIES, ASKED, NEW_SEED, individuals=1)
    return cifar10(root, train=True), cifar10(root, train=False)


def pretrain_without_labels(
    recipe: SelfSupervisedRecipe, root: Path, checkpoint: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Train an encoder to the end, starting from ``checkpoint`` if it exists.

    Args:
        recipe: settings of the run.
        root: folder of CIFAR-10, see :func:`amllab.images.cifar10`; not used for species.
        checkpoint: file that is written after each epoch.

    Returns:
        The encoder and the figures for its card: seconds, loss of each epoch, device and autocast dtype.

    Raises:
        ValueError: the checkpoint was written with another recipe, or there are fewer images than in a batch.
    """
    device = best_device()
    images = training_images(recipe, root)
    per_epoch = len(images) // recipe.batch_size
    if not per_epoch:
        raise ValueError(f"{len(images)} images are fewer than one batch of {recipe.batch_size}")
    torch.manual_seed(recipe.seed)
    encoder: Any = timm.create_model(recipe.model, num_classes=0)
    whole = nn.Sequential(encoder, expander(encoder.num_features, recipe.expander))
    whole = whole.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(whole.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * per_epoch

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / (recipe.warmup * steps)) * (1 + math.cos(math.pi * step / steps)) / 2

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    start, seconds, losses = 0, 0.0, []
    if (state := load_checkpoint(checkpoint, asdict(recipe), device)) is not None:
        whole.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        start, seconds, losses = state["epoch"], state["seconds"], state["losses"]
    bar = tqdm(range(start, recipe.epochs), initial=start, total=recipe.epochs, unit="epoch", desc=recipe.model)
    for epoch in bar:
        began, total = time.perf_counter(), 0.0
        whole.train()
        batches = pairs_of_views(images, recipe, epoch)
        for views in tqdm(batches, total=per_epoch, unit="batch", leave=False, mininterval=5):
            with fast_math(device):
                embeddings = whole(views.to(device))
            first, second = embeddings.float().chunk(2)
            loss = variance_invariance_covariance(first, second, recipe)
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
            "model": whole.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "epoch": epoch + 1,
            "seconds": seconds,
            "losses": losses,
        }
        save_checkpoint(checkpoint, state)
    figures = {"seconds": round(seconds), "losses": [round(v, 4) for v in losses], "images": len(images)}
    return encoder, {**figures, "device": device.type, "autocast": str(autocast_dtype(device))}


def evaluated(encoder: nn.Module, known: LabelledImages, asked: LabelledImages) -> dict[str, float]:
    """Return the accuracies of nearest neighbours and of logistic regression on the features of an encoder."""
    features = [extract_features(encoder, data.images) for data in (known, asked)]
    parts = features[0], known.labels, features[1], asked.labels
    return {
        "nearest neighbours": knn_accuracy(*parts),
        f"linear, {PER_CLASS} labels a class": linear_evaluation(*parts, per_class=PER_CLASS),
        "linear, all labels": linear_evaluation(*parts),
    }


def untrained(recipe: SelfSupervisedRecipe, images: Tensor) -> nn.Module:
    """Return the encoder as it was before its training, with the BatchNorm statistics of ``images``, uint8."""
    torch.manual_seed(recipe.seed)
    encoder: nn.Module = timm.create_model(recipe.model, num_classes=0)
    encoder.to(best_device(), memory_format=torch.channels_last)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics become the mean over all batches
    with torch.no_grad():
        for batch in images.split(recipe.batch_size):
            encoder.train()(normalise(batch).to(best_device()))
    return encoder


def write_encoder_card(
    path: Path,
    recipe: SelfSupervisedRecipe,
    figures: dict[str, Any],
    accuracies: dict[str, tuple[float, float]],
    parameters: int,
    size: int,
) -> None:
    """Write the model card: the encoder, its recipe and results, and the command that reproduces them.

    Args:
        path: file to write.
        recipe: settings of the run.
        figures: what :func:`pretrain_without_labels` returns.
        accuracies: of each kind of evaluation, those of the trained and of the untrained encoder.
        parameters: number of parameters.
        size: size of the weights' file in bytes.
    """
    if recipe.data == "species":
        what = f"{figures['images']:,} images of {SPECIES} drawn species (seed {SPECIES_SEED}), without labels"
        asked = (
            f"{NEW_SPECIES} other species (seed {NEW_SEED}), {KNOWN} images of each with labels, {ASKED} others asked"
        )
    else:
        what = (
            "the 50,000 training images of CIFAR-10 (A. Krizhevsky, *Learning Multiple Layers of Features from Tiny "
            "Images*, 2009), without labels"
        )
        asked = "CIFAR-10: features of the training images with labels, of the 10,000 test images without"
    results = "\n".join(f"| {name} | **{after:.1%}** | {before:.1%} |" for name, (after, before) in accuracies.items())
    rows = "\n".join(f"| {key} | {value} |" for key, value in asdict(recipe).items())
    path.write_text(
        f"# {recipe.model}.ssl_{recipe.data}\n\n"
        f"An encoder, trained by VICReg on {what}; {parameters:,} parameters; {size:,} bytes.\n\n"
        f"| accuracy of frozen features | as shipped (fp16) | before training |\n|---|---|---|\n{results}\n\n"
        f"Evaluated on {asked}. Linear is logistic regression; with {PER_CLASS} labels a class, the mean of 3 choices.\n\n"
        f"```\npython -m amllab.pretrain {recipe.model} --self-supervised --data {recipe.data} "
        f"--epochs {recipe.epochs} --seed {recipe.seed}\n```\n\n"
        f"took {figures['seconds'] / 60:.0f} minutes by the clock on {figures['device']} with {torch.get_num_threads()} "
        f"threads ({platform.machine()}, autocast {figures['autocast']}, torch {torch.__version__}, timm "
        f"{timm.__version__}).\n\n"
        f"| setting | value |\n|---|---|\n{rows}\n\n"
        f"Training loss by epoch: {', '.join(f'{v:.3f}' for v in figures['losses'])}\n"
    )
