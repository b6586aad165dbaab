"""Distillation: hidden labels, loaders of views, teachers that remember or that answer for other views, and costs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from amllab import (
    PlainAnswers,
    RandomViews,
    RememberedAnswers,
    accuracy,
    compare_models,
    distillation_loader,
    draw_reptiles,
    hide_labels,
    load_backbone,
    logits_of,
)
from amllab.kept_models import DRAWN
from amllab.reptiles import REPTILES
from amllab.views import normalise

PLAIN = RandomViews(crop=None, flip=0, colour=0, grey=0)


def pixels(n: int, side: int = 8) -> Tensor:
    """Random images that differ from each other."""
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Teacher(nn.Module):
    """Answers by the image alone in eval mode, by the whole batch in train mode; counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3 * 8 * 8), nn.Linear(3 * 8 * 8, 4))
        self.seen = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        out: Tensor = self.layers(images)
        return out


def test_hidden_labels() -> None:
    """Equally many labels of each class stay, always the same ones for a seed; the argument is unchanged."""
    labels = torch.arange(60) % 3
    before = labels.clone()
    hidden = hide_labels(labels, 4, seed=1)
    known = hidden >= 0
    assert torch.equal(hidden[known], labels[known])
    assert hidden[known].bincount().tolist() == [4, 4, 4]
    assert (hidden[~known] == -1).all()
    assert torch.equal(labels, before)
    assert torch.equal(hidden, hide_labels(labels, 4, seed=1))
    assert not torch.equal(hidden, hide_labels(labels, 4, seed=2))


@pytest.mark.parametrize(
    ("labels", "per_class", "words"),
    [
        (torch.tensor([0, 1, 1]), 2, "class 0 has 1 examples, but 2 are needed"),
        (torch.tensor([0, 1]), 0, "per_class must be at least 1"),
        (torch.tensor([0, -1]), 1, "none is negative"),
        (torch.tensor([], dtype=torch.int64), 1, "n >= 1"),
        (torch.zeros(2, 2, dtype=torch.int64), 1, r"labels \(n,\)"),
        (torch.tensor([0.0, 1.0]), 1, "int64 labels"),
    ],
)
def test_labels_that_cannot_be_hidden(labels: Tensor, per_class: int, words: str) -> None:
    """Errors say what is wrong with labels or with their number."""
    with pytest.raises(ValueError, match=words):
        hide_labels(labels, per_class)


def test_drawn_reptiles() -> None:
    """Reptiles are those that lab 1 draws, other ones for each seed."""
    some, others = draw_reptiles(20, seed=1), draw_reptiles(20, seed=2)
    assert some.source == DRAWN
    assert some.classes == REPTILES
    assert some.labels.bincount().tolist() == [4] * 5
    assert not torch.equal(some.images, others.images)


@pytest.mark.parametrize("views", [None, 3])
def test_passes_of_a_loader(views: int | None) -> None:
    """Each pass shows each image once with its label, in another order and another view; a new loader repeats them."""
    images, labels = pixels(30), torch.arange(30) - 1
    loader = distillation_loader(images, labels, batch_size=8, views=views, seed=4)
    assert len(loader) == 4
    first, second = list(loader), list(loader)
    assert [len(y) for _, y in first] == [8, 8, 8, 6]
    assert all(x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last) for x, _ in first)
    orders = [torch.cat([y for _, y in batches]) for batches in (first, second)]
    assert all(torch.equal(order.sort().values, labels) for order in orders)
    assert not torch.equal(*orders)
    shown = [
        torch.cat([x for x, _ in batches])[order.argsort()]
        for batches, order in zip((first, second), orders, strict=True)
    ]
    assert (shown[0] != shown[1]).flatten(1).any(1).float().mean() > 0.4
    again = distillation_loader(images, labels, batch_size=8, views=views, seed=4)
    assert all(torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in zip(first, again, strict=True))


def test_plain_images() -> None:
    """With an augmentation that does nothing, the views are the normalised images."""
    images = pixels(5)
    ((views, labels),) = distillation_loader(images, torch.arange(5), augment=PLAIN)
    assert torch.allclose(views, normalise(images)[labels], atol=1e-5)


