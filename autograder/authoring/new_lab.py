"""``autograder new-lab``: a small lab that builds, grades and passes its tests, to be changed into one of your own."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from autograder.course import Course

TEMPLATES = Path(__file__).parent / "scaffold"

# template -> where its text goes, below the course's folder
FILES = {
    "master.py.j2": "{source}/{assignment}/{lab}.py",
    "lab.toml.j2": "amllab/checks/{lab}/lab.toml",
    "public_package.py.j2": "amllab/checks/{lab}/__init__.py",
    "probes.py.j2": "amllab/checks/{lab}/probes.py",
    "public_checks.py.j2": "amllab/checks/{lab}/test_standardise.py",
    "hidden_package.py.j2": "autograder/checks/{lab}/__init__.py",
    "hidden_checks.py.j2": "autograder/checks/{lab}/test_standardise_hidden.py",
    "wrong.py.j2": "autograder/checks/{lab}/wrong.py",
    "tests.py.j2": "tests/test_{lab}.py",
}


def new_lab(course: Course, name: str) -> list[Path]:
    """Writes the files of a new lab, one exercise large.

    Args:
        course: a checkout of the course, with both packages in it.
        name: of the assignment, such as ``"knowledge-distillation"``.

    Returns:
        The files written.

    Raises:
        ValueError: the name cannot be that of a lab; nothing is written.
        FileExistsError: there is such a lab, or a file of another's is in its way; nothing is written.
        FileNotFoundError: the course's folder is no checkout of the packages; nothing is written.
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
    """The name of the lab's folders of checks, which Python imports."""
    lab = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", lab) or keyword.iskeyword(lab):
        raise ValueError(
            f"{name!r} cannot be the name of a lab: its checks are a Python package. Use lower-case letters, digits "
            "and single '-', a letter first, and no word of Python's, such as knowledge-distillation"
        )
    return lab


def _refuse_what_exists(course: Course, lab: str, targets: dict[str, Path]) -> None:
    """Nothing of the lab may be there, nor a module that a package of its name would hide."""
    packages = [course.root / package / "checks" / lab for package in ("amllab", "autograder")]
    modules = [package.with_suffix(".py") for package in packages]
    master = targets["master.py.j2"].parent
    taken = [path for path in (*packages, *modules, master, *targets.values()) if path.exists()]
    if taken:
        listed = ", ".join(os.path.relpath(path, course.root) for path in taken)
        raise FileExistsError(f"there is something of the name {lab} already: {listed}; choose another name")
