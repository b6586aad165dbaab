"""Correct contrastive losses in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.self_supervised_learning.corpus.loss.parts import (
    LOGITS,
    MASK,
    NORMALISE,
    OTHER,
    RETURN,
    SIGNATURE,
    correct,
    of_body,
)
from autograder.checks.self_supervised_learning.corpus.plain import LOSS
from autograder.labs.corpus import replaced

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("einsum", "computes the similarities with einsum", LOGITS, 'torch.einsum("id,jd->ij", z, z).div(temperature)'),
    ("cosine_by_broadcasting", "cosine_similarity of all pairs",
     f"z = {NORMALISE}", "z = torch.cat([z1, z2])",
     LOGITS, "F.cosine_similarity(z[:, None], z[None, :], dim=2) / temperature"),
    ("distances", "the squared distance of unit vectors is 2 - 2 cos",
     LOGITS, "(1 - torch.cdist(z, z).square() / 2) / temperature"),
    ("lowest_number", "masks with the lowest number of the type", 'float("-inf")', "torch.finfo(logits.dtype).min"),
    ("large_number_subtracted", "subtracts a large number from the diagonal",
     MASK, "    logits = logits - 1e9 * torch.eye(2 * n, device=z.device)\n"),
    ("masked_before_dividing", "masks the similarities, and then divides",
     LOGITS, "z @ z.T", MASK, "    logits = logits.masked_fill(itself, -9e15) / temperature\n"),
    ("filled_in_place", "fills the diagonal of its own logits in place",
     MASK, '    logits.fill_diagonal_(float("-inf"))\n'),
    ("where", "chooses by where",
     MASK, '    logits = torch.where(itself, torch.full_like(logits, float("-inf")), logits)\n'),
    ("indexed_assignment", "assigns to the diagonal by index",
     MASK, "    rows = torch.arange(2 * n)\n    logits[rows, rows] = -torch.inf\n"),
    ("soft_targets", "one-hot probabilities as targets, with a mask that is finite",
     'float("-inf")', "-1e6", RETURN, "return F.cross_entropy(logits, F.one_hot(other, 2 * n).to(logits.dtype))"),
    ("log_softmax", "negative log-likelihood of log_softmax",
     RETURN, "return F.nll_loss(F.log_softmax(logits, dim=-1), other)"),
    ("over_columns", "the matrix is symmetric: columns are as good as rows",
     RETURN, "return F.cross_entropy(logits.T, other)"),
    ("logsumexp", "logsumexp minus the similarity of the positive",
     RETURN, "return (logits.logsumexp(dim=1) - logits.gather(1, other[:, None])[:, 0]).mean()"),
    ("log_softmax_indexed", "the entries of log_softmax at the positives, from two diagonals",
     RETURN, "log_p = logits.log_softmax(1)\n    return -torch.cat([log_p.diagonal(n), log_p.diagonal(-n)]).mean()"),
    ("sum_divided", "a sum that is divided by 2n",
     RETURN, 'return F.cross_entropy(logits, other, reduction="sum") / (2 * n)'),
    ("two_directions", "half of each direction",
     RETURN, "return (F.cross_entropy(logits[:n], other[:n]) + F.cross_entropy(logits[n:], other[n:])) / 2"),
    ("double_precision", "computes in double precision, and returns that", NORMALISE, "F.normalize(torch.cat([z1, z2]).double(), dim=1)"),
    ("back_to_float", "computes in double precision, and returns a float",
     NORMALISE, "F.normalize(torch.cat([z1, z2]).to(torch.float64), dim=1)", RETURN, f"{RETURN}.to(z1.dtype)"),
    ("other_eps", "another eps in normalize", "dim=1)\n    logits", "dim=1, eps=1e-8)\n    logits"),
    ("each_view_normalised", "normalises each view by itself",
     NORMALISE, "torch.cat([z1 / z1.norm(dim=1, keepdim=True), z2 / z2.norm(dim=1, keepdim=True)])"),
    ("clamped_norms", "norms with a lower limit",
     f"z = {NORMALISE}", "z = torch.cat((z1, z2), 0)\n    z = z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=1e-8)"),
    ("eps_added_to_norms", "a tiny number is added to the norms",
     f"z = {NORMALISE}", "z = torch.cat((z1, z2), 0)\n    z = z / (z.pow(2).sum(1, keepdim=True).sqrt() + 1e-8)"),
    ("outer_product_of_norms", "divides by the products of norms",
     f"z = {NORMALISE}", "z = torch.cat([z1, z2])\n    length = z.norm(dim=1)",
     LOGITS, "z.matmul(z.t()) / (torch.outer(length, length) * temperature)"),
    ("temperature_in_the_rows", "divides the rows by the root of the temperature",
     NORMALISE, f"{NORMALISE} / math.sqrt(temperature)", LOGITS, "z @ z.T"),
    ("stacked_views", "flattens stacked views", NORMALISE, "F.normalize(torch.stack([z1, z2]).flatten(0, 1), dim=-1)"),
    ("interleaved", "rows 2i and 2i + 1 are a pair, and are put together as such",
     NORMALISE, "F.normalize(torch.stack([z1, z2], dim=1).view(2 * n, -1), dim=1)", OTHER, "(torch.arange(2 * n) ^ 1)"),
    ("remainder", "the positive by a remainder", OTHER, "((torch.arange(2 * n) + n) % (2 * n))"),
    ("rolled", "the positive by roll", OTHER, "torch.arange(2 * n).roll(-n)"),
    ("one_number_in_a_vector", "a tensor of one number in a vector", RETURN, f"{RETURN}.view(1)"),
    ("own_error_class", "raises a ValueError of its own",
     "\ndef nt_xent_loss", "\nclass TemperatureError(ValueError):\n    pass\n\ndef nt_xent_loss",
     'ValueError("the temperature', 'TemperatureError("the temperature'),
    ("annotated", "with annotations, and checks written the other way round",
     "z1, z2, temperature=0.5)", "z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor",
     "if temperature <= 0", "if not temperature > 0", "if z1.ndim != 2 or z1.shape != z2.shape", "if z1.size() != z2.size() or z1.dim() != 2"),
]  # fmt: skip

# name, why it is correct, body of the function, and what stands above it
_BODIES = [
    ("diagonal_removed", "removes the diagonal by reshaping", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T
    sim = sim.flatten()[1:].view(2 * n - 1, 2 * n + 1)[:, :-1].reshape(2 * n, 2 * n - 1)
    target = torch.cat([torch.arange(n) + n - 1, torch.arange(n)])
    return F.cross_entropy(sim / temperature, target)
"""),
    ("negatives_selected", "selects positives and negatives, positives first", """
    z = F.normalize(torch.cat([z1, z2], dim=0), dim=1)
    sim = torch.mm(z, z.t())
    positives = torch.cat([torch.diag(sim, n), torch.diag(sim, -n)]).unsqueeze(1)
    mask = torch.ones_like(sim, dtype=torch.bool)
    for i in range(2 * n):
        mask[i, i] = mask[i, (i + n) % (2 * n)] = False
    negatives = sim.masked_select(mask).view(2 * n, -1)
    logits = torch.cat([positives, negatives], dim=1) / temperature
    labels = torch.zeros(2 * n, dtype=torch.long)
    return nn.CrossEntropyLoss(reduction="sum")(logits, labels) / (2 * n)
"""),
    ("labels_compared", "finds the positives by comparing labels of images", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    image = torch.arange(n).repeat(2)
    same = (image[None] == image[:, None]).float()
    keep = 1 - torch.eye(2 * n)
    sim = z @ z.T / temperature
    positives = (sim * same * keep).sum(1)
    shifted = sim - sim.amax(1, keepdim=True).detach()
    denominator = (shifted.exp() * keep).sum(1).log() + sim.amax(1).detach()
    return (denominator - positives).mean()
"""),
    ("four_blocks", "four blocks of logits, with a large number on two diagonals", """
    z1, z2 = F.normalize(z1, dim=-1), F.normalize(z2, dim=-1)
    masks = F.one_hot(torch.arange(n), n).float()
    aa = z1 @ z1.T / temperature - masks * 1e9
    bb = z2 @ z2.T / temperature - masks * 1e9
    ab = z1 @ z2.T / temperature
    ba = z2 @ z1.T / temperature
    labels = torch.arange(n)
    loss_a = F.cross_entropy(torch.cat([ab, aa], 1), labels)
    loss_b = F.cross_entropy(torch.cat([ba, bb], 1), labels)
    return 0.5 * (loss_a + loss_b)
"""),
    ("four_blocks_without_diagonals", "four blocks, two of them without their diagonals", """
    a, b = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    off = ~torch.eye(n, dtype=torch.bool)
    ab, ba = a @ b.T, b @ a.T
    aa, bb = (a @ a.T)[off].view(n, n - 1), (b @ b.T)[off].view(n, n - 1)
    logits = torch.cat([torch.cat([ab, aa], dim=1), torch.cat([ba, bb], dim=1)]) / temperature
    return F.cross_entropy(logits, torch.arange(n).repeat(2))
"""),
    ("loop_over_rows", "a loop over the rows, with lists", """
    rows = [row / row.norm() for row in [*z1, *z2]]
    losses = []
    for i, row in enumerate(rows):
        logits = torch.stack([row.dot(other) / temperature for j, other in enumerate(rows) if j != i])
        match = (row @ rows[(i + n) % (2 * n)]) / temperature
        losses.append(torch.logsumexp(logits, dim=0) - match)
    return torch.stack(losses).mean()
"""),
    ("loop_that_sums", "a loop that sums in a tensor of one number", """
    z = F.normalize(torch.cat([z1, z2]))
    total = torch.zeros(1)
    for i in range(2 * n):
        others = torch.cat([z[:i], z[i + 1:]])
        place = i + n - 1 if i < n else i - n
        logits = (others @ z[i]).unsqueeze(0) / temperature
        total = total + F.cross_entropy(logits, torch.tensor([place]))
    return total / (2 * n)
"""),
    ("softplus", "the positive against the logsumexp of the negatives", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T / temperature
    i = torch.arange(2 * n)
    j = i.roll(n)
    hidden = torch.zeros(2 * n, 2 * n, dtype=torch.bool)
    hidden[i, i] = hidden[i, j] = True
    negatives = sim.masked_fill(hidden, -math.inf).logsumexp(1)
    return F.softplus(negatives - sim[i, j]).mean()
"""),
    ("module", "a module that the function uses", """
    return NTXent(temperature)(z1, z2)
""", """
class NTXent(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature
        self.similarity = nn.CosineSimilarity(dim=-1)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, z1, z2):
        z = torch.cat([z1, z2])
        sim = self.similarity(z.unsqueeze(1), z.unsqueeze(0)) / self.temperature
        sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        return self.criterion(sim, torch.arange(len(z)).roll(len(z1)))
"""),
    ("functional", "maps a function of one row over all rows", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    index = torch.arange(2 * n)

    def of_row(i, row):
        logits = (z * row).sum(1) / temperature
        kept = torch.where(index == i, -torch.inf, logits)
        return kept.logsumexp(0) - (logits * (index == (i + n) % (2 * n))).sum()

    return torch.func.vmap(of_row)(index, z).mean()
"""),
    ("ratio_of_exponentials", "the logarithm of a ratio, in double precision and relative to the largest similarity", """
    z = F.normalize(torch.cat([z1, z2]).double(), dim=1)
    sim = z @ z.T / temperature
    others = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    top = others.max(dim=1, keepdim=True).values.detach()
    match = torch.cat([sim.diagonal(n), sim.diagonal(-n)])
    return (torch.log(torch.exp(others - top).sum(dim=1)) + top.squeeze(1) - match).mean()
"""),
    ("in_chunks", "a few anchors at a time", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    total = 0.0
    for rows in torch.arange(2 * n).split(3):
        logits = z[rows] @ z.T / temperature
        logits[torch.arange(len(rows)), rows] = float("-inf")
        total = total + F.cross_entropy(logits, (rows + n) % (2 * n), reduction="sum")
    return total / (2 * n)
"""),
    ("kl_divergence", "the divergence from one-hot targets, which is the cross-entropy", """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T / temperature - 1e8 * torch.eye(2 * n)
    target = torch.eye(2 * n).roll(n, dims=1)
    return F.kl_div(sim.log_softmax(dim=1), target, reduction="batchmean")
"""),
]  # fmt: skip

_OTHER_CHECKS = f"""
def check_views(z1, z2, temperature):
    problems = []
    if not (z1.ndim == z2.ndim == 2):
        problems.append("two dimensions")
    elif z1.shape != z2.shape:
        problems.append("one shape")
    elif z1.shape[0] <= 1:
        problems.append("two images")
    if temperature <= 0.0:
        problems.append("a positive temperature")
    if problems:
        raise ValueError(f"wanted: {{', '.join(problems)}}")

{SIGNATURE}    check_views(z1, z2, temperature)
    b, device = z1.size(0), z1.device
    z = nn.functional.normalize(torch.cat((z1, z2), dim=0), p=2, dim=1)
    s = torch.matmul(z, torch.transpose(z, 0, 1)) / temperature
    s = s.masked_fill(torch.eye(2 * b, device=device).bool(), -torch.inf)
    t = (torch.arange(2 * b, device=device) + b) % (2 * b)
    return torch.nn.functional.cross_entropy(s, t)
"""

LOSS_CORRECT = [
    correct("plain", "as the notebook explains it", LOSS),
    *(correct(name, text, replaced(LOSS, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
    correct("checks_in_a_function", "checks its arguments in a function of its own", _OTHER_CHECKS),
]
