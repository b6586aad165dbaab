"""The gradients that steps of optimizers used: which they were, and which they should have been."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from amllab.kit.step_gradients import MOST, StepGradients, recorded_gradients
from amllab.protocol.schema import schema_error
from amllab.protocol.wire import pack, unpack
from autograder.kit.step_symptoms import wrong_steps


def parameters(*sizes: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(n)) for n in sizes]


def sgd(*own: nn.Parameter) -> torch.optim.SGD:
    return torch.optim.SGD(own, lr=0.1)


def test_steps_are_recorded_in_their_order() -> None:
    """Each step is recorded with its gradients and with those that came since the one before; later ones are not."""
    (weight,) = parameters(2)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        for factor in (2.0, 3.0):
            optimizer.zero_grad()
            (factor * weight).sum().backward()
            optimizer.step()
    optimizer.step()
    assert (steps["taken"], steps["sizes"], steps["piled_up"], steps["unused"]) == (2, [2], 0, 0)
    for name in ("used", "since", "last"):
        assert steps[name].tolist() == [[2, 2], [3, 3]], name  # type: ignore[literal-required]
    assert schema_error(unpack(pack(dict(steps))), StepGradients) == ""
    assert wrong_steps(steps, 1.0) == ""


def test_without_steps() -> None:
    """Without steps, the record is empty and valid, and gradients that nothing has are not unused."""
    (weight,) = parameters(2)
    with recorded_gradients([weight]) as steps:
        weight.sum().backward()
    assert (steps["taken"], tuple(steps["owned"].shape), tuple(steps["used"].shape)) == (0, (0, 1), (0, 0))
    assert steps["unused"] == 0
    assert schema_error(unpack(pack(dict(steps))), StepGradients) == ""
    assert wrong_steps(steps, 1.0) == ""


def test_each_optimizer_has_its_own_parameters() -> None:
    """A step uses the gradients of the parameters that its optimizer has; those of others wait for their own step."""
    first, second = parameters(2, 1)
    optimizers = sgd(first), sgd(second)
    with recorded_gradients([first, second]) as steps:
        (2 * first.sum() + 5 * second.sum()).backward()
        for optimizer in optimizers:
            optimizer.step()
        sgd(*parameters(3)).step()  # of a network that nobody asked for
    assert steps["owned"].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert steps["used"].tolist() == steps["since"].tolist() == [[2, 2, 0], [0, 0, 5], [0, 0, 0]]
    assert steps["unused"] == 0
    assert wrong_steps(steps, 1.0) == ""


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_of_one_step_add_up(parts: int) -> None:
    """Backward passes between two steps belong to the next one, and do not pile up: the weights have not moved."""
    (weight,) = parameters(1)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        for _ in range(2):
            optimizer.zero_grad()
            for part in range(parts):
                ((part + 1) * weight).sum().backward()
            optimizer.step()
    total = parts * (parts + 1) / 2
    assert steps["used"].tolist() == steps["since"].tolist() == [[total], [total]]
    assert steps["last"].tolist() == [[parts], [parts]]
    assert steps["piled_up"] == 0


def test_gradients_that_pile_up() -> None:
    """A backward pass that finds gradients of a time before the weights moved adds to them."""
    (weight,) = parameters(1)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        for _ in range(3):
            weight.sum().backward()
            optimizer.step()
    assert steps["piled_up"] == 2
    assert steps["used"].tolist() == [[1], [2], [3]]
    assert steps["since"].tolist() == [[1], [1], [1]]
    assert wrong_steps(steps, 1.0) == "piled up"


def test_gradients_that_no_step_uses() -> None:
    """Gradients at the end count for the parameters of an optimizer, and for no others."""
    first, second = parameters(1, 1)
    optimizer = sgd(first)
    with recorded_gradients([first, second]) as steps:
        (first + second).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        (first + second).sum().backward()
    assert steps["unused"] == 1
    assert wrong_steps(steps, 1.0) == "unused"


def test_gradients_that_are_cleared() -> None:
    """What is cleared before a step is not used by it, but has come."""
    (weight,) = parameters(1)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        weight.sum().backward()
        optimizer.zero_grad()
        optimizer.step()
    assert (steps["used"].tolist(), steps["since"].tolist()) == ([[0]], [[1]])
    assert wrong_steps(steps, 1.0) == "idle"


def test_second_step_with_the_same_gradient() -> None:
    """Nothing has come since the first of two steps, and the second uses the gradient again."""
    (weight,) = parameters(1)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        weight.sum().backward()
        optimizer.step()
        optimizer.step()
    assert (steps["used"].tolist(), steps["since"].tolist()) == ([[1], [1]], [[1], [0]])
    assert wrong_steps(steps, 1.0) == "twice"


@pytest.mark.parametrize(("evaluations", "symptom"), [(1.0, "lost"), (2.0, "")])
def test_batches_that_are_cleared_between_steps(evaluations: float, symptom: str) -> None:
    """The gradient of the last batch alone is wrong, unless it is the same batch that is evaluated again."""
    (weight,) = parameters(2)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        for factors in ((1.0, 0.0), (0.0, 1.0)):
            optimizer.zero_grad()
            (torch.tensor(factors) * weight).sum().backward()
        optimizer.step()
    assert wrong_steps(steps, evaluations) == symptom


def test_another_gradient() -> None:
    """A step uses the gradient that is there, whatever backward passes have brought."""
    (weight,) = parameters(2)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        weight.sum().backward()
        weight.grad = torch.tensor([1.0, -1.0])
        optimizer.step()
    assert (steps["used"].tolist(), steps["since"].tolist()) == ([[1, -1]], [[1, 1]])
    assert wrong_steps(steps, 1.0) == "another gradient"


class Nested(torch.optim.SGD):
    """An optimizer whose step takes that of its class twice."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step(closure)
        super().step(closure)


