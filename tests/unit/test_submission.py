"""Questions to a submission and its answers: their types, errors and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest
import timm
import torch

from amllab.checks.transfer_learning import probes
from amllab.lab import Lab
from amllab.protocol.schema import FloatMatrix, declaration, schema_error
from amllab.protocol.submission import InProcessSubmission, Submission, SubmissionError
from amllab.protocol.wire import pack


def test_submission_missing_stub_and_raising(lab: Lab) -> None:
    """Missing and unfinished functions are errors of the submission; other exceptions are part of the answer."""

    def stub(model: object, n: int) -> None:
        raise NotImplementedError

    def raising(model: object, n: int) -> None:
        raise KeyError("k")

    for namespace, kind in (({}, "missing"), ({"freeze_layers": stub}, "missing"), ({"freeze_layers": 3}, "missing")):
        with pytest.raises(SubmissionError) as info:
            InProcessSubmission(lab.name, namespace).ask("freeze", backbone="net6", calls=[1])
        assert info.value.kind == kind
    (got,) = InProcessSubmission(lab.name, {"freeze_layers": raising}).ask("freeze", backbone="net6", calls=[1])
    assert got["error"][0] == "KeyError"


class Row(TypedDict):
    n: int
    f: float


def test_cache_of_answers(lab: Lab) -> None:
    """The same question is asked only once; of large answers, only the last two are cached."""

    class Counting(InProcessSubmission):
        exchanged = 0

        def exchange(self, question: bytes) -> bytes:
            self.exchanged += 1
            return super().exchange(question)

    def asks(n_trainable: int, **more: Any) -> int:
        submission.ask("freeze", backbone="net12", calls=[n_trainable], **more)
        return submission.exchanged

    submission = Counting(lab.name, {"freeze_layers": lambda model, n: model})
    weights = timm.create_model("net12", num_classes=5).state_dict()
    assert [asks(1), asks(1), asks(2)] == [1, 1, 2]
    # of large answers, only the last two are cached
    assert [asks(1, state=weights), asks(2, state=weights), asks(1, state=weights)] == [3, 4, 4]
    assert [asks(3, state=weights), asks(1, state=weights), asks(2, state=weights)] == [5, 5, 6]
    assert [asks(1), asks(2)] == [6, 6]


@pytest.mark.parametrize(
    ("declared", "fits", "others"),
    [
        (int, 1, [True, 1.0, "1", None, [1]]),
        (float, 1.0, [1, True, "1"]),
        (bool, True, [1, None]),
        (None, None, [0, False, []]),
        (list[int], [1, 2], [[True], [1, None], (1,), {}]),
        (dict[str, list[float] | None], {"a": [1.0], "b": None}, [{"a": [1]}, [], {"a": 1.0}]),
        (Row, {"n": 1, "f": 1.0}, [{"n": 1}, {"n": 1, "f": 1.0, "g": 1}, {"n": 1, "f": 1}, []]),
        (Row | list[Row], [{"n": 1, "f": 1.0}], [[{"n": 1}], None]),
        (str, "text", ["x" * 3000, None]),
        (FloatMatrix, torch.zeros(2, 3), [torch.zeros(2), torch.zeros(2, 3).double(), [[0.0]], None]),
    ],
)
def test_answer_schema(declared: Any, fits: Any, others: list[Any]) -> None:
    """Answers are validated against their declared type."""
    assert schema_error(fits, declared) == ""
    assert all(schema_error(other, declared) for other in others)


def test_answer_of_undeclared_type(tmp_path: Path, lab: Lab) -> None:
    """An answer of another type than the declared one fails the check."""

    class Other(Submission):
        def exchange(self, question: bytes) -> bytes:
            return pack({"value": [{"returned": 1, "flagged": "", "trainable": [], "state": {}}]})

    with pytest.raises(SubmissionError) as info:
        Other(lab.name).ask("freeze", backbone="net6", calls=[1])
    assert info.value.kind == "unreadable"
    assert "returned is int, not str" in info.value.failure.seen


def test_probes_declare_answers() -> None:
    """Every probe declares the type of its answer."""
    own = [getattr(probes, name) for name in probes.__all__]
    found = [f.__name__ for f in own if declaration(f)]
    assert found == ["build", "build_twice", "fit", "freeze", "predict", "printed", "train_frozen", "train_scripted"]


def test_torch_settings_are_restored(lab: Lab) -> None:
    """Global settings of PyTorch are restored after each question."""

    def freeze_layers(model: torch.nn.Module, n_trainable: int) -> torch.nn.Module:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        raise OSError("no such file")

    asked = InProcessSubmission(lab.name, {"freeze_layers": freeze_layers})
    assert asked.ask("freeze", backbone="net6", calls=[1])[0]["message"] == "no such file"
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
