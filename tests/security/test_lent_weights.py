"""The ``freeze_layers`` that a check lends to another exercise stops working when its question is over."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from amllab import layers_of, load_backbone
from amllab.kit.state_dicts import layer_names
from amllab.protocol.submission import InProcessSubmission, SubmissionError

LAYERS = layer_names("net6")
# what a submission keeps of the lent function while its own is called, under the name KEPT, to call it later
CAPTURES = {
    "as it is": "KEPT = freeze_layers",
    "with arguments": "KEPT = partial(freeze_layers)",
    "as a default": "KEPT = lambda model, n, freeze=freeze_layers: freeze(model, n)",
    "in a generator": "def later(freeze):\n    model, n = yield\n    freeze(model, n)\n    yield model\n"
    "waiting = later(freeze_layers)\nnext(waiting)\nKEPT = lambda model, n: waiting.send((model, n))",
    "in a closure": "def keep(freeze):\n    return lambda model, n: freeze(model, n)\nKEPT = keep(freeze_layers)",
    "found by the garbage collector": "import gc\nKEPT = [f for f in gc.get_objects() if type(f).__name__ == 'function' "
    "and f.__name__ == 'freeze_layers' and 'probing' in f.__code__.co_filename][-1]",
    "from the frame of the probe": "import sys\nframe = sys._getframe()\nwhile 'functions' not in frame.f_locals:\n"
    "    frame = frame.f_back\nKEPT = frame.f_locals['functions'].namespace['freeze_layers']",
    "built again of its parts": "from types import FunctionType\nf = freeze_layers\n"
    "KEPT = FunctionType(f.__code__, f.__globals__, 'own', f.__defaults__, f.__closure__)",
}


def asked(capture: str, ends: str = "return model") -> dict[str, Any]:
    """Return the namespace of a notebook whose ``build_transfer_model`` was called and kept the lent function."""
    lines = "\n".join("    " + line for line in capture.splitlines())
    source = (
        "def build_transfer_model(backbone, num_classes, n_trainable):\n    global KEPT\n"
        f"    model = load_backbone(backbone)\n{lines}\n    {ends}\n"
    )
    namespace: dict[str, Any] = {"load_backbone": load_backbone, "partial": partial, "threading": threading}
    exec(source, namespace)
    question = {"backbone": "net6", "num_classes": 10, "n_trainable": 2, "images": torch.zeros(1, 3, 32, 32)}
    try:
        InProcessSubmission("transfer_learning", namespace).ask("build", **question, layers=LAYERS)
    except SubmissionError:
        assert "raise" in ends
    return namespace


def trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("capture", CAPTURES)
def test_lent_function_expires(capture: str) -> None:
    """A lent function that the notebook stores fails after its question and freezes nothing."""
    namespace = asked(CAPTURES[capture])
    model = load_backbone("net6")
    everything = trainable(model)
    with pytest.raises(RuntimeError, match="lent this freeze_layers for one question, which is over"):
        namespace["KEPT"](model, 1)
    assert trainable(model) == everything


def test_lent_function_expires_after_error() -> None:
    """The lent function also fails after a question that ended with an error."""
    namespace = asked("KEPT = freeze_layers", "raise OSError")
    with pytest.raises(RuntimeError, match="which is over"):
        namespace["KEPT"](load_backbone("net6"), 1)


def test_lent_function_expires_in_thread() -> None:
    """A thread that outlives the question cannot use the lent function."""
    namespace = asked(
        "go = threading.Event()\nfound = []\ndef wait(freeze):\n    go.wait()\n    try:\n        freeze(model, 0)\n"
        "    except RuntimeError as error:\n        found.append(error)\n"
        "thread = threading.Thread(target=wait, args=[freeze_layers])\nthread.start()\nKEPT = go, thread, found"
    )
    go, thread, found = namespace["KEPT"]
    go.set()
    thread.join()
    assert len(found) == 1


def test_lent_function_works_while_lent() -> None:
    """While it is lent, the function freezes layers."""
    namespace = asked("KEPT = freeze_layers(model, 1)")
    last = layers_of(namespace["KEPT"])[-1]
    assert len(trainable(namespace["KEPT"])) == len(list(last.parameters()))


@pytest.mark.parametrize("own", ["", "freeze_layers = None\n", "def freeze_layers(model, n):\n    return 'own'\n"])
def test_lent_function_restores_own(own: str) -> None:
    """After the question the notebook has its own function again, even if it deleted the lent one."""
    namespace = {"load_backbone": load_backbone}
    exec(
        own + "def build_transfer_model(*_):\n    del globals()['freeze_layers']\n    return load_backbone('net6')",
        namespace,
    )
    before = namespace.get("freeze_layers")
    question = {"backbone": "net6", "num_classes": 10, "n_trainable": 2, "images": torch.zeros(1, 3, 32, 32)}
    got = InProcessSubmission("transfer_learning", namespace).ask("build", **question, layers=LAYERS)
    assert got["output"] == [1, 10]
    assert namespace.get("freeze_layers") is before
