"""Meta-training, and what models can do after adaptation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from amllab import (
    Episode,
    Interval,
    accuracy,
    adaptation_curve,
    adapted_outputs,
    conv4,
    maml_loss,
    meta_train,
    sine_net,
    sinusoids,
)
from tests.helpers.few_shot import adapt_by_autograd, adapt_by_functions

BOTH = pytest.mark.parametrize("adapt", [adapt_by_functions, adapt_by_autograd])
AT_ONCE, IN_TURN = "Tasks are computed all at once (torch.func.vmap)\n", "Tasks are computed one after the other\n"


def waves(n: int, seed: int = 0) -> Episode:
    return sinusoids(n, 5, 6, torch.Generator().manual_seed(seed))


def endless(n: int, seed: int = 0) -> Iterator[Episode]:
    generator = torch.Generator().manual_seed(seed)
    return (sinusoids(n, 10, 10, generator) for _ in count())


def distance(model: nn.Module, target: Tensor) -> Tensor:
    """Return the squared distance of the model's bias from a target."""
    return (model.get_parameter("bias") - target).pow(2).sum()


def test_history() -> None:
    """The history has the mean loss of each block, and the evaluations before the first one and after each."""
    model, shown, modes = nn.Linear(1, 1), [], []

    def loss(model: nn.Module, task: Tensor) -> Tensor:
        modes.append(model.training)
        shown.append(float(task))
        return distance(model, task)

    def evaluate(model: nn.Module) -> Interval:
        model.eval()
        return Interval(model.get_parameter("bias").item(), 7.0)

    nn.init.zeros_(model.bias)
    history = meta_train(
        model, loss, (torch.tensor(float(i)) for i in count()), steps=5, every=2, lr=1e-9, evaluate=evaluate
    )
    assert history["step"] == [2, 4, 5]
    assert history["loss"] == pytest.approx([(0 + 1) / 2, (4 + 9) / 2, 16], abs=1e-4)
    assert history["evaluation"] == pytest.approx([0] * 4, abs=1e-6)
    assert shown == [0, 1, 2, 3, 4]
    assert modes == [True] * 5
    assert set(meta_train(model, loss, iter([torch.tensor(1.0)]), steps=1)) == {"step", "loss"}


@pytest.mark.parametrize("result", [0.25, torch.tensor(0.25), Interval(0.25, 0.1)])
def test_evaluations_of_all_types(result: Any) -> None:
    """An evaluation is a number, a tensor or an interval."""
    history = meta_train(nn.Linear(1, 1), distance, iter([torch.tensor(1.0)]), steps=1, evaluate=lambda _: result)
    assert history["evaluation"] == [0.25, 0.25]
    assert all(type(value) is float for value in history["evaluation"])


def test_training_trains() -> None:
    """The loss falls to almost 0; the last steps are the smallest; a frozen parameter stays."""
    model = nn.Linear(1, 3)
    model.weight.requires_grad = False
    weight, places = model.weight.clone(), []

    def loss(model: nn.Module, task: Tensor) -> Tensor:
        places.append(model.get_parameter("bias").detach().clone())
        return distance(model, task)

    history = meta_train(model, loss, (torch.tensor([3.0, -2.0, 1.0]) for _ in count()), steps=400, lr=0.1)
    assert history["loss"][-1] < 1e-3 < history["loss"][0]
    first, last = (float((places[i + 1] - places[i]).norm()) for i in (0, len(places) - 2))
    assert last < 0.01 * first
    assert torch.equal(model.weight, weight)


def test_training_stops_at_numbers_that_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    """The model keeps its last finite weights, and a line says which step failed."""
    for bad in (math.nan, math.inf):
        model = nn.Linear(1, 1)
        tasks = [torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0), torch.tensor(bad), torch.tensor(1.0)]
        history = meta_train(model, distance, iter(tasks), steps=5, every=2)
        assert history["step"] == [2, 3]
        assert not math.isfinite(history["loss"][-1])
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        assert "step 4 is not finite" in capsys.readouterr().out


