"""An autograder for Gradescope: a zip with ``setup.sh``, ``run_autograder``, both packages and the course's notebooks.

``isolation`` determines how a submission is isolated from the grader:

``namespaces``
    As on the course's own machine. If the container does not allow it, nothing is graded.
``where-possible``
    The same if the container allows it, according to the diagnostics of ``autograder doctor``; otherwise ``none``, and
    the results say so.
``none``
    A submission runs with all rights of the grader. It can read the hidden checks and the solution, and change its own
    score. Gradescope starts a fresh container for each submission, so that no other student is affected.

Gradescope's containers usually do not let a process create namespaces. If scores have to be trusted, grade the
notebooks again with the same checks on a machine that isolates submissions.
"""

from __future__ import annotations

import zipfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from string import Template

from packaging.requirements import Requirement

import amllab
import autograder
from amllab.lab import HIDDEN, PUBLIC, course_labs, find_lab, released_notebooks
from autograder.course import Course
from autograder.labs.own import own_file

ISOLATIONS = ("where-possible", "namespaces", "none")
_LEFT_OUT = {"__pycache__", ".ipynb_checkpoints", "shipped"}  # the last is what courses are made from
_EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same files give the same zip
_PROJECT = Template("""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "amllab"
version = "$version"
dependencies = [
$dependencies
]

[project.scripts]
autograder = "autograder.cli:main"

[tool.setuptools.packages.find]
include = ["amllab*", "autograder*"]

[tool.setuptools.package-data]
"*" = ["**/*"]
""")


def write_zip(course: Course, assignment: str, path: Path, isolation: str = ISOLATIONS[0]) -> list[str]:
    """Write the zip and return remarks.

    Args:
        course: Course whose release and solution go into the zip.
        assignment: Name of the assignment, such as ``"transfer-learning"``.
        path: Path of the zip.
        isolation: One of ``ISOLATIONS``; it is written into ``run_autograder``, where it can be changed.

    Raises:
        LookupError: There is no such lab.
        FileNotFoundError: The lab has no release or no solution; the message names the command that builds it.
        ValueError: The lab is graded with an instructor's own images or backbone.
    """
    lab = find_lab(assignment)
    if own_file(lab).is_file():
        raise ValueError(
            f"{own_file(lab).name} is in use: Gradescope's machines do not have your own images and backbone, so "
            f"grade {assignment} with 'nbgrader autograde'"
        )
    notebooks = {"release.ipynb": course.release(lab), "solution.ipynb": course.solution(lab)}
    for notebook in notebooks.values():
        if not notebook.is_file():
            raise FileNotFoundError(
                f"{notebook.parent.parent.name}/{assignment}/{notebook.name} does not exist: run "
                f"'autograder build {assignment}'"
            )
    scripts = files("autograder.exports.gradescope") / "templates"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("setup.sh", "run_autograder"):
            text = (scripts / name).read_text(encoding="utf-8")
            text = text.replace("@LAB@", lab.assignment).replace("@ISOLATION@", isolation)
            _add(archive, name, text.encode(), 0o755)
        for name, notebook in notebooks.items():
            _add(archive, f"course/{name}", notebook.read_bytes())
        _add(archive, "packages/pyproject.toml", _project().encode())
        for name, file in _package_files().items():
            _add(archive, f"packages/{name}", file.read_bytes())
    return [
        f"isolation on Gradescope is {isolation!r}: see the first lines of run_autograder in the zip",
        "cells for manual grading are not included: create separate questions for them on Gradescope",
    ]


def _package_files() -> dict[str, Path]:
    """Return the files of both packages, the released notebooks included, by their path in the zip."""
    found = {f"amllab/releases/{name}": notebook for name, notebook in released_notebooks().items()}
    for package in (amllab, autograder):
        folder = Path(package.__file__).parent  # type: ignore[arg-type]
        found |= _files_below(folder, folder.name)
    labs = course_labs()
    for kind, checks in ((PUBLIC, "amllab/checks"), (HIDDEN, "autograder/checks")):
        for folder in sorted((labs / kind).glob("[!._]*/")) if labs is not None else ():
            place = f"{checks}/{folder.name}"  # a lab of the course takes the place of a shipped one
            found = {name: file for name, file in found.items() if not name.startswith(f"{place}/")}
            found |= _files_below(folder, place)
    return dict(sorted(found.items()))


def _files_below(folder: Path, place: str) -> dict[str, Path]:
    """Return the files of a folder of code, by their path if the folder is at ``place``."""
    names = ((file, file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return {
        f"{place}/{name.as_posix()}": file
        for file, name in names
        if name.suffix != ".pyc" and not _LEFT_OUT & set(name.parts)
    }


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def _project() -> str:
    """Return a ``pyproject.toml`` for the packages; they may be installed from a wheel, which contains none."""
    needed = [Requirement(text) for text in metadata.requires("amllab") or []]
    chosen = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": "grader"})]
    lines = [f'    "{r.name}{r.specifier}",' for r in chosen]
    return _PROJECT.substitute(version=metadata.version("amllab"), dependencies="\n".join(lines))
