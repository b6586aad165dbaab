"""Distillation losses with another value than the contract's."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.loss.parts import (
    FACTOR,
    HARD,
    IN_LABELS,
    IN_TEACHER,
    KL,
    LABELLED,
    LOG_Q,
    RANDOM,
    RETURN,
    SUM,
    WITHOUT_LABEL,
    P,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 25 points
FACTOR_COST = (4, 7)  # the teacher's part up to its size
ANOTHER = (5, 9)  # a teacher's part that teaches something else, or less well
LABELS = (4, 7)  # another labels' part
WEIGHTS = (4, 8)  # parts that count in another proportion
USELESS = (8, 12.5)  # the teacher teaches nothing, or the wrong thing
SMALL = (1, 2)  # the right gradient
UNLABELLED = (3, 7)  # right where all rows have a label
NOT_FINITE = (10, 20)  # never a number: nothing works

_SOFT_Q = LOG_Q.replace("log_softmax", "softmax")

# name, mistake, cost, checks that do not pass, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # the factor of the teacher's part
    ("no_factor", "forgets the square of the temperature", FACTOR_COST, IN_TEACHER, FACTOR, ""),
    ("temperature_once", "multiplies by the temperature, not by its square", FACTOR_COST, IN_TEACHER, FACTOR, " * temperature"),
    ("temperature_doubled", "takes twice the temperature for its square", FACTOR_COST, IN_TEACHER, FACTOR, " * temperature * 2"),
    ("divided_by_square", "divides by the square of the temperature", FACTOR_COST, IN_TEACHER, FACTOR, " / temperature ** 2"),
    ("divided_by_temperature", "divides by the temperature", FACTOR_COST, IN_TEACHER, FACTOR, " / temperature"),
    ("cube", "takes the third power of the temperature", FACTOR_COST, IN_TEACHER, FACTOR, " * temperature ** 3"),
    ("exclusive_or", "takes `^` for a power", (4, 9), "known_divergence values_of_random_logits rows_without_label values_without_labels", FACTOR, " * (int(temperature) ^ 2)"),
    ("fixed_factor", "multiplies by 16, whatever the temperature is", FACTOR_COST, IN_TEACHER, FACTOR, " * 16"),
    ("halved", "halves the teacher's part", FACTOR_COST, IN_TEACHER, FACTOR, " * temperature ** 2 / 2"),
    # the mean
    ("mean_reduction", "takes kl_div's mean over all numbers", FACTOR_COST, IN_TEACHER, '"batchmean"', '"mean"'),
    ("default_reduction", "takes kl_div's default, a mean over all numbers", FACTOR_COST, IN_TEACHER, ', reduction="batchmean"', ""),
    ("sum_reduction", "sums over the examples", FACTOR_COST, IN_TEACHER, '"batchmean"', '"sum"'),
    ("sum_without_factor", "sums over the examples, and forgets the square of the temperature", ANOTHER, IN_TEACHER,
     KL + FACTOR, 'F.kl_div(log_q, p, reduction="sum")'),
    ("mean_without_factor", "takes the mean over all numbers, and forgets the square of the temperature", ANOTHER, IN_TEACHER,
     KL + FACTOR, 'F.kl_div(log_q, p, reduction="mean")'),
    ("sum_over_classes_missing", "takes the mean over the classes, too", FACTOR_COST, IN_TEACHER, KL, 'F.kl_div(log_q, p, reduction="none").mean()'),
    ("divided_by_size_one", "divides the sum by the number of classes alone", FACTOR_COST, IN_TEACHER,
     KL, 'F.kl_div(log_q, p, reduction="sum") / log_q.size(1)'),
    ("divided_twice", "divides by the number of rows twice", FACTOR_COST, IN_TEACHER, KL, f"{KL} / len(labels)"),
    ("largest_row", "takes the largest divergence of a row", ANOTHER, IN_TEACHER, KL, 'F.kl_div(log_q, p, reduction="none").sum(1).max()'),
    # the divergence
    ("reverse", "exchanges student and teacher", ANOTHER, IN_TEACHER,
     KL, "(log_q.exp() * (log_q - F.log_softmax(teacher_logits.detach() / temperature, dim=1))).sum(1).mean()"),
    ("reverse_by_arguments", "exchanges the arguments of kl_div", ANOTHER, f"{IN_TEACHER} large_logits",
     KL, 'F.kl_div(p.log(), log_q.exp(), reduction="batchmean")'),
    ("softmax_into_kl_div", "passes probabilities where kl_div wants logarithms", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     LOG_Q, _SOFT_Q),
    ("both_logarithms", "passes logarithms as the target", NOT_FINITE, "", P, P.replace("softmax", "log_softmax")),
    ("log_target_of_probabilities", "says log_target for probabilities", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     KL, 'F.kl_div(log_q, p, reduction="batchmean", log_target=True)'),
    ("logits_into_kl_div", "forgets log_softmax of the student", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", LOG_Q, "student_logits / temperature"),
    ("both_directions", "adds both directions", ANOTHER, f"{IN_TEACHER} large_logits", KL, f'({KL} + F.kl_div(p.clamp(min=1e-30).log(), log_q.exp(), reduction="batchmean"))'),
    ("negative", "changes the sign of the divergence", (5, 10), IN_TEACHER, KL, f"-{KL}"),
    ("negative_sum", "forgets that kl_div has its sign already", (5, 10), IN_TEACHER, KL, "(p * log_q - torch.xlogy(p, p)).sum(1).mean()"),
    ("cross_entropy_negative", "forgets the sign of the cross-entropy", (5, 10), f"{IN_TEACHER} agreement_costs_nothing", KL, "(p * log_q).sum(1).mean()"),
    ("squared_probabilities", "takes the squared error of the probabilities", ANOTHER, IN_TEACHER, KL, "F.mse_loss(log_q.exp(), p)"),
    ("squared_logits", "takes the squared error of the logits", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", KL, "F.mse_loss(student_logits, teacher_logits.detach())"),
    ("hard_labels", "takes the teacher's first choice as a label", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     KL, "F.cross_entropy(student_logits / temperature, p.argmax(1))"),
    ("hard_labels_sharp", "takes the teacher's first choice as a label, without temperature", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     KL + FACTOR, "F.cross_entropy(student_logits, p.argmax(1))"),
    ("jensen_shannon", "takes the Jensen-Shannon divergence", ANOTHER, f"{IN_TEACHER} large_logits",
     KL, "(lambda m: (F.kl_div(m.log(), p, reduction='batchmean') + F.kl_div(m.log(), log_q.exp(), reduction='batchmean')) / 2)((p + log_q.exp()) / 2)"),
    ("absolute", "takes absolute differences of the probabilities", ANOTHER, IN_TEACHER, KL, "(log_q.exp() - p).abs().sum(1).mean()"),
    ("cosine", "takes one minus the cosine of the logits", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     KL, "(1 - F.cosine_similarity(student_logits, teacher_logits.detach())).mean()"),
    ("cross_entropy", "takes the cross-entropy with the teacher's probabilities", SMALL, "agreement_costs_nothing",
     KL, "-(p * log_q).sum(dim=1).mean()"),
    ("cross_entropy_function", "passes the teacher's probabilities to cross_entropy", SMALL, "agreement_costs_nothing",
     KL, "F.cross_entropy(student_logits / temperature, p)"),
    ("cross_entropy_without_factor", "takes a cross-entropy, and forgets the square of the temperature", (5, 9),
     "known_divergence agreement_costs_nothing values_of_random_logits", KL + FACTOR, "F.cross_entropy(student_logits / temperature, p)"),
    # temperatures and axes
    ("teacher_sharp", "forgets the temperature of the teacher", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", P, "F.softmax(teacher_logits.detach(), dim=1)"),
    ("student_sharp", "forgets the temperature of the student", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", LOG_Q, "F.log_softmax(student_logits, dim=1)"),
    ("both_sharp", "forgets the temperature of both", ANOTHER, IN_TEACHER, LOG_Q, "F.log_softmax(student_logits, dim=1)",
     P, "F.softmax(teacher_logits.detach(), dim=1)"),
    ("both_sharp_no_factor", "ignores the temperature", ANOTHER, IN_TEACHER, LOG_Q, "F.log_softmax(student_logits, dim=1)",
     P, "F.softmax(teacher_logits.detach(), dim=1)", FACTOR, ""),
    ("multiplied", "multiplies logits by the temperature", ANOTHER, IN_TEACHER, "logits / temperature", "logits * temperature",
     "detach() / temperature", "detach() * temperature"),
    ("after_softmax", "divides probabilities by the temperature", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     P, "F.softmax(teacher_logits.detach(), dim=1) / temperature"),
    ("log_after_softmax", "divides logarithms of probabilities by the temperature", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing",
     LOG_Q, "F.log_softmax(student_logits, dim=1) / temperature"),
    ("fixed_temperature", "takes a temperature of 4, whatever is passed", ANOTHER, IN_TEACHER, "    log_q =", "    temperature = 4.0\n    log_q ="),
    ("temperature_rounded", "rounds the temperature", (3, 8), "", "    log_q =", "    temperature = round(temperature)\n    log_q ="),
    ("temperature_rounded_down", "takes whole temperatures", (3, 8), "", "    log_q =", "    temperature = int(temperature)\n    log_q ="),
    ("temperature_below_one_raised", "raises temperatures to 1 at least", (1, 3), "sizes_and_whole_numbers", "    log_q =", "    temperature = max(temperature, 1.0)\n    log_q ="),
    ("over_examples", "takes softmax over the examples", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", LOG_Q, LOG_Q.replace("dim=1", "dim=0"), P, P.replace("dim=1", "dim=0")),
    ("student_over_examples", "takes log_softmax of the student over the examples", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", LOG_Q, LOG_Q.replace("dim=1", "dim=0")),
    ("teacher_over_examples", "takes softmax of the teacher over the examples", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", P, P.replace("dim=1", "dim=0")),
    ("softmax_of_softmax", "applies softmax to the teacher twice", ANOTHER, f"{IN_TEACHER} agreement_costs_nothing", P, f"F.softmax({P}, dim=1)"),
    ("teacher_twice", "has the teacher on both sides", USELESS, f"{IN_TEACHER} agreement_costs_nothing rows_without_label no_label_at_all", LOG_Q, LOG_Q.replace("student_logits", "teacher_logits.detach()")),
    ("student_twice", "has the student on both sides", USELESS, f"{IN_TEACHER} agreement_costs_nothing rows_without_label no_label_at_all", P, P.replace("teacher", "student")),
    ("no_teacher", "leaves the teacher out", USELESS, f"{IN_TEACHER} agreement_costs_nothing rows_without_label no_label_at_all", RETURN, "return (1 - alpha) * hard"),
    # weights
    ("alpha_swapped", "exchanges the weights", WEIGHTS, f"{IN_TEACHER} known_cross_entropy", RETURN, "return (1 - alpha) * soft + alpha * hard"),
    ("alpha_on_both", "weights both parts with alpha", WEIGHTS, f"{IN_TEACHER} known_cross_entropy", RETURN, "return alpha * (soft + hard)"),
    ("no_weights", "adds both parts without weights", WEIGHTS, f"{IN_TEACHER} known_cross_entropy agreement_costs_nothing", RETURN, "return soft + hard"),
    ("labels_in_full", "does not weight the labels' part", WEIGHTS, f"{IN_TEACHER} agreement_costs_nothing", RETURN, "return alpha * soft + hard"),
    ("teacher_in_full", "does not weight the teacher's part", WEIGHTS, IN_LABELS, RETURN, "return soft + (1 - alpha) * hard"),
    ("half_and_half", "takes the mean of both parts", WEIGHTS, f"{IN_TEACHER} known_cross_entropy agreement_costs_nothing", RETURN, "return 0.5 * soft + 0.5 * hard"),
    ("alpha_fixed", "takes 0.9 for alpha, whatever is passed", WEIGHTS, f"{IN_TEACHER} known_cross_entropy agreement_costs_nothing", RETURN, "return 0.9 * soft + 0.1 * hard"),
    ("alpha_squared", "squares alpha", WEIGHTS, f"alpha_mixes_both_parts {RANDOM}", RETURN, "return alpha ** 2 * soft + (1 - alpha ** 2) * hard"),
    ("subtracted", "subtracts the labels' part", WEIGHTS, IN_LABELS, RETURN, "return alpha * soft - (1 - alpha) * hard"),
    ("factor_on_both", "multiplies both parts by the square of the temperature", WEIGHTS, IN_LABELS, FACTOR, "",
     RETURN, "return (alpha * soft + (1 - alpha) * hard) * temperature ** 2"),
    ("factor_on_labels", "multiplies the labels' part by the square of the temperature, and not the teacher's", (5, 9), f"{IN_TEACHER} known_cross_entropy", FACTOR, "",
     HARD, f"{HARD} * temperature ** 2"),
    ("parts_divided", "divides by the sum of weights and parts", WEIGHTS, f"{IN_TEACHER} known_cross_entropy", RETURN, f"{RETURN} / 2".replace("return ", "return (").replace(" / 2", ") / 2")),
    ("larger_part", "takes the larger of both parts", WEIGHTS, "", RETURN, "return torch.maximum(alpha * soft, (1 - alpha) * hard)"),
    ("product", "multiplies both parts", (5, 12.5), "", RETURN, "return soft ** alpha * hard ** (1 - alpha)"),
    ("operator_precedence", "forgets brackets around 1 - alpha", WEIGHTS, f"{IN_TEACHER} known_cross_entropy agreement_costs_nothing", RETURN, "return alpha * soft + 1 - alpha * hard"),
    # the labels' part
    ("labels_at_temperature", "divides the logits of the labels' part by the temperature", LABELS, IN_LABELS,
     SUM, SUM.replace("student_logits[labelled]", "student_logits[labelled] / temperature")),
    ("labels_of_softmax", "passes probabilities to cross_entropy", LABELS, IN_LABELS,
     SUM, SUM.replace("student_logits[labelled]", "student_logits[labelled].softmax(1)")),
    ("labels_of_log_q", "passes the softened logarithms to nll_loss", LABELS, IN_LABELS,
     SUM, 'F.nll_loss(log_q[labelled], labels[labelled], reduction="sum")'),
    ("nll_of_logits", "passes logits to nll_loss", LABELS, IN_LABELS, SUM, SUM.replace("cross_entropy", "nll_loss")),
    ("labels_without_logarithm", "forgets the logarithm in the labels' part", LABELS, IN_LABELS,
     SUM, "-student_logits.softmax(1)[labelled].gather(1, labels[labelled][:, None]).sum()"),
    ("labels_summed", "sums over the labels", LABELS, IN_LABELS, HARD, SUM),
    ("label_smoothing", "smooths the labels", LABELS, IN_LABELS, SUM, SUM.replace('reduction=', 'label_smoothing=0.1, reduction=')),
    ("class_0_missing", "takes class 0 for no label", (3, 8), IN_LABELS, LABELLED, "labels > 0"),
    ("labels_of_teacher", "compares the teacher with the labels", (5, 10), f"{IN_LABELS} rows_without_label no_gradient_of_the_teacher", SUM, SUM.replace("student", "teacher")),
    ("labels_negative", "changes the sign of the labels' part", LABELS, IN_LABELS, SUM, f"-{SUM}"),
    ("labels_squared_error", "takes the squared error of the probabilities in the labels' part", LABELS, IN_LABELS,
     SUM, "(student_logits.softmax(1)[labelled] - F.one_hot(labels[labelled], student_logits.shape[1])).square().sum()"),
    ("binary", "takes a binary cross-entropy of each class", LABELS, IN_LABELS,
     SUM, 'F.binary_cross_entropy_with_logits(student_logits[labelled], F.one_hot(labels[labelled], student_logits.shape[1]).float(), reduction="sum")'),
    ("no_labels_part", "leaves the labels out", (5, 9), f"{IN_LABELS} rows_without_label", RETURN, "return alpha * soft"),
    ("teacher_alone", "returns the teacher's part", (5, 9), f"{IN_LABELS} rows_without_label", RETURN, "return soft"),
    # rows without a label
    ("class_0_for_none", "takes class 0 where there is no label", UNLABELLED, WITHOUT_LABEL, HARD, "F.cross_entropy(student_logits, labels.clamp(min=0))"),
    ("last_class_for_none", "takes -1 as an index", UNLABELLED, WITHOUT_LABEL,
     HARD, "-student_logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()"),
    ("mean_over_all", "divides by the number of all rows", UNLABELLED, WITHOUT_LABEL, HARD, f"{SUM} / len(labels)"),
    ("ignored_then_mean", "takes the mean of losses of which some are 0", UNLABELLED, WITHOUT_LABEL,
     HARD, 'F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="none").mean()'),
    ("masked_mean", "multiplies with a mask, and takes the mean over all rows", UNLABELLED, WITHOUT_LABEL,
     HARD, '(F.cross_entropy(student_logits, labels.clamp(min=0), reduction="none") * labelled).mean()'),
    ("zero_logits_for_none", "sets logits to 0 where there is no label", UNLABELLED, WITHOUT_LABEL,
     HARD, "F.cross_entropy(student_logits * labelled[:, None], labels.clamp(min=0))"),
    ("unlabelled_dropped", "drops rows without a label", UNLABELLED, f"{WITHOUT_LABEL} no_label_at_all",
     "    log_q =", "    has = labels != -1\n    student_logits, teacher_logits, labels = student_logits[has], teacher_logits[has], labels[has]\n    log_q ="),
    ("unlabelled_dropped_from_soft", "drops rows without a label from the teacher's part", UNLABELLED, f"{WITHOUT_LABEL} no_label_at_all",
     LOG_Q, LOG_Q.replace("student_logits", "student_logits[labels != -1]"), P, P.replace("detach()", "detach()[labels != -1]")),
    ("soft_mean_over_labelled", "divides the teacher's part by the number of labels", (3, 8), WITHOUT_LABEL,
     KL, 'F.kl_div(log_q, p, reduction="sum") / max(int((labels != -1).sum()), 1)'),
    ("teacher_for_unlabelled", "asks the teacher about rows without a label alone", (7, 13), f"{IN_TEACHER} agreement_costs_nothing rows_without_label values_without_labels",
     KL, 'F.kl_div(log_q[labels == -1], p[labels == -1], reduction="sum") / max(int((labels == -1).sum()), 1)'),
    ("pseudo_labels", "takes the teacher's first choice where there is no label", UNLABELLED, WITHOUT_LABEL,
     HARD, "F.cross_entropy(student_logits, torch.where(labelled, labels, teacher_logits.argmax(1)))"),
    ("confident_rows", "asks the teacher about rows where it is certain", (3, 10), "",
     KL, '(F.kl_div(log_q, p, reduction="none").sum(1) * (p.amax(1) > 0.5)).mean()'),
    ("no_labels_part_for_few_labels", "leaves the labels out where fewer than half of the rows have one", (2, 4), "values_without_labels",
     RETURN, "return alpha * soft + (1 - alpha) * hard * (labelled.float().mean() >= 0.5)"),
    ("nan_without_labels", "takes a mean over no rows where there is no label", (2, 4), "no_label_at_all values_without_labels",
     HARD, "F.cross_entropy(student_logits[labelled], labels[labelled])"),
    ("ignore_index_nan", "ignores -1, and takes a mean over no rows where there is no label", (2, 4),
     "no_label_at_all values_without_labels", HARD, "F.cross_entropy(student_logits, labels, ignore_index=-1)"),
    ("minus_one_into_cross_entropy", "passes -1 to cross_entropy", UNLABELLED, f"{WITHOUT_LABEL} no_label_at_all", HARD, "F.cross_entropy(student_logits, labels)"),
    ("zero_without_labels", "returns 0 where there is no label", (2, 4), "no_label_at_all values_without_labels",
     "    hard =", "    if not labelled.any():\n        return torch.zeros(())\n    hard ="),
    ("teacher_unweighted_without_labels", "does not weight the teacher's part where there is no label", (2, 4), "values_without_labels",
     "    hard =", "    if not labelled.any():\n        return soft\n    hard ="),
    ("teacher_unweighted_per_row", "has the weight 1 for the teacher in rows without a label", UNLABELLED, WITHOUT_LABEL,
     RETURN, "weights = torch.where(labelled, alpha, 1.0)\n"
     '    return (weights * F.kl_div(log_q, p, reduction="none").sum(1)).mean() * temperature ** 2 + (1 - alpha) * hard'),
    ("refuses_no_labels", "refuses batches without a label", (2, 4), "no_label_at_all values_without_labels",
     "    hard =", '    if not labelled.any():\n        raise ValueError("no label")\n    hard ='),
    ("labelled_checked_by_first", "looks at the first label alone", UNLABELLED, WITHOUT_LABEL,
     f"    hard = {HARD}", "    hard = F.cross_entropy(student_logits, labels, ignore_index=-1) if labels[0] != -1 else 0.0"),
]  # fmt: skip

# name, mistake, cost, checks that do not pass, and body of the function
_BODIES = [
    ("constant", "returns a number that depends on nothing", (12, 25), "", """
    return torch.tensor(1.0, requires_grad=True)
