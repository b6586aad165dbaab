"""The submissions of a study: mutants, the wrong solutions of the corpus, and the correct ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from autograder.authoring.study.materials import Materials
from autograder.authoring.study.operators import mutants

# kinds of subjects; all others are operators. Mistakes of public code are not used for recognising mistakes
HAND, PUBLIC, STYLE = "by hand", "as public code", "style"
BY_PEOPLE = (HAND, PUBLIC, STYLE)


@dataclass(frozen=True)
class Subject:
    """A submission of the study.

    Attributes:
        id: unique, and the same as long as the submission is the same.
        kind: the operator that made it, ``HAND``, ``PUBLIC`` or ``STYLE``.
        of: what it was made from: ``"plain"`` or ``"reference"``.
        exercise: where it differs from a correct one; empty for styles.
        name: the mistake in words, if a person gave it a name; for a style, its name.
        old, new: the lines that differ, for mutants of an operator.
        sources: sources of all its cells, in the order of the notebook.
        cost: the fewest and the most points that the mistake should cost, if a person specified them.
    """

    id: str
    kind: str
    of: str
    exercise: str
    name: str
    old: str
    new: str
    sources: dict[str, str] = field(repr=False)
    cost: tuple[float, float] | None = None

    @property
    def digest(self) -> str:
        """Digest of the sources."""
        return hashlib.sha256(json.dumps(list(self.sources.values())).encode()).hexdigest()[:12]


def subjects(materials: Materials) -> list[Subject]:
    """Return all submissions of the study of a lab."""

    def complete(sources: Mapping[str, str]) -> dict[str, str]:
        return {name: sources.get(name, materials.plain[name]) for name in materials.exercises}

    found = []
    for wrong in [w for w in materials.corpus.wrong if not w.public]:
        id_ = f"mistake/{wrong.name}"
        found.append(Subject(id_, HAND, "plain", wrong.cell, wrong.text, "", "", complete(wrong.sources), wrong.cost))
    for of, correct in materials.bases.items():
        for exercise in materials.exercises:
            for i, mutant in enumerate(mutants(correct[exercise])):
                sources = {**correct, exercise: mutant.source}
                id_ = f"{of}/{exercise}/{i}"
                found.append(Subject(id_, mutant.operator, of, exercise, "", mutant.old, mutant.new, complete(sources)))
    for wrong in [w for w in materials.corpus.wrong if w.public]:
        id_ = f"public/{wrong.name}"
        found.append(Subject(id_, PUBLIC, "plain", wrong.cell, wrong.text, "", "", complete(wrong.sources), wrong.cost))
    found.append(Subject("style/reference", STYLE, "", "", "reference", "", "", complete(materials.reference)))
    for solution in materials.corpus.correct:
        id_ = f"{'public' if solution.public else 'style'}/{solution.name}"
        found.append(Subject(id_, STYLE, "", "", solution.name, "", "", complete(solution.sources)))
    return found


def change(subject: Subject) -> tuple[str, ...]:
    """Return the key of a mutant among the equivalent ones: its name, or what an operator changed and where."""
    if subject.kind == HAND:
        return (subject.id.removeprefix("mistake/"),)
    return subject.of, subject.exercise, subject.old, subject.new
