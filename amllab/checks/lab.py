"""A lab: where its checks are, and its settings (``amllab/checks/<lab>/lab.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKS = Path(__file__).parent


@dataclass(frozen=True)
class Lab:
    """A lab's settings.

    Attributes:
        name: of its folders of checks, such as ``transfer_learning``; the assignment has ``-`` for ``_``.
        folder: its public checks.
        title: for people.
        notebook: name of the notebook, without ``.ipynb``.
        limits: seconds and bytes, see the file.
        settings: the whole file; what the checks of the lab read is the lab's own affair.
    """

    name: str
    folder: Path
    title: str
    notebook: str
    limits: dict[str, Any]
    settings: dict[str, Any]

    @property
    def packages(self) -> list[str]:
        """What notebooks may import beyond what the library installs, such as ``einops>=0.7``."""
        return list(self.settings.get("packages", []))

    @property
    def assignment(self) -> str:
        return self.name.replace("_", "-")


def find_lab(name: str) -> Lab:
    """The lab of this name, or of this assignment.

    Raises:
        LookupError: no such lab; the message lists those there are.
        ValueError: its settings are no TOML or lack something; the message names the file, and line or key. Whether they make
            sense is looked at where labs are built and graded.
    """
    folder = CHECKS / name.replace("-", "_")
    file = folder / "lab.toml"
    if not file.is_file():
        raise LookupError(f"no lab {name!r}; there are: {', '.join(all_labs()) or 'none'}")
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        return Lab(folder.name, folder, settings["title"], settings["notebook"], settings["limits"], settings)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.parent.name}/{file.name}: {error}") from None
    except KeyError as error:
        raise ValueError(f"{file.parent.name}/{file.name}: key {error} is missing") from None


def all_labs() -> list[str]:
    """Names of all labs, sorted."""
    return sorted(file.parent.name for file in CHECKS.glob("*/lab.toml"))
