"""Episodes: small classification tasks with classes that a network has not been trained on.

Episodes come from a function ``sample_episode(labels, n_way, k_shot, n_query, generator)``, and are classified by a
function ``prototypical_loss(support, support_labels, query, query_labels)`` (Snell et al., *Prototypical Networks for
Few-shot Learning*, 2017). Both are arguments here: they are what a notebook writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amllab.confidence import Interval, accuracy, interval_of
from amllab.images import LabelledImages
from amllab.views import normalise

SampleEpisode = Callable[[Tensor, int, int, int, torch.Generator], tuple[Tensor, Tensor, Tensor, Tensor]]
PrototypicalLoss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Augment = Callable[[Tensor], Tensor]


class Episode(NamedTuple):
    """Inputs and targets of a task, or of several tasks with a leading dimension of tasks.

    Attributes:
        support: inputs to learn from, ``(support, ...)``.
        support_labels: their classes ``0 ... n_way - 1``, int64 ``(support,)``, or targets of a regression.
        query: inputs to answer for, ``(query, ...)``.
        query_labels: their classes or targets, as those of the support set.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor


def split_classes(data: LabelledImages, *sizes: int) -> tuple[LabelledImages, ...]:
    """Split images by class: the first classes, the next ones, and so on.

    Args:
        data: images with their labels.
        sizes: number of classes of each part. Classes that are left over are in none.

    Returns:
        The parts, in the order of the classes, each with labels from 0.

    Raises:
        ValueError: a size is below 1, or there are fewer classes than their sum.

    >>> from amllab import draw_species
    >>> train, test = split_classes(draw_species(7, 3, seed=0), 5, 2)
    >>> len(train), test.classes, test.labels.tolist()
    (15, ('species 5', 'species 6'), [0, 0, 0, 1, 1, 1])
    """
    if not sizes or min(sizes) < 1 or sum(sizes) > len(data.classes):
        raise ValueError(
            f"split_classes() needs sizes of at least 1, in all at most the {len(data.classes)} classes, not {sizes}"
        )
    parts, start = [], 0
    for size in sizes:
        own = data.subset(((data.labels >= start) & (data.labels < start + size)).nonzero().squeeze(1))
        names = data.classes[start : start + size]
        parts.append(LabelledImages(own.images, own.labels - start, names, data.source))
        start += size
    return tuple(parts)


def episodes(
    images: Tensor,
    labels: Tensor,
    sample_episode: SampleEpisode,
    *,
    n_way: int = 5,
    k_shot: int = 5,
    n_query: int = 15,
    seed: int = 0,
    augment: Augment | None = None,
) -> Iterator[Episode]:
    """Yield random episodes without end; the same seed yields the same ones.

    Args:
        images: ``(n, 3, h, w)`` in uint8, or inputs of any other type and shape ``(n, ...)``.
        labels: their classes, int64 ``(n,)``.
        sample_episode: returns indices and new labels of a support set, then of a query set.
        n_way: number of classes of an episode.
        k_shot: number of support images of each class.
        n_query: number of query images of each class.
        seed: seed of the generator that ``sample_episode`` gets.
        augment: function from the images of an episode, as they are stored, to what the network gets, such as
            :class:`amllab.RandomViews`. By default, uint8 images are normalised and other inputs stay as they are.

    Yields:
        Episodes of ``n_way * k_shot`` support and ``n_way * n_query`` query inputs.

    Raises:
        ValueError: numbers of images and labels differ, ``sample_episode`` refuses the numbers, or it returns something
            else than indices and labels of this episode.
    """
    if len(images) != len(labels):
        raise ValueError(f"episodes() needs a label for each image, not {len(labels)} labels for {len(images)} images")
    generator = torch.Generator().manual_seed(seed)
    numbers = n_way, k_shot, n_query

    def endless() -> Iterator[Episode]:
        while True:
            support, support_labels, query, query_labels = _sampled(sample_episode, labels, numbers, generator)
            chosen = images[torch.cat([support, query])]
            if augment is not None:
                chosen = augment(chosen)
            elif chosen.dtype == torch.uint8:
                chosen = normalise(chosen)
            yield Episode(chosen[: len(support)], support_labels, chosen[len(support) :], query_labels)

    return endless()


