"""A lab's settings, looked through before anything is built or graded: ``lab.toml``, and the points of its checks.

The library reads ``lab.toml`` as it is (:mod:`amllab.checks.lab`), as students have no use for more. Whoever builds, grades or
audits a lab calls :func:`load_lab` instead: a mistake in the file is then named with its line, and not found at three in the
morning by the first submission that reaches a limit.
"""

from __future__ import annotations

import difflib
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from nbformat import NotebookNode
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from amllab.checks.lab import CHECKS, Lab, all_labs, find_lab
from autograder.errors import SettingsError
from autograder.labs.catalog import Check

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    """No other keys, and nothing is converted: ``"5"`` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Limits(_Table):
    """``[limits]``: what a submission may use, see :mod:`autograder.grading.worker`."""

    cell_seconds: Seconds
    answer_seconds: Seconds
    total_seconds: Count
    answer_bytes: Bytes
    output_bytes: Bytes
    memory_bytes: Bytes
    processes: Count
    open_files: Count
    file_bytes: Bytes
    scratch_bytes: Bytes


class Photographs(_Table):
    """``[accuracy.photographs]``: what replaces values of ``[accuracy]`` where ``data`` are photographs."""

    max_epochs: Count | None = None
    train_images: Count | None = None
    val_images: Count | None = None
    test_images: Count | None = None
    batch_size: Count | None = None


class Accuracy(_Table):
    """``[accuracy]``: the training whose accuracy is worth points, see :mod:`autograder.authoring.calibration`."""

    data: Annotated[str, Field(min_length=1)]
    backbone: Annotated[str, Field(min_length=1)]
    n_trainable: Annotated[int, Field(ge=0)]
    max_epochs: Count
    learning_rates: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    train_images: Count
    val_images: Count
    test_images: Count
    batch_size: Count
    photographs: Photographs | None = None


class Deadline(_Table):
    """``[deadline]``: when submissions are late, and what that costs, see :mod:`autograder.nbgrader_plugins.late_penalty`."""

    due: AwareDatetime
    grace_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    penalty_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    most_percent: Annotated[float, Field(ge=0, le=100)] = 100.0


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement:
        raise PydanticCustomError(
            "requirement", "must be the name of a package, with or without its versions"
        ) from None
    return text


class Settings(_Table):
    """``lab.toml``; ``packages`` are those that notebooks may import beyond what the library installs, ``[points]`` replaces those of single checks, ``[own]`` is the place of whatever a lab's own checks read."""

    title: Annotated[str, Field(min_length=1)]
    notebook: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    packages: list[Annotated[str, AfterValidator(_requirement)]] = []
    limits: Limits
    accuracy: Accuracy | None = None
    points: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    deadline: Deadline | None = None
    own: dict[str, Any] = {}


def load_lab(name: str) -> Lab:
    """The lab of this name, or of this assignment, with settings that were looked through, and its packages at hand.

    Raises:
        LookupError: no such lab; the message lists those there are.
        SettingsError: each line of the message names file, line and field.
    """
    file = CHECKS / name.replace("-", "_") / "lab.toml"
    if not file.is_file():
        raise LookupError(f"no lab {name!r}; there are: {', '.join(all_labs()) or 'none'}")
    if problems := problems_of(file.read_text(encoding="utf-8"), f"{file.parent.name}/{file.name}"):
        raise SettingsError("\n".join(problems))
    lab = find_lab(name)
    if problems := package_problems(lab):
        raise SettingsError("\n".join(problems))
    return lab


def problems_of(text: str, file: str) -> list[str]:
    """What is wrong with the text of a ``lab.toml``, in the order of its lines; nothing where all is well.

    Args:
        text: the file's.
        file: its name, for the messages.
    """
    try:
        Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        return [f"{file}: not in TOML's form: {error}"]
    except ValidationError as error:
        found = [(_line(text, e["loc"]), _field(e["loc"]), _expectation(e)) for e in error.errors()]
        return [f"{file}, line {line}: {field}: {expected}" for line, field, expected in sorted(found)]
    return []


