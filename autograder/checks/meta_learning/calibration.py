"""Variants for ``autograder calibrate meta-learning``: right and wrong functions for the accuracy check.

The loops of both trainings are the library's, so right variants differ in how the functions are written, and thereby in
which random numbers they draw and in the last digits. Wrong variants are those that the check must detect: nothing
carries over to new species, or the gradient does not pass through the step that adapts.
"""

from __future__ import annotations

from amllab.checks.meta_learning.accuracy_tasks import PrototypeTask, SinusoidTask
from autograder.labs.calibrated import Style
from autograder.labs.corpus import replaced

_IMPORTS = """
import copy, torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
"""
_EPISODE = """
def sample_episode(labels, n_way, k_shot, n_query, generator):
    classes, counts = labels.unique(return_counts=True)
    able = classes[counts >= k_shot + n_query]
    chosen = able[torch.randperm(len(able), generator=generator)[:n_way]]
    support, query = [], []
    for name in chosen:
        rows = (labels == name).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        support.append(rows[:k_shot])
        query.append(rows[k_shot : k_shot + n_query])
    new = torch.arange(n_way)
    return torch.cat(support), new.repeat_interleave(k_shot), torch.cat(query), new.repeat_interleave(n_query)
"""
_EPISODE_SHUFFLED = """
def sample_episode(labels, n_way, k_shot, n_query, generator):
    names, counts = labels.unique(return_counts=True)
    able = names[counts >= k_shot + n_query].tolist()
    chosen = [able[i] for i in torch.randperm(len(able), generator=generator)[:n_way]]
    support, query = [], []
    for new, name in enumerate(chosen):
        rows = torch.where(labels == name)[0]
        order = torch.rand(len(rows), generator=generator).argsort()[: k_shot + n_query]
        pairs = [(int(rows[i]), new) for i in order]
        support, query = support + pairs[:k_shot], query + pairs[k_shot:]
    support = [support[i] for i in torch.randperm(len(support), generator=generator)]
    a, b = torch.tensor(support), torch.tensor(query)
    return a[:, 0], a[:, 1], b[:, 0], b[:, 1]
"""
_PROTOTYPES = """
def prototypical_loss(support, support_labels, query, query_labels):
    ways = int(support_labels.max()) + 1
    means = torch.stack([support[support_labels == name].mean(0) for name in range(ways)])
    logits = -(query[:, None] - means).square().sum(-1)
    return F.cross_entropy(logits, query_labels), logits
"""
_PRODUCTS = """
def prototypical_loss(support, support_labels, query, query_labels):
    hot = F.one_hot(support_labels).to(support.dtype)
    means = hot.T @ support / hot.sum(0)[:, None]
    logits = 2 * query @ means.T - (query**2).sum(1, keepdim=True) - (means**2).sum(1)
    return -logits.log_softmax(1).gather(1, query_labels[:, None]).mean(), logits
"""
_CDIST = """
def prototypical_loss(support, support_labels, query, query_labels):
    names = support_labels.unique()
    means = torch.cat([support[support_labels == name].mean(0, keepdim=True) for name in names])
    logits = -torch.cdist(query, means) ** 2
    return nn.CrossEntropyLoss()(logits, query_labels), logits
"""
_MAML = """
def maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False):
    params = dict(model.named_parameters())
    for _ in range(steps):
        loss = loss_fn(functional_call(model, params, (inputs,)), targets)
        gradients = torch.autograd.grad(loss, tuple(params.values()), create_graph=not first_order)
        params = {name: value - lr * g for (name, value), g in zip(params.items(), gradients)}
    return params
"""
_MAML_FUNC = """
def maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False):
    def loss(params):
        return loss_fn(functional_call(model, params, (inputs,)), targets)
    params = {name: value for name, value in model.named_parameters()}
    for _ in range(steps):
        gradients = torch.func.grad(loss)(params)
        if first_order:
            gradients = {name: g.detach() for name, g in gradients.items()}
        params = {name: value - lr * gradients[name] for name, value in params.items()}
    return params
"""
_MAML_RECURSIVE = """
def maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False):
    def step(params, left):
        if left == 0:
            return params
        loss = loss_fn(functional_call(model, params, (inputs,)), targets)
        found = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        found = [g.detach() if first_order else g for g in found]
        return step({n: p.sub(lr * g) for (n, p), g in zip(params.items(), found)}, left - 1)
    return step(dict(model.named_parameters()), steps)
"""


def _prototypes(
    name: str, loss: str = _PROTOTYPES, episode: str = _EPISODE, *, right: bool = True, every: int = 1
) -> Style:
    return Style(name, right, _IMPORTS + episode + loss, every)


def _maml(name: str, source: str = _MAML, *, right: bool = True, every: int = 1) -> Style:
    return Style(name, right, _IMPORTS + source, every)


_MEANS = "torch.stack([support[support_labels == name].mean(0) for name in range(ways)])"
_CUT = "value - lr * g for"

PROTOTYPES = [
    _prototypes("squared differences"),
    _prototypes("products", _PRODUCTS),
    _prototypes("cdist, shuffled support", _CDIST, _EPISODE_SHUFFLED),
    # mistakes of the loss that learn nearly as well, such as probabilities in place of logits, lose their points in
    # exercise 2
    _prototypes(
        "prototypes by the wrong axis",
        replaced(_PROTOTYPES, _MEANS, "support.view(-1, ways, support.shape[1]).mean(0)"),
        right=False,
    ),
    _prototypes(
        "labels of the query repeated, not interleaved",
        episode=replaced(_EPISODE, "new.repeat_interleave(n_query)", "new.repeat(n_query)"),
        right=False,
        every=2,
    ),
    _prototypes("sign forgotten", replaced(_PROTOTYPES, "-(query", "(query"), right=False, every=4),
    _prototypes(
        "loss without gradients",
        replaced(_PROTOTYPES, "means = ", "query, support = query * 0, support * 0\n    means = "),
        right=False,
        every=4,
    ),
]
SINUSOIDS = [
    _maml("autograd.grad"),
    _maml("torch.func.grad", _MAML_FUNC),
    _maml("recursive", _MAML_RECURSIVE),
    _maml("first order", replaced(_MAML, "create_graph=not first_order", "create_graph=False"), right=False),
    _maml("ascent", replaced(_MAML, "value - lr", "value + lr"), right=False, every=4),
    _maml("no step", replaced(_MAML, "range(steps)", "range(0)"), right=False, every=4),
    _maml("the last layer alone", replaced(_MAML, _CUT, "value - lr * g * ('2' in name) for"), right=False, every=4),
    _maml(
        "without gradients",
        replaced(_MAML, _CUT, "(value - lr * g).detach().requires_grad_() for"),
        right=False,
        every=4,
    ),
]

PARTS = [(PrototypeTask, PROTOTYPES), (SinusoidTask, SINUSOIDS)]
