"""The steps of a training: symptoms of wrong ones, and expectations about their gradients and their lengths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amllab.kit.expectations import Call
from amllab.kit.step_checks import likeness
from amllab.kit.step_gradients import StepGradients
from amllab.protocol.failure import expect

STEPS = {
    "piled up": "gradients of the batches before are still in it: they were added up. Is `optimizer.zero_grad()` missing, or called too "
    "rarely?",
    "idle": "an optimizer steps while all gradients are zero or missing: are they cleared between `backward()` and the step?",
    "unused": "the gradients of the last batch are never used: does the optimizer step after `backward()`?",
    "twice": "a second step with the same gradient",
    "lost": "the gradients of some batches are cleared and never used: does the optimizer step after every batch?",
    "another gradient": "steps with a gradient that is not that of the batch",
}


def wrong_steps(steps: StepGradients, evaluations: float) -> str:
    """Return the symptom of wrong steps; empty if each uses the gradient of its own batch.

    Args:
        steps: The steps.
        evaluations: How often a batch is evaluated for a step, on average.
    """
    if steps["piled_up"]:
        return "piled up"
    # of several evaluations of a batch, the last one may be what counts
    again = evaluations > 1.5
    columns = [
        part.split(steps["sizes"], dim=1) for part in (steps["used"], steps["since"], steps["last"]) if len(part)
    ]
    for i, owned in enumerate(steps["owned"].tolist()):
        used, since, last = ([part[i] for part, own in zip(parts, owned, strict=True) if own] for parts in columns)
        if not any(map(torch.any, used)):
            if any(map(torch.any, since)):
                return "idle"
            # before the first backward pass, or by an optimizer of other parameters: such a step changes nothing
            continue
        if not any(map(torch.any, since)):
            return "twice"
        largest = max(float(gradient.norm()) for gradient in since)
        for u, s, t in zip(used, since, last, strict=True):
            if s.norm() < 1e-3 * largest:
                continue
            if not _follows(u, s) and not _follows(u, t):
                return "another gradient"
            if not again and likeness(s, t) < 0.99 and likeness(u, t) > likeness(u, s):
                return "lost"
    return "unused" if steps["taken"] and steps["unused"] else ""


def _follows(used: Tensor, gradient: Tensor) -> bool:
    """Return whether a step used a gradient, whose numbers may have been clipped one by one: that keeps their signs."""
    return likeness(used, gradient) >= 0.4 or bool(used.any() and (used * gradient >= 0).all())


def expect_own_gradients(
    symptom: str, call: Call, net: str, *, steps: str = "steps", texts: Mapping[str, str] = STEPS
) -> None:
    """Fail the check if there is a symptom of wrong steps.

    Args:
        symptom: A key of ``texts``, or nothing.
        call: The call.
        net: A network, by its name in the call; its second layer has weights.
        steps: What should be there, such as ``"steps of all parameters"``.
        texts: What a report says of each symptom.
    """
    expect(
        not symptom,
        expected=f"{steps} with the gradient of their own batch",
        seen=texts.get(symptom, ""),
        why="a backward pass adds to the gradients that are there, and a step uses those that are there at that moment",
        symptom=symptom,
        reproduce=f"{call.setup}{net}[1].weight.register_post_accumulate_grad_hook(lambda p: print(p.grad.norm().item()))\n"
        f"{call.text}",
    )


def expect_lengths(moved: Mapping[float, float], call: Call, net: str, evaluations: float) -> None:
    """Fail the check unless a larger learning rate makes larger steps.

    Args:
        moved: How far the weights moved with the learning rates 1e-4 and 1e-2.
        call: A call.
        net: A network, by its name in the call.
        evaluations: How often a batch is evaluated for a step, on average.
    """
    expect(
        # a line search finds its own length of a step, from several evaluations of a batch
        moved[1e-2] > 5 * moved[1e-4] or evaluations > 2.5,
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {moved[1e-2]:.2g} and {moved[1e-4]:.2g} in two epochs: is `lr` what the optimizer gets?",
        why="a learning rate that is passed but not used makes every search for a good one pointless",
        symptom="learning rate ignored",
        reproduce=f"{call.setup}before = [p.detach().clone() for p in {net}.parameters()]\n{call.text}\n"
        f"sum((a - b).norm() for a, b in zip(before, {net}.parameters()))  # compare with another lr",
    )


def expect_default_lr(own: float, wanted: float, call: Call) -> None:
    """Fail the check unless weights move as far without a learning rate as with 1e-3.

    Args:
        own: How far they moved without.
        wanted: How far they moved with 1e-3.
        call: The call without.
    """
    expect(
        abs(own - wanted) <= 0.3 * wanted,
        expected="the steps of lr=0.001 if it is left out",
        seen=f"weights moved by {own:.2g} without lr, and by {wanted:.2g} with lr=0.001",
        why="experiments that name no learning rate are compared with each other",
        symptom="another default of lr",
        share=0.5,
        reproduce=call.lines,
    )
