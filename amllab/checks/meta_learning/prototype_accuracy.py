"""The first part of the accuracy check: an encoder learns from episodes, and is measured on new species.

The species are always the same, since some families of species are easier than others. Their individuals are drawn
again in every run, from a seed that never leaves the grader. The encoder starts from weights that are always the same.
It is a narrow version of net5, so that no stored weights fit it. The grader takes the trained weights, and computes all
features itself.

The score is a gain over the untrained encoder: how often is an image more similar to an image of its species than to
one of another species? It counts all pairs, so that it varies less from run to run than the accuracy of episodes does.

The training loop is the library's. The submission's ``sample_episode`` and ``prototypical_loss`` work in it.
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
from amllab.checks import expect
from amllab.kit.accuracy import area_under_roc, expect_trained
from amllab.numerics import same_numbers
from amllab.protocol.submission import Submission, SubmissionError
from amllab.representations import extract_features
from amllab.seeds import derive
from amllab.species import draw_species
from amllab.views import normalise

State = dict[str, Tensor]

WIDTHS = (16, 32, 64)  # channels of the encoder: net5 has 24, 48 and 96
EPISODE = ("support_index", "support_labels", "query_index", "query_labels")


def new_encoder() -> nn.Module:
    """Return a narrow net5 with random weights: normalised images ``(n, 3, h, w)`` to features ``(n, 64)``."""
    return timm.create_model("net5", widths=WIDTHS)


@lru_cache(maxsize=1)
def start(seed: int) -> State:
    """Return the weights of the encoder before the training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_encoder().state_dict()


@dataclass(frozen=True)
class Test:
    """Normalised images of species that no training has seen, and what the untrained encoder makes of them."""

    images: Tensor
    labels: Tensor
    untrained: float


@lru_cache(maxsize=1)
def images_of(seed: int, species: int, others: int, family: int, n: int, n_test: int, side: int, network: int) -> Any:
    """Return the images of a run to train on, uint8 ``(species * n, 3, side, side)``, and the :class:`Test`."""
    individuals, most = derive(seed, "accuracy", "images"), max(n, n_test)
    data = draw_species(species + others, most, family, size=side, individuals=individuals)
    place = torch.arange(len(data.labels)) % most
    learning = (data.labels < species) & (place < n)
    testing = (data.labels >= species) & (place < n_test)
    images, labels = normalise(data.images[testing]), data.labels[testing]
    return data.images[learning], Test(images, labels, likeness(start(network), images, labels))


