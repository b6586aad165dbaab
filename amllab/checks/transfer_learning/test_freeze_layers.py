"""Public checks of exercise 1, ``freeze_layers``."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.models import last_layers

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")


def freeze(submission, backbone, *calls, **arguments):
    """The answers to calls of ``freeze_layers`` on one model, one for each."""
    answers = submission.ask("freeze", backbone=backbone, calls=list(calls), **arguments)
    expect(
        len(answers) == len(calls),
        expected=f"{len(calls)} results for {len(calls)} calls",
        seen=f"{len(answers)} results",
        why="each call is looked at by itself",
    )
    return answers


def raised(got):
    """The error of a call in words."""
    return f"{' '.join(got['error'][:1])}: {got['message']}"


@pytest.mark.points(2)
def test_returns_the_model(submission, rng):
    """`freeze_layers` works in place and returns the very model it was given."""
    n = rng.randint(1, 5)
    (got,) = freeze(submission, "net6", n)
    expect(
        got.get("same_object") is True,
        expected=f"`freeze_layers(model, {n}) is model`",
        seen=raised(got) if "error" in got else "another object, or nothing at all",
        why="whoever holds the model, an optimizer for instance, must see the same layers frozen",
    )


@pytest.mark.points(6)
@pytest.mark.needs("test_returns_the_model")
def test_last_layers_are_trainable(submission, rng):
    """Exactly the last `n_trainable` layers can be trained, counted from the head backwards."""
    for n in (1, rng.randint(2, 5), 6, 0):
        (got,) = freeze(submission, "net6", n)
        expect(
            "error" not in got,
            expected=f"`freeze_layers(model, {n})` returns: 0 <= {n} <= 6 layers",
            seen=raised(got) if "error" in got else "",
            why="0 and all layers are both allowed: nothing trainable, nothing frozen",
        )
        wanted, seen = set(last_layers("net6", n)), set(got["trainable"])
        too_many, too_few = sorted(seen - wanted), sorted(wanted - seen)
        expect(
            seen == wanted,
            expected=f"{len(wanted)} trainable parameters for n_trainable={n} of net6's 6 layers",
            seen=f"{len(seen)} trainable; trainable but should be frozen: {_some(too_many)}; "
            f"frozen but should be trainable: {_some(too_few)}",
            why="the first layers hold what transfers best (edges, colours); the last ones are specific to the old task",
        )


@pytest.mark.points(2)
def test_refuses_impossible_numbers(submission, rng):
    """`ValueError` unless `0 <= n_trainable <= len(layers_of(model))`."""
    for n in (-1, 7, -rng.randint(2, 5), 6 + rng.randint(2, 50)):
        (got,) = freeze(submission, "net6", n)
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for n_trainable={n} (net6 has 6 layers)",
            seen=raised(got) if "error" in got else "no error",
            why="a negative index silently counts from the other end of a list: an error is better than a wrong experiment",
        )


def _some(names):
    return (
        ", ".join(f"`{name}`" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        or "none"
    )
