"""Distillations that compute the distillation loss themselves, correct ones and wrong ones."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ASK,
    EVAL,
    LOSS,
    MODES,
    OPTIMIZER,
    RESTORE,
    SIGNATURE,
    correct,
    of_body,
    wrong,
)
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.labs.corpus import Solution, replaced

_SOFT = (
    "            soft = F.kl_div(F.log_softmax(student_logits / temperature, 1), F.softmax(teacher_logits / temperature, 1),\n"
    '                            reduction="batchmean") * temperature ** 2\n'
)
_HARD = (
    "            known = labels >= 0\n"
    "            hard = F.cross_entropy(student_logits[known], labels[known]) if known.any() else torch.zeros(())\n"
)
_SUM = "            loss = alpha * soft + (1 - alpha) * hard\n"
OWN = replaced(DISTILL, LOSS, _SOFT + _HARD + _SUM)

_CORRECT: list[tuple[Any, ...]] = [
    ("own_loss", "computes the loss itself"),
    ("own_ignore_index", "leaves rows without a label to the cross-entropy, and divides by their number", _HARD,
     '            hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)\n'),
    ("own_nan_to_num", "replaces the mean over no rows by 0 where it is used", _HARD,
     "            hard = (F.cross_entropy(student_logits, labels, ignore_index=-1) if (labels >= 0).any() else student_logits.sum() * 0)\n"),
    ("own_log_target", "gives the divergence logarithms on both sides", _SOFT,
     "            log_p, log_q = (F.log_softmax(z / temperature, dim=1) for z in (teacher_logits, student_logits))\n"
     "            soft = F.kl_div(log_q, log_p, log_target=True, reduction='sum') / len(images) * temperature ** 2\n"),
    ("own_modules", "modules compute both parts", OPTIMIZER, OPTIMIZER + "    kl, ce = nn.KLDivLoss(reduction='none'), nn.CrossEntropyLoss(reduction='none', ignore_index=-1)\n",
     _SOFT + _HARD, "            rows = kl((student_logits / temperature).log_softmax(-1), (teacher_logits / temperature).softmax(-1))\n"
     "            soft = rows.sum(-1).mean() * temperature ** 2\n            hard = ce(student_logits, labels).sum() / max(int((labels >= 0).sum()), 1)\n"),
    ("own_detached_inside", "detaches the teacher's answers where they are compared", ASK, "            teacher_logits = teacher(images)\n",
     "F.softmax(teacher_logits", "F.softmax(teacher_logits.detach()"),
    ("own_backward_in_parts", "a backward pass for each part of the loss", _SUM, _SUM + "            (loss.detach() + 0).item()\n",
     "            loss.backward()\n", "            (alpha * soft).backward(retain_graph=True)\n            if known.any():\n                ((1 - alpha) * hard).backward()\n"),
]  # fmt: skip

# a cost for what the gradient and the reported loss show alone, since nothing says which loss was meant
ANOTHER_LOSS = "losses_of_epochs gradient_of_the_loss"
BOTH = (4, 4)
NUMBERS = "numbers_and_defaults"
# checks with images that have no label
WITH_UNLABELLED = "student_sees_every_view labels_of_the_loader losses_of_epochs gradient_of_the_loss"
# checks that wait for a teacher that is asked
NEVER_ASKED = f"same_views_for_teacher teacher_in_eval_mode teacher_without_gradients {ANOTHER_LOSS} {NUMBERS}"

_WRONG: list[tuple[Any, ...]] = [
    ("own_not_detached", "lets gradients through to the teacher, in a loss of its own", (1, 1), "teacher_without_gradients", ASK, "            teacher_logits = teacher(images)\n"),
    ("own_teacher_trained", "trains the teacher together with the student, in a loss of its own", (3, 5), "teacher_bit_for_bit teacher_without_gradients",
     ASK, "            teacher_logits = teacher(images)\n", "student.parameters()", "[*student.parameters(), *teacher.parameters()]"),
    ("own_alpha_swapped", "puts alpha on the labels, in a loss of its own", (2, 2), NUMBERS, _SUM, "            loss = (1 - alpha) * soft + alpha * hard\n"),
    ("own_alpha_fixed", "always weighs the teacher with 0.9, in a loss of its own", (2, 2), NUMBERS, _SUM, "            loss = 0.9 * soft + 0.1 * hard\n"),
    ("own_teacher_alone", "leaves the labels out, in a loss of its own", (2, 2), NUMBERS, _SUM, "            loss = soft\n"),
    ("own_temperature_fixed", "always uses a temperature of 4, in a loss of its own", (2, 2), NUMBERS, "temperature, 1)", "4.0, 1)", "temperature ** 2", "16"),
    ("own_without_temperature", "leaves the temperature out, in a loss of its own", (2, 2), NUMBERS, " / temperature, 1)", ", 1)", " * temperature ** 2", ""),
    ("own_without_square", "forgets the factor T squared, in a loss of its own", BOTH, ANOTHER_LOSS, " * temperature ** 2", ""),
    ("own_mean_over_classes", "divides by the classes as well, in a loss of its own", BOTH, ANOTHER_LOSS, "batchmean", "mean"),
    ("own_sum_over_images", "adds up the divergence over the images, in a loss of its own", BOTH, ANOTHER_LOSS, "batchmean", "sum"),
    ("own_reverse", "swaps both sides of the divergence, in a loss of its own", BOTH, ANOTHER_LOSS,
     "F.log_softmax(student_logits", "F.log_softmax(teacher_logits", "F.softmax(teacher_logits", "F.softmax(student_logits"),
    ("own_probabilities", "gives the divergence probabilities, in a loss of its own", BOTH, ANOTHER_LOSS, "F.log_softmax(student_logits", "F.softmax(student_logits"),
    ("own_teacher_without_temperature", "softens the student alone, in a loss of its own", BOTH, ANOTHER_LOSS, "teacher_logits / temperature", "teacher_logits"),
    ("own_soft_cross_entropy", "takes the cross-entropy with the teacher's answers, in a loss of its own", (3, 3), "losses_of_epochs", _SOFT,
     "            soft = F.cross_entropy(student_logits / temperature, F.softmax(teacher_logits / temperature, 1)) * temperature ** 2\n"),
    ("own_distance", "takes the squared distance of both logits, in a loss of its own", BOTH, ANOTHER_LOSS, _SOFT, "            soft = F.mse_loss(student_logits, teacher_logits)\n"),
    ("own_hard_labels", "learns the teacher's most probable class, in a loss of its own", BOTH, ANOTHER_LOSS, _SOFT, "            soft = F.cross_entropy(student_logits, teacher_logits.argmax(1))\n"),
    ("own_teachers_labels", "takes the teacher's most probable class for the labels, in a loss of its own", BOTH, ANOTHER_LOSS,
     _HARD, "            hard = F.cross_entropy(student_logits, teacher_logits.argmax(1))\n"),
    ("own_class_for_no_label", "takes class 0 for no label, in a loss of its own", BOTH, ANOTHER_LOSS, _HARD, "            hard = F.cross_entropy(student_logits, labels.clamp(min=0))\n"),
    ("own_mean_over_all", "divides the loss of the labels by the number of all images, in a loss of its own", BOTH, ANOTHER_LOSS,
     _HARD, '            hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum") / len(images)\n'),
    ("own_softened_labels", "divides by the temperature for the labels as well, in a loss of its own", BOTH, ANOTHER_LOSS,
     "cross_entropy(student_logits[known]", "cross_entropy(student_logits[known] / temperature"),
    ("own_labelled_alone", "leaves images without a label out of the divergence, in a loss of its own", (3, 5), "", _SOFT + _HARD,
     "            if not (labels >= 0).any():\n                continue\n" + _HARD
     + _SOFT.replace("student_logits /", "student_logits[known] /").replace("teacher_logits /", "teacher_logits[known] /")),
    ("own_rows_shifted", "compares the student with the answers for other images, in a loss of its own", (4, 8), "", "F.softmax(teacher_logits", "F.softmax(teacher_logits.roll(1, 0)"),
    ("own_label_minus_one", "gives the label -1 to the cross-entropy, in a loss of its own", (8, 10), WITH_UNLABELLED,
     _HARD, "            hard = F.cross_entropy(student_logits, labels)\n"),
    ("own_no_label_nan", "takes the mean over no labels, in a loss of its own", (3, 9), "",
     _HARD, "            hard = F.cross_entropy(student_logits, labels, ignore_index=-1)\n"),
    ("own_mean_over_batches", "averages its own losses over batches", (3, 3), "losses_of_epochs", "loss.item() * len(images)", "loss.item()", "seen += len(images)", "seen += 1"),
    ("own_teacher_in_train_mode", "leaves the teacher in train mode, with a loss of its own", (4, 4), "teacher_in_eval_mode teacher_bit_for_bit", EVAL, ""),
    ("own_uphill", "goes up the gradient of a loss of its own", (3, 5), "", "loss.backward()", "(-loss).backward()"),
]  # fmt: skip

_LABELS_ALONE = """
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)
    student.train()
    history = {"loss": []}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            loss = F.cross_entropy(student(images), labels, ignore_index=-1, reduction="sum") / max(int((labels >= 0).sum()), 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    return history
"""

OWN_LOSSES = [
    *(correct(name, text, replaced(OWN, *texts)) for name, text, *texts in _CORRECT),
    correct("own_class", "a module of its own has the loss", replaced(
        DISTILL, SIGNATURE, f"""
class DistillationLoss(nn.Module):
    def __init__(self, temperature, alpha):
        super().__init__()
        self.t, self.a = temperature, alpha

    def forward(self, z, target, labels):
        q = torch.log_softmax(z / self.t, 1)
        p = torch.softmax(target / self.t, 1)
        kl = torch.special.xlogy(p, p).sum() - (p * q).sum()
        rows = torch.nonzero(labels != -1).flatten()
        nll = -torch.log_softmax(z, 1)[rows, labels[rows]].sum() / max(len(rows), 1)
        return self.a * self.t ** 2 * kl / len(z) + (1 - self.a) * nll


{SIGNATURE}""", LOSS, "            loss = criterion(student_logits, teacher_logits, labels)\n",
        OPTIMIZER, OPTIMIZER + "    criterion = DistillationLoss(temperature, alpha)\n")),
    correct("own_lbfgs", "computes the loss itself, in the closure of a quasi-Newton method", of_body("""
    quiet = copy.deepcopy(teacher).eval()
    optimizer = torch.optim.LBFGS(student.parameters(), lr=lr, max_iter=3)
    means = []
    for _ in range(epochs):
        student.train()
        weights, values = [], []
        for images, labels in loader:
            with torch.no_grad():
                log_p = (quiet(images) / temperature).log_softmax(1)

            def closure():
                optimizer.zero_grad()
                z = student(images)
                soft = (log_p.exp() * (log_p - (z / temperature).log_softmax(1))).sum(1).mean()
                known = labels >= 0
                hard = F.cross_entropy(z[known], labels[known]) if known.any() else 0.0
                loss = alpha * temperature ** 2 * soft + (1 - alpha) * hard
                loss.backward()
                return loss

            values.append(float(optimizer.step(closure)))
            weights.append(len(images))
        means.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    return {"loss": means}
""")),
    correct("own_reduction", "its loss has a further argument, for a loss of each image", replaced(
        DISTILL, SIGNATURE, f"""
def loss_of_images(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9, reduction="mean"):
    p = F.softmax(teacher_logits.detach() / temperature, dim=1)
    soft = (p * (p.log() - F.log_softmax(student_logits / temperature, dim=1))).sum(1) * temperature ** 2
    hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="none")
    hard = hard * len(labels) / max(int((labels >= 0).sum()), 1)
    rows = alpha * soft + (1 - alpha) * hard
    return rows if reduction == "none" else rows.mean()


{SIGNATURE}""", LOSS, LOSS.replace("distillation_loss", "loss_of_images").replace("alpha)", 'alpha, reduction="none").mean()'))),
]  # fmt: skip


def _wrong(name: str, text: str, cost: tuple[float, float], fails: str, *texts: str) -> Solution:
    return wrong(name, text, cost, fails, replaced(OWN, *texts))


WRONG_OWN_LOSSES = [
    *(_wrong(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _WRONG),
    wrong("own_labels_alone", "never asks the teacher", (11, 15), NEVER_ASKED, of_body(_LABELS_ALONE)),
    wrong("own_crashes_without_a_label", "never asks the teacher, and gives the label -1 to the cross-entropy", (13, 20), "",
          of_body(_LABELS_ALONE.replace(', ignore_index=-1, reduction="sum") / max(int((labels >= 0).sum()), 1)', ")"))),
    wrong("own_copy_of_labels_alone", "asks a teacher whose answers it does not use", (4, 8), "",
          replaced(OWN, _SUM, "            loss = hard + 0 * soft\n", MODES, MODES, RESTORE, RESTORE)),
]  # fmt: skip
