"""The page about a lab's thresholds, and its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amllab.kit.task import Task
from amllab.lab import name_in_course
from autograder.authoring.fitting import WRONG_VERDICTS


def table(evidence: dict[str, Any], task: Task) -> str:
    """Format the verdicts as a Markdown table."""
    score = task.score
    unit = f", {score.unit.strip()}" if score.unit else ""
    rows = [
        f"| functions | | runs | mean ± sd{unit} | min–max{unit} | wrong verdicts | probability | at most (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def number(value: float) -> str:
        return score.text(value).removesuffix(score.unit)

    sign = -1 if score.higher_is_better else 1
    for v in sorted(evidence["verdicts"], key=lambda v: (not v["right"], sign * v["mean"])):
        side = "right" if v["right"] else "wrong"
        side += "" if evidence["samples"][v["style"]]["fitted"] else ", not fitted"
        rows.append(
            f"| {v['style']} | {side} | {v['n']} | {number(v['mean'])} ± {number(v['sd'])} "
            f"| {number(v['low'])}–{number(v['high'])} | {v['wrong']} | {v['probability']:.1g} | {v['at_most']:.1g} |"
        )
    return "\n".join(rows)


def sentences(evidence: dict[str, Any], task: Task) -> str:
    """Summarise the results in words, one statement per line."""
    t, lines, score = evidence["thresholds"], [], task.score
    lines.append(f"points from {score.text(t['start'])} on, full points from {score.text(t['full'])}")
    for side, what in (("right", "right without full points"), ("wrong", "wrong with full points")):
        c = evidence[side]
        lines.append(
            f"{what}: {c['wrong_verdicts']} of {c['runs']} fresh runs (at most {c['counted_at_most']:.2g} by counting alone); "
            f"at most {c['worst_at_most']:.1g} in the style that is nearest, {c['worst_style']}"
        )
    a = evidence["attempts"]
    lines.append(f"trainings of a right submission: {a['mean']:.2f} on average, {a['most']} at most")
    return "\n".join(lines)


def page(tasks: Sequence[Task], calibrations: dict[str, Any]) -> str:
    """Format the evidence in a lab's thresholds file as a Markdown page.

    Args:
        tasks: The trainings of the lab.
        calibrations: Name of the data -> evidence. Data of another name than a task's belongs to the first task.
    """
    task = tasks[0]
    lab, name = task.lab, " and ".join(dict.fromkeys(task.score.name for task in tasks))
    place = name_in_course(task.evidence, 5 if lab.own else 4)
    parts = [
        f"# {lab.title}: thresholds of the {name} check{'s' * (len(tasks) > 1)}\n\n"
        f"Written by `autograder calibrate {lab.assignment}` from what it measured; all of it is in "
        f"`{place}`. A right submission is to lose points in at most "
        f"{WRONG_VERDICTS:g} of all cases, and a wrong one to get full points in at most {WRONG_VERDICTS:g}.\n"
    ]
    for data, evidence in sorted(calibrations.items()):
        task = next((task for task in tasks if task.data == data), tasks[0])
        name = task.score.name
        (_, fitted), (_, last) = evidence["seeds"]["fitted"], evidence["seeds"]["fresh"]
        budget = ", ".join(f"{name} {value}" for name, value in evidence["budget"].items())
        packages = ", ".join(f"{name} {number}" for name, number in evidence["packages"].items())
        parts.append(
            f"\n## {task.data_word}: {data}\n\n{_list(sentences(evidence, task))}\n\nFitted on seeds 0 to {fitted - 1}, evaluated on seeds {fitted} "
            f"to {last - 1}; far-off functions on every second one. Not fitted: what the check rejects whatever its {name}. *Probability*: of a wrong verdict, for normal {_plural(name)} "
            f"of this mean and spread; *at most*: its upper bound with 95 % confidence.\n\n{table(evidence, task)}\n\n"
            f"![{name} by style]({picture_name(task, data)})\n\nBudget: {budget}.\n{packages}; {evidence['machine']}.\n"
        )
    return "".join(parts)


def _plural(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def picture_name(task: Task, data: str) -> str:
    """Return the file name of the plot for a kind of data."""
    return f"calibration-{task.lab.assignment}-{data}.png"


def _list(lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines.split("\n"))


def plot(evidence: dict[str, Any], path: Path, task: Task, title: str) -> None:
    """Plot the score of every run by variant, with the thresholds."""
    from matplotlib.figure import Figure

    score = task.score
    sign = 1 if score.higher_is_better else -1
    order = sorted(evidence["verdicts"], key=lambda v: (v["right"], sign * v["mean"]))
    figure = Figure(figsize=(9, 0.32 * len(order) + 1.3), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for y, verdict in enumerate(order):
        values = [score.factor * score.best(row) for row in evidence["samples"][verdict["style"]]["shares"]]
        colour, marker = ("#0072b2", "o") if verdict["right"] else ("#d55e00", "x")
        axes.scatter(values, y + rng.uniform(-0.25, 0.25, len(values)), s=9, c=colour, marker=marker, linewidths=0.7)
    start, full = (score.factor * evidence["thresholds"][name] for name in ("start", "full"))
    sides = ("left", "right") if score.higher_is_better else ("right", "left")
    axes.axvspan(start, full, color="#999999", alpha=0.25, lw=0)
    axes.axvline(full, color="#333333", lw=1.2)
    axes.axvline(start, color="#333333", lw=0.8, ls="--")
    axes.text(full, len(order) - 0.4, f" full points from {full:g}{score.unit} ", fontsize=8, va="bottom", ha=sides[0])
    axes.text(start, len(order) - 0.4, f" none up to {start:g}{score.unit} ", fontsize=8, va="bottom", ha=sides[1])
    names = [v["style"] for v in order]
    axes.set_yticks(range(len(order)), names, fontsize=8)
    for label, verdict in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color("#0072b2" if verdict["right"] else "#d55e00")
    axes.set_ylim(-0.7, len(order) + 0.5)
    axes.set_xlabel(
        ", ".join(filter(None, [score.name, score.unit.strip()])) + "; best of the attempts (o right, x wrong)"
    )
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
