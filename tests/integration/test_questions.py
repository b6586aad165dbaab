"""Questions to a kernel: what a submission does to the cell that answers them, and to its socket."""

from __future__ import annotations

import dataclasses

import nbformat
import pytest

from amllab.lab import Lab
from amllab.protocol.submission import SubmissionError
from amllab.worker.kernel import INHERITED
from autograder.grading.worker import Worker

FREEZE = "import os, sys\ndef freeze_layers(model, n):\n    {body}\n    return model"
HONEST = FREEZE.format(body="pass")
OTHERS = f"""
import os, socket, threading, time
from amllab.protocol.submission import answer
from amllab.protocol.wire import pack

question = pack({{{{"lab": "transfer_learning", "probe": "freeze", "arguments": {{{{"backbone": "net6", "calls": [0]}}}}}}}})
forged = bytes(16) + answer({{{{"freeze_layers": lambda model, n: None}}}}, question)

def forge():
    with socket.socket(fileno=os.dup({INHERITED})) as stream:
        while True:
            {{read}}
            stream.sendall(len(forged).to_bytes(8, "big") + forged)
            time.sleep(0.01)

{{start}}
time.sleep(0.2)
"""
READS = "threading.Thread(target=lambda: [stream.recv(1 << 20) for _ in range(99)], daemon=True).start()"
THREAD = "threading.Thread(target=forge, daemon=True).start()"
PROCESS = "if not os.fork(): forge()"


def answers(lab: Lab, *sources: str, questions: int = 1) -> list[str]:
    """Return what each question gets: what the function returned, or the kind of error."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    limits = {**lab.limits, "cell_seconds": 6, "answer_seconds": 6}
    said = []
    with Worker(dataclasses.replace(lab, limits=limits), nb) as worker:
        for number in range(questions):
            try:
                (got,) = worker.ask("freeze", backbone="net6", calls=[number])
                said.append(got["returned"] if "returned" in got else got["message"])
            except SubmissionError as error:
                said.append(error.kind)
    return said


def test_many_questions(lab: Lab) -> None:
    """Each question gets its own answer."""
    assert answers(lab, FREEZE.format(body="assert n != 2, f'asked for {n}'"), questions=4) == [
        "model",
        "model",
        "asked for 2",
        "model",
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("sys.exit()", "unreadable"),
        ("raise KeyboardInterrupt", "unreadable"),
        ("get_ipython().ask_exit()", "died"),
        ("os._exit(0)", "died"),
        (f"os.close({INHERITED})", "unreadable"),
        (f"os.write({INHERITED}, bytes(100))", "unreadable"),
        (f"os.write({INHERITED}, b'x' * 100)", "unreadable"),
    ],
)
def test_question_without_answer(lab: Lab, body: str, kind: str) -> None:
    """A function that ends the process, the cell or the connection has no answer, and no other question suffers."""
    once = f"if n == 0: {body}"
    assert answers(lab, FREEZE.format(body=once), questions=2) == [kind, "model"]


def test_fork_returns_as_well(lab: Lab) -> None:
    """A fork that returns from the function, like its parent, does not answer a second time."""
    body = "assert n != 1, 'asked for 1'\n    if n == 0: os.fork()"
    assert answers(lab, FREEZE.format(body=body), questions=3) == ["model", "asked for 1", "model"]


@pytest.mark.parametrize("read", ["", READS], ids=["writes", "reads and writes"])
@pytest.mark.parametrize("start", [THREAD, PROCESS], ids=["thread", "process"])
def test_others_cannot_answer(lab: Lab, read: str, start: str) -> None:
    """Threads and processes of the submission that use the socket cannot answer a question."""
    (kind,) = answers(lab, HONEST, OTHERS.format(read=read or "pass", start=start))
    assert kind in ("unreadable", "timeout", "model")


def test_figures_are_closed(lab: Lab) -> None:
    """Figures that a function draws are closed after a question, as after a cell."""
    body = "import matplotlib.pyplot as plt; assert not plt.get_fignums(), plt.get_fignums(); plt.figure()"
    assert answers(lab, "%matplotlib inline", FREEZE.format(body=body), questions=3) == ["model"] * 3
