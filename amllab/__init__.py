"""The course library of the Advanced Machine Learning labs: what notebooks lean on.

>>> from amllab import load_backbone, layers_of
>>> len(layers_of(load_backbone("net12")))
12
"""

from amllab import plots
from amllab.checks import check
from amllab.checks.transfer_learning.scripted import scripted_training
from amllab.data import reptile_loaders
from amllab.layers import Layer, layers_of
from amllab.loading import BackboneUnavailable, UnknownBackbone, load_backbone
from amllab.numerics import best_device, fast_math
from amllab.preflight import preflight
from amllab.progress import Epochs
from amllab.training import evaluate, predict

__all__ = [
    "BackboneUnavailable",
    "Epochs",
    "Layer",
    "UnknownBackbone",
    "best_device",
    "check",
    "evaluate",
    "fast_math",
    "layers_of",
    "load_backbone",
    "plots",
    "predict",
    "preflight",
    "reptile_loaders",
    "scripted_training",
]
