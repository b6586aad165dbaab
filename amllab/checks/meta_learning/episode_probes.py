"""Probe of exercise 1: episodes that are drawn, and what a draw does to random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from amllab.kit.probing import Raised, raised, type_name
from amllab.protocol.schema import IntMatrix, IntVector
from amllab.protocol.submission import Functions, capture_error

PARTS = ("support_index", "support_labels", "query_index", "query_labels")


class Entry(TypedDict):
    """One entry of a tuple that was returned.

    Attributes:
        type: Its type, such as ``"Tensor"``.
        dtype: The dtype of a tensor, such as ``"int64"``; else empty.
        shape: The shape of a tensor; else empty.
    """

    type: str
    dtype: str
    shape: list[int]


class Episodes(TypedDict):
    """What several draws returned.

    Attributes:
        returned: Type of what the first draw returned.
        entries: The entries of that, if it is a tuple or a list; at most eight.
        numbers: The first four entries of all draws one after the other, as whole numbers.
        counts: How many numbers each draw has in each entry, int64 ``(draws, 4)``.
        changed: Whether a draw changed the labels.
        touched: Global generators that a draw used or changed: some of ``random``, ``numpy`` and ``torch``.
    """

    returned: str
    entries: list[Entry]
    numbers: list[IntVector]
    counts: IntMatrix
    changed: bool
    touched: list[str]


def episodes(
    functions: Functions,
    *,
    labels: Tensor,
    n_way: int,
    k_shot: int,
    n_query: int,
    seeds: list[int],
    used: int = 0,
    calls: int = 1,
) -> Episodes | Raised:
    """Call ``sample_episode`` with a generator for each seed; the global generators are in another state at each call.

    Args:
        functions: Functions of the notebook.
        labels: Labels of a data set, int64 ``(n,)``.
        n_way: Number of classes.
        k_shot: Support images of each class.
        n_query: Query images of each class.
        seeds: Seeds of the generators.
        used: How many random numbers are taken from each generator before its first call.
        calls: How many calls in a row each generator is passed to.

    Returns:
        The draws in the order of the seeds, or the error that one raised.
    """
    given = labels.clone()
    drawn: list[Any] = []
    touched: set[str] = set()

    def draw() -> None:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            if used:
                torch.rand(used, generator=generator)
            for _ in range(calls):
                _seed_all(len(drawn))
                before = _states()
                drawn.append(functions.sample_episode(given, n_way, k_shot, n_query, generator))
                touched.update(name for name, state in _states().items() if state != before[name])

    with _states_restored():
        got = capture_error(draw)
    if "error" in got:
        return raised(got)
    rows = [[_whole_numbers(entry) for entry in _entries(episode)] for episode in drawn]
    rows = [[*row[: len(PARTS)], *[torch.empty(0, dtype=torch.int64)] * (len(PARTS) - len(row))] for row in rows]
    return {
        "returned": type_name(drawn[0]),
        "entries": [_described(entry) for entry in _entries(drawn[0])[:8]],
        "numbers": [torch.cat(column) for column in zip(*rows, strict=True)],
        "counts": torch.tensor([[len(numbers) for numbers in row] for row in rows]),
        "changed": not torch.equal(given, labels),
        "touched": sorted(touched),
    }


def _entries(episode: Any) -> Sequence[Any]:
    return episode if isinstance(episode, (tuple, list)) else []


def _described(entry: Any) -> Entry:
    dtype = str(entry.dtype).removeprefix("torch.") if isinstance(entry, Tensor) else ""
    return {"type": type_name(entry), "dtype": dtype, "shape": list(entry.shape) if isinstance(entry, Tensor) else []}


def _whole_numbers(entry: Any) -> Tensor:
    """Return the numbers of an entry in one row: also those of a list, of several tensors or of an array."""
    with suppress(TypeError, ValueError, RuntimeError):
        if isinstance(entry, (tuple, list)) and all(isinstance(one, Tensor) for one in entry):
            entry = torch.cat([one.flatten() for one in entry])
        return torch.as_tensor(entry).detach().cpu().long().flatten()
    return torch.empty(0, dtype=torch.int64)


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _states() -> dict[str, Any]:
    # as bytes, which can be compared
    numpy: Any = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy": (bytes(numpy[1]), *numpy[2:]),
        "torch": bytes(torch.get_rng_state().numpy()),
    }


@contextmanager
def _states_restored() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
