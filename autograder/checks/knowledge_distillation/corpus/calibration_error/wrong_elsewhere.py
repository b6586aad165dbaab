"""Calibration errors with the right value and another mistake: empty bins, range, sizes, errors, what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.calibration_error.parts import (
    ADD,
    INSIDE,
    LENGTHS,
    NO_BINS,
    PROBABILITIES,
    RETURN,
    SIGNATURE,
    changed,
    of_body,
    wrong,
)
from autograder.checks.knowledge_distillation.corpus.plain_calibration_error import CALIBRATION
from autograder.labs.corpus import replaced

# what a mistake should cost, of 15 points
ONE = (1, 1)
EMPTY = (4, 6)  # with most numbers of bins the value is NaN
SEVERAL = (5, 7)
NOTHING = (12, 15)

_NAN = "empty_bins error_of_random_logits"

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # empty bins
    ("empty_bins_nan", "means over empty bins", EMPTY, _NAN, "if inside.any():", "if True:"),
    ("stops_at_an_empty_bin", "stops at the first empty bin", EMPTY, "",
     "        if inside.any():", "        if not inside.any():\n            break\n        else:"),
    ("empty_bins_zero", "returns 0 if a bin is empty", EMPTY, "",
     "        if inside.any():", "        if not inside.any():\n            return 0.0\n        else:"),
    # range
    ("one_lost", "bins are open above, also the last one", ONE, "confidence_of_one", INSIDE, "(confidence >= low) & (confidence < high)"),
    ("exponentials", "exponentials without subtracting the largest", ONE, "calibration_error_of_large_logits",
     PROBABILITIES, "logits.detach().exp() / logits.detach().exp().sum(dim=1, keepdim=True)"),
    ("clamped_logits", "clamps logits", ONE, "calibration_error_of_large_logits", PROBABILITIES, "logits.detach().clamp(-60, 60).softmax(dim=1)"),
    ("nan_as_zero", "turns NaN of exponentials into 0", ONE, "calibration_error_of_large_logits",
     PROBABILITIES, "(logits.detach().exp() / logits.detach().exp().sum(dim=1, keepdim=True)).nan_to_num()"),
    # defaults
    ("default_ten", "10 bins by default", ONE, "default_number_of_bins", "n_bins=15", "n_bins=10"),
    ("no_default", "no default", ONE, "default_number_of_bins", "n_bins=15", "n_bins"),
    # sizes and types
    ("half_of_the_types", "sums in float32", ONE, "classes_examples_and_types",
     "    edges =", "    check = torch.zeros(len(labels)).scatter_add(0, labels * 0, confidence)\n    edges ="),
    ("squeezed", "squeezes the rows", ONE, "classes_examples_and_types",
     PROBABILITIES, "logits.detach().squeeze().softmax(dim=1)"),
    ("binary_as_sigmoid", "treats two classes as one logit", ONE, "classes_examples_and_types",
     PROBABILITIES, "logits.detach().softmax(dim=1) if logits.shape[1] > 2 else logits.detach().sigmoid()"),
    ("ten_classes", "looks at ten classes at most", ONE, "classes_examples_and_types", PROBABILITIES, "logits.detach()[:, :10].softmax(dim=1)"),
    # inputs
    ("no_detach", "NumPy of logits that require gradients", ONE, "logits_and_labels_stay",
     PROBABILITIES, "torch.from_numpy(logits.numpy()).softmax(dim=1)"),
    ("softmax_in_place", "overwrites the logits", ONE, "logits_and_labels_stay",
     "    probabilities =", "    logits.data -= logits.data.max(dim=1, keepdim=True).values\n    probabilities ="),
    ("labels_in_place", "overwrites the labels", ONE, "logits_and_labels_stay",
     "    edges =", "    labels.copy_(predicted)\n    edges ="),
    ("requires_leaf", "computes gradients of the logits", ONE, "logits_and_labels_stay",
     "    probabilities =", "    if logits.requires_grad:\n        logits.requires_grad_(False)\n    probabilities ="),
    # errors
    ("no_check_of_bins", "accepts any number of bins", ONE, "refuses_no_bins", NO_BINS, ""),
    ("zero_bins", "accepts no bins", ONE, "refuses_no_bins", "n_bins < 1", "n_bins < 0"),
    ("one_bin_refused", "refuses a single bin", ONE, "one_bin", "n_bins < 1", "n_bins < 2"),
    ("bins_corrected", "takes one bin for none", ONE, "refuses_no_bins", NO_BINS, "    n_bins = max(1, n_bins)\n"),
    ("bins_asserted", "asserts", ONE, "refuses_no_bins", NO_BINS, "    assert n_bins >= 1\n"),
    ("bins_printed", "prints a message", ONE, "refuses_no_bins", 'raise ValueError("n_bins', 'return print("n_bins'),
    ("no_check_of_lengths", "accepts any number of labels", ONE, "refuses_another_number_of_labels", LENGTHS, ""),
    ("fewer_labels_accepted", "refuses more labels alone", ONE, "refuses_another_number_of_labels",
     "len(labels) != len(logits)", "len(labels) > len(logits)"),
    ("shortened", "cuts the longer one", ONE, "refuses_another_number_of_labels",
     LENGTHS, "    n = min(len(labels), len(logits))\n    logits, labels = logits[:n], labels[:n]\n"),
    ("type_error", "raises another error", ONE, "refuses_another_number_of_labels",
     'raise ValueError("each', 'raise TypeError("each'),
    # what is returned
    ("tuple", "returns the number of bins as well", ONE, "calibration_error_is_one_number", RETURN, "return error, n_bins"),
    ("text", "returns a text", NOTHING, "", RETURN, 'return f"{error:.4f}"'),
    ("nothing", "returns nothing", NOTHING, "", RETURN, "print(error)"),
    ("dictionary", "returns a dictionary", NOTHING, "", RETURN, 'return {"ece": error}'),
    ("terms", "returns one term for each bin", SEVERAL, "",
     "error = 0.0", "error = []", ADD, "error.append(inside.float().mean() * gap)", RETURN, "return torch.stack(error)"),
    ("terms_as_list", "returns a list of terms", (6, 9), "",
     "error = 0.0", "error = []", ADD, "error.append(inside.float().mean().item() * gap.item())"),
    ("name_before_value", "uses a name before it has a value", NOTHING, "", "    edges =", "    error += 0\n    edges ="),
]  # fmt: skip

# name, mistake, cost, checks that do not pass, and body of the function
_BODIES = [
    ("index_beyond", "a confidence of 1 is beyond the last bin", ONE, "confidence_of_one", """
    conf, pred = logits.detach().softmax(1).max(1)
    sums = torch.zeros(n_bins, dtype=conf.dtype)
    sums.index_add_(0, (conf * n_bins).long(), (pred == labels).to(conf) - conf)
    return sums.abs().sum().item() / len(conf)
