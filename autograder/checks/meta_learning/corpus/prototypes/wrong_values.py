"""Losses of prototypical networks with wrong values."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.prototypes.parts import (
    IN_LOGITS,
    IN_LOSS,
    IN_RANDOM,
    IN_VALUES,
    LOGITS,
    LOSS,
    MEANS,
    RETURN,
    WAY,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 25 points
ANOTHER_LOSS = (6, 11)  # a loss that trains something else, or less well
OTHER_PROTOTYPES = (5, 11)
ORDER = (2, 8)  # right for episodes that come by class
NUMBERS = (2, 6)  # right for equal numbers of images
SHOWN = (4, 6)  # other logits are returned than those of the loss
LOSS_ALONE = (3, 6)  # right logits, another loss
USELESS = (6, 12.5)

_DIFFERENCE = "difference = query[:, None] - prototypes[None]\n    "
_BY_UNIT_VECTORS = "prototypes = F.normalize(prototypes, dim=1)\n    query = F.normalize(query, dim=1)\n    "

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # distances
    ("distance", "forgets to square the distance", ANOTHER_LOSS, IN_VALUES, LOGITS, "-difference.norm(dim=2)"),
    ("cdist", "takes cdist as it is, without a square", ANOTHER_LOSS, IN_VALUES, _DIFFERENCE, "", LOGITS, "-torch.cdist(query, prototypes)"),
    ("sign", "forgets the minus sign", ANOTHER_LOSS, IN_VALUES, LOGITS, LOGITS.removeprefix("-")),
    ("sign_and_square", "forgets minus sign and square", ANOTHER_LOSS, IN_VALUES, LOGITS, "difference.norm(dim=2)"),
    ("mean_over_dimensions", "takes the mean over the dimensions", ANOTHER_LOSS, IN_VALUES, LOGITS, "-difference.square().mean(dim=2)"),
    ("root_of_dimensions", "divides by the root of the number of dimensions", ANOTHER_LOSS, IN_VALUES,
     LOGITS, f"{LOGITS} / query.shape[1] ** 0.5"),
    ("half", "halves the squared distance", ANOTHER_LOSS, IN_VALUES, LOGITS, f"{LOGITS} / 2"),
    ("temperature", "divides by a temperature", ANOTHER_LOSS, IN_VALUES, LOGITS, f"{LOGITS} / 0.5"),
    ("cosine", "takes cosines", ANOTHER_LOSS, IN_VALUES,
     _DIFFERENCE, "", LOGITS, "F.cosine_similarity(query[:, None], prototypes[None], dim=2)"),
    ("cosine_distance", "takes minus the cosine distance", ANOTHER_LOSS, IN_VALUES,
     _DIFFERENCE, "", LOGITS, "F.cosine_similarity(query[:, None], prototypes[None], dim=2) - 1"),
    ("dot_product", "takes dot products", ANOTHER_LOSS, IN_VALUES, _DIFFERENCE, "", LOGITS, "query @ prototypes.T"),
    ("absolute", "sums absolute differences", ANOTHER_LOSS, IN_VALUES, LOGITS, "-difference.abs().sum(dim=2)"),
    ("largest", "takes the largest difference", ANOTHER_LOSS, IN_VALUES, LOGITS, "-difference.abs().amax(dim=2)"),
    ("squared_twice", "squares the distance twice", ANOTHER_LOSS, IN_VALUES, LOGITS, f"{LOGITS[1:]} ** 2".join(("-(", ")"))),
    ("square_of_the_sum", "squares the sum of the differences", ANOTHER_LOSS, IN_VALUES, LOGITS, "-difference.sum(dim=2).square()"),
    ("unit_vectors", "normalises prototypes and queries", ANOTHER_LOSS, IN_VALUES, _DIFFERENCE, _BY_UNIT_VECTORS + _DIFFERENCE),
    ("support_normalised", "normalises support and query first", ANOTHER_LOSS, "",
     "    n_way =", "    support, query = F.normalize(support, dim=1), F.normalize(query, dim=1)\n    n_way ="),
    ("centred", "centres queries and prototypes on the mean of each", ANOTHER_LOSS, "",
     _DIFFERENCE, "query = query - query.mean(dim=0)\n    prototypes = prototypes - prototypes.mean(dim=0)\n    " + _DIFFERENCE),
    ("expanded_wrongly", "forgets a factor 2 where it expands the square", ANOTHER_LOSS, IN_VALUES,
     _DIFFERENCE, "", LOGITS, "query @ prototypes.T - query.square().sum(1, keepdim=True) - prototypes.square().sum(1)"),
    ("prototype_length_missing", "forgets the length of the prototypes where it expands the square", ANOTHER_LOSS, IN_VALUES,
     _DIFFERENCE, "", LOGITS, "2 * query @ prototypes.T - query.square().sum(1, keepdim=True)"),
    ("query_length_missing", "forgets the length of the query where it expands the square", SHOWN, IN_LOGITS,
     _DIFFERENCE, "", LOGITS, "2 * query @ prototypes.T - prototypes.square().sum(1)"),
    ("inverse", "takes inverse distances", ANOTHER_LOSS, "", LOGITS, "1 / (difference.square().sum(dim=2) + 1e-6)"),
    ("exponential", "takes exponentials of minus the distance as logits", ANOTHER_LOSS, "", LOGITS, f"({LOGITS}).exp()"),
    ("eps_added", "adds a small number to each difference", ANOTHER_LOSS, "", LOGITS, "-(difference + 0.2).square().sum(dim=2)"),
    # prototypes
    ("sum_of_support", "takes the sum of the support", OTHER_PROTOTYPES, f"{IN_RANDOM} unequal_numbers", ".mean(dim=0)", ".sum(dim=0)"),
    ("first_row", "takes the first row of each class", OTHER_PROTOTYPES, f"{IN_RANDOM} unequal_numbers any_order", ".mean(dim=0)", "[0]"),
    ("median", "takes the median of the support", OTHER_PROTOTYPES, f"{IN_RANDOM} unequal_numbers", ".mean(dim=0)", ".median(dim=0).values"),
    ("largest_numbers", "takes the largest numbers of the support", OTHER_PROTOTYPES, f"{IN_RANDOM} unequal_numbers",
     ".mean(dim=0)", ".amax(dim=0)"),
    ("one_row_less", "divides by one row less", OTHER_PROTOTYPES, "",
     "].mean(dim=0)", "].sum(dim=0) / max(1, int((support_labels == label).sum()) - 1)"),
    ("mean_over_all", "divides the sums by the number of all rows", OTHER_PROTOTYPES, "", ".mean(dim=0)", ".sum(dim=0) / len(support)"),
    ("wrong_axis", "takes means over rows of different classes", OTHER_PROTOTYPES, f"{IN_RANDOM} unequal_numbers any_order",
     MEANS, "support.view(-1, n_way, support.shape[1]).mean(dim=0)"),
    ("wrong_axis_permuted", "puts classes together by the order of a matrix", OTHER_PROTOTYPES, "",
     MEANS, "support.view(-1, n_way, support.shape[1]).transpose(0, 1).mean(dim=1)"),
    ("assumes_order", "assumes that the support comes by class", ORDER, "any_order unequal_numbers",
     MEANS, "support.view(n_way, -1, support.shape[1]).mean(dim=1)"),
    ("assumes_blocks", "takes blocks of rows, as many as the class has", ORDER, "any_order",
     MEANS, "torch.stack([rows.mean(0) for rows in support.split(support_labels.bincount().tolist())])"),
    ("order_of_appearance", "numbers classes by their first appearance", ORDER, "any_order",
     MEANS, "torch.stack([support[support_labels == c].mean(0) for c in dict.fromkeys(support_labels.tolist())])"),
    ("equal_shots", "divides by the same number of rows for each class", NUMBERS, "unequal_numbers",
     ".mean(dim=0)", ".sum(dim=0) / (len(support) / n_way)"),
    ("shots_of_first", "takes as many rows of each class as the smallest has", NUMBERS, "unequal_numbers",
     "].mean(dim=0)", "][: int(support_labels.bincount().min())].mean(dim=0)"),
    ("prototypes_of_both", "takes the means of support and query together", ANOTHER_LOSS, "",
     MEANS, "torch.stack([torch.cat([support[support_labels == c], query[query_labels == c]]).mean(0) for c in range(n_way)])"),
    ("prototypes_of_the_query", "takes the means of the query", (8, 12.5), "",
     MEANS, "torch.stack([query[query_labels == c].mean(0) for c in range(n_way)])"),
    ("prototypes_normalised", "divides prototypes by their lengths", (5, 11), IN_VALUES,
     MEANS, f"F.normalize({MEANS}, dim=1)"),
    ("one_prototype", "takes the mean of the whole support for all classes", USELESS, "",
     MEANS, "support.mean(dim=0, keepdim=True).expand(n_way, -1)"),
    ("way_of_the_query", "counts the classes of the query", (2, 2), "unequal_numbers", WAY, "int(query_labels.max()) + 1"),
    ("way_of_the_query_unique", "counts the different labels of the query", (2, 3), "", WAY, "len(query_labels.unique())"),
    # labels of the query
    ("query_in_order", "assumes that the query comes by class", ORDER, "any_order unequal_numbers sizes_and_dtypes",
     LOSS, "F.cross_entropy(logits, torch.arange(n_way).repeat_interleave(len(query) // n_way)[: len(query)])"),
    ("query_repeated", "assumes that the query comes round by round", (4, 8), "",
     LOSS, "F.cross_entropy(logits, torch.arange(n_way).repeat(len(query))[: len(query)])"),
    ("loss_of_the_support", "takes the loss of the support", LOSS_ALONE, "",
     LOSS, "F.cross_entropy(-(support[:, None] - prototypes).square().sum(2), support_labels)"),
    ("support_as_query", "classifies the support", (6, 12.5), "", "query[:, None] - ", "support[:, None] - ", "query_labels), logits", "support_labels), logits"),
    # loss
    ("softmax_first", "passes probabilities to cross_entropy", LOSS_ALONE, IN_LOSS, LOSS, "F.cross_entropy(logits.softmax(dim=1), query_labels)"),
    ("softmax_first_returned", "passes probabilities to cross_entropy, and returns them", ANOTHER_LOSS, IN_VALUES, LOGITS, f"({LOGITS}).softmax(dim=1)"),
    ("softmax_over_queries", "applies log_softmax over the queries", LOSS_ALONE, IN_LOSS,
     LOSS, "F.nll_loss(logits.log_softmax(dim=0), query_labels)"),
    ("sum", "sums over the queries", LOSS_ALONE, IN_LOSS, LOSS, 'F.cross_entropy(logits, query_labels, reduction="sum")'),
    ("divided_by_way", "sums, and divides by the number of classes", LOSS_ALONE, IN_LOSS,
     LOSS, 'F.cross_entropy(logits, query_labels, reduction="sum") / n_way'),
    ("mean_of_class_means", "takes the mean of the means of the classes", NUMBERS, "unequal_numbers",
     LOSS, "torch.stack([F.cross_entropy(logits[query_labels == c], query_labels[query_labels == c]) for c in query_labels.unique()]).mean()"),
    ("negative", "changes the sign of the loss", LOSS_ALONE, IN_LOSS, RETURN, f"return -{LOSS}, logits"),
    ("no_logarithm", "forgets the logarithm", LOSS_ALONE, IN_LOSS, LOSS, "-logits.softmax(1).gather(1, query_labels[:, None]).mean()"),
    ("nll_of_logits", "passes logits to nll_loss", LOSS_ALONE, IN_LOSS, LOSS, "F.nll_loss(logits, query_labels)"),
    ("label_smoothing", "smooths the labels", LOSS_ALONE, IN_LOSS, LOSS, "F.cross_entropy(logits, query_labels, label_smoothing=0.1)"),
    ("binary", "takes a binary cross-entropy for each class", LOSS_ALONE, "",
     LOSS, "F.binary_cross_entropy_with_logits(logits, F.one_hot(query_labels, n_way).to(logits.dtype))"),
    ("squared_error", "takes the squared error of the probabilities", LOSS_ALONE, "",
     LOSS, "F.mse_loss(logits.softmax(1), F.one_hot(query_labels, n_way).to(logits.dtype))"),
    ("opposite_logits_in_loss", "passes distances to cross_entropy", LOSS_ALONE, IN_LOSS, LOSS, "F.cross_entropy(-logits, query_labels)"),
    ("zero_one", "returns the error rate as the loss", (8, 12.5), "", LOSS, "(logits.argmax(1) != query_labels).float().mean()"),
    ("length_penalty", "adds a penalty on the length of embeddings", (3, 7), "", LOSS, f"{LOSS} + 0.1 * query.square().mean()"),
    # other logits next to the right loss
    ("probabilities_returned", "returns probabilities in place of logits", SHOWN, IN_LOGITS, RETURN, f"return {LOSS}, logits.softmax(dim=1)"),
    ("log_probabilities_returned", "returns logarithms of probabilities in place of logits", SHOWN, IN_LOGITS,
     RETURN, f"return {LOSS}, logits.log_softmax(dim=1)"),
    ("distances_returned", "returns distances in place of logits", SHOWN, IN_LOGITS, RETURN, f"return {LOSS}, -logits"),
    ("rounded_logits", "returns rounded logits", SHOWN, "", RETURN, f"return {LOSS}, logits.round(decimals=1)"),
]  # fmt: skip

# name, mistake, cost, checks that do not pass, and body of the function
_BODIES = [
    ("nearest_neighbour", "takes the nearest support row of each class", (5, 11), "", """
    way = int(support_labels.max()) + 1
    far = (query[:, None] - support).square().sum(2)
    logits = -torch.stack([far[:, support_labels == c].amin(1) for c in range(way)], dim=1)
    return F.cross_entropy(logits, query_labels), logits