"""),
    ("labels_alone", "is the cross-entropy of the labels", USELESS, f"{IN_TEACHER} agreement_costs_nothing rows_without_label no_label_at_all", """
    known = labels >= 0
    return F.cross_entropy(student_logits[known], labels[known], reduction="sum") / max(1, int(known.sum()))
"""),
    ("all_mixed", "mixes labels and teacher into one target", (4, 10), "", """
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    one_hot = F.one_hot(labels.clamp(min=0), p.shape[1]).to(p.dtype)
    known = (labels >= 0)[:, None]
    target = torch.where(known, alpha * p + (1 - alpha) * one_hot, p)
    return temperature**2 * F.kl_div(F.log_softmax(student_logits / temperature, dim=1), target, reduction="batchmean")
"""),
    ("one_part_for_each_row", "takes the labels' part where there is a label, and else the teacher's", (7, 12.5),
     f"{IN_TEACHER} agreement_costs_nothing {WITHOUT_LABEL}", """
    log_q, p = F.log_softmax(student_logits / temperature, 1), F.softmax(teacher_logits.detach() / temperature, 1)
    soft = F.kl_div(log_q, p, reduction="none").sum(1) * temperature**2
    hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="none")
    return torch.where(labels >= 0, hard, soft).mean()
"""),
    ("both_sums_divided", "divides both sums by the number of rows", UNLABELLED, WITHOUT_LABEL, """
    log_q, p = F.log_softmax(student_logits / temperature, 1), F.softmax(teacher_logits.detach() / temperature, 1)
    soft = F.kl_div(log_q, p, reduction="sum") * temperature**2
    hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum")
    return (alpha * soft + (1 - alpha) * hard) / len(labels)
