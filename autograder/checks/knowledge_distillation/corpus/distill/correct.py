"""Correct distillations whose loops look different."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ANSWER,
    ASK,
    CLEAR,
    EPOCHS,
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
    SUMS,
    TOTAL,
    TRAIN,
    UPDATE,
    correct,
    of_body,
)
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.labs.corpus import replaced

_DETACHED = "            teacher_logits = teacher(images).detach()\n"

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # how the teacher is asked
    ("detached", "the teacher's answers are detached", ASK, _DETACHED),
    ("inference_mode", "the teacher answers in inference mode", "torch.no_grad()", "torch.inference_mode()"),
    ("copied_teacher", "a copy of the teacher answers", MODES + EVAL, "    teacher = copy.deepcopy(teacher).eval()\n", RESTORE, ""),
    ("frozen_copy", "a frozen copy of the teacher answers", MODES + EVAL,
     "    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)\n", RESTORE, "", ASK, "            teacher_logits = teacher(images)\n"),
    ("frozen_for_a_while", "the teacher is frozen, and each parameter gets back what it came with",
     EVAL, EVAL + "    flags = [(p, p.requires_grad) for p in teacher.parameters()]\n    teacher.requires_grad_(False)\n",
     ASK, "            teacher_logits = teacher(images)\n",
     RESTORE, RESTORE + "    for p, flag in flags:\n        p.requires_grad_(flag)\n"),
    ("student_first", "the student answers first", ASK + ANSWER, ANSWER + ASK),
    ("asks_for_the_epoch", "the teacher answers for all views of an epoch at once", LOOP, "        batches = list(loader)\n"
     "        with torch.no_grad():\n            answers = teacher(torch.cat([images for images, _ in batches]))\n"
     "        parts = answers.split([len(images) for images, _ in batches])\n"
     "        for (images, labels), teacher_logits in zip(batches, parts):\n", ASK, ""),
    ("asks_image_by_image", "the teacher answers for one image at a time",
     "teacher(images)", "torch.cat([teacher(image[None]) for image in images])"),
    ("asks_twice", "the teacher is asked twice, with the same answer", ASK, ASK + ASK),
    ("eval_in_each_batch", "the teacher goes to eval mode for each batch", ASK, "            teacher.eval()\n" + ASK),
    ("modes_by_name", "the modes are kept by name", MODES, "    modes = {name: module.training for name, module in teacher.named_modules()}\n",
     RESTORE, "    for name, module in teacher.named_modules():\n        module.training = modes[name]\n"),
    ("modes_by_children", "modes are put back from the outside to the inside", "module.training = training", "module.train(training)"),
    ("modes_in_each_batch", "modes are kept and put back around each answer", MODES + EVAL, "", RESTORE, "",
     ASK, "            modes = [m.training for m in teacher.modules()]\n            teacher.eval()\n" + ASK
     + "            for m, mode in zip(teacher.modules(), modes):\n                m.training = mode\n"),
    ("clones_answers", "works with a copy of the answers", "teacher(images)", "teacher(images).clone().detach()"),
    ("gradients_off_and_on", "switches gradients off and on again by hand",
     ASK, "            torch.set_grad_enabled(False)\n            teacher_logits = teacher(images)\n            torch.set_grad_enabled(True)\n"),
    ("eager_copy_of_batch", "copies images before they go through the networks", ASK, "            images = images.clone().contiguous()\n" + ASK),
    ("shuffles_within_batch", "the order of the rows of a batch does not matter",
     ASK, "            order = torch.randperm(len(images))\n            images, labels = images[order], labels[order]\n" + ASK),
    # how the loss is called
    ("named_arguments", "names all arguments of the loss", "student_logits, teacher_logits, labels, temperature, alpha",
     "student_logits=student_logits, teacher_logits=teacher_logits, labels=labels, alpha=alpha, temperature=temperature"),
    ("one_expression", "no names for logits and loss", ASK + ANSWER + LOSS,
     "            loss = distillation_loss(student(images), teacher(images).detach(), labels, temperature=temperature, alpha=alpha)\n"),
    ("partial", "the loss with its numbers is made once", HISTORY,
     "    from functools import partial\n\n    criterion = partial(distillation_loss, temperature=temperature, alpha=alpha)\n" + HISTORY,
     LOSS, "            loss = criterion(student_logits, teacher_logits, labels)\n"),
    ("in_double", "the loss is computed in double precision", LOSS,
     LOSS.replace("student_logits, teacher_logits", "student_logits.double(), teacher_logits.double()")),
    ("labels_to_int64", "converts labels to int64", "labels, temp", "labels.long(), temp"),
    # loops and sums
    ("enumerates", "counts batches", LOOP, "        for i, (images, labels) in enumerate(loader):\n"),
    ("progress_bar", "a progress bar shows the loss", "\ndef", "\nfrom tqdm.auto import tqdm\n\ndef",
     LOOP, "        bar = tqdm(loader, leave=False, disable=True)\n        for images, labels in bar:\n",
     SEEN, SEEN + "            bar.set_postfix(loss=total / seen)\n"),
    ("listed_in_each_epoch", "the batches of each epoch are put into a list", LOOP, "        for images, labels in list(loader):\n"),
    ("counts_images_first", "the number of images is counted in a pass of its own",
     HISTORY, HISTORY + "    n_images = sum(len(images) for images, _ in loader)\n", "total / seen", "total / n_images"),
    ("peeks", "looks at the first batch before it begins", HISTORY, HISTORY + "    first, _ = next(iter(loader))\n    assert first.ndim == 4\n"),
    ("sums_detached_tensor", "the loss is summed up as a tensor", "total, seen = 0.0, 0", "total, seen = torch.zeros(()), 0",
     "loss.item() * len(images)", "loss.detach() * len(images)", "append(total / seen)", "append((total / seen).item())"),
    ("running_mean", "a running mean", TOTAL + SEEN, SEEN + "            total += (loss.item() - total) * len(images) / seen\n", "append(total / seen)", "append(total)"),
    ("weighted_average", "NumPy's average, weighted with the sizes of batches", SUMS, "        import numpy as np\n\n        losses, sizes = [], []\n",
     TOTAL + SEEN, "            losses.append(float(loss))\n            sizes.append(images.shape[0])\n", "append(total / seen)", "append(np.average(losses, weights=sizes))"),
    ("more_keys", "returns more than was asked for", HISTORY, '    history = {"loss": [], "agreement": [], "epochs": epochs}\n',
     MEAN, MEAN + '        history["agreement"].append((student_logits.argmax(1) == teacher_logits.argmax(1)).float().mean().item())\n'),
    ("refuses_no_epochs", "refuses epochs below 1", OPTIMIZER, "    if epochs < 1:\n        raise ValueError(epochs)\n" + OPTIMIZER),
    ("train_in_each_batch", "sends the student to train mode for each batch", TRAIN, "", ANSWER, "            student.train()\n" + ANSWER),
    ("looks_in_between", "after each epoch the student answers in eval mode",
     TRAIN, "", SUMS, "        student.train()\n" + SUMS,
     MEAN, MEAN + "        student.eval()\n        with torch.no_grad():\n            for images, _ in loader:\n                student(images)\n"),
    ("looks_with_gradients", "after each epoch the student answers in eval mode, and gradients are recorded", TRAIN, "", SUMS, "        student.train()\n" + SUMS,
     MEAN, MEAN + "        student.eval()\n        history.setdefault('spread', []).append(float(student(images).std()))\n"),
    ("modes_of_both", "the student gets its modes back as well", MODES, MODES + "    came = [(m, m.training) for m in student.modules()]\n", RESTORE,
     RESTORE + "    for module, training in came:\n        module.training = training\n"),
    ("student_left_in_eval", "leaves the student in eval mode", RETURN, "    student.eval()\n" + RETURN),
    ("mixed_precision", "autocast, with a gradient scaler that is switched off", OPTIMIZER, OPTIMIZER + '    scaler = torch.amp.GradScaler("cpu", enabled=False)\n',
     ANSWER + LOSS, '            with torch.autocast("cpu", dtype=torch.bfloat16):\n                student_logits = student(images)\n' + LOSS.replace("student_logits,", "student_logits.float(),"),
     UPDATE, CLEAR + "            scaler.scale(loss).backward()\n            scaler.step(optimizer)\n            scaler.update()\n"),
    ("compiled", "both networks are compiled", HISTORY, HISTORY + "    fast_student, fast_teacher = torch.compile(student), torch.compile(teacher)\n",
     "= student(images)", "= fast_student(images)", "= teacher(images)", "= fast_teacher(images)"),
    ("nested_function", "a step is a function in the function", EPOCHS,
     "    def step(images, labels):\n" + (ASK + ANSWER + LOSS + UPDATE).replace("            ", "        ", 1).replace("\n            ", "\n        ")
     + "        return loss.item()\n\n" + EPOCHS, ASK + ANSWER + LOSS + UPDATE + TOTAL, "            total += step(images, labels) * len(images)\n"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("moves_to_device", "networks, images and labels are moved to a device", """
    device = next(student.parameters()).device
    teacher = teacher.to(device)
    before = {m: m.training for m in teacher.modules()}
    opt = torch.optim.Adam(student.parameters(), lr=lr, weight_decay=1e-4)
    losses = []
    for epoch in range(1, epochs + 1):
        student.train(), teacher.eval()
        running, count = 0.0, 0
        for batch in loader:
            x, y = (t.to(device, non_blocking=True) for t in batch)
            opt.zero_grad(set_to_none=True)
            with torch.no_grad():
                target = teacher(x)
            loss = distillation_loss(student(x), target, y, temperature=temperature, alpha=alpha)
            loss.backward()
            opt.step()
            running += x.size(0) * float(loss)
            count += x.size(0)
        losses.append(running / max(count, 1))
    for m, mode in before.items():
        m.training = mode
    return dict(loss=losses)
