"""A plain correct ``distillation_loss``, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

LOSS = """
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    if student_logits.shape != teacher_logits.shape or len(labels) != len(student_logits):
        raise ValueError("logits of one shape, and one label for each row")
    if temperature <= 0:
        raise ValueError("the temperature must be positive")
    if not 0 <= alpha <= 1:
        raise ValueError("alpha must be between 0 and 1")
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    soft = F.kl_div(log_q, p, reduction="batchmean") * temperature ** 2
    labelled = labels != -1
    hard = F.cross_entropy(student_logits[labelled], labels[labelled], reduction="sum") / max(int(labelled.sum()), 1)
    return alpha * soft + (1 - alpha) * hard
"""
