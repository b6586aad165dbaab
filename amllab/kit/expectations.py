"""Expectations that the checks of all labs share: a call returns, refuses, gives these tensors, these gradients.

Each fails the check with a complete report: what the contract asks for, what was seen, why it matters, the symptom by
which the mistake is recognised, and lines that show it in the student's notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amllab.kit import symptoms
from amllab.protocol.failure import expect
from amllab.protocol.submission import Submission, SubmissionError, error_text, refused

TOLERANCE = 1e-4  # relative to the largest number of the expected tensor; float32 in another order of operations
SMALLEST = 1e-3  # scale of a tensor of zeros, which another order of operations misses by rounding
LISTED = 3  # names in a report


@dataclass(frozen=True)
class Call:
    """A call as a student reads it.

    Attributes:
        text: The call, such as ``"freeze_layers(model, 3)"``.
        setup: Lines above it that make its arguments.
        where: Section of the notebook that explains it; empty for the section of the check's cell.
        short: What tells it from the other calls of a check, such as ``"num_classes=1"``; empty for the whole call.
    """

    text: str
    setup: str = ""
    where: str = ""
    short: str = ""

    @property
    def lines(self) -> str:
        """The lines that a student can run."""
        return f"{self.setup.rstrip()}\n{self.text}".lstrip("\n")


def returns(
    got: Mapping[str, Any],
    call: Call,
    *,
    why: str = "an exception ends the call",
    expected: str = "",
    more: str = "",
    symptom: str = "",
) -> Mapping[str, Any]:
    """Fail the check if a call raised an error; return the answer.

    Args:
        got: The answer of a probe: fields of its own, or ``error``, ``message`` and ``line``.
        call: The call.
        why: Why it matters.
        expected: What the contract asks for, if that is more than that the call returns.
        more: Text to follow the error.
        symptom: Symptom of an error; empty for its class.
    """
    failed = "error" in got
    expect(
        not failed,
        expected=expected or f"`{call.text}` returns",
        seen=error_text(got) + more if failed else "",
        why=why,
        where=call.where,
        symptom=symptom or symptoms.raised(got) if failed else "",
        reproduce=call.lines,
    )
    return got


def refuses(
    answers: Mapping[str, Mapping[str, Any]],
    calls: Mapping[str, Call],
    *,
    error: type[Exception] = ValueError,
    why: str = "an error that says what is wrong is better than a wrong result",
    printed: Callable[[str], str] = lambda words: "",
) -> None:
    """Fail the check unless every call raised an error of a class.

    Args:
        answers: What is wrong with the arguments, in fixed words -> the answer to the call.
        calls: The same words -> the call.
        error: The class of the error.
        why: Why it matters.
        printed: Returns what a call printed, from these words; it is asked about calls that returned.
    """
    named = {words: call.short or f"`{call.text}`" for words, call in calls.items()}
    right = {words for words, got in answers.items() if error.__name__ in got.get("error", [])}
    for words, got in answers.items():
        if words in right:
            continue
        text = "" if "error" in got else printed(words)
        said = (
            f": it printed {text!r} and returned. A printed message is no exception: use `raise {error.__name__}(...)`"
        )
        expect(
            False,
            expected=f"{error.__name__} for {named[words]}" + ("" if calls[words].short else f" ({words})"),
            seen=(error_text(got) if "error" in got else "no error" + (said if text else ""))
            + refused([named[other] for other in answers if other in right]),
            why=why,
            where=calls[words].where,
            symptom=symptoms.accepted(answers),
            reproduce=f"{calls[words].lines}  # raises {error.__name__} where the arguments are checked",
        )


def same_tensors(
    wanted: Mapping[str, Tensor],
    seen: Mapping[str, Tensor],
    call: Call,
    *,
    what: str = "",
    why: str,
    symptom: str = "other values",
    tolerance: float = TOLERANCE,
) -> None:
    """Fail the check unless all tensors are the expected ones, up to rounding.

    Args:
        wanted: Name -> tensor.
        seen: The tensors of the submission; further names do not count.
        call: The call that returned them.
        what: What they are, such as ``"gradients"``; empty for the value of the call.
        why: Why it matters.
        symptom: Symptom of a wrong value; missing tensors and wrong shapes have their own.
        tolerance: Largest difference, relative to the largest expected number; 0 for bit for bit.
    """
    missing = [name for name in wanted if name not in seen]
    shapes = [name for name in wanted if name in seen and seen[name].shape != wanted[name].shape]
    wrong = [
        name
        for name in wanted
        if name in seen and name not in shapes and not close(wanted[name], seen[name], tolerance)
    ]
    first = next(iter((*missing, *shapes, *wrong)), "")
    said = ""
    if missing:
        said = f"none for {some(missing)}"
    elif shapes:
        said = f"shape {tuple(seen[first].shape)}, not {tuple(wanted[first].shape)}" + _of(first, wanted)
    elif wrong:
        said = f"{_numbers(seen[first])}, not {_numbers(wanted[first])}" + _of(first, wanted)
    expect(
        not said,
        expected=f"{what or 'the value'} of `{call.text}`" if call.text else what,
        seen=said,
        why=why,
        where=call.where,
        symptom="nothing there" if missing else "another shape" if shapes else symptom,
        reproduce=call.lines,
    )


def same_gradients(
    wanted: Mapping[str, Tensor], seen: Mapping[str, Tensor], call: Call, *, why: str, tolerance: float = TOLERANCE
) -> None:
    """Fail the check unless the same inputs get a gradient, and the same one, up to rounding.

    Args:
        wanted: Name of an input -> its gradient with the reference; inputs without one must get none.
        seen: The gradients of the submission.
        call: The call.
        why: Why it matters.
        tolerance: As of :func:`same_tensors`.
    """
    lacking, extra = sorted(wanted.keys() - seen.keys()), sorted(seen.keys() - wanted.keys())
    expect(
        not (lacking or extra),
        expected=f"gradients of {some(sorted(wanted), 'no input')}, after `backward()` of `{call.text}`",
        seen=f"gradients of {some(sorted(seen), 'no input')}",
        why=why,
        where=call.where,
        symptom=symptoms.join(
            f"no gradient of {', '.join(lacking)}" if lacking else "",
            f"a gradient of {', '.join(extra)}" if extra else "",
        ),
        reproduce=call.lines,
    )
    same_tensors(wanted, seen, call, what="gradients", why=why, symptom="other gradients", tolerance=tolerance)


def unchanged(
    names: Sequence[str],
    call: Call,
    *,
    why: str,
    expected: str = "",
    more: str = "",
    symptom: str = "inputs changed",
) -> None:
    """Fail the check if a call changed what it has to leave as it is.

    Args:
        names: Names of what it changed.
        call: The call.
        why: Why it matters.
        expected: What has to stay; empty for the inputs of the call.
        more: Text to follow the names.
        symptom: The symptom.
    """
    expect(
        not names,
        expected=expected or f"`{call.text}` leaves its inputs as they are",
        seen=f"{f'{len(names)} ' * (len(names) > LISTED)}changed: {some(names)}{more}",
        why=why,
        where=call.where,
        symptom=symptom,
        reproduce=call.lines,
    )


def returned(type_: str, name: str) -> str:
    """Describe what a call returned, by the name of its type; ``name`` is what it should have returned."""
    return f"`None` was returned: is `return {name}` missing?" if type_ == "NoneType" else f"`{type_}` was returned"


def printed(submission: Submission, probe: str, **arguments: Any) -> str:
    """Return what a submission prints at a question, by the lab's probe ``printed``; empty if there is no answer."""
    try:
        return str(submission.ask("printed", probe=probe, arguments=arguments))[:200]
    except SubmissionError:
        return ""


