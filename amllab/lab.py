"""Labs: the location of their checks, and their settings (``lab.toml``).

The labs that the library ships are in ``amllab/checks/<lab>``. A course made by ``autograder new-course`` has its labs
in its own folder, ``labs/public/<lab>``, with the hidden checks in ``labs/hidden/<lab>``. A lab of the course takes the
place of a shipped one of the same name. The folder of labs is found by the variable ``AMLLAB_LABS``, which commands set
for the processes that they start, or from the working directory.
"""

from __future__ import annotations

import importlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amllab.course_folder import course_folder, distrust

PACKAGE = Path(__file__).parent
CHECKS = PACKAGE / "checks"
LABS = "AMLLAB_LABS"  # variable with the folder of the course's own labs
PUBLIC, HIDDEN = "public", "hidden"  # folders in it


def _labs_from_here() -> Path | None:
    """Return the folder of labs of the course that the working directory is in; ``None`` if there is none."""
    try:
        here = Path.cwd()
    except OSError:  # the folder was removed
        return None
    root = course_folder(here)
    if root is None or not (root / "labs" / PUBLIC).is_dir() or distrust(root):
        return None
    return root / "labs"


_labs = Path(os.environ[LABS]) if os.environ.get(LABS) else _labs_from_here()
_search_paths: list[tuple[list[str], str]] = []


def course_labs() -> Path | None:
    """Return the folder with the labs of the course; ``None`` if the course has only shipped labs."""
    return _labs


def use_course(root: Path) -> None:
    """Find labs in the folder of a course first, in this process and in those that it starts.

    A course without labs of its own changes nothing.
    """
    global _labs
    labs = root.resolve() / "labs"
    if not (labs / PUBLIC).is_dir():
        return
    os.environ[LABS] = str(labs)
    for path, kind in _search_paths:
        path[:] = [str(labs / kind), *(entry for entry in path if _labs is None or entry != str(_labs / kind))]
    _labs = labs
    importlib.invalidate_caches()


def search_course(path: list[str], kind: str) -> None:
    """Let a package with a folder for each lab also find the labs of the course, and those first.

    Args:
        path: The ``__path__`` of the package.
        kind: Folder of the course's labs: :data:`PUBLIC` or :data:`HIDDEN`.
    """
    _search_paths.append((path, kind))
    if _labs is not None:
        path.insert(0, str(_labs / kind))


def course_lab(lab: str, kind: str) -> Path | None:
    """Return the folder of a lab of the course; ``None`` if the course has no such lab."""
    if _labs is None or not any((_labs / PUBLIC / lab).glob("*.*")):  # bytecode alone is what a removed lab leaves
        return None
    return _labs / kind / lab


def public_checks(lab: str) -> Path:
    """Return the folder of a lab's public checks, whether it exists or not."""
    return course_lab(lab, PUBLIC) or CHECKS / lab


def name_in_course(path: Path, parts: int = 4) -> str:
    """Return the last parts of a path, as people know it: ``labs/public/<lab>/lab.toml``."""
    return "/".join(path.parts[-parts:])


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
    folder = public_checks(name.replace("-", "_"))
    file = folder / "lab.toml"
    if not file.exists():
        if folder.is_dir():
            raise LookupError(f"{name_in_course(file)} is missing: without it, {folder.name} is no lab")
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
    folders = [CHECKS] if _labs is None else [CHECKS, _labs / PUBLIC]
    return sorted({file.parent.name for folder in folders for file in folder.glob("*/lab.toml")})


def released_notebooks(package: Path = PACKAGE) -> dict[str, Path]:
    """Return the paths of the notebooks that students get, by ``<assignment>/<file>``.

    A wheel has them in ``releases`` of the package; a checkout has them in ``assignments`` next to it. Those of a
    course with labs of its own, in its folder ``assignments``, take the place of these.
    """
    shipped = package / "releases"
    folders = [shipped if shipped.is_dir() else package.parent / "assignments"]
    if _labs is not None:
        folders.append(_labs.parent / "assignments")
    found = [path for folder in folders for path in sorted(folder.glob("[!.]*/*.ipynb"))]
    return {f"{path.parent.name}/{path.name}": path for path in found}
