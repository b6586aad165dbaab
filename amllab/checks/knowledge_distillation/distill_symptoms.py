"""Symptoms of what a distillation shows, asks and compares; empty where it does what the contract says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amllab.checks.knowledge_distillation.distill_nets import Compared
from amllab.checks.knowledge_distillation.distill_runs import Run, rows_of
from amllab.kit.watermarks import UNDRAWN, UNREADABLE, Mark, marks

# symptoms of wrong answers after which it is not known what the loss should be
OTHER_PAIRS = {"plain images", "changed", "answers computed once", "other views", "images left out", "other rows"}


def wrong_views(run: Run) -> str:
    """Return the symptom of what the student was shown; empty if each epoch is one whole pass over the loader."""
    everything = set(range(len(run.asked["images"])))
    if not run.shown:
        return "no view shown"
    if any(mark not in run.passing for mark in run.shown):
        numbers = {number for number, _ in run.shown}
        return "plain images" if numbers <= everything and {d for _, d in run.shown} == {UNDRAWN} else "changed"
    # another number of epochs is charged with the history
    if len(run.epochs_run) < min(run.epochs, run.epochs if run.losses is None else len(run.losses)) - 1:
        return "same views"
    without = {number for number, label in enumerate(run.asked["labels"].tolist()) if label < 0}
    last = set(range(len(everything) - run.asked["sizes"][-1], len(everything)))
    found = ""
    for epoch in run.epochs_run:
        missing = everything - {mark[0] for mark in run.shown if run.passing[mark] == epoch}
        if missing:
            found = (
                "without label left out"
                if missing <= without
                else "last batch left out"
                if missing == last and not run.asked.get("shuffle_seed")
                else "images left out"
            )
    return found


def wrong_answers(run: Run) -> str:
    """Return the symptom of wrong answers of the teacher; empty if it answers for the student's views, row by row."""
    if not run.answers:
        return "never asked"
    answered = [mark for done in run.answers for mark in marks(done["numbers"], done["draws"])]
    if any(number == UNREADABLE for number, _ in run.shown):
        return ""  # nothing is known of the student's views: charged elsewhere
    missing = run.shown.keys() - set(answered)
    known = [mark for mark in answered if mark in run.passing]
    if missing:
        passes = {run.passing[mark] for mark in known}
        if not known:
            return "plain images" if {draw for _, draw in answered} == {UNDRAWN} else "changed"
        if len(passes) == 1 and len(run.epochs_run) > 1:
            return "answers computed once"
        if any(mark not in run.passing for mark in answered):
            return "changed"
        return (
            "other views" if not set(run.shown) & set(known) or len(passes) > len(run.epochs_run) else "images left out"
        )
    return next(filter(None, map(_wrong_rows, run.compared)), "")


def pairs_unknown(run: Run) -> bool:
    """Return whether the loss compares answers for other views or rows, which is charged with the teacher's answers."""
    return wrong_answers(run) in OTHER_PAIRS or left_out_of_loss(run)


def _wrong_rows(done: Compared) -> str:
    first, second = rows_of(done, 0), rows_of(done, 1)
    if done["nets"] == ["teacher", "student"]:
        return "arguments swapped"
    if done["nets"][1] == "student":
        return "own answers"
    if done["nets"][0] != "student":
        return "not the student's logits"
    if done["nets"][1] != "teacher":
        return "not the teacher's logits"
    if [number for number, _ in first] != [number for number, _ in second]:
        return "other rows"
    return "" if first == second else "other views"


def wrong_labels(run: Run) -> str:
    """Return the symptom of wrong labels in the calls of the lent loss; empty if they are those of the loader.

    Nothing is known if the notebook computes a loss of its own.
    """
    labels = run.asked["labels"]
    for done in run.compared:
        numbers = done["numbers"][0]
        if done["nets"][0] != "student" or bool((numbers < 0).any()):
            continue
        own, seen = labels[numbers], done["labels"]
        if torch.equal(own, seen):
            continue
        choice = choices(run, rows_of(done, 1))
        wrong = own != seen
        if bool((own[wrong] < 0).all()):
            if torch.equal(choice[wrong], seen[wrong]):
                return "teacher's choice where there is no label"
            return "a class for no label"
        if torch.equal(choice, seen):
            return "teacher's choice"
        if bool((seen == -1).all()):
            return "no labels"
        return "other labels" if torch.equal(own.sort().values, seen.sort().values) else "changed labels"
    return ""


def left_out_of_loss(run: Run) -> bool:
    """Return whether the student was shown images in training that no call of the lent loss has."""
    compared = {mark for done in run.compared if done["nets"][0] == "student" for mark in rows_of(done, 0)}
    return bool(compared) and not run.shown.keys() <= compared


def choices(run: Run, rows: Sequence[Mark]) -> Tensor:
    """Return the teacher's most probable class for views, int64 ``(n,)``; ``UNREADABLE`` where it gave no answer."""
    known = {
        mark: int(row.argmax())
        for done in run.answers
        for mark, row in zip(marks(done["numbers"], done["draws"]), done["outputs"], strict=True)
    }
    return torch.tensor([known.get(mark, UNREADABLE) for mark in rows])
