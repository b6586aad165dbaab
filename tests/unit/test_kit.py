"""The kit for labs: gradients, watermarked images, snapshots and the expectations that checks share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amllab.kit import expectations, gradients, watermarks
from amllab.kit.expectations import Call
from amllab.kit.lent_functions import lent_function
from amllab.kit.probing import printed_by
from amllab.kit.snapshots import changes, snapshot
from amllab.kit.state_dicts import misshapen, near, values_changed, without_counts
from amllab.kit.steps import MOST, Steps, recorded_steps
from amllab.protocol.failure import CheckFailure, Failure
from amllab.protocol.schema import declaration, schema_error
from amllab.protocol.submission import Functions
from amllab.protocol.wire import pack, unpack

CALL = Call("loss(x, y)", "x, y = torch.randn(2, 4, 3)", "Exercise 1")
WHY = "the reason"


def report(check: Callable[[], object]) -> Failure:
    """Return the report of a check that has to fail."""
    with pytest.raises(CheckFailure) as info:
        check()
    found = info.value.failure
    assert found.why == WHY
    assert found.where == "Exercise 1"
    assert found.reproduce.partition("  #")[0] == "x, y = torch.randn(2, 4, 3)\nloss(x, y)"
    return found


def failure(check: Callable[[], object]) -> tuple[str, str]:
    """Return what was seen, and the symptom, of a check that has to fail."""
    return report(check).seen, report(check).symptom


def test_evaluate_value_and_gradients() -> None:
    """The value and the gradients of all inputs that learn are those of autograd, and the inputs stay as they are."""
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    got = gradients.evaluate(lambda a, b, power: ((a * b) ** power).sum(), {"a": x, "b": y}, ["a", "b"], power=2)
    assert got["value"]["value"] == ((x * y) ** 2).sum()
    assert torch.allclose(got["gradients"]["a"], 2 * x * y**2)
    assert got["changed"] == []
    assert not x.requires_grad
    assert schema_error(unpack(pack(got)), declaration(gradients.evaluate)) == ""


def detached(a: Tensor, b: Tensor) -> Tensor:
    return (a * b.detach()).sum()


def in_place(a: Tensor, b: Tensor) -> Tensor:
    a = a.clone()
    b.mul_(2)
    return (a * b).sum()


def without_graph(a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad():
        return (a * b).sum()


def backward_inside(a: Tensor, b: Tensor) -> Tensor:
    loss = (a * b).sum()
    loss.backward(retain_graph=True)
    return loss.detach()


@pytest.mark.parametrize(
    ("function", "reached", "changed"),
    [
        (detached, {"a"}, []),
        (in_place, {"a", "b"}, ["b"]),
        (without_graph, set(), []),
        (backward_inside, {"a", "b"}, []),
        (lambda a, b: a.sum() + 0 * b.sum(), {"a", "b"}, []),
    ],
)
def test_evaluate_mistakes(function: Callable[..., Any], reached: set[str], changed: list[str]) -> None:
    """Detached inputs have no gradient, and inputs that were changed in place are named."""
    tensors = dict(zip("ab", torch.randn(2, 4, 3), strict=True))
    got = gradients.evaluate(function, tensors, ["a", "b"])
    assert set(got["gradients"]) == reached
    assert got["changed"] == changed


@pytest.mark.parametrize("value", [None, 3.0, [torch.ones(2)], {"loss": torch.ones(())}])
def test_evaluate_other_types(value: object) -> None:
    """A value that is not a tensor is described by its type."""
    got = gradients.evaluate(lambda a: value, {"a": torch.ones(2)}, ["a"])
    assert got["type"] == type(value).__name__
    assert got["value"] == {}


def test_evaluate_error() -> None:
    """An error of the call or of its backward pass is an answer."""
    got = gradients.evaluate(lambda a: a @ torch.ones(5), {"a": torch.ones(2)}, ["a"])
    assert "RuntimeError" in got["error"]


def test_returns_and_refuses() -> None:
    """A call that raises fails ``returns``; ``refuses`` wants the error, and names the calls that were refused."""
    error = {"error": ["ValueError", "Exception"], "message": "no", "line": "raise ValueError('no')"}
    other = {"error": ["KeyError", "LookupError", "Exception"], "message": "'x'", "line": ""}
    assert expectations.returns({"value": 1}, CALL, why=WHY) == {"value": 1}
    seen, symptom = failure(lambda: expectations.returns(error, CALL, why=WHY))
    assert seen == "ValueError: no, at `raise ValueError('no')`"
    assert symptom == "raised ValueError"
    calls = {"negative": CALL, "too large": CALL}
    expectations.refuses({"negative": error, "too large": error}, calls, why=WHY)
    seen, symptom = failure(lambda: expectations.refuses({"negative": error, "too large": {}}, calls, why=WHY))
    assert seen.startswith("no error")
    assert "`loss(x, y)`" in seen
    assert symptom == "accepts too large"
    assert failure(lambda: expectations.refuses({"negative": other}, calls, why=WHY))[1] == "raised KeyError"
    said = report(
        lambda: expectations.returns(error, CALL, why=WHY, expected="a number", more=", at last", symptom="never")
    )
    assert (said.expected, said.symptom) == ("a number", "never")
    assert said.seen.endswith("`, at last")


def test_refuses_short_calls() -> None:
    """Reports distinguish calls by their short form; printed text does not count as an exception."""
    error = {"error": ["ValueError", "Exception"], "message": "no", "line": ""}
    calls = {name: replace(CALL, short=f"y={y}") for name, y in {"negative": -1, "too large": 9}.items()}
    found = report(
        lambda: expectations.refuses(
            {"negative": error, "too large": {}}, calls, why=WHY, printed=lambda words: f"{words}!"
        )
    )
    assert found.expected == "ValueError for y=9"
    assert found.seen == (
        "no error: it printed 'too large!' and returned. A printed message is no exception: use "
        "`raise ValueError(...)`; refused, as it should be: y=-1"
    )
    assert found.reproduce.endswith("  # raises ValueError where the arguments are checked")


def test_printed() -> None:
    """What a call prints is one short line, also where an error ends the call."""

    def fails() -> None:
        print("one\ntwo", "\udc80" + "x" * 300)
        raise ValueError

    text = printed_by(fails)
    assert text.startswith("one two ?xxx")
    assert len(text) == 200
    assert printed_by(lambda: None) == ""


def test_words_of_a_report() -> None:
    """What was returned, and lists of names, in words."""
    assert expectations.returned("NoneType", "loss") == "`None` was returned: is `return loss` missing?"
    assert expectations.returned("list", "loss") == "`list` was returned"
    assert expectations.some(list("abcde")) == "`a`, `b`, `c` and 2 more"
    assert expectations.some(list("ab"), most=1) == "`a` and 1 more"
    assert expectations.some([]) == "none"
    seen, symptom = failure(
        lambda: expectations.unchanged(list("abcd"), CALL, why=WHY, expected="4 weights", more=": all", symptom="gone")
    )
    assert (seen, symptom) == ("4 changed: `a`, `b`, `c` and 1 more: all", "gone")


def test_state_comparisons() -> None:
    """Counts of batches do not matter; shapes and missing tensors do."""
    state = {"w": torch.ones(2), "norm.num_batches_tracked": torch.tensor(3)}
    assert list(without_counts(state)) == ["w"]
    assert values_changed(state, {"w": torch.ones(2)}) == []
    assert values_changed(state, {}) == ["w"]
    assert misshapen(state, {"w": [2], "other": [1]}) == ["norm.num_batches_tracked"]
    assert misshapen({"w": state["w"]}, {"w": [2, 1]}) == ["w"]
    assert near(torch.ones(2), torch.ones(2) + 1e-7, rtol=0, atol=1e-6)
    assert not near(torch.ones(2), torch.ones(2) + 1e-5, rtol=0, atol=1e-6)
    assert not near(torch.ones(2), torch.ones(1), rtol=1, atol=1)
    assert not near(None, torch.ones(1), rtol=1, atol=1)


def test_same_tensors() -> None:
    """Missing tensors, wrong shapes and wrong values have symptoms of their own; rounding does not count."""
    wanted = {"a": torch.tensor([1.0, 2.0, torch.nan]), "b": torch.tensor(3.0)}
    near = {name: value * (1 + 1e-6) for name, value in wanted.items()}

    def symptom(**seen: Tensor) -> tuple[str, str]:
        return failure(lambda: expectations.same_tensors(wanted, seen, CALL, why=WHY))

    expectations.same_tensors(wanted, {**near, "c": torch.ones(1)}, CALL, why=WHY)
    with pytest.raises(CheckFailure):
        expectations.same_tensors(wanted, near, CALL, why=WHY, tolerance=0)
    assert symptom(a=near["a"]) == ("none for `b`", "nothing there")
    assert symptom(a=torch.ones(2), b=near["b"]) == ("shape (2,), not (3,), for `a`", "another shape")
    assert symptom(a=near["a"], b=torch.tensor(4.0)) == ("4, not 3, for `b`", "other values")
    assert symptom(a=torch.tensor([1.0, 2.0, 3.0]), b=near["b"])[1] == "other values"


@pytest.mark.parametrize(
    ("seen", "close"),
    [(torch.inf, False), (torch.nan, False), (-1.0, False), (1.00001, True), (1.001, False)],
)
def test_close_special_numbers(seen: float, close: bool) -> None:
    """No infinity and no NaN is close to a number."""
    assert expectations.close(torch.tensor([1.0, 0.0]), torch.tensor([seen, 0.0])) is close
    assert expectations.close(torch.tensor([torch.inf, 1.0]), torch.tensor([torch.inf, 1.0]))


def test_close_zeros() -> None:
    """A zero may differ by rounding, and by nothing more."""
    assert expectations.close(torch.zeros(2), torch.full((2,), 1e-8))
    assert not expectations.close(torch.zeros(2), torch.full((2,), 1e-6))


def test_same_gradients_which_inputs() -> None:
    """Gradients that are missing, and gradients that should not be there, are named."""
    one = torch.ones(2)

    def symptom(wanted: dict[str, Tensor], seen: dict[str, Tensor]) -> str:
        return failure(lambda: expectations.same_gradients(wanted, seen, CALL, why=WHY))[1]

    expectations.same_gradients({"a": one}, {"a": one}, CALL, why=WHY)
    assert symptom({"a": one, "b": one}, {"a": one}) == "no gradient of b"
    assert symptom({"a": one}, {"a": one, "b": one}) == "a gradient of b"
    assert symptom({"a": one}, {"a": 2 * one}) == "other gradients"
    assert failure(lambda: expectations.unchanged(["a"], CALL, why=WHY)) == ("changed: `a`", "inputs changed")


class Net(nn.Module):
    """A small network with normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        return self.layers(x)  # type: ignore[no-any-return]


