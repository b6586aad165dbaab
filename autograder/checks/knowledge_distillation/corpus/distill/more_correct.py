"""Further correct distillations: other batches, other names for the loss, other averages of weights."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ANSWER,
    ASK,
    BACK,
    CLEAR,
    EVAL,
    HISTORY,
    LOOP,
    LOSS,
    MEAN,
    MODES,
    OPTIMIZER,
    RESTORE,
    RETURN,
    SEEN,
    STEP,
    SUMS,
    TOTAL,
    correct,
    of_body,
)
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.labs.corpus import replaced

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("loss_under_another_name", "the cell gives the loss another name", "\ndef", "\ncriterion = distillation_loss\n\n\ndef", "= distillation_loss(", "= criterion("),
    ("loss_as_argument", "the loss is a further argument with a default", "alpha=0.9)", "alpha=0.9, loss_of=distillation_loss)", "= distillation_loss(", "= loss_of("),
    ("wrapped_teacher", "the teacher answers inside another module", EVAL, "    source = nn.Sequential(teacher, nn.Identity()).eval()\n", "teacher(images)", "source(images)"),
    ("data_parallel", "the student is wrapped for several devices", "= student(images)", "= nn.DataParallel(student)(images)"),
    ("checkpointed", "the student's forward pass is computed again in the backward pass", "= student(images)",
     "= torch.utils.checkpoint.checkpoint(student, images, use_reentrant=False)", "\ndef", "\nimport torch.utils.checkpoint\n\n\ndef"),
    ("optimizer_in_each_epoch", "each epoch has an optimizer of its own", OPTIMIZER, "", SUMS, OPTIMIZER.replace("    opt", "        opt") + SUMS),
    ("optimizer_in_each_batch", "each batch has an optimizer of its own", OPTIMIZER, "", LOSS, OPTIMIZER.replace("    opt", "            opt") + LOSS),
    ("one_step_an_epoch", "gradients of all batches of an epoch are added up for one step", CLEAR, "", STEP, "", SUMS, SUMS + "        optimizer.zero_grad()\n", MEAN, "        optimizer.step()\n" + MEAN),
    ("relative_loss", "the loss is divided by its size before the backward pass", BACK, "            (loss / loss.detach().abs().clamp(min=1e-6)).backward()\n"),
    ("loss_of_sizes", "the step of a small batch is smaller", BACK, "            (loss * len(images) / 64).backward()\n"),
    ("named_inputs", "the backward pass names the parameters", BACK, "            torch.autograd.backward(loss, inputs=list(student.parameters()))\n"),
    ("skips_nan", "steps only if the loss is a finite number", BACK + STEP, "            if torch.isfinite(loss):\n                loss.backward()\n                optimizer.step()\n"),
    ("penalty", "a penalty on large weights, which is not reported", BACK, "            (loss + 1e-4 * sum((p ** 2).sum() for p in student.parameters())).backward()\n"),
    ("flags_of_all_layers", "sets the flag of every layer", EVAL, "    for m in teacher.modules():\n        m.training = False\n"),
    ("applies_to_layers", "applies a function to all layers", MODES, "    modes = {}\n    teacher.apply(lambda m: modes.update({m: m.training}))\n", "in modes:", "in modes.items():"),
    ("modes_by_recursion", "keeps the modes in nested lists", MODES, "    def kept(m):\n        return m.training, [kept(c) for c in m.children()]\n\n"
     "    def put_back(m, found):\n        m.training = found[0]\n        for c, inner in zip(m.children(), found[1]):\n            put_back(c, inner)\n\n    modes = kept(teacher)\n",
     RESTORE, "    put_back(teacher, modes)\n"),
    ("state_put_back_as_well", "puts back the teacher's state as well, which has not changed", HISTORY, "    state = copy.deepcopy(teacher.state_dict())\n" + HISTORY,
     RETURN, "    teacher.load_state_dict(state)\n" + RETURN),
    ("batches_in_another_order", "shuffles the batches of an epoch", LOOP, "        batches = list(loader)\n        for i in torch.randperm(len(batches)).tolist():\n            images, labels = batches[i]\n"),
    ("average_of_steps", "ends with the average of the weights", HISTORY, "    from torch.optim.swa_utils import AveragedModel\n\n    average = AveragedModel(student)\n" + HISTORY,
     STEP, STEP + "            average.update_parameters(student)\n", RETURN, "    student.load_state_dict(average.module.state_dict())\n" + RETURN),
    ("ends_with_moving_average", "ends with a moving average of the weights", HISTORY, HISTORY + "    average = copy.deepcopy(student)\n",
     STEP, STEP + "            with torch.no_grad():\n                for a, p in zip(average.parameters(), student.parameters()):\n                    a.lerp_(p, 0.5)\n",
     RETURN, "    student.load_state_dict(average.state_dict())\n" + RETURN),
    ("lookahead", "goes back half of the way after each epoch", HISTORY, HISTORY + "    slow = [p.detach().clone() for p in student.parameters()]\n",
     MEAN, MEAN + "        with torch.no_grad():\n            for a, p in zip(slow, student.parameters()):\n                p.copy_(a.lerp_(p, 0.5))\n"),
    ("gradients_off_by_argument", "switches gradients off by an argument", "torch.no_grad()", "torch.set_grad_enabled(False)"),
    ("both_in_one_line", "both networks answer in one line", ASK + ANSWER, "            student_logits, teacher_logits = student(images), torch.no_grad()(teacher)(images)\n"),
    ("decorated_call", "the teacher's call is decorated", HISTORY, "    ask = torch.inference_mode()(lambda x: teacher(x))\n" + HISTORY, ASK, "            teacher_logits = ask(images)\n"),
    ("agreement_in_train_mode", "looks at the agreement after each epoch", MEAN, MEAN + "        with torch.no_grad():\n"
     "            same = student(images).argmax(1) == teacher(images).argmax(1)\n        history.setdefault('agreement', []).append(same.float().mean().item())\n"),
    ("fmean", "a weighted mean from the standard library", "\ndef", "\nfrom statistics import fmean\n\n\ndef", SUMS, "        rows = []\n",
     TOTAL + SEEN, "            rows.append((float(loss.detach()), len(labels)))\n", "append(total / seen)", "append(fmean(*zip(*rows)))"),
    ("both_parts", "calls the loss for each of its parts, and adds them up", LOSS, "            soft, hard = (distillation_loss(student_logits, teacher_logits, labels, temperature, a) for a in (1.0, 0.0))\n"
     "            loss = alpha * soft + (1 - alpha) * hard\n"),
    ("looks_at_both_parts", "looks at the parts of the loss as well", TOTAL, TOTAL
     + "            history.setdefault('soft', []).append(distillation_loss(student_logits.detach(), teacher_logits, labels, temperature, 1.0).item())\n"),
    ("two_loops", "the teacher answers for an epoch in a first loop, and the student learns in a second one", LOOP, "        answered = []\n        for images, labels in loader:\n"
     + ASK + "            answered.append((images, labels, teacher_logits))\n        for images, labels, teacher_logits in answered:\n", ASK + ANSWER, ANSWER),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("batches_of_its_own", "the views of an epoch and the answers for them are put into new batches", """
    quiet = copy.deepcopy(teacher).eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    losses = []
    for _ in range(epochs):
        student.train()
        parts = []
        with torch.no_grad():
            for x, y in loader:
                parts.append((x, y, quiet(x)))
        x, y, z = (torch.cat(part) for part in zip(*parts))
        total = 0.0
        for rows in torch.randperm(len(x)).split(4):
            loss = distillation_loss(student(x[rows]), z[rows], y[rows], temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(x))
    return {"loss": losses}
