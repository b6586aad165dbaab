"""Correct distillations with other optimizers, schedules and ways to compute gradients."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ANSWER,
    ASK,
    BACK,
    CLEAR,
    EVAL,
    HISTORY,
    LOSS,
    MEAN,
    MODES,
    OPTIMIZER,
    RESTORE,
    RETURN,
    STEP,
    UPDATE,
    correct,
    of_body,
)
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.labs.corpus import replaced

_PARAMETERS = "    parameters = list(student.parameters())\n"
_MADE = {
    "sgd": "SGD(student.parameters(), lr=lr)",
    "nesterov": "SGD(student.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)",
    "adam": "Adam(student.parameters(), lr, betas=(0.8, 0.95), amsgrad=True)",
    "adamax": "Adamax(student.parameters(), lr=lr)",
    "radam": "RAdam(student.parameters(), lr=lr)",
    "adagrad": "Adagrad(student.parameters(), lr=lr)",
    "adadelta": "Adadelta(student.parameters(), lr=lr)",
    "rmsprop": "RMSprop(student.parameters(), lr=lr, momentum=0.9, alpha=0.9)",
    "rprop": "Rprop(student.parameters(), lr=lr)",
    "asgd": "ASGD(student.parameters(), lr=lr)",
    "trainable_alone": "AdamW((p for p in student.parameters() if p.requires_grad), lr=lr)",
    "by_name": "AdamW(dict(student.named_parameters()).values(), lr=lr)",
}
_CLOSURE = (
    "\n            def closure():\n                optimizer.zero_grad()\n"
    "                loss = distillation_loss(student(images), teacher_logits, labels, temperature, alpha)\n"
    "                loss.backward()\n                return loss\n\n            loss = optimizer.step(closure)\n"
)

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("cosine", "a cosine schedule", HISTORY, "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(epochs, 1))\n" + HISTORY,
     MEAN, MEAN + "        schedule.step()\n"),
    ("warm_up", "the learning rate begins small and grows over the first epochs",
     HISTORY, "    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: (e + 1) / 3 if e < 2 else 1.0)\n" + HISTORY,
     MEAN, MEAN + "        schedule.step()\n"),
    ("one_cycle", "one cycle of the learning rate over all batches", OPTIMIZER, "    optimizer = torch.optim.Adam(student.parameters())\n"
     "    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(loader))\n", STEP, STEP + "            schedule.step()\n"),
    ("plateau", "the learning rate falls where the loss does not",
     HISTORY, "    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)\n" + HISTORY, MEAN, MEAN + "        schedule.step(total / seen)\n"),
    ("clips_norm", "gradients are clipped to a norm", STEP, "            nn.utils.clip_grad_norm_(student.parameters(), 0.1)\n" + STEP),
    ("clips_values", "gradients are clipped one by one", STEP, "            nn.utils.clip_grad_value_(student.parameters(), 0.05)\n" + STEP),
    ("cleared_at_the_end", "gradients are cleared after each step", CLEAR, "", STEP, STEP + "            optimizer.zero_grad(set_to_none=True)\n"),
    ("cleared_by_the_student", "the student clears its gradients", "optimizer.zero_grad()", "student.zero_grad()"),
    ("cleared_one_by_one", "gradients are removed one by one", CLEAR, "            for p in student.parameters():\n                p.grad = None\n"),
    ("scaled_loss", "a loss of another scale, which is reported as it is", BACK, "            (10 * loss).backward()\n"),
    ("no_decay_of_norms", "weight decay leaves out biases and normalisation", OPTIMIZER,
     "    groups = [\n        {'params': [p for p in student.parameters() if p.ndim > 1], 'weight_decay': 0.05},\n"
     "        {'params': [p for p in student.parameters() if p.ndim <= 1], 'weight_decay': 0.0},\n    ]\n    optimizer = torch.optim.AdamW(groups, lr=lr)\n"),
    ("two_optimizers", "matrices and vectors have an optimizer each", OPTIMIZER,
     "    optimizers = [torch.optim.AdamW([p for p in student.parameters() if (p.ndim > 1) == two], lr=lr) for two in (True, False)]\n",
     UPDATE, "            for optimizer in optimizers:\n                optimizer.zero_grad()\n" + BACK
     + "            for optimizer in optimizers:\n                optimizer.step()\n"),
    ("optimizer_for_each_parameter", "each parameter has an optimizer of its own, which steps as soon as its gradient is there",
     OPTIMIZER, "    optimizers = {p: torch.optim.Adam([p], lr=lr, foreach=False) for p in student.parameters()}\n\n"
     "    def update(p):\n        optimizers[p].step()\n        optimizers[p].zero_grad()\n\n"
     "    handles = [p.register_post_accumulate_grad_hook(update) for p in student.parameters()]\n", UPDATE, BACK,
     RETURN, "    for handle in handles:\n        handle.remove()\n" + RETURN),
    ("accumulates_batches", "one step for two batches, with the mean of their gradients", HISTORY, HISTORY + "    waiting = 0\n",
     UPDATE, "            (loss / 2).backward()\n            waiting += 1\n"
     "            if waiting == 2:\n                optimizer.step()\n                optimizer.zero_grad()\n                waiting = 0\n",
     MEAN, "        if waiting:\n            optimizer.step()\n            optimizer.zero_grad()\n            waiting = 0\n" + MEAN),
    ("lbfgs", "a quasi-Newton method, which evaluates a batch several times",
     OPTIMIZER, "    optimizer = torch.optim.LBFGS(student.parameters(), lr=lr, max_iter=2, history_size=4)\n", ANSWER + LOSS + UPDATE, _CLOSURE),
    ("lbfgs_line_search", "a quasi-Newton method with a line search",
     OPTIMIZER, "    optimizer = torch.optim.LBFGS(student.parameters(), lr=lr, max_iter=3, line_search_fn='strong_wolfe')\n", ANSWER + LOSS + UPDATE, _CLOSURE),
    ("closure_of_sgd", "the step gets a closure", OPTIMIZER, "    optimizer = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9)\n", ANSWER + LOSS + UPDATE, _CLOSURE),
    ("sharpness_aware", "two backward passes over a batch, one step", OPTIMIZER, OPTIMIZER + _PARAMETERS,
     LOSS + UPDATE, LOSS + CLEAR + BACK + "            norm = torch.stack([p.grad.norm() for p in parameters]).norm() + 1e-12\n"
     "            moves = [0.02 * p.grad / norm for p in parameters]\n            with torch.no_grad():\n                torch._foreach_add_(parameters, moves)\n"
     + CLEAR + "            distillation_loss(student(images), teacher_logits, labels, temperature, alpha).backward()\n"
     "            with torch.no_grad():\n                torch._foreach_sub_(parameters, moves)\n" + STEP),
    ("average_of_weights", "a moving average of the student is kept aside", HISTORY, HISTORY + "    average = copy.deepcopy(student)\n",
     STEP, STEP + "            with torch.no_grad():\n                for mean, p in zip(average.parameters(), student.parameters()):\n                    mean.lerp_(p, 0.01)\n"),
    ("best_of_epochs", "keeps the weights of the best epoch", HISTORY, HISTORY + "    best, kept = float('inf'), None\n",
     MEAN, MEAN + "        if total / seen < best:\n            best, kept = total / seen, copy.deepcopy(student.state_dict())\n",
     RETURN, "    if kept is not None:\n        student.load_state_dict(kept)\n" + RETURN),
    ("teacher_frozen_with_optimizer_of_both", "the optimizer gets what requires a gradient, while a copy of the teacher is frozen",
     MODES + EVAL, "    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)\n", RESTORE, "",
     OPTIMIZER, "", HISTORY, "    optimizer = torch.optim.AdamW([p for p in nn.ModuleList([student, teacher]).parameters() if p.requires_grad], lr=lr)\n" + HISTORY,
     ASK, "            teacher_logits = teacher(images)\n"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("momentum_of_its_own", "gradients from torch.autograd.grad and momentum without an optimizer", """
    weights = list(student.parameters())
    velocity = [torch.zeros_like(w) for w in weights]
    quiet = copy.deepcopy(teacher).eval()
    student.train()
    curve = []
    for _ in range(epochs):
        total = n = 0
        for images, labels in loader:
            with torch.no_grad():
                target = quiet(images)
            loss = distillation_loss(student(images), target, labels, temperature, alpha)
            with torch.no_grad():
                for w, v, g in zip(weights, velocity, torch.autograd.grad(loss, weights)):
                    v.mul_(0.9).add_(g)
                    w.sub_(lr * v)
            total += float(loss) * len(images)
            n += len(images)
        curve.append(total / n)
    return {"loss": curve}
