"""The reference that all grading processes of a run share: answers and errors reach the client that asked."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
from autograder.checks.transfer_learning.corpus import FREEZE
from autograder.errors import IsolationError, ReferenceFailedError, WorkerError
from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceClient, ReferenceServer
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT

QUESTION = {"backbone": "net6", "calls": [1]}


class FakeReference(Reference):
    """A reference that answers with functions of this process, or fails."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, Path("solution.ipynb"))
        names: dict[str, object] = {"layers_of": layers_of}
        exec(FREEZE, names)
        self.inner = InProcessSubmission(lab.name, names)
        self.fails: Exception | None = None
        self.inside, self.most, self.closed = 0, 0, False
        self.started = threading.Event()

    def start(self) -> None:
        self.started.set()

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
def fake(lab: Lab) -> FakeReference:
    return FakeReference(lab)


@pytest.fixture
def serving(fake: FakeReference) -> Iterator[ReferenceServer]:
    serving = ReferenceServer(fake)
    yield serving
    serving.close()


def shared(lab: Lab, serving: ReferenceServer) -> ReferenceClient:
    return ReferenceClient(lab, Path("solution.ipynb"), serving.address)


def test_server_answers_like_reference(lab: Lab, fake: FakeReference, serving: ReferenceServer) -> None:
    """The server answers like the reference, and a closed client connects again."""
    client = shared(lab, serving)
    assert client.ask("freeze", **QUESTION) == fake.inner.ask("freeze", **QUESTION)
    assert client.failed is None
    client.close()
    assert client.ask("freeze", backbone="net6", calls=[2])[0]["returned"] == "model"  # it connects again


def test_server_concurrent_clients(lab: Lab, fake: FakeReference, serving: ReferenceServer) -> None:
    """Concurrent clients get their own answers, and the reference gets one question at a time."""

    def ask(number: int) -> list[bool]:
        client = shared(lab, serving)
        questions = [f"echo {number} {i}".encode() for i in range(20)]
        return [client.exchange(question) == question for question in questions]

    with ThreadPoolExecutor(6) as pool:
        assert all(all(answers) for answers in pool.map(ask, range(6)))
    assert fake.most == 1


@pytest.mark.parametrize("kind", [ReferenceFailedError, WorkerError, IsolationError])
def test_server_preserves_error_types(
    lab: Lab, fake: FakeReference, serving: ReferenceServer, kind: type[Exception]
) -> None:
    """Errors of the course keep their type on the way to the client."""
    client, fake.fails = shared(lab, serving), kind("the solution does not exist")
    with pytest.raises(kind, match="the solution does not exist"):
        client.ask("freeze", **QUESTION)
    assert type(client.failed) is kind
    fake.fails = None
    # other clients and later questions are not affected
    assert client.ask("freeze", **QUESTION)[0]["returned"] == "model"


def test_server_reference_without_answer(lab: Lab, fake: FakeReference, serving: ReferenceServer) -> None:
    """A reference that does not answer is an error of the course."""
    fake.fails = SubmissionError("timeout", Failure("the call returns", "no answer within 8 seconds", "it hangs"))
    client = shared(lab, serving)
    with pytest.raises(
        ReferenceFailedError, match="the reference failed on freeze: timeout: no answer within 8 seconds"
    ):
        client.ask("freeze", **QUESTION)
    assert isinstance(client.failed, ReferenceFailedError)


def test_server_close(lab: Lab, fake: FakeReference) -> None:
    """Closing the server also closes the reference, socket and threads; later clients get an error."""
    serving, before = ReferenceServer(fake), threading.active_count()
    client = shared(lab, serving)
    client.ask("freeze", **QUESTION)
    serving.close()
    assert fake.closed
    assert not Path(serving.address).exists()
    assert threading.active_count() <= before
    with pytest.raises(ReferenceFailedError, match="has ended"):
        shared(lab, serving).ask("freeze", **QUESTION)


def test_server_with_long_temporary_folder(
    lab: Lab, fake: FakeReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the server is short enough for a socket, whatever the name of the temporary folder."""
    (long_folder := tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long_folder))
    serving = ReferenceServer(fake)
    assert shared(lab, serving).exchange(b"echo") == b"echo"
    serving.close()
    assert not Path(serving.address).parent.exists()


def test_server_closed_at_exit() -> None:
    """A server that is closed while Python exits, as that of a run, closes without an error."""
    script = """if True:
        import weakref
        class Run: pass
        run = Run()
        weakref.finalize(run, lambda: run_end()).atexit = True  # before anything of the server registers for the exit
        from autograder.grading.reference_server import ReferenceServer
        class Fake:
            def start(self): pass
            def close(self): print("closed")
        server = ReferenceServer(Fake())
        run_end = server.close
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)


def test_server_starts_reference(fake: FakeReference, serving: ReferenceServer) -> None:
    """The server starts the reference before the first question."""
    assert fake.started.wait(10)


def test_reference_start(lab: Lab, tmp_path: Path) -> None:
    """A reference that was started answers without another process; otherwise, the first question says why."""
    reference = Reference(lab, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK)
    try:
        reference.start()
        (worker,) = reference._workers
        reference.reach("check_freeze_layers")
        reference.ask("freeze", **QUESTION)
        assert reference._workers == [worker]
    finally:
        reference.close()
    missing = Reference(lab, tmp_path / NOTEBOOK)
    missing.start()
    with pytest.raises(ReferenceFailedError, match="does not exist"):
        missing.ask("freeze", **QUESTION)


def test_reference_worker_is_renewed(lab: Lab) -> None:
    """The worker is replaced before a long session exceeds the time limit of the reference."""
    short = replace(lab, limits={**lab.limits, "total_seconds": 30})
    reference = Reference(short, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK)
    try:
        first = reference.ask("freeze", **QUESTION)
        (worker,) = reference._workers
        worker._began -= 16  # seconds used by other submissions
        reference._answers.clear()
        assert reference.ask("freeze", **QUESTION) == first
        assert worker not in reference._workers
    finally:
        reference.close()
