"""Correct losses of prototypical networks in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.plain_prototypes import PROTOTYPES
from autograder.checks.meta_learning.corpus.prototypes.parts import (
    CHECK,
    LOGITS,
    LOSS,
    MEANS,
    RETURN,
    WAY,
    correct,
    of_body,
)
from autograder.labs.corpus import replaced

_DIFFERENCE = "difference = query[:, None] - prototypes[None]\n    "

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("cdist_squared", "squares the distances of cdist", _DIFFERENCE, "", LOGITS, "-torch.cdist(query, prototypes) ** 2"),
    ("cdist_exact", "squares exact distances of cdist",
     _DIFFERENCE, "", LOGITS, '-torch.cdist(query, prototypes, compute_mode="donot_use_mm_for_euclid_dist").pow(2)'),
    ("expanded", "expands the square",
     _DIFFERENCE, "", LOGITS, "2 * query @ prototypes.T - query.square().sum(1, keepdim=True) - prototypes.square().sum(1)"),
    ("pairwise_distance", "squares pairwise distances without eps",
     _DIFFERENCE, "", LOGITS, "-torch.stack([F.pairwise_distance(query, p[None], eps=0) for p in prototypes], dim=1).square()"),
    ("norm_squared", "squares norms", LOGITS, "-difference.norm(dim=2).pow(2)"),
    ("vector_norm", "squares vector norms", LOGITS, "-(torch.linalg.vector_norm(difference, dim=-1) ** 2)"),
    ("squared_error_summed", "sums squared errors without reduction",
     _DIFFERENCE, "q, p = query.unsqueeze(1).expand(-1, n_way, -1), prototypes.unsqueeze(0).expand(len(query), -1, -1)\n    ",
     LOGITS, '-F.mse_loss(q, p, reduction="none").sum(-1)'),
    ("einsum", "multiplies differences by einsum", LOGITS, '-torch.einsum("qnd,qnd->qn", difference, difference)'),
    ("unique_labels", "classes by unique", WAY, "support_labels.unique().numel()"),
    ("one_hot", "means by a product with one-hot labels",
     MEANS, "(lambda m: m.T @ support / m.sum(0).unsqueeze(1))(F.one_hot(support_labels, n_way).to(support.dtype))"),
    ("index_add", "sums by index_add, divided by the counts",
     MEANS, "support.new_zeros(n_way, support.shape[1]).index_add(0, support_labels, support)\n"
     "    prototypes = prototypes / torch.bincount(support_labels, minlength=n_way)[:, None]"),
    ("scatter_reduce", "means by scatter_reduce",
     MEANS, "torch.zeros(n_way, support.shape[1], dtype=support.dtype).scatter_reduce(\n"
     '        0, support_labels[:, None].expand_as(support), support, reduce="mean", include_self=False)'),
    ("index_reduce_in_place", "adds rows one by one in place",
     MEANS, "torch.zeros(n_way, support.shape[1], dtype=support.dtype)\n    for row, label in zip(support, support_labels):\n"
     "        prototypes[label] += row / (support_labels == label).sum()"),
    ("masked_sum", "sums masked rows",
     MEANS, "torch.stack([((support_labels == c)[:, None] * support).sum(0) / (support_labels == c).sum() for c in range(n_way)])"),
    ("sorted_split", "sorts the support and splits it",
     MEANS, "torch.stack([rows.mean(0) for rows in support[support_labels.argsort()].split(support_labels.bincount().tolist())])"),
    ("nll_loss", "negative log-likelihood of log_softmax", LOSS, "F.nll_loss(F.log_softmax(logits, dim=1), query_labels)"),
    ("gathered", "gathers logarithms of probabilities",
     LOSS, "-logits.log_softmax(-1).gather(1, query_labels.unsqueeze(1)).mean()"),
    ("logsumexp", "logsumexp minus the logit of the own class",
     LOSS, "(logits.logsumexp(1) - logits[torch.arange(len(query)), query_labels]).mean()"),
    ("sum_divided", "a sum that is divided by the number of queries",
     LOSS, 'F.cross_entropy(logits, query_labels, reduction="sum") / query.shape[0]'),
    ("soft_targets", "one-hot probabilities as targets",
     LOSS, "F.cross_entropy(logits, F.one_hot(query_labels, n_way).to(logits.dtype))"),
    ("module", "an instance of CrossEntropyLoss", LOSS, "nn.CrossEntropyLoss()(logits, query_labels)"),
    ("detached_logits", "returns logits without gradients", RETURN, f"return {LOSS}, logits.detach()"),
    ("list_returned", "returns a list", RETURN, f"return [{LOSS}, logits]"),
    ("named_tuple", "returns a named tuple",
     "\ndef prototypical", '\nfrom collections import namedtuple\n\nProto = namedtuple("Proto", "loss logits")\n\ndef prototypical',
     RETURN, f"return Proto({LOSS}, logits)"),
    ("double_precision", "computes in double precision, and returns that",
     "    n_way =", "    support, query = support.double(), query.double()\n    n_way ="),
    ("back_to_float", "computes in double precision, and returns the type of the query",
     RETURN, f"return {LOSS}.to(query.dtype), logits.to(query.dtype)",
     "difference = query", "difference = query.to(torch.float64)"),
    ("labels_compared", "checks labels one by one",
     CHECK, "    for label in query_labels.unique():\n        if label not in support_labels.unique():\n"
     '            raise ValueError(f"no support for {int(label)}")\n'),
    ("counted_first", "counts the support of each class, and checks that",
     CHECK, "    counts = support_labels.bincount(minlength=int(query_labels.max()) + 1)\n"
     '    if (counts[query_labels] == 0).any():\n        raise ValueError("no support")\n'),
    ("annotated", "with annotations, and the check at the end of a function of its own",
     "(support, support_labels, query, query_labels):",
     "(support: Tensor, support_labels: Tensor, query: Tensor, query_labels: Tensor) -> tuple[Tensor, Tensor]:"),
    ("one_number_in_a_vector", "a loss of one number in a vector", RETURN, f"return {LOSS}.view(1), logits"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("loops", "loops over queries and classes", """
    classes = sorted(set(support_labels.tolist()))
    prototypes = {}
    for c in classes:
        rows = [row for row, label in zip(support, support_labels.tolist()) if label == c]
        prototypes[c] = sum(rows) / len(rows)
    logits = torch.stack([torch.stack([-((q - prototypes[c]) ** 2).sum() for c in classes]) for q in query])
    losses = [torch.logsumexp(row, 0) - row[label] for row, label in zip(logits, query_labels.tolist())]
    return sum(losses) / len(losses), logits
