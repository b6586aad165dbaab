"""Correct ways to sample an episode, in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.episode.parts import (
    CLASSES,
    NUMBERS,
    QUERY,
    QUERY_LABELS,
    RETURN,
    SHUFFLE,
    SUPPORT,
    SUPPORT_LABELS,
    TOO_FEW,
    correct,
    of_body,
)
from autograder.checks.meta_learning.corpus.plain_episode import EPISODE
from autograder.labs.corpus import replaced

_SIZES = "sizes = torch.bincount(labels)\n    able = torch.nonzero(sizes >= k_shot + n_query).flatten()"

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("unique_counts", "counts by unique",
     _SIZES, "values, sizes = labels.unique(return_counts=True)\n    able = values[sizes >= k_shot + n_query]"),
    ("unsorted_unique", "classes in the order of their first image",
     _SIZES, "values = torch.tensor(list(dict.fromkeys(labels.tolist())))\n"
     "    sizes = (labels == values[:, None]).sum(1)\n    able = values[sizes >= k_shot + n_query]"),
    ("list_of_classes", "a list of the classes",
     _SIZES, "able = torch.tensor([c for c in set(labels.tolist()) if int((labels == c).sum()) >= k_shot + n_query])"),
    ("where", "finds images by where", "torch.nonzero(labels == label).flatten()", "torch.where(labels == label)[0]"),
    ("masked_arange", "finds images by a mask",
     "torch.nonzero(labels == label).flatten()", "torch.arange(len(labels))[labels == label]"),
    ("as_tuple", "finds images by nonzero as a tuple",
     "torch.nonzero(labels == label).flatten()", "(labels == label.item()).nonzero(as_tuple=True)[0]"),
    ("query_taken_first", "takes the query before the support",
     SUPPORT, "images[n_query : n_query + k_shot]", QUERY, "images[:n_query]"),
    ("from_the_end", "takes the query from the end", QUERY, "images[-n_query:]"),
    ("split", "splits the images in three",
     "        support.append(images[:k_shot])\n        query.append(images[k_shot : k_shot + n_query])\n",
     "        few, many, _ = images.split([k_shot, n_query, len(images) - k_shot - n_query])\n"
     "        support.append(few)\n        query.append(many)\n"),
    ("random_keys", "shuffles by random keys", SHUFFLE,
     "        images = images[torch.rand(len(images), generator=generator).argsort()]\n"),
    ("top_keys", "takes the images with the largest random keys", SHUFFLE,
     "        images = images[torch.rand(len(images), generator=generator).topk(k_shot + n_query).indices]\n"),
    ("multinomial", "draws without replacement by multinomial",
     CLASSES, "able[torch.multinomial(torch.ones(len(able)), n_way, replacement=False, generator=generator)]",
     SHUFFLE, "        images = images[torch.multinomial(torch.ones(len(images)), k_shot + n_query, generator=generator)]\n"),
    ("labels_by_repeat", "labels by repeat, for images in the same order",
     RETURN, "return torch.stack(support, 1).flatten(), torch.arange(n_way).repeat(k_shot), torch.stack(query, 1).flatten(), "
     "torch.arange(n_way).repeat(n_query)"),
    ("labels_by_full", "a label for each image by full",
     SUPPORT_LABELS, "torch.cat([torch.full((k_shot,), i) for i in range(n_way)])",
     QUERY_LABELS, "torch.tensor([i for i in range(n_way) for _ in range(n_query)])"),
    ("shuffled_entries", "shuffles the entries of support and query",
     RETURN, "s = torch.randperm(n_way * k_shot, generator=generator)\n    q = torch.randperm(n_way * n_query, generator=generator)\n"
     "    return torch.cat(support)[s], support_labels[s], torch.cat(query)[q], query_labels[q]"),
    ("random_names", "gives sorted classes random new labels",
     f"classes = {CLASSES}", f"classes = {CLASSES}.sort().values\n    names = torch.randperm(n_way, generator=generator)",
     SUPPORT_LABELS, "names.repeat_interleave(k_shot)", QUERY_LABELS, "names.repeat_interleave(n_query)"),
    ("list_returned", "returns a list of four tensors",
     RETURN, "return [torch.cat(support), support_labels, torch.cat(query), query_labels]"),
    ("numbers_checked_in_a_loop", "checks its numbers in a loop",
     NUMBERS, '    for name, number in (("n_way", n_way), ("k_shot", k_shot), ("n_query", n_query)):\n'
     '        if number <= 0:\n            raise ValueError(f"{name} must be positive, not {number}")\n'),
    ("own_error_class", "raises a ValueError of its own",
     "\ndef sample_episode", "\nclass EpisodeError(ValueError):\n    pass\n\ndef sample_episode",
     'ValueError("too', 'EpisodeError("too'),
    ("checked_late", "checks its numbers after it has counted",
     NUMBERS, "", TOO_FEW, f"{NUMBERS}{TOO_FEW}"),
    ("annotated", "with annotations",
     "labels, n_way, k_shot, n_query, generator):",
     "labels: Tensor, n_way: int, k_shot: int, n_query: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:"),
    ("copy_of_labels", "works on a list of the labels",
     _SIZES, "numbers = labels.tolist()\n    able = torch.tensor(sorted({c for c in numbers if numbers.count(c) >= k_shot + n_query}), dtype=torch.long)"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("vectorised", "sorts random keys by class, without a loop", """
    able, size = labels.unique(return_counts=True)
    able = able[size >= k_shot + n_query]
    if n_way > able.numel():
        raise ValueError("too few classes")
    classes = able[torch.randperm(len(able), generator=generator)][:n_way]
    keys = torch.rand(n_way, len(labels), generator=generator)
    keys = keys.masked_fill(labels != classes[:, None], 2.0)
    chosen = keys.argsort(dim=1)[:, : k_shot + n_query]
    new = torch.arange(n_way)[:, None].expand(n_way, k_shot + n_query)
    return (chosen[:, :k_shot].flatten(), new[:, :k_shot].flatten(), chosen[:, k_shot:].flatten(), new[:, k_shot:].flatten())
