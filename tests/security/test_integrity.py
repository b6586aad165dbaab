"""Notebooks that replace functions which the checks rely on: they are noticed, and get no answer."""

from __future__ import annotations

import dataclasses
import marshal

import nbformat
import pytest
import torch

from amllab.lab import Lab, find_lab
from amllab.protocol.submission import SubmissionError
from amllab.protocol.wire import pack, unpack
from amllab.worker import integrity
from autograder.errors import LabError
from autograder.grading.worker import Worker
from tests.helpers.in_process import submission


@pytest.fixture
def snapshot() -> integrity.Identities:
    return integrity.identities(find_lab("transfer_learning"))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch.equal = lambda *a: True", "torch.equal"),
        ("torch.nn.Module.state_dict = lambda self: {}", "torch.nn.Module.state_dict"),
        ("torch.Tensor.__eq__ = lambda a, b: True", "torch.Tensor.__eq__"),
        ("import json; json.dumps = lambda *a, **k: ''", "json.dumps"),
        ("import marshal; marshal.loads = lambda *a, f=marshal.loads: f(*a)", "marshal.loads"),
        (
            "from amllab.kit import scripted_model as scripted; scripted.ScriptedModel.record = lambda self: {}",
            "amllab.kit.scripted_model.ScriptedModel.record",
        ),
        (
            "from amllab.checks.transfer_learning import probes; probes.freeze.__code__ = (lambda *a, **k: []).__code__",
            "amllab.checks.transfer_learning.probes.freeze",
        ),
    ],
)
def test_integrity_names_replaced_functions(lab: Lab, snapshot: integrity.Identities, line: str, name: str) -> None:
    """Replaced functions that the checks use are named."""
    from amllab.checks.transfer_learning import probes
    from amllab.kit import scripted_model as scripted

    restore = [(torch, "equal"), (torch.nn.Module, "state_dict"), (__import__("json"), "dumps"), (marshal, "loads")]
    kept = [(owner, attribute, getattr(owner, attribute)) for owner, attribute in restore]
    kept += [(scripted.ScriptedModel, "record", scripted.ScriptedModel.record)]
    own_eq, code = torch.Tensor.__dict__.get("__eq__"), probes.freeze.__code__
    honest = submission(lab)
    asked = pack({"lab": lab.name, "probe": "freeze", "arguments": {"backbone": "net6", "calls": [1]}})
    exec(line, {"torch": torch})
    try:
        found = integrity.replaced(snapshot)
    finally:
        for owner, attribute, value in kept:
            setattr(owner, attribute, value)
        probes.freeze.__code__ = code
        if own_eq is not None:
            torch.Tensor.__eq__ = own_eq  # type: ignore[method-assign,assignment]
        elif "__eq__" in torch.Tensor.__dict__:
            del torch.Tensor.__eq__
    assert found == name
    assert integrity.replaced(snapshot) == ""
    assert "value" in unpack(honest.exchange(asked))


def test_integrity_replaced_function_no_answer(lab: Lab) -> None:
    """A replaced function makes the answer fail as tampered."""
    lines = {
        "import torch; torch.arange = lambda *a: None": "torch.arange",
        "import amllab.protocol.submission as s; s.answer = print": "amllab.protocol.submission.answer",
        "import builtins; builtins.__import__ = lambda *a, f=__import__, **k: f(*a, **k)": "builtins.__import__",
        "import marshal; marshal.loads = lambda *a, f=marshal.loads: f(*a)": "marshal.loads",
    }
    for line, name in lines.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line)])
        with Worker(lab, notebook) as worker, pytest.raises(SubmissionError) as info:
            worker.ask("freeze", backbone="net6", calls=[1])
        assert info.value.kind == "tampered"
        assert f"`{name}`" in info.value.failure.seen


def declaring(lab: Lab, *names: str) -> Lab:
    """Return the lab with further trusted functions."""
    return dataclasses.replace(lab, settings={**lab.settings, "probes": {"trusted": [*lab.trusted, *names]}})


