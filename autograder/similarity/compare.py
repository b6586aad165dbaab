"""A list of submissions with similar code, as hints to look at and never as a verdict: ``autograder similar``.

The method is winnowing over normalised code: S. Schleimer, D. Wilkerson and A. Aiken, *Winnowing: local algorithms for
document fingerprinting* (2003). It is the method of MOSS, as implemented by the library copydetect. Names, comments,
layout and the order of functions make no difference. Code from the release, and code that most of the class writes,
does not count as anyone's own.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from copydetect import CodeFingerprint, compare_files
from copydetect.utils import get_token_coverage
from markupsafe import Markup, escape
from nbformat import NotebookNode

from amllab.lab import Lab, find_lab
from amllab.templates import environment
from autograder.course import Course
from autograder.notebooks.metadata import is_autograded, is_experiment
from autograder.notebooks.normalize import normalize, read_release
from autograder.text import counted, safe_line, table

THRESHOLD = 0.5  # share of a submission's own code; independent correct solutions stay below
LENGTH = 25  # consecutive characters of normalised code that must be the same
OWN = 70  # characters of normalised code, a function of six lines; submissions with less of their own are not compared
# submissions with less than this, where there are few ways to write the same, are listed only from a higher share on
SHORT, SHORT_THRESHOLD = 150, 0.9
SHARED = 0.5  # code that more than this share of the class writes is nobody's own,
SHARED_FROM = 10  # if it is also in more than this many submissions
MAX_CODE = 60_000  # characters of a submission that are compared
MAX_PAIRS = 100  # on the page
_DEFINES = re.compile(r"^\s*(?:async\s+def|def|class)\s", re.M)


@dataclass(frozen=True)
class Pair:
    """A pair of submissions.

    Attributes:
        students: Ids of the two students.
        shares: For each submission, the share of its own code that is also in the other one, in [0, 1].
        same: Number of characters of normalised code that are in both.
        codes: The code that was compared, with the matching passages marked.
    """

    students: tuple[str, str]
    shares: tuple[float, float]
    same: int
    codes: tuple[Markup, Markup]

    @property
    def share(self) -> float:
        """The larger of the two shares."""
        return max(self.shares)


@dataclass(frozen=True)
class Comparison:
    """The comparison of a class.

    Attributes:
        pairs: Pairs at or above the threshold, the most similar first.
        compared: Number of submissions that were compared.
        left_out: Student -> why there is nothing to compare.
        highest_below: Share of the most similar pair that is not listed.
    """

    pairs: list[Pair]
    compared: int
    left_out: dict[str, str]
    highest_below: float


def similar(
    course: Course, assignment: str, output: Path | None = None, threshold: float = THRESHOLD
) -> tuple[str, Path]:
    """Compare the submissions of an assignment and write the page.

    Args:
        course: Course whose submissions to compare; they need not be graded.
        assignment: Name of the assignment, such as ``"transfer-learning"``.
        output: Path of the page; in the course's ``reports/`` by default.
        threshold: Share from which on a pair is listed, in [0, 1].

    Returns:
        A table for the terminal, and the path of the page.

    Raises:
        LookupError: There is no such lab, or there are fewer than two submissions.
        OSError: The release cannot be read.
        ValueError: The release is not a notebook, or the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is a share between 0 and 1, not {threshold:g}")
    lab = find_lab(assignment)
    release = read_release(course.release(lab))
    codes = submitted(course, lab, release)
    if len(codes) < 2:
        raise LookupError(f"fewer than two submissions for {assignment} in submitted/: there is nothing to compare")
    found = compare(codes, release_code(release), threshold)
    path = output or course.root / "reports" / f"{assignment}-similar.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(found, lab.title, threshold), encoding="utf-8")
    return text(found, threshold), path


def submitted(course: Course, lab: Lab, release: NotebookNode) -> dict[str, str]:
    """Return the submitted code by student, from whatever kind of file it is in."""
    folders = sorted(course.directories["submitted_directory"].glob(f"*/{lab.assignment}"))
    return {
        folder.parent.name: own_code(normalize(folder / f"{lab.notebook}.ipynb", release).notebook, release)
        for folder in folders
        if folder.is_dir()
    }


def own_code(notebook: NotebookNode, release: NotebookNode) -> str:
    """Return the code of a notebook that can be the student's own.

    This is the solution cells, and any other cells that define functions or classes and are not in the release.
    """
    released = {cell.source for cell in release.cells}
    chosen = []
    for cell in notebook.cells:
        nbgrader = cell.metadata.get("nbgrader") or {}
        if cell.cell_type != "code" or is_autograded(cell) or cell.source in released:
            continue
        own = not is_experiment(cell) and _DEFINES.search(cell.source)
        if nbgrader.get("solution") or own:
            chosen.append(cell.source.strip())
    return printable("\n\n\n".join(chosen))


def release_code(release: NotebookNode) -> str:
    """Return all code that every student received."""
    return printable("\n\n\n".join(cell.source for cell in release.cells if cell.cell_type == "code"))


