"""Distillation losses with the right value and another mistake: gradients, range, errors, what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.loss.parts import (
    BETWEEN,
    HARD,
    KL,
    LOG_Q,
    POSITIVE,
    RETURN,
    SHAPES,
    SIGNATURE,
    SUM,
    P,
    changed,
    of_body,
    wrong,
)
from autograder.checks.knowledge_distillation.corpus.plain_loss import LOSS
from autograder.labs.corpus import replaced

# what a mistake should cost, of 25 points
TEACHER = (2, 3)  # a gradient of the teacher
PART = (3, 6)  # a part of the student's gradient
NO_GRADIENT = (5, 9)  # training changes nothing, or ends with an error
LARGE = (1, 2)
ERROR, BOTH_ERRORS = (1, 1), (2, 2)
FORM = (1, 3)  # the right numbers in another form
SIZE = (1, 2)
NOTHING = (13, 25)

_TEACHER = "no_gradient_of_the_teacher"
_STUDENT = "gradient_of_the_student"
_NONE = f"{_STUDENT} {_TEACHER} no_label_at_all"
_SHAPES = "refuses_other_shapes"
_NUMBERS = "refuses_impossible_numbers"
_VALUE = RETURN.removeprefix("return ")

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # gradients
    ("teacher_not_detached", "does not detach the teacher", TEACHER, _TEACHER, ".detach()", ""),
    ("teacher_detached_once", "detaches the teacher in one of two places", TEACHER, _TEACHER,
     KL, "(p * (F.log_softmax(teacher_logits / temperature, dim=1) - log_q)).sum(1).mean()"),
    ("student_detached_in_soft", "detaches the student in the teacher's part", (4, 9), "gradient_of_the_student no_label_at_all",
     LOG_Q, LOG_Q.replace("student_logits", "student_logits.detach()")),
    ("wrong_one_detached", "detaches the student in place of the teacher", (5, 11), "gradient_of_the_student no_label_at_all no_gradient_of_the_teacher",
     LOG_Q, LOG_Q.replace("student_logits", "student_logits.detach()"), P, P.replace(".detach()", "")),
    ("student_detached_in_hard", "detaches the student in the labels' part", PART, _STUDENT,
     SUM, SUM.replace("student_logits[labelled]", "student_logits[labelled].detach()")),
    ("both_detached", "detaches everything", NO_GRADIENT, _NONE, RETURN, f"return ({_VALUE}).detach()"),
    ("no_grad", "computes without gradients", NO_GRADIENT, _NONE, "\ndef", "\n@torch.no_grad()\ndef"),
    ("all_in_no_grad", "computes the teacher's part without gradients", (4, 9), "gradient_of_the_student no_label_at_all",
     f"    log_q = {LOG_Q}\n    p = {P}\n", f"    with torch.no_grad():\n        log_q = {LOG_Q}\n        p = {P}\n"),
    ("student_data", "takes the data of the student in the teacher's part", (4, 9), "gradient_of_the_student no_label_at_all", LOG_Q, LOG_Q.replace("student_logits", "student_logits.data")),
    ("parts_as_numbers", "turns the teacher's part into a number", (4, 9), "gradient_of_the_student no_label_at_all", "    labelled =", "    soft = soft.item()\n    labelled ="),
    ("hard_as_number", "turns the labels' part into a number", PART, _STUDENT, RETURN, "return alpha * soft + (1 - alpha) * float(hard)"),
    ("through_numpy", "computes with numpy", NO_GRADIENT, _NONE, "    log_q =",
     "    student_logits = torch.from_numpy(student_logits.detach().numpy())\n    log_q ="),
    ("fresh_gradient", "returns a copy that requires a gradient but has none", NO_GRADIENT, _NONE,
     RETURN, f"return ({_VALUE}).detach().clone().requires_grad_()"),
    ("detached_weights", "detaches the weights of a product", PART, _STUDENT,
     HARD, f"(lambda h: h * 2 - h.detach())({HARD})"),
    ("gradient_scaled", "takes the square of the temperature out of the gradient", PART, _STUDENT,
     RETURN, f"loss = {_VALUE}\n    return loss / temperature ** 2 + (loss - loss / temperature ** 2).detach()"),
    ("new_tensor", "makes a new tensor of the loss", NO_GRADIENT, _NONE, RETURN, f"return torch.tensor(({_VALUE}).item(), requires_grad=True)"),
    ("rounded", "rounds the loss for display", (6, 12.5), "", RETURN, f"return ({_VALUE}).mul(100).round().div(100)"),
    ("half_precision", "computes in half precision", (1, 10), "",
     LOG_Q, "F.log_softmax(student_logits.half() / temperature, dim=1).float()"),
    ("bfloat16", "computes in bfloat16", (1, 12), "", LOG_Q, "F.log_softmax(student_logits.bfloat16() / temperature, dim=1).float()"),
    # range
    ("tutorial", "multiplies 0 by minus infinity for large logits", LARGE, "large_logits", KL, "(p * (p.log() - log_q)).sum() / p.size(0)"),
    ("log_of_softmax", "takes the logarithm of softmax", LARGE, "large_logits", LOG_Q, f"{LOG_Q.replace('log_softmax', 'softmax')}.log()"),
    ("log_of_quotient", "takes the logarithm of a quotient", LARGE, "large_logits",
     KL, "(p * (p / log_q.exp()).log()).sum(1).mean()"),
    ("eps", "adds a small number to probabilities", LARGE, "large_logits",
     LOG_Q, f"({LOG_Q.replace('log_softmax', 'softmax')} + 1e-8).log()"),
    ("tiny_eps", "adds a tiny number to probabilities", LARGE, "large_logits",
     LOG_Q, f"({LOG_Q.replace('log_softmax', 'softmax')} + 1e-20).log()"),
    ("clamped", "clamps probabilities", LARGE, "large_logits",
     LOG_Q, f"{LOG_Q.replace('log_softmax', 'softmax')}.clamp(min=1e-12).log()"),
    ("clamped_logits", "clamps logits", LARGE, "large_logits", "    log_q =", "    student_logits = student_logits.clamp(-100, 100)\n    log_q ="),
    ("own_exponentials", "takes exponentials of logits, which overflow", LARGE, "large_logits",
     P, "(lambda e: e / e.sum(1, keepdim=True))((teacher_logits.detach() / temperature).exp())"),
    ("kl_divergence", "takes kl_divergence of torch.distributions, which is infinite for probabilities of 0", LARGE, "large_logits",
     KL, "torch.distributions.kl_divergence(torch.distributions.Categorical(logits=teacher_logits.detach() / temperature), "
     "torch.distributions.Categorical(logits=student_logits / temperature)).mean()"),
    ("nan_to_num", "replaces what is not a number by 0", LARGE, "large_logits", KL, "(p * (p / log_q.exp()).log()).nan_to_num(0, 0, 0).sum(1).mean()"),
    ("hard_log_of_softmax", "takes the logarithm of softmax in the labels' part", LARGE, "large_logits",
     SUM, "-student_logits.softmax(1)[labelled].gather(1, labels[labelled][:, None]).log().sum()"),
    ("hard_eps", "adds a small number to the label's probability", LARGE, "large_logits",
     SUM, "-(student_logits.softmax(1)[labelled].gather(1, labels[labelled][:, None]) + 1e-10).log().sum()"),
    # errors
    ("no_check_of_shapes", "accepts any shapes", ERROR, _SHAPES, SHAPES, ""),
    ("no_check_of_logits", "accepts logits of different shapes", ERROR, _SHAPES, "student_logits.shape != teacher_logits.shape or ", ""),
    ("no_check_of_labels", "accepts any number of labels", ERROR, _SHAPES, " or len(labels) != len(student_logits)", ""),
    ("rows_checked_alone", "compares the numbers of rows alone", ERROR, _SHAPES,
     "student_logits.shape != teacher_logits.shape", "len(student_logits) != len(teacher_logits)"),
    ("classes_checked_alone", "compares the numbers of classes alone", ERROR, _SHAPES,
     "student_logits.shape != teacher_logits.shape", "student_logits.shape[1] != teacher_logits.shape[1]"),
    ("numbers_of_elements", "compares the numbers of logits", ERROR, _SHAPES,
     "student_logits.shape != teacher_logits.shape", "student_logits.ndim != teacher_logits.ndim"),
    ("no_check_of_temperature", "accepts any temperature", ERROR, _NUMBERS, POSITIVE, ""),
    ("accepts_temperature_0", "accepts a temperature of 0", ERROR, _NUMBERS, "temperature <= 0", "temperature < 0"),
    ("accepts_negative_temperature", "accepts negative temperatures", ERROR, _NUMBERS, "temperature <= 0", "temperature == 0"),
    ("no_check_of_alpha", "accepts any alpha", ERROR, _NUMBERS, BETWEEN, ""),
    ("accepts_large_alpha", "accepts alpha above 1", ERROR, _NUMBERS, "0 <= alpha <= 1", "0 <= alpha"),
    ("accepts_negative_alpha", "accepts negative alpha", ERROR, _NUMBERS, "0 <= alpha <= 1", "alpha <= 1"),
    ("no_checks", "accepts anything", BOTH_ERRORS, f"{_SHAPES} {_NUMBERS}", SHAPES + POSITIVE + BETWEEN, ""),
    ("assertions", "asserts instead of raising a ValueError", BOTH_ERRORS, f"{_SHAPES} {_NUMBERS}",
     SHAPES + POSITIVE + BETWEEN, "    assert student_logits.shape == teacher_logits.shape and len(labels) == len(student_logits)\n"
     "    assert temperature > 0 and 0 <= alpha <= 1\n"),
    ("other_error", "raises another error", BOTH_ERRORS, f"{_SHAPES} {_NUMBERS}", "raise ValueError", "raise TypeError"),
    ("prints", "prints a message instead of raising", BOTH_ERRORS, f"{_SHAPES} {_NUMBERS}", "raise ValueError", "return print"),
    ("clamps_alpha", "brings alpha into the range", ERROR, _NUMBERS, BETWEEN, "    alpha = min(max(alpha, 0), 1)\n"),
    ("refuses_alpha_1", "refuses an alpha of 1", (3, 8), "known_divergence alpha_mixes_both_parts agreement_costs_nothing sizes_and_whole_numbers", "0 <= alpha <= 1", "0 <= alpha < 1"),
    ("refuses_alpha_0", "refuses an alpha of 0", (2, 6), "known_cross_entropy alpha_mixes_both_parts agreement_costs_nothing sizes_and_whole_numbers", "0 <= alpha <= 1", "0 < alpha <= 1"),
    ("refuses_temperatures_below_1", "refuses temperatures below 1", (1, 3), "sizes_and_whole_numbers", "temperature <= 0", "temperature < 1"),
    ("refuses_whole_numbers", "refuses whole numbers", SIZE, "sizes_and_whole_numbers",
     POSITIVE, '    if not isinstance(temperature, float) or temperature <= 0:\n        raise ValueError("temperature")\n'),
    # defaults and sizes
    ("default_temperature_1", "has a default temperature of 1", ERROR, "defaults", "temperature=4.0", "temperature=1.0"),
    ("default_temperature_2", "has a default temperature of 2", ERROR, "defaults", "temperature=4.0", "temperature=2.0"),
    ("default_alpha_half", "has a default alpha of 0.5", ERROR, "defaults", "alpha=0.9", "alpha=0.5"),
    ("no_defaults", "has no defaults", ERROR, "defaults", "temperature=4.0, alpha=0.9", "temperature, alpha"),
    ("no_default_alpha", "has no default alpha", ERROR, "defaults", "temperature=4.0, alpha=0.9", "temperature, alpha"),
    ("squeezed", "squeezes logits, which loses a batch of one", (1, 2), "sizes_and_whole_numbers", "    log_q =",
     "    student_logits, teacher_logits = student_logits.squeeze(), teacher_logits.squeeze()\n    log_q ="),
    ("refuses_one_example", "refuses a single example", SIZE, "sizes_and_whole_numbers",
     POSITIVE, f'{POSITIVE}    if len(labels) < 2:\n        raise ValueError("one example")\n'),
    ("ten_classes", "knows ten classes at most", SIZE, "sizes_and_whole_numbers",
     P, P.replace("teacher_logits.detach()", "teacher_logits.detach()[:, :10]"), LOG_Q, LOG_Q.replace("student_logits", "student_logits[:, :10]")),
    ("numbers_exchanged", "has temperature and alpha in the other order", ERROR, "defaults", "temperature=4.0, alpha=0.9", "alpha=0.9, temperature=4.0"),
    ("refuses_0_and_1", "refuses 0 and 1 for alpha", (3, 8),
     "known_divergence known_cross_entropy alpha_mixes_both_parts agreement_costs_nothing sizes_and_whole_numbers", "0 <= alpha <= 1", "0 < alpha < 1"),
    ("logits_exchanged", "has student and teacher in the other order", (8, 16), "", "(student_logits, teacher_logits,", "(teacher_logits, student_logits,"),
    # what is returned, and what is left
    ("item", "returns a plain number", NO_GRADIENT, f"returns_one_number {_NONE}", RETURN, f"return ({_VALUE}).item()"),
    ("row_by_row", "returns one loss for each row", FORM, "returns_one_number",
     KL, 'F.kl_div(log_q, p, reduction="none").sum(1)'),
    ("pair", "returns both parts", NOTHING, "", RETURN, "return alpha * soft, (1 - alpha) * hard"),
    ("triple", "returns the parts as well", NOTHING, "", RETURN, f"{RETURN}, soft, hard"),
    ("returns_nothing", "returns nothing", NOTHING, "", RETURN, f"loss = {_VALUE}"),
    ("prints_the_loss", "prints the loss instead of returning it", NOTHING, "", RETURN, f"print({_VALUE})"),
    ("name_before_value", "uses a name before it has a value", NOTHING, "", "    labelled =", "    scaled = hard\n    labelled ="),
    ("backward_inside", "calls backward itself", NOTHING, "", RETURN, f"loss = {_VALUE}\n    loss.backward()\n    return loss"),
    ("divides_in_place", "divides the student's logits in place", (3, 10), "known_cross_entropy values_of_random_logits logits_stay",
     "    log_q =", "    student_logits /= temperature\n    log_q =", LOG_Q, "F.log_softmax(student_logits, dim=1)"),
    ("divides_teacher_in_place", "divides the teacher's logits in place", (1, 5), "logits_stay",
     "    log_q =", "    teacher_logits.data.div_(temperature)\n    log_q =", P, "F.softmax(teacher_logits.detach(), dim=1)"),
    ("labels_in_place", "replaces -1 by 0 in place", (1, 3), "logits_stay",
     SUM, '(F.cross_entropy(student_logits, labels.clamp_(min=0), reduction="none") * labelled).sum()'),
]  # fmt: skip

_LIST_OF_NUMBERS = """
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = sum(float((a.exp() * (a - b)).sum()) for a, b in zip(log_p, log_q)) / len(labels)
    known = labels >= 0
    hard = F.cross_entropy(student_logits[known], labels[known], reduction="sum") / max(1, int(known.sum()))
    return alpha * temperature**2 * soft + (1 - alpha) * hard
"""

_UNTOUCHED = f"{SIGNATURE}    return None\n"

ELSEWHERE = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("list_of_numbers", "collects divergences as plain numbers", (4, 9), "gradient_of_the_student no_label_at_all", of_body(_LIST_OF_NUMBERS)),
    wrong("empty", "has no body yet", (18, 25), "", _UNTOUCHED),
    wrong("one_argument_less", "takes no labels", (18, 25), "", replaced(LOSS, "teacher_logits, labels, t", "teacher_logits, t")),
]  # fmt: skip
