"""Episodes, and the accuracy of an encoder in them."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amllab import Episode, RandomViews, draw_species, episode_accuracy, episode_loss, episodes, split_classes
from amllab.images import LabelledImages
from amllab.views import normalise
from tests.helpers.few_shot import prototypical_loss, sample_episode

CLASSES, EACH = 8, 10


def numbered() -> tuple[Tensor, Tensor]:
    """Return inputs that tell their class and their number, in random order, with labels."""
    order = torch.randperm(CLASSES * EACH, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(CLASSES).repeat_interleave(EACH)[order]
    return torch.stack([labels.float(), order.float()], 1), labels


def test_parts_share_no_class() -> None:
    """Each part has the images of its own classes, in their order, with labels from 0."""
    data = draw_species(7, 3, seed=0)
    mixed = data.subset(torch.randperm(len(data), generator=torch.Generator().manual_seed(0)))
    parts = split_classes(mixed, 4, 1, 1)
    assert [part.classes for part in parts] == [data.classes[:4], data.classes[4:5], data.classes[5:6]]
    start = 0
    for part in parts:
        chosen = (mixed.labels >= start) & (mixed.labels < start + len(part.classes))
        assert torch.equal(part.images, mixed.images[chosen])
        assert torch.equal(part.labels + start, mixed.labels[chosen])
        assert part.source == data.source
        start += len(part.classes)


@pytest.mark.parametrize("sizes", [(), (0, 3), (4, -1), (5, 3)])
def test_impossible_parts(sizes: tuple[int, ...]) -> None:
    """Sizes that are not positive or exceed the classes are refused."""
    data = LabelledImages(torch.zeros(7, 3, 8, 8), torch.arange(7), tuple("abcdefg"), "")
    with pytest.raises(ValueError, match="the 7 classes"):
        split_classes(data, *sizes)


def test_episodes_have_inputs_and_new_labels_of_the_same_images() -> None:
    """Inputs and labels of an episode belong together, and support and query do not overlap."""
    inputs, labels = numbered()
    for episode in islice(episodes(inputs, labels, sample_episode, n_way=4, k_shot=2, n_query=3), 20):
        assert [len(part) for part in episode] == [8, 8, 12, 12]
        pairs = [*zip(episode.support[:, 0].tolist(), episode.support_labels.tolist(), strict=True)]
        pairs += zip(episode.query[:, 0].tolist(), episode.query_labels.tolist(), strict=True)
        assert len(set(pairs)) == 4
        numbers = torch.cat([episode.support[:, 1], episode.query[:, 1]])
        assert len(numbers.unique()) == 20


def test_seed_determines_the_episodes() -> None:
    """The same seed yields the same episodes in a row, another seed others."""
    inputs, labels = numbered()

    def first(seed: int) -> list[Episode]:
        return list(islice(episodes(inputs, labels, sample_episode, n_query=5, seed=seed), 3))

    one, again, other = first(1), first(1), first(2)
    assert all(
        torch.equal(a.support, b.support) and torch.equal(a.query, b.query) for a, b in zip(one, again, strict=True)
    )
    assert not torch.equal(one[0].query, other[0].query)
    assert not torch.equal(one[0].query, one[1].query)


def test_images_are_normalised_or_augmented() -> None:
    """Images in uint8 are normalised, unless a function turns them into inputs."""
    data = draw_species(5, 4, seed=0)

    def first(**options: Any) -> Episode:
        return next(episodes(data.images, data.labels, sample_episode, n_way=3, k_shot=1, n_query=2, **options))

    stored = first(augment=lambda images: images)
    assert stored.support.dtype == torch.uint8
    assert torch.equal(first().support, normalise(stored.support))
    assert torch.equal(first().query, normalise(stored.query))
    views = first(augment=RandomViews(torch.Generator().manual_seed(0)))
    assert views.query.shape == stored.query.shape
    assert not torch.allclose(views.query, normalise(stored.query), atol=0.1)


def test_accuracy_of_episodes() -> None:
    """Separate classes are recognised, features without information are guessed; all encoders get the same episodes."""
    _, labels = numbered()
    noise = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(1))
    clear = 10 * torch.eye(CLASSES)[labels]
    options: dict[str, Any] = {"n_query": 5, "episodes": 200}
    assert episode_accuracy(clear, labels, sample_episode, prototypical_loss, **options) == (1.0, 0.0)
    guessed = episode_accuracy(noise, labels, sample_episode, prototypical_loss, **options)
    assert abs(guessed.mean - 0.2) < 0.05
    assert 0 < guessed.half_width < 0.03
    assert episode_accuracy(noise, labels, sample_episode, prototypical_loss, **options) == guessed
    assert episode_accuracy(noise, labels, sample_episode, prototypical_loss, seed=1, **options) != guessed
    assert episode_accuracy(7 * noise + 3, labels, sample_episode, prototypical_loss, **options) == guessed
    few = episode_accuracy(noise, labels, sample_episode, prototypical_loss, n_way=2, k_shot=1, n_query=5)
    assert abs(few.mean - 0.5) < 0.05


def test_accuracy_is_that_of_the_largest_logit() -> None:
    """The loss does not count, and no gradient is computed."""
    seen: list[bool] = []

    def always_first(support: Tensor, support_labels: Tensor, query: Tensor, query_labels: Tensor) -> Any:
        seen.append(torch.is_grad_enabled())
        return None, torch.eye(5)[torch.zeros(len(query), dtype=torch.long)]

    inputs, labels = numbered()
    found = episode_accuracy(inputs, labels, sample_episode, always_first, n_query=3, episodes=4)
    assert found == (pytest.approx(0.2), 0.0)
    assert seen == [False] * 4


def test_loss_of_an_episode() -> None:
    """The encoder sees support and query as one batch, and its gradient is that of the loss."""
    inputs, labels = numbered()
    episode = next(episodes(inputs, labels, sample_episode, n_query=4))
    model = nn.Linear(2, 3)
    sizes: list[int] = []
    model.register_forward_hook(lambda _module, given, _out: sizes.append(len(given[0])))
    value = episode_loss(prototypical_loss)(model, episode)
    assert sizes == [25 + 20]
    wanted, _ = prototypical_loss(
        model(episode.support), episode.support_labels, model(episode.query), episode.query_labels
    )
    assert torch.allclose(value, wanted)
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in (value, wanted)]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_errors_of_sample_episode_arrive() -> None:
    """An error of the notebook's own function is not hidden."""

    def refuses(*_: Any) -> Any:
        raise ValueError("too few classes")

    inputs, labels = numbered()
    with pytest.raises(ValueError, match="too few classes"):
        next(episodes(inputs, labels, refuses))


