"""Which function of a notebook hangs, from the record that its own process writes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from amllab.worker.hanging import answer_seconds, hanging, hangs_again, read, record, short_seconds

CELL = """
import time

def inner(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

def repeats(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        inner(0.02)

def outer(seconds):
    return [inner(seconds) for _ in range(1)]
"""


@pytest.fixture
def cell() -> dict[str, Any]:
    """The functions of a cell, as IPython compiles them."""
    namespace: dict[str, Any] = {}
    exec(compile(CELL, "/tmp/ipykernel_7/123.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("called", "deepest"), [("inner", "inner:4"), ("outer", "inner:4"), ("repeats", "repeats:9")])
def test_deepest_lasting_call_hangs(tmp_path: Path, cell: dict[str, Any], called: str, deepest: str) -> None:
    """The function that hangs is the deepest one that is in the same call all the time; library code does not count."""
    file = tmp_path / "calls"
    found: list[bytes] = []
    end = record(str(file), 0.4)
    threading.Timer(1.2, lambda: found.append(file.read_bytes())).start()  # while the call is under way, as a time-out
    cell[called](2.5)
    end()
    looks, calls = read(found[0])
    assert looks >= 5
    assert {name for name, _ in calls} <= {"inner:4", "repeats:9", "outer:14"}
    assert hanging(found[0]) == deepest
    assert hangs_again(found[0], [deepest]) == deepest
    assert hangs_again(found[0], ["another:1"]) == ""


def test_recording_ends(tmp_path: Path, cell: dict[str, Any]) -> None:
    """Nothing is written for short answers, or after the end."""
    file = tmp_path / "calls"
    record(str(file), 0.4)()
    time.sleep(0.3)
    assert not file.exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"no", b"[]", b"{}", b'{"looks": "x", "calls": []}', b'{"looks": 9, "calls": [[1]]}', b"[" * 50_000,
     b'{"looks": 1e999, "calls": []}', json.dumps({"looks": 9, "calls": [["f:1", 9]] * 10_000}).encode()],
)  # fmt: skip
def test_forged_records(data: bytes) -> None:
    """A record comes from the submission: whatever it has, the result is a short name or none."""
    assert len(hanging(data)) <= 200
    assert hangs_again(data, ["g:1"]) == ""
    assert len(read(data)[1]) <= 50


@pytest.mark.parametrize(
    ("limit", "short"), [(120, [10, 5, 2.5, 2]), (60, [5, 2.5, 2]), (40, [5, 2.5, 2]), (4, [4, 2.5, 2]), (1, [1, 1])]
)
def test_short_limit(limit: float, short: list[float]) -> None:
    """The short limit is a share of the limit of an answer, never longer, and halved each time it ends one."""
    assert [short_seconds(limit, stopped) for stopped in range(len(short))] == short
    assert short_seconds(limit, 10_000) == min(limit, 2)


def test_limit_of_a_check_cell() -> None:
    """A check cell may have more time for an answer than the others, and never less."""
    limits = {"answer_seconds": 40, "answer_seconds_at": {"check_accuracy": 120, "check_fit": 5}}
    assert [answer_seconds(limits, cell) for cell in ("check_accuracy", "check_fit", "other", None)] == [
        120,
        40,
        40,
        40,
    ]
    assert answer_seconds({"answer_seconds": 40}, "check_accuracy") == 40
