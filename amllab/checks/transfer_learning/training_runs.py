"""Trainings of the scripted model for the checks of exercise 3: what ran, what it returned, and how to repeat it."""

from __future__ import annotations

import math
import random
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import pytest

from amllab.checks import series
from amllab.kit.expectations import Call, returns
from amllab.kit.scripts import make_script
from amllab.kit.training_journal import Journal
from amllab.protocol.failure import Series
from amllab.protocol.submission import Submission, error_text
from amllab.seeds import derive

KEYS = ("train_loss", "train_acc", "val_loss", "val_acc")
TASK = "Exercise 3, Your task"
IDEA_1 = "Exercise 3, Idea 1: stop when validation no longer improves"
HINT_1 = "Exercise 3, Hint 1: the order of an epoch"
RETURNS = "Trains, and returns a history: lists of floats for loss and accuracy, in training and validation, one for each epoch."
# for runs that check what a loop does and not what it measures: any way of averaging gives the right losses
SIZES: dict[str, Any] = {"train_sizes": (4, 4), "val_sizes": (3, 3), "in_each_batch": True}
# shows every forward pass: batch sizes distinguish the loaders of a report
WATCH = (
    "model.register_forward_hook(lambda m, inputs, logits: print(\n"
    '    len(logits), "images,", "train" if m.training else "eval", "mode, gradients:", torch.is_grad_enabled()))\n'
)


@dataclass(frozen=True)
class Run:
    """A training of the scripted model.

    Attributes:
        losses: The scripted validation losses.
        arguments: Further arguments of the training.
        script: The script of the model.
        journal: The log of what happened in the training.
        returned: Name of the type of what the training returned.
        values: Values of the history in it; empty if there is none.
        types: Types of these values.
    """

    losses: list[float]
    arguments: dict[str, Any]
    script: dict[str, Any]
    journal: Journal
    returned: str
    values: dict[str, Any]
    types: dict[str, str]

    def lines(self, shown: str, *, sizes: str = "", before: str = "") -> str:
        """Return :func:`lines` of this training."""
        return lines(self.losses, shown, sizes=sizes, before=before, **self.arguments)

    @property
    def epochs(self) -> int:
        """Number of epochs that were trained, according to the model's log and not to the lists."""
        return self.journal.epochs

    @property
    def lists(self) -> dict[str, list[float]]:
        """The lists of the history that contain numbers."""
        return {key: self.values[key] for key in KEYS if isinstance(self.values.get(key), list)}

    @property
    def best_epoch(self) -> float:
        """The best epoch as it was returned; NaN if it was not."""
        found = self.values.get("best_epoch")
        return found if isinstance(found, float) else math.nan

    @property
    def best(self) -> float:
        """The epoch that was chosen: as returned, or else the one whose weights the model ends with; NaN if unknown."""
        restored = self.journal.restored()["weights"]
        return restored[0] if math.isnan(self.best_epoch) and len(restored) == 1 else self.best_epoch


def run(submission: Submission, val_losses: Sequence[float], rng: random.Random, **arguments: Any) -> Run:
    """Train the scripted model on the given validation losses; see :func:`run_script`."""
    return run_script(submission, make_script(val_losses, rng, **SIZES), val_losses, **arguments)


def run_script(
    submission: Submission,
    script: dict[str, Any],
    val_losses: Sequence[float],
    *,
    lists: bool = False,
    **arguments: Any,
) -> Run:
    """Train the scripted model.

    Fails the check if the training raised an error; skips it if every training does.
    """
    more = {"lists": True} if lists else {}
    got = submission.ask("train_scripted", script=script, arguments=arguments, **more)
    if "error" in got and "error" in plain_answer(submission):
        wait_for_history()
    expect_no_error(got, val_losses, arguments, lists=lists)
    history = got["history"]
    journal = Journal(script, got)
    return Run(list(val_losses), arguments, script, journal, history["type"], history["values"], history["types"])


def wait_for_history() -> NoReturn:
    """Skip the check: every training raises an error, or returns no history."""
    pytest.skip(f"waits for this check: {RETURNS}")


PLAIN = [1.0, 0.9, 0.8, 0.7]
PLAIN_ARGUMENTS: dict[str, Any] = {"max_epochs": 4, "patience": 3}


def plain_script() -> dict[str, Any]:
    """Return the script of a training with nothing special about it, always the same."""
    return make_script(PLAIN, random.Random(0), **SIZES)


def plain_answer(submission: Submission) -> dict[str, Any]:
    """Return the answer to the training of :func:`plain_script`."""
    answer: dict[str, Any] = submission.ask("train_scripted", script=plain_script(), arguments=PLAIN_ARGUMENTS)
    return answer


