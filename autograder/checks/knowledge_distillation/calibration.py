"""Variants for ``autograder calibrate knowledge-distillation``: right and wrong functions for the accuracy check.

Right variants differ in what a student may choose freely: optimizer, schedule, weight decay, clipping, how the loss is
written, how the teacher is asked. Wrong variants are those that the check must detect: nothing is learned from the
teacher.
"""

from __future__ import annotations

from amllab.checks.knowledge_distillation.accuracy_task import DistillationTask
from autograder.labs.calibrated import Style
from autograder.labs.corpus import replaced

TASK = DistillationTask
# no further learning rate is tried from here on, so both thresholds must be lower
CEILINGS = {"species": 0.8}

_IMPORTS = """
import copy, math, torch
from torch import nn
from torch.nn import functional as F
"""
_LOSS = """
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    soft = temperature**2 * F.kl_div(q, p, reduction="batchmean")
    has = labels >= 0
    hard = F.cross_entropy(student_logits[has], labels[has]) if has.any() else 0.0
    return alpha * soft + (1 - alpha) * hard
"""
_SUMS = """
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    with torch.no_grad():
        log_p = (teacher_logits / temperature).log_softmax(1)
    log_q = (student_logits / temperature).log_softmax(1)
    soft = (log_p.exp() * (log_p - log_q)).sum(1).mean() * temperature * temperature
    known = (labels != -1).float()
    each = F.cross_entropy(student_logits, labels.clamp(min=0), reduction="none")
    return alpha * soft + (1 - alpha) * (each * known).sum() / known.sum().clamp(min=1)
"""
_SOFT_TARGETS = """
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    p = F.softmax(teacher_logits / temperature, dim=1).detach()
    loss = alpha * temperature**2 * F.cross_entropy(student_logits / temperature, p)
    if (labels >= 0).any():
        loss = loss + (1 - alpha) * F.cross_entropy(student_logits, labels, ignore_index=-1)
    return loss
"""
# what replaces a wrong loss in the check, so that the points for the training can still be earned
_REPLACEMENT = """
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    apart = student_logits - teacher_logits.detach()
    return (apart - apart.mean(1, keepdim=True)).square().mean()
"""
_DISTILL = """
def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):
    params = [p for p in student.parameters()]
    optimizer = OPTIMIZER
    scheduler = SCHEDULER
    modes = {m: m.training for m in teacher.modules()}
    teacher.eval()
    student.train()
    history = {"loss": []}
    for epoch in range(epochs):
        total = n = 0
        for x, y in loader:
            with torch.no_grad():
                answers = teacher(x)
            loss = distillation_loss(student(x), answers, y, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            CLIP
            optimizer.step()
            BATCH
            total, n = total + loss.item() * len(x), n + len(x)
        history["loss"].append(total / n)
        EPOCH
    for m, mode in modes.items():
        m.training = mode
    return history
"""
_CLOSURE = """
def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):
    knowing = copy.deepcopy(teacher).eval().requires_grad_(False)
    optimizer = torch.optim.Adam(student.train().parameters(), lr=lr, betas=(0.9, 0.99))
    losses = []
    for epoch in range(epochs):
        total = n = 0
        for x, y in loader:
            answers = knowing(x)
            def closure():
                optimizer.zero_grad(set_to_none=True)
                loss = distillation_loss(student(x), answers, y, temperature=temperature, alpha=alpha)
                loss.backward()
                return loss
            loss = optimizer.step(closure)
            total, n = total + float(loss) * len(x), n + len(x)
        losses.append(total / n)
    return {"loss": losses}
"""
_STEPS = "epochs * len(loader)"
_LOSS_LINE = "loss = distillation_loss(student(x), answers, y, temperature, alpha)"


def _distill(optimizer: str = "torch.optim.AdamW(params, lr=lr)", scheduler: str = "None", **places: str) -> str:
    source = replaced(_DISTILL, "OPTIMIZER", optimizer, "SCHEDULER", scheduler)
    for place in ("CLIP", "BATCH", "EPOCH"):
        source = replaced(source, place, places.get(place.lower(), "pass"))
    return source


def _style(name: str, distill: str, *, right: bool = True, loss: str = _LOSS, every: int = 1) -> Style:
    return Style(name, right, _IMPORTS + loss + distill, every)


_ADAMW = _distill()

STYLES = [
    _style("AdamW", _ADAMW),
    _style(
        "Adam, cosine, clipped",
        _distill(
            "torch.optim.Adam(params, lr=lr)",
            "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)",
            clip="nn.utils.clip_grad_norm_(params, 1.0)",
            epoch="scheduler.step()",
        ),
    ),
    _style(
        "AdamW, one cycle, weight decay 0.05",
        _distill(
            "torch.optim.AdamW(params, lr=lr, weight_decay=0.05)",
            f"torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * lr, total_steps={_STEPS})",
            batch="scheduler.step()",
        ),
        loss=_SUMS,
    ),
    _style("Adam, copied teacher, closure", _CLOSURE),
    _style("Adam, cross-entropy of soft targets", _distill("torch.optim.Adam(params, lr=lr)"), loss=_SOFT_TARGETS),
    _style("RMSprop", _distill("torch.optim.RMSprop(params, lr=lr)")),
    _style("Adagrad", _distill("torch.optim.Adagrad(params, lr=lr)")),
    _style("SGD", _distill("torch.optim.SGD(params, lr=lr)")),
    _style("SGD, momentum 0.9", _distill("torch.optim.SGD(params, lr=lr, momentum=0.9)")),
    _style(
        "SGD, Nesterov, warm-up, weight decay",
        _distill(
            "torch.optim.SGD(params, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)",
            "torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, len(loader))",
            batch="scheduler.step()",
        ),
    ),
    # a wrong loss loses points in exercise 1, and must cost nothing here
    _style("AdamW, with the loss of the checks", _ADAMW, loss=_REPLACEMENT, every=2),
    _style(
        "SGD, momentum 0.9, with the loss of the checks",
        _distill("torch.optim.SGD(params, lr=lr, momentum=0.9)"),
        loss=_REPLACEMENT,
    ),
    _style(
        "answers of other images",
        replaced(_ADAMW, "answers = teacher(x)", "answers = teacher(x).roll(1, 0)"),
        right=False,
    ),
    _style(
        "teacher on noise",
        replaced(_ADAMW, "answers = teacher(x)", "answers = teacher(torch.randn_like(x))"),
        right=False,
        every=2,
    ),
    _style("no step", replaced(_ADAMW, "optimizer.step()", "pass"), right=False, every=4),
    _style("the loss grows", replaced(_ADAMW, "loss.backward()", "(-loss).backward()"), right=False, every=4),
    _style(
        "labels alone",
        replaced(_ADAMW, _LOSS_LINE, "loss = F.cross_entropy(student(x), y.clamp(min=0))"),
        right=False,
        every=4,
    ),
    _style(
        "the student's own answers",
        replaced(_ADAMW, "answers = teacher(x)", "answers = student(x)"),
        right=False,
        every=4,
    ),
]