"""),
    ("functional", "the loss as a function of the parameters, with torch.func", """
    student.train()
    quiet = copy.deepcopy(teacher).eval().requires_grad_(False)

    buffers = dict(student.named_buffers())

    def loss_of(parameters, buffers, images, answers, labels):
        logits = functional_call(student, (parameters, buffers), (images,))
        return distillation_loss(logits, answers, labels, temperature, alpha)

    history = {"loss": []}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            parameters = {name: p.detach() for name, p in student.named_parameters()}
            gradients, loss = grad_and_value(loss_of)(parameters, buffers, images, quiet(images), labels)
            with torch.no_grad():
                for name, p in student.named_parameters():
                    p -= lr * gradients[name]
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    return history
""", "from torch.func import functional_call, grad_and_value\n\n"),
    ("updates_in_place", "an update without an optimizer, after which gradients are set to zero", """
    kept = [m.training for m in teacher.modules()]
    teacher.eval()
    history = {"loss": []}
    for _ in range(epochs):
        student.train()
        total, seen = 0.0, 0
        for images, labels in loader:
            with torch.no_grad():
                answers = teacher(images)
            loss = distillation_loss(student(images), answers, labels, temperature, alpha)
            loss.backward()
            with torch.no_grad():
                for p in student.parameters():
                    p -= lr * p.grad
                    p.grad.zero_()
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    for m, mode in zip(teacher.modules(), kept):
        m.training = mode
    return history
"""),
    ("lion", "an optimizer of its own: the sign of a mean of gradients", """
    optimizer = Lion(student.parameters(), lr)
    with torch.no_grad():
        modes = [m.training for m in teacher.modules()]
    teacher.eval()
    student.train()
    history = []
    for _ in range(epochs):
        sums = []
        for images, labels in loader:
            with torch.inference_mode():
                target = teacher(images)
            loss = distillation_loss(student(images), target.clone(), labels, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums.append((loss.item(), len(images)))
        history.append(sum(l * n for l, n in sums) / sum(n for _, n in sums))
    for m, mode in zip(teacher.modules(), modes):
        m.training = mode
    return {"loss": history}
""", """
class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, beta=0.9, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, beta=beta, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["beta"])
                    p.sub_(group["lr"] * (m.sign() + group["weight_decay"] * p))
"""),
]  # fmt: skip

OPTIMIZERS = [
    *(
        correct(name, f"torch.optim.{made}", replaced(DISTILL, OPTIMIZER, f"    optimizer = torch.optim.{made}\n"))
        for name, made in _MADE.items()
    ),
    *(correct(name, text, replaced(DISTILL, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
]