def test_steps_within_a_step_count_once() -> None:
    """What is taken within another step is part of that one."""
    (weight,) = parameters(1)
    optimizer = Nested([weight], lr=0.1)
    with recorded_gradients([weight]) as steps:
        for _ in range(2):
            optimizer.zero_grad()
            weight.sum().backward()
            optimizer.step()
    assert steps["taken"] == len(steps["owned"]) == 2
    assert steps["used"].tolist() == steps["since"].tolist() == [[1], [1]]
    assert weight.tolist() == pytest.approx([1 - 4 * 0.1])


def test_very_many_steps() -> None:
    """All steps are counted, and the gradients of the first ones are recorded."""
    (weight,) = parameters(1)
    optimizer = sgd(weight)
    with recorded_gradients([weight]) as steps:
        for _ in range(MOST + 5):
            optimizer.step()
    assert steps["taken"] == MOST + 5
    assert {len(steps["owned"]), len(steps["used"]), len(steps["since"]), len(steps["last"])} == {MOST}


@pytest.mark.parametrize(
    ("change", "symptom"),
    [
        (lambda gradient: gradient.clamp(-0.01, 0.01), ""),
        (lambda gradient: 0.01 * gradient, ""),
        (lambda gradient: gradient.flip(0), "another gradient"),
        (lambda gradient: -gradient, "another gradient"),
        (lambda gradient: 0 * gradient, "another gradient"),
    ],
    ids=["numbers clipped", "norm clipped", "other numbers", "opposite", "zero"],
)
def test_changed_gradients(change: Callable[[Tensor], Tensor], symptom: str) -> None:
    """Gradients may be clipped before the step, even if one number is far larger than the others."""
    weight, other = parameters(8, 2)
    optimizer = sgd(weight, other)
    with recorded_gradients([weight, other]) as steps:
        (other.sum() + (weight * torch.tensor([9.0, -0.1, 0.1, -0.2, 0.1, 0.2, -0.1, 0.1])).sum()).backward()
        assert weight.grad is not None
        weight.grad = change(weight.grad)
        optimizer.step()
    assert wrong_steps(steps, 1.0) == symptom
