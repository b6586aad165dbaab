"""Identify the student of a downloaded file by the names that learning platforms give files and folders.

=========== ===========================================================================================================
Canvas      ``lovelaceada_LATE_1234_567890_notebook-1.ipynb``: the sortable name, a mark for late submissions, the
            number of the person, the number of the file, and the student's file name, followed by ``-1`` and so on
            from the second upload. Anonymous: ``LATE_anon_AbC12_567890_notebook.ipynb``. Texts and links:
            ``lovelaceada_1234_text.html``
Moodle      a folder ``Ada Lovelace_1234_assignsubmission_file_``, without the last ``_`` since Moodle 4.1; or the same
            as a prefix of the file name. The number is valid for one assignment only. ``Participant_1234_...`` if
            names are hidden, ``Group A_12_...`` for a group, ``Default group_assignsubmission_file`` for students
            without one
Blackboard  ``Lab 1_alovelace_attempt_2026-01-30-15-00-00_notebook.ipynb``, and a text of the same name for each attempt
Brightspace ``12345-67890 - Ada Lovelace - Oct 3, 2026 1105 PM``, as a folder or as a prefix of the file name
ILIAS       a folder ``Lovelace_Ada_alovelace_1234``
Open edX    ``[1] - alovelace - notebook.ipynb``
Google      ``Ada Lovelace - transfer_learning.ipynb``, only for the lab's own notebooks
=========== ===========================================================================================================
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from dateutil.parser import ParserError
from dateutil.parser import parse as parse_date

_NOT_HIS = re.compile(r"\.|__MACOSX$|~\$|Thumbs\.db$|desktop\.ini$")  # files added by systems and programs
_AGAIN = re.compile(r"(?:[-_ ]?copy ?\d*|-(\d+)| ?\((\d+)\))$", re.I)  # copy numbers of Canvas, Jupyter and browsers
_COPY_OF = re.compile(r"copy of ", re.I)  # prefix that Colab adds
_PARTICIPANT = re.compile(r"(?:participant|teilnehmer\W*in|teilnehmer)[ _]?\d*", re.I)
_MAX_NAME = 100  # characters of an id made from a name; the gradebook accepts 128

_LATE = r"(?:(?P<late>LATE)_)?"
_PATTERNS = [
    (platform, re.compile(pattern, re.I | re.S))
    for platform, pattern in (
        ("moodle", r"(?P<name>.+?)(?:_(?P<person>[0-9]+))?_assignsubmission_(?P<plugin>[a-z]+)(?:_(?P<rest>.*))?"),
        (
            "canvas",
            rf"(?P<name>{_LATE}anon)_(?P<person>[A-Za-z0-9]+)_(?:(?P<file>[0-9]+)_(?P<rest>.+)|(?P<text>text|link)\.html)",
        ),
        (
            "canvas",
            rf"(?:(?P<name>.*?)_){_LATE}(?P<person>[0-9]+)_(?:(?P<file>[0-9]+)_(?P<rest>.+)|(?P<text>text|link)\.html)",
        ),
        ("blackboard", r".+?_(?P<person>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<rest>.+)|(?P<text>\.txt))?"),
        ("brightspace", r"(?P<person>\d+)-\d+ - (?P<name>.+?) - (?P<time>[^-]*\d{4}[^-]*?)(?: - (?P<rest>.+))?"),
        ("openedx", r"\[\d+\] - (?P<person>.+?) - (?P<rest>.+)"),
    )
]
_ILIAS = re.compile(r"(?P<name>[^_\W]+_[^_\d\W]+)_(?P<login>[^_]+)_(?P<person>\d+)")
_GOOGLE = re.compile(r"(?P<name>[^\W\d_][^-]*?) - (?P<rest>.+)")


@dataclass(frozen=True)
class Owner:
    """The student of a file, identified by the name of the file or of a folder around it.

    Attributes:
        platform: Name of the platform, such as ``"canvas"``.
        person: Number or login on the platform; empty if the name has none.
        name: Name of the person, as the platform writes it.
        part: Name of the file or folder that identified the student.
        rest: The student's name for the file, if ``part`` contains it; otherwise empty.
        order: Sort key of attempts; the last attempt has the largest.
        late: Whether the platform marked the submission as late.
        text: Whether this is a text or link that was typed in, not a file.
    """

    platform: str
    person: str
    name: str
    part: str
    rest: str = ""
    order: float = 0.0
    late: bool = False
    text: bool = False

    @property
    def id(self) -> str:
        """Name of the person in the form of an id.

        If the platform hides names, or the name cannot be an id, the person's number or login is used instead.
        """
        if self.platform == "canvas" and self.name == "anon":
            return student_name(f"anon_{self.person}")
        if self.platform == "moodle" and self.person and _PARTICIPANT.fullmatch(self.name):
            return f"participant-{self.person}"
        return student_name(self.name) or student_name(f"{self.platform}-{self.person}")


def recognise(parts: Sequence[str], released: Collection[str] = ()) -> Owner | None:
    """Return the owner of a file; ``None`` if no name identifies one, or if a system added the file.

    Args:
        parts: Names of the folders around the file, followed by its own name.
        released: Names of the lab's notebooks, without ``.ipynb``.
    """
    if is_clutter(parts):
        return None
    for i, part in enumerate(parts):
        if (owner := _owner(part, is_file=i == len(parts) - 1, released=released)) is not None:
            return owner
    return None


def is_clutter(parts: Sequence[str]) -> bool:
    """Return whether a system added the file: hidden files, ``__MACOSX``, lock files of office programs."""
    return any(_NOT_HIS.match(part) for part in parts)


def _owner(part: str, *, is_file: bool, released: Collection[str]) -> Owner | None:
    for platform, pattern in _PATTERNS:
        match = pattern.fullmatch(part)
        if match is None:
            continue
        said = match.groupdict()
        rest = said.get("rest") or ""
        if is_file and platform == "brightspace" and not rest:
            continue
        text = bool(said.get("text")) or (said.get("plugin") or "file").lower() != "file"
        person, late = said.get("person") or "", bool(said.get("late"))
        name = (said.get("name") or ("" if platform == "canvas" else person)).removeprefix("LATE_")
        return Owner(platform, person, name, part, rest if is_file else "", _order(said), late, text)
    if not is_file and (match := _ILIAS.fullmatch(part)) is not None:
        return Owner("ilias", match["person"], match["login"], part)
    if is_file and (match := _GOOGLE.fullmatch(part)) is not None:
        stem = re.sub(r"\.ipynb$", "", match["rest"], flags=re.I)
        if notebook_of(stem, released)[0] in released:
            return Owner("google", "", match["name"], part, match["rest"])
    return None


def _order(said: dict[str, str | None]) -> float:
    if file := said.get("file"):
        return float(int(file[:18]))
    if (time := said.get("time")) is None:
        return 0.0
    if re.fullmatch(r"\d{4}(-\d\d){5}", time):
        return float(time.replace("-", ""))
    try:
        read: datetime = parse_date(re.sub(r"\b(\d{1,2})(\d\d) ?([AP]M)", r"\1:\2 \3", time))
        return read.timestamp()
    except (ParserError, OverflowError, ValueError):
        return 0.0


def student_name(name: str) -> str:
    """Turn a name into an id: lower case, ``_`` for blanks, no characters special to paths, patterns or HTML."""
    text = unicodedata.normalize("NFC", name).casefold()
    return "_".join(re.sub(r"[^\w.-]", "", word) for word in text.split())[:_MAX_NAME].strip("._-")


def notebook_of(stem: str, released: Collection[str]) -> tuple[str, int]:
    """Return the lab's notebook with a similar name, or else the name itself, and the number of the copy."""
    if stem in released:
        return stem, 0
    by_letters = {_same(name): name for name in released}
    plain = _COPY_OF.sub("", stem)
    match = _AGAIN.search(plain)
    for original, again in (
        (plain, 0),
        (plain[: match.start()], int(match[1] or match[2] or 1)) if match else (plain, 0),
    ):
        if _same(original) in by_letters:
            return by_letters[_same(original)], again
    return stem, int(match[1] or match[2] or 1) if match else 0


def letters(name: str) -> str:
    """Return the letters and digits of a name, in lower case and without accents.

    Platforms write the same name in different ways.
    """
    decomposed = unicodedata.normalize("NFKD", name)
    return "".join(c for c in decomposed if c.isalnum()).casefold()


def _same(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())