def test_gradients_that_are_not_finite_count_as_well() -> None:
    """A finite loss with an infinite gradient does not reach the weights."""
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.bias)
    history = meta_train(model, lambda m, _: m.get_parameter("bias").sqrt().sum(), count(), steps=3)
    assert history == {"step": [0], "loss": [0]}
    assert model.bias.item() == 0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda _model, task: task.sum(), "no gradient of the loss reaches"),
        (lambda _model, _task: nn.Linear(1, 1)(torch.ones(1, 1)).sum(), "no gradient of the loss reaches"),
        (lambda _model, _task: 3.0, "must be a tensor with one value, not float"),
        (lambda model, _task: model(torch.ones(2, 1)), r"must be a tensor with one value, not of shape \(2, 1\)"),
    ],
)
def test_losses_that_cannot_train(loss: Callable[..., Any], message: str) -> None:
    """A loss without a gradient, or of more than one value, is refused."""
    with pytest.raises(ValueError, match=message):
        meta_train(nn.Linear(1, 1), loss, (torch.zeros(1) for _ in count()), steps=1)


def test_arguments_that_cannot_train() -> None:
    """Too few tasks, no parameters and numbers below 1 are refused."""
    with pytest.raises(ValueError, match="only 2 tasks for 3 steps"):
        meta_train(nn.Linear(1, 1), distance, [torch.zeros(1)] * 2, steps=3)
    with pytest.raises(ValueError, match="a model with parameters"):
        meta_train(nn.Flatten(), distance, [torch.zeros(1)], steps=1)
    for numbers in ({"steps": 0}, {"steps": 1, "every": 0}):
        with pytest.raises(ValueError, match="steps and every must be at least 1"):
            meta_train(nn.Linear(1, 1), distance, [torch.zeros(1)], **numbers)


