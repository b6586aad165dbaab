"""Do all mistakes lose points, and in the right cell? ``python -m bench.mutation_study --repetitions 20 --jobs 2``

Make one mistake at a time in correct functions: with the operators of a mutation tool (``mutants/operators.py``), in
the plain functions of ``tests/helpers/variants.py`` and in the reference, and by hand, the mistakes that people make
(``mutants/mistakes.py``). All are checked with the checks of the three exercises, as are correct solutions in many
styles (``tests/helpers/styles.py``) and solutions in the style of public code, right and wrong (``tests/wild``), with
several seeds of the checks. Mutants that no check can distinguish from a correct submission, because the contract
makes no difference, are listed with a reason in ``mutants/equivalent.toml``.

Write the evidence next to the hidden checks, and ``docs/fairness.md`` from it:
``autograder/checks/<lab>/evidence/study.json`` is the summary, which ``autograder audit`` reads, and ``study.jsonl``
has one line for each submission. Every verdict is appended to ``build/study.jsonl`` immediately; after an interruption,
the same command continues with the missing ones, also from the evidence alone. Verdicts of other checks than the
current ones are computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import platform
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from autograder.grading.mistakes import Case, write
from autograder.labs.study import evidence_of
from bench.mutants.mistakes import MISTAKES
from bench.mutants.operators import family, mutants
from bench.mutants.runs import ACCURACY, EXERCISES, Checker, Verdict, checks_digest, lab, notebook_sources
from tests.helpers.model_styles import MODEL_STYLES
from tests.helpers.styles import STYLES
from tests.helpers.variants import CELLS, CORRECT
from tests.wild import CORRECT as WILD_CORRECT
from tests.wild import WRONG as WILD_WRONG

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = evidence_of(lab())
SUBJECTS = EVIDENCE.with_suffix(".jsonl")
PAGE = ROOT / "docs" / "fairness.md"
RUNS = ROOT / "build" / "study.jsonl"
EQUIVALENT = ROOT / "bench" / "mutants" / "equivalent.toml"
SEVERITY = ROOT / "bench" / "mutants" / "severity.toml"
FIRST_SEED = 20_000
# kinds of subjects; all others are operators. Mistakes of public code are not used for recognising mistakes
HAND, WILD, STYLE = "by hand", "as public code", "style"
BY_PEOPLE = (HAND, WILD, STYLE)
COMMAND = "python -m bench.mutation_study"


@dataclass(frozen=True)
class Subject:
    """A submission of the study.

    Attributes:
        id: unique, and the same as long as the submission is the same.
        kind: the operator that made it, ``HAND``, ``WILD`` or ``STYLE``.
        of: what it was made from: ``"plain"`` or ``"reference"``.
        exercise: where it differs from a correct one; empty for styles.
        name: the mistake in words, if a person gave it a name; for a style, its name.
        old, new: the lines that differ, for mutants of an operator.
        sources: sources of all its cells.
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
        return hashlib.sha256(json.dumps([self.sources[name] for name in EXERCISES]).encode()).hexdigest()[:12]


