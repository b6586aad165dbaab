"""Wrong episodes: which images and classes are drawn, and what the new labels say."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.episode.parts import (
    CLASSES,
    GUARD_OF_CLASSES,
    QUERY,
    QUERY_LABELS,
    RETURN,
    SHUFFLE,
    SUPPORT,
    SUPPORT_LABELS,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 15 points
OVERLAP = (2, 4)  # an accuracy that means nothing
LABELS = (2, 4)  # labels that do not name classes
PART = (1, 2)  # some classes, images or labels alone
SEVERAL_PARTS = (2, 4)
NO_CHANCE = (3, 7.5)  # one episode, or the same classes and images all the time
SIZES = (2, 4)
NOTHING = (5, 12)  # images that belong to no class

_ABLE = """
    sizes = torch.bincount(labels)
    able = torch.nonzero(sizes >= k_shot + n_query).flatten()
"""
_TWO_PARTS = f"        support.append({SUPPORT})\n        query.append({QUERY})\n"

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # support and query
    ("query_from_all", "draws the query from all images of a class, those of the support included", OVERLAP, "no_image_twice",
     QUERY, "images[torch.randperm(len(images), generator=generator)[:n_query]]"),
    ("query_starts_with_support", "begins the query with the support images", OVERLAP, "no_image_twice", QUERY, "images[:n_query]"),
    ("one_image_in_both", "begins the query with the last support image", OVERLAP, "no_image_twice",
     QUERY, "images[k_shot - 1 : k_shot - 1 + n_query]"),
    ("query_is_support", "returns the support as the query", (3, 6), "",
     QUERY, SUPPORT, QUERY_LABELS, SUPPORT_LABELS),
    ("images_with_replacement", "draws images with replacement", OVERLAP, "no_image_twice",
     SHUFFLE, "        images = images[torch.randint(len(images), (k_shot + n_query,), generator=generator)]\n"),
    ("query_with_replacement", "draws the query with replacement", OVERLAP, "no_image_twice",
     QUERY, "images[k_shot:][torch.randint(len(images) - k_shot, (n_query,), generator=generator)]"),
    ("multinomial_with_replacement", "draws the support with replacement", OVERLAP, "no_image_twice",
     SUPPORT, "images[torch.multinomial(torch.ones(k_shot), k_shot, replacement=True, generator=generator)]"),
    ("classes_with_replacement", "draws classes with replacement", (4, 6), "no_image_twice new_labels_name_classes",
     CLASSES, "able[torch.randint(len(able), (n_way,), generator=generator)]"),
    # new labels
    ("old_labels", "keeps the labels of the data set", LABELS, "new_labels_name_classes new_labels_are_random",
     RETURN, "support, query = torch.cat(support), torch.cat(query)\n    return support, labels[support], query, labels[query]"),
    ("old_labels_of_query", "keeps the labels of the data set in the query", LABELS, "new_labels_name_classes",
     QUERY_LABELS, "classes.repeat_interleave(n_query)"),
    ("all_zero", "gives all images the label 0", LABELS, "new_labels_name_classes new_labels_are_random",
     SUPPORT_LABELS, "torch.zeros(n_way * k_shot, dtype=torch.long)", QUERY_LABELS, "torch.zeros(n_way * n_query, dtype=torch.long)"),
    ("labels_from_1", "counts new labels from 1", LABELS, "new_labels_name_classes",
     "torch.arange(n_way)", "torch.arange(1, n_way + 1)"),
    ("query_labels_repeated", "repeats the query labels as a whole", LABELS, "new_labels_name_classes",
     QUERY_LABELS, "torch.arange(n_way).repeat(n_query)"),
    ("support_labels_repeated", "repeats the support labels as a whole", LABELS, "new_labels_name_classes",
     SUPPORT_LABELS, "torch.arange(n_way).repeat(k_shot)"),
    ("both_labels_repeated", "repeats all labels as a whole, for images that come by class", LABELS, "new_labels_name_classes",
     "repeat_interleave", "repeat"),
    ("labels_shuffled", "shuffles the query images, but not their labels", LABELS, "new_labels_name_classes",
     RETURN, "query = torch.cat(query)\n    query = query[torch.randperm(len(query), generator=generator)]\n"
     "    return torch.cat(support), support_labels, query, query_labels"),
    ("support_shuffled", "shuffles the support images, but not their labels", LABELS, "new_labels_name_classes",
     RETURN, "support = torch.cat(support)\n    support = support[torch.randperm(len(support), generator=generator)]\n"
     "    return support, support_labels, torch.cat(query), query_labels"),
    ("query_in_other_order", "draws other new labels for the query", LABELS, "new_labels_name_classes",
     QUERY_LABELS, "torch.randperm(n_way, generator=generator).repeat_interleave(n_query)"),
    ("query_reversed", "puts the query images together in reverse", LABELS, "new_labels_name_classes",
     "torch.cat(query)", "torch.cat(query[::-1])"),
    ("labels_in_order_of_class", "numbers the classes in their order", PART, "new_labels_are_random",
     f"classes = {CLASSES}", f"classes = {CLASSES}.sort().values"),
    ("labels_rotated", "rotates the order of the classes at random", PART, "new_labels_are_random",
     f"classes = {CLASSES}", f"classes = {CLASSES}.sort().values.roll(int(torch.randint(n_way, (1,), generator=generator)))"),
    # classes
    ("first_classes", "always takes the first classes", SEVERAL_PARTS, "classes_are_equally_likely new_labels_are_random",
     CLASSES, "able[:n_way]"),
    ("first_classes_shuffled", "always takes the first classes, in random order", PART, "classes_are_equally_likely",
     CLASSES, "able[:n_way][torch.randperm(n_way, generator=generator)]"),
    ("never_the_last_class", "never takes the last class", PART, "classes_are_equally_likely",
     CLASSES, "able[torch.randperm(max(len(able) - 1, n_way), generator=generator)[:n_way]]"),
    ("neighbouring_classes", "takes neighbouring classes, from a random one on", SEVERAL_PARTS, "",
     CLASSES, "able.roll(int(torch.randint(len(able), (1,), generator=generator)))[:n_way]"),
    ("classes_by_size", "takes classes with many images more often", PART, "classes_are_equally_likely new_labels_are_random",
     CLASSES, "able[torch.multinomial(sizes[able].float(), n_way, generator=generator)]"),
    ("classes_by_image", "takes the classes of random images", PART, "classes_are_equally_likely new_labels_are_random",
     f"classes = {CLASSES}", "order = labels[torch.randperm(len(labels), generator=generator)].tolist()\n"
     "    classes = torch.tensor([c for c in dict.fromkeys(order) if c in able.tolist()][:n_way])"),
    ("largest_classes", "takes the largest classes", SEVERAL_PARTS, "", CLASSES, "able[sizes[able].argsort(descending=True)[:n_way]]"),
    # images
    ("first_images", "always takes the first images of a class", PART, "images_are_equally_likely", SHUFFLE, ""),
    ("first_support", "always takes the first images as the support", PART, "images_are_equally_likely",
     SHUFFLE, "        images = torch.cat([images[:k_shot], images[k_shot:][torch.randperm(len(images) - k_shot, generator=generator)]])\n"),
    ("first_of_the_rest", "shuffles support and query of the first images alone", PART, "images_are_equally_likely",
     SHUFFLE, "        images = images[torch.randperm(k_shot + n_query, generator=generator)]\n"),
    ("never_the_last_image", "never takes the last image of a class with some to spare", PART, "images_are_equally_likely",
     SHUFFLE, "        images = images[: max(len(images) - 1, k_shot + n_query)]\n" + SHUFFLE),
    ("neighbouring_images", "takes neighbouring images, from a random one on", PART, "images_are_equally_likely",
     SHUFFLE, "        images = images.roll(int(torch.randint(len(images), (1,), generator=generator)))\n"),
    ("halves_of_a_class", "takes the support from the first half of a class", PART, "images_are_equally_likely",
     _TWO_PARTS, "        half = max(k_shot, min(len(images) // 2, len(images) - n_query))\n"
     "        first, second = images.sort().values.split([half, len(images) - half])\n"
     "        support.append(first[torch.randperm(len(first), generator=generator)[:k_shot]])\n"
     "        query.append(second[torch.randperm(len(second), generator=generator)[:n_query]])\n"),
    ("one_order_for_all", "shuffles as many images of each class as the smallest has", PART, "images_are_equally_likely",
     "    support, query = [], []\n", "    order = torch.randperm(int(sizes[able].min()), generator=generator)\n    support, query = [], []\n",
     SHUFFLE, "        images = images[order]\n"),
    # numbers of images
    ("queries_in_all", "takes n_query images in all", SIZES, "",
     RETURN, "query = torch.cat(query)\n    few = torch.randperm(len(query), generator=generator)[:n_query]\n"
     "    return torch.cat(support), support_labels, query[few], query_labels[few]"),
    ("shots_in_all", "takes k_shot images in all", SIZES, "",
     RETURN, "support = torch.cat(support)\n    few = torch.randperm(len(support), generator=generator)[:k_shot]\n"
     "    return support[few], support_labels[few], torch.cat(query), query_labels"),
    ("rest_is_query", "takes all images that are left as the query", SIZES, "",
     QUERY, "images[k_shot:]", QUERY_LABELS, "torch.cat([torch.full((len(q),), i) for i, q in enumerate(query)])"),
    ("one_query_too_few", "ends the query one image early", SIZES, "",
     QUERY, "images[k_shot : k_shot + n_query - 1]", QUERY_LABELS, "torch.arange(n_way).repeat_interleave(n_query - 1)"),
    ("shot_and_query_swapped", "swaps k_shot and n_query", (2, 4), "returns_indices_and_labels",
     "    sizes =", "    k_shot, n_query = n_query, k_shot\n    sizes ="),
]  # fmt: skip

# name, mistake, cost, checks that do not pass, and body of the function
_BODIES = [
    ("pooled", "draws from the images of all chosen classes together", (2, 4), "new_labels_name_classes", f"""{_ABLE}{GUARD_OF_CLASSES}
    classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
    pool = torch.nonzero(torch.isin(labels, classes)).flatten()
    pool = pool[torch.randperm(len(pool), generator=generator)]
    new = (labels[pool][:, None] == classes).long().argmax(1)
    s, e = n_way * k_shot, n_way * (k_shot + n_query)
    return pool[:s], new[:s], pool[s:e], new[s:e]