@pytest.mark.parametrize(
    ("name", "line", "seen"),
    [
        ("torch.autograd.grad", "torch.autograd.grad = lambda *a, **k: (None, None)", "torch.autograd.grad"),
        ("torch.autograd.grad", "torch.autograd = type('A', (), {'grad': print})", "torch.autograd"),
        (
            "torch.autograd.grad",
            "import sys, types; real = torch; fake = sys.modules['torch'] = types.ModuleType('torch')\n"
            "vars(fake).update(vars(real)); real.autograd = types.SimpleNamespace(grad=print)",
            "torch",
        ),
        (
            "torch.autograd.grad",
            "import amllab.checks.transfer_learning.probes as p; p.torch = type('T', (), {})",
            "amllab.checks.transfer_learning.probes.torch",
        ),
        ("torch.Tensor.backward", "torch.Tensor.backward.__code__ = (lambda self, *a: None).__code__", ""),
        ("collections.Counter.most_common", "import collections; collections.Counter.most_common = print", ""),
        ("numpy.random.Generator.normal", "import numpy; numpy.random.Generator = dict", ""),
        ("torch.utils.data.Dataset.__class_getitem__", "torch.utils.data.Dataset.__class_getitem__ = 3", ""),
    ],
)
def test_integrity_declared_by_lab(lab: Lab, name: str, line: str, seen: str) -> None:
    """Replacing a function that a lab declares as trusted is noticed, however it is done."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"import torch\n{line}")])
    with Worker(declaring(lab, name), notebook) as worker, pytest.raises(SubmissionError) as info:
        worker.ask("freeze", backbone="net6", calls=[1])
    assert info.value.kind == "tampered"
    assert f"`{seen or name}`" in info.value.failure.seen


def test_integrity_trusted_functions_of_lab_1(lab: Lab) -> None:
    """Lab 1's list has all functions that were trusted before labs had lists."""
    names = "full manual_seed randperm Generator is_tensor autocast equal Tensor.norm Tensor.__eq__ nn.Linear.forward"
    names += " nn.functional.cross_entropy nn.Module.state_dict optim.Optimizer.__init__ nn.Parameter.__new__"
    known = {f"{owner}.{name}" for owner, found in integrity.identities(lab).items() for name in found}
    assert {f"torch.{name}" for name in names.split()} | {"timm.create_model", "builtins.len"} <= known


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("torch.autograd.gradient", "torch.autograd has no gradient"),
        ("no_such_package.function", "no_such_package does not import: No module named 'no_such_package'"),
        ("torch.autograd", "it is a module: name its functions"),
        ("len", "it must be the name of a function with its module"),
        ("torch..grad", "it must be the name of a function with its module"),
        ("torch.nn.Module.forward.x", "torch.nn.Module.forward has no x"),
    ],
)
def test_integrity_unknown_declared_names(lab: Lab, name: str, reason: str) -> None:
    """The error for a declared name that is not a function gives the name and the reason."""
    with pytest.raises(LookupError, match=r"probes\.trusted") as info:
        integrity.identities(declaring(lab, name))
    assert f"transfer_learning/lab.toml: probes.trusted: {name!r}: {reason}" in str(info.value)
    with (
        pytest.raises(LabError, match=r"probes\.trusted"),
        Worker(declaring(lab, name), nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])),
    ):
        pass


@pytest.mark.parametrize(
    "prelude",
    [
        "torch.nn.Module.n_parameters = lambda self: sum(p.numel() for p in self.parameters())",
        "class Tensor(torch.Tensor): __eq__ = lambda a, b: True",
        "class Linear(torch.nn.Linear):\n    def forward(self, x): return super().forward(x)",
        "import warnings, matplotlib; warnings.filterwarnings('ignore')",
        "import torch._dynamo, torch.func",
        "from amllab import *; check = 3; print = repr",
    ],
)
def test_integrity_ordinary_notebooks(lab: Lab, snapshot: integrity.Identities, prelude: str) -> None:
    """Ordinary notebooks that add or subclass functions are not reported."""
    assert "error" not in submission(lab, prelude).ask("freeze", backbone="net6", calls=[1])[0]
    assert integrity.replaced(snapshot) == ""
    if hasattr(torch.nn.Module, "n_parameters"):
        del torch.nn.Module.n_parameters