"""),
    ("mapped", "maps a function of one query over all queries", """
    way = support_labels.max().item() + 1
    weights = F.one_hot(support_labels, way).to(support)
    weights = weights / weights.sum(0)
    prototypes = weights.T @ support

    def of_query(q):
        return -torch.sum((prototypes - q) ** 2, dim=-1)

    logits = torch.func.vmap(of_query)(query)
    return F.cross_entropy(logits, query_labels), logits
"""),
    ("helpers", "two functions of their own", """
    prototypes = class_means(support, support_labels)
    logits = -squared_distances(query, prototypes)
    return F.cross_entropy(input=logits, target=query_labels), logits
""", """
def class_means(x, y):
    return torch.cat([x[y == c].mean(0, keepdim=True) for c in torch.unique(y)])

def squared_distances(a, b):
    n, m, d = a.size(0), b.size(0), a.size(1)
    a = a.unsqueeze(1).expand(n, m, d)
    b = b.unsqueeze(0).expand(n, m, d)
    return torch.pow(a - b, 2).sum(2)
"""),
    ("linear_classifier", "the linear classifier that the distances amount to, and the length of the query", """
    way = int(support_labels.max()) + 1
    prototypes = torch.stack([support[support_labels == c].mean(0) for c in range(way)])
    linear = F.linear(query, 2 * prototypes, -(prototypes * prototypes).sum(1))
    return F.cross_entropy(linear, query_labels), linear - (query * query).sum(1, keepdim=True)
"""),
    ("as_modules", "a module that keeps the prototypes of one call", """
    head = PrototypeHead(support, support_labels)
    logits = head(query)
    return nn.functional.cross_entropy(logits, query_labels), logits
""", """
class PrototypeHead(nn.Module):
    def __init__(self, support, labels):
        super().__init__()
        order = torch.argsort(labels)
        sizes = torch.unique(labels, return_counts=True)[1].tolist()
        self.prototypes = [rows.mean(dim=0) for rows in torch.split(support[order], sizes)]

    def forward(self, query):
        return torch.stack([-(query - p).pow(2).sum(dim=1) for p in self.prototypes]).T
"""),
    ("in_chunks", "a few queries at a time", """
    way = int(torch.max(support_labels)) + 1
    prototypes = torch.stack([support[support_labels.eq(c)].mean(0) for c in range(way)])
    parts = []
    for rows in query.split(4):
        parts.append(-(rows.unsqueeze(1) - prototypes).square().sum(-1))
    logits = torch.cat(parts)
    total = 0
    for x, y in zip(logits.split(3), query_labels.split(3)):
        total = total + F.cross_entropy(x, y, reduction="sum")
    return total / len(query), logits
"""),
    ("own_softmax", "subtracts the largest logit, and takes exponentials, sum and logarithm", """
    way = int(support_labels.max()) + 1
    prototypes = torch.stack([support[support_labels == c].mean(0) for c in range(way)])
    logits = -((query[:, None, :] - prototypes[None, :, :]) ** 2).sum(-1)
    shifted = logits - logits.max(dim=1, keepdim=True).values
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    return -(log_p * F.one_hot(query_labels, way)).sum() / len(query), logits
"""),
]  # fmt: skip

PROTOTYPE_CORRECT = [
    correct("plain", "as the notebook explains it", PROTOTYPES),
    *(correct(name, text, replaced(PROTOTYPES, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
]
