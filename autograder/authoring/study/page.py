"""The page with the results of a study, in Markdown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from amllab.lab import Lab
from autograder.authoring.study.operators import family
from autograder.authoring.study.rows import Row, span
from autograder.authoring.study.subjects import BY_PEOPLE
from autograder.labs.locations import hidden_name


def page(lab: Lab, exercises: Sequence[str], rows: Sequence[Row], versions: Mapping[str, str], command: str) -> str:
    """Return the page with the results.

    Args:
        lab: The lab.
        exercises: Names of its exercises, in the order of the notebook.
        rows: The results, one for each submission.
        versions: Versions of the packages that made them.
        command: The command that made them.
    """
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
        f"# Mutation study: {lab.title}",
        f"Written by `{command}`; every figure comes from `{hidden_name(lab.name, 'evidence/study.jsonl')}`.",
        f"Correct functions were changed in one place at a time: {len(made)} changes were made by the operators of cosmic-ray "
        f"{versions['cosmic-ray']} and by leaving out statements and arguments, {len(by_hand)} are typical student "
        f"mistakes, and {len(public)} occur like this in public code. {len(styles)} correct submissions were written in other "
        f"styles. All were checked with the checks of {len(exercises)} exercises. Seeds of the checks, for each submission: "
        f"{span([len(r.lost) for r in people])} for what people wrote, {span([len(r.lost) for r in made])} for what the "
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
            [(f"`{row.name}`", len(row.lost), row.caught, span(row.lost)) for row in styles],
        ),
        "## Typical student mistakes",
        "Points lost in the cell of the mistake, the fewest and the most over all seeds. What a mistake should cost was specified "
        "in the corpus before it was compared.",
        *_by_exercise(exercises, by_hand),
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


def _by_operator(rows: Sequence[Row]) -> str:
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


def _by_exercise(exercises: Sequence[str], rows: Sequence[Row]) -> list[str]:
    parts = []
    for exercise in exercises:
        chosen = [row for row in rows if row.exercise == exercise]
        body = [
            (row.name, span(row.cost or ()), span(row.lost), f"{row.caught}/{len(row.lost)}", _checks(row))
            for row in chosen
        ]
        head = ("mistake", "should cost", "points lost", "caught", "checks that fail")
        parts += [f"### `{exercise}`", _table(head, body)]
    return parts


def _of_public_code(rows: Sequence[Row]) -> list[str]:
    """Return what was specified before any check saw them, next to what they lose."""
    if not rows:
        return []
    body = [
        (f"`{row.exercise}`", row.name, span(row.cost or ()), span(row.lost), f"{row.caught}/{len(row.lost)}")
        for row in rows
    ]
    text = "What each should cost was written down before the checks saw it. Reports learn nothing from these."
    return [
        "## Mistakes of public code",
        text,
        _table(("exercise", "mistake", "should cost", "points lost", "caught"), body),
    ]


def _checks(row: Row) -> str:
    return ", ".join(f"`{check.removeprefix('test_')}`" for check in row.failed)


def _change(row: Row) -> str:
    return row.name or f"`{row.old}` → `{row.new}`"


def _listing(rows: Sequence[Row]) -> str:
    body = [
        (f"`{row.exercise}`" if row.exercise else f"`{row.name}`", _change(row), row.kind, f"{row.caught}/{len(row.lost)}",
         ", ".join(f"{cell.removeprefix('check_')}: {points:g}" for cell, points in row.elsewhere.items()), ", ".join(sorted(set(row.broken))))
        for row in rows
    ]  # fmt: skip
    return _table(("exercise", "change", "operator", "caught", "elsewhere", "broken"), body)


def _equivalents(rows: Sequence[Row]) -> str:
    # plain functions and reference share lines
    body = dict.fromkeys((f"`{row.exercise}`", _change(row), row.reason) for row in rows)
    return _table(("exercise", "change", "why it is none"), body)
