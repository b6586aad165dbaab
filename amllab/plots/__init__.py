"""Plots of training runs, freezing, predictions, features, meta-learning and distillation.

Every function returns a :class:`Plot`: a matplotlib figure that a notebook shows when it is the last value of a cell
or is passed to ``display``. Each plot has a description in words for readers who cannot see it. The module does not
use pyplot: nothing is shown twice, and pyplot's settings do not change.

:func:`note` adds a text to the titles and descriptions of all plots.

The colours are those of M. Okabe and K. Ito, *Color Universal Design* (2008), which colour-blind people can
distinguish; line style, marker or hatching convey the same information.
"""

from amllab.plots.adaptation_to_tasks import adaptation, sinusoid_fits
from amllab.plots.figure import VERMILLION, Plot, note
from amllab.plots.image_rows import neighbours, views
from amllab.plots.knowledge_distillation import patience, reliability, soft_labels, students
from amllab.plots.layers import frozen, transfer
from amllab.plots.meta_learning import class_numbers, episode, intervals, meta_training
from amllab.plots.predictions import confusion, gallery, images, mistakes
from amllab.plots.self_supervised import ablation, label_efficiency, pretraining, similarities, spectrum
from amllab.plots.training import curves, drift, sweep

__all__ = [
    "VERMILLION",
    "Plot",
    "ablation",
    "adaptation",
    "class_numbers",
    "confusion",
    "curves",
    "drift",
    "episode",
    "frozen",
    "gallery",
    "images",
    "intervals",
    "label_efficiency",
    "meta_training",
    "mistakes",
    "neighbours",
    "note",
    "patience",
    "pretraining",
    "reliability",
    "similarities",
    "sinusoid_fits",
    "soft_labels",
    "spectrum",
    "students",
    "sweep",
    "transfer",
    "views",
]
