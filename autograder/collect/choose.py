"""Choose what counts among a student's uploads: the lab's notebooks in the last attempt that contains any notebook."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from autograder.collect.archives import MAX_UNPACKED
from autograder.collect.downloads import Upload
from autograder.collect.names import notebook_of
from autograder.collect.uploads import RANK_SCRIPT, Content, read_upload, short
from autograder.errors import ArchiveError

_MOST = 100  # uploads read per attempt, starting with the latest


@dataclass
class Chosen:
    """The files to collect from a student.

    Attributes:
        notebooks: Name without ``.ipynb`` -> content.
        uploads: Uploads that contain the notebooks; without a notebook, all uploads of the last attempt.
        notes: What a person should know, for a note in the submission's folder.
        remarks: Explanations about the other files, for the log.
    """

    notebooks: dict[str, Content] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    """A notebook in an upload, with the name under which it would be collected."""

    upload: Upload
    content: Content
    name: str
    again: int

    @property
    def path(self) -> str:
        inner = self.content.path.removeprefix(self.upload.name).strip("/")
        return short(f"{'/'.join(self.upload.parts)}{f': {inner}' if inner else ''}")


def choose(uploads: Iterable[Upload], released: Collection[str]) -> Chosen:
    """Choose the notebooks that count among a student's uploads.

    Args:
        uploads: All uploads of one student.
        released: Names of the lab's notebooks, without ``.ipynb``.
    """
    chosen, attempts, others = Chosen(), _attempts(uploads), []
    for i, attempt in enumerate(attempts):
        if chosen.notebooks:
            others += [upload.path for upload in attempt]
        elif candidates := _read(attempt, released, chosen):
            counting = _counting(candidates, released)
            chosen.notebooks = {_file_name(candidate.name): candidate.content for candidate in counting}
            chosen.uploads = list({id(candidate.upload): candidate.upload for candidate in counting}.values())
            others += [candidate.path for candidate in candidates if candidate not in counting]
            if counting[0].content.rank == RANK_SCRIPT:
                chosen.notes.append(f"{counting[0].path} is a script: its code was put into a notebook.")
            if i:
                chosen.notes.append("The last upload cannot be read: the one before it counts.")
    if not chosen.notebooks:
        chosen.uploads = attempts[0]
        chosen.notes.insert(0, "Nothing that was uploaded can be read as a notebook.")
    elif others:
        counts = ", ".join(repr(candidate.path) for candidate in counting)
        chosen.remarks.append(f"of several files, {counts} counts; not collected: {', '.join(map(repr, others))}")
    return chosen


def _attempts(uploads: Iterable[Upload]) -> list[list[Upload]]:
    """Group uploads into attempts, one per download, the last one first.

    Attempts are sorted by the number of the file or the time of the attempt, then by the time of the download.
    """
    downloads = defaultdict(list)
    for upload in uploads:
        downloads[upload.download].append(upload)

    def age(item: tuple[str, list[Upload]]) -> tuple[float, float, str]:
        return max(_order(upload) for upload in item[1]), max(upload.time for upload in item[1]), item[0]

    return [group for _, group in sorted(downloads.items(), key=age, reverse=True)]


def _order(upload: Upload) -> float:
    return upload.owner.order if upload.owner is not None else 0.0


def _read(attempt: list[Upload], released: Collection[str], chosen: Chosen) -> list[_Candidate]:
    """Return the notebooks of an attempt, the last one last, and add to ``chosen`` why other files were not read."""
    found, reasons, left = [], [], MAX_UNPACKED
    for upload in sorted(attempt, key=_order, reverse=True)[:_MOST]:
        if upload.owner is not None and upload.owner.text:
            reasons.append(
                f"{short(upload.parts[-1])}: text or a link typed into the form, not a file: ask for the .ipynb"
            )
            continue
        if left < 0:
            reasons.append(
                f"{short(upload.name)}: not read, the later uploads have more than {MAX_UNPACKED / 1e6:.0f} MB"
            )
            continue
        try:
            with upload.open() as stream:
                read = read_upload(upload.name, stream)
        except (ArchiveError, OSError) as error:
            reasons.append(f"{short(upload.name)}: {error}")
            continue
        reasons += read.reasons
        for content in read.contents:
            left -= len(content.data)
            found.append(_Candidate(upload, content, *notebook_of(content.stem, released)))
    if found:
        chosen.remarks += [f"not collected: {reason}" for reason in reasons]
    else:
        chosen.notes += reasons
    return sorted(found, key=lambda candidate: (_order(candidate.upload), candidate.again, candidate.path))


def _counting(candidates: list[_Candidate], released: Collection[str]) -> list[_Candidate]:
    """Return one candidate for each of the lab's notebooks, or the last of all if none has such a name.

    Notebooks take precedence over scripts.
    """
    best = max(candidate.content.rank for candidate in candidates)
    ordered = [candidate for candidate in candidates if candidate.content.rank == best]
    named = {candidate.name: candidate for candidate in ordered if candidate.name in released}
    return list(named.values()) or ordered[-1:]


def _file_name(name: str) -> str:
    """Turn a notebook's name into a file name of limited length, without characters special to paths or HTML."""
    plain = re.sub(r"[^\w.() -]", "_", name).strip(" .")
    return plain[:100].strip(" .") or "notebook"
