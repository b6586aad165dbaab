"""Steps of gradient descent on two small networks, right and wrong, whose results are known in numbers.

One network has two layers of single weights, whose derivatives are short formulas. The other one has a single weight
and a squared error: its loss is a parabola, and each step shortens the distance from the minimum by the same share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from amllab.checks.meta_learning.maml_tasks import Task, normal

State = dict[str, Tensor]

APART = 0.02  # least difference between the known mistakes on the parabola, relative to the distance
CLOSE = 0.005  # least difference between the known mistakes in one step of two layers
# what the usual wrong steps are, in words that a report adds to the numbers that were seen
SAYS = {
    "ascent": "this is a step up the gradient, where the loss grows",
    "nothing moves": "these are the parameters of the model: no step was taken",
    "lr ignored": "this is a step with a learning rate of 0.01, whatever `lr` is",
    "lr is 1": "this is a step of the whole gradient, without `lr`",
    "lr squared": "this is a step of `lr * lr` times the gradient",
    "half the step": "this is half of the step",
    "twice the step": "this is twice the step",
    "two steps": "this is where two steps lead, and `steps` is 1",
    "gradients": "these are the gradients: the parameters after the step are asked for",
    "changes": "this is the change of the parameters: the parameters after the step are asked for",
    "signs": "each number moved by `lr`, whatever its gradient is, as with Adam: plain gradient descent is asked for",
    "length 1": "this is a step of length `lr`: the gradient itself is asked for, not its direction alone",
    "clipped": "this is where gradients lead that are clipped to a length of 1",
    "first example": "this is a step down the loss of the first example alone",
    "one step": "this is where one step leads",
    "one too many": "this is where one step more leads",
    "one too few": "this is where one step less leads",
    "gradient at the start": "this is where `steps` steps lead if each uses the gradient at the parameters of the model",
    "from the start": "this is where the gradient after the step before leads, if each step starts from the model's own parameters",
    "momentum": "this is where steps with momentum lead",
    "sum of gradients": "this is what happens if gradients add up from step to step",
    "shared lr": "this is where steps with `lr / steps` lead",
    "falling lr": "this is where steps with a falling learning rate lead: `lr`, `lr / 2`, `lr / 3`, ...",
    "mean of the steps": "this is the mean of the parameters after each step",
}  # fmt: skip


def flat(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Tensor:
    """Return all numbers of parameters in one vector, in the order of others."""
    return torch.cat([tensors[name].flatten() for name in like])


def rounded(rng: random.Random, *shape: int) -> Tensor:
    """Return random numbers with two digits after the point, float64."""
    return normal(rng, *shape).round(decimals=2)


def unlike_standardised(inputs: Tensor) -> bool:
    """Return whether subtracting the mean of inputs, or dividing by their standard deviation, changes them a lot."""
    return abs(float(inputs.mean())) > 0.3 and abs(float(inputs.std()) - 1) > 0.2


def listed(numbers: Tensor) -> list[list[float]]:
    """Return a matrix of :func:`rounded` numbers as lists."""
    return [[round(number, 2) for number in row] for row in numbers.tolist()]


def slopes_of_two_layers(state: State, inputs: Tensor, labels: Tensor) -> State:
    """Return the derivatives of the mean cross-entropy of the logits ``b * a * x``, for the weights a and b."""
    a, b = state["0.weight"].item(), state["1.weight"].flatten()
    of_a, of_b = 0.0, torch.zeros(2, dtype=torch.float64)
    for x, label in zip(inputs.flatten().tolist(), labels.tolist(), strict=True):
        wrong = (b * a * x).softmax(0) - torch.eye(2)[label]
        of_a += float(wrong @ b) * x / len(labels)
        of_b += wrong * a * x / len(labels)
    return {"0.weight": torch.tensor([[of_a]], dtype=torch.float64), "1.weight": of_b[:, None]}


def single_steps(task: Task) -> dict[str, State]:
    """Return where one step leads, and where the usual mistakes lead, by name; the right one has none."""
    state, lr = task.state, task.arguments["lr"]
    slopes = slopes_of_two_layers(state, task.inputs, task.targets)
    length = flat(slopes, state).norm()

    def moved(by: Callable[[Tensor], Tensor]) -> State:
        return {name: state[name] - by(slope) for name, slope in slopes.items()}

    right = moved(lambda slope: lr * slope)
    second = slopes_of_two_layers(right, task.inputs, task.targets)
    first = slopes_of_two_layers(state, task.inputs[:1], task.targets[:1])
    return {
        "": right,
        "nothing moves": state,
        "ascent": moved(lambda slope: -lr * slope),
        "lr ignored": moved(lambda slope: 0.01 * slope),
        "lr is 1": moved(lambda slope: slope),
        "lr squared": moved(lambda slope: lr**2 * slope),
        "half the step": moved(lambda slope: lr / 2 * slope),
        "twice the step": moved(lambda slope: 2 * lr * slope),
        "two steps": {name: right[name] - lr * slope for name, slope in second.items()},
        "gradients": slopes,
        "changes": {name: -lr * slope for name, slope in slopes.items()},
        "signs": moved(lambda slope: lr * slope.sign()),
        "length 1": moved(lambda slope: lr * slope / length),
        "first example": {name: state[name] - lr * slope for name, slope in first.items()},
    }


def two_layers(rng: random.Random) -> Task:
    """Return a task for two layers in which all known mistakes differ from each other, and each weight moves."""
    while True:
        state = {"0.weight": rounded(rng, 1, 1), "1.weight": rounded(rng, 2, 1)}
        arguments = {"steps": 1, "lr": round(rng.uniform(0.3, 0.4), 2)}
        labels = torch.tensor(rng.sample([0, 1, 0, 1], 4))
        inputs = rounded(rng, 4, 1)
        lines = (
            "model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))\n"
            f"model[0].weight.data = torch.tensor({listed(state['0.weight'])})\n"
            f"model[1].weight.data = torch.tensor({listed(state['1.weight'])})\n"
            f"x, y = torch.tensor({listed(inputs)}), torch.tensor({labels.tolist()})"
        )
        task = Task("two layers", state, inputs, labels, {}, "F.cross_entropy", arguments, lines=lines)
        ends = [flat(end, state) for end in single_steps(task).values()]
        apart = min(float((one - other).norm()) for i, one in enumerate(ends) for other in ends[:i])
        slopes = slopes_of_two_layers(state, task.inputs, labels)
        least = min(float(slope.abs().min()) for slope in slopes.values())
        # a gradient shorter than 1, which clipping would not change
        length = flat(slopes, state).norm()
        if apart > CLOSE and least > 0.1 and length < 0.9 and unlike_standardised(inputs):
            return task


def several_steps(distance: float, shrink: float, steps: int, lr: float) -> dict[str, float]:
    """Return the distances from the minimum after several steps, and those of the usual mistakes, by name.

    Args:
        distance: Distance before the first step.
        shrink: Share by which a step shortens the distance.
        steps: Number of steps.
        lr: Learning rate.
    """

    def velocities(keeps: float) -> float:
        at, velocity = distance, 0.0
        for _ in range(steps):
            velocity = keeps * velocity + shrink * at
            at -= velocity
        return at

    def limited(longest: float, shortest: float = 0.0) -> float:
        at = distance
        for _ in range(steps):
            gradient = shrink / lr * at
            at -= lr * math.copysign(max(min(abs(gradient), longest), shortest), gradient)
        return at

    reached = [distance * (1 - shrink) ** i for i in range(1, steps + 1)]
    from_the_start = distance
    for _ in range(steps):
        from_the_start = distance - shrink * from_the_start
    return {
        "": reached[-1],
        "nothing moves": distance,
        "ascent": distance * (1 + shrink) ** steps,
        "one step": reached[0],
        "one too many": reached[-1] * (1 - shrink),
        "one too few": reached[-2],
        "gradient at the start": distance * (1 - steps * shrink),
        "from the start": from_the_start,
        "momentum": velocities(0.9),
        "sum of gradients": velocities(1.0),
        "shared lr": distance * (1 - shrink / steps) ** steps,
        "falling lr": distance * math.prod(1 - shrink / i for i in range(1, steps + 1)),
        "mean of the steps": sum(reached) / steps,
        "clipped": limited(1.0),
        "length 1": limited(1.0, 1.0),
        "lr ignored": distance * (1 - shrink / lr * 0.01) ** steps,
        "lr squared": distance * (1 - shrink * lr) ** steps,
        "half the step": distance * (1 - shrink / 2) ** steps,
        "twice the step": distance * (1 - shrink * 2) ** steps,
    }


def line(rng: random.Random) -> tuple[Task, dict[str, float]]:
    """Return a task for one weight, in which all known mistakes differ, and where these lead."""
    while True:
        inputs, targets, weight = rounded(rng, 5, 1), rounded(rng, 5, 1), rounded(rng, 1, 1)
        square = float((inputs**2).mean())
        minimum = float((inputs * targets).mean()) / square
        steps, lr = rng.choice([3, 4]), round(rng.uniform(0.28, 0.42) / (2 * square), 3)
        lines = (
            f"model = nn.Linear(1, 1, bias=False)\nmodel.weight.data = torch.tensor({listed(weight)})\n"
            f"x, y = torch.tensor({listed(inputs)}), torch.tensor({listed(targets)})"
        )
        arguments = {"steps": steps, "lr": lr}
        task = Task("line", {"weight": weight}, inputs, targets, {}, "F.mse_loss", arguments, lines=lines)
        distance = weight.item() - minimum
        ends = {name: minimum + end for name, end in several_steps(distance, 2 * lr * square, steps, lr).items()}
        apart = min(abs(one - other) for i, one in enumerate(ends.values()) for other in [*ends.values()][:i])
        # a gradient longer than 1, which clipping would change
        if (
            apart > APART * abs(distance)
            and unlike_standardised(inputs)
            and 2 * square * abs(distance) > 1.3
            and 0.5 < abs(distance) < 3
            and max(map(abs, ends.values())) < 10
        ):
            return task, ends
