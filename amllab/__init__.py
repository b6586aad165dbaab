"""Course library of the Advanced Machine Learning labs, imported by their notebooks.

>>> from amllab import load_backbone, layers_of
>>> len(layers_of(load_backbone("net12")))
12

Names are imported on first use, so that commands that need no model, such as ``autograder scores``, start without
loading PyTorch. The course's backbones are registered with timm as soon as both packages are imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# imported eagerly: a later import of the submodule of the same name would replace the function
from amllab.preflight import preflight
from amllab.registration import register_backbones

if TYPE_CHECKING:
    from amllab import plots
    from amllab.checks import check
    from amllab.downloads import DataUnavailable
    from amllab.kept_models import keep, kept
    from amllab.kit.scripted_model import scripted_training
    from amllab.layers import Layer, layers_of
    from amllab.loading import BackboneUnavailable, UnknownBackbone, load_backbone
    from amllab.numerics import best_device, fast_math
    from amllab.photographs import cifar10_photographs
    from amllab.progress import Epochs
    from amllab.representations import extract_features, knn_accuracy, linear_evaluation
    from amllab.reptiles import reptile_loaders
    from amllab.species import draw_species
    from amllab.training import evaluate, predict
    from amllab.views import RandomViews

__all__ = [
    "BackboneUnavailable",
    "DataUnavailable",
    "Epochs",
    "Layer",
    "RandomViews",
    "UnknownBackbone",
    "best_device",
    "check",
    "cifar10_photographs",
    "draw_species",
    "evaluate",
    "extract_features",
    "fast_math",
    "keep",
    "kept",
    "knn_accuracy",
    "layers_of",
    "linear_evaluation",
    "load_backbone",
    "plots",
    "predict",
    "preflight",
    "reptile_loaders",
    "scripted_training",
]

_PLACES = {
    "BackboneUnavailable": "amllab.loading",
    "DataUnavailable": "amllab.downloads",
    "Epochs": "amllab.progress",
    "Layer": "amllab.layers",
    "RandomViews": "amllab.views",
    "UnknownBackbone": "amllab.loading",
    "best_device": "amllab.numerics",
    "check": "amllab.checks.notebook",
    "cifar10_photographs": "amllab.photographs",
    "draw_species": "amllab.species",
    "evaluate": "amllab.training",
    "extract_features": "amllab.representations",
    "fast_math": "amllab.numerics",
    "keep": "amllab.kept_models",
    "kept": "amllab.kept_models",
    "knn_accuracy": "amllab.representations",
    "layers_of": "amllab.layers",
    "linear_evaluation": "amllab.representations",
    "load_backbone": "amllab.loading",
    "predict": "amllab.training",
    "reptile_loaders": "amllab.reptiles",
    "scripted_training": "amllab.kit.scripted_model",
}

register_backbones()


def __getattr__(name: str) -> Any:
    if name == "plots":
        return import_module("amllab.plots")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
