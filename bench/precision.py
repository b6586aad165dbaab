"""Compare bfloat16 with float32 on this machine's CPU: ``python -m bench.precision``

Train and evaluate the course's backbones in both precisions, in turns, on one thread. Print the images that are
processed in a second of processor time, the best of several turns, next to what the processor reports and what
:func:`amllab.fast_math` chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import timm
import torch
from torch import nn
from torch.nn import functional as F

from amllab.numerics import autocast_dtype, one_thread

MODELS, BATCH, STEPS, TURNS = ("net12", "net6", "net5"), 64, 4, 3
FEATURES = ("avx512_f", "avx512_bf16", "amx_tile", "amx_bf16")
PRECISIONS = {"float32": False, "bfloat16": True}


def steps_of(model: nn.Module, *, train: bool) -> Callable[[], None]:
    """Return a function that processes some batches."""
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    optimizer = torch.optim.AdamW(model.parameters())

    def run() -> None:
        for _ in range(STEPS):
            if not train:
                with torch.no_grad():
                    model(images)
                continue
            optimizer.zero_grad()
            F.cross_entropy(model(images).float(), labels).backward()
            optimizer.step()

    model.train(train)
    return run


def images_a_second(run: Callable[[], None], *, reduced: bool) -> float:
    """Return the images that are processed in a second of processor time."""
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced, cache_enabled=False):
        run()
    return BATCH * STEPS / (time.process_time() - began)


def main() -> None:
    """Print a table."""
    reported = torch.cpu.get_capabilities()
    print("processor:", ", ".join(f"{name} {bool(reported.get(name))}" for name in FEATURES))
    print("fast_math chooses:", autocast_dtype(torch.device("cpu")) or torch.float32)
    print("| network | | float32 | bfloat16 | bfloat16 / float32 |\n|---|---|---|---|---|")
    with one_thread():
        for name in MODELS:
            for train in (True, False):
                torch.manual_seed(0)
                model = timm.create_model(name, num_classes=10).to(memory_format=torch.channels_last)
                run = steps_of(model, train=train)
                turns = [
                    {word: images_a_second(run, reduced=on) for word, on in PRECISIONS.items()} for _ in range(TURNS)
                ]
                full, half = (max(turn[word] for turn in turns) for word in PRECISIONS)
                print(
                    f"| {name} | {'train' if train else 'evaluate'} | {full:,.0f} | {half:,.0f} | {half / full:.2f} |"
                )


if __name__ == "__main__":
    main()
