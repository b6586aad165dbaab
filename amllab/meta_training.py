"""Meta-training: the outer loop over tasks, and what a model can do after adapting to new ones.

The inner loop is a function ``maml_adapt(model, inputs, targets, *, steps, lr, loss_fn, first_order)`` that returns
adapted parameters by name (Finn et al., *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks*, 2017).
It is an argument here: it is what a notebook writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from amllab.confidence import Interval, interval_of
from amllab.few_shot import Episode
from amllab.progress import Epochs

MamlAdapt = Callable[..., Mapping[str, Tensor]]
LossFunction = Callable[[Tensor, Tensor], Tensor]
LARGEST_GRADIENT = 10.0  # norm; a single task with a steep loss must not undo what others have taught
# computing convolutions of many sets of weights at once is slower than one after the other, on a CPU
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def meta_train(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    tasks: Iterable[Any],
    *,
    steps: int,
    lr: float = 3e-3,
    evaluate: Callable[[nn.Module], float | Tensor | Interval] | None = None,
    every: int = 100,
) -> dict[str, list[float]]:
    """Train a model on one task, or one batch of tasks, after the other; show the progress.

    The optimizer is Adam; its learning rate falls to 0 along a cosine, and the norm of the gradient is limited to 10.
    The display counts ``every`` steps as an epoch. An interrupt ends the training after the current ``every`` steps. If
    a loss or gradient is not finite, the training ends, and the model keeps the weights before that step.

    Args:
        model: the model, trained in place, in train mode.
        loss: function of the model and the next of ``tasks`` that returns a tensor with one value, such as
            ``episode_loss(prototypical_loss)`` or ``maml_loss(maml_adapt)``.
        tasks: iterator over episodes or batches of tasks, with at least ``steps`` of them.
        steps: number of steps of the optimizer.
        lr: learning rate of the first step.
        evaluate: function of the model, called before the training and after every ``every`` steps. It returns a
            number, or an :class:`amllab.Interval`, whose mean counts.
        every: number of steps between two entries of the result.

    Returns:
        ``"step"``, numbers of steps, each with the mean ``"loss"`` of the steps since the last one. With ``evaluate``
        also ``"evaluation"``: a value before the training, then one for each of ``"step"``.

    Raises:
        ValueError: ``steps`` or ``every`` is below 1, there are fewer tasks than steps, or no gradient of the loss
            reaches the model.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be at least 1, not {steps} and {every}")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("meta_train() needs a model with parameters to train")
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history: dict[str, list[float]] = {"step": [], "loss": []}
    if evaluate is not None:
        history["evaluation"] = [_number(evaluate(model))]
    stream, done = iter(tasks), 0
    for _ in (progress := Epochs(math.ceil(steps / every))):
        model.train()
        losses: list[float] = []
        for _ in progress.batches(range(min(every, steps - done))):
            try:
                task = next(stream)
            except StopIteration:
                raise ValueError(f"there are only {done} tasks for {steps} steps") from None
            optimizer.zero_grad()
            value = _checked(loss(model, task))
            losses.append(value.item())
            finite = math.isfinite(losses[-1]) and _backward(value, parameters)
            if not finite:
                break
            optimizer.step()
            schedule.step()
            done += 1
            progress.show(loss=losses[-1])
        figures = {"loss": sum(losses) / len(losses)}
        if evaluate is not None:
            figures["evaluation"] = _number(evaluate(model))
        for name, figure in {"step": float(done), **figures}.items():
            history[name].append(figure)
        progress.log(**figures)
        if not finite:
            print(f"Stopped: loss or gradient of step {done + 1} is not finite. A smaller learning rate may help.")
            break
    return history


