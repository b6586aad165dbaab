"""The means to write solutions of exercise 2: the plain function in parts, with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.labs.exercise import Exercise

SIGNATURE = "def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):\n"

# texts of the plain function
OPTIMIZER = "    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)\n"
MODES = "    modes = [(module, module.training) for module in teacher.modules()]\n"
EVAL, TRAIN = "    teacher.eval()\n", "    student.train()\n"
HISTORY = '    history = {"loss": []}\n'
EPOCHS = "    for _ in range(epochs):\n"
SUMS = "        total, seen = 0.0, 0\n"
LOOP = "        for images, labels in loader:\n"
ASK = "            with torch.no_grad():\n                teacher_logits = teacher(images)\n"
ANSWER = "            student_logits = student(images)\n"
LOSS = "            loss = distillation_loss(student_logits, teacher_logits, labels, temperature, alpha)\n"
CLEAR, BACK, STEP = (
    f"            {text}\n" for text in ("optimizer.zero_grad()", "loss.backward()", "optimizer.step()")
)
UPDATE = CLEAR + BACK + STEP
TOTAL = "            total += loss.item() * len(images)\n"
SEEN = "            seen += len(images)\n"
MEAN = '        history["loss"].append(total / seen)\n'
RESTORE = "    for module, training in modes:\n        module.training = training\n"
RETURN = "    return history\n"

EXERCISE = Exercise("distill", "distill", DISTILL, SIGNATURE)
of_body, changed, wrong, correct = EXERCISE.of_body, EXERCISE.changed, EXERCISE.wrong, EXERCISE.correct