def _field(location: Sequence[int | str]) -> str:
    """``limits.cell_seconds``, ``accuracy.learning_rates[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _line(text: str, location: Sequence[int | str]) -> int:
    """The line where a field begins, 1-based; where it is missing, that of its table, or the first of the file.

    Every beginning of the file that is TOML by itself is read: the field begins behind the last one that does not have it.
    """
    keys = [part for part in location if isinstance(part, str)]
    lines = text.splitlines(keepends=True)
    while keys:
        without = 0  # lines of the longest beginning that does not have the field
        for count in range(1, len(lines) + 1):
            try:
                value: Any = tomllib.loads("".join(lines[:count]))
            except tomllib.TOMLDecodeError:
                continue
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return without + 1
            without = count
        keys.pop()
    return 1


def _expectation(error: Any) -> str:
    """What is expected, in the words of the file."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        *_, key = error["loc"]
        near = difflib.get_close_matches(str(key), _known(error["loc"][:-1]), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(_known(error['loc'][:-1]))}"
        own = ". What only the checks of this lab read stands in [own]." if len(error["loc"]) == 1 else ""
        return f"is not known; {hint}{own}"
    shown = repr(error["input"])[:60]
    words = {
        "greater_than": f"must be greater than {context.get('gt', 0):g}",
        "greater_than_equal": f"must be at least {context.get('ge', 0):g}",
        "less_than_equal": f"must be at most {context.get('le', 0):g}",
        "datetime_type": "must be a date with a time and an offset, such as 2026-12-18T23:59:00+01:00",
        "timezone_aware": "must have an offset from UTC, such as 2026-12-18T23:59:00+01:00",
        "finite_number": "must be a finite number",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "string_type": 'must be text in "quotes"',
        "string_too_short": "must not be empty",
        "string_pattern_mismatch": "must be a file name without .ipynb, of letters, digits and _",
        "list_type": "must be a list, as in " + ('["einops>=0.7"]' if error["loc"][0] == "packages" else "[0.1, 0.3]"),
        "requirement": 'must be the name of a package, with or without its versions, such as "einops>=0.7"',
        "too_short": "must have at least one entry",
        "model_type": "must be a table, such as [limits]",
        "dict_type": "must be a table, such as [own]",
    }
    return f"{words.get(kind, error['msg'])}, not {shown}"


def _known(table: Sequence[int | str]) -> list[str]:
    """Names of the fields of a table."""
    models: dict[Any, type[BaseModel]] = {
        (): Settings,
        ("limits",): Limits,
        ("accuracy",): Accuracy,
        ("accuracy", "photographs"): Photographs,
        ("deadline",): Deadline,
    }
    return list(models[tuple(table)].model_fields)


def point_problems(notebook: NotebookNode, checks: Iterable[Check]) -> list[str]:
    """Where the points of a lab's checks are not those of its cells: one message for each cell.

    Args:
        notebook: built from the master text.
        checks: of the lab, public and hidden.
    """
    from autograder.notebooks.metadata import is_autograded

    cells = {
        c.metadata.nbgrader.grade_id: float(c.metadata.nbgrader.points) for c in notebook.cells if is_autograded(c)
    }
    worth: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        worth[check.cell].append(check)
    problems = []
    for cell in sorted(cells.keys() | worth.keys()):
        found = worth.get(cell, [])
        total, files = sum(c.points for c in found), sorted({c.file for c in found})
        if cell not in cells:
            problems.append(
                f"{cell}: checks worth {total:g} points in {', '.join(files)}, and no such cell in the master text"
            )
        elif not found:
            problems.append(f"{cell}: the cell is worth {cells[cell]:g} points in the master text, and has no check")
        elif total != cells[cell]:
            problems.append(
                f"{cell}: the cell is worth {cells[cell]:g} points in the master text, its checks {total:g}, in "
                f"{', '.join(files)}: make both the same"
            )
    return problems


def unknown_checks(lab: Lab, checks: Iterable[Check]) -> list[str]:
    """Names in ``[points]`` of ``lab.toml`` that no check has, with line and the one that may be meant."""
    file = lab.folder / "lab.toml"
    known = {check.function for check in checks}
    problems = []
    for name in lab.settings.get("points", {}).keys() - known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        line = _line(file.read_text(encoding="utf-8"), ("points", name))
        problems.append(f"{file.parent.name}/{file.name}, line {line}: points.{name}: there is no such check{hint}")
    return sorted(problems)


def package_problems(lab: Lab) -> list[str]:
    """Packages of ``lab.toml`` that are not installed here, or in another version: one message for each."""
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


def check_points(lab: Lab, master: Path, notebook: NotebookNode, checks: Sequence[Check]) -> None:
    """Refuses a lab whose points do not add up, or that gives points to checks that there are not.

    Args:
        lab: whose points.
        master: the text, for the message.
        notebook: built from it.
        checks: of the lab, public and hidden.

    Raises:
        SettingsError: the message names cell, sums and files, or line and check.
    """
    if problems := unknown_checks(lab, checks):
        raise SettingsError("\n".join(problems))
    if problems := point_problems(notebook, checks):
        raise SettingsError("\n".join(f"{master.parent.name}/{master.name}: {problem}" for problem in problems))