def test_watermarks_of_two_views() -> None:
    """The inputs of a model tell which images and which draws it saw, in which mode, also through a copy of it."""
    images, augment, model = watermarks.watermarked(6, first=10), watermarks.Draws(3), Net()
    with watermarks.watched(model) as calls:
        for part in images.split(3):
            model.train()(torch.cat([augment(part), augment(part)]))
        with torch.no_grad():
            copy.deepcopy(model).eval()(images)
    assert [call["numbers"].tolist() for call in calls[:2]] == [[10, 11, 12] * 2, [13, 14, 15] * 2]
    assert calls[0]["draws"].tolist() == [1, 2, 3, 4, 5, 6]
    assert [(call["training"], call["gradients"]) for call in calls] == [(True, True), (True, True), (False, False)]
    assert calls[2]["draws"].tolist() == [watermarks.UNDRAWN] * 6
    assert schema_error(unpack(pack(dict(calls[0]))), watermarks.Seen) == ""


def test_watermarks_draws_can_be_computed() -> None:
    """A check can compute the view that was shown; the images themselves stay as they are."""
    images, augment = watermarks.watermarked(2, seed=5), watermarks.Draws(9)
    before = images.clone()
    first, second = augment(images), augment(images)
    assert torch.equal(images, before)
    assert not torch.equal(first[:, 1], second[:, 1])
    assert torch.equal(watermarks.Draws(9).view(images[1], 1, 4), second[1])