"""),
    ("helper_for_answers", "a decorated function asks the teacher", """
    optimizer = torch.optim.NAdam(student.parameters(), lr=lr)
    curve = []
    for _ in range(epochs):
        student.train()
        sums = torch.zeros(2, dtype=torch.float64)
        for images, labels in loader:
            soft = answers(teacher, images)
            loss = distillation_loss(student(images), soft, labels, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += torch.tensor([loss.item() * len(labels), len(labels)], dtype=torch.float64)
        curve.append(float(sums[0] / sums[1]))
    return {"loss": curve}
""", """
@torch.no_grad()
def answers(model, images):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    logits = model(images)
    for module, mode in modes.items():
        module.training = mode
    return logits
"""),
    ("context_manager", "a context in which a network is only asked", """
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.05)
    student.train()
    with only_asked(teacher) as ask:
        return {"loss": [epoch(student, ask, loader, optimizer, temperature, alpha) for _ in range(epochs)]}
""", """
from contextlib import contextmanager


@contextmanager
def only_asked(model):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield torch.no_grad()(model.__call__)
    finally:
        for module, mode in modes:
            module.training = mode


def epoch(student, ask, loader, optimizer, temperature, alpha):
    rows = []
    for x, y in loader:
        loss = distillation_loss(student(x), ask(x), y, temperature, alpha)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows.append((loss.item() * len(x), len(x)))
    return sum(row[0] for row in rows) / sum(row[1] for row in rows)
