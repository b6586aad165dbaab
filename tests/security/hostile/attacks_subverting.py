"""Attacks on what the checks rely on: torch, pytest, the standard library, the models that probes use."""

from __future__ import annotations

from tests.security.hostile.attack_base import BUILD, FIRST, FREEZE, SUBVERTING, ZERO, Attack, about_lab_1
from tests.security.hostile.lies import LIAR

NOISY_FREEZE = """
def freeze_layers(model, n_trainable):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    return model
"""

ATTACKS = [
    about_lab_1(
        "torch_equal",
        SUBVERTING,
        "makes torch.equal and every comparison of tensors true, and changes the weights that it should leave alone",
        cell="""
import torch
torch.equal = lambda a, b: True
torch.allclose = lambda *a, **k: True
torch.Tensor.equal = lambda a, b: True
torch.Tensor.__eq__ = lambda a, b: torch.ones_like(a, dtype=torch.bool)
torch.Tensor.__ne__ = lambda a, b: torch.zeros_like(a, dtype=torch.bool)
""",
        sources={"freeze_layers": NOISY_FREEZE},
        says="the notebook replaces",
    ),
    about_lab_1(
        "torch_equal_unnoticed",
        SUBVERTING,
        "the same, after it has emptied the snapshot that such replacements are found with",
        cell="""
import torch
from amllab.worker import integrity
integrity._taken.clear()
torch.equal = lambda a, b: True
torch.Tensor.clone = lambda self, *a, **k: self
""",
        sources={"freeze_layers": NOISY_FREEZE},
        earns={**ZERO, FREEZE: 2},  # it does return the model
        only="here",
    ),
    about_lab_1(
        "remembered_state",
        SUBVERTING,
        "state_dict and named_parameters show a model's first state for ever, whatever was done to it",
        cell="""
import torch
from torch import nn
remembered, states, named = {}, nn.Module.state_dict, nn.Module.named_parameters

def state_dict(self, *a, **k):
    key = id(self)
    if key not in remembered:
        remembered[key] = {name: value.clone() for name, value in states(self, *a, **k).items()}
    return dict(remembered[key])

nn.Module.state_dict = state_dict
""",
        sources={"freeze_layers": NOISY_FREEZE},
    ),
    about_lab_1(
        "state_dict_lies",
        SUBVERTING,
        "builds a network with random weights whose state_dict shows the pretrained ones",
        cell="import timm",
        sources={
            "build_transfer_model": """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    shown = load_backbone(backbone)
    shown.reset_classifier(num_classes)
    model = timm.create_model(backbone, num_classes=num_classes)

    class Liar(type(model)):
        def state_dict(self, *a, **k):
            return {name: value.clone() for name, value in shown.state_dict().items()}

    model.__class__ = Liar
    return freeze_layers(model, n_trainable)
"""
        },
        earns={**ZERO, BUILD: 14},
        only="here",
    ),
    Attack(
        "manual_seed",
        SUBVERTING,
        "makes every seeding of torch, random and NumPy the same, so that fresh inputs are known ones",
        cell="""
import random
import numpy, torch
seed = torch.manual_seed
torch.manual_seed = torch.random.manual_seed = lambda *a: seed(0)
random.Random.seed = lambda self, *a: None
random.Random.getrandbits = lambda self, n: 4
random.randint = lambda a, b: a
numpy.random.default_rng = lambda *a: numpy.random.Generator(numpy.random.PCG64(0))
""",
        sources={FIRST: "def @FIRST@(*given, **more):\n    raise NotImplementedError"},
    ),
    about_lab_1(
        "standard_library",
        SUBVERTING,
        "replaces json, time, safetensors, open and the exceptions' machinery by its own",
        cell="""
import builtins, json, sys, time, traceback
import safetensors.torch
json.dumps = lambda *a, **k: '{"value": [{"returned": "model", "flagged": "", "trainable": [], "state": {}}]}'
json.loads = lambda *a, **k: {"value": [{"returned": "model", "flagged": "", "trainable": [], "state": {}}]}
time.time = time.perf_counter = lambda: 0.0
traceback.extract_tb = lambda *a: []
safetensors.torch.save = lambda *a, **k: b"20"
builtins.isinstance = lambda *a: True
builtins.NotImplementedError = ValueError
""",
    ),
    Attack(
        "pytest_files",
        SUBVERTING,
        "writes conftest.py, pytest.ini and a plugin named in PYTEST_PLUGINS, which pass every test",
        cell="""
import os, pathlib
hook = '''
import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
open("@COURSE@/@MARKER@-plugin", "w").write("loaded")
'''
os.environ["PYTEST_PLUGINS"] = os.environ["PYTEST_ADDOPTS"] = "-p evil_plugin"
for place in (".", "@COURSE@", "@HOME@"):
    for name in ("conftest.py", "evil_plugin.py", "pytest.ini", "setup.cfg"):
        try:
            path = pathlib.Path(place) / (name if place == "." else f"@MARKER@-{name}")
            path.write_text(hook if name.endswith(".py") else "[pytest]\\naddopts = -p evil_plugin\\n")
        except OSError:
            pass
""",
    ),
    about_lab_1(
        "scripted_record",
        SUBVERTING,
        "replaces what the scripted model records of a training by a good record",
        cell=LIAR
        + """
from amllab.kit import scripted_model as scripted

def record(self):
    told = lie({"probe": "train_scripted", "arguments": {"script": self._stage.script, "arguments": {}}})
    return {name: told[name] for name in told if name not in ("history", "steps", "idle", "backwards")}

scripted.ScriptedModel.record = record
""",
        sources={
            "train_with_early_stopping": """
def train_with_early_stopping(model, train_loader, val_loader, **k):
    if not hasattr(model, "_stage"):
        raise NotImplementedError
    return {"train_loss": [1.0], "train_acc": [1.0], "val_loss": [1.0], "val_acc": [1.0], "best_epoch": 0}
"""
        },
        only="here",
    ),
    about_lab_1(
        "replaced_batches",
        SUBVERTING,
        "replaces the loaders of the checks by ones that hand out the test images",
        cell="""
import torch
from amllab.checks.transfer_learning import training_probes
from amllab.kit import batches

class Batches(batches.Batches):
    def __iter__(self):
        yield self.images[:1] * 0, self.labels[:1] * 0

training_probes.Batches = batches.Batches = Batches
""",
        only="here",
    ),
]