def test_default_views_are_shifted_and_flipped() -> None:
    """Each view is its image, moved by up to one of eight pixels, and mirrored in about half of the cases."""
    images = pixels(64)
    ((views, labels),) = distillation_loader(images, torch.arange(64), batch_size=64)
    mirrored, inner = 0, slice(1, -1)
    for view, image in zip(views, normalise(images)[labels], strict=True):
        found = [
            flipped
            for flipped in (False, True)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.allclose(
                (view.flip(-1) if flipped else view)[:, inner, inner],
                image.roll((down, right), (1, 2))[:, inner, inner],
                atol=1e-3,
            )
        ]
        assert len(found) == 1
        mirrored += found[0]
    assert 16 < mirrored < 48


def test_stored_views() -> None:
    """There are as many views of each image as asked for; they do not depend on labels or batches."""
    images = pixels(12)
    different: dict[int, set[bytes]] = {i: set() for i in range(12)}
    loader = distillation_loader(images, torch.arange(12), batch_size=5, augment=RandomViews(), views=2)
    for _ in range(12):
        for views, labels in loader:
            for view, label in zip(views, labels.tolist(), strict=True):
                different[label].add(view.contiguous().numpy().tobytes())
    assert {len(found) for found in different.values()} == {2}
    other = distillation_loader(images, torch.full((12,), -1), batch_size=3, augment=RandomViews(), views=2)
    seen = {view.contiguous().numpy().tobytes() for _ in range(12) for views, _ in other for view in views}
    assert seen == set.union(*different.values())


@pytest.mark.parametrize(("n", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_last_batch(n: int, sizes: list[int]) -> None:
    """A small last batch is kept, unless it is a single image and there are other batches."""
    loader = distillation_loader(pixels(n), torch.zeros(n, dtype=torch.int64), batch_size=4)
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": pixels(0)}, "n >= 1"),
        ({"images": pixels(4).float()}, r"uint8 images .* not torch.float32"),
        ({"labels": torch.arange(3)}, r"a label for each image, not \(3,\) for 4 images"),
        ({"batch_size": 0}, "must be at least 1, not 0"),
        ({"views": 0}, "must be at least 1"),
    ],
)
def test_loader_errors(change: dict[str, object], words: str) -> None:
    """Bad input is refused before the first batch."""
    arguments = {"images": pixels(4), "labels": torch.arange(4), **change}
    with pytest.raises(ValueError, match=words):
        distillation_loader(**arguments)  # type: ignore[arg-type]


def test_remembered_answers() -> None:
    """Answers are the teacher's; each view is computed once, on whatever place of a batch and in whatever format."""
    teacher = Teacher()
    remembered = RememberedAnswers(teacher)
    views = normalise(pixels(6))
    expected = teacher(views)
    teacher.seen = 0
    assert torch.equal(remembered(views), expected)
    again = remembered(views.flip(0).contiguous())
    assert torch.equal(again, expected.flip(0))
    assert not again.requires_grad
    assert teacher.seen == 6
    mixed = remembered(torch.cat([views[:2], views[2:4] + 1]))
    assert torch.allclose(mixed, teacher(torch.cat([views[:2], views[2:4] + 1])), atol=1e-6)
    assert teacher.seen == 6 + 2 + 4


def test_remembered_answers_in_train_mode() -> None:
    """In train mode, the teacher itself answers: for the batch, with gradients, and nothing is remembered."""
    teacher = Teacher()
    remembered = RememberedAnswers(teacher)
    views = normalise(pixels(6))
    in_eval = remembered(views)
    remembered.train()
    trained = remembered(views)
    assert trained.requires_grad
    assert not torch.allclose(trained, in_eval)
    remembered.eval()
    assert torch.equal(remembered(views), in_eval)
    assert remembered(views[:0]).shape == (0, 4)


def test_remembered_modes_and_parameters_are_the_teachers() -> None:
    """Modes are taken over module by module, parameters are shared."""
    teacher = Teacher()
    teacher.train()
    teacher.layers[1].eval()
    remembered = RememberedAnswers(teacher)
    assert remembered.training
    assert not teacher.layers[1].training
    assert [*remembered.parameters()] == [*teacher.parameters()]


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("style", ["batch by batch", "all batches first", "a copied teacher", "another memory format"])
def test_plain_answers(views: int | None, style: str) -> None:
    """For each view, the answer is that for its plain image, in whatever way a training loop goes about it."""
    teacher, images = Teacher(), pixels(20)
    loader = distillation_loader(images, torch.arange(20), batch_size=6, views=views)
    answers: nn.Module = PlainAnswers(teacher, loader)
    teacher.seen = 0
    if style == "a copied teacher":
        answers = copy.deepcopy(answers)
    expected = logits_of(Teacher(), images)
    for _ in range(2):
        batches = list(loader) if style == "all batches first" else loader
        for shown, labels in batches:
            given = shown.contiguous() if style == "another memory format" else shown
            assert torch.equal(answers(given), expected[labels])
    assert teacher.seen == 0


