"""A plain correct ``sample_episode``, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

EPISODE = """
def sample_episode(labels, n_way, k_shot, n_query, generator):
    if n_way < 1 or k_shot < 1 or n_query < 1:
        raise ValueError("n_way, k_shot and n_query must be at least 1")
    sizes = torch.bincount(labels)
    able = torch.nonzero(sizes >= k_shot + n_query).flatten()
    if len(able) < n_way:
        raise ValueError("too few classes have enough images")
    classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
    support, query = [], []
    for label in classes:
        images = torch.nonzero(labels == label).flatten()
        images = images[torch.randperm(len(images), generator=generator)]
        support.append(images[:k_shot])
        query.append(images[k_shot : k_shot + n_query])
    support_labels = torch.arange(n_way).repeat_interleave(k_shot)
    query_labels = torch.arange(n_way).repeat_interleave(n_query)
    return torch.cat(support), support_labels, torch.cat(query), query_labels
"""
