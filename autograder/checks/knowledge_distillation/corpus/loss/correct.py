"""Correct distillation losses in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.loss.parts import (
    BETWEEN,
    FACTOR,
    HARD,
    KL,
    LABELLED,
    LOG_Q,
    POSITIVE,
    RETURN,
    SHAPES,
    SIGNATURE,
    SUM,
    P,
    correct,
    of_body,
)
from autograder.checks.knowledge_distillation.corpus.plain_loss import LOSS
from autograder.labs.corpus import replaced

_LOG_P = "F.log_softmax(teacher_logits.detach() / temperature, dim=1)"
_NO_GRAD = f"    with torch.no_grad():\n        p = {P.replace('.detach()', '')}\n"

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("log_target", "kl_div with logarithms of the target",
     f"p = {P}", f"p = {_LOG_P}", KL, 'F.kl_div(log_q, p, reduction="batchmean", log_target=True)'),
    ("module", "an instance of KLDivLoss", KL, 'nn.KLDivLoss(reduction="batchmean")(log_q, p)'),
    ("module_log_target", "an instance of KLDivLoss for logarithms",
     f"p = {P}", f"p = {_LOG_P}", KL, 'nn.KLDivLoss(reduction="batchmean", log_target=True)(log_q, p)'),
    ("summed_and_divided", "kl_div summed, and divided by the number of rows", KL, 'F.kl_div(log_q, p, reduction="sum") / len(labels)'),
    ("summed_over_classes", "kl_div without reduction, summed over the classes",
     KL, 'F.kl_div(log_q, p, reduction="none").sum(dim=-1).mean()'),
    ("mean_times_classes", "kl_div as a mean, multiplied by the number of classes",
     KL, 'F.kl_div(log_q, p, reduction="none").mean() * student_logits.shape[1]'),
    ("log_space", "explicit sums of logarithms",
     f"p = {P}", f"log_p = {_LOG_P}", KL, "(log_p.exp() * (log_p - log_q)).sum(dim=1).mean()"),
    ("xlogy", "xlogy minus a product", KL, "(torch.xlogy(p, p) - p * log_q).sum(1).mean()"),
    ("entropy_subtracted", "cross-entropy minus entropy of the teacher",
     KL, "(-(p * log_q).sum(1) + (p * F.log_softmax(teacher_logits.detach() / temperature, dim=1)).sum(1)).mean()"),
    ("soft_targets_minus_entropy", "cross_entropy with soft targets, minus the teacher's entropy",
     KL, "(F.cross_entropy(student_logits / temperature, p) - torch.special.entr(p).sum(1).mean())"),
    ("einsum", "products by einsum",
     f"p = {P}", f"log_p = {_LOG_P}", KL, '(torch.einsum("nk,nk->", log_p.exp(), log_p - log_q) / log_p.size(0))'),
    ("teacher_in_no_grad", "the teacher's probabilities without gradients", f"    p = {P}\n", _NO_GRAD),
    ("detached_probabilities", "detaches the teacher's probabilities", f"p = {P}", f"p = {P.replace('.detach()', '')}.detach()"),
    ("data", "takes the data of the teacher's logits", "teacher_logits.detach()", "teacher_logits.data"),
    ("detached_first", "detaches the teacher first", "    log_q =", "    teacher_logits = teacher_logits.detach()\n    log_q ="),
    ("factor_by_product", "multiplies by the temperature twice", FACTOR, " * temperature * temperature"),
    ("factor_by_pow", "the square by math.pow", "\ndef", "\nimport math\n\ndef", FACTOR, " * math.pow(temperature, 2)"),
    ("ignore_index", "cross_entropy ignores -1, with care for no labels",
     f"    hard = {HARD}\n", "    if labelled.any():\n        hard = F.cross_entropy(student_logits, labels, ignore_index=-1)\n"
     "    else:\n        hard = student_logits.sum() * 0.0\n"),
    ("ignore_index_sum", "a sum that ignores -1, divided by the number of labels",
     SUM, 'F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum")'),
    ("ignore_index_nan_to_num", "a mean that ignores -1, where NaN counts as 0",
     HARD, "F.cross_entropy(student_logits, labels, ignore_index=-1) if labelled.any() else torch.tensor(0.0)"),
    ("module_ignore_index", "an instance of CrossEntropyLoss that ignores -1",
     SUM, 'nn.CrossEntropyLoss(ignore_index=-1, reduction="sum")(student_logits, labels)'),
    ("none_and_mean", "losses of all rows, of which the labelled ones count",
     HARD, 'F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="none").sum() / labelled.sum().clamp(min=1)'),
    ("weights_of_rows", "weights of rows, 0 for those without a label",
     HARD, '(F.cross_entropy(student_logits, labels.clamp(min=0), reduction="none") * labelled).sum() / labelled.sum().clamp(min=1)'),
    ("where", "losses of all rows, replaced by 0 where there is no label",
     HARD, 'torch.where(labelled, F.cross_entropy(student_logits, labels.clamp(min=0), reduction="none"), 0.0).sum()\n'
     "    hard = hard / torch.count_nonzero(labelled).clamp(min=1)"),
    ("masked_select", "selects rows, and a mean of those that are there",
     f"    hard = {HARD}\n", "    hard = student_logits.new_zeros(())\n    if labelled.sum() > 0:\n"
     "        hard = F.cross_entropy(student_logits[labelled], labels[labelled])\n"),
    ("indices", "indices of the labelled rows",
     f"    hard = {HARD}\n", "    rows = torch.nonzero(labels >= 0).flatten()\n    hard = 0.0\n    if rows.numel():\n"
     "        hard = F.cross_entropy(student_logits.index_select(0, rows), labels[rows])\n"),
    ("logsumexp", "logsumexp minus the logit of the label",
     HARD, "((student_logits.logsumexp(1) - student_logits.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)) * labelled).sum()"
     " / max(labelled.sum().item(), 1)"),
    ("nll_loss", "negative log-likelihood of log_softmax",
     SUM, 'F.nll_loss(F.log_softmax(student_logits, dim=-1), labels, ignore_index=-1, reduction="sum")'),
    ("one_hot", "products with one-hot labels",
     SUM, "-(F.one_hot(labels[labelled], student_logits.shape[1]) * student_logits[labelled].log_softmax(1)).sum()"),
    ("greater_or_equal", "labels from 0 on", LABELLED, "labels >= 0"),
    ("not_labels_equal", "the opposite of no label", LABELLED, "~labels.eq(-1)"),
    ("double_precision", "computes in double precision, and returns that",
     "    log_q =", "    student_logits, teacher_logits = student_logits.double(), teacher_logits.double()\n    log_q ="),
    ("double_and_back", "computes in double precision, and returns the type of the logits",
     "    log_q =", "    kind = student_logits.dtype\n    student_logits, teacher_logits = student_logits.double(), teacher_logits.double()\n    log_q =",
     RETURN, "return (alpha * soft + (1 - alpha) * hard).to(kind)"),
    ("difference_form", "the labels' part and alpha times the difference", RETURN, "return hard + alpha * (soft - hard)"),
    ("lerp", "a weighted mean by lerp", RETURN, "return torch.lerp(hard, soft, float(alpha))"),
    ("list_of_parts", "a sum over pairs of weight and part", RETURN, "return sum(w * part for w, part in ((alpha, soft), (1 - alpha, hard)))"),
    ("one_number_in_a_vector", "one number in a vector", RETURN, "return (alpha * soft + (1 - alpha) * hard).reshape(1)"),
    ("cleaned_afterwards", "softens both logits first", LOG_Q, "(student_logits / temperature).log_softmax(-1)", P, "(teacher_logits / temperature).softmax(-1).detach()"),
    ("inverse_temperature", "multiplies by the inverse temperature", "/ temperature", "* (1 / temperature)"),
    ("own_normaliser", "subtracts logsumexp",
     LOG_Q, "student_logits / temperature - torch.logsumexp(student_logits / temperature, dim=1, keepdim=True)"),
    ("annotated", "with annotations and a docstring",
     "(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):",
     "(\n    student_logits: Tensor,\n    teacher_logits: Tensor,\n    labels: Tensor,\n    temperature: float = 4.0,\n    alpha: float = 0.9,\n) -> Tensor:\n"
     '    """Teach a student."""'),
    ("other_names", "other names for all arguments",
     "student_logits", "s", "teacher_logits", "t", "temperature", "T", "alpha", "weight"),
    ("checks_as_product", "checks everything in one condition",
     SHAPES + POSITIVE + BETWEEN, "    ok = student_logits.shape == teacher_logits.shape and labels.shape == student_logits.shape[:1]\n"
     '    if not (ok and temperature > 0 and alpha >= 0 and alpha <= 1):\n        raise ValueError(f"{temperature=} {alpha=}")\n'),
    ("own_error", "an error of its own, which is a ValueError",
     "\ndef", "\nclass LossError(ValueError):\n    pass\n\ndef", "raise ValueError", "raise LossError"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("two_branches", "parts that are computed where they count", """
    loss = torch.zeros((), dtype=student_logits.dtype, device=student_logits.device)
    if alpha > 0:
        teacher = (teacher_logits.detach() / temperature).softmax(dim=1)
        student = (student_logits / temperature).log_softmax(dim=1)
        loss = loss + alpha * temperature**2 * F.kl_div(student, teacher, reduction="batchmean")
    if alpha < 1 and (labels >= 0).any():
        loss = loss + (1 - alpha) * F.cross_entropy(student_logits, labels, ignore_index=-1)
    return loss