def episodes_of_checks(seed: int, budget: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Return the episodes of a training, for a submission that samples none: its images form a rectangle."""
    generator = torch.Generator().manual_seed(seed)
    way, shot, query = (budget[name] for name in ("n_way", "k_shot", "n_query"))
    found = []
    for _ in range(budget["steps"]):
        # random numbers for all images: the species with the largest sums, and in each row the first images
        numbers = torch.rand(budget["species"], budget["images"], generator=generator)
        chosen = numbers.sum(1).topk(way).indices
        order = chosen[:, None] * budget["images"] + numbers[chosen].argsort(1)
        support, rest = order[:, :shot].flatten(), order[:, shot : shot + query].flatten()
        rows = torch.arange(way)[:, None]
        names = {"support_labels": rows.expand(-1, shot).flatten(), "query_labels": rows.expand(-1, query).flatten()}
        found.append({"support_index": support, "query_index": rest, **names})
    return found


@dataclass(frozen=True)
class Trained:
    """A training: the answer of the probe ``fit_encoder``, the budget, and the images to measure on."""

    fitted: dict[str, Any]
    budget: dict[str, Any]
    test: Test


def fit(submission: Submission, budget: dict[str, Any], seed: int, *, with_own_episodes: bool = True) -> Trained:
    """Train the encoder; fail the check if that raises an error, or if the encoder is another one afterwards."""
    sizes = ("species", "test_species", "species_seed", "images", "test_images", "side", "network_seed")
    images, test = images_of(seed, *(budget[name] for name in sizes))
    encoder = start(budget["network_seed"])
    own_seed = derive(seed, "accuracy", "episodes")
    fitted = submission.ask(
        "fit_encoder",
        encoder=encoder,
        images=images,
        labels=torch.arange(budget["species"]).repeat_interleave(budget["images"]),
        **{name: budget[name] for name in ("steps", "n_way", "k_shot", "n_query", "learning_rate")},
        seed=own_seed,
        episodes=[] if with_own_episodes else episodes_of_checks(own_seed, budget),
    )
    expect_trained(
        fitted,
        encoder,
        what="encoder",
        how=f"`prototypical_loss` on {budget['steps']} episodes",
        why="this is what episodes and loss are for",
    )
    return Trained(fitted, budget, test)


def gain(trained: Trained) -> float:
    """Return the gain over the untrained encoder, as a share of the pairs; NaN if a weight is not finite."""
    state = trained.fitted["state"]
    if not all(value.isfinite().all() for value in state.values()):
        return math.nan
    return likeness(state, trained.test.images, trained.test.labels) - trained.test.untrained


def likeness(state: State, images: Tensor, labels: Tensor) -> float:
    """Return how often an image of the same species is more similar than one of another species.

    This is the mean, over all images, of the area under the ROC curve.

    Args:
        state: Weights of the encoder.
        images: Normalised images, float ``(n, 3, h, w)``.
        labels: Species, int64 ``(n,)``.
    """
    encoder = new_encoder()
    encoder.load_state_dict(state)
    with same_numbers():
        features = extract_features(encoder, images)
        features = F.normalize(features - features.mean(0))
        similar = features @ features.T
    itself = torch.eye(len(labels), dtype=torch.bool)
    return area_under_roc(similar, (labels[:, None] == labels) & ~itself, ~itself)


def keeps_to_the_budget(trained: Trained) -> None:
    """Fail the check if the training showed the encoder more images than the budget allows."""
    budget, seen = trained.budget, trained.fitted["images"]
    most = budget["steps"] * budget["n_way"] * (budget["k_shot"] + budget["n_query"])
    expect(
        seen <= most,
        expected=f"{budget['steps']} episodes, of {budget['n_way']} classes with {budget['k_shot']} + "
        f"{budget['n_query']} images: {most:,} images",
        seen=f"{seen:,} images shown to the encoder in training",
        why="everyone trains under the same budget",
        symptom="more images than the budget",
    )


def samples_episodes(submission: Submission) -> bool:
    """Return whether ``sample_episode`` returns episodes that the training can work with.

    If not, that loses points in the exercise on episodes, and episodes of the checks are used here.

    Raises:
        SubmissionError: The submission does not answer.
    """
    classes, each, draws = 5, 6, 100
    sizes = {"n_way": 3, "k_shot": 2, "n_query": 2}
    labels = torch.arange(classes).repeat_interleave(each)
    try:
        got = submission.ask("some_episodes", labels=labels, **sizes, seed=3, draws=draws)
    except SubmissionError as error:
        if error.kind in ("timeout", "died"):
            raise
        return False
    if "error" in got or not all(_valid(episode, labels, **sizes) for episode in got):
        return False
    # a right function leaves out any of the images with a probability of less than 1 in 10 million
    supports, queries = (
        torch.cat([episode[name] for episode in got]).unique() for name in ("support_index", "query_index")
    )
    return len(supports) == len(queries) == len(labels)


def _valid(episode: dict[str, Tensor], labels: Tensor, n_way: int, k_shot: int, n_query: int) -> bool:
    """Return whether an episode has different images, as many as were asked for, and new labels that name classes."""
    support, support_labels, rest, rest_labels = (episode[name].tolist() for name in EPISODE)
    images, new = [*support, *rest], [*support_labels, *rest_labels]
    names = range(n_way)
    if sorted(support_labels) != sorted([*names] * k_shot) or sorted(rest_labels) != sorted([*names] * n_query):
        return False
    if (len(support), len(rest)) != (len(support_labels), len(rest_labels)):
        return False
    if len(set(images)) < len(images) or not all(0 <= i < len(labels) for i in images):
        return False
    # as many pairs as classes: one class for each new label, and one new label for each class
    pairs = {(name, int(labels[i])) for i, name in zip(images, new, strict=True)}
    return len(pairs) == n_way == len({label for _, label in pairs})