"""),
    ("steps_as_a_method", "a small trainer with callbacks", """
    trainer = Trainer(student, torch.optim.RAdam(student.parameters(), lr=lr))
    source = copy.deepcopy(teacher).eval()

    def loss_of(batch):
        images, labels = batch
        with torch.no_grad():
            answers = source(images)
        return distillation_loss(trainer.model(images), answers, labels, temperature=temperature, alpha=alpha)

    return trainer.fit(loader, loss_of, epochs)
""", """
class Trainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.sums = {"loss": 0.0, "n": 0}

    def on_epoch_start(self):
        self.model.train()
        self.sums = dict.fromkeys(self.sums, 0)

    def on_epoch_end(self, log):
        log.setdefault("loss", []).append(self.sums["loss"] / self.sums["n"])

    def fit(self, batches, loss_of, epochs):
        log = {"loss": []}
        for _ in range(epochs):
            self.on_epoch_start()
            for batch in batches:
                self.optimizer.zero_grad()
                loss = loss_of(batch)
                loss.backward()
                self.optimizer.step()
                self.sums["loss"] += loss.item() * len(batch[0])
                self.sums["n"] += len(batch[0])
            self.on_epoch_end(log)
        return log
"""),
]  # fmt: skip

MORE_CORRECT = [
    *(correct(name, text, replaced(DISTILL, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
]
