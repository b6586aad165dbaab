"""Rules of early stopping, right and wrong, used to recognise which one a submission follows."""

import itertools
import math
import random
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from amllab.checks import expect
from amllab.checks.transfer_learning.best_epoch import of_epochs
from amllab.checks.transfer_learning.training_runs import (
    IDEA_1,
    RAN,
    SIZES,
    Run,
    call,
    losses_of,
    n_epochs,
    run_script,
    same_at_the_end,
)
from amllab.kit import symptoms
from amllab.kit.scripts import make_script
from amllab.protocol.submission import Submission
from autograder.checks.transfer_learning.stopping_explanations import SAYS, WHY
from autograder.checks.transfer_learning.stopping_parameters import DIGITS, GRACE, LEAST, STARTS, WINDOWS

# of the loss, the best one so far, the previous one and min_delta
Improves = Callable[[float, float, float, float], bool | None]


@dataclass(frozen=True)
class Rule:
    """A way to stop and to choose an epoch; the defaults follow the contract.

    Attributes:
        improves: Function of the loss, the best one so far, the previous one and min_delta: whether it is an
            improvement; ``None`` if the epoch is not counted at all.
        resets: Whether an improvement resets the count.
        wait: Number of epochs to wait beyond patience.
        limit: Function of max_epochs: the maximum number of epochs.
        lowest: Whether the best loss is the lowest so far, improvement or not.
        first: Whether the first loss is taken as the best one, whatever it is.
        start: The best loss before the first epoch.
        grace: Number of epochs at the beginning that use up no patience.
        all_epochs: Whether epochs that improve use up patience as well.
        default: min_delta if it is not passed.
        window: Number of the last losses whose mean is compared.
    """

    improves: Improves = lambda loss, best, before, delta: loss < best - delta
    resets: bool = True
    wait: float = 0
    limit: Callable[[int], int] = lambda max_epochs: max_epochs
    lowest: bool = False
    first: bool = False
    start: float = math.inf
    grace: int = 0
    all_epochs: bool = False
    default: float = 0.0
    window: int = 1

    def outcome(
        self, losses: Sequence[float], *, max_epochs: int = 30, patience: int = 5, min_delta: float | None = None
    ) -> tuple[int, int]:
        """Return the number of epochs, and the best epoch."""
        min_delta = self.default if min_delta is None else min_delta
        best, best_epoch, before, waited = self.start, 0, math.inf, 0
        most = self.limit(max_epochs)
        epochs = [*losses, *[losses[-1]] * max(most - len(losses), 0)][:most]  # the model repeats its last loss
        for epoch in range(len(epochs)):
            recent = epochs[max(epoch + 1 - self.window, 0) : epoch + 1]
            loss = sum(recent) / len(recent)
            improved = self.improves(loss, best, before, min_delta)
            if self.first and epoch == 0:
                best = loss
            elif improved:
                best, best_epoch, waited = loss, epoch, 0 if self.resets else waited
            elif improved is not None and epoch >= self.grace:
                waited = epoch + 1 if self.all_epochs else waited + 1
                if waited >= patience + self.wait:
                    return epoch + 1, best_epoch
            if self.lowest:
                best = min(best, loss)
            before = loss
        return len(epochs), best_epoch


# number of epochs, and best epoch, which may also be a loss, or NaN if unknown
Outcome = tuple[int, float]
# validation losses, and arguments of the training
Scripted = tuple[list[float], dict[str, Any]]


def _rounded(digits: int) -> Improves:
    return lambda loss, best, before, delta: round(loss, digits) < round(best, digits) - delta


def _at_least(least: float) -> Improves:
    return lambda loss, best, before, delta: loss < best - max(delta, least)


# more epochs than any script has, and than any patience needs
ENDLESS = 60

