"""The upgrade of a course: a new version of the package is merged into the course's own files.

Everything is decided before anything is written. The record of what the course was made from is written last: after an
interruption, the same command does the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from autograder.authoring.drafts import locked
from autograder.authoring.new_course import (
    PACKAGE,
    bases_of,
    course_files,
    installed_version,
    record_files,
)
from autograder.authoring.shipped import chosen_labs, shipped_labs
from autograder.authoring.three_way import Outcome, digest, is_text, merge
from autograder.authoring.write_files import content_of, write_files
from autograder.course import Course
from autograder.course_version import RECORD, SHIPPED
from autograder.labs.conflicts import MARKS, conflict_lines

_ROLES = {"source": "source_directory", "solutions": "solution_directory"}


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade does.

    Attributes:
        before, after: Versions of the package.
        labs: Assignments of the course's labs, those that were added included.
        outcomes: Path in the course -> what happens to the file; files of which there is nothing to say are left out.
        added: Labs that the course did not have.
        removed: Labs that the course has removed.
        dropped: Labs that the package no longer ships.
        writes: Contents of files to write, in this order; ``None`` deletes a file.
    """

    before: str
    after: str
    labs: list[str]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    writes: dict[Path, bytes | None] = field(default_factory=dict)

    @property
    def conflicts(self) -> list[str]:
        """Files that need a decision."""
        return [name for name, outcome in self.outcomes.items() if outcome.what == "conflict"]

    @property
    def to_build(self) -> list[str]:
        """Assignments of labs with changed files."""
        changed = {"updated", "merged", "conflict", "added", "deleted"}
        names = {name for name, outcome in self.outcomes.items() if outcome.what in changed}
        return [
            lab
            for lab in self.labs
            if any(part in (lab, lab.replace("-", "_")) for name in names for part in Path(name).parts[:-1])
        ]

    def lines(self) -> Iterator[str]:
        """Yield what happens, one line for each file, and one for each lab that is added."""
        new = {
            lab: [n for n in _files_of(lab, self.outcomes) if self.outcomes[n].what == "added"] for lab in self.added
        }
        for lab, names in new.items():
            yield f"{'added':9} {lab} ({len(names)} files)"
        for name, outcome in self.outcomes.items():
            if any(name in names for names in new.values()):
                continue
            yield f"{outcome.what:9} {name}{f' ({outcome.why})' if outcome.why else ''}"
            if outcome.other is not None:
                yield f"{'':9} new version: {_new_version(name, self.after)}"
        for lab in self.removed:
            yield f"{'left out':9} {lab} (this course removed it; --labs {lab} adds it again)"
        for lab in self.dropped:
            yield f"{'kept':9} {lab} ({PACKAGE} {self.after} no longer ships it: it is now a lab of your own)"


def upgrade_course(
    course: Course, *, add: Iterable[str] = (), without_base: bool = False, dry_run: bool = False
) -> Upgrade:
    """Bring the labs of a course to the installed version of the package.

    Args:
        course: The course.
        add: Names of further shipped labs that the course gets.
        without_base: Accept a course that has lost what it was made from. Files that differ from the new version are
            then kept, and the new version is written to another folder.
        dry_run: Write nothing.

    Raises:
        FileNotFoundError: The course has no record, and ``without_base`` is not set.
        ValueError: The record is damaged, the course is newer than the package, or an earlier conflict is not resolved.
        LookupError: There is no such lab.
    """
    with locked(course.root, "upgrade"):
        upgrade = _plan(course, chosen_labs(add), without_base=without_base)
        if not dry_run:
            write_files(course.root, upgrade.writes)
    return upgrade


def _plan(course: Course, add: list[str], *, without_base: bool) -> Upgrade:
    root, after = course.root, installed_version()
    record = _found_record(course) if without_base else _record(root)
    _refuse_downgrade(record[PACKAGE], after)
    there, shipped = {lab for lab in record["labs"] if _has_master(course, lab)}, shipped_labs()
    removed = [lab for lab in record["labs"] if lab not in there and lab not in add]
    dropped = [lab for lab in record["labs"] if lab in there and lab not in shipped]
    labs = [lab for lab in dict.fromkeys([*record["labs"], *add]) if lab not in (*removed, *dropped)]
    added = [lab for lab in add if lab not in there]
    plan = Upgrade(record[PACKAGE], after, labs, added=added, removed=removed, dropped=dropped)
    title, digests = record["title"], record["files"]
    theirs = course_files(title, labs)
    # a lab that is added, or added again, has no base: all of it is new
    new = {name for lab in added for name in _files_of(lab, theirs)}
    left_alone = {name for lab in (*removed, *dropped) for name in _files_of(lab, digests)}
    bases = {name: base for name, base in bases_of(root, digests).items() if name not in new | left_alone}
    ours = {name: content_of(_place(course, name)) for name in sorted({*bases, *theirs})}
    _refuse_unresolved({name: ours[name] for name in ours if is_text(name)})
    labels = ("your course", f"{PACKAGE} {record[PACKAGE]}, which it was made from", f"{PACKAGE} {after}")
    for name, mine in ours.items():
        outcome = merge(name, bases.get(name), mine, theirs.get(name), labels)
        if outcome.what:
            plan.outcomes[name] = outcome
        if outcome.content is not None or outcome.deleted:
            plan.writes[_place(course, name)] = outcome.content
        if outcome.other is not None:
            plan.writes[root / _new_version(name, after)] = outcome.other
    _renew_record(root, plan, record_files(title, labs, theirs), digests)
    return plan