def close(wanted: Tensor, seen: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Return whether a tensor is the expected one; NaN is equal to NaN, an infinity to itself.

    Args:
        wanted: The expected tensor.
        seen: A tensor of the same shape.
        tolerance: Largest difference, relative to the largest finite expected number; 0 for bit for bit.
    """
    if wanted.shape != seen.shape:
        return False
    if tolerance == 0:
        return bool(torch.equal(wanted.nan_to_num(), seen.nan_to_num()) and torch.equal(wanted.isnan(), seen.isnan()))
    one, other = wanted.double(), seen.double()
    finite = one[one.isfinite()]
    scale = float(finite.abs().max()) if len(finite) else 1.0
    return bool(torch.allclose(one, other, rtol=0.0, atol=tolerance * max(scale, SMALLEST), equal_nan=True))


def some(names: Sequence[str], none: str = "none", most: int = LISTED) -> str:
    """List the first of many names, for a report; return ``none`` if there are none."""
    listed = ", ".join(f"`{name}`" for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "") or none


def _of(name: str, wanted: Mapping[str, Tensor]) -> str:
    return f", for `{name}`" if len(wanted) > 1 else ""


def _numbers(tensor: Tensor) -> str:
    """Return a number, or the first ones of a tensor."""
    flat = tensor.detach().flatten()
    listed = ", ".join(f"{value:.4g}" for value in flat[:LISTED].tolist())
    return listed if tensor.ndim == 0 else f"[{listed}{', ...' if len(flat) > LISTED else ''}]"
