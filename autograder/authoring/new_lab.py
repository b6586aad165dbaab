"""The scaffold of a lab: ``autograder new-lab`` writes a small lab that builds, grades and passes its tests."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from amllab.lab import HIDDEN, PUBLIC, all_labs, use_course
from autograder.course import Course

LONGEST = 40  # characters of a name: lines of the files that have it stay short
TEMPLATES = Path(__file__).parent / "scaffold"

# template -> path of its output, relative to the course's folder
FILES = {
    "master.py.j2": "{source}/{assignment}/{lab}.py",
    "lab.toml.j2": "{public}/{lab}/lab.toml",
    "public_package.py.j2": "{public}/{lab}/__init__.py",
    "probes.py.j2": "{public}/{lab}/probes.py",
    "public_checks.py.j2": "{public}/{lab}/test_standardise.py",
    "hidden_package.py.j2": "{hidden}/{lab}/__init__.py",
    "hidden_checks.py.j2": "{hidden}/{lab}/test_standardise_hidden.py",
    "corpus.py.j2": "{hidden}/{lab}/corpus.py",
    "tests.py.j2": "tests/test_{lab}.py",
}


def new_lab(course: Course, name: str) -> list[Path]:
    """Write the files of a new lab with one exercise, as a starting point.

    Args:
        course: The course. In a checkout of the packages, the files go next to those of the other labs; in any other
            course, into its folder ``labs``.
        name: Name of the assignment, such as ``"label-smoothing"``.

    Returns:
        Paths of the files written.

    Raises:
        ValueError: The name cannot be that of a lab; nothing is written.
        FileExistsError: The lab exists already, or another file is in its way; nothing is written.
    """
    lab = _lab_name(name)
    folders = _folders_of_checks(course)
    words = {"lab": lab, "assignment": lab.replace("_", "-"), "title": lab.replace("_", " ").capitalize()}
    source = course.directories["source_directory"]
    targets = {
        template: course.root / path.format(source=source, **folders, **words) for template, path in FILES.items()
    }
    _refuse_what_exists(course, lab, targets, folders)
    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    texts = {target: templates.get_template(template).render(words) for template, target in targets.items()}
    for target, text in texts.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    use_course(course.root)  # its first lab
    return list(texts)


def is_checkout(root: Path) -> bool:
    """Return whether a course is a checkout of both packages."""
    return all((root / package / "checks").is_dir() for package in ("amllab", "autograder"))


def _folders_of_checks(course: Course) -> dict[str, str]:
    """Return the folders for a lab's public and hidden checks, relative to the course's folder."""
    if is_checkout(course.root):
        return {"public": "amllab/checks", "hidden": "autograder/checks"}
    return {"public": f"labs/{PUBLIC}", "hidden": f"labs/{HIDDEN}"}


def _lab_name(name: str) -> str:
    """Return the name of the lab's folders of checks, which must be importable in Python."""
    lab = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", lab) or keyword.iskeyword(lab) or len(lab) > LONGEST:
        raise ValueError(
            f"{name!r} cannot be the name of a lab: its checks are a Python package. Use lower-case letters, digits "
            f"and single '-', at most {LONGEST}, beginning with a letter, as in label-smoothing, and no keyword of Python"
        )
    return lab


def _refuse_what_exists(course: Course, lab: str, targets: dict[str, Path], folders: dict[str, str]) -> None:
    """Raise an error if any file of the lab exists, or a module that its package would shadow."""
    packages = [course.root / folder / lab for folder in folders.values()]
    modules = [package.with_suffix(".py") for package in packages]
    master = targets["master.py.j2"].parent
    taken = [path for path in (*packages, *modules, master, *targets.values()) if path.exists()]
    if taken:
        listed = ", ".join(os.path.relpath(path, course.root) for path in taken)
        raise FileExistsError(f"the name {lab} is already in use: {listed}; choose another name")
    assignment = lab.replace("_", "-")
    if lab in all_labs() and not is_checkout(course.root):  # it would hide the shipped one
        raise FileExistsError(
            f"the name {lab} is already in use by a lab that the package ships: choose another name, or add that lab with "
            f"'autograder upgrade-course --labs {assignment}'"
        )