"""),
    ("early_return", "returns early where there is no label", """
    log_p = torch.log_softmax(teacher_logits.detach() / temperature, 1)
    log_q = torch.log_softmax(student_logits / temperature, 1)
    soft = temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    mask = labels.ge(0)
    if not mask.any():
        return alpha * soft
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits[mask], labels[mask])
"""),
    ("loops", "loops over rows", """
    soft, hard, known = 0.0, 0.0, 0
    for s, t, label in zip(student_logits, teacher_logits.detach(), labels.tolist()):
        log_p, log_q = torch.log_softmax(t / temperature, 0), torch.log_softmax(s / temperature, 0)
        soft = soft + torch.sum(log_p.exp() * (log_p - log_q))
        if label != -1:
            hard = hard - torch.log_softmax(s, 0)[label]
            known += 1
    loss = alpha * temperature * temperature * soft / len(labels)
    if known:
        loss = loss + (1 - alpha) * hard / known
    return loss
"""),
    ("distributions", "probabilities of torch.distributions", """
    teacher = torch.distributions.Categorical(logits=teacher_logits.detach() / temperature)
    student = torch.distributions.Categorical(logits=student_logits / temperature)
    divergence = (teacher.probs * (teacher.logits - student.logits)).sum(-1)
    own = torch.distributions.Categorical(logits=student_logits)
    has = labels >= 0
    losses = -own.log_prob(labels.clamp(min=0)) * has
    return alpha * temperature**2 * divergence.mean() + (1 - alpha) * losses.sum() / has.sum().clamp(min=1)
