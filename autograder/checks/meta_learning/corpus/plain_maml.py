"""A plain correct function of exercise 3, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

MAML = """
def maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False):
    if steps < 0:
        raise ValueError("steps must not be negative")
    adapted = dict(model.named_parameters())
    for _ in range(steps):
        predictions = functional_call(model, adapted, (inputs,))
        loss = loss_fn(predictions, targets)
        grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)
        adapted = {name: p - lr * g for (name, p), g in zip(adapted.items(), grads)}
    return adapted
"""
