"""The data of lab 1: choice of the source, splits, seeds, augmentation, users' own folders, error messages."""

import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

import amllab
from amllab import reptiles as data
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.images import LabelledImages
from tests.helpers.cifar_files import write_cifar

REPTILES = ("crocodile", "dinosaur", "lizard", "snake", "turtle")


def forget():
    data._drawn.cache_clear()
    data._cifar100.cache_clear()
    data._cifar100_problem.cache_clear()


@pytest.fixture(autouse=True)
def own_world(monkeypatch, tmp_path):
    """No network, no downloaded data, no environment variable, no cache from other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMLLAB_DATA", raising=False)

    def unreachable(*_args, **_kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    forget()
    yield
    forget()


@pytest.fixture
def small_drawn(monkeypatch):
    monkeypatch.setattr(data, "DRAWN", {"train": (250, 100), "test": (50, 200)})


def write_class(folder, n, *, size=(20, 20), first=0):
    """Write images of one colour each; ``first`` numbers them, so that all images of a test are distinct."""
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("RGB", size, (first + i, 100, 200)).save(folder / f"{i:03d}.png")


@pytest.fixture
def flat_folder(tmp_path):
    folder = tmp_path / "fruit"
    write_class(folder / "apple", 20, first=0)
    write_class(folder / "pear", 10, first=50)
    write_class(folder / "quince", 15, first=100, size=(30, 24))
    return folder


def colours(loader):
    """Return the numbers that ``write_class`` gave to the images of a loader, in its order."""
    images = torch.cat([images for images, _ in loader])
    red = images[:, 0].amax((1, 2)) * CIFAR10_STD[0] + CIFAR10_MEAN[0]
    return (red * 255).round().int().tolist()


def everything(loader):
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


# Splits, seeds, augmentation


def test_split_is_stratified_and_complete(small_drawn):
    """Both parts together have all images, with the same share of each class."""
    train, val = data.reptile_loaders(source="drawn")
    for loader, each in ((train, 40), (val, 10)):
        assert torch.bincount(everything(loader)[1]).tolist() == [each] * 5
        assert loader.dataset.classes == REPTILES
        assert loader.dataset.source == "drawn reptiles"


def test_batches(small_drawn):
    """Batches have the documented shapes and types, and normalised values."""
    train, val = data.reptile_loaders(32, source="drawn")
    images, labels = next(iter(train))
    assert images.shape == (32, 3, 32, 32)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    images = everything(val)[0]
    assert images.mean().abs() < 0.7
    assert 0.4 < images.std() < 1.5


def test_same_seed_same_batches(small_drawn):
    """The seed determines all batches; the global generator has no effect."""
    first, second = (data.reptile_loaders(seed=3, source="drawn") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for _epoch in range(2):
            torch.manual_seed(1000 + _epoch)  # the global generator has no effect
            for a, b in zip(one, other, strict=True):
                assert torch.equal(a[0], b[0])
                assert torch.equal(a[1], b[1])


def test_share_of_every_class(small_drawn, capsys):
    """A share takes the same part of every class."""
    whole = data.reptile_loaders(seed=1, source="drawn")
    shares = [data.reptile_loaders(seed=1, source="drawn", share=0.5) for _ in range(2)]
    assert "50% of each class" in capsys.readouterr().out
    for all_of_it, *halves in zip(whole, *shares, strict=True):
        counts = [torch.bincount(loader.dataset.data.labels) for loader in (all_of_it, *halves)]
        assert torch.equal(2 * counts[1], counts[0])
        assert torch.equal(*(half.dataset.data.images for half in halves))
    for share in (0, 1.5, -1, float("nan")):
        with pytest.raises(ValueError, match="share must be above 0"):
            data.reptile_loaders(source="drawn", share=share)


def test_other_seed_other_split_and_order(small_drawn):
    """Another seed gives another split, order and augmentation."""
    (train, val), (train2, val2) = (data.reptile_loaders(seed=seed, source="drawn") for seed in (0, 1))
    assert not torch.equal(everything(val)[0], everything(val2)[0])
    assert not torch.equal(everything(train)[1], everything(train2)[1])


def test_epochs_order_and_augmentation(small_drawn):
    """Epochs differ in order and augmentation."""
    train, _ = data.reptile_loaders(source="drawn")
    (images, labels), (images2, labels2) = everything(train), everything(train)
    assert not torch.equal(labels, labels2)
    originals = {tuple(image.flatten()[:50].tolist()) for image in images}
    assert len(originals & {tuple(image.flatten()[:50].tolist()) for image in images2}) < len(images) / 10


def test_validation_plain_and_disjoint(small_drawn):
    """Validation images are not augmented and not part of the training images."""
    source = data.reptile_arrays("train", "drawn")
    train, val = data.reptile_loaders(source="drawn")
    images, labels = everything(val)
    assert torch.equal(images, everything(val)[0])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    seen = ((images * std + mean) * 255).round().to(torch.uint8)
    index = [(source.images == image).flatten(1).all(1).nonzero().item() for image in seen]
    assert len(set(index)) == 50
    assert torch.equal(source.labels[index], labels)
    kept = {image.numpy().tobytes() for image in train.dataset.data.images}
    assert not kept & {image.numpy().tobytes() for image in seen}


def test_augmentation_within_batch():
    """Augmentation differs within a batch."""
    image = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    same = LabelledImages(image.repeat(40, 1, 1, 1), torch.arange(40) % 2, ("a", "b"), "copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_drawn", lambda part: same)
        train, _ = data.reptile_loaders(source="drawn")
    images = everything(train)[0]
    assert len(images.flatten(1).unique(dim=0)) > 25


def test_augmentation_keeps_global_rng_state(small_drawn):
    """Loading training images does not change the state of the global generator."""
    train, _ = data.reptile_loaders(source="drawn")
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    train.dataset.__getitems__([0, 1, 2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_single_item(small_drawn):
    """A single item equals the same item of a batch."""
    _, val = data.reptile_loaders(source="drawn")
    image, label = val.dataset[7]
    assert torch.equal(image, everything(val)[0][7])
    assert label == everything(val)[1][7]


def test_batches_never_of_one_image(small_drawn):
    """No training batch has only one image, unless it is the only batch."""
    train, _ = data.reptile_loaders(199, source="drawn")
    assert [len(labels) for _, labels in train] == [199]
    train, _ = data.reptile_loaders(198, source="drawn")
    assert [len(labels) for _, labels in train] == [198, 2]


def test_image_size_and_normalisation(small_drawn):
    """Images can have the size and normalisation of another model."""
    plain = data.reptile_loaders(source="drawn", mean=(0, 0, 0), std=(1, 1, 1))
    large = data.reptile_loaders(source="drawn", image_size=96, mean=(0, 0, 0), std=(1, 1, 1))
    for small, big in zip(plain, large, strict=True):
        images = everything(big)[0]
        assert images.shape[1:] == (3, 96, 96)
        assert images.min() >= 0
        assert images.max() <= 1
        assert (everything(small)[0].mean() - images.mean()).abs() < 0.03


# Which data is in use


def test_test_part_not_in_public_api(small_drawn):
    """The test part is not part of the public interface, and shares no image with the training part."""
    assert not hasattr(amllab, "test_loader")
    assert not hasattr(amllab, "reptile_arrays")
    test = data.test_loader(source="drawn")
    assert len(test.dataset) == 50
    train = {image.numpy().tobytes() for image in data.reptile_arrays("train", "drawn").images}
    assert not train & {image.numpy().tobytes() for image in data.reptile_arrays("test", "drawn").images}


def test_auto_without_network(small_drawn, capsys):
    """Without a network, images are drawn, and a line says so."""
    train, _ = data.reptile_loaders()
    assert train.dataset.source == "drawn reptiles"
    said = capsys.readouterr().out
    assert said.startswith("Data: drawn reptiles (CIFAR-100 is not on this machine and could not be downloaded: ")
    assert "no network in tests" in said
    assert said.count("\n") == 1


def test_auto_tries_connection_once(small_drawn, monkeypatch):
    """The connection is tried only once, with a short timeout."""
    asked = []

    def unreachable(*_args, **kwargs):
        asked.append(kwargs["timeout"])
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    for _ in range(3):
        data.reptile_loaders()
    assert len(asked) == 1
    assert asked[0] <= 5


def test_variable_with_folder(flat_folder, monkeypatch, capsys):
    """The environment variable can name a folder."""
    monkeypatch.setenv("AMLLAB_DATA", str(flat_folder))
    train, _ = data.reptile_loaders()
    assert train.dataset.classes == ("apple", "pear", "quince")
    assert capsys.readouterr().out == "Data: folder fruit (named by the environment variable AMLLAB_DATA)\n"


def test_variable_drawn_or_auto(small_drawn, monkeypatch, capsys):
    """The environment variable can name a kind of data."""
    for word in ("drawn", "auto", ""):
        monkeypatch.setenv("AMLLAB_DATA", word)
        assert data.reptile_loaders()[0].dataset.source == "drawn reptiles"
    assert "AMLLAB_DATA" in capsys.readouterr().out.splitlines()[0]


def test_source_overrides_variable(small_drawn, flat_folder, monkeypatch):
    """An explicit source takes precedence over the environment variable."""
    monkeypatch.setenv("AMLLAB_DATA", str(flat_folder))
    assert data.reptile_arrays("train", "drawn").classes == REPTILES


def test_variable_with_missing_folder(monkeypatch):
    """The error for a missing folder names the environment variable."""
    monkeypatch.setenv("AMLLAB_DATA", "nowhere")
    with pytest.raises(FileNotFoundError, match="AMLLAB_DATA=nowhere"):
        data.reptile_loaders()


def test_cifar100_explicit_has_no_fallback(monkeypatch):
    """If CIFAR-100 was requested explicitly, other data never replaces it."""

    def offline(self):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(CIFAR100, "download", offline)
    with pytest.raises(data.DataUnavailable, match=r"no network in tests.*source=\"drawn\""):
        data.reptile_loaders(source="cifar100")


@pytest.fixture
def cifar100_on_disk(tmp_path, monkeypatch):
    """A small CIFAR-100 in its format on disk, pickled dicts of bytes, with the checksums of these files."""
    names = [f"class{i:03d}" for i in range(95)] + list(REPTILES)
    names.sort()
    contents = {"meta": {"fine_label_names": names, "coarse_label_names": ["a"]}}
    for part, each in (("train", 10), ("test", 4)):
        labels = list(range(100)) * each
        pixels = np.repeat(np.array(labels, dtype=np.uint8)[:, None], 3072, axis=1)
        pixels[:, 1024:2048] = np.arange(len(labels))[:, None] // 100
        contents[part] = {"data": pixels, "fine_labels": labels, "coarse_labels": [0] * len(labels)}
    write_cifar(CIFAR100, tmp_path / "data", contents, monkeypatch, ("train", "test", "meta"))
    return names


@pytest.mark.parametrize("source", ["auto", "cifar100"])
def test_cifar100_on_disk(cifar100_on_disk, source, capsys):
    """CIFAR-100 on disk is used without a network."""
    train, val = data.reptile_loaders(source=source)
    assert capsys.readouterr().out == "Data: CIFAR-100 reptiles\n"
    assert (len(train.dataset), len(val.dataset)) == (40, 10)
    assert train.dataset.classes == REPTILES


def test_cifar100_labels_match_images(cifar100_on_disk):
    """The labels of CIFAR-100 match their images."""
    for part, each in (("train", 10), ("test", 4)):
        reptiles = data.reptile_arrays(part, "cifar100")
        assert torch.bincount(reptiles.labels).tolist() == [each] * 5
        fine = reptiles.images[:, 0, 0, 0].tolist()
        assert [cifar100_on_disk[i] for i in fine] == [REPTILES[i] for i in reptiles.labels.tolist()]
        assert reptiles.images.shape == (5 * each, 3, 32, 32)


# Users' own folders


def test_folder_of_other_classes_and_sizes(flat_folder):
    """A folder sets the classes and the image size, and is split into three parts."""
    train, val = data.reptile_loaders(8, source=flat_folder)
    assert train.dataset.classes == ("apple", "pear", "quince")
    assert next(iter(train))[0].shape == (8, 3, 20, 20)
    # 20, 10 and 15 images: a fifth of each is held out for testing, a fifth of the remainder for validation
    assert torch.bincount(everything(val)[1]).tolist() == [3, 2, 2]
    assert len(train.dataset) == 36 - 7
    assert len(data.test_loader(source=str(flat_folder)).dataset) == 4 + 2 + 3


def test_folder_test_part_stays_apart(flat_folder):
    """No seed moves test images into the training or validation part."""
    test = set(colours(data.test_loader(source=flat_folder)))
    assert len(test) == 9
    for seed in range(4):
        train, val = data.reptile_loaders(seed=seed, source=flat_folder)
        kept = train.dataset.data.images[:, 0, 0, 0].tolist()
        assert not test & {*kept, *colours(val)}
        assert len({*kept, *colours(val), *test}) == 45


def test_folder_with_its_own_test_part(tmp_path):
    """A folder with train/ and test/ is tested on the images in test/."""
    for part, n, first in (("train", 10, 0), ("test", 3, 100)):
        for i, name in enumerate(("cat", "dog")):
            write_class(
                tmp_path / "pets" / part / name, n, size=(24, 24) if part == "train" else (50, 40), first=first + 20 * i
            )
    train, val = data.reptile_loaders(source=tmp_path / "pets")
    test = data.test_loader(source=tmp_path / "pets")
    assert (len(train.dataset), len(val.dataset), len(test.dataset)) == (16, 4, 6)
    assert colours(test) == [100, 101, 102, 120, 121, 122]
    assert next(iter(test))[0].shape == (6, 3, 24, 24)


def test_photographs_scaled_on_reading(tmp_path):
    """Large photographs are scaled while they are read."""
    for name in ("cat", "dog"):
        write_class(tmp_path / "photos" / name, 4, size=(640, 480))
    assert data.reptile_arrays("train", tmp_path / "photos", image_size=32).images.shape[1:] == (3, 32, 32)
    assert data.reptile_arrays("train", tmp_path / "photos").images.shape[1:] == (3, 224, 224)


def test_missing_folder():
    with pytest.raises(FileNotFoundError, match=r"source='nowhere': there is no such folder.*folder/<class>/<image>"):
        data.reptile_loaders(source="nowhere")


@pytest.mark.parametrize("classes", [[], ["apple"]])
def test_fewer_than_two_classes(tmp_path, classes):
    (tmp_path / "fruit").mkdir()
    for name in classes:
        write_class(tmp_path / "fruit" / name, 5)
    with pytest.raises(ValueError, match=r"at least 2 classes; found: (apple|none)"):
        data.reptile_loaders(source=tmp_path / "fruit")


def test_class_without_images(flat_folder):
    (flat_folder / "banana").mkdir()
    with pytest.raises(FileNotFoundError, match="banana"):
        data.reptile_loaders(source=flat_folder)


def test_class_with_too_few_images(flat_folder):
    write_class(flat_folder / "banana", 2)
    with pytest.raises(ValueError, match=r"class 'banana' has 2 image.*at least 3"):
        data.reptile_loaders(source=flat_folder)


@pytest.mark.parametrize("name", ["000.png", "004.png"])
@pytest.mark.parametrize("kind", ["text", "cut off"])
def test_unreadable_image(flat_folder, name, kind):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    path = flat_folder / "apple" / name
    Image.fromarray(noise).save(path)
    path.write_bytes(b"no image at all" if kind == "text" else path.read_bytes()[:600])
    with pytest.raises(ValueError, match=rf"apple.{name} cannot be read as an image"):
        data.reptile_loaders(source=flat_folder)


def test_train_without_test(tmp_path):
    for name in ("cat", "dog"):
        write_class(tmp_path / "pets" / "train" / name, 5)
    with pytest.raises(ValueError, match=r"has train/ but no test/"):
        data.reptile_loaders(source=tmp_path / "pets")


def test_parts_with_other_classes(tmp_path):
    """Parts of a folder with different classes are refused."""
    for part, names in (("train", ("cat", "dog")), ("test", ("cat", "cow"))):
        for name in names:
            write_class(tmp_path / "pets" / part / name, 5)
    with pytest.raises(ValueError, match=r"cat, dog and cat, cow"):
        data.reptile_loaders(source=tmp_path / "pets")


def test_unknown_part():
    with pytest.raises(ValueError, match="validation"):
        data.reptile_arrays("validation", "drawn")