@BOTH
@pytest.mark.parametrize("first_order", [False, True])
def test_loss_of_maml(adapt: Any, first_order: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss is the mean over the tasks of the adapted model's loss, with its gradient, however it is computed."""
    torch.manual_seed(0)
    model, tasks = sine_net(8).double(), Episode(*(part.double() for part in waves(3)))
    options: dict[str, Any] = {"steps": 2, "lr": 0.05, "loss_fn": F.mse_loss, "first_order": first_order}
    loss = maml_loss(adapt, **options)
    values = [loss(model, tasks), loss(model, tasks)]
    wanted = torch.zeros(())
    for support, support_labels, query, query_labels in zip(*tasks, strict=True):
        adapted = adapt_by_autograd(model, support, support_labels, **options)
        wanted = wanted + F.mse_loss(functional_call(model, adapted, (query,)), query_labels) / 3
    gradients = [torch.autograd.grad(value, list(model.parameters())) for value in (*values, wanted)]
    for value, own in zip(values, gradients, strict=False):
        assert torch.allclose(value, wanted)
        assert all(torch.allclose(a, b) for a, b in zip(own, gradients[2], strict=True))
    assert capsys.readouterr().out == (AT_ONCE if adapt is adapt_by_functions else IN_TURN)


def test_convolutions_are_computed_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Computing them at once would be slower."""
    tasks = Episode(
        torch.randn(2, 4, 3, 32, 32),
        torch.arange(4).repeat(2, 1),
        torch.randn(2, 4, 3, 32, 32),
        torch.arange(4).repeat(2, 1),
    )
    value = maml_loss(adapt_by_functions)(conv4(4, 2), tasks)
    assert value.requires_grad
    assert capsys.readouterr().out == IN_TURN


def test_functions_that_give_other_results_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """If all tasks at once give something else than one after the other, the latter counts."""

    def different(model: nn.Module, inputs: Tensor, *args: Any, **options: Any) -> dict[str, Tensor]:
        if torch._C._functorch.is_batchedtensor(inputs):
            options["lr"] = 0.0
        return adapt_by_functions(model, inputs, *args, **options)

    torch.manual_seed(0)
    model, tasks = sine_net(8), waves(3)
    values = [maml_loss(adapt, loss_fn=F.mse_loss, lr=0.1)(model, tasks) for adapt in (different, adapt_by_autograd)]
    assert torch.allclose(*values)
    assert capsys.readouterr().out == IN_TURN * 2


def test_errors_of_maml_adapt_arrive() -> None:
    """An error of the notebook's own function is not hidden."""

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("its own mistake")

    with pytest.raises(KeyError, match="its own mistake"):
        maml_loss(broken)(sine_net(4), waves(2))
    with pytest.raises(ValueError, match=r"maml_adapt\(\) must return a dict of parameters by name, not a list"):
        maml_loss(lambda *_, **__: [])(sine_net(4), waves(2))


@pytest.mark.parametrize("detached", [False, True])
def test_maml_learns_unless_gradients_are_lost(detached: bool) -> None:
    """Meta-training makes adaptation far better; parameters that were detached are an error that says so."""

    def adapt(*args: Any, **options: Any) -> dict[str, Tensor]:
        adapted = adapt_by_functions(*args, **options)
        return {name: value.detach() for name, value in adapted.items()} if detached else adapted

    torch.manual_seed(0)
    model, tasks = sine_net(), sinusoids(100, 10, 20, torch.Generator().manual_seed(9))
    before = adaptation_curve(model, adapt, tasks, steps=(1,), loss_fn=F.mse_loss)[1]
    loss = maml_loss(adapt, loss_fn=F.mse_loss)
    if detached:
        with pytest.raises(ValueError, match=r"no gradient .* was detached"):
            meta_train(model, loss, endless(16), steps=2)
        return
    meta_train(model, loss, endless(16), steps=200, lr=1e-2)
    after = adaptation_curve(model, adapt, tasks, steps=(1,), loss_fn=F.mse_loss)[1]
    assert after.mean + after.half_width < 0.7 * before.mean


@BOTH
def test_adaptation_curve(adapt: Any) -> None:
    """Each number of steps starts from the model, which stays as it is; the measure is taken on the query sets."""
    torch.manual_seed(0)
    model, tasks = sine_net(8), waves(4)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    options: dict[str, Any] = {"lr": 0.05, "loss_fn": F.mse_loss}
    with torch.no_grad():
        found = adaptation_curve(model, adapt, tasks, steps=(0, 3), **options)
    far = adaptation_curve(model, adapt, tasks, steps=(3,), measure=lambda a, b: (a - b).abs().max(), **options)
    for number in (0, 3):
        errors = []
        for support, support_labels, query, query_labels in zip(*tasks, strict=True):
            adapted = adapt_by_autograd(model, support, support_labels, steps=number, **options)
            errors.append(functional_call(model, adapted, (query,)).detach() - query_labels)
        squares = torch.stack([error.pow(2).mean() for error in errors])
        assert found[number].mean == pytest.approx(float(squares.mean()), rel=1e-4)
        assert found[number].half_width == pytest.approx(float(1.96 * squares.std() / 2), rel=1e-4)
    assert far[3].mean == pytest.approx(float(torch.stack([error.abs().max() for error in errors]).mean()), rel=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_accuracy_after_adaptation() -> None:
    """Accuracy can be the measure, and grows with the steps on tasks that are easy to learn."""
    torch.manual_seed(0)
    inputs, labels = 3 * torch.eye(4).repeat(5, 3, 1), torch.arange(4).repeat(5, 3)
    tasks = Episode(inputs, labels, inputs, labels)
    found = adaptation_curve(nn.Linear(4, 4), adapt_by_functions, tasks, steps=(0, 50), lr=0.5, measure=accuracy)
    assert found[50] == (1.0, 0.0)
    assert found[0].mean < 1


def test_adapted_outputs() -> None:
    """The outputs are those of the adapted model for the query set, without gradients."""
    torch.manual_seed(0)
    model, task = sine_net(8), Episode(*(part[0] for part in waves(1)))
    found = adapted_outputs(model, adapt_by_functions, task, steps=(0, 2), lr=0.1, loss_fn=F.mse_loss)
    assert torch.equal(found[0], model(task.query))
    adapted = adapt_by_autograd(model, task.support, task.support_labels, steps=2, lr=0.1, loss_fn=F.mse_loss)
    assert torch.allclose(found[2], functional_call(model, adapted, (task.query,)), atol=1e-5)
    assert not torch.allclose(found[0], found[2])
    assert not found[2].requires_grad


def test_tasks_without_their_dimension() -> None:
    """A single task in place of several is an error that says so."""
    single = Episode(*(part[0] for part in waves(1)))
    with pytest.raises(ValueError, match=r"maml_loss\(\) needs tasks with a leading dimension of tasks"):
        maml_loss(adapt_by_functions)(sine_net(4), single)
    with pytest.raises(ValueError, match=r"adaptation_curve\(\) needs tasks with a leading dimension of tasks"):
        adaptation_curve(sine_net(4), adapt_by_functions, single)