def maml_loss(
    maml_adapt: MamlAdapt,
    *,
    steps: int = 1,
    lr: float = 0.01,
    loss_fn: LossFunction = F.cross_entropy,
    first_order: bool = False,
) -> Callable[[nn.Module, Episode], Tensor]:
    """Return the loss of model-agnostic meta-learning, for :func:`meta_train`.

    For each task, the model is adapted to the support set; the loss is that of the adapted model on the query set. All
    tasks are computed at once with ``torch.func.vmap`` if ``maml_adapt`` allows it and gives the same then. This is
    tried in the first step, and the choice is printed. Functions that call ``torch.autograd.grad`` do not allow it,
    and convolutional models are faster without: their tasks are computed one after the other.

    Args:
        maml_adapt: the inner loop; returns adapted parameters by name.
        steps: number of steps of the inner loop.
        lr: learning rate of the inner loop.
        loss_fn: loss of outputs and targets, for the inner loop and for the query set.
        first_order: whether the inner loop leaves out second derivatives.

    Returns:
        A function of a model and an :class:`amllab.Episode` with a leading dimension of tasks. It returns the mean
        loss, a tensor with one value. It raises ``ValueError`` if there is no such dimension.
    """

    def of_one(model: nn.Module, task: Episode) -> Tensor:
        adapted = _adapted(model, maml_adapt, task, steps, lr, loss_fn, first_order)
        return loss_fn(adapted(task.query), task.query_labels)

    compute: _ForTasks | None = None

    def loss(model: nn.Module, tasks: Episode) -> Tensor:
        nonlocal compute
        _require_tasks(tasks, "maml_loss")
        if compute is None:
            compute = _ForTasks(of_one, model, tasks)
            print(f"Tasks are computed {compute.how}")
        return compute(model, tasks).mean()

    return loss


def adaptation_curve(
    model: nn.Module,
    maml_adapt: MamlAdapt,
    tasks: Episode,
    *,
    steps: Sequence[int] = (0, 1, 5, 10),
    lr: float = 0.01,
    loss_fn: LossFunction = F.cross_entropy,
    measure: LossFunction | None = None,
) -> dict[int, Interval]:
    """Return how good a model is on query sets after adapting to the support sets with several numbers of steps.

    The model stays as it is; each task starts from its parameters.

    Args:
        model: the model.
        maml_adapt: the inner loop; returns adapted parameters by name.
        tasks: at least 2 tasks, with a leading dimension of tasks.
        steps: numbers of steps of the inner loop.
        lr: learning rate of the inner loop.
        loss_fn: loss of outputs and targets in the inner loop.
        measure: function of the outputs and targets of a query set that returns a tensor with one value, such as
            :func:`amllab.accuracy`; by default ``loss_fn``.

    Returns:
        For each number of steps the mean over the tasks, with its 95 % interval.

    Raises:
        ValueError: there is no leading dimension of tasks, or there are fewer than 2 tasks.
    """
    _require_tasks(tasks, "adaptation_curve")
    measured, found = measure or loss_fn, {}
    for number in steps:

        def of_one(model: nn.Module, task: Episode, number: int = number) -> Tensor:
            # without second derivatives, which only meta-training needs
            adapted = _adapted(model, maml_adapt, task, number, lr, loss_fn, first_order=True)
            with torch.no_grad():
                return measured(adapted(task.query), task.query_labels)

        found[number] = interval_of(_ForTasks(of_one, model, tasks)(model, tasks))
    return found


def adapted_outputs(
    model: nn.Module,
    maml_adapt: MamlAdapt,
    task: Episode,
    *,
    steps: Sequence[int] = (0, 1, 5, 10),
    lr: float = 0.01,
    loss_fn: LossFunction = F.cross_entropy,
) -> dict[int, Tensor]:
    """Return the outputs of a model for the query set of one task, after several numbers of steps on its support set.

    Args:
        model: the model, which stays as it is.
        maml_adapt: the inner loop; returns adapted parameters by name.
        task: one task, without a leading dimension of tasks.
        steps: numbers of steps of the inner loop.
        lr: learning rate of the inner loop.
        loss_fn: loss of outputs and targets in the inner loop.

    Returns:
        For each number of steps the outputs ``(query, ...)``, without gradients.
    """
    return {
        number: _adapted(model, maml_adapt, task, number, lr, loss_fn, first_order=True)(task.query).detach()
        for number in steps
    }


