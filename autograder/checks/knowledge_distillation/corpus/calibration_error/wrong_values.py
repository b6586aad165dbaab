"""Calibration errors with another value."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.calibration_error.parts import (
    ADD,
    EDGES,
    GAP,
    INSIDE,
    MOST_PROBABLE,
    PROBABILITIES,
    RETURN,
    RIGHT,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 15 points
VALUE = (5, 7)  # all values are wrong
IN_BINS = (3, 6)  # some bins are wrong
NOT_PASSED_ON = (4, 4)  # n_bins has no effect
SCALE = (6, 7)

_ALL = "groups_with_known_gaps one_bin error_of_random_logits"
_SEVERAL_BINS = "groups_with_known_gaps error_of_random_logits"
_RANDOM = "error_of_random_logits"
_IGNORED = "one_bin error_of_random_logits"

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # confidences
    ("no_softmax", "takes logits for probabilities", VALUE, _ALL, PROBABILITIES, "logits.detach()"),
    ("sigmoid", "a sigmoid in place of softmax", VALUE, _ALL, PROBABILITIES, "logits.detach().sigmoid()"),
    ("softmax_over_examples", "softmax over the examples", VALUE, _ALL, PROBABILITIES, "logits.detach().softmax(dim=0)"),
    ("softmax_twice", "softmax twice", VALUE, _ALL, PROBABILITIES, "logits.detach().softmax(dim=1).softmax(dim=1)"),
    ("log_softmax", "logarithms of probabilities", VALUE, _ALL, PROBABILITIES, "logits.detach().log_softmax(dim=1)"),
    ("temperature", "divides the logits by 4, as in distillation", VALUE, _ALL, PROBABILITIES, "(logits.detach() / 4).softmax(dim=1)"),
    ("divided_by_the_sum", "divides logits by their sum", VALUE, _ALL, PROBABILITIES, "logits.detach() / logits.detach().sum(1, keepdim=True)"),
    ("probability_of_the_label", "takes the probability of the label", VALUE, _ALL,
     RIGHT, f"{RIGHT}\n    confidence = probabilities.gather(1, labels[:, None])[:, 0]"),
    ("margin", "takes the difference of the two highest probabilities", VALUE, _ALL,
     RIGHT, f"{RIGHT}\n    confidence = probabilities.topk(2).values[:, 0] - probabilities.topk(2).values[:, 1]"),
    ("one_minus_confidence", "takes 1 minus the highest probability", VALUE, _ALL, RIGHT, f"{RIGHT}\n    confidence = 1 - confidence"),
    ("lowest_probability", "takes the lowest probability", VALUE, _ALL, MOST_PROBABLE, "probabilities.min(dim=1)"),
    ("mean_probability", "takes the mean probability", VALUE, _ALL,
     RIGHT, f"{RIGHT}\n    confidence = probabilities.mean(dim=1)"),
    # which examples are right
    ("wrong_ones_are_right", "counts wrong ones as right", VALUE, _ALL, RIGHT, "(predicted != labels).float()"),
    ("top_two", "counts an example as right if its label is among the two best", VALUE, _ALL,
     RIGHT, "(probabilities.topk(2).indices == labels[:, None]).any(dim=1).float()"),
    ("first_class", "takes class 0 for the prediction", VALUE, _ALL, RIGHT, "(labels == 0).float()"),
    ("accuracy_of_all", "takes the accuracy of all examples in each bin", VALUE, _SEVERAL_BINS, "right[inside].mean()", "right.mean()"),
    ("confidence_of_all", "takes the mean confidence of all examples in each bin", VALUE, _SEVERAL_BINS,
     "confidence[inside].mean()", "confidence.mean()"),
    ("right_ones_over_all", "divides the right ones of a bin by the number of all examples", VALUE, _SEVERAL_BINS,
     "right[inside].mean()", "right[inside].sum() / len(right)"),
    ("share_of_right_ones", "divides the right ones of a bin by the number of all right ones", VALUE, _ALL,
     "right[inside].mean()", "right[inside].sum() / right.sum()"),
    ("integer_division", "an accuracy by integer division", VALUE, _ALL,
     "right[inside].mean()", "right[inside].sum() // inside.sum()"),
    # bins
    ("ten_bins", "always 10 bins", NOT_PASSED_ON, _IGNORED, EDGES, "torch.linspace(0, 1, 11)"),
    ("fifteen_bins", "always 15 bins", NOT_PASSED_ON, _IGNORED, EDGES, "torch.linspace(0, 1, 16)"),
    ("bins_as_classes", "as many bins as classes", NOT_PASSED_ON, _IGNORED, EDGES, "torch.linspace(0, 1, logits.shape[1] + 1)"),
    ("one_bin_less", "n_bins edges, and so one bin less", (5, 7), _ALL, EDGES, "torch.linspace(0, 1, n_bins)"),
    ("one_bin_more", "n_bins + 2 edges, and so one bin more", NOT_PASSED_ON, _IGNORED, EDGES, "torch.linspace(0, 1, n_bins + 2)"),
    ("bins_from_chance", "bins over [1/k, 1]", IN_BINS, _RANDOM, EDGES, "torch.linspace(1 / logits.shape[1] - 1e-6, 1, n_bins + 1)"),
    ("bins_from_half", "bins over [0.5, 1], the first one with all below", VALUE, _SEVERAL_BINS,
     EDGES, "torch.linspace(0.5, 1, n_bins + 1)\n    edges[0] = 0"),
    ("bins_from_half_lost", "bins over [0.5, 1], and loses all below", VALUE, "", EDGES, "torch.linspace(0.5, 1, n_bins + 1)"),
    ("bins_of_the_range", "bins from the lowest to the highest confidence", IN_BINS, _RANDOM,
     EDGES, "torch.linspace(confidence.min() - 1e-6, confidence.max(), n_bins + 1)"),
    ("rounded_bins", "the nearest of the edges as bin", IN_BINS, "", INSIDE, "(confidence * n_bins).round() == (high * n_bins).round()"),
    ("last_bin_forgotten", "forgets the last bin", VALUE, "", "zip(edges[:-1], edges[1:])", "zip(edges[:-2], edges[1:])"),
    ("first_bin_forgotten", "forgets the first bin", VALUE, "", "zip(edges[:-1], edges[1:])", "zip(edges[1:-1], edges[2:])"),
    ("cumulative", "all examples below the upper edge", VALUE, _SEVERAL_BINS, INSIDE, "confidence <= high"),
    ("from_low_upwards", "all examples above the lower edge", VALUE, _SEVERAL_BINS, INSIDE, "confidence > low"),
    # gaps
    ("signed", "no absolute value", VALUE, "", GAP, "right[inside].mean() - confidence[inside].mean()"),
    ("absolute_of_the_sum", "the absolute value of the sum", VALUE, _SEVERAL_BINS,
     GAP, "right[inside].mean() - confidence[inside].mean()", RETURN, "return abs(error)"),
    ("overconfidence", "counts overconfidence alone", VALUE, _ALL, GAP, "(confidence[inside].mean() - right[inside].mean()).clamp(min=0)"),
    ("squared", "squares the gaps", VALUE, _ALL, GAP, "(right[inside].mean() - confidence[inside].mean()) ** 2"),
    ("root_of_squares", "the root of the mean square", VALUE, _SEVERAL_BINS,
     GAP, "(right[inside].mean() - confidence[inside].mean()) ** 2", RETURN, "return error ** 0.5"),
    ("per_example", "absolute differences of single examples", VALUE, _ALL, GAP, "(right[inside] - confidence[inside]).abs().mean()"),
    ("brier", "squared differences of single examples", VALUE, _ALL, GAP, "(right[inside] - confidence[inside]).square().mean()"),
    ("middle_of_the_bin", "the middle of the bin in place of the mean confidence", VALUE, _ALL, "confidence[inside].mean()", "(low + high) / 2"),
    ("upper_edge", "the upper edge in place of the mean confidence", VALUE, _ALL, "confidence[inside].mean()", "high"),
    ("median_confidence", "the median confidence", (4, 7), "", "confidence[inside].mean()", "confidence[inside].median()"),
    # weights
    ("largest_gap", "the largest gap", VALUE, _SEVERAL_BINS, ADD, "error = max(error, gap.item())"),
    ("sum_of_gaps", "the sum of the gaps", VALUE, _SEVERAL_BINS, ADD, "error += gap.item()"),
    ("mean_over_bins", "the mean over all bins", VALUE, _SEVERAL_BINS, ADD, "error += gap.item() / n_bins"),
    ("numbers_as_weights", "numbers of examples as weights", SCALE, _ALL, ADD, "error += inside.sum().item() * gap.item()"),
    ("weighted_and_divided", "weighted, and divided by the number of bins", VALUE, _SEVERAL_BINS, RETURN, "return error / n_bins"),
    ("weighted_twice", "squares of the shares", VALUE, _SEVERAL_BINS, ADD, "error += inside.float().mean().item() ** 2 * gap.item()"),
    ("share_of_right_as_weight", "weighted by the right ones", VALUE, _ALL, ADD, "error += (right * inside).mean().item() * gap.item()"),
    ("integer_weights", "shares by integer division", VALUE, "", ADD, "error += inside.sum().item() // len(labels) * gap.item()"),
    ("over_n_minus_1", "divides by n - 1", (5, 7), "", ADD, "error += inside.sum().item() / (len(labels) - 1) * gap.item()"),
    ("last_bin_alone", "keeps the last gap alone", VALUE, _SEVERAL_BINS, ADD, "error = inside.float().mean().item() * gap.item()"),
    ("returns_in_the_loop", "returns after the first bin with examples", VALUE, _SEVERAL_BINS, ADD, f"{ADD}\n            return error"),
    ("percent", "per cent", SCALE, _ALL, RETURN, "return 100 * error"),
    ("one_minus", "1 minus the error", SCALE, _ALL, RETURN, "return 1 - error"),
    ("half", "half of the error", SCALE, _ALL, RETURN, "return error / 2"),
    ("two_decimals", "rounds to two decimals", (3, 3), _RANDOM, RETURN, "return round(error, 2)"),
]  # fmt: skip

# name, mistake, cost, checks that do not pass, and body of the function
_BODIES = [
    ("mean_over_filled_bins", "the mean over the bins with examples", VALUE, _SEVERAL_BINS, """
    conf, pred = logits.detach().softmax(1).max(1)
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    gaps = [((pred == labels)[place == b].float().mean() - conf[place == b].mean()).abs() for b in place.unique()]
    return torch.stack(gaps).mean().item()
