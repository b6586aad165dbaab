"""Public checks of exercise 1, ``freeze_layers``."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning import freezing
from amllab.kit import symptoms
from amllab.kit.expectations import Call, printed, refuses, returned, returns

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")

MODEL = 'model = load_backbone("net6")  # 6 layers\n'
# what was done to the model instead of setting `requires_grad` on its parameters
INSTEAD = {
    "modules": "`requires_grad` was set on modules, where it has no effect",
    "grad": "Gradients were cleared, as by `p.grad = None`; the next `backward()` computes them again",
    "hooks": "Hooks were registered on parameters, but they remain trainable: `requires_grad` is still True",
}
TRAINABLE = "\n[name for name, p in model.named_parameters() if p.requires_grad]"


def called(n):
    """Return the call of ``freeze_layers`` on net6."""
    return Call(f"freeze_layers(model, {n})", MODEL, short=f"n_trainable={n}")


def freeze(submission, backbone, *calls, **arguments):
    """Return the answers to calls of ``freeze_layers`` on one model, one for each call."""
    answers = submission.ask("freeze", backbone=backbone, calls=list(calls), **arguments)
    expect(
        len(answers) == len(calls),
        expected=f"{len(calls)} results for {len(calls)} calls",
        seen=f"{len(answers)} results",
        why="each call is looked at by itself",
        symptom="another number of answers",
    )
    return answers


def on_new_models(submission, backbone, numbers):
    """Return number -> answer for calls with these numbers, each on a new model."""
    return dict(zip(numbers, freeze(submission, backbone, *numbers, one_model=False), strict=True))


def every_number(submission):
    """Return the answers for net6 and every possible number of layers.

    All checks use the same numbers, so that no result depends on chance.
    """
    return on_new_models(submission, "net6", range(7))


def cases(backbone, answers):
    """Return what was trainable after each call that returned."""
    return [(backbone, n, set(got["trainable"])) for n, got in answers.items() if "error" not in got]


def rules(submission):
    """Return the rules that explain how net6 is frozen for every number; empty if no usual rule does."""
    return freezing.rules_of(cases("net6", every_number(submission)))


@pytest.mark.points(2)
def test_returns_the_model(submission):
    """`freeze_layers` works in place and returns the very model it was given."""
    answers = every_number(submission)
    kinds = {n: got["returned"] for n, got in answers.items() if "error" not in got}
    if not kinds:
        returns(answers[3], called(3), why="an exception ends the call before anything is frozen")
    n, kind = next(((n, kind) for n, kind in kinds.items() if kind != "model"), (3, "model"))
    is_copy = kind == "copy"
    expect(
        kind == "model",
        expected=f"`freeze_layers(model, {n}) is model`",
        seen="another model is returned, and the one that was given is as it was"
        if is_copy
        else returned(kind, "model"),
        why="everyone who holds the model, an optimizer for instance, must see the same layers frozen"
        if is_copy
        else "the notebook goes on with what is returned: `model = freeze_layers(model, 4)`",
        symptom={"copy": "model itself untouched", "NoneType": "in place, but not returned"}.get(
            kind, "something else returned"
        ),
        reproduce=f"{called(n).lines} is model",
    )


@pytest.mark.points(4)
def test_last_layers_are_trainable(submission):
    """Exactly the last `n_trainable` layers can be trained, counted from the head backwards."""
    expect_last_layers(submission, (3, 1, 2, 4, 5))


@pytest.mark.points(2)
def test_all_and_none(submission):
    """All layers can be left trainable, and none."""
    expect_last_layers(submission, (0, 6))


def _right_of_net12(submission):
    """Return whether net12's last layers are trainable for every requested number."""
    answers = on_new_models(submission, "net12", (0, 1, 4, 7, 11))
    return freezing.rules_of(cases("net12", answers)) == [freezing.RIGHT] and not any(
        "error" in got for got in answers.values()
    )


def expect_last_layers(submission, numbers):
    """Fail the check unless exactly the last layers of a new net6 are trainable, for each of the numbers."""
    answers = every_number(submission)
    asked = {n: answers[n] for n in numbers}
    errors = [n for n, got in asked.items() if "error" in got]
    everything = cases("net6", answers)
    symptom = freezing.symptom(everything)
    if errors:
        which = "" if len(errors) == len(asked) else " for " + ", ".join(str(n) for n in errors if n in (0, 1, 6))
        symptom = symptoms.join(symptoms.raised(asked[errors[0]]) + which.removesuffix(" for "), symptom)
    cause = ""
    if symptom == "nothing frozen":
        flagged = next(iter(asked.values())).get("flagged", "")
        cause = ". " + (
            INSTEAD.get(flagged)
            or (
                f"`{flagged}` was assigned to on parameters; the attribute is called `requires_grad`" if flagged else ""
            )
            or "No parameter's `requires_grad` was set to False"
        )
    elif symptom and _right_of_net12(submission):
        cause, symptom = (
            "; of net12 it is right: are names of its layers, or their number, written into the code?",
            "right of net12 alone",
        )
    for n, got in asked.items():
        returns(
            got,
            called(n),
            expected=f"`freeze_layers(model, {n})` returns: any number from 0 to 6 is possible for 6 layers",
            why="0 and all layers are both allowed: nothing trainable, nothing frozen"
            if n in (0, 6)
            else "an exception ends the call before anything is frozen",
            symptom=symptom,
        )
        wanted, seen = freezing.net("net6").last(n), set(got["trainable"])
        counted = freezing.count_in_words("net6", everything)
        expect(
            seen == wanted,
            expected=f"`freeze_layers(model, {n})` leaves {freezing.layers_in_words('net6', wanted)} trainable, "
            "of net6's layers 0 ... 5",
            seen=f"trainable: {freezing.layers_in_words('net6', seen)}; {counted or freezing.wrong_in_words(seen, wanted)}"
            + cause,
            why=freezing.reason(symptom),
            where="Exercise 1, Hint 2: a slice that bites" if symptom == "all trainable for 0" else "",
            symptom=symptom,
            reproduce=called(n).lines + TRAINABLE,
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
    refuses(
        answers,
        {name: called(n) for name, n in numbers.items()},
        why="a number that no model can have (net6 has 6 layers) is refused at once: an error is better than a wrong experiment",
        printed=lambda name: printed(submission, "freeze", backbone="net6", calls=[numbers[name]]),
    )
