"""The settings of a lab, validated before anything is built or graded: ``lab.toml`` and ``points.toml``.

The library reads ``lab.toml`` without validation (:mod:`amllab.lab`), since students need no more. Code that
builds, grades or audits a lab calls :func:`load_lab` instead. It reports a mistake in the file with its line, so that
the mistake does not surface at three in the morning, in the first submission that reaches a limit.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Annotated, Any, get_args

from packaging.requirements import Requirement
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticCustomError

from amllab.checks.plugin import POINTS
from amllab.lab import Lab, find_lab, public_checks, settings_text
from amllab.worker.environment import MACHINE, SETTINGS
from autograder.errors import SettingsError
from autograder.labs.conflicts import files_of_course_lab, refuse_conflicts
from autograder.labs.locations import hidden_checks

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Points = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Table(BaseModel):
    """A table that allows no other keys and converts nothing: ``"5"`` is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Limits(Table):
    """The table ``[limits]``: what a submission may use, see :mod:`autograder.grading.worker`."""

    cell_seconds: Seconds
    answer_seconds: Seconds
    answer_seconds_at: dict[str, Seconds] = {}
    total_seconds: Count
    answer_bytes: Bytes
    output_bytes: Bytes
    memory_bytes: Bytes
    processes: Count
    open_files: Count
    file_bytes: Bytes
    scratch_bytes: Bytes


class Probes(Table):
    """The table ``[probes]``: what the lab's probes rely on, see :mod:`amllab.worker.integrity`."""

    trusted: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)] = []


class Deadline(Table):
    """The table ``[deadline]``: when submissions are late, and what that costs.

    See :mod:`autograder.nbgrader_plugins.late_penalty`.
    """

    due: AwareDatetime
    grace_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    penalty_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    most_percent: Annotated[float, Field(ge=0, le=100)] = 100.0


def _variable(name: str) -> str:
    if not name.isidentifier() or not name.isascii():
        raise PydanticCustomError("variable", "must be the name of a variable, of letters, digits and _")
    if name in SETTINGS or name in MACHINE:
        raise PydanticCustomError("variable", "is set by the grader, for all labs")
    return name