@dataclass
class Found:
    """What the checks said about a subject over all seeds: one row of the results.

    Attributes:
        points_lost: points lost in its own cell -> number of seeds; for mutants of a tool, only the first seed is
            complete.
        elsewhere: cell -> points lost in other cells; the maximum over the seeds with which they were checked.
        failed: check -> symptom -> number of seeds.
        patterns: patterns by which mistakes are recognised: whether the seed is odd, and cell -> pattern; each once.
        seeds: number of seeds with which it was checked.
        broken: checks that broke, and processes that gave no answer.
        accuracy: points lost in the accuracy check, if it was run.
        cost: the fewest and the most points that the mistake should cost.
    """

    id: str
    kind: str
    digest: str
    of: str = ""
    exercise: str = ""
    name: str = ""
    old: str = ""
    new: str = ""
    reason: str = ""
    points_lost: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    patterns: list[tuple[int, dict[str, list[str]]]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    accuracy: float | None = None
    cost: list[float] | None = None

    @property
    def lost(self) -> list[float]:
        """Points lost in its own cell, a number for each seed, in ascending order."""
        numbers = sorted((float(points), number) for points, number in self.points_lost.items())
        return [points for points, number in numbers for _ in range(number)]

    @property
    def caught(self) -> int:
        return sum(points > 0 for points in self.lost)

    @property
    def state(self) -> str:
        if not self.lost:
            return "not checked"
        if self.kind == STYLE:
            return "false alarm" if self.caught else "correct"
        if self.reason:
            return "equivalent, but loses points" if self.caught else "equivalent"
        if not self.caught:
            return "caught by accuracy" if self.accuracy else "survived"
        return "caught" if self.caught == len(self.lost) else "flaky"


# The submissions


@cache
def subjects() -> list[Subject]:
    """Return all submissions of the study."""
    reference = {name: notebook_sources("solutions")[name] for name in EXERCISES}
    severity = tomllib.loads(SEVERITY.read_text(encoding="utf-8"))
    found = [
        Subject(f"mistake/{m.id}", HAND, "plain", m.exercise, m.name, "", "", {**CELLS, m.exercise: m.source}, cost)
        for m in MISTAKES
        for cost in [tuple(severity.get(m.exercise, {}).get(m.id, ())) or None]
    ]
    for of, correct in (("plain", CELLS), ("reference", reference)):
        for exercise in EXERCISES:
            for i, mutant in enumerate(mutants(correct[exercise])):
                sources = {**correct, exercise: mutant.source}
                id_ = f"{of}/{exercise}/{i}"
                found.append(Subject(id_, mutant.operator, of, exercise, "", mutant.old, mutant.new, sources))
    found += [
        Subject(f"wild/{w.name}", WILD, "plain", w.exercise, w.reason, "", "", {**CELLS, **w.sources}, w.cost)
        for w in WILD_WRONG
    ]
    correct_ones = [
        ("reference", reference),
        *((v.name, {**CELLS, **v.sources}) for v in (*CORRECT, *STYLES, *MODEL_STYLES)),
    ]
    found += [Subject(f"style/{name}", STYLE, "", "", name, "", "", sources) for name, sources in correct_ones]
    found += [Subject(f"wild/{w.name}", STYLE, "", "", w.name, "", "", {**CELLS, **w.sources}) for w in WILD_CORRECT]
    return found


@cache
def reasons() -> dict[tuple[str, ...], str]:
    """Return why mutants are equivalent, by the keys of :func:`change`."""
    found: dict[tuple[str, ...], str] = {}
    for entry in tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]:
        if "mistake" in entry:
            found[(entry["mistake"],)] = entry["reason"]
            continue
        for of, new in itertools.product(entry["of"], entry["new"]):
            found[of, entry["exercise"], entry["old"], new] = entry["reason"]
    return found


def change(subject: Subject) -> tuple[str, ...]:
    """Return the key of a mutant in :func:`reasons`: its id, or what an operator changed and where."""
    if subject.kind == HAND:
        return (subject.id.removeprefix("mistake/"),)
    return subject.of, subject.exercise, subject.old, subject.new


# The runs


