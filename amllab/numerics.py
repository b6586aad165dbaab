"""The faster numeric settings of the machine at hand: device, autocast and memory format.

Nothing here changes what a model computes beyond rounding: bfloat16 for convolutions and matrix
products where the hardware has instructions for it, float32 elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch

# numbers of the options in malloc.h, and bytes
_MALLOC = {"M_TRIM_THRESHOLD": (-1, 512 << 20), "M_MMAP_THRESHOLD": (-3, 32 << 20)}


def best_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The reduced precision that is faster than float32 on ``device``; ``None`` where float32 is as fast.

    Decided from what the hardware says of itself, not from a stopwatch, so that a machine always decides alike.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "mps":
        return None
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    has_bf16 = cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("amx_tile")
    return torch.bfloat16 if has_bf16 else None


def fast_math(device: torch.device | None = None) -> AbstractContextManager[object]:
    """Context in which models compute in the faster precision of ``device`` (default: the best one).

    May lie around a whole training. Loops need no loss scaling: bfloat16 has the range of float32.
    """
    device = device or best_device()
    dtype = autocast_dtype(device)
    # autocast keeps its copies of the weights until it ends: around several steps, the first step's would be used in all
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)


def keep_freed_memory() -> None:
    """Has malloc keep what a training frees for its next step, for this process and all that are forked from it; glibc only.

    It would give large tensors back to the system each time, and have it fill new pages with zeros for the next ones.
    What a process needs at most stays the same. mallopt(3).
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, size in _MALLOC.values():
            mallopt(option, size)


@contextmanager
def restored_settings() -> Iterator[None]:
    """Context that ends with the gradient mode and the default dtype that it began with."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which PyTorch computes on one thread: small tensors gain nothing from more, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def same_numbers() -> Iterator[None]:
    """Context in which a CPU computes in float32 on one thread: for numbers that verdicts hang on.

    Sums come out the same however many threads a machine has, and whether or not it is faster in bfloat16: code that switches
    autocast on by itself computes in float32 too (where no instruction is there for bfloat16, it would take ten times as
    long). What is left to differ is the last digits between kinds of processors.
    """
    switch = torch.set_autocast_enabled

    def switch_others(*arguments: Any) -> None:
        if arguments[0] != "cpu":
            switch(*arguments)

    with one_thread(), torch.autocast("cpu", enabled=False), patch.object(torch, "set_autocast_enabled", switch_others):
        yield


@contextmanager
def without_compiling() -> Iterator[None]:
    """Context in which ``torch.compile`` does nothing: compiling takes longer than the small trainings of checks.

    Torch reads the variable when ``torch.compile`` is called; the option is for functions that were compiled before.
    """
    dynamo = sys.modules.get("torch._dynamo")
    before = dynamo.config.disable if dynamo is not None else False
    with patch.dict(os.environ, {"TORCHDYNAMO_DISABLE": "1"}):
        if dynamo is not None:
            dynamo.config.disable = True
        try:
            yield
        finally:
            if (dynamo := sys.modules.get("torch._dynamo")) is not None:
                dynamo.config.disable = before
