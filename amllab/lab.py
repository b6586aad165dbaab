"""Labs: the location of their checks, and their settings (``amllab/checks/<lab>/lab.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
CHECKS = PACKAGE / "checks"


@dataclass(frozen=True)
class Lab:
    """A lab and its settings.

    Attributes:
        name: Name of its folders of checks, such as ``transfer_learning``; the assignment has ``-`` for ``_``.
        folder: The folder of its public checks.
        title: The title that people see.
        notebook: Name of the notebook, without ``.ipynb``.
        limits: Limits in seconds and bytes; see the file.
        settings: The whole file; each lab decides which further settings its checks read.
        own: Name of the evidence for an instructor's own data or backbone; empty if what the lab ships is in force.
        evidence: The file of that evidence.
    """

    name: str
    folder: Path
    title: str
    notebook: str
    limits: dict[str, Any]
    settings: dict[str, Any]
    own: str = ""
    evidence: Path | None = None

    @property
    def packages(self) -> list[str]:
        """Packages that notebooks may import beyond those that the library installs, such as ``einops>=0.7``."""
        return list(self.settings.get("packages", []))

    @property
    def assignment(self) -> str:
        """Name of the assignment, such as ``transfer-learning``."""
        return self.name.replace("_", "-")


def find_lab(name: str) -> Lab:
    """Return the lab of this name, or of the assignment of this name.

    The values of the settings are validated later, when labs are built and graded.

    Raises:
        LookupError: There is no such lab; the message lists the existing ones.
        ValueError: Its settings are not valid TOML, or a key is missing; the message names the file, and the line or
            key.
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
    """Return the names of all labs, sorted."""
    return sorted(file.parent.name for file in CHECKS.glob("*/lab.toml"))


def released_notebooks(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the paths of the notebooks that students get, by ``<assignment>/<file>``.

    A wheel has them in ``releases`` of the package; a checkout has them in ``assignments`` next to it.
    """
    shipped = package / "releases"
    folder = shipped if shipped.is_dir() else package.parent / "assignments"
    return {f"{path.parent.name}/{path.name}": path for path in sorted(folder.glob("[!.]*/*.ipynb"))}
