"""What the packages ship for courses: master texts, solutions, and the public and hidden files of each lab.

A wheel has master texts and solutions in ``autograder/shipped``, where ``setup.py`` copies them; a checkout has them
next to the packages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from amllab.lab import CHECKS, HIDDEN, PACKAGE, PUBLIC
from autograder.labs.locations import HIDDEN_CHECKS

_SHIPPED = Path(__file__).parent.parent / "shipped"
_LEFT_OUT = ("__pycache__", "own.toml")  # the latter is an instructor's own choice of images


def shipped_folder() -> Path:
    """Return the folder with the folders ``source`` and ``solutions`` of all shipped labs."""
    return _SHIPPED if _SHIPPED.is_dir() else PACKAGE.parent


def shipped_file(name: str) -> Path:
    """Return a file in the folder of what is shipped.

    Raises:
        FileNotFoundError: The installation is incomplete; the message says what to do.
    """
    file = shipped_folder() / name
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: install the packages again, with 'pip install --force-reinstall --no-deps amllab'"
        )
    return file


def shipped_labs() -> list[str]:
    """Return the assignments of all shipped labs."""
    masters = shipped_folder().glob("source/[!.]*/*.py")
    labs = sorted({master.parent.name for master in masters})
    return [lab for lab in labs if (CHECKS / lab.replace("-", "_")).is_dir()]


def chosen_labs(names: Iterable[str]) -> list[str]:
    """Return the assignments that names stand for, each once, in the given order.

    Raises:
        LookupError: A name is that of no shipped lab; the message lists these, and the most similar one.
    """
    labs, chosen = shipped_labs(), []
    for name in names:
        wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
        if wanted not in labs:
            near = difflib.get_close_matches(wanted, labs, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise LookupError(f"the package ships no lab {name.strip()!r}{hint} There are: {', '.join(labs)}")
        chosen.append(wanted)
    return list(dict.fromkeys(chosen))


def files_of_lab(assignment: str) -> dict[str, Path]:
    """Return the files of a shipped lab, by their path in a course."""
    lab, folder = assignment.replace("-", "_"), shipped_folder()
    found = {f"source/{assignment}/{file.name}": file for file in folder.glob(f"source/{assignment}/*.py")}
    found |= {f"solutions/{assignment}/{file.name}": file for file in folder.glob(f"solutions/{assignment}/*.ipynb")}
    for kind, checks in ((PUBLIC, CHECKS / lab), (HIDDEN, HIDDEN_CHECKS / lab)):
        names = [file.relative_to(checks) for file in checks.rglob("*") if file.is_file() and file.suffix != ".pyc"]
        shown = [name for name in names if not any(part in _LEFT_OUT or part[0] == "." for part in name.parts)]
        found |= {f"labs/{kind}/{lab}/{name.as_posix()}": checks / name for name in shown}
    return dict(sorted(found.items()))
