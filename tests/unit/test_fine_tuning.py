"""Fine-tuning of the teacher: it never sees validation or test images, it learns, and its card states the results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amllab import load_backbone
from amllab.backbones import WEIGHTS
from amllab.images import LabelledImages
from amllab.pretrain.__main__ import arguments
from amllab.pretrain.fine_tuning import (
    FineTuningRecipe,
    evaluated,
    fine_tune,
    training_part,
    write_teacher_card,
)
from amllab.reptiles import reptile_arrays, reptile_loaders
from amllab.views import normalise

RECIPE = FineTuningRecipe("net6", epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def colours() -> LabelledImages:
    """Images that their colour tells apart."""
    labels = torch.arange(48) % 3
    images = torch.randint(0, 60, (48, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    images[torch.arange(48), labels] += 180
    return LabelledImages(images.to(torch.uint8), labels, ("red", "green", "blue"), "colours")


def test_training_images() -> None:
    """The teacher learns from the images that lab 1 trains on: none of them is for validation or testing."""
    data = training_part()
    own = {image.numpy().tobytes() for image in data.images}
    assert len(own) == 2000
    train, val = reptile_loaders(source="drawn", seed=0)
    of_lab_1 = train.dataset.data.images  # type: ignore[attr-defined]
    assert own == {image.numpy().tobytes() for image in of_lab_1}
    others = [val.dataset.data.images, reptile_arrays("test", "drawn").images]  # type: ignore[attr-defined]
    assert not own & {image.numpy().tobytes() for images in others for image in images}


def test_fine_tuning_learns(colours: LabelledImages) -> None:
    """The loss falls, the head has the classes of the data, and a seed determines the weights."""
    model, figures = fine_tune(RECIPE, colours)
    assert figures["images"] == 48
    assert len(figures["losses"]) == 2
    assert figures["losses"][1] < figures["losses"][0]
    assert not model.training
    assert model(normalise(colours.images[:2])).shape == (2, 3)
    again, _ = fine_tune(RECIPE, colours)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    start = load_backbone("net6").state_dict()
    assert not torch.equal(model.state_dict()["stem.conv.weight"], start["stem.conv.weight"])


def test_too_few_images(colours: LabelledImages) -> None:
    """Fewer images than a batch are refused."""
    with pytest.raises(ValueError, match="10 images are fewer than one batch of 16"):
        fine_tune(RECIPE, colours.subset(torch.arange(10)))


class Certain(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 0.0, 2.0]).log().clamp(min=-30).expand(len(images), 3)


def test_evaluation(colours: LabelledImages) -> None:
    """Accuracy and confidence are means over all images."""
    results = evaluated(Certain(), colours)
    assert results["accuracy"] == pytest.approx(1 / 3)
    assert results["confidence"] == pytest.approx(1)
    assert results["loss"] == pytest.approx((30 + 0.6931) * 2 / 3, rel=1e-3)


def test_card(tmp_path: Path) -> None:
    """The card states accuracy, confidence and the command that reproduces the weights."""
    figures = {"seconds": 90.0, "losses": [1.0, 0.5], "images": 2000}
    results = {"accuracy": 0.8123, "confidence": 0.7512, "loss": 0.6}
    write_teacher_card(tmp_path / "card.md", FineTuningRecipe(), figures, results, 5, 7)
    card = (tmp_path / "card.md").read_text()
    for words in (
        "| accuracy | **81.2%** |",
        "75.1%",
        "python -m amllab.pretrain net12 --reptiles --epochs 6 --seed 0",
    ):
        assert words in card
    assert str(tmp_path) not in card


def test_shipped_card() -> None:
    """The card of the shipped teacher is that of its recipe and of its file."""
    card = (WEIGHTS / "net12-reptiles.md").read_text()
    assert f"{(WEIGHTS / 'net12-reptiles.safetensors').stat().st_size:,} bytes" in card
    assert f"{sum(p.numel() for p in load_backbone('net12.reptiles').parameters()):,} parameters" in card
    assert f"| lr | {FineTuningRecipe().lr} |" in card


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The model may be left out; other models, other data and two kinds of training at once are refused."""
    assert arguments(["--reptiles"]).model == "net12"
    assert arguments(["--self-supervised"]).model == "net5"
    for words, told in (
        (["net6", "--reptiles"], "--reptiles, the model is one of: net12"),
        (["--reptiles", "--data", "x"], "takes no --data"),
        (["--reptiles", "--self-supervised"], "not allowed with"),
        ([], "without --self-supervised, the model is one of: net12, net6"),
    ):
        with pytest.raises(SystemExit):
            arguments(words)
        assert told in capsys.readouterr().err
