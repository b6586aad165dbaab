"""The simulated grading queue, in cases with a known answer."""

from __future__ import annotations

import pytest

from bench.scale import simulate


def test_queue_limited_by_cores() -> None:
    """If everyone submits at once, the cores limit the queue."""
    found = simulate([0.0] * 8, [3.0] * 8, cores=2, book=0.0)
    assert found.seconds == 12
    assert found.computing == 1
    assert found.wait(0.5) == 9
    assert found.wait(1) == 12


def test_queue_limited_by_gradebook() -> None:
    """With many cores, the gradebook limits the queue."""
    found = simulate([0.0] * 100, [1.0] * 100, cores=100, book=0.5)
    assert found.seconds == pytest.approx(51)
    assert found.keeping == pytest.approx(50 / 51)


def test_queue_without_waiting() -> None:
    """With few submissions, each waits only for its own grading."""
    found = simulate([0.0, 100.0, 200.0], [3.0] * 3, cores=1, book=0.25)
    assert found.waits == [3.25] * 3
