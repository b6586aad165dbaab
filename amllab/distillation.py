"""Knowledge distillation: answers of teachers, images of which few have labels, and what a model costs.

A student learns from the answers of a teacher for the very views that it sees itself. Loaders show random views of
images; :class:`RememberedAnswers` lets a large teacher answer once for each of them. :class:`PlainAnswers` is a teacher
whose answers were computed once, for other views than the student's: see Beyer et al., *Knowledge distillation: A good
teacher is patient and consistent* (2022).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from amllab.images import LabelledImages, labelled_subset
from amllab.loaders import Batch, ImageBatches, loader
from amllab.representations import extract_features
from amllab.synthetic_images import draw
from amllab.training import measuring
from amllab.views import RandomViews, normalise

Augment = Callable[[Tensor], Tensor]

NO_LABEL = -1
BATCH = 500
ROUNDS = 3  # measurements of speed, of which the fastest counts
TIMED = 500  # largest number of images that they take


def hide_labels(labels: Tensor, per_class: int, *, seed: int = 0) -> Tensor:
    """Return a copy of labels in which all but a few of each class, chosen at random, are replaced by -1.

    Args:
        labels: int64 ``(n,)``, from 0.
        per_class: number of labels of each class that stay.
        seed: seed of the choice.

    Returns:
        The labels, int64 ``(n,)``; the examples that still have one are ``labels >= 0``.

    Raises:
        ValueError: there are no labels, they are not int64, one of them is negative, ``per_class`` is below 1, or a
            class has fewer labels.

    >>> int((hide_labels(torch.tensor([0, 1, 0, 1, 1]), 2) == -1).sum())
    1
    """
    if labels.dtype != torch.int64 or labels.ndim != 1 or not len(labels) or int(labels.min()) < 0:
        raise ValueError("hide_labels() needs int64 labels (n,) of which none is negative, with n >= 1")
    chosen = labelled_subset(labels, per_class, torch.Generator().manual_seed(seed))
    hidden = torch.full_like(labels, NO_LABEL)
    hidden[chosen] = labels[chosen]
    return hidden


def draw_reptiles(n: int, seed: int) -> LabelledImages:
    """Draw reptiles of the five classes of lab 1, equally many of each (to within one).

    Args:
        n: number of images.
        seed: seed of the images. Lab 1 has seeds 100 and 200 for its training and its test images; with any other,
            images are new for the models of lab 1.

    Returns:
        Images, uint8 ``(n, 3, 32, 32)``, in random order, with their labels, int64 ``(n,)``.

    Raises:
        ValueError: ``n`` is below 1, or ``seed`` is negative.

    >>> draw_reptiles(10, seed=1).classes
    ('crocodile', 'dinosaur', 'lizard', 'snake', 'turtle')
    """
    if n < 1 or seed < 0:
        raise ValueError(f"draw_reptiles() needs n >= 1 and seed >= 0, not n={n} and seed={seed}")
    return draw(n, seed)


def distillation_loader(
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 64,
    augment: Augment | None = None,
    views: int | None = None,
    seed: int = 0,
) -> DataLoader[Batch]:
    """Return a loader of random views of images with their labels, some of which may be -1.

    Each pass has another order and other views. The last batch of a pass is smaller than the others if the numbers do
    not fit; it is left out only if it is a single image, with which batch normalisation cannot train.

    Args:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``; -1 for images without a label.
        batch_size: number of images in a batch.
        augment: function from uint8 images to normalised views, such as :class:`amllab.RandomViews`, which takes its
            random numbers from PyTorch's global generator; by default, flips and shifts by up to an eighth of a side.
        views: number of views of each image, made once and stored; each pass shows one of them, chosen at random. By
            default, every view is new. The same images, ``augment``, ``views`` and ``seed`` give the same stored views,
            whatever the labels are.
        seed: seed of the order and of the views.

    Returns:
        A loader that can be iterated again and again, with batches of views, float32 ``(batch, 3, h, w)``, and labels,
        int64 ``(batch,)``.

    Raises:
        ValueError: there are no images, they are no uint8 images, numbers of images and labels differ, or
            ``batch_size`` or ``views`` is below 1.

    >>> data = draw_reptiles(10, seed=1)
    >>> loader = distillation_loader(data.images, hide_labels(data.labels, 1), batch_size=4)
    >>> [len(labels) for views, labels in loader]
    [4, 4, 2]
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or not len(images):
        raise ValueError(
            f"distillation_loader() needs uint8 images (n, 3, h, w) with n >= 1, not {images.dtype} of shape "
            f"{tuple(images.shape)}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(f"there must be a label for each image, not {tuple(labels.shape)} for {len(images)} images")
    if batch_size < 1 or (views is not None and views < 1):
        raise ValueError(f"batch_size and views must be at least 1, not {batch_size} and {views}")
    chosen = augment or RandomViews(crop=None, shift=images.shape[-1] // 8, colour=0, grey=0)
    data = _Views(LabelledImages(images, labels, (), "views"), chosen, views, seed)
    return loader(data, batch_size, shuffle_seed=seed, drop_last=len(images) > 1 and len(images) % batch_size == 1)


class RememberedAnswers(nn.Module):
    """A teacher that remembers its answers: a view that it gets again is not computed again.

    Its answers are those of the teacher. Views count as the same if all their numbers are. In train mode, where an
    answer depends on the batch, nothing is remembered. One such module can serve several trainings; in evaluations, it
    stands for the teacher as well. Answers are kept until the module is deleted.

    Args:
        teacher: the teacher, from views ``(batch, 3, h, w)`` to logits ``(batch, classes)``. While the module is in
            use, its weights must stay as they are.

    Attributes:
        teacher: the teacher.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher, self.training = teacher, teacher.training
        self._answers: dict[int, Tensor] = {}

    def forward(self, views: Tensor) -> Tensor:
        """Return logits ``(batch, classes)``; remembered ones have no gradients."""
        if not len(views) or any(module.training for module in self.modules()):
            answer: Tensor = self.teacher(views)
            return answer
        keys = _keys(views)
        new = [i for i, key in enumerate(keys) if key not in self._answers]
        if new:
            computed = self.teacher(views[new]).detach()
            self._answers.update(zip((keys[i] for i in new), computed, strict=True))
        return torch.stack([self._answers[key] for key in keys]).to(views.device)


class PlainAnswers(nn.Module):
    """A teacher whose answers were computed once, for the images without any augmentation.

    For a view of the loader, it answers what the teacher has said about the plain image.

    Args:
        teacher: the teacher, from normalised images ``(batch, 3, h, w)`` to logits ``(batch, classes)``.
        loader: what :func:`distillation_loader` has returned.

    Raises:
        ValueError: the loader is another one; or the module is called with views that the loader has not handed out.
    """

    def __init__(self, teacher: nn.Module, loader: DataLoader[Batch]) -> None:
        super().__init__()
        if not isinstance(loader.dataset, _Views):
            raise ValueError("PlainAnswers() needs a loader that distillation_loader() has returned")
        # a submodule, so that this module has the teacher's device, modes and parameters
        self.teacher, self.training = teacher, teacher.training
        self._views = loader.dataset
        self._answers = logits_of(teacher, self._views.data.images)

    def forward(self, views: Tensor) -> Tensor:
        """Return the teacher's logits ``(batch, classes)`` for the images that the views were made from."""
        shown = [self._views.shown.get(key) for key in _keys(views)]
        if None in shown:
            raise ValueError("PlainAnswers() knows the views of its own loader alone, and got another one")
        return self._answers[torch.tensor(shown, dtype=torch.int64)].to(views.device)


def logits_of(model: nn.Module, images: Tensor, batch_size: int = BATCH) -> Tensor:
    """Return the logits of a model for images without augmentation, in eval mode and without gradients.

    Afterwards, each module of the model is in the mode (train or eval) that it was in before.

    Args:
        model: module from normalised images ``(batch, 3, h, w)`` to logits ``(batch, classes)``.
        images: ``(n, 3, h, w)``, either uint8, which are normalised as CIFAR-10 is, or normalised float.
        batch_size: number of images in a batch.

    Returns:
        Logits, float32 ``(n, classes)``, on the CPU.

    Raises:
        ValueError: there are no images, uint8 ones are not ``(n, 3, h, w)``, or the outputs are not
            ``(batch, classes)``.
    """
    return extract_features(model, images, batch_size)


class ModelCost(NamedTuple):
    """What a model costs.

    Attributes:
        name: name of the model.
        parameters: number of parameters.
        megabytes: size of its parameters and buffers, in millions of bytes.
        images_per_second: how many images it classifies in a second.
    """

    name: str
    parameters: int
    megabytes: float
    images_per_second: float


class ModelTable(list[ModelCost]):
    """Rows of several models, printed as a table."""

    def __repr__(self) -> str:
        wide = max(len("model"), *(len(row.name) for row in self)) if self else len("model")
        lines = [f"{'model':{wide}}  {'parameters':>12}  {'MB':>7}  {'images/s':>9}"]
        lines += [
            f"{row.name:{wide}}  {row.parameters:12,}  {row.megabytes:7.2f}  {row.images_per_second:9,.0f}"
            for row in self
        ]
        return "\n".join(lines)


def compare_models(models: Mapping[str, nn.Module], images: Tensor) -> ModelTable:
    """Return the size of models and their speed on this machine.

    Speed is measured in eval mode, without gradients, on the models' devices and with PyTorch's current number of
    threads, with at most 500 of the images as a batch: the fastest of three rounds, in which the models take turns.

    Args:
        models: models by name, from normalised images ``(batch, 3, h, w)``.
        images: uint8 ``(n, 3, h, w)``, or normalised float.

    Returns:
        A list of rows ``(name, parameters, megabytes, images_per_second)``, which prints as a table.

    Raises:
        ValueError: there are no models or no images.
    """
    if not models or not len(images):
        raise ValueError("compare_models() needs at least one model and one image")
    some = images[:TIMED]
    ready = normalise(some) if some.dtype == torch.uint8 else some
    seconds = {name: float("inf") for name in models}
    for _ in range(1 + ROUNDS):  # the first is slower: memory and kernels are prepared
        for name, model in models.items():
            seconds[name] = min(seconds[name], _seconds(model, ready))
    rows = []
    for name, model in models.items():
        stored = [*model.parameters(), *model.buffers()]
        size = sum(values.numel() * values.element_size() for values in stored) / 1e6
        parameters = sum(values.numel() for values in model.parameters())
        rows.append(ModelCost(name, parameters, size, len(ready) / seconds[name]))
    return ModelTable(rows)


class _Views(ImageBatches):
    """Random views of images, new ones or stored ones, which remembers which image each view was made from.

    Attributes:
        shown: indices of images by the key of a view that has been handed out.
    """

    def __init__(self, data: LabelledImages, augment: Augment, views: int | None, seed: int) -> None:
        super().__init__(data, lambda made: made, augment, seed)
        self.shown: dict[int, int] = {}
        self._stored = torch.stack([self._one_view_each() for _ in range(views)]) if views else None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Views:
        # a copy of a teacher, too, must know the views that are handed out later
        return self

    def __getitems__(self, index: Sequence[int]) -> Batch:
        if self._stored is None:
            made, labels = super().__getitems__(index)
        else:
            chosen = torch.as_tensor(index)
            which = torch.randint(len(self._stored), (len(chosen),), generator=self._seeds)
            made, labels = self._stored[which, chosen], self.data.labels[chosen]
        self.shown.update(zip(_keys(made), map(int, index), strict=True))
        return made.contiguous(memory_format=torch.channels_last), labels

    def _one_view_each(self) -> Tensor:
        """Return a new view of each image, ``(n, 3, h, w)``."""
        parts = torch.arange(len(self.data)).split(BATCH)
        return torch.cat([super(_Views, self).__getitems__(part.tolist())[0].contiguous() for part in parts])


def _keys(views: Tensor) -> list[int]:
    """Return a key of each view that depends on all its numbers, and not on its device or its place in memory."""
    rows = views.detach().to("cpu", torch.float32).contiguous()
    return [hash(row.numpy().tobytes()) for row in rows]


def _seconds(model: nn.Module, images: Tensor) -> float:
    """Return how long a model takes for a batch of images."""
    parameter = next(model.parameters(), None)
    batch = images.to(parameter.device) if parameter is not None else images
    with measuring(model):
        began = time.perf_counter()
        cast(Tensor, model(batch)).cpu()  # waits for a GPU
        return time.perf_counter() - began
