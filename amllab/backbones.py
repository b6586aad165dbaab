"""The course's backbones, registered with timm: ``net12`` (12 layers), ``net6`` (6 layers) and ``net5`` (5 layers).

All are small convolutional networks for 32x32 images, pretrained by ``python -m amllab.pretrain``: ``net12`` and
``net6`` on the labelled images of CIFAR-10, ``net5`` on images without labels. ``net12.reptiles`` is a net12 that was
then fine-tuned on drawn reptiles. ``net12`` has residual branches. The family follows two sources: the residual block
of He et al., *Deep Residual Learning for Image Recognition* (CVPR 2016), and the layout "convolution, pooling, two
convolutions with a skip" of the fast CIFAR-10 networks of Page, *How to Train Your ResNet* (2018).

>>> import timm, amllab
>>> timm.create_model("net12", pretrained=True, num_classes=5).num_classes
5
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

Activation = Callable[[], nn.Module]

WEIGHTS = Path(__file__).parent / "weights"


class ConvNormAct(nn.Module):
    """Convolution (3x3, stride 1), optional 2x2 max pooling, batch normalisation and optional activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        pool: bool = False,
        act_layer: Activation = nn.GELU,
    ) -> None:
        super().__init__()
        padding = (kernel_size - stride + 1) // 2  # the side of the output is that of the input, divided by the stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / d, w / d)``; pooling doubles d = stride."""
        out: Tensor = self.act(self.norm(self.pool(self.conv(x))))
        return out


class Stage(nn.Module):
    """A convolution that halves the resolution, followed by a residual branch of two if ``residual`` is set."""

    def __init__(self, in_channels: int, out_channels: int, *, residual: bool, act_layer: Activation) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, pool=True, act_layer=act_layer)
        self.residual = residual
        if residual:
            self.conv2 = ConvNormAct(out_channels, out_channels, act_layer=act_layer)
            self.conv3 = ConvNormAct(out_channels, out_channels, act_layer=nn.Identity)
            self.act = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / 2, w / 2)``."""
        x = self.conv1(x)
        return self.act(x + self.conv3(self.conv2(x))) if self.residual else x


class CifarNet(nn.Module):
    """Convolutional network for small images, with or without residual branches.

    The network maps images ``(batch, in_chans, height, width)`` to logits ``(batch, num_classes)``.

    Args:
        widths: numbers of channels of the stem and of each stage.
        residual: whether each stage has a residual branch (three convolutions) or not (one).
        stem_size: side length of the kernel of the first convolution.
        stem_stride: its stride.
        act_layer: makes the activations.
        num_classes: number of outputs of the classifier; 0 for no classifier.
        in_chans: number of channels of the input images.
        global_pool: timm's name for the pooling before the classifier.
        drop_rate: dropout probability before the classifier.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        residual: bool,
        stem_size: int = 3,
        stem_stride: int = 1,
        act_layer: Activation = nn.GELU,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = widths[-1]
        self.stem = ConvNormAct(in_chans, widths[0], kernel_size=stem_size, stride=stem_stride, act_layer=act_layer)
        pairs = itertools.pairwise(widths)
        self.stages = nn.Sequential(*(Stage(i, o, residual=residual, act_layer=act_layer) for i, o in pairs))
        self.final_conv = ConvNormAct(widths[-1], widths[-1], act_layer=act_layer)
        self.head = ClassifierHead(widths[-1], num_classes, pool_type=global_pool, drop_rate=drop_rate)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Describe the layers to timm, from input to output; parameters without a match (the head) come last."""
        stage = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.conv(\d+)"
        return {"stem": r"^stem", "blocks": [(stage, None), (r"^final_conv", (1000,))]}

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one with ``num_classes`` outputs."""
        self.num_classes = num_classes
        self.head.reset(num_classes, pool_type=global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to feature maps.

        Shapes are ``(batch, in_chans, h, w)`` and ``(batch, num_features, h / d, w / d)``, where d is
        ``stem_stride * 2**stages``.
        """
        features: Tensor = self.final_conv(self.stages(self.stem(x)))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map feature maps to logits; to pooled features if ``pre_logits`` is set."""
        out: Tensor = self.head(x, pre_logits=pre_logits)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, in_chans, h, w)`` to logits ``(batch, num_classes)``."""
        return self.forward_head(self.forward_features(x))


def _cfg(name: str, num_classes: int = 10) -> dict[str, Any]:
    return {
        "file": str(WEIGHTS / f"{name}.safetensors"),
        "num_classes": num_classes,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": CIFAR10_MEAN,
        "std": CIFAR10_STD,
        "first_conv": "stem.conv",
        "classifier": "head.fc",
        "license": "mit",
        "origin_url": "",
    }


default_cfgs = generate_default_cfgs(
    {
        "net12.cifar10": _cfg("net12"),
        # fine-tuned on drawn reptiles
        "net12.reptiles": _cfg("net12-reptiles", num_classes=5),
        "net6.cifar10": _cfg("net6"),
        # encoders without a classifier: the first is the default
        "net5.ssl_cifar10": _cfg("net5-ssl_cifar10", num_classes=0),
        "net5.ssl_species": _cfg("net5-ssl_species", num_classes=0),
    }
)


def _create(name: str, pretrained: bool, **kwargs: Any) -> CifarNet:
    return build_model_with_cfg(CifarNet, name, pretrained, **kwargs)


@register_model
def net12(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Create a network of 12 layers and 2.5 M parameters.

    The layers are the stem, three residual stages of three convolutions each, one convolution and the head.
    """
    return _create("net12", pretrained, **{"widths": (24, 48, 128, 256), "residual": True, **kwargs})


@register_model
def net6(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Create a network of 6 layers and 0.4 M parameters.

    The layers are the stem, three stages of one convolution each, one convolution and the head.
    """
    return _create("net6", pretrained, **{"widths": (24, 48, 96, 160), "residual": False, **kwargs})


@register_model
def net5(pretrained: bool = False, **kwargs: Any) -> CifarNet:
    """Create an encoder of 4 layers and 0.14 M parameters, fast enough to be pretrained in a notebook.

    The layers are the stem (4x4 patches with stride 2), two stages of one convolution each and one convolution. By
    default there is no classifier, and the outputs are features ``(batch, 96)``; with ``num_classes`` above 0, the
    classifier is the fifth layer.
    """
    stem = {"stem_size": 4, "stem_stride": 2}
    relu = partial(nn.ReLU, inplace=True)  # a fifth more images a second than with GELU
    return _create(
        "net5", pretrained, **{"widths": (24, 48, 96), "residual": False, "act_layer": relu, **stem, **kwargs}
    )