"""),
    ("mean_distance", "takes the mean of the squared distances to the support rows", (5, 11), "", """
    way = int(support_labels.max()) + 1
    far = (query[:, None] - support).square().sum(2)
    logits = -torch.stack([far[:, support_labels == c].mean(1) for c in range(way)], dim=1)
    return F.cross_entropy(logits, query_labels), logits
"""),
    ("matching", "takes attention over the support, as matching networks do", (6, 12.5), "", """
    way = int(support_labels.max()) + 1
    attention = (F.normalize(query, dim=1) @ F.normalize(support, dim=1).T).softmax(dim=1)
    logits = (attention @ F.one_hot(support_labels, way).to(attention.dtype)).log()
    return F.nll_loss(logits, query_labels), logits
"""),
    ("contrastive_pull", "takes the squared distance to the own prototype alone", LOSS_ALONE, IN_LOSS, """
    way = int(support_labels.max()) + 1
    prototypes = torch.stack([support[support_labels == c].mean(0) for c in range(way)])
    logits = -(query[:, None] - prototypes).square().sum(2)
    return (query - prototypes[query_labels]).square().sum(1).mean(), logits
"""),
    ("constant", "returns a number that depends on nothing", (12, 25), "", """
    way = int(support_labels.max()) + 1
    logits = torch.zeros(len(query), way, requires_grad=True)
    return F.cross_entropy(logits, query_labels), logits
"""),
]  # fmt: skip

VALUES = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
]