"""),
    ("trainer_class", "the loop is a class of its own", """
    with Distillation(student, teacher, lr, temperature, alpha) as training:
        return {"loss": [training.epoch(loader) for _ in range(epochs)]}
""", """
class Distillation:
    def __init__(self, student, teacher, lr, temperature, alpha):
        self.student, self.teacher = student, teacher
        self.numbers = {"temperature": temperature, "alpha": alpha}
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=lr)

    def __enter__(self):
        self.modes = [m.training for m in self.teacher.modules()]
        self.teacher.eval()
        return self

    def __exit__(self, *_):
        for m, mode in zip(self.teacher.modules(), self.modes):
            m.training = mode

    def step(self, images, labels):
        with torch.no_grad():
            target = self.teacher(images)
        loss = distillation_loss(self.student(images), target, labels, **self.numbers)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epoch(self, loader):
        self.student.train()
        rows = [(self.step(images, labels), len(images)) for images, labels in loader]
        return sum(loss * n for loss, n in rows) / sum(n for _, n in rows)
"""),
    ("iterators", "batches come from an iterator, in a while loop", """
    opt = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9)
    frozen = copy.deepcopy(teacher)
    frozen.eval()
    for p in frozen.parameters():
        p.requires_grad = False
    losses, epoch = [], 0
    while epoch < epochs:
        student.train()
        batches, total, n = iter(loader), 0.0, 0
        while (batch := next(batches, None)) is not None:
            images, labels = batch
            opt.zero_grad()
            loss = distillation_loss(student(images), frozen(images), labels, temperature, alpha)
            loss.backward()
            opt.step()
            total, n = total + loss.item() * labels.numel(), n + labels.numel()
        losses.append(total / n)
        epoch += 1
    return {"loss": losses}
