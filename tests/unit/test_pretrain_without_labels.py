"""Pretraining without labels: the loss, views from the seed, an interrupted run, the command with weights and card."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

from amllab import draw_species
from amllab.backbones import WEIGHTS
from amllab.pretrain import self_supervised as module
from amllab.pretrain.__main__ import main
from amllab.pretrain.self_supervised import (
    SelfSupervisedRecipe,
    pairs_of_views,
    pretrain_without_labels,
    variance_invariance_covariance,
)

RECIPE = SelfSupervisedRecipe("species", epochs=3, batch_size=16, expander=8, seed=5)


@pytest.fixture
def few_species(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SPECIES": 4, "PER_SPECIES": 10, "NEW_SPECIES": 3, "KNOWN": 12, "ASKED": 4}.items():
        monkeypatch.setattr(module, name, value)


def test_loss_of_known_embeddings() -> None:
    """Each term of the loss, for embeddings whose terms are known."""
    only = dict.fromkeys(("invariance", "variance", "covariance"), 0.0)
    n = 64
    plain = torch.randn(n, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    q, _ = torch.linalg.qr(plain - plain.mean(0))
    white = q * (n - 1) ** 0.5  # means 0, variances 1, not correlated

    def loss(first: torch.Tensor, second: torch.Tensor, **weights: float) -> float:
        return float(variance_invariance_covariance(first, second, SelfSupervisedRecipe("species", **only | weights)))

    assert loss(white, white + 0.5, invariance=2) == pytest.approx(2 * 0.25)
    assert loss(2 * white, 3 * white + 1, variance=1) == 0
    assert loss(white, white * 0, variance=4) == pytest.approx(4 * 0.99 / 2, abs=1e-3)
    assert loss(white, white + 7, covariance=1) == pytest.approx(0, abs=1e-9)
    same = white[:, :1].expand(n, 2)
    assert loss(same, white, covariance=3) == pytest.approx(3 * 2 / 2)
    assert loss(same, same, covariance=3) == pytest.approx(2 * 3 * 2 / 2)


def test_views_follow_from_seed_and_epoch() -> None:
    """An epoch always has the same pairs of views, another epoch has others."""
    images = draw_species(4, 10, seed=0).images
    first, again, other = (list(pairs_of_views(images, RECIPE, epoch)) for epoch in (1, 1, 2))
    assert [batch.shape for batch in first] == [(32, 3, 32, 32)] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any((batch[:16] == batch[16:]).flatten(1).all(1).any() for batch in first)


class KilledError(Exception):
    pass


@pytest.mark.usefixtures("few_species")
def test_resumes_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run resumes and ends with the same weights."""
    whole, figures = pretrain_without_labels(RECIPE, tmp_path, tmp_path / "whole.pt")
    assert len(figures["losses"]) == 3
    before = module.untrained(RECIPE, module.training_images(RECIPE, tmp_path)).state_dict()
    assert not any(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    torch.manual_seed(RECIPE.seed)
    initial = timm.create_model("net5").state_dict()
    assert {name for name, value in initial.items() if torch.equal(value, before[name])} == {
        name for name in initial if name.endswith(("weight", "bias"))
    }
    assert figures["images"] == 40
    original = module.pairs_of_views

    def killed_in_epoch_two(images: torch.Tensor, recipe: SelfSupervisedRecipe, epoch: int):
        for i, batch in enumerate(original(images, recipe, epoch)):
            if epoch == 1 and i == 1:
                raise KilledError
            yield batch

    monkeypatch.setattr(module, "pairs_of_views", killed_in_epoch_two)
    with pytest.raises(KilledError):
        pretrain_without_labels(RECIPE, tmp_path, tmp_path / "killed.pt")
    monkeypatch.setattr(module, "pairs_of_views", original)
    resumed, _ = pretrain_without_labels(RECIPE, tmp_path, tmp_path / "killed.pt")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    other = SelfSupervisedRecipe("species", epochs=4, batch_size=16, expander=8, seed=5)
    with pytest.raises(ValueError, match=r"whole\.pt was written with a different recipe"):
        pretrain_without_labels(other, tmp_path, tmp_path / "whole.pt")


@pytest.mark.usefixtures("few_species")
def test_too_few_images(tmp_path: Path) -> None:
    """Fewer images than one batch are refused."""
    with pytest.raises(ValueError, match="40 images are fewer than one batch of 128"):
        pretrain_without_labels(SelfSupervisedRecipe("species", epochs=1), tmp_path, tmp_path / "c.pt")


@pytest.mark.usefixtures("few_species")
@pytest.mark.parametrize("data", ["species", "cifar10"])
def test_command_writes_weights_and_card(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes weights that load by tag, and a card with accuracies."""
    monkeypatch.setattr(module, "PER_SPECIES", 40)  # more than one batch
    monkeypatch.setattr(module, "PER_CLASS", 3)
    root = photographs(tmp_path / "photographs") if data == "cifar10" else None
    before = sorted(WEIGHTS.iterdir())
    words = ["--self-supervised", "--epochs", "1", "--out", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "c")]
    main([*words, "--data", str(root or data), "--seed", "3"])
    assert sorted(WEIGHTS.iterdir()) == before
    name = f"net5-ssl_{data}"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.md", f"{name}.safetensors"]
    overlay = {"file": str(tmp_path / "out" / f"{name}.safetensors")}
    loaded = timm.create_model(f"net5.ssl_{data}", pretrained=True, pretrained_cfg_overlay=overlay)
    state = torch.load(tmp_path / "c" / f"{name}-seed3.pt", weights_only=True)["model"]
    assert torch.equal(loaded.stem.conv.weight, state["0.stem.conv.weight"].half().float())
    card = (tmp_path / "out" / f"{name}.md").read_text()
    assert f"python -m amllab.pretrain net5 --self-supervised --data {data} --epochs 1 --seed 3\n" in card
    assert "| nearest neighbours | **" in card
    assert "linear, 3 labels a class" in card
    assert str(tmp_path) not in card


def photographs(folder: Path) -> Path:
    """Write a folder in the place of CIFAR-10, with noise of two colours."""
    generator = torch.Generator().manual_seed(0)
    for part, n in (("train", 70), ("test", 5)):
        for name, tint in (("ant", 0), ("bee", 1)):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(n):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                pixels[..., tint] //= 3
                Image.fromarray(pixels.numpy()).save(place / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "without --self-supervised, the model is one of: net12, net6"),
        (["net5"], "without --self-supervised, the model is one of: net12, net6"),
        (["net6", "--self-supervised"], "--self-supervised, the model is one of: net5"),
        (["net6", "--epochs", "0"], "--epochs must be at least 1"),
    ],
)
def test_command_refuses_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that do not fit together are refused with a message."""
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err