"""),
    ("helpers", "functions of its own", """
    return alpha * soft_part(student_logits, teacher_logits, temperature) + (1 - alpha) * hard_part(student_logits, labels)
""", """
def soft_part(student, teacher, t):
    target = torch.softmax(teacher.detach() / t, dim=-1)
    return t**2 * F.kl_div(torch.log_softmax(student / t, dim=-1), target, reduction="sum") / student.size(0)

def hard_part(student, labels):
    keep = labels >= 0
    if keep.sum() == 0:
        return torch.zeros((), device=student.device)
    return F.cross_entropy(student[keep], labels[keep])
"""),
    ("as_module", "a module", """
    return Distiller(temperature, alpha)(student_logits, teacher_logits, labels)
""", """
class Distiller(nn.Module):
    def __init__(self, temperature, alpha):
        super().__init__()
        self.temperature, self.alpha = temperature, alpha
        self.divergence = nn.KLDivLoss(reduction="batchmean")
        self.entropy = nn.CrossEntropyLoss(ignore_index=-1, reduction="sum")

    def forward(self, student, teacher, labels):
        with torch.no_grad():
            target = F.softmax(teacher / self.temperature, dim=1)
        soft = self.divergence(F.log_softmax(student / self.temperature, dim=1), target)
        hard = self.entropy(student, labels) / max((labels != -1).sum().item(), 1)
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard
"""),
    ("own_softmax", "subtracts the largest logit, and takes exponentials, sum and logarithm", """
    def log_probabilities(x):
        x = x - x.max(dim=1, keepdim=True).values
        return x - x.exp().sum(dim=1, keepdim=True).log()

    log_p = log_probabilities(teacher_logits.detach() / temperature)
    log_q = log_probabilities(student_logits / temperature)
    soft = (torch.exp(log_p) * (log_p - log_q)).sum() / student_logits.shape[0]
    known = (labels >= 0).nonzero(as_tuple=True)[0]
    hard = -log_probabilities(student_logits)[known, labels[known]].sum() / max(len(known), 1)
    return alpha * soft * temperature**2 + (1 - alpha) * hard
