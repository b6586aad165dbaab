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
    def environment(self) -> dict[str, str]:
        """Environment variables of the processes that run its notebooks, in addition to those of the grader."""
        return dict(self.settings.get("environment", {}))

    @property
    def trusted(self) -> list[str]:
        """Dotted names of the functions that its probes rely on, in addition to those that the library relies on."""
        return list(self.settings.get("probes", {}).get("trusted", []))

    @property
    def assignment(self) -> str:
        """Name of the assignment, such as ``transfer-learning``."""
        return self.name.replace("_", "-")


def find_lab(name: str) -> Lab:
    """Return the lab of this name, or of the assignment of this name.

    The values of the settings are validated later, when labs are built and graded.

    Raises:
        LookupError: There is no such lab; the message lists the existing ones.
        ValueError: Its settings cannot be read: the file is not text in UTF-8 or not valid TOML, or a key is missing or
            of the wrong kind. The message names the file, and the line or key.
    """
    folder = CHECKS / name.replace("-", "_")
    file = folder / "lab.toml"
    if not file.exists():
        raise LookupError(f"no lab {name!r}; there are: {', '.join(all_labs()) or 'none'}")
    where = f"{folder.name}/{file.name}"
    settings = tomllib.loads(settings_text(file))
    for key, kind in (("title", str), ("notebook", str), ("limits", dict)):
        if key not in settings:
            raise ValueError(f"{where}: key {key!r} is missing")
        if not isinstance(settings[key], kind):
            raise ValueError(f"{where}: {key} must be {'a table' if kind is dict else 'text in quotes'}")
    return Lab(folder.name, folder, settings["title"], settings["notebook"], settings["limits"], settings)


def settings_text(file: Path) -> str:
    """Return the text of a ``lab.toml`` that is valid TOML.

    Raises:
        ValueError: The file cannot be read or parsed; the message names it.
    """
    where = f"{file.parent.name}/{file.name}"
    try:
        text = file.read_text(encoding="utf-8")
        tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not text in UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: not valid TOML: {error}") from None
    return text


def all_labs() -> list[str]:
    """Return the names of all labs, sorted, including those whose settings cannot be read."""
    return sorted(file.parent.name for file in CHECKS.glob("*/lab.toml"))


def released_notebooks(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the paths of the notebooks that students get, by ``<assignment>/<file>``.

    A wheel has them in ``releases`` of the package; a checkout has them in ``assignments`` next to it.
    """
    shipped = package / "releases"
    folder = shipped if shipped.is_dir() else package.parent / "assignments"
    return {f"{path.parent.name}/{path.name}": path for path in sorted(folder.glob("[!.]*/*.ipynb"))}
