"""Small networks that the checks of exercise 3 adapt: smooth, in double precision.

A smooth network has a slope everywhere: a check can compare gradients with what a small change of the weights does.
They have no normalisation layers. PyTorch 2.14 gets second derivatives of these wrong under ``vmap``, and a correct
solution may use it: by ``torch.func.jacrev``, for instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Scaled(nn.Module):
    """A layer of its own kind: a linear map whose outputs are multiplied by one learnt number, and then shifted.

    Args:
        features: Number of inputs and outputs.
    """

    shift: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.linear = nn.Linear(features, features)
        self.register_buffer("shift", torch.linspace(-0.5, 0.5, features))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows, float ``(n, features)``, to rows of the same shape."""
        return torch.tanh(self.scale * self.linear(rows) + self.shift)


class _Branched(nn.Module):
    """Modules within modules, a parameter and a buffer of its own, a skip connection, and dropout.

    Args:
        dropout: Probability of its dropout.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(4))
        self.body = nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Sequential(_Scaled(4), nn.Dropout(dropout))})
        self.head = nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows, float ``(n, 3)``, to outputs, float ``(n, 2)``."""
        hidden = self.body["first"](rows) + self.offset
        outputs: Tensor = self.head(hidden + self.body["second"](hidden))
        return outputs


def _images() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2)]

    return nn.Sequential(*block(1, 3), *block(3, 4), nn.Flatten(), nn.Linear(4, 3))


_NETS: dict[str, Callable[[], nn.Module]] = {
    # one weight
    "line": lambda: nn.Linear(1, 1, bias=False),
    # a weight, then two
    "two layers": lambda: nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)),
    "regression": lambda: nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2)),
    "classifier": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    # images, float (n, 1, 4, 4)
    "images": _images,
    "branched": lambda: _Branched(0.0),
    "branched, with dropout": lambda: _Branched(0.5),
}

# name -> loss of predictions and targets; in the last one each of these has a role of its own
LOSSES: dict[str, Callable[..., Tensor]] = {
    "F.cross_entropy": F.cross_entropy,
    "F.mse_loss": F.mse_loss,
    "F.poisson_nll_loss": F.poisson_nll_loss,
}


def new_net(name: str, state: dict[str, Tensor], training: Sequence[str] | None = None) -> nn.Module:
    """Return a network in double precision.

    Args:
        name: Its name in this module.
        state: Its parameters; buffers may be left out, as they are constants.
        training: Names of its modules in train mode, ``""`` for the network itself; ``None`` for all.
    """
    # data are on the CPU, whatever the default device of the notebook is
    with torch.device("cpu"):
        net = _NETS[name]().double()
    net.load_state_dict(state, strict=False)
    for module_name, module in net.named_modules():
        module.training = training is None or module_name in training
    return net


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the name and the shape of each parameter of a network."""
    return {parameter: tuple(tensor.shape) for parameter, tensor in _NETS[name]().named_parameters()}


def modules_of(name: str) -> list[str]:
    """Return the names of the modules of a network; ``""`` is the network itself."""
    return [module for module, _ in _NETS[name]().named_modules()]
