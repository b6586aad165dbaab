"""A course of one's own: ``autograder new-course`` writes a folder with labs, settings, roster and instructions.

The course keeps what it was made from in ``.shipped``: the texts, and a digest of every file. A later version of the
package is merged into it by :mod:`autograder.authoring.upgrade_course`.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from amllab.course_folder import CONFIG
from autograder.authoring.shipped import chosen_labs, files_of_lab, shipped_labs
from autograder.authoring.three_way import Base, digest, is_text
from autograder.authoring.write_files import naming, umask
from autograder.course import path_problem
from autograder.course_version import RECORD, SHIPPED

PACKAGE = "amllab"
_TEMPLATES = Path(__file__).parent / "course"
_NAMES = {"gitignore": ".gitignore"}  # a template of this name would be ignored by tools
_UPGRADE = "run 'autograder upgrade-course' in it to bring it to the installed version of the package"


def installed_version() -> str:
    """Return the version of the package."""
    return version(PACKAGE)


def new_course(target: Path, labs: Iterable[str] | None = None) -> list[str]:
    """Write a course into a new or empty folder, all of it or nothing.

    Args:
        target: Folder of the course. It may exist if it has nothing but hidden files, such as ``.git``.
        labs: Names of the shipped labs that it gets; all by default.

    Returns:
        Assignments of its labs.

    Raises:
        LookupError: There is no such lab.
        FileExistsError: The folder has files, or is in another course.
        ValueError: nbgrader cannot work in a folder of this name.
    """
    chosen = chosen_labs(labs) if labs is not None else shipped_labs()
    with naming(target):  # the working directory may have been removed
        target = Path(os.path.abspath(target.expanduser()))
    _require_free(target)
    title = target.name or "course"
    files = course_files(title, chosen)
    target.parent.mkdir(parents=True, exist_ok=True)
    inside = target.is_dir()  # then it stays the same folder: somebody may be in it, or it may be another drive
    place, prefix = target if inside else target.parent, f".{target.name}.draft-"
    for left in place.glob(f"{glob.escape(prefix)}*"):  # by a command that was killed
        shutil.rmtree(left, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        _write(draft, files | record_files(title, chosen, files))
        draft.chmod(0o777 & ~umask())
        if not inside:
            os.rename(draft, target)
            return chosen
        # the configuration last: without it, the folder is no course
        for path in sorted(draft.iterdir(), key=lambda path: path.name == CONFIG):
            os.rename(path, target / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return chosen


def course_files(title: str, labs: Iterable[str]) -> dict[str, bytes]:
    """Return all files of a course as shipped, by their path in it.

    Args:
        title: Name of the course.
        labs: Assignments of its labs.
    """
    labs = list(labs)
    words = {"title": title, "course_id": course_id(title), "labs": labs, "version": installed_version()}
    templates = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    files = {}
    for template in sorted(path.name for path in _TEMPLATES.iterdir() if path.is_file()):
        name = template.removesuffix(".j2")
        files[_NAMES.get(name, name)] = templates.get_template(template).render(words).encode()
    for lab in labs:
        files |= {name: file.read_bytes() for name, file in files_of_lab(lab).items()}
    return files


def record_files(title: str, labs: Iterable[str], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what a course keeps of the version that it was made from, by its path in the course."""
    kept = {f"{SHIPPED}/{name}": content for name, content in files.items() if is_text(name)}
    return kept | {f"{SHIPPED}/{RECORD}": record_text(title, labs, {n: digest(c) for n, c in files.items()})}


def record_text(title: str, labs: Iterable[str], digests: Mapping[str, str]) -> bytes:
    """Return the record of what a course was made from."""
    record = {
        "about": "What this course was made from. 'autograder upgrade-course' reads and writes this folder; do not edit.",
        PACKAGE: installed_version(),
        "title": title,
        "labs": list(labs),
        "files": dict(sorted(digests.items())),
    }
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


def bases_of(root: Path, digests: Mapping[str, str]) -> dict[str, Base]:
    """Return what a course keeps of its files as they were shipped; damaged or lost texts are left out."""
    bases = {}
    for name, known in digests.items():
        file = root / SHIPPED / name
        text = file.read_bytes() if is_text(name) and file.is_file() else None
        bases[name] = Base(known, text if text is not None and digest(text) == known else None)
    return bases


def _require_free(target: Path) -> None:
    """Refuse a folder that has files, is in a course, or has a name that nbgrader cannot use."""
    if problem := path_problem(target):
        raise ValueError(problem)
    if (target / CONFIG).exists():
        raise FileExistsError(f"{target} is a course already; {_UPGRADE}")
    if above := next((folder for folder in target.parents if (folder / CONFIG).is_file()), None):
        raise FileExistsError(
            f"{target} would be inside the course {above}, and commands would mix them up: name a folder outside it"
        )
    if target.is_symlink() and not target.exists():
        raise FileExistsError(f"{target} is a link to nothing: remove it, or name another folder")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file: name a new folder")
    written = {name.split("/")[0] for name in course_files("x", [])} | {SHIPPED}
    there = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    in_the_way = [name for name in there if name in written or not name.startswith(".")]
    if in_the_way:
        listed = ", ".join(in_the_way[:5]) + (", ..." if len(in_the_way) > 5 else "")
        raise FileExistsError(f"{target} is not empty ({listed}): name a new folder, or an empty one")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path):
            path.write_bytes(content)


def course_id(title: str) -> str:
    """Return a name that is safe in paths and in Python."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "course"