ZEROS = torch.zeros(25, dtype=torch.long), torch.zeros(75, dtype=torch.long)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "must return four tensors: support_index, support_labels, query_index and query_labels"),
        (ZEROS, "must return four tensors"),
        ((ZEROS[0].tolist(),) * 4, "must return four tensors"),
        (
            (ZEROS[0], ZEROS[0], ZEROS[0], ZEROS[0]),
            r"shapes \[\(25,\), \(25,\), \(25,\), \(25,\)\]; for 5 classes, 5 shots",
        ),
        ((ZEROS[0].view(5, 5), ZEROS[0], ZEROS[1], ZEROS[1]), r"shapes \[\(5, 5\)"),
        ((ZEROS[0].float(), ZEROS[0], ZEROS[1], ZEROS[1]), "must return int64 tensors"),
        ((ZEROS[0], ZEROS[0], ZEROS[1] + 80, ZEROS[1]), "an index outside of 0 to 79"),
        ((ZEROS[0] - 1, ZEROS[0], ZEROS[1], ZEROS[1]), "an index outside of 0 to 79"),
    ],
)
def test_episodes_that_do_not_fit(result: Any, message: str) -> None:
    """The error says what `sample_episode` returned, and what is needed."""
    inputs, labels = numbered()
    for use in (
        lambda: next(episodes(inputs, labels, lambda *_: result)),
        lambda: episode_accuracy(inputs, labels, lambda *_: result, prototypical_loss),
    ):
        with pytest.raises(ValueError, match=rf"sample_episode\(\) .*{message}"):
            use()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.tensor(1.0), "must return the loss and the logits, not a Tensor"),
        ((torch.tensor(1.0), torch.zeros(75, 4)), r"logits of shape \(75, 4\), not \(75, 5\)"),
    ],
)
def test_losses_that_do_not_fit(result: Any, message: str) -> None:
    """The error says what `prototypical_loss` returned, and what is needed."""
    inputs, labels = torch.zeros(200, 3), torch.arange(10).repeat(20)
    with pytest.raises(ValueError, match=rf"prototypical_loss\(\) .*{message}"):
        episode_accuracy(inputs, labels, sample_episode, lambda *_: result)


def test_numbers_that_do_not_fit() -> None:
    """As many labels as images are needed, and two episodes."""
    inputs, labels = numbered()
    with pytest.raises(ValueError, match="a label for each image, not 80 labels for 79 images"):
        episodes(inputs[1:], labels, sample_episode)
    with pytest.raises(ValueError, match="a label for each row"):
        episode_accuracy(inputs, labels[1:], sample_episode, prototypical_loss)
    with pytest.raises(ValueError, match="at least 2 episodes, not 1"):
        episode_accuracy(inputs, labels, sample_episode, prototypical_loss, episodes=1)
    for features in (inputs[:, None], torch.full_like(inputs, math.nan)):
        with pytest.raises(ValueError, match="finite numbers of shape"):
            episode_accuracy(features, labels, sample_episode, prototypical_loss)
