"""Correct calibration errors in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.calibration_error.parts import (
    ADD,
    EDGES,
    GAP,
    INSIDE,
    LENGTHS,
    MOST_PROBABLE,
    NO_BINS,
    PROBABILITIES,
    RETURN,
    RIGHT,
    correct,
    of_body,
)
from autograder.checks.knowledge_distillation.corpus.plain_calibration_error import CALIBRATION
from autograder.labs.corpus import replaced

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("edges_below", "bins are closed below, and the last one above as well",
     INSIDE, "(confidence >= low) & ((confidence < high) | (high == 1))"),
    ("edges_on_both_sides", "bins are closed on both sides", INSIDE, "(confidence >= low) & (confidence <= high)"),
    ("edges_with_numpy", "edges and bins as NumPy has them", EDGES, "np.linspace(0.0, 1.0, n_bins + 1).tolist()"),
    ("edges_counted", "edges by counting", EDGES, "[i / n_bins for i in range(n_bins + 1)]"),
    ("softmax_function", "softmax of torch.nn.functional", PROBABILITIES, "F.softmax(logits, dim=-1).detach()"),
    ("exponential_of_log_softmax", "exponential of log_softmax", PROBABILITIES, "F.log_softmax(logits.detach(), 1).exp()"),
    ("largest_subtracted", "a softmax of its own, with the largest logit subtracted",
     PROBABILITIES, "torch.exp(logits.detach() - logits.detach().amax(dim=1, keepdim=True))\n"
     "    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)"),
    ("double_precision", "computes in double precision", PROBABILITIES, "logits.detach().double().softmax(1)"),
    ("topk", "the most probable class by topk",
     f"confidence, predicted = {MOST_PROBABLE}", "top = probabilities.topk(1)\n    confidence, predicted = top.values[:, 0], top.indices[:, 0]"),
    ("argmax_of_logits", "the predicted class of the logits",
     f"confidence, predicted = {MOST_PROBABLE}", "confidence, predicted = probabilities.amax(1), logits.argmax(1)"),
    ("sorted", "the most probable class by sorting",
     f"confidence, predicted = {MOST_PROBABLE}",
     "values, order = probabilities.sort(dim=1, descending=True)\n    confidence, predicted = values[:, 0], order[:, 0]"),
    ("right_by_eq", "right ones by eq", RIGHT, "predicted.eq(labels.view_as(predicted)).to(confidence.dtype)"),
    ("counted", "counts the examples of a bin",
     "if inside.any():", "n = int(inside.sum())\n        if n > 0:",
     GAP, "abs(right[inside].sum() / n - confidence[inside].sum() / n)", ADD, "error += n / len(labels) * float(gap)"),
    ("sums", "the number of examples of a bin cancels out",
     GAP, "(right[inside] - confidence[inside]).sum().abs()", ADD, "error += gap.item() / len(labels)"),
    ("gap_per_example", "the mean of right minus confidence", GAP, "torch.abs((right[inside] - confidence[inside]).mean())"),
    ("other_sign", "confidence minus accuracy", GAP, "(confidence[inside].mean() - right[inside].mean()).abs()"),
    ("continues", "goes on with the next bin if one is empty",
     "        if inside.any():\n            gap", "        if not inside.any():\n            continue\n        if True:\n            gap"),
    ("tensor", "returns a tensor with one number", RETURN, "return torch.as_tensor(error)"),
    ("one_number_in_a_vector", "returns a tensor of shape (1,)",
     "error = 0.0", "error = torch.zeros(1)", ADD, "error += inside.float().mean() * gap"),
    ("numpy_number", "returns a number of NumPy", RETURN, "return np.float64(error)"),
    ("numpy_float32", "returns a float32 of NumPy", RETURN, "return np.float32(error)"),
    ("three_decimals", "rounds to four decimals", RETURN, "return round(error, 4)"),
    ("own_error_class", "raises a ValueError of its own",
     "\ndef expected", "\nclass BinsError(ValueError):\n    pass\n\ndef expected", 'ValueError("n_bins', 'BinsError("n_bins'),
    ("annotated", "with annotations, and checks written the other way round",
     "(logits, labels, n_bins=15):", "(logits: Tensor, labels: Tensor, n_bins: int = 15) -> float:",
     "if n_bins < 1", "if not n_bins >= 1", "if len(labels) != len(logits)", "if labels.numel() != logits.size(0)"),
    ("strict_shapes", "refuses other shapes as well",
     LENGTHS, '    if logits.ndim != 2 or labels.shape != logits.shape[:1]:\n        raise ValueError("logits (n, k), labels (n,)")\n'),
    ("no_grad", "under no_grad", "\ndef expected", "\n@torch.no_grad()\ndef expected", "logits.detach()", "logits"),
    ("with_gradients", "with gradients all the way", PROBABILITIES, "logits.softmax(dim=1)",
     ADD, "error = error + inside.float().mean() * gap"),
    ("checks_at_the_end", "one check of both arguments",
     NO_BINS + LENGTHS, '    if not (n_bins >= 1 and len(logits) == len(labels)):\n        raise ValueError(f"{n_bins}, {len(labels)}")\n'),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("bucketize", "bins by bucketize, sums by bincount", """
    confidence, predicted = F.softmax(logits.detach(), dim=1).max(1)
    hits = (predicted == labels).to(confidence)
    place = torch.bucketize(confidence, torch.linspace(0, 1, n_bins + 1)[1:-1])
    sums = torch.bincount(place, weights=hits - confidence, minlength=n_bins)
    return float(sums.abs().sum() / len(labels))