RULES = {
    "": Rule(),
    "1 epoch late": Rule(wait=1),
    "1 epoch early": Rule(wait=-1),
    "never stopped": Rule(wait=math.inf),
    "stopped at the first epoch without improvement": Rule(wait=-math.inf),
    "count never reset": Rule(resets=False),
    "only the first epoch improves": Rule(lambda loss, best, before, delta: best == math.inf),
    "1 epoch more than max_epochs": Rule(limit=lambda n: n + 1),
    "1 epoch less than max_epochs": Rule(limit=lambda n: n - 1),
    "max_epochs ignored": Rule(limit=lambda n: ENDLESS),
    "max_epochs ignored: 30": Rule(limit=lambda n: 30),
    "compared with the epoch before": Rule(lambda loss, best, before, delta: loss < before - delta),
    "min_delta ignored": Rule(lambda loss, best, before, delta: loss < best),
    "equal losses improve": Rule(lambda loss, best, before, delta: loss <= best - delta),
    "min_delta with the wrong sign": Rule(lambda loss, best, before, delta: loss < best + delta),
    "min_delta relative to the best": Rule(lambda loss, best, before, delta: loss < best * (1 - delta)),
    "best loss moves without improvement": Rule(lowest=True),
    "NaN improves": Rule(lambda loss, best, before, delta: not loss >= best - delta),
    "NaN improves, and is forgotten": Rule(lambda loss, best, before, delta: math.isnan(loss) or loss < best - delta),
    "NaN does not count": Rule(lambda loss, best, before, delta: None if math.isnan(loss) else loss < best - delta),
    "NaN as first best": Rule(first=True),
    "improvements count against patience": Rule(all_epochs=True),
    "every epoch improves": Rule(lambda loss, best, before, delta: loss == loss),
    "higher losses improve": Rule(lambda loss, best, before, delta: loss > best - delta, start=-math.inf),
    **{f"losses rounded to {digits} digits": Rule(_rounded(digits)) for digits in DIGITS},
    **{f"improvements below {least:g} do not count": Rule(_at_least(least)) for least in LEAST},
    **{f"default of min_delta: {least:g}": Rule(default=least) for least in LEAST},
    **{f"means of {n} losses compared": Rule(window=n) for n in WINDOWS},
    **{f"best loss starts from {start}": Rule(start=start) for start in STARTS},
    **{f"patience begins after {grace} epochs": Rule(grace=grace) for grace in GRACE},
}
CHOICES: dict[str, Callable[[int, list[float]], float]] = {
    "": lambda best, losses: best,
    "best_epoch: its loss": lambda best, losses: losses[best],
    "best_epoch: counted from 1": lambda best, losses: best + 1,
    "best_epoch: the last": lambda best, losses: len(losses) - 1,
    "best_epoch: lowest loss": lambda best, losses: losses.index(min(losses, key=lambda v: math.inf if v != v else v)),
    "best_epoch: NaN as lowest loss": lambda best, losses: min(
        range(len(losses)), key=lambda e: (losses[e] == losses[e], losses[e])
    ),
    "best_epoch: lowest loss, by min": lambda best, losses: losses.index(min(losses)),  # a NaN that comes first stays
    "best_epoch: the first": lambda best, losses: 0,
}

# mistakes that lose points in other checks, and must not lose them twice: in those of max_epochs and best_epoch ...
IN_CHOICE = {
    "best_epoch: counted from 1",
    "best_epoch: the last",
    "best_epoch: the first",
    "best_epoch: its loss",
    "1 epoch more than max_epochs",
    "1 epoch less than max_epochs",
}
# ... in test_stops_after_patience ...
IN_STOPPING = {"1 epoch early", "1 epoch late", "only the first epoch improves", *IN_CHOICE}
# ... and in test_patience_to_the_epoch as well
IN_PATIENCE = {
    "never stopped",
    "stopped at the first epoch without improvement",
    "count never reset",
    "max_epochs ignored",
    "max_epochs ignored: 30",
    "every epoch improves",
    *IN_STOPPING,
}
# ... and in test_min_delta
IN_MIN_DELTA = {"best_epoch: lowest loss", "best_epoch: NaN as lowest loss", "best_epoch: lowest loss, by min"}


def recognised(cases: Sequence[Scripted], outcomes: Sequence[Outcome]) -> str:
    """Return the rule and choice of an epoch that explain what a submission did in all cases; empty if none do.

    Args:
        cases: Losses and arguments of each case.
        outcomes: Outcome of each case.
    """
    # one mistake is more likely than two: choices come first, so that every rule is tried with the right one
    for (choice, choose), (rule, how) in itertools.product(CHOICES.items(), RULES.items()):
        explained = [how.outcome(losses, **arguments) for losses, arguments in cases]
        padded = [[*losses, *[losses[-1]] * ENDLESS] for losses, _ in cases]
        wanted = [(n, choose(b, losses[:n])) for losses, (n, b) in zip(padded, explained, strict=True) if n]
        if len(wanted) == len(outcomes) and all(map(_alike, outcomes, wanted)):
            return symptoms.join(rule, choice)
    return ""


