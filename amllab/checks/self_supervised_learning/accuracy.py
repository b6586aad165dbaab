"""The accuracy check of exercise 4: its data, the training under a budget, and the evaluation of the encoder.

The species are always the same, since some families of species are easier than others. Their individuals are drawn
again in every run, from a seed that never leaves the grader. The encoder starts from weights that are always the same.
It is a narrow version of net5, so that no stored weights fit it. The grader takes the trained weights, and computes all
features itself.

The score is the mean of two gains over the untrained encoder, both measured on random views of new images. How often is
a view more similar to the other view of its image than to a view of another image? And how often is it more similar to
an image of its species than to one of another species? The first is what views teach, and the second is what that is
good for. Both count all pairs, so that they vary less from run to run than the accuracy of nearest neighbours does.

A submission may use any optimizer, and one learning rate does not suit all. If the first does not reach the gain for
full points, the next ones are tried, each with a separate training, and the best counts. The thresholds and their error
rates were measured with ``autograder calibrate`` (``thresholds.json``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import backbones  # noqa: F401  (registers net5)
from amllab.kit.accuracy import area_under_roc, expect_trained
from amllab.kit.accuracy_views import expect_within_budget
from amllab.numerics import same_numbers
from amllab.protocol.submission import Submission, SubmissionError
from amllab.representations import extract_features
from amllab.seeds import derive
from amllab.species import draw_species
from amllab.views import RandomViews

State = dict[str, Tensor]

WIDTHS = (16, 32, 64)  # channels of the encoder: net5 has 24, 48 and 96
PROJECTED = 64  # outputs of the projector


def new_encoder() -> nn.Module:
    """Return a narrow net5 with random weights: normalised images ``(n, 3, h, w)`` to features ``(n, 64)``."""
    return timm.create_model("net5", widths=WIDTHS)


def new_projector() -> nn.Module:
    """Return a projector with random weights: features ``(n, 64)`` to projections ``(n, 64)``."""
    return nn.Sequential(
        nn.Linear(WIDTHS[-1], 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, PROJECTED)
    )


@lru_cache(maxsize=1)
def start(seed: int) -> tuple[State, State]:
    """Return the weights of encoder and projector before the training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_encoder().state_dict(), new_projector().state_dict()


@dataclass(frozen=True)
class Test:
    """New images as two random views of each, with species, and what the untrained encoder makes of them."""

    views: tuple[Tensor, Tensor]
    labels: Tensor
    untrained: float


@lru_cache(maxsize=1)
def images_of(seed: int, species: int, family: int, n: int, n_test: int, side: int, crop: float, network: int) -> Any:
    """Return the images of a run to train on, uint8 ``(species * n, 3, side, side)``, and the :class:`Test`."""
    individuals = derive(seed, "accuracy", "images")
    data = draw_species(species, n + n_test, family, size=side, individuals=individuals)
    place = torch.arange(len(data.labels)) % (n + n_test)
    generator = torch.Generator().manual_seed(derive(seed, "accuracy", "order"))
    learning = data.images[place < n]
    test, labels = data.images[place >= n], data.labels[place >= n]
    with same_numbers():
        views = RandomViews(generator, crop=(crop, 1.0))
        both = views(test), views(test)
    order = torch.randperm(len(learning), generator=generator)
    return learning[order], Test(both, labels, likeness(start(network)[0], both, labels))


@dataclass(frozen=True)
class Trained:
    """A training: the answer of the probe ``fit``, the budget, and the images to measure on."""

    fitted: dict[str, Any]
    budget: dict[str, Any]
    test: Test


def fit(
    submission: Submission, budget: dict[str, Any], seed: int, attempt: int = 0, *, with_own_loss: bool = True
) -> Trained:
    """Pretrain with one learning rate; fail the check if the encoder is another one afterwards."""
    sizes = ("species", "species_seed", "images", "test_images", "side", "crop", "network_seed")
    images, test = images_of(seed, *(budget[name] for name in sizes))
    encoder, projector = start(budget["network_seed"])
    fitted = submission.ask(
        "fit",
        encoder=encoder,
        projector=projector,
        images=images,
        **{name: budget[name] for name in ("epochs", "batch", "temperature", "crop")},
        lr=budget["learning_rates"][attempt],
        seed=derive(seed, "accuracy", "training", str(attempt)),
        with_own_loss=with_own_loss,
    )
    expect_trained(
        fitted,
        encoder,
        what="encoder",
        how=f"`pretrain(..., epochs={budget['epochs']})`",
        why="this is what all the parts are for",
    )
    return Trained(fitted, budget, test)


def gain(trained: Trained) -> float:
    """Return the gain over the untrained encoder, as a share of the pairs; NaN if a weight is not finite."""
    state = trained.fitted["state"]
    if not all(value.isfinite().all() for value in state.values()):
        return math.nan
    return likeness(state, trained.test.views, trained.test.labels) - trained.test.untrained


def likeness(state: State, views: tuple[Tensor, Tensor], labels: Tensor) -> float:
    """Return the mean of two shares: how often likeness is right about images, and about species.

    Args:
        state: Weights of the encoder.
        views: Two normalised views of each image, float ``(n, 3, h, w)``.
        labels: Species, int64 ``(n,)``.
    """
    encoder = new_encoder()
    encoder.load_state_dict(state)
    same = torch.eye(len(labels), dtype=torch.bool)
    relatives = (labels[:, None] == labels) & ~same
    with same_numbers():
        features = [extract_features(encoder, part) for part in views]
        middle = torch.cat(features).mean(0)
        first, second = (F.normalize(values - middle) for values in features)
        similar = first @ second.T
    both = (similar, similar.T)
    return sum(area_under_roc(one, same) + area_under_roc(one, relatives, ~same) for one in both) / 4


def keeps_to_the_budget(trained: Trained) -> None:
    """Fail the check if the training showed the encoder more views than the budget allows."""
    expect_within_budget(trained.fitted["views"], trained.budget, "encoder", each=2)


def has_the_loss(submission: Submission) -> bool:
    """Return whether ``nt_xent_loss`` has the value of the contrastive loss where that is easy to know.

    If not, that loses points in the exercise on the loss, and another loss is used here.

    Raises:
        SubmissionError: The submission does not answer.
    """
    n, temperature = 4, 0.5
    # views of one image are alike, up to their length, and those of different images are orthogonal
    lengths = torch.tensor([1.0, 2.0, 0.5, 3.0])
    try:
        got = submission.ask("loss", z1=torch.eye(n), z2=lengths.diag(), temperature=temperature, learning=True)
    except SubmissionError as error:
        if error.kind in ("timeout", "died"):
            raise
        return False
    known = math.log(math.exp(1 / temperature) + 2 * n - 2) - 1 / temperature
    value = got.get("value", {}).get("value")
    return value is not None and value.numel() == 1 and abs(float(value) - known) < 1e-3 and bool(got["gradients"])
