"""The probe of exercise 4: a pretraining under a budget, with the functions of the submission."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.self_supervised_learning.accuracy import new_encoder, new_projector
from amllab.kit.accuracy_views import views_with_gradients
from amllab.kit.lent_functions import lent_function
from amllab.kit.probing import CountedBatches, Raised, State, raised, state_of
from amllab.numerics import same_numbers
from amllab.protocol.submission import Functions, capture_error
from amllab.views import RandomViews


class Fitted(TypedDict):
    """A pretraining under a budget.

    Attributes:
        state: State of the encoder at the end.
        views: Number of views that the encoder computed with gradients.
    """

    state: State
    views: int


def fit(
    functions: Functions,
    *,
    encoder: dict[str, Tensor],
    projector: dict[str, Tensor],
    images: Tensor,
    epochs: int,
    batch: int,
    temperature: float,
    crop: float,
    lr: float,
    seed: int,
    with_own_loss: bool,
) -> Fitted | Raised:
    """Call ``pretrain`` on uint8 images ``(n, 3, h, w)`` without labels, from the weights of the question."""
    model, head = new_encoder(), new_projector()
    model.load_state_dict(encoder)
    head.load_state_dict(projector)
    torch.manual_seed(seed)
    views = RandomViews(torch.Generator().manual_seed(seed), crop=(crop, 1.0))
    data: dict[str, Any] = {"images": images, "labels": torch.full((len(images),), -1)}
    loader = CountedBatches({**data, "batch_size": batch, "shuffle_seed": seed})
    with ExitStack() as stack:
        stack.enter_context(same_numbers())
        if not with_own_loss:
            stack.enter_context(lent_function(functions, "nt_xent_loss", alignment_and_uniformity))
        shown = stack.enter_context(views_with_gradients(type(model)))
        got = capture_error(
            lambda: functions.pretrain(
                model, head, loader, views, epochs=epochs, lr=lr, temperature=temperature
            )
        )  # fmt: skip
    if "error" in got:
        return raised(got)
    return {"state": state_of(model), "views": sum(shown)}


def alignment_and_uniformity(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Return another loss that pretrains: views of an image lie close together, and all views far apart.

    It is lent where the notebook's own loss cannot be taken (Wang and Isola, *Understanding Contrastive Representation
    Learning through Alignment and Uniformity on the Hypersphere*, 2020). The temperature has no effect.

    Args:
        z1: Projections of the first views, float ``(n, d)``.
        z2: Projections of the second views, float ``(n, d)``.
        temperature: Not used.
    """
    first, second = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    alignment = (first - second).square().sum(1).mean()
    spread = [torch.pdist(part).square().mul(-2).exp().mean().log() for part in (first, second)]
    return 3 * alignment + spread[0] + spread[1]
