"""The bundle for students: one zip with the notebook, the course library as a wheel, and a page to start with.

The wheel contains only ``amllab``, with the checks and the releases of the chosen labs alone: others may come later.
Setuptools builds it from a copy of the package, so that no part of the grading package can get into it, and the same
content gives the same bytes. All files have the date of the release.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path
from string import Template
from typing import Any

from amllab.lab import CHECKS, PACKAGE, Lab, find_lab, public_checks
from autograder.authoring.leak_check import find_leaks
from autograder.authoring.shipped import shipped_file
from autograder.course import Course
from autograder.errors import LabError, LeakError
from autograder.labs.deadline import deadline_of, in_words

START = Path(__file__).parent / "templates" / "START.md"
_EARLIEST = 315532800  # the earliest time that a zip can store, 1980, in seconds since 1970
_BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"


def bundle(course: Course, *assignments: str) -> Path:
    """Build ``dist/<assignment>-student.zip`` of a course, or ``dist/labs-student.zip`` for several labs.

    Args:
        course: Course that the labs belong to, with releases and solutions already built.
        assignments: Names of the labs' assignments. All notebooks are in one folder, with one wheel.

    Returns:
        Path of the zip.

    Raises:
        FileNotFoundError: A release is not built.
        LabError: The public checks of a lab import from the folder of another lab, or two notebooks have the same name.
        LeakError: The zip would contain a solution, a hidden check or a marking scheme, of any lab, or the grading
            package. No zip is left in place, not even an older one.
        subprocess.CalledProcessError: Setuptools could not build the wheel, and has printed the reason.
    """
    labs = [find_lab(assignment) for assignment in dict.fromkeys(name.replace("_", "-") for name in assignments)]
    releases = [release_of(course, lab) for lab in labs]
    within = labs[0].assignment if len(labs) == 1 else "labs"
    for name in {release.name for release in releases}:
        if len(same := [lab.assignment for lab in labs if f"{lab.notebook}.ipynb" == name]) > 1:
            raise LabError(f"{' and '.join(same)} both have a notebook {name}, so they need separate bundles")
    target = course.root / "dist" / f"{within}-student.zip"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder), *zip(labs, releases, strict=True))
        contents = {release.name: release.read_bytes() for release in releases}
        contents |= {wheel.name: wheel.read_bytes(), START.name: _start(labs, within, wheel)}
        draft = Path(folder, target.name)
        write_zip(draft, {f"{within}/{name}": content for name, content in contents.items()}, max(map(_date, releases)))
        leaks = dict.fromkeys(leak for lab in labs for leak in find_leaks(draft, lab, course))
        if leaks:
            target.unlink(missing_ok=True)
            raise LeakError("no bundle was written, because it would reveal:\n  " + "\n  ".join(map(str, leaks)))
        shutil.copyfile(draft, target)
    return target


def _start(labs: list[Lab], folder: str, wheel: Path) -> bytes:
    names = [f"{lab.notebook}.ipynb" for lab in labs]
    packages = dict.fromkeys(package for lab in labs for package in lab.packages)
    deadlines = [
        f"\n   The deadline{f' of {lab.title}' if len(labs) > 1 else ''} is **{in_words(deadline.due)}**."
        for lab in labs
        if (deadline := deadline_of(lab)) is not None
    ]
    text = Template(START.read_text(encoding="utf-8")).substitute(
        title=", ".join(lab.title for lab in labs),
        folder=folder,
        notebooks=", ".join(f"`{name}`" for name in names),
        notebook=names[0] if len(labs) == 1 else "NOTEBOOK",
        open=f" {names[0]}" if len(labs) == 1 else "",
        wheel=wheel.name,
        packages="".join(f' "{package}"' for package in packages),
        deadline="".join(deadlines),
    )
    return text.encode()


def release_of(course: Course, lab: Lab) -> Path:
    """Return the path of a lab's release, after checking that students can use it without other labs.

    Raises:
        FileNotFoundError: The release is not built.
        LabError: The public checks import from the folder of another lab.
    """
    release = course.release(lab)
    if not release.is_file():
        raise FileNotFoundError(
            f"the release {release.parent.name}/{release.name} does not exist: run 'autograder build {lab.assignment}'"
        )
    _require_own_imports(lab)
    return release


def _require_own_imports(lab: Lab) -> None:
    """Refuse public checks and probes that need the folder of another lab."""
    for file in sorted(lab.folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom):
                module = f"{PACKAGE.name}.checks.{node.module or ''}" if node.level == 2 else node.module
                names = [f"{module}.{name}".replace("..", ".") for name in names]
            for name in names:
                package, checks, other = [*name.split("."), "", "", ""][:3]
                if (
                    (package, checks) == (PACKAGE.name, "checks")
                    and other not in ("", lab.name)
                    and public_checks(other).is_dir()
                ):
                    raise LabError(
                        f"{lab.name}/{file.name} imports from the lab {other}, which the students of this lab do not get: "
                        "move what both labs need to amllab/kit"
                    )


def build_wheel(folder: Path, *labs: tuple[Lab, Path]) -> Path:
    """Build the wheel of ``amllab`` with some labs, without network access.

    Args:
        folder: Folder to write the wheel to.
        labs: Labs whose checks the wheel contains, each with its built notebook.

    Raises:
        FileNotFoundError: The packages are incomplete: there is no ``pyproject.toml``.
        subprocess.CalledProcessError: The build failed, and setuptools has printed the reason.
    """
    pyproject = shipped_file("pyproject.toml")
    tree = folder / "tree"
    tree.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*")

    def ignored(parent: str, names: list[str]) -> set[str]:
        found = left_out(parent, names)
        if Path(parent) == CHECKS:
            found |= {name for name in names if Path(parent, name).is_dir()}
        return found | ({"releases"} if Path(parent) == PACKAGE else set())

    shutil.copytree(PACKAGE, tree / PACKAGE.name, ignore=ignored)
    for lab, release in labs:
        shutil.copytree(lab.folder, tree / PACKAGE.name / CHECKS.name / lab.name, ignore=left_out)
        target = tree / PACKAGE.name / "releases" / lab.assignment / release.name
        target.parent.mkdir(parents=True)
        shutil.copyfile(release, target)
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    (tree / pyproject.name).write_text(_students_pyproject(settings), encoding="utf-8")
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    date = max(_date(release) for _, release in labs)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(date), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", _BUILD, str(folder)]
    done = subprocess.run(
        command,
        cwd=tree,
        env=environment,
        umask=0o022,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    return folder / done.stdout.split()[-1]


def _students_pyproject(settings: dict[str, Any]) -> str:
    """Return a ``pyproject.toml`` for ``amllab`` alone."""
    project = {
        key: value
        for key, value in settings["project"].items()
        if key not in ("readme", "scripts", "optional-dependencies", "entry-points")
    }
    entry_points = {
        f'project.entry-points."{group}"': points for group, points in settings["project"]["entry-points"].items()
    }
    find = {"include": [PACKAGE.name, f"{PACKAGE.name}.*"]}
    data = {PACKAGE.name: settings["tool"]["setuptools"]["package-data"][PACKAGE.name]}
    tables = {
        "build-system": settings["build-system"],
        "project": project,
        **entry_points,
        "tool.setuptools.packages.find": find,
        "tool.setuptools.package-data": data,
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def _toml(value: Any) -> str:
    """Return a string, a list or a table of these as TOML on one line; strings are written as in JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _date(release: Path) -> int:
    """Return when the release was built, in seconds since 1970."""
    return max(_EARLIEST, int(release.stat().st_mtime))


def write_zip(path: Path, contents: dict[str, bytes], date: int) -> None:
    """Write a zip whose bytes depend only on its contents and their date, in seconds since 1970."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, time.gmtime(date)[:6])
            member.external_attr = 0o100644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, contents[name])