"""),
    ("mapped", "maps a function of one row over all rows", """
    def divergence(s, t):
        log_p, log_q = F.log_softmax(t / temperature, dim=0), F.log_softmax(s / temperature, dim=0)
        return (log_p.exp() * (log_p - log_q)).sum()

    soft = torch.func.vmap(divergence)(student_logits, teacher_logits.detach()).mean()
    labelled = labels > -1
    n = labelled.sum()
    hard = F.cross_entropy(student_logits[labelled], labels[labelled], reduction="sum") / (n if n > 0 else 1)
    return alpha * temperature**2 * soft + (1 - alpha) * hard
"""),
    ("soft_labels", "one-hot labels as targets of cross_entropy, rows of zeros without a label", """
    k = student_logits.shape[1]
    targets = F.one_hot(labels.clamp(min=0), k).to(student_logits.dtype) * (labels >= 0).unsqueeze(1)
    hard = F.cross_entropy(student_logits, targets, reduction="sum") / max(1, int((labels >= 0).sum()))
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1).detach()
    return alpha * F.kl_div(log_q, p, reduction="batchmean") * temperature**2 + (1 - alpha) * hard
"""),
    ("in_chunks", "a few rows at a time", """
    total = student_logits.new_zeros(())
    n_labels = int((labels >= 0).sum())
    for s, t, y in zip(student_logits.split(2), teacher_logits.split(2), labels.split(2)):
        soft = F.kl_div(F.log_softmax(s / temperature, 1), F.softmax(t.detach() / temperature, 1), reduction="sum")
        total = total + alpha * temperature**2 * soft / len(labels)
        if n_labels:
            total = total + (1 - alpha) * F.cross_entropy(s, y, ignore_index=-1, reduction="sum") / n_labels
    return total
"""),
    ("own_gradient", "a function with a gradient of its own", """
    soft = SoftDivergence.apply(student_logits, teacher_logits, temperature)
    has = labels >= 0
    hard = F.cross_entropy(student_logits[has], labels[has]) if has.any() else 0
    return alpha * soft + (1 - alpha) * hard
""", """
class SoftDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student, teacher, temperature):
        log_q, log_p = torch.log_softmax(student / temperature, 1), torch.log_softmax(teacher / temperature, 1)
        ctx.save_for_backward(log_q, log_p)
        ctx.temperature = temperature
        return (log_p.exp() * (log_p - log_q)).sum(1).mean() * temperature**2

    @staticmethod
    def backward(ctx, gradient):
        log_q, log_p = ctx.saved_tensors
        return gradient * ctx.temperature * (log_q.exp() - log_p.exp()) / len(log_q), None, None
