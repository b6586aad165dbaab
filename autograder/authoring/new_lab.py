"""The scaffold of a lab: ``autograder new-lab`` writes a small lab that builds, grades and passes its tests."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from autograder.course import Course

LONGEST = 40  # characters of a name: lines of the files that have it stay short
TEMPLATES = Path(__file__).parent / "scaffold"

# template -> path of its output, relative to the course's folder
FILES = {
    "master.py.j2": "{source}/{assignment}/{lab}.py",
    "lab.toml.j2": "amllab/checks/{lab}/lab.toml",
    "public_package.py.j2": "amllab/checks/{lab}/__init__.py",
    "probes.py.j2": "amllab/checks/{lab}/probes.py",
    "public_checks.py.j2": "amllab/checks/{lab}/test_standardise.py",
    "hidden_package.py.j2": "autograder/checks/{lab}/__init__.py",
    "hidden_checks.py.j2": "autograder/checks/{lab}/test_standardise_hidden.py",
    "corpus.py.j2": "autograder/checks/{lab}/corpus.py",
    "tests.py.j2": "tests/test_{lab}.py",
}


def new_lab(course: Course, name: str) -> list[Path]:
    """Write the files of a new lab with one exercise, as a starting point.

    Args:
        course: Checkout of the course that contains both packages.
        name: Name of the assignment, such as ``"label-smoothing"``.

    Returns:
        Paths of the files written.

    Raises:
        ValueError: The name cannot be that of a lab; nothing is written.
        FileExistsError: The lab exists already, or another file is in its way; nothing is written.
        FileNotFoundError: The course's folder is not a checkout of the packages; nothing is written.
    """
    lab = _lab_name(name)
    if not all((course.root / package / "checks").is_dir() for package in ("amllab", "autograder")):
        raise FileNotFoundError(
            f"{course.root} has no folders amllab/checks and autograder/checks, which a lab's checks go into: "
            "name a checkout of the course with --root"
        )
    words = {"lab": lab, "assignment": lab.replace("_", "-"), "title": lab.replace("_", " ").capitalize()}
    source = course.directories["source_directory"]
    targets = {template: course.root / path.format(source=source, **words) for template, path in FILES.items()}
    _refuse_what_exists(course, lab, targets)
    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    texts = {target: templates.get_template(template).render(words) for template, target in targets.items()}
    for target, text in texts.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return list(texts)


def _lab_name(name: str) -> str:
    """Return the name of the lab's folders of checks, which must be importable in Python."""
    lab = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", lab) or keyword.iskeyword(lab) or len(lab) > LONGEST:
        raise ValueError(
            f"{name!r} cannot be the name of a lab: its checks are a Python package. Use lower-case letters, digits "
            f"and single '-', at most {LONGEST}, beginning with a letter, as in label-smoothing, and no keyword of Python"
        )
    return lab


def _refuse_what_exists(course: Course, lab: str, targets: dict[str, Path]) -> None:
    """Raise an error if any file of the lab exists, or a module that its package would shadow."""
    packages = [course.root / package / "checks" / lab for package in ("amllab", "autograder")]
    modules = [package.with_suffix(".py") for package in packages]
    master = targets["master.py.j2"].parent
    taken = [path for path in (*packages, *modules, master, *targets.values()) if path.exists()]
    if taken:
        listed = ", ".join(os.path.relpath(path, course.root) for path in taken)
        raise FileExistsError(f"the name {lab} is already in use: {listed}; choose another name")
