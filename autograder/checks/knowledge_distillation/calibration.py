"""Variants for ``autograder calibrate knowledge-distillation``: right and wrong functions for the accuracy check.

Right variants differ in what a student may choose freely: optimizer, schedule, weight decay, clipping, how the loss is
written, how the teacher is asked. Wrong variants are those that the check must detect: nothing is learned from the
teacher.
"""

from __future__ import annotations

from amllab.checks.knowledge_distillation.accuracy_task import DistillationTask
from autograder.labs.calibrated import Loop
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
_LOSS_LINE = "loss = distillation_loss(student(x), answers, y, temperature, alpha)"
_LOOP = Loop(_IMPORTS, _LOSS, _DISTILL)
_ADAMW = _LOOP.trained("AdamW")

STYLES = [
    _LOOP.usual("AdamW"),
    _LOOP.usual("Adam, cosine, clipped"),
    _LOOP.usual("AdamW, one cycle, weight decay 0.05", _SUMS),
    _LOOP.style("Adam, copied teacher, closure", _CLOSURE),
    _LOOP.style("Adam, cross-entropy of soft targets", _LOOP.trained("Adam"), loss=_SOFT_TARGETS),
    *map(_LOOP.usual, ("RMSprop", "Adagrad", "SGD", "SGD, momentum 0.9", "SGD, Nesterov, warm-up, weight decay")),
    # a wrong loss loses points in exercise 1, and must cost nothing here
    _LOOP.style("AdamW, with the loss of the checks", _ADAMW, loss=_REPLACEMENT, every=2),
    _LOOP.style(
        "SGD, momentum 0.9, with the loss of the checks",
        _LOOP.trained("SGD, momentum 0.9"),
        loss=_REPLACEMENT,
    ),
    _LOOP.style(
        "answers of other images",
        replaced(_ADAMW, "answers = teacher(x)", "answers = teacher(x).roll(1, 0)"),
        right=False,
    ),
    _LOOP.style(
        "teacher on noise",
        replaced(_ADAMW, "answers = teacher(x)", "answers = teacher(torch.randn_like(x))"),
        right=False,
        every=2,
    ),
    _LOOP.style("no step", replaced(_ADAMW, "optimizer.step()", "pass"), right=False, every=4),
    _LOOP.style("the loss grows", replaced(_ADAMW, "loss.backward()", "(-loss).backward()"), right=False, every=4),
    _LOOP.style(
        "labels alone",
        replaced(_ADAMW, _LOSS_LINE, "loss = F.cross_entropy(student(x), y.clamp(min=0))"),
        right=False,
        every=4,
    ),
    _LOOP.style(
        "the student's own answers",
        replaced(_ADAMW, "answers = teacher(x)", "answers = student(x)"),
        right=False,
        every=4,
    ),
]
