"""What checks expect of the steps of a training: they change the weights, from those that came, down the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.kit.expectations import Call, some
from amllab.kit.trainings import Training
from amllab.protocol.failure import expect


def likeness(a: Tensor, b: Tensor) -> float:
    """Return how alike two gradients are, as their cosine."""
    return float(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


def turned(before: Tensor, after: Tensor) -> bool:
    """Return whether a parameter has changed by more than a factor, as weight decay alone does."""
    a, b = before.double().flatten(), after.double().flatten()
    if a.shape != b.shape or torch.equal(a, b) or not a.any():
        return a.shape == b.shape and not torch.equal(a, b)
    rest = b - (a @ b) / (a @ a) * a
    return bool(rest.norm() > 0.05 * (b - a).norm())


def expect_learned(
    run: Training, net: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, owned: bool, why: str
) -> None:
    """Fail the check unless the weights of a network have learned something.

    Args:
        run: The training; its answer has ``backwards`` and ``steps``.
        net: The network, by its name in the call.
        before: Parameters before the training.
        after: The same after it.
        owned: Whether any optimizer that made a step has any of these parameters.
        why: Why it matters.
    """
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    reason = (
        f"all that changed is a factor, as by weight decay: {some(changed)}. Are there gradients when the optimizer steps?"
        if changed
        else "no weight has changed: `backward()` was never called"
        if not run.got["backwards"]
        else "no weight has changed: the optimizer never stepped"
        if not run.got["steps"]["taken"]
        else f"no weight has changed: no optimizer has the parameters of this {net}"
        if not owned
        else "no weight has changed: do gradients reach it, and are they still there when the optimizer steps?"
    )
    expect(
        any(turned(value, after[name]) for name, value in before.items()),
        expected=f"other weights of the {net} after {run.epochs} epochs with lr={run.arguments['lr']:g}",
        seen=reason,
        why=why,
        symptom=f"{net} does not learn",
        reproduce=f"{run.call.setup}before = [p.detach().clone() for p in {net}.parameters()]\n{run.call.text}\n"
        f"[torch.equal(a, b) for a, b in zip(before, {net}.parameters())]  # True: unchanged",
    )


def expect_going_on(other: Sequence[str], call: Call, net: str, *, whose: str) -> None:
    """Fail the check if a training did not start from the weights that came.

    Args:
        other: Names of the parameters that had other values at the first batch.
        call: The call.
        net: A network, by its name in the call.
        whose: Who has the weights, such as ``"the student has"``.
    """
    expect(
        not other,
        expected=f"a training that goes on from the weights that {whose}",
        seen=f"other weights at the first batch: {some(other)}",
        why="a longer training may consist of several calls, and each has to go on where the last one ended",
        symptom="other weights at the start",
        reproduce=f"{call.setup}before = [p.detach().clone() for p in {net}.parameters()]\n"
        f"{net}.register_forward_pre_hook(lambda net, inputs: print([torch.equal(a, b) for a, b in zip(before, net.parameters())]))\n"
        f"{call.text}  # the first line that is printed has to be True for all",
    )


def expect_smaller_loss(losses: tuple[float, float] | None, call: Call) -> None:
    """Fail the check if a small step made the loss of its batch larger.

    Args:
        losses: The loss before and after the step; ``None`` if they are not known.
        call: The call, with ``epochs=1``.
    """
    before, after = losses or (0.0, 0.0)
    expect(
        after <= before + 1e-7,
        expected="a smaller loss of the same views after a small step",
        seen=f"{before:.6g} before and {after:.6g} after the step: does it go up the gradient instead of down?",
        why="a step against the gradient is what makes the loss smaller",
        symptom="loss rises",
        reproduce=call.lines.replace("epochs=1,", "epochs=100,") + '["loss"]  # does it fall?',
    )
