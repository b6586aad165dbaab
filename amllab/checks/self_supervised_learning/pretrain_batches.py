"""The batches of a pretraining: which views were compared, and which gradients came back to both networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from amllab.checks.self_supervised_learning.pretrain_nets import Compared, Encoder, Pass, Projector
from amllab.checks.self_supervised_learning.pretrain_probes import stand_in_loss
from amllab.checks.self_supervised_learning.pretrain_runs import Loss, Run, pairs
from amllab.kit.step_checks import likeness
from amllab.kit.watermarks import UNREADABLE, Mark, marks, outputs_of_views

Pair = tuple[Mark, Mark]


@dataclass(frozen=True)
class Presented:
    """One batch in one epoch.

    Attributes:
        batch: Index of the batch; -1 if the images are not those of one batch.
        pairs: The two views of each image.
        passes: The calls of the networks that belong to it.
        lent: The call of the lent loss; ``None`` if the notebook computes its own.
    """

    batch: int
    pairs: list[Pair]
    passes: list[Pass]
    lent: Compared | None = None

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.pairs)

    @property
    def net(self) -> str:
        """The network whose outputs are compared."""
        return "encoder" if self.lent is not None and "encoder" in self.lent["nets"] else "projector"

    @property
    def lent_loss(self) -> Loss | None:
        """The loss that was lent, with the temperature that it got; ``None`` if the notebook computes its own."""
        return None if self.lent is None else partial(stand_in_loss, temperature=self.lent["temperature"])

    def rows(self, net: str, field: str) -> dict[Mark, Tensor]:
        """Return the first outputs of a network for each view, or the sum of their gradients."""
        outputs, gradients = outputs_of_views(done for done in self.passes if done["net"] == net)
        return outputs if field == "outputs" else gradients

    def complete(self) -> bool:
        """Return whether the outputs that were compared are known."""
        known = self.rows(self.net, "outputs")
        return all(mark in known for pair in self.pairs for mark in pair)

    def loss(self, loss: Loss) -> Tensor:
        """Return a loss of the outputs that were compared."""
        return self.loss_of_rows(loss, self.rows(self.net, "outputs"))

    def loss_of_rows(self, loss: Loss, rows: dict[Mark, Tensor]) -> Tensor:
        """Return a loss of outputs of these views."""
        first, second = (torch.stack([rows[pair[i]] for pair in self.pairs]) for i in (0, 1))
        return loss(first, second)

    def likeness(self, loss: Loss) -> float:
        """Return the cosine of the gradient of a loss at the compared outputs and of the one that came back."""
        known, got = self.rows(self.net, "outputs"), self.rows(self.net, "gradients")
        names = list(dict.fromkeys(mark for pair in self.pairs for mark in pair))
        rows = {mark: known[mark].clone().requires_grad_() for mark in names}
        wanted = torch.autograd.grad(self.loss_of_rows(loss, rows), [rows[mark] for mark in names])
        return likeness(torch.stack(wanted), torch.stack([got[mark] for mark in names]))

    def reached(self, net: str) -> list[tuple[bool, bool]]:
        """Return for each pair whether gradients have reached the outputs of a network for both views."""
        sizes = {mark: float(row.norm()) for mark, row in self.rows(net, "gradients").items()}
        least = 1e-4 * max(sizes.values(), default=0.0)
        return [(sizes.get(first, 0.0) > least, sizes.get(second, 0.0) > least) for first, second in self.pairs]


def before_and_after(one: Presented, run: Run, loss: Loss) -> tuple[float, float] | None:
    """Return the loss of a batch with the weights that both networks had at the start, and with those at the end.

    The views go through the networks in the same calls and modes as in the training. There is no loss if the calls of
    the encoder that belong to the batch are not known.
    """
    own = {f"{net}.{name}": value for net in ("encoder", "projector") for name, value in run.asked[net].items()}
    found = []
    for state in ({**own, **run.got["started"]}, run.got["final"]):
        nets = nn.ModuleDict({"encoder": Encoder(), "projector": Projector()}).double()
        nets.load_state_dict(state)
        rows: dict[str, dict[Mark, Tensor]] = {"encoder": {}, "projector": {}}
        for done in one.passes:
            names = marks(done["numbers"], done["draws"])
            if done["net"] == "encoder":
                inputs = torch.stack([run.view(mark) for mark in names]).double()
            elif all(mark in rows["encoder"] for mark in names):
                inputs = torch.stack([rows["encoder"][mark] for mark in names])
            else:
                continue
            with torch.no_grad():
                outputs = nets[done["net"]].train(done["training"])(inputs)
            for mark, row in zip(names, outputs, strict=True):
                rows[done["net"]].setdefault(mark, row)
        if not all(mark in rows[one.net] for pair in one.pairs for mark in pair):
            return None
        found.append(float(one.loss_of_rows(loss, rows[one.net])))
    return found[0], found[1]


def evaluations(run: Run) -> float:
    """Return how often a batch is evaluated for one step, on average."""
    rows = sum(len(done["numbers"]) for done in run.of("projector"))
    return rows / max(sum(2 * one.n for one in presented(run)), 1)


def presented(run: Run) -> list[Presented]:
    """Return the batches that a training has compared, in their order, evaluations of the same views once."""
    if not run.got["compared"]:
        return _merged(run)
    found = []
    for done in run.compared:
        passes = [other for other in run.passes if other["given"] == done["given"]]
        one = Presented(_batch(run, set(done["numbers"].flatten().tolist())), pairs(done), passes, done)
        found += [one] if one.complete() else []
    return found


def _batch(run: Run, numbers: Iterable[int]) -> int:
    """Return the index of the batch that has these images; -1 if there is none."""
    ends = list(itertools.accumulate(run.asked["sizes"]))
    indices = {next((i for i, end in enumerate(ends) if number < end), -1) for number in numbers}
    return indices.pop() if len(indices) == 1 else -1


def _merged(run: Run) -> list[Presented]:
    """Return the batches of a training that computes its own loss.

    Calls of the projector belong together until each image of the batch has two views.
    """
    found: list[Presented] = []
    views: dict[int, dict[int, list[Mark]]] = {}  # batch -> image -> views so far
    passes: dict[int, list[Pass]] = {}
    latest: dict[int, list[Pair]] = {}
    for done in run.of("projector"):
        of_batch: dict[int, list[Mark]] = {}
        for mark in marks(done["numbers"], done["draws"]):
            if mark[0] != UNREADABLE:
                of_batch.setdefault(_batch(run, [mark[0]]), []).append(mark)
        for batch, new in of_batch.items():
            waiting = views.setdefault(batch, {})
            for mark in new:
                waiting.setdefault(mark[0], []).append(mark)
            passes.setdefault(batch, []).append(done)
            if len(waiting) == run.asked["sizes"][batch] and all(len(both) == 2 for both in waiting.values()):
                both = [(first, second) for first, second in waiting.values()]
                if both != latest.get(batch):
                    of_encoder = [other for other in run.of("encoder") if other["given"] == done["given"]]
                    found.append(Presented(batch, both, [*of_encoder, *passes[batch]]))
                latest[batch] = both
                del views[batch], passes[batch]
    return found