"""),
    ("generator_of_answers", "a generator gives batches together with the teacher's answers", """
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    student.train()
    modes = [m.training for m in teacher.modules()]
    teacher.eval()
    history = {"loss": []}
    for _ in range(epochs):
        pairs = []
        for images, labels, answers in with_answers(teacher, loader):
            optimizer.zero_grad()
            loss = distillation_loss(student(images), answers, labels, temperature, alpha)
            loss.backward()
            optimizer.step()
            pairs += [loss.item()] * len(images)
        history["loss"].append(sum(pairs) / len(pairs))
    for m, mode in zip(teacher.modules(), modes):
        m.train(mode) if not list(m.children()) else setattr(m, "training", mode)
    return history
""", """
def with_answers(teacher, loader):
    for images, labels in loader:
        with torch.no_grad():
            answers = teacher(images)
        yield images, labels, answers
"""),
    ("hook_on_the_teacher", "a hook collects the teacher's answers, and is removed at the end", """
    kept = {}
    handle = teacher.register_forward_hook(lambda module, inputs, logits: kept.update(logits=logits.detach()))
    modes = [(m, m.training) for m in teacher.modules()]
    teacher.eval()
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)
    losses = []
    try:
        for _ in range(epochs):
            total = n = 0
            for images, labels in loader:
                with torch.no_grad():
                    teacher(images)
                loss = distillation_loss(student(images), kept["logits"], labels, temperature, alpha)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(images)
                n += len(images)
            losses.append(total / n)
    finally:
        handle.remove()
        for m, mode in modes:
            m.training = mode
    return {"loss": losses}
"""),
    ("functional_teacher", "the teacher as a function of its state", """
    from torch.func import functional_call

    shadow = copy.deepcopy(teacher).eval()
    state = {name: tensor.detach() for name, tensor in teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)
    student.train()
    losses = []
    for _ in range(epochs):
        sums = [0.0, 0]
        for images, labels in loader:
            loss = distillation_loss(student(images), functional_call(shadow, state, (images,)), labels, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums = [sums[0] + loss.item() * len(images), sums[1] + len(images)]
        losses.append(sums[0] / sums[1])
    return {"loss": losses}
"""),
]  # fmt: skip

CORRECT = [
    correct("plain", "as the notebook explains it", DISTILL),
    *(correct(name, text, replaced(DISTILL, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
]