"""),
    ("digitize", "NumPy: digitize and clip", """
    p = torch.softmax(logits.double(), dim=1).detach().cpu().numpy()
    y = labels.cpu().numpy()
    conf, pred = p.max(axis=1), p.argmax(axis=1)
    index = np.clip(np.digitize(conf, np.linspace(0, 1, n_bins + 1)) - 1, 0, n_bins - 1)
    ece = 0.0
    for b in np.unique(index):
        m = index == b
        ece += m.mean() * abs((pred[m] == y[m]).mean() - conf[m].mean())
    return ece
"""),
    ("histogram", "NumPy: histograms with weights", """
    p = logits.detach().softmax(1).numpy()
    conf = p.max(1)
    hit = (p.argmax(1) == labels.numpy()).astype(float)
    counts, edges = np.histogram(conf, bins=n_bins, range=(0.0, 1.0))
    sums, _ = np.histogram(conf, bins=edges, weights=conf)
    hits, _ = np.histogram(conf, bins=edges, weights=hit)
    filled = counts > 0
    gaps = np.abs(hits[filled] / counts[filled] - sums[filled] / counts[filled])
    return float((counts[filled] * gaps).sum() / counts.sum())
"""),
    ("truncated", "bins by truncation, with the last one for 1", """
    with torch.no_grad():
        conf, pred = torch.softmax(logits, 1).max(1)
        bins = (conf * n_bins).long().clamp(max=n_bins - 1)
        total = conf.new_zeros(())
        for b in bins.unique():
            m = bins == b
            total += (pred[m].eq(labels[m]).float().mean() - conf[m].mean()).abs() * m.sum() / m.numel()
        return total.item()
"""),
    ("ceiling", "bins by rounding up", """
    probs = logits.detach().softmax(dim=1)
    conf, pred = probs.max(dim=1)
    b = torch.ceil(conf * n_bins).long() - 1
    acc_in, conf_in, size = torch.zeros(n_bins), torch.zeros(n_bins), torch.zeros(n_bins)
    acc_in.index_add_(0, b, (pred == labels).float())
    conf_in.index_add_(0, b, conf.float())
    size.index_add_(0, b, torch.ones(len(b)))
    mask = size > 0
    return ((acc_in[mask] / size[mask] - conf_in[mask] / size[mask]).abs() * size[mask] / size.sum()).sum().item()
