"""The two trainings of exercise 4 as tasks: their budgets, their data and their scores.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from amllab.kit.task import Score, Task
from amllab.protocol.submission import Submission

if TYPE_CHECKING:
    from amllab.checks.meta_learning.prototype_accuracy import Trained
    from amllab.checks.meta_learning.sinusoid_accuracy import Adapting

NOT_YOURS = "with episodes of the checks, as those of your `sample_episode` are not valid"
GAIN = Score("gain", worst=-1.0, step=0.005, factor=100, unit=" points", digits=1)
ERROR = Score("error", worst=1000.0, step=0.01, higher_is_better=False, digits=2)


class PrototypeTask(Task):
    """An encoder trained with episodes and the prototypical loss: what it gains on species that it has not seen."""

    table = "accuracy"
    score = GAIN
    data_word = "Images"

    @property
    def budget(self) -> dict[str, Any]:
        """The table ``[accuracy.prototypes]`` of ``lab.toml``."""
        return dict(self.lab.settings[self.table]["prototypes"])

    @property
    def data(self) -> str:
        """Drawn species: always the same species, and new individuals in every run."""
        return "species"

    @property
    def spread(self) -> float:
        """Half of what random ranks of the test images alone give."""
        return math.sqrt(1 / 12 / (self.budget["test_species"] * self.budget["test_images"])) / 2

    def prepare(self, submission: Submission) -> str:
        """Look whether ``sample_episode`` returns valid episodes; if not, episodes of the checks replace them."""
        from amllab.checks.meta_learning.prototype_accuracy import samples_episodes

        return "" if samples_episodes(submission) else NOT_YOURS

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Trained:
        """Train the encoder."""
        from amllab.checks.meta_learning.prototype_accuracy import fit

        return fit(submission, self.budget, seed, with_own_episodes=not remark)

    def rate(self, trained: Trained) -> float:
        """Return the gain over the untrained encoder, as a share of the pairs."""
        from amllab.checks.meta_learning.prototype_accuracy import gain

        return gain(trained)

    def verify(self, trained: Trained, *, earns: bool) -> None:
        """Fail the check if the training exceeded its budget."""
        from amllab.checks.meta_learning.prototype_accuracy import keeps_to_the_budget

        keeps_to_the_budget(trained)


class SinusoidTask(Task):
    """A network that learns to adapt to a sinusoid in one step: its error on new sinusoids."""

    table = "accuracy"
    score = ERROR

    @property
    def budget(self) -> dict[str, Any]:
        """The table ``[accuracy.sinusoids]`` of ``lab.toml``."""
        return dict(self.lab.settings[self.table]["sinusoids"])

    @property
    def data(self) -> str:
        """Sinusoids: new ones in every run."""
        return "sinusoids"

    @property
    def spread(self) -> float:
        """What the points of the test tasks alone give, at least: a hundredth of the error of a few tenths."""
        return 0.01

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Adapting:
        """Train the network."""
        from amllab.checks.meta_learning.sinusoid_accuracy import fit

        return fit(submission, self.budget, seed)

    def rate(self, trained: Adapting) -> float:
        """Return the mean squared error after one step, on new sinusoids."""
        from amllab.checks.meta_learning.sinusoid_accuracy import error

        return error(trained)