"""),
    ("classwise", "all classes of all examples", VALUE, _ALL, """
    p = logits.detach().softmax(dim=1)
    conf, hits = p.flatten(), F.one_hot(labels, p.shape[1]).float().flatten()
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    sums = torch.zeros(n_bins).index_add(0, place, (hits - conf).float())
    return sums.abs().sum().item() / len(conf)
"""),
    ("per_class", "the mean of the errors of single classes", VALUE, _ALL, """
    p = logits.detach().softmax(dim=1)
    errors = []
    for k in range(p.shape[1]):
        place = (p[:, k] * n_bins).long().clamp(max=n_bins - 1)
        sums = torch.zeros(n_bins).index_add(0, place, ((labels == k).float() - p[:, k]).float())
        errors.append(sums.abs().sum() / len(p))
    return torch.stack(errors).mean().item()
"""),
    ("argmax_over_examples", "the most probable example of a class", (9, 15), "", """
    p = logits.detach().softmax(dim=1)
    conf, pred = p.max(dim=1)[0], p.argmax(dim=0)
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    sums = torch.zeros(n_bins).index_add(0, place, (pred == labels).float() - conf)
    return sums.abs().sum().item() / len(conf)
"""),
    ("accuracy_minus_confidence", "accuracy minus mean confidence, without bins", VALUE, _SEVERAL_BINS, """
    conf, pred = logits.detach().softmax(1).max(1)
    return abs((pred == labels).float().mean().item() - conf.mean().item())
