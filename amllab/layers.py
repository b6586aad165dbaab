"""The layers of a model, from input to output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NoReturn, Self

from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a model: a group of parameters, and the modules that hold no others.

    It is a view of the model and no ``nn.Module``: it cannot be called. Of a module's methods it has
    ``requires_grad_()``, ``train()``, ``eval()``, ``parameters()``, ``named_parameters()``, ``buffers()``,
    ``named_buffers()``, ``modules()``, ``named_modules()`` and ``state_dict()``, which change or return what belongs to
    this layer. Names are those of the whole model.

    Attributes:
        name: common prefix of the names of its parameters, such as ``"stages.0.conv2"``.

    >>> import timm, amllab
    >>> layer = layers_of(timm.create_model("net6"))[0]
    >>> layer.requires_grad_(False)
    Layer('stem', 696 parameters)
    >>> [name for name, _ in layer.named_parameters()]
    ['stem.conv.weight', 'stem.norm.weight', 'stem.norm.bias']
    """

    name: str
    _model: nn.Module
    _tensors: frozenset[str]

    def __repr__(self) -> str:
        return f"Layer({self.name!r}, {sum(p.numel() for p in self.parameters()):,} parameters)"

    if not TYPE_CHECKING:  # a type checker knows the attributes

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"a Layer has no attribute {name!r}, as it is a group of parameters and no nn.Module; it has {_PUBLIC}",
                name=name,
                obj=self,
            )

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over pairs of a name, as in ``model.named_parameters()``, and a parameter."""
        return ((name, p) for name, p in self._model.named_parameters() if name in self._tensors)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of this layer, including those that the model itself holds."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over pairs of a name, as in ``model.named_buffers()``, and a buffer, such as a running mean."""
        return ((name, b) for name, b in self._model.named_buffers() if name in self._tensors)

    def buffers(self) -> Iterator[Tensor]:
        """Iterate over the buffers of this layer, such as the running statistics of batch normalization."""
        return (b for _, b in self.named_buffers())

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Iterate over pairs of a name, as in ``model.named_modules()``, and a module; see :meth:`modules`."""
        for prefix, module in self._model.named_modules():
            names = [f"{prefix}.{name}" if prefix else name for name in _tensor_names(module)]
            if names and self._tensors.issuperset(names):
                yield prefix, module

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over the modules whose parameters and buffers all belong to this layer, nested modules included.

        Modules without parameters and buffers, such as activations, belong to no layer.
        """
        return (module for _, module in self.named_modules())

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether gradients are computed for the parameters of this layer, as ``nn.Module.requires_grad_`` does.

        This changes neither the mode of its modules nor what train mode does to their buffers.

        Args:
            requires_grad: Whether its parameters require gradients.

        Returns:
            This layer.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the modules of this layer to train mode, as ``nn.Module.train`` does, until the next such call.

        A later ``model.train()`` sets the mode of all modules of the model, those of this layer too.

        Args:
            mode: ``True`` for train mode, ``False`` for eval mode.

        Returns:
            This layer.
        """
        for module in self.modules():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set the modules of this layer to eval mode; see :meth:`train`."""
        return self.train(False)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of this layer under their names in ``model.state_dict()``.

        As there, the tensors are not copies: clone them to keep their values.
        """
        return {name: tensor for name, tensor in self._model.state_dict().items() if name in self._tensors}


_PUBLIC = ", ".join(
    name if name == "name" else f"{name}()"
    for name in (*Layer.__annotations__, *vars(Layer))
    if not name.startswith("_")
)


def _tensor_names(module: nn.Module) -> Iterator[str]:
    named = chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    return (name for name, _ in named)


def _common_name(names: list[str], index: int, count: int) -> str:
    shared = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or ("stem" if index == 0 else "head" if index == count - 1 else f"layer{index}")


def _classifier(model: nn.Module) -> set[str]:
    """Return the names of the classifier's parameters."""
    # several modules in a model that is distilled from a teacher
    classifier = model.get_classifier()
    modules = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    own = {id(p) for module in modules if isinstance(module, nn.Module) for p in module.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in own}


def layers_of(model: nn.Module) -> list[Layer]:
    """Split a timm model into its layers, from input to output; the last one is the classifier.

    The split is timm's own (``model.group_matcher()``, designed for layer-wise learning rates), so it is defined
    alike for all architectures: the stem, each block, the head. Every parameter belongs to exactly one layer. The
    last layer contains only the classifier; anything between the last block and the classifier belongs to that block.

    Args:
        model: any timm model.

    Returns:
        The layers in order. ``layer.parameters()`` and ``layer.modules()`` give access to their parts; see
        :class:`Layer` for more.

    Raises:
        TypeError: the model does not describe how its layers are grouped.

    >>> import timm, amllab
    >>> [layer.name for layer in layers_of(timm.create_model("net6"))]
    ['stem', 'stages.0.conv1', 'stages.1.conv1', 'stages.2.conv1', 'final_conv', 'head.fc']
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise TypeError(
            f"layers_of() supports only timm models: {type(model).__name__} has no group_matcher(). "
            "Create the model with timm.create_model(name) or amllab.load_backbone(name)."
        )
    names = ((name, name) for name in _tensor_names(model))
    groups = list(group_with_matcher(names, matcher(coarse=False)).values())
    head = _classifier(model)
    if head:
        neck = [name for name in groups[-1] if name not in head]
        groups[-2:] = [groups[-2] + neck, sorted(head)]
    return [Layer(_common_name(group, i, len(groups)), model, frozenset(group)) for i, group in enumerate(groups)]
