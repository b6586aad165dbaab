"""Numeric settings for this machine: device, precision, memory and threads.

None of them changes what a model computes beyond rounding: bfloat16 for convolutions and matrix products where the
hardware is faster with it, float32 otherwise.
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

# option numbers from malloc.h, and values in bytes
_MALLOC = {"M_TRIM_THRESHOLD": (-1, 512 << 20), "M_MMAP_THRESHOLD": (-3, 32 << 20)}


def best_device() -> torch.device:
    """Return the CUDA device if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the reduced precision that is faster than float32 on ``device``, or ``None`` if there is none.

    The choice depends on the capabilities that the hardware reports, not on timings, so that a machine always makes the
    same choice.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "mps":
        return None
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    # Matrix units are faster with bfloat16. AVX512-BF16 alone is slower than float32: see bench/precision.py.
    return torch.bfloat16 if cpu.get("amx_bf16") or cpu.get("amx_tile") else None


def fast_math(device: torch.device | None = None) -> AbstractContextManager[object]:
    """Return a context in which models compute in the faster precision of a device.

    The context may enclose a whole training run. Training loops need no loss scaling: bfloat16 has the range of
    float32.

    Args:
        device: device of the models (default: :func:`best_device`).

    Returns:
        Autocast to bfloat16 if it is faster there, else a context without effect.
    """
    device = device or best_device()
    dtype = autocast_dtype(device)
    # autocast caches its casts of the weights until it ends: over several steps, it would keep using those of the first
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)


def keep_freed_memory() -> None:
    """Make malloc keep the memory that a training step frees for the next step; glibc only.

    By default, malloc returns large tensors to the system each time, and the system fills new pages with zeros for
    the next ones. The setting applies to this process and to all processes forked from it. Their peak memory does not
    change. See mallopt(3).
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, size in _MALLOC.values():
            mallopt(option, size)


@contextmanager
def restored_settings() -> Iterator[None]:
    """Restore the gradient mode and the default dtype at the end of the context."""
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread within the context.

    Small tensors gain nothing from more threads, and lose much on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def same_numbers() -> Iterator[None]:
    """Let the CPU compute in float32 on one thread within the context, for numbers that determine points.

    Sums then depend neither on the number of threads of a machine nor on whether bfloat16 is faster there. Code that
    enables autocast by itself also computes in float32; without hardware instructions for bfloat16, autocast would take
    ten times as long. Only the last digits may still differ between types of processors.
    """
    switch = torch.set_autocast_enabled

    def switch_others(*arguments: Any) -> None:
        if arguments[0] != "cpu":
            switch(*arguments)

    with one_thread(), torch.autocast("cpu", enabled=False), patch.object(torch, "set_autocast_enabled", switch_others):
        yield


@contextmanager
def without_compiling() -> Iterator[None]:
    """Disable ``torch.compile`` within the context: compiling takes longer than the short training runs of the checks.

    PyTorch reads the environment variable when ``torch.compile`` is called; the option disables functions that were
    compiled before.
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
