"""Pretraining: a run that was killed and resumed ends with the same weights as an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from amllab.images import LabelledImages
from amllab.pretrain import supervised as module
from amllab.pretrain.checkpoints import save_weights
from amllab.pretrain.supervised import (
    Recipe,
    cutout,
    pretrain,
    random_crop,
    training_batches,
    whiten_stem,
    write_card,
)

RECIPE = Recipe("net6", epochs=3, batch_size=16, seed=5)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(20):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return tmp_path / "data"


class KilledError(Exception):
    pass


def test_pretrain_resumes_killed_run(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run resumes and ends with the same weights."""
    whole, figures = pretrain(RECIPE, data_root, tmp_path / "whole.pt")
    assert len(figures["losses"]) == 3
    original = module.training_batches

    def killed_in_epoch_two(data: LabelledImages, recipe: Recipe, epoch: int):
        for i, batch in enumerate(original(data, recipe, epoch)):
            if epoch == 1 and i == 1:
                raise KilledError
            yield batch

    monkeypatch.setattr(module, "training_batches", killed_in_epoch_two)
    with pytest.raises(KilledError):
        pretrain(RECIPE, data_root, tmp_path / "killed.pt")
    monkeypatch.setattr(module, "training_batches", original)
    resumed, _ = pretrain(RECIPE, data_root, tmp_path / "killed.pt")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_checkpoint_of_another_recipe(data_root: Path, tmp_path: Path) -> None:
    """A checkpoint of another recipe is refused."""
    pretrain(Recipe("net6", epochs=1, batch_size=16), data_root, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt was written with a different recipe"):
        pretrain(Recipe("net6", epochs=2, batch_size=16), data_root, tmp_path / "c.pt")


def test_weights_and_card(data_root: Path, tmp_path: Path) -> None:
    """The model card states the test accuracy, and no path of the machine."""
    model, figures = pretrain(Recipe("net6", epochs=1, batch_size=16), data_root, tmp_path / "c.pt")
    save_weights(model, tmp_path / "w.safetensors")
    write_card(tmp_path / "card.md", RECIPE, figures, 5, 7)
    card = (tmp_path / "card.md").read_text()
    assert f"**{figures['test_accuracy']:.2%}**" in card
    assert str(tmp_path) not in card


def test_augmentation() -> None:
    """Crops differ and keep the shape of the images; cutout removes one square of each image."""
    torch.manual_seed(0)
    images = torch.arange(3 * 8 * 8).view(1, 3, 8, 8).repeat(6, 1, 1, 1).to(torch.uint8)
    cropped = random_crop(images, 2)
    assert cropped.shape == images.shape
    assert len({tuple(image.flatten().tolist()) for image in cropped}) > 1
    holes = cutout(torch.ones(6, 3, 8, 8), 4)
    assert ((holes == 0).sum((1, 2, 3)) == 3 * 16).all()


def test_augmentation_flips_alternate() -> None:
    """Every image is flipped in every second epoch."""
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(32, 3, 8, 8).contiguous()
    data = LabelledImages(ramp, torch.arange(32), ("a",), "")
    recipe = Recipe("net6", batch_size=16, pad=1, cutout=0)

    def flipped(epoch: int) -> dict[int, bool]:
        batches = training_batches(data, recipe, epoch)
        return {int(y): bool(x[0, 0, 0] > x[0, 0, -1]) for xs, ys in batches for x, y in zip(xs, ys, strict=True)}

    first, second, third = (flipped(epoch) for epoch in range(3))
    assert first == third
    assert all(first[i] != second[i] for i in first)
    assert 0 < sum(first.values()) < 32


def test_stem_whitening() -> None:
    """The stem is initialized to decorrelate patches."""
    import timm

    generator = torch.Generator().manual_seed(1)
    images = (
        torch.nn.functional.interpolate(torch.rand(64, 3, 8, 8, generator=generator), size=32, mode="bilinear") * 255
    )
    model = timm.create_model("net6")
    whiten_stem(model, LabelledImages(images.byte(), torch.zeros(64).long(), ("a",), ""))
    weight = model.stem.conv.weight.flatten(1)
    half = len(weight) // 2
    assert torch.equal(weight[:half], -weight[half:])
    assert torch.allclose(weight[:half] @ weight[:half].T, torch.eye(half), atol=1e-4)
