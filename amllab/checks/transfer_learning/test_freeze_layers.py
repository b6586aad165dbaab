"""Public checks of exercise 1, ``freeze_layers``."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning import symptoms
from amllab.checks.transfer_learning.models import last_layers

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")

MODEL = 'model = load_backbone("net6")  # 6 layers\n'
TRAINABLE = "\n[name for name, p in model.named_parameters() if p.requires_grad]"


def freeze(submission, backbone, *calls, **arguments):
    """The answers to calls of ``freeze_layers`` on one model, one for each."""
    answers = submission.ask("freeze", backbone=backbone, calls=list(calls), **arguments)
    expect(
        len(answers) == len(calls),
        expected=f"{len(calls)} results for {len(calls)} calls",
        seen=f"{len(answers)} results",
        why="each call is looked at by itself",
        symptom="another number of answers",
    )
    return answers


def raised(got):
    """The error of a call in words."""
    return f"{' '.join(got['error'][:1])}: {got['message']}"


def some(names):
    """The first of many names, for a report."""
    return (
        ", ".join(f"`{name}`" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        or "none"
    )


@pytest.mark.points(2)
def test_returns_the_model(submission, rng):
    """`freeze_layers` works in place and returns the very model it was given."""
    n = rng.randint(1, 5)
    (got,) = freeze(submission, "net6", n)
    reproduce = (
        f"{MODEL}freeze_layers(model, {n}) is model  # True where the function works in place and returns the model"
    )
    expect(
        "error" not in got,
        expected=f"`freeze_layers(model, {n})` returns, for net6 with its 6 layers",
        seen=raised(got) if "error" in got else "",
        why="an exception ends the call before anything is frozen",
        symptom=symptoms.raised(got) if "error" in got else "",
        reproduce=reproduce,
    )
    # a model that is given has nothing frozen yet
    touched = not set(last_layers("net6", 6)) <= set(got["trainable"])
    expect(
        got["same_object"],
        expected=f"`freeze_layers(model, {n}) is model`",
        seen="something else is returned, "
        + ("though the model has been changed" if touched else "and the model itself has nothing frozen"),
        why="whoever holds the model, an optimizer for instance, must see the same layers frozen",
        symptom="in place, but not returned" if touched else "model itself untouched",
        reproduce=reproduce,
    )


@pytest.mark.points(4)
@pytest.mark.needs("test_returns_the_model")
def test_last_layers_are_trainable(submission, rng):
    """Exactly the last `n_trainable` layers can be trained, counted from the head backwards."""
    expect_last_layers(submission, (1, rng.randint(2, 5)))


@pytest.mark.points(2)
@pytest.mark.needs("test_last_layers_are_trainable")
def test_all_and_none(submission):
    """All layers can be left trainable, and none."""
    expect_last_layers(submission, (6, 0))


def expect_last_layers(submission, numbers):
    """Fails the check unless exactly the last layers of a fresh model are trainable, for each of the numbers."""
    answers = {n: freeze(submission, "net6", n)[0] for n in numbers}
    errors = [n for n, got in answers.items() if "error" in got]
    returned = {n: set(got["trainable"]) for n, got in answers.items() if "error" not in got}
    symptom = symptoms.freezing([("net6", n, seen) for n, seen in returned.items()])
    if errors:
        which = "" if len(errors) == len(answers) else " for " + ", ".join(str(n) for n in errors if n in (0, 1, 6))
        symptom = symptoms.join(symptoms.raised(answers[errors[0]]) + which.removesuffix(" for "), symptom)
    for n, got in answers.items():
        reproduce = f"{MODEL}freeze_layers(model, {n}){TRAINABLE}"
        expect(
            "error" not in got,
            expected=f"`freeze_layers(model, {n})` returns: any number from 0 to 6 is possible for 6 layers",
            seen=raised(got) if "error" in got else "",
            why="0 and all layers are both allowed: nothing trainable, nothing frozen",
            symptom=symptom,
            reproduce=reproduce,
        )
        wanted, seen = set(last_layers("net6", n)), returned[n]
        expect(
            seen == wanted,
            expected=f"{len(wanted)} trainable parameters for n_trainable={n} of net6's 6 layers",
            seen=f"{len(seen)} trainable; trainable but should be frozen: {some(sorted(seen - wanted))}; "
            f"frozen but should be trainable: {some(sorted(wanted - seen))}",
            why="the first layers hold what transfers best (edges, colours); the last ones are specific to the old task",
            symptom=symptom,
            reproduce=reproduce,
        )


@pytest.mark.points(2)
def test_refuses_impossible_numbers(submission, rng):
    """`ValueError` unless `0 <= n_trainable <= len(layers_of(model))`."""
    numbers = {
        "-1": -1,
        "one more than there are": 7,
        "negative numbers": -rng.randint(2, 5),
        "many more than there are": 6 + rng.randint(2, 50),
    }
    answers = {name: freeze(submission, "net6", n)[0] for name, n in numbers.items()}
    for name, got in answers.items():
        n = numbers[name]
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for n_trainable={n} (net6 has 6 layers)",
            seen=raised(got) if "error" in got else "no error",
            why="a negative index silently counts from the other end of a list: an error is better than a wrong experiment",
            symptom=symptoms.accepted(answers),
            reproduce=f"{MODEL}freeze_layers(model, {n})  # raises ValueError where the number is checked",
        )
