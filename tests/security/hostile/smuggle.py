"""Train the weights that the attack ``smuggled_weights`` embeds in its notebook, in about four minutes.

Run ``python -m tests.security.hostile.smuggle``. The synthetic images of the grading come from a public generator, so
that anyone can train on thousands of them at home. The result is a network small enough for a notebook cell (8 bits
for each weight, about 100 kB as base64), and a head for the pretrained ``net6``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import load_backbone
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.synthetic_images import draw

FILE = Path(__file__).parent / "smuggled.safetensors"
IMAGES, EPOCHS, SEED = 8000, 14, 20_000


def network() -> nn.Sequential:
    """Return the small network; the attack contains the same layers as text."""
    layers: list[nn.Module] = []
    for wide, narrow in ((24, 3), (40, 24), (64, 40), (64, 64)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4, 5))


def fit(model: nn.Module, inputs: Tensor, labels: Tensor, lr: float, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    batches = -(-len(labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * batches)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(model(inputs[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def main() -> None:
    torch.manual_seed(SEED)
    data = draw(IMAGES + 1000, seed=SEED)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    images = (data.images / 255 - mean) / std
    train, test = images.split([IMAGES, 1000])
    labels = data.labels[:IMAGES], data.labels[IMAGES:]
    small = network()
    fit(small, torch.cat([train, train.flip(3)]), labels[0].repeat(2), 5e-3, EPOCHS)
    backbone = load_backbone("net6").eval()
    with torch.no_grad():
        known, new = (
            torch.cat([backbone.forward_head(backbone.forward_features(p), pre_logits=True) for p in x.split(250)])
            for x in (train, test)
        )
    head = nn.Linear(known.shape[1], 5)
    fit(head, known, labels[0], 1e-2, 30)
    with torch.no_grad():
        for name, logits in (("network", small(test)), ("head", head(new))):
            print(f"{name}: {(logits.argmax(1) == labels[1]).float().mean():.1%} of 1000 other drawn images")
    states = {"network": small.state_dict(), "head": head.state_dict()}
    tensors = {f"{name}/{key}": v for name, state in states.items() for key, v in state.items() if v.ndim}
    save_file(small_enough(tensors), FILE)


def small_enough(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store weights in 8 bits with a scale for each output, and all other tensors in 16 bits."""
    packed = {}
    for name, value in tensors.items():
        packed[name] = value.half()
        if value.ndim > 1:
            scale = value.abs().flatten(1).amax(1) / 127
            packed[name] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
            packed[f"{name}*"] = scale.half()
    return packed


if __name__ == "__main__":
    main()
