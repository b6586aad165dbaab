"""A plain correct ``prototypical_loss``, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

PROTOTYPES = """
def prototypical_loss(support, support_labels, query, query_labels):
    if not set(query_labels.tolist()) <= set(support_labels.tolist()):
        raise ValueError("a query label without support")
    n_way = int(support_labels.max()) + 1
    prototypes = torch.stack([support[support_labels == label].mean(dim=0) for label in range(n_way)])
    difference = query[:, None] - prototypes[None]
    logits = -difference.square().sum(dim=2)
    return F.cross_entropy(logits, query_labels), logits
"""