"""),
    ("scatter", "sums by scatter_add, empty bins divided by 1", """
    probs = torch.softmax(logits.float().detach(), dim=1)
    conf = probs.amax(dim=1)
    hit = (probs.argmax(dim=1) == labels).float()
    b = torch.floor(conf * n_bins).clamp_(0, n_bins - 1).to(torch.int64)
    zeros = torch.zeros(n_bins)
    size = zeros.scatter_add(0, b, torch.ones_like(conf))
    acc = zeros.scatter_add(0, b, hit) / size.clamp(min=1)
    avg = zeros.scatter_add(0, b, conf) / size.clamp(min=1)
    return float(torch.sum(size / size.sum() * torch.abs(acc - avg)))
"""),
    ("scatter_reduce", "means by scatter_reduce", """
    conf, pred = logits.detach().double().softmax(1).max(1)
    b = (conf * n_bins).int().clamp(max=n_bins - 1).long()
    gap = torch.zeros(n_bins, dtype=torch.float64)
    gap.scatter_reduce_(0, b, (pred == labels).double() - conf, reduce="mean", include_self=False)
    return float((torch.bincount(b, minlength=n_bins) * gap.abs()).sum()) / len(b)
"""),
    ("plain_python", "plain Python, example by example", """
    members = [[] for _ in range(n_bins)]
    for row, label in zip(logits.tolist(), labels.tolist()):
        largest = max(row)
        exponentials = [math.exp(x - largest) for x in row]
        confidence = 1 / sum(exponentials)
        place = min(int(confidence * n_bins), n_bins - 1)
        members[place].append((confidence, row.index(largest) == label))
    n = sum(map(len, members))
    return sum(abs(sum(hit for _, hit in m) - sum(c for c, _ in m)) for m in members) / n
"""),
    ("dictionary_of_bins", "a dictionary of bins", """
    found = defaultdict(list)
    p, k = torch.max(nn.Softmax(dim=1)(logits), dim=1)
    for c, hit in zip(p.tolist(), k.eq(labels).tolist()):
        found[min(math.floor(c * n_bins), n_bins - 1)].append((c, float(hit)))
    value = 0.0
    for pairs in found.values():
        mean_c = sum(c for c, _ in pairs) / len(pairs)
        mean_h = sum(h for _, h in pairs) / len(pairs)
        value += len(pairs) / len(labels) * abs(mean_h - mean_c)
    return value
"""),
    ("one_hot_matrix", "a product with one-hot bins", """
    conf, pred = F.softmax(logits.detach(), 1).max(1)
    members = F.one_hot((conf * n_bins).long().clamp(max=n_bins - 1), n_bins).to(conf.dtype)
    return ((pred.eq(labels).to(conf.dtype) - conf) @ members).abs().sum().item() / logits.shape[0]
"""),
    ("broadcast", "compares all examples with all edges", """
    conf, pred = torch.softmax(logits.detach(), dim=-1).max(dim=-1)
    low = torch.arange(n_bins).to(conf.dtype) / n_bins
    inside = (conf[None] > low[:, None]) & (conf[None] <= low[:, None] + 1 / n_bins + 1e-7)
    weight = inside.to(conf.dtype)
    size = weight.sum(1)
    acc = (weight * pred.eq(labels)).sum(1) / size.clamp(min=1)
    mean = (weight * conf).sum(1) / size.clamp(min=1)
    return (size / len(conf) * (acc - mean).abs()).sum().item()
"""),
    ("nan_removed", "leaves out bins whose mean is not a number", """
    conf, pred = torch.softmax(logits.detach(), dim=1).max(dim=1)
    edges = torch.linspace(0, 1, n_bins + 1)
    terms = []
    for i in range(n_bins):
        inside = (conf > edges[i]) & (conf <= edges[i + 1])
        terms.append((pred[inside].eq(labels[inside]).float().mean() - conf[inside].mean()).abs() * inside.float().mean())
    return torch.stack(terms).nansum().item()
"""),
    ("sorted_split", "sorts by confidence, and cuts where a bin ends", """
    conf, pred = logits.detach().softmax(1).max(1)
    conf, order = conf.sort()
    difference = (pred == labels)[order].to(conf.dtype) - conf
    ends = torch.searchsorted(conf, torch.arange(1, n_bins).to(conf.dtype) / n_bins).tolist()
    return float(sum(part.sum().abs() for part in difference.tensor_split(ends))) / len(conf)