def test_plain_answers_differ_from_consistent_ones() -> None:
    """The answer for a view is not the answer for the plain image: what the experiment compares."""
    teacher = Teacher()
    loader = distillation_loader(pixels(20), torch.arange(20))
    answers = PlainAnswers(teacher, loader)
    ((views, _),) = loader
    assert not torch.allclose(answers(views), teacher(views), atol=1e-2)


def test_plain_answers_of_other_views() -> None:
    """Views of another loader, and loaders of another kind, are refused."""
    loader = distillation_loader(pixels(4), torch.arange(4))
    with pytest.raises(ValueError, match="its own loader alone"):
        PlainAnswers(Teacher(), loader)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"distillation_loader\(\) has returned"):
        PlainAnswers(Teacher(), torch.utils.data.DataLoader([(torch.zeros(3, 8, 8), torch.tensor(0))]))  # type: ignore[arg-type]


def test_plain_answers_of_remembered_answers() -> None:
    """The two kinds of teachers can be put together, and cost one evaluation of the plain images."""
    teacher = Teacher()
    remembered = RememberedAnswers(teacher)
    loader = distillation_loader(pixels(8), torch.arange(8))
    for _ in range(2):
        answers = PlainAnswers(remembered, loader)
    ((views, labels),) = loader
    assert torch.equal(answers(views), logits_of(remembered, pixels(8))[labels])
    assert teacher.seen == 8


def test_logits() -> None:
    """Logits are those of normalised images in eval mode, without gradients; the model keeps its modes."""
    teacher, images = Teacher(), pixels(7)
    expected = teacher(normalise(images))
    teacher.train()
    found = logits_of(teacher, images, batch_size=3)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not found.requires_grad
    assert teacher.training
    with pytest.raises(ValueError, match="at least one image"):
        logits_of(teacher, images[:0])
    for images in (pixels(4)[:, :1], pixels(4)[0]):
        with pytest.raises(ValueError, match=r"\(n, 3, h, w\), not"):
            logits_of(teacher, images)


@pytest.mark.parametrize(("n", "seed"), [(0, 1), (-1, 1), (5, -1)])
def test_reptiles_that_cannot_be_drawn(n: int, seed: int) -> None:
    """Errors name the numbers that are needed and those that were given."""
    with pytest.raises(ValueError, match=rf"n >= 1 and seed >= 0, not n={n} and seed={seed}"):
        draw_reptiles(n, seed)


def test_costs() -> None:
    """Parameters and bytes are counted, the smaller network is faster, modes are kept, and the table has all rows."""
    models = {"net12": load_backbone("net12.reptiles"), "net5": timm.create_model("net5", num_classes=5)}
    models["net5"].train()
    rows = compare_models(models, draw_reptiles(60, seed=1).images)
    big, small = rows
    assert big.parameters == sum(p.numel() for p in models["net12"].parameters())
    numbers = [v for v in models["net5"].state_dict().values() if v.is_floating_point()]
    counters = [v for v in models["net5"].state_dict().values() if not v.is_floating_point()]
    assert small.megabytes == pytest.approx((4 * sum(v.numel() for v in numbers) + 8 * len(counters)) / 1e6)
    assert small.images_per_second > big.images_per_second > 0
    assert models["net5"].training
    lines = str(rows).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "net12", "net5"]
    assert len({len(line) for line in lines}) == 1
    assert repr(rows) == str(rows)


@pytest.mark.parametrize(
    "call", [lambda: compare_models({}, pixels(1)), lambda: compare_models({"a": Teacher()}, pixels(0))]
)
def test_costs_of_nothing(call: Callable[[], object]) -> None:
    """Without a model or an image, there is nothing to measure."""
    with pytest.raises(ValueError, match="at least one model and one image"):
        call()


def test_shipped_teacher_knows_reptiles() -> None:
    """The library's teacher classifies reptiles that it has not seen."""
    new = draw_reptiles(300, seed=5)
    assert float(accuracy(logits_of(load_backbone("net12.reptiles"), new.images), new.labels)) > 0.75
