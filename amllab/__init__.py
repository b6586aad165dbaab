"""Course library of the Advanced Machine Learning labs, imported by their notebooks.

>>> from amllab import load_backbone, layers_of
>>> len(layers_of(load_backbone("net12")))
12

Names are imported on first use, so that commands that need no model, such as ``autograder scores``, start without
loading PyTorch. The course's backbones are registered with timm as soon as both packages are imported.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

# imported eagerly: a later import of the submodule of the same name would replace the function
from amllab.preflight import preflight
from amllab.registration import register_backbones

if TYPE_CHECKING:
    from amllab import plots
    from amllab.checks import check, check_all
    from amllab.confidence import Interval, accuracy, interval_of
    from amllab.distillation import (
        PlainAnswers,
        RememberedAnswers,
        compare_models,
        distillation_loader,
        draw_reptiles,
        hide_labels,
        logits_of,
    )
    from amllab.downloads import DataUnavailable
    from amllab.few_shot import Episode, episode_accuracy, episode_loss, episodes, split_classes
    from amllab.few_shot_photographs import cifar_fs
    from amllab.kept_models import keep, kept, load_teacher
    from amllab.kit.scripted_model import scripted_training
    from amllab.layers import Layer, layers_of
    from amllab.loading import BackboneUnavailable, UnknownBackbone, load_backbone
    from amllab.meta_tasks import conv4, image_tasks, sine_net, sinusoids
    from amllab.meta_training import adaptation_curve, adapted_outputs, maml_loss, meta_train
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
    "Episode",
    "Epochs",
    "Interval",
    "Layer",
    "PlainAnswers",
    "RandomViews",
    "RememberedAnswers",
    "UnknownBackbone",
    "accuracy",
    "adaptation_curve",
    "adapted_outputs",
    "best_device",
    "check",
    "check_all",
    "cifar10_photographs",
    "cifar_fs",
    "compare_models",
    "conv4",
    "distillation_loader",
    "draw_reptiles",
    "draw_species",
    "episode_accuracy",
    "episode_loss",
    "episodes",
    "evaluate",
    "extract_features",
    "fast_math",
    "hide_labels",
    "image_tasks",
    "interval_of",
    "keep",
    "kept",
    "knn_accuracy",
    "layers_of",
    "linear_evaluation",
    "load_backbone",
    "load_teacher",
    "logits_of",
    "maml_loss",
    "meta_train",
    "plots",
    "predict",
    "preflight",
    "reptile_loaders",
    "scripted_training",
    "sine_net",
    "sinusoids",
    "split_classes",
]

_PLACES = {
    "BackboneUnavailable": "amllab.loading",
    "DataUnavailable": "amllab.downloads",
    "Episode": "amllab.few_shot",
    "Epochs": "amllab.progress",
    "Interval": "amllab.confidence",
    "Layer": "amllab.layers",
    "PlainAnswers": "amllab.distillation",
    "RandomViews": "amllab.views",
    "RememberedAnswers": "amllab.distillation",
    "UnknownBackbone": "amllab.loading",
    "accuracy": "amllab.confidence",
    "adaptation_curve": "amllab.meta_training",
    "adapted_outputs": "amllab.meta_training",
    "best_device": "amllab.numerics",
    "check": "amllab.checks.notebook",
    "check_all": "amllab.checks.all_exercises",
    "cifar10_photographs": "amllab.photographs",
    "cifar_fs": "amllab.few_shot_photographs",
    "compare_models": "amllab.distillation",
    "conv4": "amllab.meta_tasks",
    "distillation_loader": "amllab.distillation",
    "draw_reptiles": "amllab.distillation",
    "draw_species": "amllab.species",
    "episode_accuracy": "amllab.few_shot",
    "episode_loss": "amllab.few_shot",
    "episodes": "amllab.few_shot",
    "evaluate": "amllab.training",
    "extract_features": "amllab.representations",
    "fast_math": "amllab.numerics",
    "hide_labels": "amllab.distillation",
    "image_tasks": "amllab.meta_tasks",
    "interval_of": "amllab.confidence",
    "keep": "amllab.kept_models",
    "kept": "amllab.kept_models",
    "knn_accuracy": "amllab.representations",
    "layers_of": "amllab.layers",
    "linear_evaluation": "amllab.representations",
    "load_backbone": "amllab.loading",
    "load_teacher": "amllab.kept_models",
    "logits_of": "amllab.distillation",
    "maml_loss": "amllab.meta_training",
    "meta_train": "amllab.meta_training",
    "predict": "amllab.training",
    "reptile_loaders": "amllab.reptiles",
    "scripted_training": "amllab.kit.scripted_model",
    "sine_net": "amllab.meta_tasks",
    "sinusoids": "amllab.meta_tasks",
    "split_classes": "amllab.few_shot",
}

# tqdm.auto, which timm imports, says this in a notebook without ipywidgets; bars of text work there
warnings.filterwarnings("ignore", message="IProgress not found")
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
