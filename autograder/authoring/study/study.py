"""Run the study of a lab, resume it, and store what it found.

Make one mistake at a time in correct functions: with the operators of a mutation tool, in the plain functions of the
lab's corpus and in the reference. Check these mutants, the wrong solutions of the corpus and its correct ones with the
checks of all exercises, and with several seeds. Mutants that no check can distinguish from a correct submission,
because the contract makes no difference, are listed with a reason in the corpus.

The evidence is stored next to the hidden checks: ``evidence/study.json`` is the summary, which ``autograder audit``
reads, and ``study.jsonl`` has one line for each submission. Every verdict is appended to a file of runs immediately;
after an interruption, the same command continues with the missing ones, also from the evidence alone. Verdicts of
other checks than the current ones are computed again.
"""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from amllab.lab import find_lab
from autograder.authoring.study.checker import Checker, Verdict
from autograder.authoring.study.materials import Materials
from autograder.authoring.study.page import page
from autograder.authoring.study.rows import Row, cases, seeds_of
from autograder.authoring.study.subjects import BY_PEOPLE, Subject, change, subjects
from autograder.course import Course
from autograder.grading import mistakes
from autograder.labs.study import checks_digest, command, evidence_of

FIRST_SEED = 20_000
PACKAGES = ("cosmic-ray", "torch", "timm")