def study(seeds: Sequence[int], jobs: int, chosen: Sequence[Subject], of_tool: int | None = None) -> None:
    """Check every subject with every seed, except for verdicts that exist; for a tool's mutants only ``of_tool`` seeds.

    All checks are run, except for those that call nothing that the subject changes. For mutants of a tool, only the
    first seed shows how many points are lost, the others whether any are: there, the check that failed first is run
    first.
    """
    known, from_file, few = done(), stored(), seeds[:of_tool]

    def is_missing(subject: Subject, seed: int) -> bool:
        row = from_file.get(subject.digest)
        return (subject.digest, seed, "all") not in known and not (row and seed in row.seeds)

    missing = {
        seed: [s for s in chosen if (s.kind in BY_PEOPLE or seed in few) and is_missing(s, seed)] for seed in seeds
    }
    correct = [CELLS, {name: notebook_sources("solutions")[name] for name in EXERCISES}]
    RUNS.parent.mkdir(exist_ok=True)
    total = sum(len(seeds) if s.kind in BY_PEOPLE else len(few) for s in chosen)
    with tqdm(total=total, unit="check run", smoothing=0.05) as bar, RUNS.open("a") as file:
        bar.update(total - sum(map(len, missing.values())))
        for seed in (seed for seed in seeds if missing[seed]):
            checks, known = checks_digest(), done()
            checker = Checker(seed, correct=correct)
            for checker.whole in (True, False):
                group = [s for s in missing[seed] if _whole(s, seed, seeds) == checker.whole]
                # the check that found the mistake before will most likely find it again
                before = [known.get((s.digest, seeds[0], "all")) for s in group]
                first = [next((name for name in v.failed if name in checker.checks), "") if v else "" for v in before]
                for index, verdict in checker.verdicts([s.sources for s in group], jobs, first):
                    record = {"checks": checks, "subject": group[index].digest, "seed": seed, "scope": "all"}
                    file.write(json.dumps({**record, **asdict(verdict)}) + "\n")
                    file.flush()
                    bar.update()


def _whole(subject: Subject, seed: int, seeds: Sequence[int]) -> bool:
    """Return whether all relevant checks are run with a seed, rather than only those up to the first failure."""
    return seed == seeds[0] or subject.kind in BY_PEOPLE


def done() -> dict[tuple[str, int, str], Verdict]:
    """Return verdicts that were made with the current checks, by subject, seed and scope."""
    checks, found = {scope: checks_digest(accuracy=scope == ACCURACY) for scope in ("all", ACCURACY)}, {}
    for line in RUNS.read_text().splitlines() if RUNS.is_file() else ():
        record = json.loads(line)
        key = (record.pop("subject"), record.pop("seed"), record.pop("scope"))
        if record.pop("checks") == checks.get(key[2]):
            # the same source may have been made twice, by hand and by the tool: the first verdict is that of all checks
            found.setdefault(key, Verdict(**record))
    return found


def study_accuracy(seed: int, jobs: int, chosen: Sequence[Subject]) -> None:
    """Run the accuracy check on those that nothing else has caught."""
    survived = {row.id for row in collect([seed], chosen) if row.state == "survived"}
    known = done()
    group = [s for s in chosen if s.id in survived and (s.digest, seed, ACCURACY) not in known]
    if not group:
        return
    checks, checker = checks_digest(accuracy=True), Checker(seed, (ACCURACY,))
    with RUNS.open("a") as file:
        for index, verdict in tqdm(
            checker.verdicts([s.sources for s in group], jobs), total=len(group), unit="training"
        ):
            record = {"checks": checks, "subject": group[index].digest, "seed": seed, "scope": ACCURACY}
            file.write(json.dumps({**record, **asdict(verdict)}) + "\n")
            file.flush()


# What was found


def stored() -> dict[str, Found]:
    """Return the rows of the file of results that were made with the current checks, by what was checked."""
    if not EVIDENCE.is_file() or json.loads(EVIDENCE.read_text(encoding="utf-8"))["checks"] != checks_digest():
        return {}
    return {row.digest: row for row in read_rows()}


def read_rows() -> list[Found]:
    """Return the rows of the file of results."""
    return [Found(**json.loads(line)) for line in SUBJECTS.read_text(encoding="utf-8").splitlines()]