"""),
    ("one_permutation", "walks once through all images in random order", """
    order = torch.randperm(len(labels), generator=generator)
    images = {}
    for i in order.tolist():
        images.setdefault(int(labels[i]), []).append(i)
    able = sorted(c for c in images if len(images[c]) >= k_shot + n_query)
    if len(able) < n_way:
        raise ValueError(f"{len(able)} classes are too few")
    picked = [able[i] for i in torch.randperm(len(able), generator=generator)[:n_way]]
    support = [i for c in picked for i in images[c][:k_shot]]
    query = [i for c in picked for i in images[c][k_shot : k_shot + n_query]]
    new = {c: place for place, c in enumerate(picked)}
    return (torch.tensor(support), torch.tensor([new[int(labels[i])] for i in support]),
            torch.tensor(query), torch.tensor([new[int(labels[i])] for i in query]))
"""),
    ("seeded_python_random", "seeds a random.Random from the generator", """
    rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
    images = {}
    for i, label in enumerate(labels.tolist()):
        images.setdefault(label, []).append(i)
    able = [c for c, found in images.items() if len(found) >= k_shot + n_query]
    if len(able) < n_way:
        raise ValueError("too few classes")
    s, sl, q, ql = [], [], [], []
    for new, c in enumerate(rng.sample(able, n_way)):
        found = rng.sample(images[c], k_shot + n_query)
        s += found[:k_shot]
        sl += [new] * k_shot
        q += found[k_shot:]
        ql += [new] * n_query
    return tuple(torch.tensor(numbers) for numbers in (s, sl, q, ql))
""", "import random\n"),
    ("numpy_generator", "seeds a generator of numpy from the generator", """
    rng = np.random.default_rng(torch.randint(0, 2**31 - 1, (4,), generator=generator).tolist())
    y = labels.numpy()
    values, sizes = np.unique(y, return_counts=True)
    able = values[sizes >= k_shot + n_query]
    if len(able) < n_way:
        raise ValueError("too few classes")
    support, query = [], []
    for c in rng.choice(able, n_way, replace=False):
        found = rng.permutation(np.flatnonzero(y == c))[: k_shot + n_query]
        support.append(found[:k_shot])
        query.append(found[k_shot:])
    return (torch.from_numpy(np.concatenate(support)), torch.arange(n_way).repeat_interleave(k_shot),
            torch.from_numpy(np.concatenate(query)), torch.arange(n_way).repeat_interleave(n_query))
