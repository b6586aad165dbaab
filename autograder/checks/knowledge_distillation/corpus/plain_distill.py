"""A plain correct function of exercise 2, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

DISTILL = """
def distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9):
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    student.train()
    history = {"loss": []}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            student_logits = student(images)
            loss = distillation_loss(student_logits, teacher_logits, labels, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    for module, training in modes:
        module.training = training
    return history
"""
