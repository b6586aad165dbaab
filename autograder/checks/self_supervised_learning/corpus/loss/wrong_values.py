"""Contrastive losses with another value than the contract's."""

from __future__ import annotations

from typing import Any

from autograder.checks.self_supervised_learning.corpus.loss.parts import (
    LOGITS,
    MASK,
    NORMALISE,
    OTHER,
    RETURN,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 25 points
ANOTHER_LOSS = (6, 10)  # a loss that trains something else, or less well
INVARIANCE = (7, 11)  # which also depends on the length of rows
ONE_WAY = (4, 7)
FACTOR = (3, 5)  # the right loss up to its size
USELESS = (8, 12.5)  # nothing useful is learned
NOT_FINITE = (10, 20)  # never a number: nothing works
STRANGE = (8, 12.5)  # a loss of another kind

_ONE_MATRIX = "z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)\n    logits = z1 @ z2.T / temperature\n"

# name, mistake, cost, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # candidates
    ("itself_not_masked", "counts each row among its own candidates", ANOTHER_LOSS, MASK, ""),
    ("diagonal_zero", "multiplies the diagonal of the logits by 0 instead of leaving it out", ANOTHER_LOSS,
     MASK, "    logits = logits * (1 - torch.eye(2 * n, device=z.device))\n"),
    ("diagonal_minus_one", "sets the similarity of a row with itself to -1, which still counts", ANOTHER_LOSS,
     LOGITS, "(z @ z.T).fill_diagonal_(-1) / temperature", MASK, ""),
    ("positive_left_out", "leaves the other view out of the denominator", ANOTHER_LOSS,
     RETURN, "match = logits.gather(1, other[:, None])\n"
     '    logits = logits.scatter(1, other[:, None], float("-inf"))\n    return (logits.logsumexp(1) - match[:, 0]).mean()'),
    ("positive_twice", "counts the other view twice in the denominator", ANOTHER_LOSS,
     RETURN, "match = logits.gather(1, other[:, None])\n"
     "    return (torch.cat([match, logits], dim=1).logsumexp(1) - match[:, 0]).mean()"),
    ("other_view_alone", "takes rows of the other view alone as candidates", ANOTHER_LOSS,
     MASK, '    logits[:n, :n] = logits[n:, n:] = float("-inf")\n'),
    ("own_view_alone", "takes negatives from the row's own view alone", ANOTHER_LOSS,
     MASK, MASK + '    cross = logits[:n, n:]\n    logits[:n, n:] = torch.full((n, n), -torch.inf).diagonal_scatter(cross.diagonal())\n'
     "    logits[n:, :n] = logits[:n, n:].T.clone()\n"),
    ("hardest_alone", "compares with the hardest negative alone", ANOTHER_LOSS,
     RETURN, "match = logits.gather(1, other[:, None])\n"
     '    hardest = logits.scatter(1, other[:, None], float("-inf")).amax(1, keepdim=True)\n'
     "    return (torch.cat([match, hardest], dim=1).logsumexp(1) - match[:, 0]).mean()"),
    ("mean_in_denominator", "takes the mean over the candidates in the denominator", ANOTHER_LOSS,
     RETURN, f"{RETURN} - math.log(2 * n - 1)"),
    ("image_masked_in_one_half", "leaves out itself in the first view alone", ANOTHER_LOSS,
     MASK, "    itself[n:] = False\n" + MASK),
    # rows
    ("not_normalised", "does not normalise the rows", INVARIANCE, NORMALISE, "torch.cat([z1, z2])"),
    ("normalised_over_batch", "normalises columns instead of rows", INVARIANCE, "dim=1)\n    logits", "dim=0)\n    logits"),
    ("views_normalised_over_batch", "normalises the columns of each view", INVARIANCE,
     NORMALISE, "torch.cat([F.normalize(z1, dim=0), F.normalize(z2, dim=0)])"),
    ("first_view_normalised", "normalises the first view alone", INVARIANCE, NORMALISE, "torch.cat([F.normalize(z1, dim=1), z2])"),
    ("second_view_normalised", "normalises the second view alone", INVARIANCE, NORMALISE, "torch.cat([z1, F.normalize(z2, dim=1)])"),
    ("one_norm_for_all", "divides each view by one norm of all its numbers", INVARIANCE,
     NORMALISE, "torch.cat([z1 / z1.norm(), z2 / z2.norm()])"),
    ("squared_length", "divides rows by the square of their length", INVARIANCE,
     f"z = {NORMALISE}", "z = torch.cat([z1, z2])\n    z = z / z.pow(2).sum(1, keepdim=True)"),
    ("absolute_sum", "divides rows by the sum of their absolute values", ANOTHER_LOSS, "dim=1)\n    logits", "dim=1, p=1)\n    logits"),
    ("centred", "centres the rows first", ANOTHER_LOSS,
     f"z = {NORMALISE}", "z = torch.cat([z1, z2])\n    z = F.normalize(z - z.mean(1, keepdim=True), dim=1)"),
    ("first_view_twice", "puts the first view in the place of both", (8, 12.5), "torch.cat([z1, z2])", "torch.cat([z1, z1])"),
    ("second_view_twice", "puts the second view in the place of both", (8, 12.5), "torch.cat([z1, z2])", "torch.cat([z2, z2])"),
    # positives
    ("neighbours", "takes rows 2i and 2i + 1 as a pair though the views are concatenated", ANOTHER_LOSS,
     OTHER, "(torch.arange(2 * n) ^ 1)"),
    ("next_image", "takes the other view of the next image as the positive", ANOTHER_LOSS, OTHER, "torch.arange(2 * n).roll(n - 1)"),
    ("reverse", "takes the rows of the other view in reverse", ANOTHER_LOSS, OTHER, "torch.arange(2 * n).flip(0)"),
    ("match_is_itself", "takes each row as its own positive, which is masked", NOT_FINITE, OTHER, "torch.arange(2 * n)"),
    ("first_view_for_all", "takes rows of the first view as the positives of all rows", NOT_FINITE, OTHER, "torch.arange(n).repeat(2)"),
    # temperature
    ("temperature_multiplied", "multiplies by the temperature", ANOTHER_LOSS, "/ temperature", "* temperature"),
    ("temperature_forgotten", "forgets the temperature", ANOTHER_LOSS, "/ temperature", ""),
    ("temperature_twice", "divides by the temperature twice", ANOTHER_LOSS, "/ temperature", "/ temperature / temperature"),
    ("temperature_fixed", "always divides by 0.5, whatever is passed", ANOTHER_LOSS, "/ temperature", "/ 0.5"),
    ("temperature_root", "divides by the root of the temperature", ANOTHER_LOSS, "/ temperature", "/ temperature ** 0.5"),
    ("temperature_on_both_rows", "divides the rows of both sides by the temperature", ANOTHER_LOSS,
     NORMALISE, f"{NORMALISE} / temperature", " @ z.T / temperature", " @ z.T"),
    # similarity
    ("cosine_distance", "takes a distance for the similarity", ANOTHER_LOSS, LOGITS, "(1 - z @ z.T) / temperature"),
    ("opposite_sign", "changes the sign of the similarity", ANOTHER_LOSS, LOGITS, "-z @ z.T / temperature"),
    ("distance", "takes Euclidean distances of unit vectors for cosines", ANOTHER_LOSS, LOGITS, "-torch.cdist(z, z) / temperature"),
    ("squared_distance", "takes squared distances of unit vectors, which halves the temperature", ANOTHER_LOSS,
     LOGITS, "-torch.cdist(z, z) ** 2 / temperature"),
    ("distance_of_long_rows", "takes Euclidean distances of rows that are not normalised", INVARIANCE,
     NORMALISE, "torch.cat([z1, z2])", LOGITS, "-torch.cdist(z, z) / temperature"),
    ("negative_cut_off", "cuts off negative similarities", (3, 8), LOGITS, "(z @ z.T).clamp(min=0) / temperature"),
    ("absolute_similarity", "takes absolute values of the similarities", (3, 8), LOGITS, "(z @ z.T).abs() / temperature"),
    ("from_0_to_1", "maps similarities to [0, 1], which doubles the temperature", ANOTHER_LOSS,
     LOGITS, "(z @ z.T + 1) / 2 / temperature"),
    ("softmax_twice", "passes probabilities to cross_entropy", ANOTHER_LOSS,
     RETURN, "return F.cross_entropy(logits.softmax(dim=1), other)"),
    ("exponential_twice", "passes exponentials to cross_entropy", ANOTHER_LOSS,
     MASK, '    logits = logits.exp().masked_fill(itself, float("-inf"))\n'),
    ("no_logarithm", "forgets the logarithm", ANOTHER_LOSS,
     RETURN, "return -logits.softmax(dim=1).gather(1, other[:, None]).mean()"),
    ("log_of_the_mean", "takes the logarithm of a mean of probabilities", ANOTHER_LOSS,
     RETURN, "return -logits.softmax(dim=1).gather(1, other[:, None]).mean().log()"),
    # directions and size
    ("first_direction", "asks the rows of the first view alone", ONE_WAY, RETURN, "return F.cross_entropy(logits[:n], other[:n])"),
    ("second_direction", "asks the rows of the second view alone", ONE_WAY, RETURN, "return F.cross_entropy(logits[n:], other[n:])"),
    ("sum", "sums over the rows", FACTOR, RETURN, 'return F.cross_entropy(logits, other, reduction="sum")'),
    ("sum_of_one_direction", "sums over the rows of the first view alone", ANOTHER_LOSS,
     RETURN, 'return F.cross_entropy(logits[:n], other[:n], reduction="sum")'),
    ("divided_by_n", "sums over 2n rows and divides by n", FACTOR,
     RETURN, 'return F.cross_entropy(logits, other, reduction="sum") / n'),
    ("two_directions_added", "adds the means of both directions", FACTOR,
     RETURN, "return F.cross_entropy(logits[:n], other[:n]) + F.cross_entropy(logits[n:], other[n:])"),
    ("half", "halves the mean over all rows", FACTOR, RETURN, f"{RETURN} / 2"),
    ("divided_twice", "divides the mean by the number of rows", FACTOR, RETURN, f"{RETURN} / (2 * n)"),
    ("times_temperature", "multiplies the loss by the temperature", FACTOR, RETURN, f"{RETURN} * temperature"),
    ("negative", "forgets the minus sign", ANOTHER_LOSS, RETURN, f"return -{RETURN.removeprefix('return ')}"),
    ("largest_row", "takes the largest loss of a row", ANOTHER_LOSS,
     RETURN, 'return F.cross_entropy(logits, other, reduction="none").max()'),
    # more than the contract asks for
    ("length_penalty", "adds a penalty of the length of rows", (8, 13), RETURN, f"{RETURN} + 0.3 * (z1.square().mean() + z2.square().mean())"),
    ("not_masked_nor_normalised", "neither masks nor normalises", (8, 12.5), MASK, "", NORMALISE, "torch.cat([z1, z2])"),
]  # fmt: skip