"""),
    ("log_partition", "differences of logits and of their logsumexp", """
    t, s = teacher_logits.detach() / temperature, student_logits / temperature
    divergence = (t.softmax(-1) * (t - s)).sum(-1) - t.logsumexp(-1) + s.logsumexp(-1)
    w = (labels > -1).type_as(student_logits)
    w = w / w.sum().clamp_min(1)
    ce = -(student_logits.log_softmax(-1) * F.one_hot(labels.clamp_min(0), student_logits.size(-1))).sum(-1)
    return alpha * temperature**2 * divergence.mean() + (1 - alpha) * (w * ce).sum()
"""),
    ("two_groups", "rows with a label, and rows without one", """
    total = 0.0
    for rows in (labels >= 0, labels < 0):
        log_p = F.log_softmax(teacher_logits[rows].detach() / temperature, -1)
        log_q = F.log_softmax(student_logits[rows] / temperature, -1)
        total = total + F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    loss = alpha * temperature**2 * total / len(labels)
    if (labels >= 0).any():
        loss = loss + (1 - alpha) * F.cross_entropy(student_logits[labels >= 0], labels[labels >= 0])
    return loss
"""),
    ("added_in_place", "adds the labels' part in place", """
    loss = alpha * temperature**2 * nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student_logits / temperature, dim=1), F.softmax(teacher_logits.detach() / temperature, dim=1)
    )
    valid = labels != -1
    if valid.any():
        loss += F.cross_entropy(student_logits[valid], labels[valid]) * (1.0 - alpha)
    return loss
"""),
    ("asserted_types", "converts its numbers first", """
    temperature, alpha = float(temperature), float(alpha)
    p = torch.softmax(teacher_logits.clone().detach().div(temperature), 1)
    log_q = torch.log_softmax(student_logits.div(temperature), 1)
    soft = F.kl_div(log_q, p, reduction="none").sum(1)
    hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="none")
    n_labelled = (labels != -1).float().sum().clamp_min(1.0)
    per_row = alpha * temperature**2 * soft / len(soft) + (1 - alpha) * hard / n_labelled
    return per_row.sum()
"""),
]  # fmt: skip

_BY_KEYWORD = f"""
{SIGNATURE}    n, k = student_logits.shape
    if teacher_logits.shape != (n, k):
        raise ValueError(f"teacher: {{tuple(teacher_logits.shape)}}, student: {{(n, k)}}")
    if labels.shape != (n,):
        raise ValueError(f"labels: {{tuple(labels.shape)}}")
    if not temperature > 0:
        raise ValueError("temperature")
    if alpha > 1 or alpha < 0:
        raise ValueError("alpha")
    kl = F.kl_div(
        input=F.log_softmax(student_logits.div(temperature), dim=1),
        target=F.softmax(teacher_logits.detach().div(temperature), dim=1),
        reduction="none",
    ).sum() / n
    mask = (labels != -1).to(student_logits)
    ce = F.cross_entropy(student_logits, labels.where(labels != -1, 0), reduction="none")
    return alpha * temperature * temperature * kl + (1 - alpha) * torch.dot(mask, ce) / mask.sum().clamp(min=1)
"""

_ANY_ARGUMENTS = f"""
def distillation_loss(*logits_and_labels, **numbers):
    return _distillation_loss(*logits_and_labels, **numbers)

{LOSS.replace("def distillation_loss", "def _distillation_loss").strip()}
"""

LOSS_CORRECT = [
    correct("plain", "as the notebook explains it", LOSS),
    *(correct(name, text, replaced(LOSS, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
    correct("any_arguments", "passes all arguments on", _ANY_ARGUMENTS),
    correct("by_keyword", "arguments by keyword, and errors with shapes", _BY_KEYWORD),
]