def episode_accuracy(
    features: Tensor,
    labels: Tensor,
    sample_episode: SampleEpisode,
    prototypical_loss: PrototypicalLoss,
    *,
    n_way: int = 5,
    k_shot: int = 5,
    n_query: int = 15,
    episodes: int = 400,
    seed: int = 0,
) -> Interval:
    """Return the accuracy of an encoder in episodes of classes that it may not know, measured on stored features.

    A query belongs to the class whose logit is largest. The same seed gives all encoders the same episodes.

    Args:
        features: float ``(n, d)``, for example from :func:`amllab.extract_features`.
        labels: their classes, int64 ``(n,)``.
        sample_episode: returns indices and new labels of a support set, then of a query set.
        prototypical_loss: returns the loss and the logits ``(query, n_way)`` of an episode.
        n_way: number of classes of an episode.
        k_shot: number of support features of each class.
        n_query: number of query features of each class.
        episodes: number of episodes, at least 2.
        seed: seed of the episodes.

    Returns:
        The mean accuracy, with its 95 % interval over the episodes.

    Raises:
        ValueError: ``episodes`` is below 2, the features are not finite or no matrix, or the functions or their results
            do not fit (see :func:`episodes`).
    """
    if episodes < 2:
        raise ValueError(f"episode_accuracy() needs at least 2 episodes, not {episodes}")
    if len(features) != len(labels):
        raise ValueError(f"there must be a label for each row of features, not {len(labels)} for {len(features)}")
    if features.ndim != 2 or not features.isfinite().all():
        raise ValueError(f"features must be finite numbers of shape (n, d); theirs is {tuple(features.shape)}")
    generator, found = torch.Generator().manual_seed(seed), []
    with torch.no_grad():
        for _ in range(episodes):
            support, support_labels, query, query_labels = _sampled(
                sample_episode, labels, (n_way, k_shot, n_query), generator
            )
            _, logits = _loss_and_logits(
                prototypical_loss, Episode(features[support], support_labels, features[query], query_labels)
            )
            if logits.shape != (len(query), n_way):
                raise ValueError(
                    f"prototypical_loss() returned logits of shape {tuple(logits.shape)}, not {(len(query), n_way)}"
                )
            found.append(accuracy(logits, query_labels))
    return interval_of(torch.stack(found))


def episode_loss(prototypical_loss: PrototypicalLoss) -> Callable[[nn.Module, Episode], Tensor]:
    """Return the loss of an encoder in an episode, for :func:`amllab.meta_train`.

    The encoder computes the features of support and query set as one batch.

    Args:
        prototypical_loss: returns the loss and the logits of an episode of features.

    Returns:
        A function of an encoder and an :class:`Episode` of inputs. It returns the loss, a tensor with one value.
    """

    def loss(model: nn.Module, episode: Episode) -> Tensor:
        features = model(torch.cat([episode.support, episode.query]))
        n = len(episode.support)
        embedded = Episode(features[:n], episode.support_labels, features[n:], episode.query_labels)
        return _loss_and_logits(prototypical_loss, embedded)[0]

    return loss


def _sampled(
    sample_episode: SampleEpisode, labels: Tensor, numbers: tuple[int, int, int], generator: torch.Generator
) -> Episode:
    """Return the indices of an episode in place of its inputs, after a check of their number and type."""
    parts = sample_episode(labels, *numbers, generator)
    n_way, k_shot, n_query = numbers
    sizes = [n_way * k_shot] * 2 + [n_way * n_query] * 2
    if not isinstance(parts, tuple | list) or len(parts) != 4 or not all(isinstance(part, Tensor) for part in parts):
        raise ValueError(
            "sample_episode() must return four tensors: support_index, support_labels, query_index and query_labels"
        )
    if [tuple(part.shape) for part in parts] != [(size,) for size in sizes]:
        raise ValueError(
            f"sample_episode() returned tensors of shapes {[tuple(part.shape) for part in parts]}; "
            f"for {n_way} classes, {k_shot} shots and {n_query} queries, they are {[(size,) for size in sizes]}"
        )
    if any(part.dtype != torch.int64 for part in parts):
        raise ValueError(f"sample_episode() must return int64 tensors, not {[part.dtype for part in parts]}")
    if any(len(part) and not 0 <= int(part.min()) <= int(part.max()) < len(labels) for part in (parts[0], parts[2])):
        raise ValueError(f"sample_episode() returned an index outside of 0 to {len(labels) - 1}")
    return Episode(*parts)


def _loss_and_logits(prototypical_loss: PrototypicalLoss, episode: Episode) -> tuple[Tensor, Tensor]:
    result = prototypical_loss(*episode)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(f"prototypical_loss() must return the loss and the logits, not a {type(result).__name__}")
    return result[0], result[1]