"""),
    ("quantiles", "bins of equal numbers", VALUE, _SEVERAL_BINS, """
    conf, pred = logits.detach().softmax(1).max(1)
    order = conf.argsort()
    diff = ((pred == labels).to(conf) - conf)[order]
    return float(sum(part.sum().abs() for part in diff.tensor_split(n_bins)) / len(conf))
"""),
    ("bins_of_one_left_out", "leaves out bins with a single example", (3, 3), _RANDOM, """
    conf, pred = logits.detach().softmax(1).max(1)
    place, total = (conf * n_bins).long().clamp(max=n_bins - 1), 0.0
    for b in range(n_bins):
        members = place == b
        if members.sum() > 1:
            total += members.sum().item() / len(conf) * abs((pred == labels)[members].double().mean() - conf[members].mean()).item()
    return total
"""),
    ("bins_without_hits_left_out", "leaves out bins in which nothing is right", (3, 3), _RANDOM, """
    conf, pred = logits.detach().softmax(1).max(1)
    place, hits, total = (conf * n_bins).long().clamp(max=n_bins - 1), (pred == labels).double(), 0.0
    for b in range(n_bins):
        members = place == b
        if hits[members].sum():
            total += (hits - conf)[members].sum().abs().item() / len(conf)
    return total
"""),
    ("fifteen_bins_at_most", "has 15 bins at most", (3, 3), _RANDOM, """
    conf, pred = logits.detach().softmax(1).max(1)
    place = (conf * n_bins).long().clamp(max=14)
    return sum(((pred == labels).double() - conf)[place == b].sum().abs().item() for b in range(15)) / len(conf)
"""),
    ("columns_compared", "compares a column of predictions with a row of labels", VALUE, _ALL, """
    conf, pred = logits.detach().softmax(1).max(1, keepdim=True)
    hits, error = (pred == labels).double(), 0.0
    for b in range(n_bins):
        members = ((conf > b / n_bins) & (conf <= (b + 1) / n_bins)).squeeze(1)
        if members.any():
            error += members.double().mean().item() * abs(hits[members].mean() - conf[members].mean()).item()
    return error
"""),
    ("low_confidences_left_out", "leaves out confidences below 0.5", VALUE, _ALL, """
    conf, pred = logits.detach().softmax(1).max(1)
    conf, hits = conf[conf > 0.5], (pred == labels)[conf > 0.5].double()
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    return sum((hits - conf)[place == b].sum().abs().item() for b in range(n_bins)) / max(len(conf), 1)
"""),
    ("right_if_above_half", "counts an example as right if its label has more than 0.5", VALUE, _ALL, """
    p = logits.detach().softmax(1)
    conf, hits = p.amax(1), (p.gather(1, labels[:, None])[:, 0] > 0.5).double()
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    return sum((hits - conf)[place == b].sum().abs().item() for b in range(n_bins)) / len(conf)
"""),
    ("cross_entropy", "the cross-entropy", VALUE, _ALL, """
    return F.cross_entropy(logits.detach(), labels).item()
"""),
    ("zero", "always 0", VALUE, "", """
    return 0.0
"""),
]  # fmt: skip

VALUES = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
]