""", "import numpy as np\n"),
    ("forked_global_generator", "seeds the global generator in a context that restores it", """
    able = [c for c in labels.unique() if (labels == c).sum() >= k_shot + n_query]
    if len(able) < n_way:
        raise ValueError("too few classes")
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen = torch.randperm(len(able))[:n_way].tolist()
        index = torch.stack([(labels == able[c]).nonzero()[:, 0][torch.randperm(int((labels == able[c]).sum()))[: k_shot + n_query]]
                             for c in chosen])
    new = torch.arange(n_way).unsqueeze(1)
    return (index[:, :k_shot].reshape(-1), new.repeat(1, k_shot).reshape(-1),
            index[:, k_shot:].reshape(-1), new.repeat(1, n_query).reshape(-1))
"""),
    ("rejection", "draws again until classes and images differ", """
    able = [int(c) for c in torch.unique(labels) if int((labels == c).sum()) >= k_shot + n_query]
    if len(able) < n_way:
        raise ValueError("too few classes")

    def different(values, number):
        found = []
        while len(found) < number:
            value = values[int(torch.randint(len(values), (1,), generator=generator))]
            if value not in found:
                found.append(value)
        return found

    support, query = [], []
    for c in different(able, n_way):
        found = different((labels == c).nonzero().flatten().tolist(), k_shot + n_query)
        support.extend(found[:k_shot])
        query.extend(found[k_shot:])
    return (torch.tensor(support), torch.arange(n_way * k_shot) // k_shot,
            torch.tensor(query), torch.arange(n_way * n_query) // n_query)
"""),
    ("helper_and_named_tuple", "a helper function and a named tuple", """
    able = able_classes(labels, k_shot + n_query)
    if able.numel() < n_way:
        raise ValueError("too few classes")
    chosen = able[torch.randperm(able.numel(), generator=generator)[:n_way]]
    rows = torch.stack([images_of(labels, c, k_shot + n_query, generator) for c in chosen])
    new = torch.arange(n_way).view(-1, 1).expand_as(rows)
    return Drawn(rows[:, :k_shot].flatten(), new[:, :k_shot].flatten(), rows[:, k_shot:].flatten(), new[:, k_shot:].flatten())
""", """
from collections import namedtuple

Drawn = namedtuple("Drawn", "support_index support_labels query_index query_labels")

def able_classes(labels, number):
    values, sizes = torch.unique(labels, return_counts=True)
    return values[sizes >= number]

def images_of(labels, label, number, generator):
    places = (labels == label).nonzero().squeeze(1)
    return places[torch.randperm(places.numel(), generator=generator)[:number]]
"""),
    ("removed_after_drawing", "draws the query from what is left", """
    counts = {}
    for label in labels.tolist():
        counts[label] = counts.get(label, 0) + 1
    able = [c for c in counts if counts[c] >= k_shot + n_query]
    if len(able) < n_way:
        raise ValueError("too few classes")
    support, query = [], []
    for _ in range(n_way):
        c = able.pop(int(torch.randint(len(able), (1,), generator=generator)))
        left = torch.nonzero(labels == c)[:, 0].tolist()
        for part, number in ((support, k_shot), (query, n_query)):
            for _ in range(number):
                part.append(left.pop(int(torch.randint(len(left), (1,), generator=generator))))
    return (torch.tensor(support), torch.arange(n_way).repeat_interleave(k_shot),
            torch.tensor(query), torch.arange(n_way).repeat_interleave(n_query))
"""),
    ("sorted_argsort", "sorts the images by class first", """
    order = labels.argsort(stable=True)
    values, sizes = labels[order].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    able = (sizes >= k_shot + n_query).nonzero().flatten()
    if len(able) < n_way:
        raise ValueError("too few classes")
    support, query = [], []
    for place in able[torch.randperm(len(able), generator=generator)[:n_way]].tolist():
        within = starts[place] + torch.randperm(int(sizes[place]), generator=generator)
        support.append(order[within[:k_shot]])
        query.append(order[within[k_shot : k_shot + n_query]])
    new = torch.arange(n_way)
    return torch.cat(support), new.repeat_interleave(k_shot), torch.cat(query), new.repeat_interleave(n_query)
"""),
]  # fmt: skip

EPISODE_CORRECT = [
    correct("plain", "as the notebook explains it", EPISODE),
    *(correct(name, text, replaced(EPISODE, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
]
