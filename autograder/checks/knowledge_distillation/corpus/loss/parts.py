"""The means to write solutions of exercise 1: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.plain_loss import LOSS
from autograder.labs.exercise import Exercise

CELL = "distillation_loss"
SIGNATURE = "def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):\n"
GUARD = """\
    if student_logits.shape != teacher_logits.shape or labels.shape[0] != student_logits.shape[0]:
        raise ValueError("shapes")
    if temperature <= 0 or alpha < 0 or alpha > 1:
        raise ValueError("temperature or alpha")
"""

# texts of the plain function
SHAPES = (
    "    if student_logits.shape != teacher_logits.shape or len(labels) != len(student_logits):\n"
    '        raise ValueError("logits of one shape, and one label for each row")\n'
)
POSITIVE = '    if temperature <= 0:\n        raise ValueError("the temperature must be positive")\n'
BETWEEN = '    if not 0 <= alpha <= 1:\n        raise ValueError("alpha must be between 0 and 1")\n'
LOG_Q = "F.log_softmax(student_logits / temperature, dim=1)"
P = "F.softmax(teacher_logits.detach() / temperature, dim=1)"
KL = 'F.kl_div(log_q, p, reduction="batchmean")'
FACTOR = " * temperature ** 2"
LABELLED = "labels != -1"
SUM = 'F.cross_entropy(student_logits[labelled], labels[labelled], reduction="sum")'
HARD = f"{SUM} / max(int(labelled.sum()), 1)"
RETURN = "return alpha * soft + (1 - alpha) * hard"

# checks that do not pass if the teacher's part, the labels' part or the weights are wrong
RANDOM = "values_of_random_logits"
IN_TEACHER = f"known_divergence {RANDOM}"
IN_LABELS = f"known_cross_entropy {RANDOM}"
WITHOUT_LABEL = "rows_without_label values_without_labels"

EXERCISE = Exercise("loss", CELL, LOSS, SIGNATURE + GUARD)
of_body, changed, wrong, correct = EXERCISE.of_body, EXERCISE.changed, EXERCISE.wrong, EXERCISE.correct