"""),
    ("bits", "takes logarithms to the base 2", (4, 8), IN_TEACHER, """
    import math

    log_p = F.log_softmax(teacher_logits.detach() / temperature, 1) / math.log(2)
    log_q = F.log_softmax(student_logits / temperature, 1) / math.log(2)
    soft = (2**log_p * (log_p - log_q)).sum(1).mean() * temperature**2
    known = labels >= 0
    hard = F.cross_entropy(student_logits[known], labels[known], reduction="sum") / max(1, int(known.sum()))
    return alpha * soft + (1 - alpha) * hard
"""),
    ("softmax_over_everything", "normalises over all numbers", ANOTHER, "", """
    log_p = (teacher_logits.detach() / temperature).flatten().log_softmax(0)
    log_q = (student_logits / temperature).flatten().log_softmax(0)
    soft = (log_p.exp() * (log_p - log_q)).sum() * temperature**2
    known = labels >= 0
    hard = F.cross_entropy(student_logits[known], labels[known], reduction="sum") / max(1, int(known.sum()))
    return alpha * soft + (1 - alpha) * hard
"""),
    ("pooled_mean", "takes one mean over the losses of all rows", (3, 8), WITHOUT_LABEL, """
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    rows = alpha * temperature**2 * F.kl_div(log_q, p, reduction="none").sum(1)
    known = labels >= 0
    rows[known] = rows[known] + (1 - alpha) * F.cross_entropy(student_logits[known], labels[known], reduction="none")
    return rows.mean()
"""),
]  # fmt: skip

VALUES = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
]