class MutationStudy:
    """The study of one lab.

    Args:
        course: The course with the lab's notebooks.
        assignment: Name of the assignment.
        runs: File of verdicts, to resume from; by default ``build/study-<assignment>.jsonl`` of the course.

    Attributes:
        materials: What the study is made from.
        runs: File of verdicts.
        page: The page of results, ``docs/study-<assignment>.md`` of the course.
    """

    def __init__(self, course: Course, assignment: str, runs: Path | None = None) -> None:
        self.lab = find_lab(assignment)
        self.materials = Materials.of(course, self.lab)
        self.runs = runs or course.root / "build" / f"study-{self.lab.assignment}.jsonl"
        self.page = course.root / "docs" / f"study-{self.lab.assignment}.md"
        self.evidence = evidence_of(self.lab)
        self.rows_file = self.evidence.with_suffix(".jsonl")

    @cached_property
    def subjects(self) -> list[Subject]:
        """All submissions of the study."""
        return subjects(self.materials)

    # The runs

    def check(self, seeds: Sequence[int], jobs: int, chosen: Sequence[Subject], tool_seeds: int | None = None) -> None:
        """Check submissions with every seed, except for verdicts that exist; for mutants only ``tool_seeds`` of them.

        All checks are run, except for those that call nothing that the submission changes. For mutants, only the first
        seed shows how many points are lost, the others whether any are: there, the check that failed first is run
        first.
        """
        known, stored, few = self.done(), self.stored(), seeds[:tool_seeds]

        def is_missing(subject: Subject, seed: int) -> bool:
            row = stored.get(subject.digest)
            return (subject.digest, seed, "all") not in known and not (row and seed in row.seeds)

        missing = {
            seed: [s for s in chosen if (s.kind in BY_PEOPLE or seed in few) and is_missing(s, seed)] for seed in seeds
        }
        total = sum(len(seeds) if s.kind in BY_PEOPLE else len(few) for s in chosen)
        with tqdm(total=total, unit="check run", smoothing=0.05) as bar:
            bar.update(total - sum(map(len, missing.values())))
            for seed in (seed for seed in seeds if missing[seed]):
                known = self.done()
                checker = Checker(self.materials, seed, correct=list(self.materials.bases.values()))
                for checker.whole in (True, False):
                    group = [s for s in missing[seed] if _whole(s, seed, seeds) == checker.whole]
                    # the check that found the mistake before will most likely find it again
                    before = [known.get((s.digest, seeds[0], "all")) for s in group]
                    first = [next((n for n in v.failed if n in checker.checks), "") if v else "" for v in before]
                    self._append(checker, group, jobs, first, seed, "all", bar)

    def check_rest(self, seed: int, jobs: int, chosen: Sequence[Subject]) -> None:
        """Run the checks that belong to no exercise, such as accuracy, on those that nothing else has caught."""
        survived = {row.id for row in self.collect([seed], chosen) if row.state == "survived"}
        known = self.done()
        group = [s for s in chosen if s.id in survived and (s.digest, seed, "rest") not in known]
        if group:
            checker = Checker(self.materials, seed, ())
            with tqdm(total=len(group), unit="training") as bar:
                self._append(checker, group, jobs, None, seed, "rest", bar)

    def _append(
        self,
        checker: Checker,
        group: list[Subject],
        jobs: int,
        first: list[str] | None,
        seed: int,
        scope: str,
        bar: tqdm,
    ) -> None:
        checks = checks_digest(self.lab, accuracy=scope == "rest")
        self.runs.parent.mkdir(parents=True, exist_ok=True)
        with self.runs.open("a", encoding="utf-8") as file:
            for index, verdict in checker.verdicts([s.sources for s in group], jobs, first):
                record = {"checks": checks, "subject": group[index].digest, "seed": seed, "scope": scope}
                file.write(json.dumps({**record, **asdict(verdict)}) + "\n")
                file.flush()
                bar.update()

    def done(self) -> dict[tuple[str, int, str], Verdict]:
        """Return verdicts that were made with the current checks, by submission, seed and scope."""
        checks = {scope: checks_digest(self.lab, accuracy=scope == "rest") for scope in ("all", "rest")}
        found: dict[tuple[str, int, str], Verdict] = {}
        for line in self.runs.read_text(encoding="utf-8").splitlines() if self.runs.is_file() else ():
            record = json.loads(line)
            key = (record.pop("subject"), record.pop("seed"), record.pop("scope"))
            if record.pop("checks") == checks.get(key[2]):
                # the same source may have been made twice, by hand and by the tool: the first verdict is of all checks
                found.setdefault(key, Verdict(**record))
        return found

    # What was found

    def stored(self) -> dict[str, Row]:
        """Return the rows of the evidence that were made with the current checks, by what was checked."""
        if not self.evidence.is_file() or self.summary()["checks"] != checks_digest(self.lab):
            return {}
        return {row.digest: row for row in self.read_rows()}

    def summary(self) -> dict[str, object]:
        """Return the summary of the evidence."""
        found: dict[str, object] = json.loads(self.evidence.read_text(encoding="utf-8"))
        return found

    def read_rows(self) -> list[Row]:
        """Return the rows of the evidence."""
        return [Row(**json.loads(line)) for line in self.rows_file.read_text(encoding="utf-8").splitlines()]

    def collect(self, seeds: Sequence[int], chosen: Sequence[Subject]) -> list[Row]:
        """Return one row for each submission: the stored row, extended by the verdicts of further seeds."""
        known, before, rows = self.done(), self.stored(), []
        for subject in chosen:
            row = Row(**{k: v for k, v in vars(subject).items() if k != "sources"}, digest=subject.digest)
            row.reason = self.materials.corpus.equivalent.get(change(subject), "")
            failed: dict[str, Counter[str]] = defaultdict(Counter)
            if old := before.get(subject.digest):
                # copied, as the same submission may have been made twice: by hand and by the tool
                row.points_lost, row.elsewhere = dict(old.points_lost), dict(old.elsewhere)
                row.patterns, row.seeds, row.broken = list(old.patterns), list(old.seeds), list(old.broken)
                row.accuracy = old.accuracy
                failed.update({check: Counter(symptoms) for check, symptoms in old.failed.items()})
            for seed in seeds:
                verdict = known.get((subject.digest, seed, "all"))
                if verdict is not None and seed not in row.seeds:
                    row.add(seed, verdict, failed)
            row.failed = {check: dict(symptoms) for check, symptoms in failed.items()}
            trained = known.get((subject.digest, seeds[0], "rest"))
            row.accuracy = sum(trained.lost.values()) if trained else row.accuracy
            rows.append(row)
        return rows

    def write(self, rows: Sequence[Row]) -> list[Path]:
        """Write the evidence, the page and the recognised mistakes, and return the paths."""
        failing = Counter(check for row in rows for check in row.failed)
        summary = {
            "checks": checks_digest(self.lab),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "submissions": len(rows),
            "seeds": {
                "people": seeds_of(rows, BY_PEOPLE),
                "tool": seeds_of(rows, {row.kind for row in rows} - {*BY_PEOPLE}),
            },
            "states": dict(sorted(Counter(row.state for row in rows).items())),
            "failed": dict(sorted(failing.items())),
        }
        self.evidence.parent.mkdir(parents=True, exist_ok=True)
        self.evidence.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        lines = [
            json.dumps({k: v for k, v in asdict(row).items() if v not in ("", [], {}, None)}, ensure_ascii=False)
            for row in rows
        ]
        self.rows_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.page.parent.mkdir(exist_ok=True)
        self.page.write_text(self.text(), encoding="utf-8")
        return [self.evidence, self.rows_file, self.page, mistakes.write(self.lab.name, cases(rows))]

    def text(self) -> str:
        """Return the page of results, made from the evidence."""
        versions = self.summary()["versions"]
        assert isinstance(versions, dict)
        return page(self.lab, self.materials.exercises, self.read_rows(), versions, command(self.lab))


def _whole(subject: Subject, seed: int, seeds: Sequence[int]) -> bool:
    """Return whether all relevant checks are run with a seed, rather than only those up to the first failure."""
    return seed == seeds[0] or subject.kind in BY_PEOPLE
