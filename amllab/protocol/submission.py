"""Communication between checks and submissions: a check asks a question and gets plain data back.

A *probe* is a function of a lab (``amllab/checks/<lab>/probes.py``) that runs next to the submission's functions, calls
them, and returns plain data of the shape that its return annotation declares. Probes return raw observations and no
verdicts: the check interprets them where it runs. The same probes serve a notebook in this process (students) and a
worker process (grading).
"""

from __future__ import annotations

import hashlib
import traceback
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amllab.devices import on_this_machine
from amllab.protocol.failure import Failure
from amllab.protocol.lab_probes import probes_of

# messages contain tensors: the functions that handle them import PyTorch, so that a grader whose submissions are graded
# in other processes does not load it


class SubmissionError(Exception):
    """An error for a question that the submission did not answer.

    Attributes:
        kind: ``"missing"`` (a function is undefined, or still the stub), ``"raised"``, ``"timeout"``, ``"died"``,
            ``"lost"`` (a value that an earlier question stored is gone), ``"tampered"`` (a trusted function was
            replaced) or ``"unreadable"``. Grading adds ``"memory"`` and ``"budget"``.
        failure: The same in the student's terms.
        undefined: Name of the undefined function or variable that caused the error; empty if there is none.
    """

    def __init__(self, kind: str, failure: Failure, undefined: str = "") -> None:
        super().__init__(f"{kind}: {failure.seen}")
        self.kind = kind
        self.failure = failure
        self.undefined = undefined

    @property
    def may_come_later(self) -> bool:
        """Whether a later cell may define what is missing."""
        return self.kind == "missing" or bool(self.undefined)


class MissingFunctionError(Exception):
    """The submission does not define this function."""


class StateLostError(Exception):
    """A value that an earlier question stored for this one is gone."""


_KEPT = "__kept_for_checks__"
_LARGE_BYTES, _LARGE_KEPT = 1 << 20, 2  # size of a large answer; how many large answers are cached


