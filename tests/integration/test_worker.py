"""The worker: submissions that hang, die or lie lose only what they break."""

from __future__ import annotations

import dataclasses
import socket
import time
from typing import Any, cast

import nbformat
import pytest
import timm
import torch
from nbformat import NotebookNode

from amllab import backbones  # noqa: F401  (registers net6)
from amllab.lab import Lab
from amllab.protocol.submission import SubmissionError
from autograder.grading.grader import _failed
from autograder.grading.worker import Worker
from autograder.sandbox import lab_imports
from autograder.sandbox.contention import Load
from autograder.sandbox.launcher import Launcher
from tests.conftest import sampled

FREEZE = "def freeze_layers(model, n):\n    {body}\n    return model"
QUESTION = {"backbone": "net6", "calls": [1]}


def notebook(*sources: str) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


@pytest.fixture
def hasty(lab: Lab) -> Lab:
    """The lab with limits of a few seconds."""
    return dataclasses.replace(lab, limits={**lab.limits, "cell_seconds": 8, "answer_seconds": 8})


def test_worker_runs_cells_and_answers(lab: Lab) -> None:
    """Cells that warn or fail do not keep a function from being asked."""
    nb = notebook(
        "import warnings, sys; warnings.warn('w'); print('to stderr', file=sys.stderr)",
        "1 / 0",
        FREEZE.format(body="pass"),
    )
    with Worker(lab, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["returned"] == "model"
    assert nb.cells[1].outputs[0]["ename"] == "ZeroDivisionError"


def test_worker_packages_of_lab(lab: Lab) -> None:
    """The packages that a lab declares are loaded before its workers start, if they import; others do no harm."""
    packages = ["copydetect>=0", "nothing-of-this-name", "not a requirement"]
    loaded = "import sys; print('copydetect' in sys.modules)"
    for declared, expected in (([], "False\n"), (packages, "True\n")):
        nb = notebook(loaded)
        with Worker(dataclasses.replace(lab, settings={**lab.settings, "packages": declared}), nb):
            assert nb.cells[0].outputs[0]["text"] == expected


def test_packages_that_break_on_import() -> None:
    """The server itself does not import packages that fail, hang, exit or start threads."""
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    actions = {
        "x = 1": "",
        "1 / 0": "division by zero",
        "raise SystemExit": "SystemExit",
        "raise KeyboardInterrupt('no')": "no",
        "while True: pass": "did not end within",
        "import os; os._exit(0)": "ended the Python process",
        "import os; os.kill(os.getpid(), 9)": "ended the Python process",
        thread: "starts 1 threads",
        "print('x' * 100_000)": "",
        "raise ValueError('y' * 100_000)": "yyy",
    }
    for source, expected in actions.items():
        reason = lab_imports.trial(lambda source=source: exec(source, {}), 1.0)  # type: ignore[misc]
        assert reason[:18] == expected[:18] if not expected else expected in reason
    assert lab_imports.modules_of(["Pillow>=1", "scikit.no"]) == ["PIL"]


@pytest.mark.slow
def test_worker_hanging_and_exiting_cells(hasty: Lab) -> None:
    """Cells that hang or end the process affect only themselves."""
    nb = notebook("while True: pass", FREEZE.format(body="pass"), "import os; os._exit(3)")
    with Worker(hasty, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["returned"] == "model"
    assert "stopped after 8 seconds" in nb.cells[0].outputs[0]["evalue"]
    assert "ended the Python process" in nb.cells[2].outputs[0]["evalue"]


@pytest.mark.slow
def test_worker_gives_up_after_many_exits(lab: Lab) -> None:
    """After too many cells that end the process, the remaining cells are not run."""
    nb = notebook(FREEZE.format(body="pass"), *["import os; os._exit(1)"] * 14, "x = 1")
    with Worker(lab, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    said = [cell.outputs[0]["evalue"] for cell in nb.cells[1:]]
    assert said[:10] == ["this cell ended the Python process"] * 10
    assert set(said[10:]) == {"not run: too many cells before it hung or ended the Python process"}
    assert got["returned"] == "model"


def test_worker_hanging_and_exiting_answers(hasty: Lab) -> None:
    """Functions that hang or end the process do not affect other answers."""
    nb = notebook(
        FREEZE.format(body="while n == 1: pass"),
        "def build_transfer_model(backbone, num_classes, n):\n    import os; os._exit(1)",
    )
    with Worker(hasty, nb) as worker:
        with pytest.raises(SubmissionError) as slow:
            worker.ask("freeze", **QUESTION)
        with pytest.raises(SubmissionError) as dead:
            worker.ask("build", backbone="net6", num_classes=3, n_trainable=1, images=torch.zeros(2, 3, 32, 32))
        (got,) = worker.ask("freeze", **{**QUESTION, "calls": [2]})
    assert slow.value.kind == "timeout"
    assert "8 seconds" in slow.value.failure.seen
    assert dead.value.kind == "died"
    assert got["returned"] == "model"


def test_worker_failures_above_checks(lab: Lab) -> None:
    """Cells above the last check cell that failed are noted for the student, those below it are not."""
    nb = notebook("# setup\nimport nothing_of_this_name", FREEZE.format(body="pass"), "check()", "1 / 0")
    nb.cells[2].metadata.nbgrader = NotebookNode(
        {
            "grade": True,
            "grade_id": "check_freeze_layers",
            "locked": True,
            "points": 1,
            "solution": False,
            "task": False,
        }
    )
    with Worker(lab, nb, skip=[2]) as worker:
        worker.run_rest()
    assert set(worker.failures_above_checks) == {0}
    (note,) = _failed(worker)
    assert note == (
        "The cell that begins with `# setup` did not run to its end: `ModuleNotFoundError: No module named "
        "'nothing_of_this_name' (line 2: import nothing_of_this_name)`."
    )
    assert nb.cells[3].outputs[0]["ename"] == "ZeroDivisionError"


@pytest.mark.parametrize("busy", sampled(["", "the machine was busy"], 2))
@pytest.mark.slow
def test_worker_function_that_hangs_again(hasty: Lab, monkeypatch: pytest.MonkeyPatch, busy: str) -> None:
    """A function that used up the time of one answer gets less in the next, and others do not.

    On a busy machine it gets all the time once more: there it may just have been slow.
    """
    monkeypatch.setattr(Load, "taken", lambda self, since: busy)
    monkeypatch.setattr(Load, "got", lambda self, since: 1.0)
    nb = notebook(
        FREEZE.format(body="while n == 1: pass"),
        "def build_transfer_model(backbone, classes, n):\n"
        "    import time; time.sleep(6.5)\n    return freeze_layers(None, n)",
    )
    builds = {"backbone": "net6", "num_classes": 3, "images": torch.zeros(2, 3, 32, 32)}
    waited, seen = [], []
    with Worker(hasty, nb) as worker:
        for calls in ([1], [2, 1], [3, 1], [4, 1]):
            began = time.monotonic()
            with pytest.raises(SubmissionError) as info:
                worker.ask("freeze", **{**QUESTION, "calls": calls})
            waited.append(time.monotonic() - began)
            seen.append(info.value.failure.seen)
            assert info.value.kind == "timeout"
        (got,) = worker.ask("freeze", **{**QUESTION, "calls": [2]})
        built = worker.ask("build", **builds, n_trainable=2)  # takes longer than the short limit
    full, again = "no answer within 8 seconds", "`freeze_layers` did not return, and was stopped"
    assert [text[: len(again)] for text in seen] == [full, *([full] if busy else [again]), again, again]
    assert [seconds > 7.5 for seconds in waited] == [True, bool(busy), False, False]
    assert (waited[2] > 4.5) == bool(busy)  # halved, unless the machine is busy
    assert got["returned"] == "model"
    assert built["type"] == "NoneType"


# for each question: seconds, state, seconds of processor time that the process got, and the short limit that applies
ASKED: dict[str, list[tuple[float, str, float, float]]] = {
    "answers in between restore it": [
        (30, "timeout", 30, 5), (5, "again", 5, 5), (2.5, "again", 2.5, 2.5), (0.1, "ok", 0.1, 2), (5, "again", 5, 5),
    ],
    "a slow answer makes it longer": [(9, "ok", 9, 5), (30, "timeout", 30, 18), (18, "again", 18, 18), (9, "ok", 9, 18)],
}  # fmt: skip


@pytest.mark.slow
def test_worker_starved_short_limit(hasty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that a halved limit ends while the machine is busy is put again, with the whole short limit."""
    looks = iter(["", "", "the machine was busy"])
    monkeypatch.setattr(Load, "taken", lambda self, since: next(looks, ""))
    with Worker(hasty, notebook(FREEZE.format(body="while n == 1: pass"))) as worker:
        for calls in ([1], [2, 1]):
            with pytest.raises(SubmissionError):
                worker.ask("freeze", **{**QUESTION, "calls": calls})
        began = time.monotonic()
        with pytest.raises(SubmissionError, match="was stopped"):
            worker.ask("freeze", **{**QUESTION, "calls": [3, 1]})
        assert time.monotonic() - began > 2.5 + 5
        (got,) = worker.ask("freeze", **{**QUESTION, "calls": [2]})
        assert got["returned"] == "model"
        assert worker.crowded == ""


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_worker_short_limits(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[float, str, float, float]]
) -> None:
    """The short limit is halved while nothing is answered, and never less than twice the longest answer."""
    worker = Worker(lab, notebook(FREEZE.format(body="")), launcher=cast(Launcher, object()))
    limits, now = [], [0.0]

    def request(do: str, body: bytes, seconds: float, limit: int, **more: Any) -> tuple[str, bytes, bool]:
        took, state, worker._got, _ = asked[len(limits)]
        limits.append(more["short"])
        now[0] += took
        return state, b"freeze_layers:1", False

    monkeypatch.setattr(worker, "_request", request)
    monkeypatch.setattr("autograder.grading.worker.time.monotonic", lambda: now[0])
    for _ in asked:
        worker.put(b"")
    assert limits == [short for *_, short in asked]


def test_worker_stalled_machine(hasty: Lab) -> None:
    """A kernel that stops for three seconds, as on an overloaded machine, still answers."""
    wake = "import os, signal, time; time.sleep(3); os.kill(os.getppid(), signal.SIGCONT)"
    body = f"""import os, signal, subprocess, sys
    subprocess.Popen([sys.executable, "-c", {wake!r}])
    os.kill(os.getpid(), signal.SIGSTOP)"""
    with Worker(hasty, notebook(FREEZE.format(body=body))) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["returned"] == "model"


def test_worker_error_names_submission_line(lab: Lab) -> None:
    """An error is reported with the line of the submission."""
    question = {"backbone": "net6", "state": timm.create_model("net6", num_classes=5).state_dict()}
    batch = {"images": torch.zeros(8, 3, 32, 32), "labels": torch.zeros(8, dtype=torch.long)}
    with Worker(lab, notebook("def freeze_layers(*arguments):\n    return {}['nothing']")) as worker:
        with pytest.raises(SubmissionError) as info:
            worker.ask("train_frozen", **question, **batch, n_trainable=1, epochs=1, layers=None)
        assert info.value.kind == "raised"
        assert "KeyError" in info.value.failure.seen
        assert "return {}['nothing']" in info.value.failure.seen


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("no frame at all", "unreadable"),
        ("(1 << 40).to_bytes(8, 'big') + b'x'", "unreadable"),
        ("(4).to_bytes(8, 'big') + b'junk'", "unreadable"),
        ("(200_000).to_bytes(8, 'big') + b'[' * 200_000", "unreadable"),
        ("(19).to_bytes(8, 'big') + b'{\"state\": \"perfect\"}'[:19]", "unreadable"),
        ("(16).to_bytes(8, 'big') + b'{\"state\": \"ok\"}'", "unreadable"),
        ("(27).to_bytes(8, 'big') + b'{\"state\": \"again\"}\\nfreeze:1'", "unreadable"),
        ("", "died"),
    ],
)
def test_worker_forged_replies(hasty: Lab, monkeypatch: pytest.MonkeyPatch, reply: str, kind: str) -> None:
    """Forged replies of a compromised worker count as wrong answers; the test reads the socket directly."""
    data = eval(reply) if reply and "no frame" not in reply else reply.encode() * 40
    with Worker(hasty, notebook("x = 1")) as worker:
        assert worker._tree is not None
        worker._tree.connection.close()
        worker._tree.connection, theirs = socket.socketpair()
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(SubmissionError) as info:
            worker.ask("freeze", **QUESTION)
        theirs.close()
    assert info.value.kind == kind


@pytest.mark.slow
def test_worker_silent_is_killed(hasty: Lab) -> None:
    """A worker that stops answering is killed at the limit."""
    nb = notebook("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)", FREEZE.format(body="pass"))
    with Worker(hasty, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["returned"] == "model"
    assert "stopped after 8 seconds" in nb.cells[0].outputs[0]["evalue"]


@pytest.mark.slow
def test_worker_close_starts_no_server(lab: Lab) -> None:
    """Closing a worker after its launcher starts no new fork server."""
    launcher = Launcher()
    worker = Worker(lab, notebook("x = 1"), launcher=launcher).__enter__()
    launcher.close()  # at the end of a run, things are closed in any order
    worker.close()
    assert launcher._server is None


def test_worker_internal_error_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An internal error of a worker is logged on one short line."""
    said = b'{"state": "broken"}\n' + b"x" * 5000 + b"\nValueError: an own fault\nWARNING no line of its own"
    assert Worker._read(said) == ("unreadable", b"", False)
    (line,) = caplog.messages
    assert line.startswith("a worker raised an internal error: 'xxx")
    assert "\\nValueError: an own fault\\nWARNING no line of its own" in line
    assert "\n" not in line
    assert len(line) < 2000


def test_worker_reply_header_limit() -> None:
    """A long header is not parsed: as JSON it could take many times its size in the grader's memory."""
    assert Worker._read(b'{"state": "ok"}\nbody') == ("ok", b"body", False)
    assert Worker._read(b'{"state": "ok"' + b" " * 1000 + b"}\nbody") == ("unreadable", b"", False)
