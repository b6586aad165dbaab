"""Probes of exercise 3: what an adaptation returns, which gradients pass through it, and what it does to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call

from amllab.checks.meta_learning.maml_nets import LOSSES, new_net
from amllab.checks.meta_learning.maml_returned import Parameters, as_used, by_name, fits, holds, names
from amllab.kit.probing import Raised, State, printed_by, raised, type_name
from amllab.kit.snapshots import Snapshot, snapshot
from amllab.kit.state_dicts import differing, same
from amllab.protocol.lab_probes import probes_of
from amllab.protocol.submission import Functions, capture_error


class Adapted(TypedDict):
    """The result of an adaptation, and the gradients of a query loss.

    Attributes:
        type: Type of what was returned.
        names: Names that were returned, if it is a dictionary.
        lacking: Names of the parameters for which it has no tensor.
        misshapen: Names of those whose tensor has another shape or dtype than the parameter.
        adapted: The parameters as a model computes with them: those that were returned, and the model's own ones in
            place of those that are lacking or have another shape. Tensors without names count in the order of the
            parameters. Empty if there are none.
        gradients: Gradients of the query loss for the model's parameters; those that it does not reach are missing.
        constants: Its gradients for the adapted parameters.
        loss: The query loss as a value of one number, under the name ``"value"``; empty if there is none.
        problem: The error that the query loss or its backward pass raised, as text.
    """

    type: str
    names: list[str]
    lacking: list[str]
    misshapen: list[str]
    adapted: State
    gradients: State
    constants: State
    loss: State
    problem: str


class Left(TypedDict):
    """A model before and after an adaptation.

    Attributes:
        adapted: As of :class:`Adapted`.
        before: The model before the call.
        after: The model after the call.
        replaced: Names of the parameters that are other objects after the call.
        gradients: Names of the parameters with another ``.grad`` than before, or none any more, or one now.
        data: Which of ``inputs`` and ``targets`` were changed in place.
        gradients_enabled: Whether gradients were recorded after the call.
    """

    adapted: State
    before: Snapshot
    after: Snapshot
    replaced: list[str]
    gradients: list[str]
    data: list[str]
    gradients_enabled: bool


class Slopes(TypedDict):
    """Query losses after adaptations from different parameters.

    Attributes:
        losses: Float64 ``(n,)`` under the name ``"value"``, NaN for an adaptation that returned nothing usable.
    """

    losses: State


def adapt(
    functions: Functions,
    *,
    net: str,
    state: Parameters,
    inputs: Tensor,
    targets: Tensor,
    query: dict[str, Tensor],
    loss: str | None,
    arguments: dict[str, Any],
    seed: int = 0,
) -> Adapted | Raised:
    """Call ``maml_adapt``, and compute a query loss with the adapted parameters and its gradients.

    Args:
        functions: Functions of the notebook.
        net: Name of the network.
        state: Its parameters, float64.
        inputs: Support inputs.
        targets: Their targets.
        query: ``inputs`` and ``targets`` of the query set; empty for none.
        loss: Name of ``loss_fn`` in :mod:`amllab.checks.meta_learning.maml_nets`; ``None`` leaves it out of the call.
            The query loss is the same function.
        arguments: Further arguments of the call, by name.
        seed: Seed of the global random numbers.
    """
    model = new_net(net, state)
    own: dict[str, Tensor] = dict(model.named_parameters())
    got = _called(functions, model, inputs, targets, loss, arguments, seed)
    if "error" in got:
        return raised(got)
    found = by_name(got["value"], own)
    used = as_used(found, own)
    answer: Adapted = {
        "type": type_name(got["value"]),
        "names": names(got["value"]),
        "lacking": [name for name in own if not holds(got["value"], name)],
        "misshapen": [name for name, tensor in found.items() if not fits(tensor, own[name])],
        "adapted": _plain(used),
        "gradients": {},
        "constants": {},
        "loss": {},
        "problem": "",
    }
    if not used or not query:
        return answer

    def query_loss(parameters: Parameters) -> Tensor:
        # a fresh network: the submission may have changed the other one
        predictions = functional_call(new_net(net, state), parameters, (query["inputs"],))
        return LOSSES[loss or "F.cross_entropy"](predictions, query["targets"])

    constants = {name: tensor.detach().clone().requires_grad_() for name, tensor in used.items()}

    def differentiate() -> None:
        answer["constants"] = _gradients(query_loss(constants), constants)
        value = query_loss(used)
        answer["loss"] = {"value": value.detach().clone()}
        answer["gradients"] = _gradients(value, own)

    with torch.enable_grad():
        got = capture_error(differentiate)
    if "error" in got:
        answer["problem"] = f"{got['error'][0][:100]}: {got['message']}"
    return answer


def query_losses(
    functions: Functions,
    *,
    net: str,
    states: list[Parameters],
    inputs: Tensor,
    targets: Tensor,
    query: dict[str, Tensor],
    loss: str,
    arguments: dict[str, Any],
    seed: int = 0,
) -> Slopes | Raised:
    """Call ``maml_adapt`` from several states of a network; return the query loss after each call.

    Args:
        functions: Functions of the notebook.
        net: Name of the network.
        states: Its parameters, float64, for each call.
        inputs: As of :func:`adapt`, and so are the other arguments.
        targets: See there.
        query: See there.
        loss: See there.
        arguments: See there.
        seed: Seed of the global random numbers, the same for each call.
    """
    losses = []
    for state in states:
        model = new_net(net, state)
        own: dict[str, Tensor] = dict(model.named_parameters())
        got = _called(functions, model, inputs, targets, loss, arguments, seed)
        if "error" in got:
            return raised(got)
        used = _plain(as_used(by_name(got["value"], own), own))
        value = torch.tensor(float("nan"), dtype=torch.float64)
        if used:
            with torch.no_grad():
                predictions = functional_call(new_net(net, state), used, (query["inputs"],))
                value = LOSSES[loss](predictions, query["targets"])
        losses.append(value)
    return {"losses": {"value": torch.stack(losses)}}


def left(
    functions: Functions,
    *,
    net: str,
    state: Parameters,
    training: list[str],
    earlier: Parameters,
    inputs: Tensor,
    targets: Tensor,
    loss: str,
    arguments: dict[str, Any],
    seed: int = 0,
) -> Left | Raised:
    """Call ``maml_adapt`` and observe what the call leaves behind in the model.

    Args:
        functions: Functions of the notebook.
        net: As of :func:`adapt`, and so are the other arguments.
        state: See there.
        training: Names of the modules in train mode; ``""`` is the network itself.
        earlier: Gradients that the parameters have before the call.
        inputs: See there.
        targets: See there.
        loss: See there.
        arguments: See there.
        seed: See there.
    """
    model = new_net(net, state, training)
    own: dict[str, Tensor] = dict(model.named_parameters())
    for name, gradient in earlier.items():
        own[name].grad = gradient.clone()
    before = snapshot(model)
    data = {"inputs": inputs.clone(), "targets": targets.clone()}
    got = _called(functions, model, data["inputs"], data["targets"], loss, arguments, seed, copied=False)
    enabled = bool(got.pop("gradients_enabled"))
    if "error" in got:
        return raised(got)
    after = dict(model.named_parameters())
    return {
        "adapted": _plain(as_used(by_name(got["value"], own), own)),
        "before": before,
        "after": snapshot(model),
        "replaced": [name for name, parameter in own.items() if after.get(name) is not parameter],
        "gradients": [name for name in own if not _same_gradient(earlier.get(name), _gradient(after.get(name)))],
        "data": differing({"inputs": inputs, "targets": targets}, data),
        "gradients_enabled": enabled,
    }


def printed(functions: Functions, *, probe: str, arguments: dict[str, Any]) -> str:
    """Return what the functions print when another probe of this lab puts its question."""
    asked = getattr(probes_of("meta_learning"), probe)
    return printed_by(lambda: asked(functions, **arguments))


def _called(
    functions: Functions,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: str | None,
    arguments: Mapping[str, Any],
    seed: int,
    *,
    copied: bool = True,
) -> dict[str, Any]:
    """Return the answer of a call as :func:`capture_error` does, and whether gradients were enabled after it."""
    given = dict(arguments) if loss is None else {**arguments, "loss_fn": LOSSES[loss]}
    data = (inputs.clone(), targets.clone()) if copied else (inputs, targets)

    def call() -> Any:
        try:
            return functions.maml_adapt(model, *data, **given)
        except NotImplementedError as error:
            # of an operation of torch, such as a softmax of class numbers; any other one is that of the stub
            if "not implemented for" not in str(error):
                raise
            raise RuntimeError(str(error)).with_traceback(error.__traceback__) from None

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        got = capture_error(call)
        enabled = torch.is_grad_enabled()
    return {**got, "gradients_enabled": enabled}


def _plain(tensors: Parameters) -> Parameters:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _gradients(value: Tensor, parameters: Parameters) -> Parameters:
    """Return the gradients of a value for the parameters that it depends on."""
    if not value.requires_grad:
        return {}
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return {
        name: gradient.detach().clone()
        for name, gradient in zip(parameters, found, strict=True)
        if gradient is not None
    }


def _gradient(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None or parameter.grad is None else parameter.grad.detach()


def _same_gradient(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or same(one, other)