def _has_master(course: Course, lab: str) -> bool:
    return any((course.directories["source_directory"] / lab).glob("*.py"))


def _renew_record(root: Path, plan: Upgrade, files: dict[str, bytes], digests: dict[str, str]) -> None:
    """Add what changes in the record of a course, after everything else."""
    for name in digests:
        kept = f"{SHIPPED}/{name}"
        if kept not in files and (root / kept).is_file():
            plan.writes[root / kept] = None
    for kept, content in files.items():  # the record itself is the last of them
        found = content_of(root / kept)
        if found is None or digest(found) != digest(content):
            plan.writes[root / kept] = content


def _files_of(lab: str, names: Iterable[str]) -> list[str]:
    """Return those names of files that belong to a lab."""
    folders = (
        f"source/{lab}/",
        f"solutions/{lab}/",
        *(f"labs/{k}/{lab.replace('-', '_')}/" for k in ("public", "hidden")),
    )
    return [name for name in names if name.startswith(folders)]


def _record(root: Path) -> dict[str, Any]:
    """Return the record of what a course was made from."""
    file = root / SHIPPED / RECORD
    ways = (
        f"restore the folder {SHIPPED} (git checkout -- {SHIPPED}), or run the command with --without-base: it keeps your "
        "files, and writes new versions to another folder for you to compare"
    )
    if not file.is_file():
        if not (root / "labs" / "public").is_dir():
            raise FileNotFoundError(
                f"{root} was not made by 'autograder new-course': a clone of the repository is upgraded with 'git pull'"
            )
        raise FileNotFoundError(f"{SHIPPED}/{RECORD} is missing, so what this course was made from is unknown: {ways}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        labs, files = [str(lab) for lab in found["labs"]], {str(n): str(d) for n, d in found["files"].items()}
        Version(found[PACKAGE])
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("a path leads out of the course")
        return {PACKAGE: found[PACKAGE], "title": str(found["title"]), "labs": labs, "files": files}
    except (ValueError, TypeError, KeyError, AttributeError, InvalidVersion) as error:
        raise ValueError(f"{SHIPPED}/{RECORD} is damaged ({type(error).__name__}: {error}): {ways}") from None


def _found_record(course: Course) -> dict[str, Any]:
    """Return a record of a course that has none: of the labs with a master text, and of the texts that are kept."""
    labs = [lab for lab in shipped_labs() if _has_master(course, lab)]
    folder = course.root / SHIPPED
    kept = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    known = course_files(course.root.name, labs)
    files = {name: digest(file.read_bytes()) for name, file in kept.items() if name in known}
    return {PACKAGE: installed_version(), "title": course.root.name, "labs": labs, "files": files}


def _refuse_downgrade(before: str, after: str) -> None:
    if Version(after) < Version(before):
        raise ValueError(
            f"this course has the labs of {PACKAGE} {before}, but {after} is installed here: run "
            f"'pip install --upgrade \"{PACKAGE}[grader]>={before}\"'"
        )


def _refuse_unresolved(texts: dict[str, bytes | None]) -> None:
    found = [f"{name}, line {line}" for name, text in texts.items() for line in conflict_lines(text or b"")]
    if found:
        raise ValueError(f"an earlier upgrade left conflicts in {', '.join(found)}: {MARKS}, and run the command again")


def _place(course: Course, name: str) -> Path:
    """Return where a file of the course is; nbgrader's configuration may name other folders than usual."""
    first, _, rest = name.partition("/")
    place = course.directories[_ROLES[first]] / rest if first in _ROLES else course.root / name
    return Path(os.path.realpath(place))  # a link stays a link


def _new_version(name: str, version: str) -> str:
    """Return the place of a new version of a file that keeps the course's version.

    It is not next to the file: nbgrader copies what is next to a master text to the release.
    """
    return f"upgrade-{version}/{name}"
