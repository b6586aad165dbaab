"""``evaluate`` and ``predict``, compared with manual calculations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.training import evaluate, predict


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 5)
    )


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (7, 7, 2)
    return [
        (torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)) for n in sizes
    ]


class Logits(nn.Module):
    """A model that returns its input as logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_evaluate_means_over_examples() -> None:
    """Means are over examples, not over batches."""
    sure, undecided = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    batches = [(sure.repeat(3, 1), torch.tensor([0, 0, 1])), (undecided, torch.tensor([0]))]
    measured = evaluate(Logits(), batches)
    # probabilities: 3/4 and 1/4 for the confident examples, 1/2 each for the undecided one
    assert measured["loss"] == pytest.approx(-(2 * math.log(3 / 4) + math.log(1 / 4) + math.log(1 / 2)) / 4)
    assert measured["accuracy"] == 3 / 4
    assert all(type(value) is float for value in measured.values())


def test_evaluate_equals_single_pass(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Results equal those of a single pass over all examples."""
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    measured = evaluate(model, batches)
    model.eval()
    logits = model(images)
    assert measured["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)
    assert measured["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_evaluate_leaves_model_unchanged(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Modes, weights, buffers and gradients of the model do not change."""
    model.train()
    model[1].eval()  # a frozen BatchNorm
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, batches)
    predict(model, batches)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_evaluate_restores_modes_on_error(model: nn.Sequential) -> None:
    """The modes of the model are restored after an error."""
    model.train()
    with pytest.raises(RuntimeError):
        evaluate(model, [(torch.zeros(1, 5, 8, 8), torch.tensor([0]))])
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


def test_empty_loader(model: nn.Sequential) -> None:
    for measure in (evaluate, predict):
        with pytest.raises(ValueError, match="empty"):
            measure(model, [])
        with pytest.raises(ValueError, match="empty"):
            measure(model, [(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64))])


def test_evaluate_reports_nan() -> None:
    """A loss of NaN is reported as NaN."""
    assert math.isnan(evaluate(Logits(), [(torch.full((2, 3), math.nan), torch.tensor([0, 1]))])["loss"])


def test_evaluate_uses_caller_precision(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Autocast of the caller applies."""
    exact = evaluate(model, batches)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = evaluate(model, batches)["loss"]
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.02)


def test_evaluate_ignores_autocast_cache(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Within a long autocast context, the current weights are used."""
    with torch.autocast("cpu", torch.bfloat16):
        model(batches[0][0])  # from here on, autocast caches these weights in bfloat16
        with torch.no_grad():
            for parameter in model[-1].parameters():
                parameter.zero_()
        assert evaluate(model, batches)["loss"] == pytest.approx(math.log(5))


def test_predict(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Probabilities, labels and images come in the order of the loader."""
    probabilities, labels, images = predict(model, batches)
    assert probabilities.shape == (16, 5)
    assert probabilities.dtype == images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(labels, torch.cat([y for _, y in batches]))
    assert torch.equal(images, torch.cat([x for x, _ in batches]))
    assert torch.allclose(probabilities.sum(1), torch.ones(16))
    assert (probabilities.argmax(1) == labels).float().mean().item() == pytest.approx(
        evaluate(model, batches)["accuracy"]
    )
    assert not probabilities.requires_grad