"""),
    ("bin_of_its_own", "a confidence of 1 has a bin of its own", ONE, "confidence_of_one", """
    conf, pred = logits.detach().softmax(1).max(1)
    place = (conf * n_bins).long()
    diff = (pred == labels).to(conf) - conf
    kept = place < n_bins
    return sum(diff[kept & (place == b)].sum().abs().item() for b in range(n_bins)) / len(conf)
"""),
    ("division_by_empty", "divides by the sizes of empty bins", EMPTY, _NAN, """
    conf, pred = logits.detach().softmax(1).max(1)
    place = (conf * n_bins).long().clamp(max=n_bins - 1)
    zeros = torch.zeros(n_bins, dtype=conf.dtype)
    size = zeros.index_add(0, place, torch.ones_like(conf))
    acc = zeros.index_add(0, place, (pred == labels).to(conf)) / size
    mean = zeros.index_add(0, place, conf) / size
    return (size / len(conf) * (acc - mean).abs()).sum().item()
"""),
    ("zero_division", "divides Python numbers by the sizes of empty bins", (4, 9), "", """
    conf, pred = logits.detach().softmax(1).max(1)
    total = 0.0
    for b in range(n_bins):
        m = (conf * n_bins).long().clamp(max=n_bins - 1) == b
        n = m.sum().item()
        total += n / len(conf) * abs((pred == labels)[m].sum().item() / n - conf[m].sum().item() / n)
    return total
"""),
    ("numpy_without_detach", "NumPy of logits that require gradients", ONE, "logits_and_labels_stay", """
    p = torch.softmax(logits, dim=1).numpy()
    conf, hit = p.max(1), p.argmax(1) == labels.numpy()
    place = np.minimum((conf * n_bins).astype(int), n_bins - 1)
    return sum(abs((hit[place == b] - conf[place == b]).sum()) for b in range(n_bins)) / len(conf)
"""),
]  # fmt: skip

ELSEWHERE = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
    wrong("empty", "has no body yet", (13, 15), "", f"{SIGNATURE}    return None\n"),
    wrong("other_names", "calls the number of bins otherwise", (9, 15), "",
          replaced(CALIBRATION, "n_bins=15):", "bins=15):\n    n_bins = bins")),
]  # fmt: skip
