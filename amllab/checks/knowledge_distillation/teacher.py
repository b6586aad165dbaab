"""The teacher of exercise 4: a net5 that knows drawn species, and the command that trains it.

``python -m amllab.checks.knowledge_distillation.teacher`` trains it again and writes its weights next to this file. Its
images are other individuals of the same species than those that grading draws.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import backbones  # noqa: F401  (registers net5)
from amllab.lab import find_lab
from amllab.species import draw_species
from amllab.views import RandomViews, normalise

FILE = Path(__file__).with_name("teacher.safetensors")
INDIVIDUALS, TEST_INDIVIDUALS = 1, 2  # of the teacher's images; grading uses large random numbers
IMAGES, TEST_IMAGES = 500, 100  # of each species
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 12, 50, 3e-3, 0.05
CROP = (0.6, 1.0)

State = dict[str, Tensor]


def new_teacher(species: int) -> nn.Module:
    """Return a net5 with random weights: normalised images ``(n, 3, h, w)`` to logits ``(n, species)``."""
    return timm.create_model("net5", num_classes=species)


@lru_cache(maxsize=1)
def teacher_state() -> State:
    """Return the weights of the trained teacher, in float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(FILE).items()}


def train(species: int, family: int, side: int) -> tuple[State, float]:
    """Train the teacher with labels.

    Args:
        species: Number of species.
        family: Seed of the species.
        side: Side of the images, in pixels.

    Returns:
        The weights in half precision, and the accuracy on other individuals.
    """
    data = draw_species(species, IMAGES, family, size=side, individuals=INDIVIDUALS)
    test = draw_species(species, TEST_IMAGES, family, size=side, individuals=TEST_INDIVIDUALS)
    torch.manual_seed(0)
    model = new_teacher(species).train()
    views = RandomViews(crop=CROP, colour=0.0, grey=0.0)
    steps = EPOCHS * (len(data.labels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.labels)).split(BATCH):
            loss = F.cross_entropy(model(views(data.images[rows])), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    with torch.no_grad():
        right = model.eval()(normalise(test.images)).argmax(1) == test.labels
    return state, right.double().mean().item()


if __name__ == "__main__":
    budget = find_lab("knowledge_distillation").settings["accuracy"]
    began = time.process_time()
    found, accuracy = train(budget["species"], budget["species_seed"], budget["side"])
    save_file(found, FILE)
    print(f"{FILE.name}: {100 * accuracy:.1f} % of new images right, {time.process_time() - began:.0f} s of a core")
