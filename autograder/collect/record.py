"""The record of collected downloads: the students' ids, and the names of their files on the platform.

The record is one file in the course, ``collected.json``. Its ids do not change when other students submit later, even
under the same name. Exports use its numbers to find rows, and feedback is returned under its file names.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.collect.names import Owner

FILE = "collected.json"  # in the course's folder
_FORMAT = 1


@dataclass
class Record:
    """The content of ``collected.json``.

    Attributes:
        people: Key of a person on a platform (:func:`key_of`) -> ``{"id": ..., "name": ...}``.
        uploads: Assignment -> student -> ``{"platform": ..., "names": [...]}``, with the names of files, or of folders
            on Moodle.
    """

    people: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> Record:
        """Read the record of a course; return an empty one if nothing has been collected.

        Raises:
            ValueError: If the file cannot be read; the message says how to recover.
        """
        try:
            stored = json.loads((root / FILE).read_bytes())
            if stored["format"] != _FORMAT:
                raise ValueError("it has another version")
            people = {
                str(key): {"id": str(who["id"]), "name": str(who["name"])} for key, who in stored["people"].items()
            }
            return cls(people, {lab: dict(students) for lab, students in stored["uploads"].items()})
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise ValueError(
                f"{FILE} cannot be read ({error}): it stores the ids of the students. Restore it from a backup; without one, "
                f"'mv {FILE} {FILE}.old' starts a new one, and ids of people who share a name may change"
            ) from None

    def write(self, root: Path) -> None:
        """Replace the file atomically: a concurrent reader sees either the old or the new one."""
        text = json.dumps(
            {"format": _FORMAT, "people": self.people, "uploads": self.uploads},
            indent=1, sort_keys=True, ensure_ascii=False,
        )  # fmt: skip
        with tempfile.NamedTemporaryFile("w", dir=root, prefix=f".{FILE}", delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, root / FILE)

    def numbers(self, student: str) -> list[str]:
        """Return a student's numbers and logins on all platforms."""
        return sorted({key.rpartition(":")[2] for key, who in self.people.items() if who["id"] == student} - {""})

    def names(self, assignment: str, student: str, platform: str) -> list[str]:
        """Return the platform's names of a student's files or folders; empty if unknown."""
        found = self.uploads.get(assignment, {}).get(student, {})
        return [str(name) for name in found.get("names", [])] if found.get("platform") == platform else []

    def ids(self) -> set[str]:
        """Return the ids of all recorded students."""
        return {who["id"] for who in self.people.values()}


def key_of(owner: Owner, assignment: str) -> str:
    """Return the key that identifies a person.

    Moodle's numbers are valid for one assignment only, and so are Canvas's if names are hidden.
    """
    if not owner.person:
        return f"{owner.platform}:{assignment}:{owner.id}:"
    if owner.platform == "moodle":
        return f"moodle:{assignment}:{owner.person}"
    if owner.platform == "canvas" and owner.name == "anon":
        return f"canvas:{assignment}:anon-{owner.person}"
    return f"{owner.platform}:{owner.person}"


@dataclass(frozen=True)
class Known:
    """A student in the gradebook."""

    id: str
    names: frozenset[str]
    number: str


@dataclass(frozen=True)
class Person:
    """A person in a download.

    Attributes:
        key: The key from :func:`key_of`.
        platform: Name of the platform, such as ``"canvas"``.
        number: Number or login on the platform; may be empty.
        name: Name in the form of an id.
        letters: Letters and digits of the name only.
    """

    key: str
    platform: str
    number: str
    name: str
    letters: str


def give_ids(people: Iterable[Person], record: Record, roster: Iterable[Known]) -> tuple[dict[str, str], list[str]]:
    """Assign an id to each person; ids in the record or the gradebook do not change.

    Args:
        people: All people in the downloads.
        record: The record, to which new people are added.
        roster: The gradebook's students.

    Returns:
        Key of a person -> id, and remarks on ids that a person should check.
    """
    given, remarks = {}, []
    everybody = sorted(people, key=lambda person: (person.key, person.name))
    known = list(roster)
    new = [person for person in everybody if person.key not in record.people]
    for person in new:
        namesakes = sum(other.name == person.name for other in new)
        found = _by_number(person, known) or (_elsewhere(person, record) if namesakes == 1 else "")
        if not found and namesakes == 1 and (found := _by_name(person, known, record)) not in ("", person.name):
            remarks.append(f"{found}: matched to the gradebook by the name {person.name}")
        if not found:
            found = _new_id(person, {*record.ids(), *(who.id for who in known)}, several=namesakes > 1)
            if namesakes > 1 and any(person.letters in who.names for who in known):
                remarks.append(
                    f"{found}: several people have this name. If one of them is already in the gradebook, identify them with "
                    f"'nbgrader db student add STUDENT --lms-user-id={person.number}', remove {FILE} and collect again"
                )
        record.people[person.key] = {"id": found, "name": person.name}
    for person in everybody:
        given[person.key] = record.people[person.key]["id"]
    return given, remarks


def _by_number(person: Person, known: list[Known]) -> str:
    own = f"{person.name}-{person.number}"  # form of ids assigned before the record existed
    hits = [who.id for who in known if person.number and (who.number == person.number or who.id == own)]
    return hits[0] if len(hits) == 1 else ""


def _elsewhere(person: Person, record: Record) -> str:
    """Return the id from another assignment of the only person with this name on this platform.

    This applies only to numbers that are valid for one assignment, and only if nobody else in this assignment has the
    id.
    """
    if person.key == f"{person.platform}:{person.number}":
        return ""
    here = person.key.rsplit(":", 1)[0]
    same = {
        who["id"]
        for key, who in record.people.items()
        if key.startswith(f"{person.platform}:") and who["name"] == person.name and key.rsplit(":", 1)[0] != here
    }
    taken = {who["id"] for key, who in record.people.items() if key.rsplit(":", 1)[0] == here}
    return same.pop() if len(same) == 1 and not same & taken else ""


def _by_name(person: Person, known: list[Known], record: Record) -> str:
    """Return the id of the gradebook's only student with this name, unless someone else on this platform has it."""
    hits = [who for who in known if person.letters and person.letters in who.names]
    if len(hits) != 1 or (hits[0].number and person.number and hits[0].number != person.number):
        return ""
    scope = f"{person.key.rsplit(':', 1)[0]}:"
    taken = {who["id"] for key, who in record.people.items() if key.startswith(scope)}
    return "" if hits[0].id in taken else hits[0].id


def _new_id(person: Person, ids: Iterable[str], *, several: bool) -> str:
    used = {name.casefold() for name in ids}
    choices = [] if several and person.number else [person.name]
    choices += [f"{person.name}-{person.number}"] if person.number else []
    choices += [f"{person.name}-{i}" for i in range(2, len(used) + 3)]
    return next(choice for choice in choices if choice.casefold() not in used)