def _value(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("variable", "must not contain a null character")
    return text


_Name = Annotated[str, AfterValidator(_variable)]
_Value = Annotated[str, Field(max_length=1000), AfterValidator(_value)]


class Settings(Table):
    """The contents of ``lab.toml``, apart from the table with the lab's budget.

    ``packages`` are the packages that notebooks may import in addition to those that the library installs.
    ``[environment]`` holds environment variables of the processes that run notebooks. ``[points]`` replaces the points
    of individual public checks. ``[own]`` holds anything that only the lab's own checks read.
    """

    title: Annotated[str, Field(min_length=1)]
    notebook: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    packages: list[Annotated[str, AfterValidator(Requirement)]] = []
    environment: dict[_Name, _Value] = {}
    limits: Limits
    probes: Probes | None = None
    points: Points = {}
    deadline: Deadline | None = None
    own: dict[str, Any] = {}


def load_lab(name: str) -> Lab:
    """Return the lab with this name or assignment, after validating its settings and finding its packages installed.

    An instructor's own images and backbone are in force (:mod:`autograder.labs.own`).

    Raises:
        LookupError: There is no such lab; the message lists the existing ones.
        SettingsError: The settings are invalid, and each line of the message names file, line and field; or a package
            is missing or has another version, and the message says how to install it.
    """
    from autograder.labs.own import with_own

    folder = name.replace("-", "_")
    refuse_conflicts(files_of_course_lab(folder))
    for file, kind in (
        (public_checks(folder) / "lab.toml", settings_of(folder)),
        (hidden_checks(folder) / POINTS, Points),
    ):
        if not file.exists():
            continue
        try:
            text = settings_text(file)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if problems := problems_of(text, f"{folder}/{file.name}", kind):
            raise SettingsError("\n".join(problems))
    lab = find_lab(name)
    if problems := package_problems(lab):
        raise SettingsError("\n".join(problems))
    return with_own(lab)


def budget_module(lab: str) -> Any:
    """Return the module with the table that only this lab has; ``None`` if there is none.

    A lab with a training under a budget (:mod:`amllab.kit.task`) has ``autograder/checks/<lab>/budget.py``. It defines
    ``TABLE``, the name of the table of ``lab.toml``; ``Budget``, a :class:`Table` with its keys; and, if the lab takes
    an instructor's own images and backbone, ``Own``, a table of what these may replace (:mod:`autograder.labs.own`).
    """
    name = f"autograder.checks.{lab}.budget"
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the lab has no hidden checks
        return None
    return None if found is None else importlib.import_module(name)


def settings_of(lab: str) -> type[BaseModel]:
    """Return the model of a lab's ``lab.toml``, including the table that only this lab has, if it has one."""
    module = budget_module(lab)
    if module is None:
        return Settings
    own: dict[str, Any] = {module.TABLE: (module.Budget | None, None)}
    return create_model("Settings", __base__=Settings, **own)


def problems_of(text: str, file: str, kind: Any = Settings) -> list[str]:
    """Return the problems of a file of settings in the order of its lines, or an empty list if there are none.

    Args:
        text: Text of the file.
        file: Name of the file, for the messages.
        kind: What the file must contain: a model, or ``Points``.
    """
    try:
        TypeAdapter(kind).validate_python(tomllib.loads(text), strict=True)
    except tomllib.TOMLDecodeError as error:
        return [f"{file}: not valid TOML: {error}"]
    except ValidationError as error:
        found = [(line_of(text, e["loc"]), _field(e["loc"]), _expectation(e, kind)) for e in error.errors()]
        return [f"{file}, line {line}: {field}: {expected}" for line, field, expected in sorted(found)]
    return []


def _field(location: Sequence[int | str]) -> str:
    """Format the location of a field, such as ``limits.cell_seconds`` or ``accuracy.learning_rates[1]``."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]"
    ).removeprefix(".")


def line_of(text: str, location: Sequence[int | str]) -> int:
    """Return the line where a field begins, 1-based; for a missing field, that of its table, or 1.

    Every prefix of the file that is valid TOML is parsed: the field begins after the last prefix that does not have it.
    """
    keys = [part for part in location if isinstance(part, str)]
    lines = text.splitlines(keepends=True)
    line, depth, parsed = 1, 1, 0  # the depth counts the file as a whole; parsed are the lines of the prefix before
    for count in range(1, len(lines) + 1):
        try:
            table: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        found = accumulate(keys, lambda value, key: value.get(key) if isinstance(value, dict) else None, initial=table)
        reached = sum(value is not None for value in found)
        if reached > depth:
            line, depth = parsed + 1, reached
        parsed = count
    return line


_LISTS = {"packages": '["einops>=0.7"]', "probes": '["torch.autograd.grad"]'}


def _expectation(error: Any, model: Any) -> str:
    """Describe what is expected, in the terms of the file."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        *_, key = error["loc"]
        near = difflib.get_close_matches(str(key), _known(model, error["loc"][:-1]), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(_known(model, error['loc'][:-1]))}"
        own = ". Put settings that only this lab's checks read into [own]." if len(error["loc"]) == 1 else ""
        return f"is not known; {hint}{own}"
    shown = repr(error["input"])[:60]
    words = {
        "greater_than_equal": f"must be at least {context.get('ge', 0):g}",
        "less_than_equal": f"must be at most {context.get('le', 0):g}",
        "datetime_type": "must be a date with a time and an offset, such as 2026-12-18T23:59:00+01:00",
        "timezone_aware": "must have an offset from UTC, such as 2026-12-18T23:59:00+01:00",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "string_type": 'must be text in "quotes"',
        "string_too_long": f"must have at most {context.get('max_length', 0)} characters",
        "string_too_short": "must not be empty",
        "string_pattern_mismatch": "must be a file name without .ipynb, of letters, digits and _",
        "list_type": "must be a list, as in " + _LISTS.get(error["loc"][0], "[0.1, 0.3]"),
        "value_error": 'must be the name of a package, with or without a version, such as "einops>=0.7"',
        "too_short": "must have at least one entry",
        "model_type": "must be a table, such as [limits]",
        "dict_type": f"must be a table, such as [{error['loc'][0]}]",
    }
    return f"{words.get(kind) or error['msg'].replace('Input should be', 'must be')}, not {shown}"


def _known(model: type[BaseModel], table: Sequence[int | str]) -> list[str]:
    """Return the names of a table's fields."""
    for name in table:
        field: Any = model.model_fields[str(name)].annotation
        model = next(
            kind for kind in (field, *get_args(field)) if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return list(model.model_fields)


def package_problems(lab: Lab) -> list[str]:
    """Return one message for each package of ``lab.toml`` that is not installed, or only in another version."""
    problems = []
    for wanted in map(Requirement, lab.packages):
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = ""
        if not found or not wanted.specifier.contains(found, prereleases=True):
            seen = f"version {found} is" if found else "it is not"
            problems.append(
                f"{lab.name}/lab.toml: packages: {wanted}: {seen} installed; run '{sys.executable} -m pip install \"{wanted}\"'"
            )
    return problems
