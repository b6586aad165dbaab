"""Losses with the right values and another mistake: gradients, range, sizes, errors, what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.plain_prototypes import PROTOTYPES
from autograder.checks.meta_learning.corpus.prototypes.parts import (
    CHECK,
    LOGITS,
    LOSS,
    MEANS,
    RETURN,
    SIGNATURE,
    changed,
    of_body,
    wrong,
)
from autograder.labs.corpus import replaced

# what a mistake should cost, of 25 points
ONE_WAY = (3, 5)  # no gradient of the prototypes, or of the queries
PART = (3, 5)  # another gradient
NO_GRADIENT = (6, 9)  # training changes nothing, or ends with an error
RANGE = (1, 2)
SIZE = (1, 2)
ERROR = (1, 1)
FORM = (2, 3)
NOTHING = (13, 25)

_REACH = "gradients_reach_support_and_query"
_GRADIENTS = "gradients_are_those_of_the_loss"
_NEITHER = f"{_REACH} {_GRADIENTS}"

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # gradients
    ("prototypes_detached", "detaches the prototypes", ONE_WAY, _REACH, "prototypes[None]", "prototypes.detach()[None]"),
    ("prototypes_without_grad", "computes prototypes without gradients", ONE_WAY, _REACH,
     f"    prototypes = {MEANS}\n", f"    with torch.no_grad():\n        prototypes = {MEANS}\n"),
    ("prototypes_of_data", "computes prototypes from the data of the support", ONE_WAY, _REACH, "[support[", "[support.data["),
    ("prototypes_copied", "copies the prototypes into a new tensor", ONE_WAY, _REACH, "prototypes[None]", "torch.tensor(prototypes.tolist())[None]"),
    ("query_detached", "detaches the queries", ONE_WAY, _REACH, "query[:, None] -", "query.detach()[:, None] -"),
    ("both_detached", "detaches the differences", NO_GRADIENT, _NEITHER, LOGITS, "-difference.detach().square().sum(dim=2)"),
    ("no_grad", "computes without gradients", NO_GRADIENT, _NEITHER, "\ndef", "\n@torch.no_grad()\ndef"),
    ("logits_detached", "takes the loss of detached logits", NO_GRADIENT, _NEITHER, "cross_entropy(logits,", "cross_entropy(logits.detach(),"),
    ("through_numpy", "computes prototypes with numpy", ONE_WAY, _REACH,
     "[support[support_labels == label]", "[torch.from_numpy(support.detach().numpy()[(support_labels == label).numpy()])"),
    ("fresh_gradient", "returns a copy of the loss that requires a gradient but has none", NO_GRADIENT, _NEITHER,
     RETURN, f"return {LOSS}.detach().requires_grad_(), logits"),
    ("own_class_detached", "detaches the logits of the other classes", PART, _GRADIENTS,
     LOSS, "F.cross_entropy(torch.where(F.one_hot(query_labels, n_way).bool(), logits, logits.detach()), query_labels)"),
    ("denominator_detached", "detaches the sum over the classes", PART, "",
     LOSS, "(logits.logsumexp(1).detach() - logits.gather(1, query_labels[:, None])[:, 0]).mean()"),
    ("first_row_learns", "detaches all support rows but the first of each class", PART, _GRADIENTS,
     "support[support_labels == label].mean(dim=0)",
     "(lambda rows: torch.cat([rows[:1], rows[1:].detach()]).mean(dim=0))(support[support_labels == label])"),
    ("one_factor_detached", "detaches one factor of the square", PART, _GRADIENTS, LOGITS, "-(difference * difference.detach()).sum(dim=2)"),
    ("scaled_gradient", "doubles the gradient by a trick", PART, _GRADIENTS, LOSS, f"2 * {LOSS} - {LOSS}.detach()"),
    ("clamped", "clamps differences, whose gradient is then lost", (3, 11), "", LOGITS, "-difference.clamp(-1, 1).square().sum(dim=2)"),
    # precision and range
    ("half_precision", "computes in half precision", (1, 12), "",
     LOGITS, "-difference.half().square().sum(dim=2).to(query.dtype)"),
    ("bfloat16", "computes in bfloat16", (1, 12), "", LOGITS, "-difference.bfloat16().square().sum(dim=2).to(query.dtype)"),
    ("rounded_loss", "rounds the loss for display", (5, 10), "", LOSS, f"({LOSS} * 100).round() / 100"),
    ("logarithm_of_softmax", "takes the logarithm of softmax", RANGE, "finite_numbers",
     LOSS, "F.nll_loss(logits.softmax(dim=1).log(), query_labels)"),
    ("exponentials", "takes exponentials, their sum and its logarithm one by one", RANGE, "finite_numbers",
     LOSS, "(logits.exp().sum(1).log() - logits.gather(1, query_labels[:, None])[:, 0]).mean()"),
    ("eps_in_logarithm", "adds a small number to the probability", RANGE, "finite_numbers",
     LOSS, "-(logits.softmax(1).gather(1, query_labels[:, None]) + 1e-10).log().mean()"),
    ("clamped_logits", "clamps the logits from below", RANGE, "",
     LOSS, "F.cross_entropy(logits.clamp(min=-80), query_labels)"),
    ("nan_to_num", "replaces what is not a number by 0", RANGE, "finite_numbers",
     LOSS, "-logits.softmax(1).log().gather(1, query_labels[:, None]).nan_to_num(0, 0, 0).mean()"),
    ("root_squared", "squares the root of the squared distance, which has no gradient at 0", RANGE, "finite_numbers",
     LOGITS, "-(difference.square().sum(dim=2).sqrt() ** 2)"),
    # sizes and types
    ("float32_alone", "makes the prototypes in float32", SIZE, "sizes_and_dtypes",
     MEANS, "torch.zeros(n_way, support.shape[1]).index_add(0, support_labels, support) / support_labels.bincount()[:, None]"),
    ("squeezed", "squeezes the logits", (1, 3), "sizes_and_dtypes", LOGITS, f"({LOGITS}).squeeze()"),
    ("no_one_class", "refuses a single class", SIZE, "sizes_and_dtypes",
     "    prototypes =", '    if n_way < 2:\n        raise ValueError("one class")\n    prototypes ='),
    ("few_classes", "knows ten classes at most", SIZE, "sizes_and_dtypes", " + 1\n", " + 1\n    n_way = min(n_way, 10)\n"),
    # errors
    ("no_check", "accepts queries without support", ERROR, "refuses_queries_without_support", CHECK, ""),
    ("largest_label_checked", "looks at the largest label alone", ERROR, "refuses_queries_without_support",
     "not set(query_labels.tolist()) <= set(support_labels.tolist())", "query_labels.max() > support_labels.max()"),
    ("numbers_of_labels_checked", "compares numbers of labels alone", ERROR, "refuses_queries_without_support",
     "not set(query_labels.tolist()) <= set(support_labels.tolist())", "len(query_labels.unique()) > len(support_labels.unique())"),
    ("other_error", "raises another error", ERROR, "refuses_queries_without_support", "raise ValueError", "raise KeyError"),
    ("assertion", "asserts instead of raising a ValueError", ERROR, "refuses_queries_without_support",
     CHECK, "    assert set(query_labels.tolist()) <= set(support_labels.tolist())\n"),
    ("prints", "prints a message instead of raising", ERROR, "refuses_queries_without_support", "raise ValueError", "return print"),
    ("ignored", "leaves out queries without support", ERROR, "refuses_queries_without_support",
     CHECK, "    known = torch.isin(query_labels, support_labels)\n    query, query_labels = query[known], query_labels[known]\n"),
    ("needs_a_query_of_each", "refuses classes without a query", (2, 3), "",
     "not set(query_labels.tolist()) <= set(support_labels.tolist())", "set(query_labels.tolist()) != set(support_labels.tolist())"),
    # what is returned, and what is left
    ("loss_alone", "returns the loss alone", (5, 9), "", RETURN, f"return {LOSS}"),
    ("logits_alone", "returns the logits alone", (13, 20), "", RETURN, "return logits"),
    ("swapped", "returns the logits first", FORM, "returns_loss_and_logits", RETURN, f"return logits, {LOSS}"),
    ("three", "returns the prototypes as well", FORM, "returns_loss_and_logits", RETURN, f"{RETURN}, prototypes"),
    ("accuracy", "returns the accuracy in place of the logits", (6, 9), "",
     RETURN, f"return {LOSS}, (logits.argmax(1) == query_labels).float().mean()"),
    ("predictions", "returns predicted labels in place of the logits", (6, 9), "", RETURN, f"return {LOSS}, logits.argmax(1)"),
    ("item", "returns the loss as a plain number", (6, 9), f"returns_loss_and_logits {_NEITHER}", RETURN, f"return {LOSS}.item(), logits"),
    ("one_loss_per_query", "returns one loss for each query", FORM, "returns_loss_and_logits",
     RETURN, 'return F.cross_entropy(logits, query_labels, reduction="none"), logits'),
    ("transposed", "returns the logits with classes as rows", (4, 8), "", RETURN, f"return {LOSS}, logits.T"),
    ("dictionary", "returns a dictionary", NOTHING, "", RETURN, f'return {{"loss": {LOSS}, "logits": logits}}'),
    ("returns_nothing", "returns nothing", NOTHING, "", RETURN, f"loss = {LOSS}"),
    ("centres_the_inputs", "centres its inputs in place", (1, 3), "inputs_stay_the_same",
     "    n_way =", "    centre = support.data.mean(0)\n    support.data -= centre\n    query.data -= centre\n    n_way ="),
    ("sorts_the_labels", "sorts the support in place", (1, 3), "",
     "    n_way =", "    order = support_labels.argsort()\n    support_labels.copy_(support_labels[order].clone())\n"
     "    support = support[order]\n    n_way ="),
    ("name_before_value", "uses a name before it has a value", NOTHING, "", "    n_way =", "    classes = n_way\n    n_way ="),
]  # fmt: skip

_LOOP_WITH_ITEM = """
    way = int(support_labels.max()) + 1
    prototypes = [support[support_labels == c].mean(0) for c in range(way)]
    logits = torch.tensor([[-float((q - p).square().sum()) for p in prototypes] for q in query])
    return F.cross_entropy(logits, query_labels), logits
"""

_UNTOUCHED = f"{SIGNATURE}    return None\n"

ELSEWHERE = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("numbers_of_floats", "collects distances as plain numbers", NO_GRADIENT, _NEITHER, of_body(_LOOP_WITH_ITEM)),
    wrong("empty", "has no body yet", (20, 25), "", _UNTOUCHED),
    wrong("one_argument_less", "takes no query labels", (20, 25), "",
          replaced(PROTOTYPES, "query, query_labels):", "query):")),
]  # fmt: skip