def test_watermarks_view_of_a_view() -> None:
    """If a view is augmented again, the record says which image and which view it was made from."""
    images, augment = watermarks.watermarked(2, first=7), watermarks.Draws()
    augment(augment(images))
    undrawn = watermarks.UNDRAWN
    assert augment.drawn_from == [[7, undrawn], [8, undrawn], [7, 1], [8, 2]]


@pytest.mark.parametrize(
    "change",
    [lambda x: x * 0.5 + 0.1, lambda x: x.flip(-1), lambda x: x.roll(1, 0).lerp(x, 0.3), lambda x: x * torch.nan],
    ids=["scaled", "mirrored", "mixed", "NaN"],
)
def test_watermarks_changed_images(change: Callable[[Tensor], Tensor]) -> None:
    """Images that were scaled, mirrored or mixed have no readable number."""
    numbers, _ = watermarks.read(change(watermarks.watermarked(4, first=7)))
    assert (numbers == watermarks.UNREADABLE).all()


@pytest.mark.parametrize(
    "images", [torch.ones(3), torch.ones(2, 3, 4, 4).byte(), torch.ones(2, 1, 1, 1), torch.ones(())]
)
def test_watermarks_not_images(images: Tensor) -> None:
    """Inputs that are not images can be read, too."""
    numbers, draws = watermarks.read(images)
    assert (numbers == watermarks.UNREADABLE).all()
    assert numbers.shape == draws.shape