class Functions:
    """The submission's functions by name: ``functions.freeze_layers(model, 2)``.

    Args:
        namespace: The notebook's variables. A probe may replace one of them for the duration of a call.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] | None = self.namespace.get(name)
        if not callable(function):
            raise MissingFunctionError(name)
        return function

    def store(self, key: str, value: Any) -> None:
        """Store a value for a later question to this process, in place of the one stored before."""
        self.namespace[_KEPT] = (key, value)

    def load(self, key: str) -> Any:
        """Return the value stored under this key.

        Raises:
            StateLostError: No value is stored under this key.
        """
        found = self.namespace.get(_KEPT)
        if not isinstance(found, tuple) or found[0] != key:
            raise StateLostError
        return found[1]


def capture_error(call: Callable[[], Any]) -> dict[str, Any]:
    """Call a function and return its value or its error as data, for questions that may end in an error.

    Returns:
        ``{"value": ...}``, or ``{"error": names of its classes, "message": text, "line": of the submission's code}``.

    Raises:
        MissingFunctionError: The submission does not define the function.
        NotImplementedError: The function is still the stub.
        NameError: A name is not defined anywhere in the notebook.
    """
    try:
        return {"value": call()}
    except (MissingFunctionError, NotImplementedError):
        raise
    except Exception as error:
        if _undefined(error):
            raise
        names = [cls.__name__ for cls in type(error).__mro__]
        return {"error": names, "message": _message(error), "line": _place(error).get("line", "")}


def error_text(got: Mapping[str, Any]) -> str:
    """Format the error of an :func:`attempt`, with the line of the submission that raised it."""
    return f"{' '.join(got['error'][:1])}: {got['message']}" + (f", at `{got['line']}`" if got["line"] else "")


def refused(values: Iterable[object]) -> str:
    """List the values that were correctly refused, phrased to follow one that was not; empty if there are none."""
    named = ", ".join(map(str, values))
    return f"; refused, as it should be: {named}" if named else ""


def _undefined(error: BaseException) -> str:
    """Return the name that is not defined anywhere in the notebook, if that is the error; else an empty string.

    A local variable without a value (``UnboundLocalError``) is a different error.
    """
    name = getattr(error, "name", None) if type(error) is NameError else None
    return name if isinstance(name, str) and name.isidentifier() else ""


def _message(error: BaseException) -> str:
    """Return the text of an exception, even if its ``__str__`` raises or its text cannot be encoded."""
    try:
        text = str(error)
    except Exception:
        text = "(an exception without a readable message)"
    return text[:500].encode(errors="replace").decode()


@on_this_machine
def answer(namespace: dict[str, Any], question: bytes) -> bytes:
    """Answer a packed question with the functions of ``namespace``; their errors become part of the answer.

    The question is ``{"lab", "probe", "arguments"}``, the answer ``{"value"}`` or ``{"problem", ...}``.
    """
    from amllab.numerics import restored_settings
    from amllab.protocol.wire import WireError, pack, unpack

    asked = unpack(question)
    try:
        probe = getattr(probes_of(asked["lab"]), asked["probe"])
        # settings that one call changes must not affect the next call, or a check that computes in this process
        with restored_settings():
            return pack({"value": probe(Functions(namespace), **asked["arguments"])})
    except MissingFunctionError as error:
        return pack({"problem": "missing", "name": str(error)})
    except NotImplementedError as error:
        return pack({"problem": "stub", **_place(error)})
    except StateLostError:
        return pack({"problem": "lost"})
    except WireError as error:
        return pack({"problem": "unreadable", "message": _message(error)})
    except Exception as error:
        told = {"type": type(error).__name__, "message": _message(error), "undefined": _undefined(error)}
        return pack({"problem": "raised", **told, **_place(error)})


def _place(error: BaseException) -> dict[str, Any]:
    """Return the innermost function and line of the submission's own code in a traceback.

    Code of cells is recognised by its file name, as cells have no real file.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "ipykernel_" in frame.filename or frame.filename.startswith("<"):
            line = (frame.line or "").strip()[:200].encode(errors="replace").decode()
            return {"function": frame.name, "line": line}
    return {}


def problem(answered: Mapping[str, Any], cause: Callable[[str], str] = lambda name: "") -> SubmissionError:
    """Turn the problem in an answer into an error, ignoring everything in it that is not text.

    Args:
        answered: The answer.
        cause: Returns why the notebook does not define a name, phrased to follow "is not defined"; empty if unknown.
    """
    answered = {key: value for key, value in answered.items() if type(value) is str}
    kind = answered.get("problem")
    if kind == "tampered":
        seen = f"the notebook replaces `{answered.get('name')}`"
        expected = "the original functions of torch and of the checks"
        why = "the checks use this function: remove the line that replaces it, and restart the kernel"
        return SubmissionError("tampered", Failure(expected, seen, why))
    if kind == "lost":
        seen = "the process that trained it was restarted in between"
        why = "the process ended after the training, and the model was lost with it"
        return SubmissionError("lost", Failure("the model that was trained before", seen, why))
    if kind == "missing":
        name = answered.get("name", "")
        because = cause(name)
        seen = f"`{name}` is not defined {because}" if because else f"the notebook defines no function named `{name}`"
        expected = f"a function `{name}`, with the name and arguments that the exercise gives"
        return SubmissionError("missing", Failure(expected, seen, "the checks call your function by its name"), name)
    if kind == "stub":
        seen = "NotImplementedError: the function is still the stub, or calls one that is"
        failure = Failure("an implementation", seen, "there is nothing to check yet")
        return SubmissionError("missing", failure, answered.get("function", ""))
    if kind == "raised":
        place = f" in `{answered['function']}`" if answered.get("function") else ""
        place += f", at `{answered['line']}`" if answered.get("line") else ""
        seen = f"{answered.get('type')}: {answered.get('message')}{place}"
        undefined = answered.get("undefined", "")
        because = cause(undefined) if undefined else ""
        seen += f"; `{undefined}` is not defined {because}" if because else ""
        why = "an exception ends the call before there is a result"
        return SubmissionError("raised", Failure("the call returns", seen, why), undefined)
    return unreadable(str(answered.get("message", "an answer of an unexpected form")))


def unreadable(message: str) -> SubmissionError:
    """Return the error for an answer that is not what the question asks for."""
    seen = f"a value that the checks cannot read ({message})"
    return SubmissionError(
        "unreadable", Failure("a result of the types in the contract", seen, "it cannot be compared")
    )


class Submission(ABC):
    """A submission that answers questions.

    Attributes:
        cell: Grade id of the check cell that questions belong to. Questions use the functions as defined at that cell
            when the notebook is run from top to bottom; with ``None``, as defined at its end.
    """

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.cell: str | None = None
        # (check cell, digest of a question) -> (size of its answer in bytes, the answer), the last used at the end
        self._answers: OrderedDict[tuple[str | None, bytes], tuple[int, Any]] = OrderedDict()

    @property
    def order(self) -> list[str]:
        """Grade ids of the check cells, from top to bottom; empty if there is no notebook."""
        return []

    def reach(self, cell: str | None) -> None:
        """Set the check cell that the next questions belong to."""
        self.cell = cell

    def cause(self, name: str) -> str:
        """Return why the notebook does not define a name, phrased to follow "is not defined"; empty if unknown."""
        return ""

    @abstractmethod
    def exchange(self, question: bytes) -> bytes:
        """Send a packed question to the submission and return the packed answer."""

    def ask(self, probe: str, /, **arguments: Any) -> Any:
        """Run a probe of the lab next to the submission's functions.

        At each check cell the same question is asked only once: its answer is cached, so that several checks can use
        one training. Of answers larger than a megabyte, such as networks with all their weights, only the last two are
        cached.

        Args:
            probe: Name of a function in the lab's ``probes`` module.
            **arguments: Arguments of the probe, plain data.

        Returns:
            The return value of the probe: plain data of the shape that it declares, whatever the other side sent.

        Raises:
            SubmissionError: There is no answer; its ``failure`` says why, in the student's terms.
        """
        from amllab.protocol.wire import pack

        question = pack({"lab": self.lab, "probe": probe, "arguments": arguments})
        key = (self.cell, hashlib.sha256(question).digest())
        if key not in self._answers:
            self._answers[key] = self._answer_to(question, getattr(probes_of(self.lab), probe))
        self._answers.move_to_end(key)
        answered = self._answers[key][1]
        large = [other for other, (size, _) in self._answers.items() if size > _LARGE_BYTES]
        for oldest in large[:-_LARGE_KEPT]:
            del self._answers[oldest]
        if isinstance(answered, SubmissionError):  # a copy: the frames of a traceback would keep everything alive
            raise SubmissionError(answered.kind, answered.failure, answered.undefined)
        return answered

    def _answer_to(self, question: bytes, probe: Callable[..., Any]) -> tuple[int, Any]:
        """Return the size of the packed answer and its value, or 0 and the error in its place."""
        from amllab.protocol.schema import declaration, schema_error
        from amllab.protocol.wire import WireError, unpack

        try:
            packed = self.exchange(question)
            answered = unpack(packed)
        except WireError as error:
            return 0, unreadable(str(error))
        except SubmissionError as error:
            return 0, error.with_traceback(None)
        if not isinstance(answered, dict):
            return 0, unreadable("not an answer")
        if answered.keys() != {"value"}:
            return 0, problem(answered, self.cause)
        wrong = schema_error(answered["value"], declaration(probe))
        return (0, unreadable(wrong)) if wrong else (len(packed), answered["value"])


class InProcessSubmission(Submission):
    """A submission whose functions are in this process, for checks in a student's own notebook.

    Args:
        lab: Name of the lab, as in its folder of checks.
        namespace: The notebook's variables.
    """

    def __init__(self, lab: str, namespace: dict[str, Any]) -> None:
        super().__init__(lab)
        self.namespace = namespace

    def exchange(self, question: bytes) -> bytes:
        """Answer the question in this process."""
        return answer(self.namespace, question)