def printable(code: str) -> str:
    """Replace each character that hides or reorders the text around it, and cut off code that is too long."""
    code = code.replace("\r\n", "\n")[:MAX_CODE].replace("\t", " ")
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in code)


def compare(codes: Mapping[str, str], boilerplate: str, threshold: float = THRESHOLD) -> Comparison:
    """Compare all pairs of submissions.

    Args:
        codes: Code of each student.
        boilerplate: Code that does not count as anyone's own.
        threshold: Share from which on a pair is listed; ``SHORT_THRESHOLD`` for short code, if that is higher.
    """
    prints = {student: _fingerprint(code) for student, code in codes.items()}
    given = _fingerprint(boilerplate).hashes
    counts = Counter(key for found in prints.values() for key in found.hashes)
    often = max(SHARED * len(prints), SHARED_FROM)
    shared = given | {key for key, count in counts.items() if count > often}
    left_out = {}
    for student, found in prints.items():
        _leave_out(found, shared)
        if found.token_coverage < OWN:
            left_out[student] = "no code" if not codes[student].strip() else "hardly any original code"
    names = sorted(prints.keys() - left_out.keys())
    pairs, below = [], 0.0
    for one, other in combinations(names, 2):
        same, (share, other_share), slices = compare_files(prints[one], prints[other])
        short = min(prints[one].token_coverage, prints[other].token_coverage) < SHORT
        if max(share, other_share) < (max(threshold, SHORT_THRESHOLD) if short else threshold) or not same:
            below = max(below, float(share), float(other_share))
            continue
        marked = [_marked(prints[name], places) for name, places in zip((one, other), slices, strict=True)]
        shares = min(float(share), 1.0), min(float(other_share), 1.0)
        pairs.append(Pair((one, other), shares, int(same), (marked[0], marked[1])))
    pairs.sort(key=lambda pair: (-pair.share, -pair.same, pair.students))
    return Comparison(pairs, len(names), left_out, below)


def _fingerprint(code: str) -> CodeFingerprint:
    # a window of one keeps all fingerprints: a wider one would choose by Python's hashes, which differ from run to run,
    # and functions are short
    found = CodeFingerprint("code", LENGTH, 1, language="python", fp=io.StringIO(code))
    if len(found.offsets):
        # the library's offset after the name of a class is not the sum of those before it
        found.offsets[:, 1] = np.maximum.accumulate(found.offsets[:, 1])
    return found


def _leave_out(found: CodeFingerprint, keys: set[int]) -> None:
    """Remove the fingerprints of code that is nobody's own.

    The library's own method assumes that no fingerprint occurs twice.
    """
    found.hashes = found.hashes - keys
    found.hash_idx = {key: places for key, places in found.hash_idx.items() if key not in keys}
    found.token_coverage = get_token_coverage(found.hash_idx, LENGTH, len(found.filtered_code))


def _marked(found: CodeFingerprint, slices: Sequence[Sequence[int]]) -> Markup:
    """Return the code, escaped, with the slices marked."""
    code, parts, at = found.raw_code, [], 0
    for start, end in sorted(zip(map(int, slices[0]), map(int, slices[1]), strict=True)):
        start, end = max(start, at), max(end, at)
        parts += [escape(code[at:start]), Markup("<mark>"), escape(code[start:end]), Markup("</mark>")]
        at = end
    return Markup("").join([*parts, escape(code[at:])])


def text(found: Comparison, threshold: float) -> str:
    """Format the comparison for the terminal."""
    pairs = counted(len(found.pairs), "pair")
    limits = f"from {threshold:.0%} on, of short code from {max(threshold, SHORT_THRESHOLD):.0%} on"
    lines = [f"{found.compared} submissions compared, {pairs} to review ({limits})"]
    if found.pairs:
        rows = [
            [one, other, f"{pair.shares[0]:.0%}", f"{pair.shares[1]:.0%}", str(pair.same)]
            for pair in found.pairs
            for one, other in [pair.students]
        ]
        lines = [table(["A", "B", "share of A", "share of B", "same characters"], rows, left=(0, 1)), "", *lines]
    lines.append(f"The most similar of the other pairs: {found.highest_below:.0%}")
    lines += [f"not compared: {safe_line(student)}, {why}" for student, why in found.left_out.items()]
    return "\n".join(lines)


def page(found: Comparison, title: str, threshold: float) -> str:
    """Return one HTML page that runs no scripts and loads nothing."""
    template = environment("autograder.similarity").get_template("page.html.j2")
    return template.render(
        title=title,
        found=found,
        pairs=found.pairs[:MAX_PAIRS],
        threshold=threshold,
        threshold_of_short=max(threshold, SHORT_THRESHOLD),
        percent=lambda share: f"{share:.0%}",
        plain=safe_line,
        shared=SHARED,
        shared_from=SHARED_FROM,
        length=LENGTH,
    )