def collect(seeds: Sequence[int], chosen: Sequence[Subject]) -> list[Found]:
    """Return one row for each subject: the stored row, extended by the verdicts of further seeds."""
    known, before, rows = done(), stored(), []
    for subject in chosen:
        row = Found(**{k: v for k, v in vars(subject).items() if k != "sources"}, digest=subject.digest)
        row.reason = reasons().get(change(subject), "")
        failed: dict[str, Counter[str]] = defaultdict(Counter)
        if old := before.get(subject.digest):
            # copied, as the same submission may have been made twice: by hand and by the tool
            row.points_lost, row.elsewhere = dict(old.points_lost), dict(old.elsewhere)
            row.patterns, row.seeds, row.broken = list(old.patterns), list(old.seeds), list(old.broken)
            row.accuracy = old.accuracy
            failed.update({check: Counter(symptoms) for check, symptoms in old.failed.items()})
        for seed in seeds:
            verdict = known.get((subject.digest, seed, "all"))
            if verdict is None or seed in row.seeds:
                continue
            row.seeds.append(seed)
            own = {f"check_{subject.exercise}"} if subject.exercise else set(verdict.lost)
            points = f"{sum(points for cell, points in verdict.lost.items() if cell in own):g}"
            row.points_lost[points] = row.points_lost.get(points, 0) + 1
            for cell, points in verdict.lost.items():
                if cell not in own:
                    row.elsewhere[cell] = max(points, row.elsewhere.get(cell, 0.0))
            for check, symptom in verdict.failed.items():
                failed[check][symptom] += 1
            pattern = [seed % 2, verdict.patterns]
            if verdict.patterns and pattern not in row.patterns:
                row.patterns.append(pattern)
            row.broken += [*verdict.broken, *([verdict.ended] if verdict.ended else [])]
        row.failed = {check: dict(symptoms) for check, symptoms in failed.items()}
        trained = known.get((subject.digest, seeds[0], ACCURACY))
        row.accuracy = sum(trained.lost.values()) if trained else row.accuracy
        rows.append(row)
    return rows


def write_evidence(rows: Sequence[Found]) -> None:
    """Write one line for each subject, and the summary of all of them."""
    packages = {name: version(name) for name in ("cosmic-ray", "torch", "timm")}
    failing = Counter(check for row in rows for check in row.failed)
    summary = {
        "checks": checks_digest(),
        "versions": {"python": platform.python_version(), **packages},
        "submissions": len(rows),
        "seeds": {
            "people": seeds_of(rows, BY_PEOPLE),
            "tool": seeds_of(rows, {row.kind for row in rows} - {*BY_PEOPLE}),
        },
        "states": dict(sorted(Counter(row.state for row in rows).items())),
        "failed": dict(sorted(failing.items())),
    }
    EVIDENCE.parent.mkdir(parents=True, exist_ok=True)
    EVIDENCE.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    lines = [
        json.dumps({k: v for k, v in asdict(row).items() if v not in ("", [], {}, None)}, ensure_ascii=False)
        for row in rows
    ]
    SUBJECTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def seeds_of(rows: Iterable[Found], kinds: Iterable[str]) -> str:
    """Return the number of seeds with which subjects of some kinds were checked: "5", or "1–5" if they differ."""
    return _range([len(row.seeds) for row in rows if row.kind in set(kinds)])


def cases(rows: Iterable[Found]) -> list[Case]:
    """Return known cases for recognising mistakes: those of people with a name, those of operators without."""
    return [
        Case(row.name if row.kind == HAND else "", odd, {c: tuple(p) for c, p in by_cell.items()})
        for row in rows
        if row.kind not in (WILD, STYLE)
        for odd, by_cell in row.patterns
    ]


# The page


