"""The step of ``nbgrader generate_feedback`` that ends a round of grading, since feedback names the round's seed."""

from __future__ import annotations

from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from autograder.gradebook.rounds import Rounds
from autograder.results.stored_checks import stored_seed


class EndRound(Preprocessor):
    """A preprocessor after which code that is graded for the first time gets a new seed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._looked_at: set[tuple[str, int]] = set()  # assignment and seed

    def preprocess(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """End the current round if this is feedback on a notebook that was graded in it."""
        about = resources.get("nbgrader")  # formgrader's resources have none
        seed = stored_seed(notebook) if about else None
        if seed is not None and (about["assignment"], seed) not in self._looked_at:
            with Gradebook(about["db_url"]) as gradebook:
                secret = gradebook.find_assignment(about["assignment"]).id
            rounds = Rounds(about["db_url"], secret)
            if rounds.end(seed):
                self.log.info(
                    "Feedback names the seed of round %d: code that is new from now on gets another", rounds.number
                )
            rounds.close()
            self._looked_at.add((about["assignment"], seed))
        return notebook, resources