def expect_no_error(
    got: dict[str, Any], val_losses: Sequence[float], arguments: dict[str, Any], *, lists: bool = False
) -> None:
    """Fail the check if the training raised an error."""
    message = error_text(got) if "error" in got else ""
    attribute = next((name for name in ("dataset", "sampler", "batch_size", "drop_last") if f"'{name}'" in message), "")
    why = "an exception ends the training before there is a result"
    if all(map(math.isnan, val_losses[: arguments.get("patience", 5)])):  # training stops before any loss is a number
        why = "where no loss is a number, the model stays as it was after epoch 0: is there a state to go back to?"
    if lists and attribute:
        why = f"a list of batches has no `.{attribute}`: count the examples while you go through the batches"
    asked = training_call(val_losses, arguments, LISTS if lists else "")
    returns(
        got,
        asked,
        expected=f"`{asked.text}` returns" + (", with lists of batches as loaders" if lists else ""),
        more=(f", after {n_epochs(got['epochs'])}" if got["epochs"] else ", in the first epoch") if message else "",
        why=why,
    )


def stopped_run(submission: Submission, seed: int) -> Run:
    """Run a training that patience ends, and that the usual mistakes would end in different epochs.

    All checks of a seed get the same run.
    """
    losses, patience, script = _to_be_stopped(seed)
    return run_script(submission, script, losses, max_epochs=len(losses), patience=patience)


@lru_cache(maxsize=4)
def _to_be_stopped(seed: int) -> tuple[list[float], int, dict[str, Any]]:
    """Return losses, patience and script of :func:`stopped_run`."""
    rng = random.Random(derive(seed, "stopped"))
    best, patience = rng.choice([(2, 5), (3, 3), (4, 3), (4, 4)])
    losses = [round(1.0 - 0.1 * i, 3) for i in range(best + 1)]
    # never better than the best epoch, but always better than the epoch before
    losses += [round(1.15 - 0.004 * i - 0.002 * rng.random(), 3) for i in range(12)]
    return losses, patience, _told_apart(losses, rng, best=best, ran=best + 1 + patience, patience=patience)


def trained_run(submission: Submission, seed: int, *, patience: int = 3) -> tuple[Run, int]:
    """Run a training whose best epoch is neither among the first two nor the last.

    All checks of a seed get the same run. Losses only fall before the best epoch and only rise in the three epochs
    after it, so that patience ends the training if it is 3, and ``max_epochs`` if it is 4.

    Returns:
        The run, and its best epoch.
    """
    losses, best, script = _to_be_trained(seed)
    return run_script(submission, script, losses, max_epochs=len(losses), patience=patience, lr=0.05), best


@lru_cache(maxsize=4)
def _to_be_trained(seed: int) -> tuple[list[float], int, dict[str, Any]]:
    """Return losses, best epoch and script of :func:`trained_run`."""
    rng = random.Random(derive(seed, "trained"))
    best = rng.randint(2, 3)
    losses = [round(loss, 3) for loss in [*(1.0 - 0.1 * i for i in range(best + 1)), 1.1, 1.2, 1.3]]
    return losses, best, _told_apart(losses, rng, best=best)


def _told_apart(
    losses: Sequence[float], rng: random.Random, *, best: int, ran: int | None = None, patience: int | None = None
) -> dict[str, Any]:
    """Return a script in which each other figure leads to another best epoch and another last epoch than the loss.

    Args:
        losses: Validation loss of each epoch.
        rng: Generator of the script, which is sampled again until it meets this condition.
        best: The best epoch according to the loss.
        ran: Number of epochs that the loss leads to; ``None`` if ``max_epochs`` may end the training.
        patience: Patience that leads to this number of epochs.
    """
    # differences so small that a mean of both losses leads to the same epochs as the validation loss
    train_losses = [1.0 + 0.002 * abs(epoch - best - 2) for epoch in range(len(losses))]
    while True:
        script = make_script(losses, rng, **SIZES, train_losses=train_losses)
        hits = [
            (script[f"{part}_logits"].argmax(-1) == script[part]["labels"]).sum(-1).tolist()
            for part in ("train", "val")
        ]
        # with and without counting an epoch that equals the best one as an improvement
        stops = [_stopping(of, patience or len(losses), ties=ties) for of in hits for ties in (False, True)]
        # ending with the last epoch is a different mistake
        if all(top not in (best, len(losses) - 1) and (ran is None or epochs != ran) for epochs, top in stops):
            return script


