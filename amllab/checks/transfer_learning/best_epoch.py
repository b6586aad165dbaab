"""Which epoch the weights at the end of a training are of, and how a wrong one is explained."""

import math
from collections.abc import Sequence

import torch

from amllab.checks import expect, series
from amllab.checks.transfer_learning.training_runs import same_at_the_end
from amllab.kit import symptoms
from amllab.kit.scripted_model import LOADS

HINT_3 = "Exercise 3, Hint 3: remembering the best epoch"


def puts_back(run, best, kinds=("weights",)):
    """Return whether the weights at the end, or what else is asked for, are those of the best epoch."""
    restored = run.journal.restored()
    return all(not chosen(run, best).isdisjoint(restored[kind]) for kind in kinds)


def chosen(run, best):
    """Return the epochs whose weights may be the result.

    Another epoch that was taken for the best one loses points in the check of the best epoch.
    """
    return {best, run.best_epoch} if run.best_epoch in range(run.epochs - 1) else {best}  # the last one is no choice


def _ends_with_the_best(run, best, ended):
    """Fail the check unless a run ends with the weights and buffers of its best epoch.

    Args:
        run: The run.
        best: Its best epoch.
        ended: What ends the training when the best weights are not restored; empty if they never are.
    """
    journal, losses = run.journal, run.losses
    restored = journal.restored()
    never_moved = len(restored["weights"]) == len(journal.states)  # weights that never move lose points elsewhere
    start = {
        kind: all(torch.equal(run.script["state"][n], journal.final[n]) for n in names)
        for kind, names in {"weights": ("head.weight",), "buffers": ("steps", "noise")}.items()
    }
    wrong = [kind for kind, epochs in restored.items() if not chosen(run, best) & set(epochs)]
    symptom = symptoms.join(
        "nothing validated" if not journal.states else "",
        *(f"{kind}: {_restored(restored[kind], best, run.epochs, start[kind])}" for kind in wrong),
    )
    says, taken = "", best if math.isnan(run.best_epoch) else run.best_epoch
    if wrong and not (never_moved and "weights" in wrong) and restored[wrong[0]][-1:] == [run.epochs - 1]:
        how = _how_not(journal, wrong) if taken == best else "another epoch taken for the best"
        symptom += f"; {how}"
        says = f": {HOW_NOT[how].format(taken=f'{taken:g}')}"
    elif wrong and not start[wrong[0]] and run.epochs - 2 in restored[wrong[0]]:
        says = ", the last but one. Is a copy kept in every epoch, whatever its loss?"
    if symptom and taken == best and ended:
        symptom += f"; where {ended} ends it"
        other = {"patience": "max_epochs", "max_epochs": "patience"}[ended]
        says += f" (here {ended} ends the training; where {other} ends it, the best epoch is put back)"
    shown = {kind: e[0] for kind, e in restored.items() if kind in wrong and len(e) == 1}
    expect(
        journal.states and not wrong,
        expected=f"weights and buffers of epoch {best}, the best of {run.epochs}",
        seen="; ".join(
            f"{kind} as they were before the training" if start[kind] else of_epochs(kind, restored[kind])
            for kind in wrong
        )
        + says
        if journal.states
        else "a model that never saw a validation image: is `val_loader` read?",
        why="BatchNorm's running statistics are buffers: weights of one epoch with statistics of another fit no data"
        if wrong == ["buffers"]
        else "the best epoch is what you report: its weights have to be the result",
        where=HINT_3,
        symptom=symptom,
        series=series("val_loss", losses[: run.epochs], best=best, **{f"{k}_at_the_end": e for k, e in shown.items()}),
        reproduce=run.lines(same_at_the_end("steps" if wrong == ["buffers"] else "head.weight")),
    )


# why a model ends with its last weights
HOW_NOT = {
    "never put back": "nothing was put back at the end",
    "by reference": "`load_state_dict` was called with the model's own tensors, which changed nothing. `state_dict()` gives "
    "references, which go on changing with the model: keep a copy",
    "copied too late": "`load_state_dict` was called with a copy of the last weights. Is a copy kept at each improvement, and only "
    "there?",
    "into a copy": "`load_state_dict` was called on a copy, and the model that was given stays as it is",
    "buffers left out": "the weights were put back, the buffers were not",
    "weights left out": "the buffers were put back, the weights were not",
    "another epoch taken for the best": "epoch {taken} was taken for the best one",
}


def _how_not(journal, wrong):
    """Return why a model ends with its last weights or buffers."""
    if len(wrong) == 1:
        return "buffers left out" if wrong == ["buffers"] else "weights left out"
    loads = journal.got["loads"]
    names = {LOADS[load] for load in loads if load in range(len(LOADS))}
    if "itself" in names or "copy" in names:
        return "by reference" if "itself" in names else "copied too late"
    return "into a copy" if loads else "never put back"


def _restored(epochs, best, count, at_start):
    """Describe which weights or buffers a model has at the end, if not those of the best epoch."""
    if not epochs:
        return "as before the training" if at_start else "of no epoch"
    usual = {
        best + 1: "epoch after the best",
        best - 1: "epoch before the best",
        count - 1: "last epoch",
        0: "first epoch",
    }
    return usual.get(epochs[0], "another epoch")


def of_epochs(kind: str, epochs: Sequence[int]) -> str:
    """Return which epochs weights or buffers are of, in words."""
    return f"{kind} of epoch {', '.join(map(str, epochs))}" if epochs else f"{kind} of no epoch that was validated"