def page() -> str:
    """Return the page with the results."""
    rows, versions = read_rows(), json.loads(EVIDENCE.read_text(encoding="utf-8"))["versions"]
    made = [row for row in rows if row.kind not in BY_PEOPLE]
    by_hand, public, styles = ([row for row in rows if row.kind == kind] for kind in BY_PEOPLE)
    mistakes = [row for row in (*made, *by_hand, *public) if not row.state.startswith("equivalent")]
    states = Counter(row.state for row in rows)
    people = [*by_hand, *public, *styles]
    priced = [row for row in (*by_hand, *public) if row.cost and row.lost and not row.reason]
    fitting = [row for row in priced if row.cost and row.cost[0] <= min(row.lost) <= max(row.lost) <= row.cost[1]]
    elsewhere = [row for row in mistakes if row.elsewhere]
    alarms = sum(row.caught for row in styles)
    broken = [row for row in rows if row.broken]
    parts = [
        "# Mutation study",
        f"Written by `{COMMAND}`; every figure comes from `{SUBJECTS.relative_to(ROOT)}`.",
        f"Correct functions were changed in one place at a time: {len(made)} changes were made by the operators of cosmic-ray "
        f"{versions['cosmic-ray']} and by leaving out statements and arguments, {len(by_hand)} by hand, as typical student "
        f"mistakes, and {len(public)} as they occur in public code. {len(styles)} correct submissions were written in other "
        f"styles. All were checked with the checks of the three exercises. Seeds of the checks, for each submission: "
        f"{_range([len(r.lost) for r in people])} for what people wrote, {_range([len(r.lost) for r in made])} for what the "
        f"tool made (torch {versions['torch']}, timm {versions['timm']}, Python {versions['python']}).",
        _table(
            ("", "number"),
            [
                ("submissions with a mistake", len(mistakes)),
                ("of these, lose points with every seed", states["caught"] + states["caught by accuracy"]),
                ("lose points with some seeds only", states["flaky"]),
                ("never lose points", states["survived"]),
                ("lose points in another cell than that of the mistake", len(elsewhere)),
                (
                    "equivalent mutants: the change is no mistake, for a reason that is written down",
                    states["equivalent"],
                ),
                ("of these, lose points nevertheless", states["equivalent, but loses points"]),
                ("correct submissions × seeds", sum(len(row.lost) for row in styles)),
                ("of these, false positives: a correct submission loses points", alarms),
                (
                    "submissions written by people that lose other points with another seed",
                    sum(len(set(row.lost)) > 1 for row in people),
                ),
                (
                    "mistakes that cost what was specified beforehand, of those for which a cost was specified",
                    f"{len(fitting)} of {len(priced)}",
                ),
                ("checks that raised an error, processes without an answer", len(broken)),
            ],
        ),
        "## By operator",
        _by_operator([*made, *by_hand, *public]),
        "## Correct submissions",
        _table(
            ("style", "seeds", "false alarms", "points lost"),
            [(f"`{row.name}`", len(row.lost), row.caught, _range(row.lost)) for row in styles],
        ),
        "## Typical student mistakes",
        "Points lost in the cell of the mistake, the fewest and the most over all seeds. What a mistake should cost was specified "
        "in `bench/mutants/severity.toml` before it was compared.",
        *_by_exercise(by_hand),
        *_of_public_code(public),
    ]
    for title, text, listed in (
        ("Never caught", "Each of these is a hole in the checks.", [r for r in mistakes if r.state == "survived"]),
        ("Caught by some seeds only", "A verdict must not depend on the seed.", [r for r in mistakes if r.state == "flaky"]),
        ("Charged in another cell", "Points lost outside of the cell of the mistake.", elsewhere),
        ("Called equivalent, but losing points", "", [r for r in rows if r.state == "equivalent, but loses points"]),
        ("Broken", "Checks that raised, and processes that gave no answer.", broken),
    ):  # fmt: skip
        if listed:
            parts += [f"## {title}", text, _listing(listed)]
    equivalent = [row for row in rows if row.state == "equivalent"]
    parts += [
        "## Equivalent mutants",
        "A correct submission may have this change, for the reason given.",
        _equivalents(equivalent),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ⏎ ")


def _range(points: Sequence[float]) -> str:
    if not points:
        return ""
    low, high = min(points), max(points)
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _by_operator(rows: Sequence[Found]) -> str:
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        groups[row.kind if row.kind in BY_PEOPLE else family(row.kind)][row.state] += 1
    columns = ("caught", "flaky", "survived", "equivalent")
    body = []
    for name, states in [*sorted(groups.items()), ("all", sum(groups.values(), Counter()))]:
        caught = states["caught"] + states["caught by accuracy"]
        numbers = [caught, *(states[column] for column in columns[1:])]
        body.append((name, sum(states.values()), *numbers))
    return _table(("operator", "mutants", *columns), body)


def _by_exercise(rows: Sequence[Found]) -> list[str]:
    parts = []
    for exercise in EXERCISES:
        chosen = [row for row in rows if row.exercise == exercise]
        body = [
            (row.name, _range(row.cost or ()), _range(row.lost), f"{row.caught}/{len(row.lost)}", _checks(row))
            for row in chosen
        ]
        head = ("mistake", "should cost", "points lost", "caught", "checks that fail")
        parts += [f"### `{exercise}`", _table(head, body)]
    return parts


def _of_public_code(rows: Sequence[Found]) -> list[str]:
    """Return what was specified before any check saw them, next to what they lose."""
    if not rows:
        return []
    body = [
        (f"`{row.exercise}`", row.name, _range(row.cost or ()), _range(row.lost), f"{row.caught}/{len(row.lost)}")
        for row in rows
    ]
    text = "What each should cost was written down before the checks saw it. Reports learn nothing from these."
    return [
        "## Mistakes of public code",
        text,
        _table(("exercise", "mistake", "should cost", "points lost", "caught"), body),
    ]


def _checks(row: Found) -> str:
    return ", ".join(f"`{check.removeprefix('test_')}`" for check in row.failed)


def _change(row: Found) -> str:
    return row.name or f"`{row.old}` → `{row.new}`"


def _listing(rows: Sequence[Found]) -> str:
    body = [
        (f"`{row.exercise}`" if row.exercise else f"`{row.name}`", _change(row), row.kind, f"{row.caught}/{len(row.lost)}",
         ", ".join(f"{cell.removeprefix('check_')}: {points:g}" for cell, points in row.elsewhere.items()), ", ".join(sorted(set(row.broken))))
        for row in rows
    ]  # fmt: skip
    return _table(("exercise", "change", "operator", "caught", "elsewhere", "broken"), body)


def _equivalents(rows: Sequence[Found]) -> str:
    # plain functions and reference share lines
    body = dict.fromkeys((f"`{row.exercise}`", _change(row), row.reason) for row in rows)
    return _table(("exercise", "change", "why it is none"), body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20, help="number of seeds of the checks")
    parser.add_argument("--of-tool", type=int, help="seeds of them for mutants of the tool; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--only", default="", help="subjects whose id has this in it; writes no results")
    parser.add_argument(
        "--accuracy", action="store_true", help="asks the accuracy check about those that nothing else catches"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="writes results and page from the verdicts that are there"
    )
    parser.add_argument("--learn", action="store_true", help="also learns which patterns name a mistake in reports")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no use for more
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.repetitions)
    chosen = [s for s in subjects() if arguments.only in s.id]
    if not arguments.report_only:
        study(seeds, arguments.jobs, chosen, arguments.of_tool)
    if arguments.accuracy:
        study_accuracy(seeds[0], arguments.jobs, chosen)
    for row in collect(seeds, chosen):
        if row.state not in ("caught", "equivalent", "correct", "not checked") or row.elsewhere or row.broken:
            print(
                f"{row.id}: {row.state} {row.caught}/{len(row.lost)}: {_change(row)!r} {row.elsewhere or ''} {row.broken or ''}"
            )
    if not arguments.only:
        rows = collect(seeds, subjects())
        write_evidence(rows)
        PAGE.write_text(page(), encoding="utf-8")
        print(f"wrote {EVIDENCE.relative_to(ROOT)}, {SUBJECTS.name} and {PAGE.relative_to(ROOT)}")
        if arguments.learn:
            print(f"wrote {write(lab().name, cases(rows)).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
