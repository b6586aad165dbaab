"""The probe of exercise 2: a pretraining of two small networks on watermarked images."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.checks.self_supervised_learning.pretrain_nets import (
    MOST,
    Compared,
    Encoder,
    Journal,
    Pass,
    Projector,
    Views,
)
from amllab.kit.history import History
from amllab.kit.lent_functions import lent_function
from amllab.kit.loss_history import loss_history
from amllab.kit.probing import CountedBatches, Raised, State, backward_passes, raised, state_of
from amllab.kit.step_gradients import StepGradients, recorded_gradients
from amllab.numerics import same_numbers, without_compiling
from amllab.protocol.schema import IntMatrix, IntVector
from amllab.protocol.submission import Functions, capture_error


class Pretrained(TypedDict):
    """A pretraining.

    Attributes:
        history: What it returned.
        passes: The first ``MOST`` calls of the networks.
        compared: The first ``MOST`` calls of the lent loss; empty if the notebook computes its own.
        drawn_from: ``(draws, 2)``, for each draw the number of the image and of the draw that it was made from.
        batches: Numbers of the images in each batch that the loader gave.
        backwards: Number of backward passes.
        steps: Steps of optimizers, and the gradients that they used.
        started: Parameters of both networks at the first call of each.
        final: State of both networks at the end.
        gradients_enabled: Whether gradients were recorded after the call.
        dtype: PyTorch's default dtype after the call.
    """

    history: History
    passes: list[Pass]
    compared: list[Compared]
    drawn_from: IntMatrix
    batches: list[IntVector]
    backwards: int
    steps: StepGradients
    started: State
    final: State
    gradients_enabled: bool
    dtype: str


def stand_in_loss(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Return a loss of two views that is lent instead of ``nt_xent_loss``; it is not the contrastive one.

    It is small if views of an image point in the same direction and both views do not point anywhere on average. As
    with the contrastive loss, neither the length of a row nor the order of the views matters.

    Args:
        z1: Projections of the first views, float ``(n, d)``.
        z2: Projections of the second views, float ``(n, d)``.
        temperature: Temperature, above 0.

    Raises:
        ValueError: As the contract of ``nt_xent_loss`` says.
    """
    if z1.ndim != 2 or z1.shape != z2.shape or len(z1) < 2 or not temperature > 0:
        raise ValueError(f"views of shapes {tuple(z1.shape)} and {tuple(z2.shape)}, temperature {temperature}")
    first, second = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    apart = (1.5 - (first * second).sum(1)).square().mean()
    return apart / (0.5 + temperature) + (first.mean(0) * second.mean(0)).sum()


def pretrained_watermarks(
    functions: Functions,
    *,
    encoder: dict[str, Tensor],
    projector: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    sizes: list[int],
    noise: list[float],
    seed: int,
    arguments: dict[str, Any],
    eval_mode: list[str] | None = None,
    shuffle_seed: int | None = None,
    as_list: bool = False,
) -> Pretrained | Raised:
    """Call ``pretrain``, with :func:`stand_in_loss` in place of the notebook's ``nt_xent_loss``.

    Args:
        functions: Functions of the notebook.
        encoder: State of the encoder.
        projector: State of the projector.
        images: Watermarked images, float ``(n, 3, 4, 4)``.
        labels: Labels, int64 ``(n,)``.
        sizes: Sizes of the batches.
        noise: Size of the noise of each image's views.
        seed: Seed of the views.
        arguments: Further arguments of ``pretrain``.
        eval_mode: Modules that come in eval mode, such as ``"encoder"`` or ``"encoder.norm"``; all others are in train
            mode.
        shuffle_seed: With it, the order of the images differs in each pass over the loader.
        as_list: Whether the loader is a plain list of batches.
    """
    journal = Journal()
    nets = nn.ModuleDict({"encoder": Encoder(journal), "projector": Projector(journal)})
    nets["encoder"].load_state_dict(encoder)
    nets["projector"].load_state_dict(projector)
    nets.train()
    for name in eval_mode or []:
        nets.get_submodule(name).eval()
    data = {"images": images.clone(), "labels": labels.clone(), "sizes": sizes, "shuffle_seed": shuffle_seed}
    loader, views = CountedBatches(data), Views(seed, noise)
    loader.note = journal.given.append
    given = list(loader) if as_list else loader

    def lent(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
        value = stand_in_loss(z1, z2, temperature)
        journal.compare(z1, z2, temperature, value)
        return value

    with (
        torch.random.fork_rng(devices=[]),
        same_numbers(),
        without_compiling(),
        lent_function(functions, "nt_xent_loss", lent),
        backward_passes() as backwards,
        recorded_gradients(list(nets.parameters())) as steps,
    ):
        torch.manual_seed(seed)  # a training with random numbers of its own can be compared with another one
        got = capture_error(
            lambda: functions.pretrain(nets["encoder"], nets["projector"], given, views, **arguments)
        )  # fmt: skip
        gradients_enabled, dtype = torch.is_grad_enabled(), str(torch.get_default_dtype())
    if "error" in got:
        return raised(got)
    return {
        "history": loss_history(got["value"]),
        "passes": journal.calls(),
        "compared": journal.compared,
        "drawn_from": torch.tensor(views.drawn_from, dtype=torch.int64).reshape(-1, 2),
        "batches": journal.given[:MOST],
        "backwards": len(backwards),
        "steps": steps,
        "started": journal.started,
        "final": state_of(nets),
        "gradients_enabled": gradients_enabled,
        "dtype": dtype,
    }
