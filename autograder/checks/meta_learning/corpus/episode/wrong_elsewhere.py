"""Wrong ways to sample: generators, small classes, labels with gaps, errors, and what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.episode.parts import (
    CLASSES,
    NUMBERS,
    QUERY_LABELS,
    RETURN,
    SHUFFLE,
    SIGNATURE,
    SUPPORT_LABELS,
    TOO_FEW,
    changed,
    wrong,
)
from autograder.checks.meta_learning.corpus.plain_episode import EPISODE
from autograder.labs.corpus import replaced

# what a mistake should cost, of 15 points
GLOBAL = (2, 3)  # numbers of another generator: nothing can be repeated
SAME = (1, 3)  # repeats itself
NO_CHANCE = (4, 7.5)  # one episode for ever
SMALL = (1, 3)
ANY_LABELS = (1, 2)  # labels with gaps
ONE_ERROR, ALL_ERRORS = (1, 1), (2, 2)
FORM = (1, 2)
NOTHING = (10, 15)

_OWN = "generator=generator"
_ALL_CLASSES = "sizes = torch.bincount(labels)\n    able = torch.nonzero(sizes >= k_shot + n_query).flatten()"

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # generators
    ("global_generator", "draws from the global generator", GLOBAL, "same_state_same_episode generator_alone",
     f", {_OWN}", ""),
    ("global_for_images", "draws images from the global generator", GLOBAL, "same_state_same_episode generator_alone",
     SHUFFLE, "        images = images[torch.randperm(len(images))]\n"),
    ("global_for_classes", "draws classes from the global generator", GLOBAL, "same_state_same_episode generator_alone",
     CLASSES, "able[torch.randperm(len(able))[:n_way]]"),
    ("python_random", "draws classes by the module random", GLOBAL, "same_state_same_episode generator_alone",
     "\ndef sample", "\nimport random\n\ndef sample", CLASSES, "torch.tensor(random.sample(able.tolist(), n_way))"),
    ("numpy_random", "draws images by numpy", GLOBAL, "same_state_same_episode generator_alone",
     "\ndef sample", "\nimport numpy as np\n\ndef sample",
     SHUFFLE, "        images = images[torch.from_numpy(np.random.permutation(len(images)))]\n"),
    ("system_random", "draws classes by the random numbers of the system", (1, 3), "same_state_same_episode",
     "\ndef sample", "\nimport random\n\ndef sample",
     CLASSES, "torch.tensor(random.SystemRandom().sample(able.tolist(), n_way))"),
    ("global_seeded", "seeds the global generator from the generator", (1, 2), "generator_alone",
     '    support, query', "    torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))\n    support, query",
     SHUFFLE, "        images = images[torch.randperm(len(images))]\n"),
    ("first_seed", "makes a generator from the first seed of the generator", SAME, "generator_alone",
     "    sizes =", "    generator = torch.Generator().manual_seed(generator.initial_seed())\n    sizes ="),
    ("seeds_again", "seeds the generator again in each call", SAME, "generator_alone",
     "    sizes =", "    generator.manual_seed(generator.initial_seed())\n    sizes ="),
    ("copies_the_state", "draws from a copy of the generator", SAME, "generator_alone",
     "    sizes =", "    state = generator.get_state()\n    generator = torch.Generator()\n    generator.set_state(state)\n    sizes ="),
    ("state_restored", "restores the state of the generator", SAME, "generator_alone",
     "    sizes =", "    state = generator.get_state()\n    sizes =",
     "    support_labels =", "    generator.set_state(state)\n    support_labels ="),
    ("one_seed", "seeds the generator with 0", NO_CHANCE, "", "    sizes =", "    generator.manual_seed(0)\n    sizes ="),
    ("own_generator", "makes a generator with the seed 0", NO_CHANCE, "", "    sizes =", "    generator = torch.Generator().manual_seed(0)\n    sizes ="),
    ("no_chance", "draws nothing at random", NO_CHANCE, "", SHUFFLE, "", CLASSES, "able[:n_way]"),
    ("few_seeds", "knows ten seeds alone", (2, 7.5), "",
     "    sizes =", "    generator = torch.Generator().manual_seed(int(torch.randint(10, (1,), generator=generator)))\n    sizes ="),
    # small classes
    ("no_small_classes_left_out", "draws classes that are too small", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " > 0"),
    ("enough_for_the_support", "counts the support images alone", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " >= k_shot"),
    ("enough_for_the_query", "counts the query images alone", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " >= n_query"),
    ("enough_for_one", "counts the larger of both numbers", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " >= max(k_shot, n_query)"),
    ("one_image_to_spare", "wants one image more than it needs", (1, 2), "", " >= k_shot + n_query", " > k_shot + n_query"),
    ("one_image_short", "takes classes with one image too few", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " >= k_shot + n_query - 1"),
    ("filled_up", "fills up small classes with images that come again", SMALL, "small_classes_are_left_out refuses_too_few_classes",
     " >= k_shot + n_query", " > 0", SHUFFLE, SHUFFLE + "        images = images.repeat(k_shot + n_query)\n"),
    ("small_classes_refused", "refuses data sets with a small class", (1, 1), "small_classes_are_left_out",
     TOO_FEW, TOO_FEW.replace("len(able) < n_way", "len(able) < max(n_way, len(labels.unique()))")),
    # labels of a data set
    ("labels_without_gaps", "takes the number of classes for their labels", ANY_LABELS, "labels_of_any_kind",
     _ALL_CLASSES, "sizes = torch.tensor([int((labels == c).sum()) for c in range(len(labels.unique()))])\n"
     "    able = torch.nonzero(sizes >= k_shot + n_query).flatten()"),
    ("place_for_label", "takes the places of classes for their labels", ANY_LABELS, "labels_of_any_kind",
     _ALL_CLASSES, "able = torch.nonzero(labels.unique(return_counts=True)[1] >= k_shot + n_query).flatten()"),
    ("labels_changed", "numbers the labels of the data set in place", (1, 1), "labels_of_any_kind",
     "    sizes =", "    labels.copy_(labels.unique(return_inverse=True)[1])\n    sizes ="),
    ("labels_sorted", "sorts the labels first, and returns places in the sorted ones", (2, 5), "new_labels_name_classes",
     "    sizes =", "    labels = labels.sort().values\n    sizes ="),
    ("sorts_in_place", "sorts the labels of the caller", (2, 6), "",
     "    sizes =", "    labels.copy_(labels.sort().values)\n    sizes ="),
    ("equal_sizes", "shuffles the images of all classes by the number of the first", (1, 3), "",
     SHUFFLE, "        images = images[torch.randperm(int(sizes[able[0]]), generator=generator).clamp(max=len(images) - 1)]\n"),
    ("not_all_classes", "refuses to draw all classes", (1, 2), "labels_of_any_kind", "len(able) < n_way", "len(able) <= n_way"),
    ("two_classes_at_least", "refuses episodes with one class", (1, 1), "labels_of_any_kind",
     "n_way < 1 or", "n_way < 2 or"),
    ("query_as_large_as_support", "takes as many queries as shots if there are more shots", (1, 1), "labels_of_any_kind",
     "    support, query = [], []\n", "    n_query = max(n_query, k_shot)\n    support, query = [], []\n"),
    # errors
    ("no_check_of_numbers", "accepts numbers below 1", ONE_ERROR, "refuses_numbers_below_one", NUMBERS, ""),
    ("no_check_of_way", "accepts episodes without classes", ONE_ERROR, "refuses_numbers_below_one", "n_way < 1 or ", ""),
    ("no_check_of_query", "accepts episodes without queries", ONE_ERROR, "refuses_numbers_below_one", " or n_query < 1", ""),
    ("accepts_zero", "accepts 0", ONE_ERROR, "refuses_numbers_below_one", "< 1", "< 0"),
    ("accepts_negative", "accepts negative numbers", ONE_ERROR, "refuses_numbers_below_one", "< 1", "== 0"),
    ("sum_checked", "checks the sum of the numbers alone", ONE_ERROR, "refuses_numbers_below_one",
     "n_way < 1 or k_shot < 1 or n_query < 1", "n_way + k_shot + n_query < 3"),
    ("no_check_of_classes", "accepts too few classes", ONE_ERROR, "refuses_too_few_classes", TOO_FEW, "    n_way = min(n_way, len(able))\n"),
    ("all_classes_counted", "counts small classes, too, before it complains", ONE_ERROR, "refuses_too_few_classes",
     "len(able) < n_way", "len(sizes) < n_way"),
    ("other_error", "raises another error", ALL_ERRORS, "refuses_numbers_below_one refuses_too_few_classes", "raise ValueError", "raise RuntimeError"),
    ("assertions", "asserts instead of raising a ValueError", ALL_ERRORS, "refuses_numbers_below_one refuses_too_few_classes",
     NUMBERS, "    assert n_way >= 1 and k_shot >= 1 and n_query >= 1\n", TOO_FEW, "    assert len(able) >= n_way\n"),
    ("prints", "prints a message instead of raising", ALL_ERRORS, "refuses_numbers_below_one refuses_too_few_classes",
     "raise ValueError", "return print"),
    # what is returned
    ("two_dimensions", "returns indices of shape (n_way, k_shot)", FORM, "returns_indices_and_labels",
     RETURN, "return torch.stack(support), support_labels.view(n_way, -1), torch.stack(query), query_labels.view(n_way, -1)"),
    ("lists", "returns lists of numbers", FORM, "returns_indices_and_labels",
     RETURN, "return torch.cat(support).tolist(), support_labels.tolist(), torch.cat(query).tolist(), query_labels.tolist()"),
    ("list_of_tensors", "returns one tensor for each class", (1, 2), "returns_indices_and_labels",
     RETURN, "return support, support_labels, query, query_labels"),
    ("int32", "returns int32", FORM, "returns_indices_and_labels",
     RETURN, "return torch.cat(support).int(), support_labels.int(), torch.cat(query).int(), query_labels.int()"),
    ("float_labels", "returns labels as floating-point numbers", FORM, "returns_indices_and_labels",
     SUPPORT_LABELS, f"{SUPPORT_LABELS}.float()", QUERY_LABELS, f"{QUERY_LABELS}.float()"),
    ("indices_first", "returns both index tensors first", FORM, "returns_indices_and_labels",
     RETURN, "return torch.cat(support), torch.cat(query), support_labels, query_labels"),
    ("labels_first", "returns labels before indices", FORM, "returns_indices_and_labels",
     RETURN, "return support_labels, torch.cat(support), query_labels, torch.cat(query)"),
    ("query_first", "returns the query first", FORM, "returns_indices_and_labels",
     RETURN, "return torch.cat(query), query_labels, torch.cat(support), support_labels"),
    ("one_hot", "returns one-hot labels", (2, 5), "",
     RETURN, "return torch.cat(support), F.one_hot(support_labels), torch.cat(query), F.one_hot(query_labels)"),
    ("no_labels", "returns indices alone", NOTHING, "", RETURN, "return torch.cat(support), torch.cat(query)"),
    ("labels_in_place_of_indices", "returns the labels of the images in place of their indices", (4, 15), "",
     RETURN, "return labels[torch.cat(support)], support_labels, labels[torch.cat(query)], query_labels"),
    ("masks", "returns masks in place of indices", (6, 15), "",
     RETURN, "where = torch.arange(len(labels))\n    return (torch.isin(where, torch.cat(support)), support_labels, "
     "torch.isin(where, torch.cat(query)), query_labels)"),
    ("returns_nothing", "returns nothing", NOTHING, "", RETURN, "episode = torch.cat(support), support_labels, torch.cat(query), query_labels"),
    ("name_before_value", "uses a name before it has a value", NOTHING, "",
     "        query.append(images", "        query.append(rest", RETURN, f"rest = images\n    {RETURN}"),
]  # fmt: skip

_UNTOUCHED = f"{SIGNATURE}    return None\n"

ELSEWHERE = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("empty", "has no body yet", (10, 15), "", _UNTOUCHED),
    wrong("one_argument_less", "takes no generator", (10, 15), "",
          replaced(EPISODE, ", generator):", "):", f", {_OWN}", "")),
]  # fmt: skip