"""),
    ("as_class", "a class that keeps the bins", """
    return Calibration(n_bins).update(logits, labels).compute()
""", """
class Calibration:
    def __init__(self, n_bins):
        self.n, self.sums, self.seen = n_bins, [0.0] * n_bins, 0

    def update(self, logits, labels):
        conf, pred = logits.detach().softmax(dim=1).max(dim=1)
        for c, p, y in zip(conf, pred, labels):
            self.sums[min(int(c * self.n), self.n - 1)] += float(p == y) - float(c)
        self.seen += len(labels)
        return self

    def compute(self):
        return sum(map(abs, self.sums)) / self.seen
"""),
    ("average_with_weights", "NumPy: an average with weights, NaN of empty bins as 0", """
    z = logits.detach().numpy()
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    conf, hit = np.max(p, -1), np.argmax(p, -1) == labels.numpy()
    place = np.ceil(conf * n_bins).astype(int) - 1
    size = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.bincount(place, hit, n_bins) / size - np.bincount(place, conf, n_bins) / size)
    return float(np.average(np.nan_to_num(gap), weights=size))
"""),
    ("mask_of_edges", "a matrix of bins and examples, with 1 added to the last row", """
    conf, pred = torch.softmax(logits.double(), dim=1).max(dim=1)
    edges = torch.linspace(0, 1, n_bins + 1, dtype=torch.float64)
    members = (conf >= edges[:-1].unsqueeze(1)) & (conf < edges[1:].unsqueeze(1))
    members[-1] |= conf >= 1.0
    return (members.double() @ (pred.eq(labels).double() - conf)).abs().sum().div(len(conf)).item()
"""),
    ("tensor_with_gradient", "a number in a tensor that requires a gradient", """
    conf, pred = logits.softmax(-1).max(-1)
    place = torch.clamp((conf.detach() * n_bins).int(), max=n_bins - 1)
    return sum(((pred == labels).float() - conf)[place == b].sum().abs() for b in range(n_bins)) / len(conf)
"""),
    ("recursion", "one bin after another by recursion", """
    conf, pred = logits.detach().softmax(1).max(1)
    pairs = sorted(zip(conf.tolist(), (pred == labels).tolist()))

    def from_bin(i, rest):
        if i > n_bins:
            return 0.0
        here = [pair for pair in rest if pair[0] <= i / n_bins or i == n_bins]
        return abs(sum(hit - c for c, hit in here)) / len(pairs) + from_bin(i + 1, rest[len(here):])

    return from_bin(1, pairs)
"""),
    ("helpers", "two functions of their own", """
    conf, hits = judge(logits, labels)
    edges = torch.linspace(0, 1, n_bins + 1)
    return sum(term(conf, hits, edges[i].item(), edges[i + 1].item()) for i in range(n_bins))
""", """
def judge(logits, labels):
    p = torch.softmax(logits.detach(), dim=1)
    return p.max(dim=1)[0], (p.max(dim=1)[1] == labels)

def term(conf, hits, low, high):
    chosen = conf.gt(low) & conf.le(high)
    share = chosen.sum().item() / conf.numel()
    if share == 0:
        return 0.0
    return share * abs(hits[chosen].float().mean().item() - conf[chosen].mean().item())
"""),
    ("searchsorted_numpy", "searchsorted and add.at", """
    z = logits.detach().cpu().numpy().astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    z /= z.sum(axis=1, keepdims=True)
    conf, pred = z.max(1), z.argmax(1)
    place = np.searchsorted(np.arange(1, n_bins) / n_bins, conf, side="right")
    total = np.zeros(n_bins)
    np.add.at(total, place, (pred == labels.cpu().numpy()) - conf)
    return np.abs(total).sum() / len(conf)
"""),
]  # fmt: skip

CALIBRATION_CORRECT = [
    *(correct(name, text, replaced(CALIBRATION, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(body, *before)) for name, text, body, *before in _BODIES),
]
