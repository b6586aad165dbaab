"""The students' repository of a course: ``autograder add-platform`` writes it to ``students/``, to be published.

It has the released notebooks, a wheel of the library with the checks of these labs alone, and what Docker, Binder or
Google Colab need. Like the bundle, it is searched for everything that students must not have.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from amllab.lab import Lab, find_lab
from autograder.authoring.bundle import build_wheel, release_of
from autograder.authoring.drafts import locked
from autograder.authoring.leak_check import find_leaks
from autograder.authoring.new_course import course_id
from autograder.authoring.three_way import Base, Outcome, digest, is_text, merge
from autograder.authoring.write_files import content_of, write_files
from autograder.course import Course
from autograder.course_version import SHIPPED
from autograder.errors import LeakError
from autograder.labs.deadline import deadline_of, in_words

PLATFORMS = ("docker", "binder", "colab")
FOLDER = "students"
_TEMPLATES = Path(__file__).parent / "platforms"
_KEPT = f"{SHIPPED}/{FOLDER}"  # what the command wrote last, so that edits are noticed
_CHOICES = "choices.json"
_GITHUB = re.compile(r"(?:https?://|git@|ssh://git@)?github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")
_INSTALL = """\
# on Google Colab: install the library of the course
import sys

if "google.colab" in sys.modules:
    %pip install --quiet "{url}"{packages}"""


@dataclass(frozen=True)
class Choices:
    """What a students' repository has.

    Attributes:
        platforms: Names of platforms.
        labs: Assignments of the labs that students may see.
        repository: Owner and name on GitHub, such as ``ada/course``; empty if there is none yet.
        branch: Branch that students open.
    """

    platforms: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()
    repository: str = ""
    branch: str = ""


def add_platforms(course: Course, wanted: Choices) -> list[str]:
    """Write the students' repository, or bring it up to date, and return what happened to its files.

    What is not wanted now, but was before, stays. Files that somebody has edited are merged, as in an upgrade.

    Args:
        course: Course with the built releases.
        wanted: Platforms and labs to add; a repository and a branch, if they are to change.

    Raises:
        ValueError: There is nothing to write, or Colab lacks a repository.
        LookupError: There is no such lab.
        FileNotFoundError: A release is not built.
        LeakError: The files would reveal a secret; nothing is written.
    """
    with locked(course.root, "command"):
        choices = _joined(_stored(course.root), wanted)
        labs = [find_lab(name) for name in choices.labs]
        with tempfile.TemporaryDirectory(prefix="amllab-students-") as folder:
            draft = Path(folder, FOLDER)
            draft.mkdir()
            _write_draft(draft, course, labs, choices)
            leaks = [leak for lab in labs for leak in find_leaks(draft, lab, course)]
            if leaks:
                raise LeakError("nothing was written, because it would reveal:\n  " + "\n  ".join(map(str, leaks)))
            files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
            contents = {path.relative_to(draft).as_posix(): path.read_bytes() for path in files}
        return _put(course.root, contents, choices)


def repository_of(address: str) -> str:
    """Return owner and name of a repository on GitHub.

    Raises:
        ValueError: It is the address of something else.
    """
    found = _GITHUB.fullmatch(address.strip()) or re.fullmatch(r"([\w.-]+)/([\w.-]+)", address.strip())
    if found is None:
        raise ValueError(
            f"{address!r} is no repository on GitHub: name it as OWNER/NAME or https://github.com/OWNER/NAME"
        )
    return f"{found[1]}/{found[2]}"


def _joined(before: Choices, wanted: Choices) -> Choices:
    joined = Choices(
        tuple(name for name in PLATFORMS if name in before.platforms + wanted.platforms),
        tuple(dict.fromkeys(find_lab(name).assignment for name in before.labs + wanted.labs)),
        wanted.repository or before.repository,
        wanted.branch or before.branch or "main",
    )
    if not joined.platforms:
        raise ValueError(f"name at least one platform: {', '.join(PLATFORMS)}")
    if not joined.labs:
        raise ValueError("name the labs that students may see, with --labs: the others stay out of the repository")
    if "colab" in joined.platforms and not joined.repository:
        raise ValueError(
            "Google Colab opens notebooks from GitHub: name the students' repository, with --repository OWNER/NAME"
        )
    return joined


def _stored(root: Path) -> Choices:
    file = root / _KEPT / _CHOICES
    if not file.is_file():
        return Choices()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["choices"]
        return Choices(tuple(found["platforms"]), tuple(found["labs"]), found["repository"], found["branch"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{_KEPT}/{_CHOICES} is damaged ({type(error).__name__}: {error}): delete it, and name platforms and labs again"
        ) from None


def _write_draft(draft: Path, course: Course, labs: list[Lab], choices: Choices) -> None:
    releases = [release_of(course, lab) for lab in labs]
    wheels = draft / "wheels"
    wheels.mkdir()
    with tempfile.TemporaryDirectory(prefix="amllab-wheel-") as folder:
        wheel = shutil.copy(build_wheel(Path(folder), *zip(labs, releases, strict=True)), wheels)
    packages = list(dict.fromkeys(package for lab in labs for package in lab.packages))
    words: dict[str, Any] = {
        "title": course.root.name,
        "image": course_id(course.root.name),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "wheel": Path(wheel).name,
        "packages": packages,
        "docker": "docker" in choices.platforms,
        "labs": [_words_of(lab, release, choices) for lab, release in zip(labs, releases, strict=True)],
    }
    templates = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    templates.trim_blocks = templates.lstrip_blocks = True

    def write(template: str, name: str) -> None:
        path = draft / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(templates.get_template(template).render(words), encoding="utf-8")

    for lab, release in zip(labs, releases, strict=True):
        (draft / lab.assignment).mkdir()
        shutil.copyfile(release, draft / lab.assignment / release.name)
        if "colab" in choices.platforms:
            _write_for_colab(release, draft / "colab" / lab.assignment, Path(wheel).name, lab.packages, choices)
    write("README.md.j2", "README.md")
    write("requirements.txt.j2", "requirements.txt")
    if "docker" in choices.platforms:
        write("Dockerfile.j2", "Dockerfile")
        write("dockerignore", ".dockerignore")
    if "binder" in choices.platforms:
        write("requirements.txt.j2", "binder/requirements.txt")  # in a folder of its own: it would use the Dockerfile
        (draft / "binder" / "runtime.txt").write_text(f"python-{words['python']}\n", encoding="utf-8")


def _words_of(lab: Lab, release: Path, choices: Choices) -> dict[str, str]:
    path = f"{lab.assignment}/{release.name}"
    deadline = deadline_of(lab)
    repository, branch = choices.repository, quote(choices.branch, safe="")
    binder = f"https://mybinder.org/v2/gh/{repository}/{branch}?labpath={quote(path, safe='')}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/{choices.branch}/colab/{path}"
    return {
        "title": lab.title,
        "path": path,
        "deadline": in_words(deadline.due) if deadline is not None else "",
        "binder": binder if "binder" in choices.platforms and repository else "",
        "colab": colab if "colab" in choices.platforms else "",
    }


def _write_for_colab(release: Path, folder: Path, wheel: str, packages: list[str], choices: Choices) -> None:
    """Write the release with a first cell that installs the library; grading takes further cells as they are."""
    folder.mkdir(parents=True)
    notebook = nbformat.read(release, as_version=4)
    url = f"https://raw.githubusercontent.com/{choices.repository}/{choices.branch}/wheels/{wheel}"
    source = _INSTALL.format(url=url, packages="".join(f' "{package}"' for package in packages))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="install-on-colab"))
    nbformat.write(notebook, folder / release.name)


def _put(root: Path, contents: dict[str, bytes], choices: Choices) -> list[str]:
    """Merge the files into the folder, and return one line for each file that changes."""
    record = root / _KEPT / _CHOICES
    digests = json.loads(record.read_text(encoding="utf-8"))["files"] if record.is_file() else {}
    labels = (f"your {FOLDER}/", "the last version", "the new version")
    outcomes: dict[str, Outcome] = {}
    writes: dict[Path, bytes | None] = {}
    for name in sorted({*contents, *digests}):
        base = Base(digests[name], content_of(root / _KEPT / name)) if name in digests else None
        ours, theirs = content_of(root / FOLDER / name), contents.get(name)
        if ours is None and theirs is not None:
            base = None  # deleted: it is written again
        outcome = merge(name, base, ours, theirs, labels)
        if theirs is not None and ours not in (None, theirs) and (outcome.other is not None or not is_text(name)):
            # nobody works in these copies: what is published has to be what was built
            outcome = Outcome("updated", content=theirs)
        outcomes[name] = outcome
        if outcome.content is not None or outcome.deleted:
            writes[root / FOLDER / name] = outcome.content
    kept = {"choices": vars(choices), "files": {name: digest(content) for name, content in contents.items()}}
    texts = {name: content for name, content in contents.items() if b"\0" not in content and len(content) < 1 << 16}
    writes |= {root / _KEPT / name: texts.get(name) for name in {**digests, **texts}}
    writes[record] = (json.dumps(kept, indent=1) + "\n").encode()
    write_files(root, writes)
    return [f"{o.what:9} {FOLDER}/{name}{f' ({o.why})' if o.why else ''}" for name, o in outcomes.items() if o.what]
