"""The reference that all grading processes of a run share: its answers and errors arrive where they were requested."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from amllab import layers_of
from amllab.lab import Lab
from amllab.protocol.failure import Failure
from amllab.protocol.submission import InProcessSubmission, SubmissionError
from autograder.errors import IsolationError, ReferenceFailedError, WorkerError
from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceClient, ReferenceServer
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT
from tests.helpers.variants import FREEZE

QUESTION = {"backbone": "net6", "calls": [1]}


class Stand(Reference):
    """Answers with the functions of this process, or fails."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, Path("solution.ipynb"))
        names: dict[str, object] = {"layers_of": layers_of}
        exec(FREEZE, names)
        self.inner = InProcessSubmission(lab.name, names)
        self.fails: Exception | None = None
        self.inside, self.most, self.closed = 0, 0, False

    def exchange(self, question: bytes) -> bytes:
        if self.fails is not None:
            raise self.fails
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1
        return question if question.startswith(b"echo") else self.inner.exchange(question)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def stand(lab: Lab) -> Stand:
    return Stand(lab)


@pytest.fixture
def serving(stand: Stand) -> Iterator[ReferenceServer]:
    serving = ReferenceServer(stand)
    yield serving
    serving.close()


def shared(lab: Lab, serving: ReferenceServer) -> ReferenceClient:
    return ReferenceClient(lab, Path("solution.ipynb"), serving.address)


def test_it_answers_as_the_reference_would(lab: Lab, stand: Stand, serving: ReferenceServer) -> None:
    judge = shared(lab, serving)
    assert judge.ask("freeze", **QUESTION) == stand.inner.ask("freeze", **QUESTION)
    assert judge.failed is None
    judge.close()
    assert judge.ask("freeze", backbone="net6", calls=[2])[0]["returned"] == "model"  # it connects again


def test_judges_get_their_own_answers_one_question_at_a_time(lab: Lab, stand: Stand, serving: ReferenceServer) -> None:
    def ask(number: int) -> list[bool]:
        judge = shared(lab, serving)
        questions = [f"echo {number} {i}".encode() for i in range(20)]
        return [judge.exchange(question) == question for question in questions]

    with ThreadPoolExecutor(6) as pool:
        assert all(all(answers) for answers in pool.map(ask, range(6)))
    assert stand.most == 1


@pytest.mark.parametrize("kind", [ReferenceFailedError, WorkerError, IsolationError])
def test_faults_of_the_course_stay_what_they_are(
    lab: Lab, stand: Stand, serving: ReferenceServer, kind: type[Exception]
) -> None:
    judge, stand.fails = shared(lab, serving), kind("the solution does not exist")
    with pytest.raises(kind, match="the solution does not exist"):
        judge.ask("freeze", **QUESTION)
    assert type(judge.failed) is kind
    stand.fails = None
    assert judge.ask("freeze", **QUESTION)[0]["returned"] == "model"  # the others, and later questions, are not touched


def test_a_solution_without_an_answer_is_a_fault_of_the_course(
    lab: Lab, stand: Stand, serving: ReferenceServer
) -> None:
    stand.fails = SubmissionError("timeout", Failure("the call returns", "no answer within 8 seconds", "it hangs"))
    judge = shared(lab, serving)
    with pytest.raises(
        ReferenceFailedError, match="the reference failed on freeze: timeout: no answer within 8 seconds"
    ):
        judge.ask("freeze", **QUESTION)
    assert isinstance(judge.failed, ReferenceFailedError)


def test_when_it_ends_judges_are_told_and_nothing_is_left(lab: Lab, stand: Stand) -> None:
    serving, before = ReferenceServer(stand), threading.active_count()
    judge = shared(lab, serving)
    judge.ask("freeze", **QUESTION)
    serving.close()
    assert stand.closed
    assert not Path(serving.address).exists()
    assert threading.active_count() <= before
    with pytest.raises(ReferenceFailedError, match="has ended"):
        shared(lab, serving).ask("freeze", **QUESTION)


def test_a_long_class_does_not_use_up_the_time_of_the_reference(lab: Lab) -> None:
    short = replace(lab, limits={**lab.limits, "total_seconds": 30})
    reference = Reference(short, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK)
    try:
        first = reference.ask("freeze", **QUESTION)
        (worker,) = reference._workers
        worker._began -= 16  # seconds that others took
        reference._answers.clear()
        assert reference.ask("freeze", **QUESTION) == first
        assert worker not in reference._workers
    finally:
        reference.close()
