"""Small functions for tests of the few-shot library, in place of those that a notebook writes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional as F

LossFunction = Callable[[Tensor, Tensor], Tensor]


def sample_episode(
    labels: Tensor, n_way: int, k_shot: int, n_query: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the indices and new labels of a random episode."""
    chosen = torch.randperm(int(labels.max()) + 1, generator=generator)[:n_way]
    rows = []
    for label in chosen.tolist():
        own = (labels == label).nonzero().squeeze(1)
        rows.append(own[torch.randperm(len(own), generator=generator)[: k_shot + n_query]])
    index, new = torch.stack(rows), torch.arange(n_way)
    support, query = index[:, :k_shot].flatten(), index[:, k_shot:].flatten()
    return support, new.repeat_interleave(k_shot), query, new.repeat_interleave(n_query)


def prototypical_loss(
    support: Tensor, support_labels: Tensor, query: Tensor, query_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss and the logits of an episode."""
    members = F.one_hot(support_labels).to(support.dtype)
    means = members.T @ support / members.sum(0)[:, None]
    logits = -(query[:, None] - means).pow(2).sum(2)
    return F.cross_entropy(logits, query_labels), logits


def adapt_by_functions(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int = 1,
    lr: float = 0.01,
    loss_fn: LossFunction = F.cross_entropy,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """Return adapted parameters; works within ``torch.func.vmap``."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    for _ in range(steps):
        gradients = grad(lambda p: loss_fn(functional_call(model, p, (inputs,)), targets))(parameters)
        parameters = {
            name: value - lr * (gradients[name].detach() if first_order else gradients[name])
            for name, value in parameters.items()
        }
    return parameters


def adapt_by_autograd(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int = 1,
    lr: float = 0.01,
    loss_fn: LossFunction = F.cross_entropy,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """Return adapted parameters; does not work within ``torch.func.vmap``."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    for _ in range(steps):
        loss = loss_fn(functional_call(model, parameters, (inputs,)), targets)
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=not first_order)
        parameters = {
            name: value - lr * gradient for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return parameters