def watched(found: Run) -> str:
    """Return the list of the history by which a training stopped and chose; empty if it is the validation loss."""
    for key, sign in (("train_loss", -1), ("train_acc", 1), ("val_acc", 1)):
        figures = [sign * value for value in found.lists.get(key, [])]
        for ties in (False, True):
            ran, top = _stopping(figures, found.arguments["patience"], ties=ties) if figures else (0, 0)
            if ran == found.epochs == len(figures) and top == found.best_epoch and top > 0:
                return key
    return ""


def _stopping(figures: Sequence[float], patience: int, *, ties: bool) -> tuple[int, int]:
    """Return the number of epochs and the best epoch of a training that stops when figures no longer rise.

    ``ties`` says whether an equal figure is progress.
    """
    top = 0
    for epoch, figure in enumerate(figures):
        if figure > figures[top] or (ties and figure == figures[top]):
            top = epoch
        if epoch - top >= patience:
            return epoch + 1, top
    return len(figures), top


def call(arguments: dict[str, Any]) -> str:
    """Format arguments as in a call, to follow other arguments."""
    return "".join(f", {name}={value}" for name, value in arguments.items())


def training_call(val_losses: Sequence[float], arguments: dict[str, Any], before: str = "", sizes: str = "") -> Call:
    """Return the call that trains on the losses of a report; see :func:`lines`."""
    losses = ", ".join("math.nan" if math.isnan(loss) else repr(float(loss)) for loss in val_losses)
    wrapped = textwrap.fill(f"val_losses = [{losses}]", 90, subsequent_indent=" " * len("val_losses = ["))
    setup = (
        "from amllab import scripted_training\n\n"
        f"{wrapped}\n"
        f"model, train_loader, val_loader = scripted_training(val_losses{sizes})\n"
        f"{before}"
    )
    text = f"train_with_early_stopping(model, train_loader, val_loader{call(arguments)})"
    return Call(text, setup, TASK, short=call(arguments)[2:])


def lines(val_losses: Sequence[float], shown: str, *, sizes: str = "", before: str = "", **arguments: Any) -> str:
    """Return code that a student can paste into the notebook to train on the losses of a report.

    Args:
        val_losses: Validation losses of the run.
        shown: An expression to display afterwards.
        sizes: Further arguments of ``scripted_training``.
        before: Code between the creation of the model and its training.
        **arguments: Arguments of ``train_with_early_stopping``.
    """
    asked = training_call(val_losses, arguments, before, sizes)
    return f"{asked.setup}history = {asked.text}\n{shown}".strip()


# code that makes lists of batches of the loaders
LISTS = "train_loader, val_loader = list(train_loader), list(val_loader)\n"
# code that shows a student how far a training went: the model counts its epochs
RAN = 'max(model.states) + 1, history["best_epoch"]  # epochs that were run, and the best one'

# symptom of a wrong number of epochs -> its explanation
STOPPING = {
    "1 epoch early": ": training stops one epoch too early",
    "1 epoch late": ": training stops one epoch too late, after patience + 1 epochs without improvement",
    "never stopped": ": training did not stop before max_epochs. Is each epoch compared with the best one so far?",
    "stopped at the first epoch without improvement": ": training stops at the first epoch without improvement",
    "stopped after patience epochs in all": ": training stops as if no epoch after the first had improved. Is a lower "
    "loss the better one, and does the best loss start from `math.inf`?",
}
NEVER = (
    ": training did not stop before max_epochs, though the best epoch is right. Does it end once patience is used up?"
)


def losses_of(
    val_losses: Sequence[float], *, best: float, epochs: int, returned: float | None = None, ran: int
) -> Series:
    """Return the validation losses of a run, with marks for what should have happened and what did.

    The series extends as far as the run went, or should have gone.
    """
    ran = min(ran, len(val_losses))  # a longer run repeats the last loss
    shown = val_losses[: max(epochs, ran)]
    returned = returned if returned in range(len(val_losses)) else None
    marks = {"best": best} if returned in (None, best) else {"best": best, "returned_as_best": returned}
    return series("val_loss", shown, **marks, should_stop=epochs - 1, stopped=ran - 1)


def same_at_the_end(name: str) -> str:
    """Return code that shows a student in which epochs a tensor was what it is at the end."""
    return (
        f'end = model.state_dict()["{name}"]\n'
        f'[epoch for epoch, state in model.states.items() if torch.equal(state["{name}"], end)]'
    )


def table(losses: Sequence[float]) -> str:
    """Format losses for a report."""
    return ", ".join(f"{loss:.3f}" for loss in losses[:40]) + (" ..." if len(losses) > 40 else "")


def n_epochs(number: int) -> str:
    """Return ``"1 epoch"``, ``"2 epochs"``."""
    return f"{number} epoch" + ("" if number == 1 else "s")
