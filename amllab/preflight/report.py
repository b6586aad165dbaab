"""The report of a preflight, as text and as an HTML panel."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from amllab.checks.render import to_html, to_text
from amllab.checks.results import CheckResult, score
from amllab.preflight.inspections import Finding
from amllab.templates import MARKS, render


@dataclass(frozen=True)
class Row:
    """The points of a graded cell.

    Attributes:
        name: name of the cell.
        earned: points earned in its public checks.
        public: points that its public checks are worth.
        further: points for hidden checks, or given by a person.
    """

    name: str
    earned: float
    public: float
    further: float

    @property
    def kind(self) -> str:
        """Where the further points come from."""
        return "hidden checks" if self.public else "graded by a person"


@dataclass
class Preflight:
    """The report of a preflight, which displays itself as a panel in a notebook and as text elsewhere.

    Attributes:
        path: path of the notebook.
        title: title of the lab.
        findings: things to fix, and things to know.
        results: results of the public checks.
        points: grade id -> points that the cell is worth.
        seconds: run time of the fresh process, in seconds.
        problem: why there was no notebook to check; all other attributes are empty then.
    """

    path: Path = Path()
    title: str = ""
    findings: list[Finding] = field(default_factory=list)
    results: list[CheckResult] = field(default_factory=list)
    points: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether there is nothing to fix and all public checks passed."""
        return not self.problem and not self._of("fix") and not self._lost()

    @property
    def rows(self) -> list[Row]:
        """One row for each graded cell."""
        rows = []
        for grade_id, points in self.points.items():
            earned, public = score(self.results, grade_id)
            rows.append(Row(grade_id.removeprefix("check_"), earned, public, points - public))
        return rows

    def _of(self, level: str) -> list[str]:
        return [finding.text for finding in self.findings if finding.level == level]

    def _found(self) -> list[tuple[str, str]]:
        """Return mark and text of each finding, with things to fix first."""
        return [(mark, text) for level, mark in (("fix", "failed"), ("note", "skipped")) for text in self._of(level)]

    def _lost(self) -> list[CheckResult]:
        return [result for result in self.results if result.outcome != "passed"]

    def _shown(self) -> list[CheckResult]:
        """Return the failures to show, in the order of the notebook; findings already report missing functions."""
        told = [r for r in self.results if r.outcome in ("failed", "error") and not _is_missing(r)]
        cells = list(self.points)
        return sorted(told, key=lambda result: cells.index(result.cell))

    def _head(self) -> str:
        fix, lost = len(self._of("fix")), len(self._lost())
        if self.is_ready:
            return f"Ready: nothing to fix in {self.path.name}, and all public checks passed."
        things = [f"{fix} {'thing' if fix == 1 else 'things'} to fix"] if fix else []
        checks = [f"{lost} of {len(self.results)} public checks did not pass"] if lost else []
        return f"{self.path.name}: {', '.join(things + checks)}."

    def _sum(self) -> str:
        earned, public = score(self.results)
        hidden = sum(row.further for row in self.rows if row.public)
        read = sum(row.further for row in self.rows if not row.public)
        more = [f"hidden checks for {hidden:g} points"] if hidden else []
        more += [f"{read:g} points graded by a person"] if read else []
        return f"{earned:g} of {public:g} points in the public checks. Grading adds {' and '.join(more)}."

    def _how(self) -> str:
        saved = time.strftime("%H:%M", time.localtime(self.path.stat().st_mtime)) if self.path.is_file() else "?"
        return f"{self.title}: the file as saved at {saved}, run again without experiments in {self.seconds:.0f} s."

    def __repr__(self) -> str:
        if self.problem:
            return self.problem
        lines = [self._head(), ""]
        lines += [f"  {MARKS[mark]} {text}" for mark, text in self._found()]
        if self.findings:
            lines.append("")
        width = max(len(row.name) for row in self.rows)
        for row in self.rows:
            got = f"{row.earned:>4g} of {row.public:>2g}" if row.public else " " * 10
            more = f"+ {row.further:g}, {row.kind}" if row.further else ""
            lines.append(f"  {row.name:<{width}}  {got}  {more}".rstrip())
        lines += [f"  {self._sum()}", ""]
        if self._shown():
            lines += [*(f"  {line}".rstrip() for line in to_text(self._shown()).splitlines()[:-1]), ""]
        return "\n".join([*lines, self._how()])

    def _repr_html_(self) -> str:
        if self.problem:
            return render("panel.html.j2", outcome="failed", text=self.problem)
        return render(
            "preflight.html.j2",
            outcome="passed" if self.is_ready else "failed",
            head=self._head(),
            found=self._found(),
            rows=self.rows,
            total=self._sum(),
            report=to_html(self._shown()) if self._shown() else "",
            how=self._how(),
        )


def _is_missing(result: CheckResult) -> bool:
    """Return whether a check failed only because its function is missing: this is reported once, not for each check."""
    return result.failure is not None and result.failure.symptom == "missing"