def test_snapshot_changes() -> None:
    """Every trace that a function leaves on a model is named: values, statistics, modes, flags and gradients."""
    model = Net().train()
    before = snapshot(model)
    assert changes(before, snapshot(model)) == {}
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    model.layers[1].eval()
    model.layers[0].bias.requires_grad_(False)  # type: ignore[union-attr,operator]
    found = changes(before, snapshot(model))
    assert found["values"] == [f"layers.1.{name}" for name in ("num_batches_tracked", "running_mean", "running_var")]
    assert found["modes"] == ["layers.1"]
    assert found["requires_grad"] == ["layers.0.bias"]
    assert "layers.0.weight" in found["gradients"]


def test_steps_of_two_optimizers() -> None:
    """Each step is recorded with the gradients of all parameters, and with those that its optimizer has."""
    first, second = (nn.Parameter(torch.ones(n)) for n in (2, 3))
    optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in (first, second)]
    with recorded_steps([first, second]) as steps:
        (2 * first.sum()).backward()
        optimizers[0].step()
        (3 * second.sum()).backward()
        optimizers[1].step()
    optimizers[1].step()  # no longer recorded
    assert steps["owned"].tolist() == [[1, 0], [0, 1]]
    assert steps["gradients"].tolist() == [[2, 2, 0, 0, 0], [2, 2, 3, 3, 3]]
    assert schema_error(unpack(pack(dict(steps))), Steps) == ""


class Extended(torch.optim.SGD):
    """An optimizer whose step takes that of its class, and that of another optimizer."""

    inner: torch.optim.Optimizer

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step(closure)
        self.inner.step()


def test_steps_within_a_step() -> None:
    """What is taken within another step is part of that one."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = Extended([parameter], lr=0.1)
    optimizer.inner = torch.optim.SGD([parameter], lr=0.1)
    with recorded_steps([parameter]) as steps:
        for _ in range(3):
            parameter.sum().backward()
            optimizer.step()
    assert steps["gradients"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert parameter.tolist() == pytest.approx([1 - 0.1 * 2 * (1 + 2 + 3)] * 2)


def test_steps_none_and_many() -> None:
    """Without steps, the record is empty and valid; of very many steps, only the first are recorded."""
    parameter = nn.Parameter(torch.ones(2))
    with recorded_steps([parameter]) as steps:
        pass
    assert (tuple(steps["gradients"].shape), tuple(steps["owned"].shape)) == ((0, 2), (0, 1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    with recorded_steps([parameter]) as steps:
        for _ in range(MOST + 5):
            optimizer.step()
    assert len(steps["owned"]) == len(steps["gradients"]) == MOST


@pytest.mark.parametrize("own", [{}, {"loss": len}])
def test_lent_function_ends(own: dict[str, Any]) -> None:
    """The notebook calls the lent function within the context; then it has its own one, and a stored one fails."""
    namespace: dict[str, Any] = dict(own)
    with lent_function(Functions(namespace), "loss", lambda x: x + 1):
        kept = namespace["loss"]
        assert kept(1) == 2
    assert namespace == own
    with pytest.raises(RuntimeError, match="lent this loss for one question, which is over"):
        kept(1)


def test_lent_function_ends_after_error() -> None:
    """The same holds if the question ends with an error, or if the notebook has deleted the lent function."""
    namespace: dict[str, Any] = {}
    kept = []

    def question() -> None:
        with lent_function(Functions(namespace), "loss", len):
            kept.append(namespace.pop("loss"))
            raise KeyError("loss")

    with pytest.raises(KeyError):
        question()
    assert namespace == {}
    with pytest.raises(RuntimeError, match="which is over"):
        kept[0]([])