class _ForTasks:
    """Computes a function of a model and one task for several tasks: at once, if that gives the same.

    Attributes:
        how: description in words.
    """

    def __init__(self, of_one: Callable[[nn.Module, Episode], Tensor], model: nn.Module, tasks: Episode) -> None:
        self.of_one = of_one
        self.how = "one after the other"
        if any(isinstance(module, CONVOLUTIONS) for module in model.modules()):
            return
        first = of_one(model, _task(tasks, 0))
        try:
            same = _same(first, self._at_once(model, tasks)[0], model)
        except Exception:  # whatever the function does that vmap cannot compute
            return
        if same:
            self.how = "all at once (torch.func.vmap)"

    def __call__(self, model: nn.Module, tasks: Episode) -> Tensor:
        if self.how.startswith("all"):
            return self._at_once(model, tasks)
        return torch.stack([self.of_one(model, _task(tasks, number)) for number in range(len(tasks.support))])

    def _at_once(self, model: nn.Module, tasks: Episode) -> Tensor:
        values: Tensor = vmap(lambda *task: self.of_one(model, Episode(*task)), randomness="different")(*tasks)
        return values


def _adapted(
    model: nn.Module,
    maml_adapt: MamlAdapt,
    task: Episode,
    steps: int,
    lr: float,
    loss_fn: LossFunction,
    first_order: bool,
) -> Callable[[Tensor], Tensor]:
    """Return the model, adapted to the support set of one task, as a function of inputs."""
    with torch.enable_grad():
        parameters = maml_adapt(
            model, task.support, task.support_labels, steps=steps, lr=lr, loss_fn=loss_fn, first_order=first_order
        )
    if not isinstance(parameters, Mapping):
        raise ValueError(f"maml_adapt() must return a dict of parameters by name, not a {type(parameters).__name__}")
    return lambda inputs: functional_call(model, dict(parameters), (inputs,))


def _task(tasks: Episode, number: int) -> Episode:
    return Episode(*(values[number] for values in tasks))


def _require_tasks(tasks: Episode, name: str) -> None:
    sizes = {len(values) for values in tasks}
    if len(sizes) != 1 or min(values.ndim for values in tasks) < 2:
        raise ValueError(
            f"{name}() needs tasks with a leading dimension of tasks, as sinusoids() and image_tasks() give them, not "
            f"tensors of shapes {[tuple(values.shape) for values in tasks]}"
        )


def _same(a: Tensor, b: Tensor, model: nn.Module) -> bool:
    """Return whether two values and their gradients agree, up to rounding."""
    if a.requires_grad != b.requires_grad:
        return False
    pairs = [(a.detach(), b.detach())]
    if a.requires_grad:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = (
            torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True) for value in (a, b)
        )
        pairs += zip(*gradients, strict=True)
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-4 * float(x.abs().max())) for x, y in pairs)


_NO_GRADIENT = (
    "no gradient of the loss reaches the model's parameters: between them and the loss, a tensor was detached, "
    "or computed without gradients"
)


def _checked(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the loss must be a tensor with one value, not {found}")
    if not value.requires_grad:
        raise ValueError(_NO_GRADIENT)
    return value


def _backward(value: Tensor, parameters: list[nn.Parameter]) -> bool:
    """Compute and limit the gradient; return whether it is finite."""
    value.backward()
    if all(parameter.grad is None for parameter in parameters):
        raise ValueError(_NO_GRADIENT)
    return bool(torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT).isfinite())


def _number(value: float | Tensor | Interval) -> float:
    if isinstance(value, Interval):
        return value.mean
    return float(value.detach() if isinstance(value, Tensor) else value)
