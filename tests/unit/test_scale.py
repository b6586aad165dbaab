"""The simulated queue is one where the answer is known."""

from __future__ import annotations

import pytest

from bench.scale import simulate


def test_cores_limit_a_class_that_comes_at_once() -> None:
    found = simulate([0.0] * 8, [3.0] * 8, cores=2, book=0.0)
    assert found.seconds == 12
    assert found.computing == 1
    assert found.wait(0.5) == 9
    assert found.wait(1) == 12


def test_the_book_limits_many_cores() -> None:
    found = simulate([0.0] * 100, [1.0] * 100, cores=100, book=0.5)
    assert found.seconds == pytest.approx(51)
    assert found.keeping == pytest.approx(50 / 51)


def test_nobody_waits_where_few_come() -> None:
    found = simulate([0.0, 100.0, 200.0], [3.0] * 3, cores=1, book=0.25)
    assert found.waits == [3.25] * 3