"""),
    ("any_images", "draws any images, whatever their class", NOTHING, "", f"""{_ABLE}{GUARD_OF_CLASSES}
    order = torch.randperm(len(labels), generator=generator)
    s, e = n_way * k_shot, n_way * (k_shot + n_query)
    new = torch.arange(n_way)
    return order[:s], new.repeat_interleave(k_shot), order[s:e], new.repeat_interleave(n_query)
"""),
    ("query_of_other_classes", "draws other classes for the query", (4, 7.5), "", f"""{_ABLE}{GUARD_OF_CLASSES}
    parts = []
    for number in (k_shot, n_query):
        classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
        found = [torch.nonzero(labels == c).flatten() for c in classes]
        index = torch.cat([f[torch.randperm(len(f), generator=generator)[:number]] for f in found])
        parts += [index, torch.arange(n_way).repeat_interleave(number)]
    return tuple(parts)
"""),
    ("index_within_class", "returns the places of images within their class", (4, 12), "", f"""{_ABLE}{GUARD_OF_CLASSES}
    classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
    places = torch.stack([torch.randperm(int(sizes[c]), generator=generator)[: k_shot + n_query] for c in classes])
    new = torch.arange(n_way)
    return (places[:, :k_shot].flatten(), new.repeat_interleave(k_shot),
            places[:, k_shot:].flatten(), new.repeat_interleave(n_query))
"""),
    ("assumes_order", "assumes that images come by class, each with as many", (2, 5), "new_labels_name_classes", f"""{_ABLE}{GUARD_OF_CLASSES}
    size = len(labels) // len(sizes)
    classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
    index = torch.stack([c * size + torch.randperm(size, generator=generator)[: k_shot + n_query] for c in classes])
    new = torch.arange(n_way)
    return (index[:, :k_shot].flatten(), new.repeat_interleave(k_shot),
            index[:, k_shot:].flatten(), new.repeat_interleave(n_query))
"""),
    ("assumes_blocks", "assumes that images come by class", (2, 5), "new_labels_name_classes", f"""{_ABLE}{GUARD_OF_CLASSES}
    starts = sizes.cumsum(0) - sizes
    classes = able[torch.randperm(len(able), generator=generator)[:n_way]]
    index = torch.stack([starts[c] + torch.randperm(int(sizes[c]), generator=generator)[: k_shot + n_query] for c in classes])
    new = torch.arange(n_way)
    return (index[:, :k_shot].flatten(), new.repeat_interleave(k_shot),
            index[:, k_shot:].flatten(), new.repeat_interleave(n_query))
"""),
]  # fmt: skip

DRAWS = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
]