def _alike(seen: Outcome, wanted: Outcome) -> bool:
    """Return whether two outcomes are the same, as far as the first is known."""
    return seen[0] == wanted[0] and (math.isnan(seen[1]) or math.isclose(seen[1], wanted[1], abs_tol=1e-3))


def compare(
    submission: Submission,
    reference: Submission,
    cases: Sequence[Scripted],
    rng: random.Random,
    *,
    why: str,
    charged: Set[str],
    where: str = IDEA_1,
    weights: bool = True,
) -> None:
    """Train both on the same scripted losses; fail the check if they stop, choose or end differently.

    Args:
        submission: The submission.
        reference: The reference.
        cases: Pairs of validation losses and arguments.
        rng: Generator of the scripts.
        why: Why a difference matters.
        charged: Rules and choices that lose points elsewhere: a training that follows one of them in all cases passes.
        where: Section of the notebook that explains it.
        weights: Whether to compare the weights at the end; not if they are never restored, which loses points
            elsewhere.
    """
    pairs: list[tuple[Run, Run]] = []
    for losses, arguments in cases:
        script = make_script(losses, rng, **SIZES)
        own, other = (run_script(who, script, losses, **arguments) for who in (submission, reference))
        pairs.append((own, other))
    outcomes = [(own.epochs, own.best) for own, _ in pairs]
    symptom = recognised(cases, outcomes)
    if (symptom and charged >= {*symptom.split("; ")}) or all(_right_of_its_own(own) for own, _ in pairs):
        return
    for (own, other), seen in zip(pairs, outcomes, strict=True):
        wanted = (other.epochs, other.best)
        late = "never stopped" if seen[0] == own.arguments.get("max_epochs", len(own.losses)) else "late"
        expect(
            _alike(seen, wanted),
            expected=f"{n_epochs(wanted[0])} and best_epoch={wanted[1]:g}, with "
            + (call(own.arguments)[2:] or "the defaults (max_epochs=30, patience=5)"),
            seen=n_epochs(seen[0])
            + ("" if math.isnan(seen[1]) else f" and best_epoch={seen[1]:g}")
            + "".join(f": {SAYS[name]}" for name in symptom.split("; ")[:1] if name in SAYS),
            why=WHY.get(symptom, why),
            where=where,
            symptom=symptom
            or ("early" if seen[0] < wanted[0] else late if seen[0] > wanted[0] else "best_epoch: another"),
            series=losses_of(own.losses, best=wanted[1], epochs=wanted[0], returned=seen[1], ran=seen[0]),
            reproduce=own.lines(RAN),
        )
    if weights:
        _expect_weights(pairs, where)


def _right_of_its_own(run: Run) -> bool:
    """Return whether a training computes other losses than the scripted ones, and does what is right for them.

    Wrong losses lose points in the check of the means.
    """
    own = run.lists.get("val_loss", [])
    if len(own) != run.epochs or all(map(_same_loss, own, [*run.losses, *[run.losses[-1]] * len(own)])):
        return False
    return _alike((run.epochs, run.best), Rule().outcome(own, **run.arguments))


def _same_loss(seen: float, wanted: float) -> bool:
    return math.isnan(seen) == math.isnan(wanted) and not abs(seen - wanted) > 1e-3


def _expect_weights(pairs: Sequence[tuple[Run, Run]], where: str) -> None:
    """Fail the check if the weights are not those of the best epoch, although they are restored in other cases."""
    ends = [(own, int(other.best), own.journal.restored()["weights"]) for own, other in pairs]
    # the last epoch as the best one does not show whether weights are restored; never restoring them loses points
    # elsewhere
    put_back = [best in epochs for own, best, epochs in ends if best != own.epochs - 1]
    for own, best, epochs in ends:
        expect(
            best in epochs or not any(put_back),
            expected=f"weights of epoch {best}, with {call(own.arguments)[2:]}",
            seen=of_epochs("weights", epochs),
            why="the weights that the model ends with are those of `best_epoch`, whatever the losses are"
            if any(loss == loss for loss in own.losses[: own.epochs])
            else "where no loss is a number, the model is left as it was after epoch 0",
            where=where,
            symptom="weights: of another epoch than best_epoch",
            series=losses_of(own.losses, best=best, epochs=own.epochs, ran=own.epochs),
            reproduce=own.lines(same_at_the_end("head.weight")),
        )