# name, mistake, cost, and body of the function
_BODIES = [
    ("as_clip", "compares the views in both directions, as CLIP does", ANOTHER_LOSS, f"""
    {_ONE_MATRIX}    labels = torch.arange(n)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
"""),
    ("as_clip_one_way", "compares the first view with the second alone", USELESS, f"""
    {_ONE_MATRIX}    return F.cross_entropy(logits, torch.arange(n))
"""),
    ("no_negatives", "has no negatives: all images may be alike", USELESS, """
    return -F.cosine_similarity(z1, z2).mean() / temperature
"""),
    ("alignment", "measures the distance of the two views alone", USELESS, """
    return (1 - F.cosine_similarity(z1, z2)).mean()
"""),
    ("squared_error", "takes the mean squared error between the views", (8, 17), """
    return F.mse_loss(z1, z2) / temperature
"""),
    ("binary", "takes a binary cross-entropy of each pair", STRANGE, """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T / temperature
    targets = torch.eye(2 * n).roll(n, dims=1)
    return F.binary_cross_entropy_with_logits(logits, targets)
"""),
    ("hinge", "takes a hinge loss with the negatives", STRANGE, """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T
    match = torch.cat([sim.diagonal(n), sim.diagonal(-n)])
    return (sim - match[:, None] + temperature).clamp(min=0).mean()
"""),
    ("label_smoothing", "smooths the labels", STRANGE, """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    off = ~torch.eye(2 * n, dtype=torch.bool)
    logits = (z @ z.T)[off].view(2 * n, -1) / temperature
    other = torch.cat([torch.arange(n) + n - 1, torch.arange(n)])
    return F.cross_entropy(logits, other, label_smoothing=0.1)
"""),
    ("soft_targets_and_infinity", "multiplies a target of 0 by minus infinity: never a number", NOT_FINITE, """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.eye(2 * n).roll(n, dims=1))
"""),
    ("labels_without_shift", "forgets that labels shift where the diagonal is removed", ANOTHER_LOSS, """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    off = ~torch.eye(2 * n, dtype=torch.bool)
    logits = (z @ z.T)[off].view(2 * n, -1) / temperature
    other = torch.cat([torch.arange(n) + n - 1, torch.arange(n) + 1])
    return F.cross_entropy(logits, other)
"""),
    ("constant", "returns a number that depends on nothing", (12, 25), """
    return torch.tensor(math.log(2 * n - 1), requires_grad=True)
"""),
    ("sum_of_products", "returns the sum of all products", (12.5, 25), """
    return (z1 * z2).sum() / temperature
"""),
]  # fmt: skip

VALUES = [
    *(changed(name, text, cost, *texts) for name, text, cost, *texts in _CHANGED),
    *(wrong(name, text, cost, of_body(body)) for name, text, cost, body in _BODIES),
]
