"""Exercise 3: a mistake costs its documented points once and is named; common tools cost nothing."""

from __future__ import annotations

import copy
import io
import math
import random
from functools import cache
from typing import Any

import pytest
import torch

from amllab import layers_of, load_backbone, scripted_training
from amllab.checks.render import to_text
from amllab.checks.results import CheckResult
from amllab.checks.transfer_learning.training_runs import _to_be_stopped, _to_be_trained
from amllab.kit.batches import Batches
from amllab.kit.history import plain_history
from amllab.kit.scripted_model import ScriptedModel
from amllab.kit.scripts import how_changed, make_script
from amllab.kit.training_journal import Journal
from amllab.lab import find_lab
from amllab.numerics import without_compiling
from autograder.authoring.study.checker import Checker
from autograder.authoring.study.materials import Materials
from autograder.checks.transfer_learning.corpus import MISTAKES, PLAIN, TRAIN
from autograder.course import Course
from tests.conftest import ROOT, sampled

EXERCISE = "train_with_early_stopping"


@cache
def checker() -> Checker:
    return Checker(Materials.of(Course.find(ROOT), find_lab("transfer-learning")), 11, (EXERCISE,))


def changed(*texts: str) -> str:
    """Return the plain correct function with texts replaced: old, new, old, new, ..."""
    source = TRAIN
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def results(source: str, only: str = "") -> list[CheckResult]:
    return checker().results({**PLAIN, EXERCISE: source}, only)


_BATCH = "            images, labels = images.to(device), labels.to(device)\n            optimizer.zero_grad()\n"
_LISTS = "    return history"
MISTAKES_HERE = {
    "flips the batch": (changed(_BATCH, _BATCH + "            images = images.flip(-1)\n"), 3, "mirror images"),
    "mixes the batch": (
        changed(_BATCH, _BATCH + "            images = 0.7 * images + 0.3 * images.roll(1, 0)\n"),
        3,
        "mixtures of two images",
    ),
    "normalises the batch": (changed(_BATCH, _BATCH + "            images = (images - 0.5) / 0.25\n"), 3, "scaled, shifted or normalised"),
    "adds noise": (changed(_BATCH, _BATCH + "            images = images + 0.1 * torch.randn_like(images)\n"), 3, "noisy, turned, moved"),
    "enlarges the batch": (changed(_BATCH, _BATCH + "            images = F.interpolate(images, 8)\n"), 3, "of another size"),
    "leaves out the last batch": (changed("in train_loader:", "in list(train_loader)[:-1]:"), 3, "the last batch is left out"),
    "leaves out small batches": (
        changed(_BATCH, _BATCH.replace("            optimizer.zero_grad()\n", "            if len(images) < 4: continue\n            optimizer.zero_grad()\n")),
        2,
        "the batch that is smaller than the others is left out",
    ),
    "starts from a best loss of 10": (changed('float("inf"), 0, 0', "10.0, 0, 0"), 2, "a number such as 10"),
    "patience begins late": (changed("            waited += 1\n", "            waited += epoch >= 3\n"), 5, "the first 3 epochs use up no patience"),
    "keeps every state": (
        changed("        model.eval()\n        total", "        model.eval()\n        state = copy.deepcopy(model.state_dict())\n        total",
                "    model.load_state_dict(best_state)", "    model.load_state_dict(state)", "            if waited >= patience:\n",
                "            state = copy.deepcopy(model.state_dict())\n            if waited >= patience:\n"),
        4,
        "with a copy of the last weights",
    ),
    "puts the weights back only after stopping early": (
        changed("            if waited >= patience:\n                break\n", "            if waited >= patience:\n                model.load_state_dict(best_state)\n                break\n",
                "    model.load_state_dict(best_state)\n    history", "    history"),
        4,
        "here max_epochs ends the training",
    ),
    "adds up means": (
        changed('F.cross_entropy(logits, labels, reduction="sum").item()', "F.cross_entropy(logits, labels).item()"),
        2,
        "multiplied by its size",
    ),
    "lowest loss": (changed('history["best_epoch"] = best_epoch', 'history["best_epoch"] = history["val_loss"].index(min(history["val_loss"]))'), 2, "epoch of the lowest loss"),
    "decays frozen weights": (
        changed("            optimizer.step()\n", "            optimizer.step()\n            with torch.no_grad():\n                for p in model.parameters(): p.mul_(0.9999)\n"),
        3,
        "does weight decay reach frozen weights?",
    ),
    "erases a part": (
        changed(_BATCH, _BATCH + "            images = images.clone(); images[:, :, 1:3, 1:3] = 0\n"),
        3,
        "partly erased",
    ),
    "training figures of a second pass": (
        changed('history["train_acc"].append(hits / n)', 'history["train_acc"].append(evaluate(model, train_loader)["accuracy"])'),
        2,
        "second pass, after the epoch",
    ),
    "figures of all epochs so far": (
        changed("        total, hits, n = 0.0, 0, 0\n        for", "        if epoch == 0: sums = [0.0, 0]\n        total, hits, n = 0.0, 0, 0\n        for",
                'history["train_loss"].append(total / n)', 'sums[0] += total; sums[1] += n\n        history["train_loss"].append(sums[0] / sums[1])'),
        2,
        "mean over all epochs so far",
    ),
    "arrays in the history": (
        changed(_LISTS, "    import numpy\n    return {k: numpy.array(v) if isinstance(v, list) else v for k, v in history.items()}"),
        1,
        "ndarray of float",
    ),
    "tuples in the history": (
        changed(_LISTS, "    return {k: tuple(v) if isinstance(v, list) else v for k, v in history.items()}"), 1, "tuple of float"),
    "size of the dataset": (changed("val_loss = total / n", "val_loss = total / len(val_loader.dataset)"), 3, "a list of batches has no `.dataset`"),
    "stops before the figures": (
        changed('        history["val_loss"].append(val_loss)\n', "", "            if waited >= patience:\n                break\n",
                '            if waited >= patience:\n                break\n        history["val_loss"].append(val_loss)\n'),
        2,
        "Is `break` reached before",
    ),
    "no step": (changed("            optimizer.step()\n", ""), 3, "is `optimizer.step()` missing?"),
    "no backward": (changed("            loss.backward()\n", ""), 3, "is `loss.backward()` missing"),
    "a step for two batches": (
        changed("            optimizer.zero_grad()\n", "", "            optimizer.step()\n",
                "            step = locals().get('step', 0) + 1\n            if step % 2 == 0:\n                optimizer.step(); optimizer.zero_grad()\n"),
        3,
        "gradients were accumulated",
    ),
    "max_epochs ignored": (changed("range(max_epochs)", "range(50)"), 3, "is `max_epochs` used?"),
    "nothing returned": (changed(_LISTS, ""), 5, "is `return history` missing?"),
    "trains on validation too": (changed("in train_loader:", "in list(train_loader) + list(val_loader):"), 3, "validation data must not"),
    "small improvements ignored": (changed("best_loss - min_delta", "best_loss - max(min_delta, 1e-3)"), 2, "epochs"),
    "every BatchNorm in eval mode": (changed("not m.weight.requires_grad", "True"), 3, "the trainable ones too?"),
}  # fmt: skip


@pytest.mark.parametrize("name", sampled(MISTAKES_HERE, 32))
def test_mistake_charged_once_and_named(name: str) -> None:
    """A mistake costs its points, mostly in one check, and the report names it."""
    source, points, says = MISTAKES_HERE[name]
    found = results(source)
    assert sum(r.points - r.earned for r in found) == points, to_text([r for r in found if r.outcome != "passed"])
    assert says in to_text(found)
    assert not [r.name for r in found if r.outcome == "error"]


_EMA = """
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
"""
CORRECT_HERE = {
    "a checkpoint of the whole model": changed(
        "best_state = copy.deepcopy(model.state_dict())", "best_state = saved(model)")
    + "\nimport io\ndef saved(model):\n    file = io.BytesIO(); torch.save(model, file); file.seek(0)\n"
    "    return torch.load(file, weights_only=False).state_dict()\n",
    "compiled": changed("    params =", "    compiled = torch.compile(model)\n    params =", "logits = model(images)", "logits = compiled(images)"),
    "line search": changed("torch.optim.AdamW(params, lr=lr)", "torch.optim.LBFGS(params, lr=lr, line_search_fn='strong_wolfe')",
        "            optimizer.zero_grad()\n            logits = model(images)\n            loss = F.cross_entropy(logits, labels)\n"
        "            loss.backward()\n            optimizer.step()\n",
        "            def closure():\n                nonlocal logits, loss\n                optimizer.zero_grad()\n"
        "                logits = model(images)\n                loss = F.cross_entropy(logits, labels)\n"
        "                loss.backward()\n                return loss\n            optimizer.step(closure)\n",
        "    device =", "    logits = loss = None\n    device ="),
    "first epoch without steps": changed("        model.train()\n", "        for group in optimizer.param_groups:\n"
        "            group['lr'] = lr * min(epoch, 1)\n        model.train()\n"),
    "layers_of in the loop": changed("        for m in model.modules():\n            if isinstance(m, torch.nn.BatchNorm2d) and not m.weight.requires_grad:\n",
        "        for m in [m for layer in layers_of(model) if not any(p.requires_grad for p in layer.parameters()) for m in layer.modules()]:\n            if True:\n"),
    "train mode where weights are trainable": changed("        model.train()\n", "        model.eval()\n        for m in model.modules():\n"
        "            m.train() if any(p.requires_grad for p in m.parameters(recurse=False)) else None\n"),
    "double precision figures": changed("total / n)", "__import__('numpy').float64(total / n))"),
}  # fmt: skip


@pytest.mark.parametrize("name", sampled(CORRECT_HERE, 16))
def test_common_tools_cost_nothing(name: str) -> None:
    """Common tools and styles cost no points."""
    found = results(CORRECT_HERE[name])
    assert sum(r.earned for r in found) == 30, to_text([r for r in found if r.outcome != "passed"])


def test_image_changes_are_recognised() -> None:
    """Changes to images are recognised, including those to NaN."""
    script = make_script([1.0], random.Random(3), train_sizes=(4,), val_sizes=(2,))
    images = script["train"]["images"]
    assert how_changed(images, images) == ""
    without_numbers = images.clone()
    without_numbers[1, 1, 0, 0] = math.nan
    assert how_changed(images, without_numbers) not in ("", None)
    assert how_changed(images, images * math.nan) != ""


@pytest.mark.parametrize("seed", range(12))
def test_scripts_accuracy_differs_from_loss(seed: int) -> None:
    """Accuracy and loss have different best epochs, so watching accuracy costs the same with every seed."""
    for run in (_to_be_stopped, _to_be_trained):
        losses, *_, script = run(seed)
        hits = (script["val_logits"].argmax(-1) == script["val"]["labels"]).sum(-1).tolist()
        best = [epoch for epoch, count in enumerate(hits) if count == max(hits)]
        assert losses.index(min(losses)) not in (best[0], best[-1])


WRONG_IMPROVEMENT = {"watches_accuracy": 8, "higher_improves": 12, "starts_from_zero": 8, "watches_train_loss": 3}


@pytest.mark.parametrize("name", sampled(WRONG_IMPROVEMENT, 4))
def test_wrong_improvement_charged_once(name: str) -> None:
    """A wrong criterion of improvement is not charged again for the number of epochs that follows from it."""
    (mistake,) = [mistake for mistake in MISTAKES if mistake.name == name]
    found = checker().results({**PLAIN, EXERCISE: mistake.sources[EXERCISE]})
    assert sum(r.points - r.earned for r in found) == WRONG_IMPROVEMENT[name], to_text(found)


def test_endless_training_is_stopped() -> None:
    """The check of frozen layers stops a training that does not end, and passes."""
    source = changed(
        "for epoch in range(max_epochs):",
        "for epoch in __import__('itertools').count():",
        "if waited >= patience:",
        "if False:",
    )
    (found,) = [r for r in results(source, "test_frozen_layers_stay") if r.name == "test_frozen_layers_stay"]
    assert found.outcome == "passed", found.failure


def test_training_error_names_line() -> None:
    """The report of an error in the training quotes the line."""
    found = results(changed("loss.backward()", "loss.backwards()"))
    (failure,) = [r.failure for r in found if r.name == "test_history"]
    assert failure is not None
    assert "has no attribute 'backwards', at `loss.backwards()`" in failure.seen


def test_scripted_model_saved_and_copied() -> None:
    """The scripted model can be saved, loaded and copied."""
    model, train, val = scripted_training([1.0, 0.9])
    images, labels = next(iter(train))
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    copied = copy.deepcopy(model)
    for other in (loaded, copied):
        other(next(iter(val))[0])
    assert len(model.record()["forwards"]) == 3
    assert [layer.name for layer in layers_of(model)] == ["stem", "head"]


def test_backbone_weights_are_contiguous() -> None:
    """The weights of a backbone are contiguous, so that optimizers can flatten them."""
    assert all(parameter.is_contiguous() for parameter in load_backbone("net6").parameters())


def test_compile_disabled_in_checks() -> None:
    """torch.compile does nothing while checks run."""
    layer = torch.nn.Linear(2, 2)
    with without_compiling():
        assert torch.compile(layer) is layer
    import torch._dynamo.config as config

    assert not config.disable


def test_loader_attributes() -> None:
    """Loaders of the checks have the common attributes of a DataLoader."""
    loader = Batches({"images": torch.zeros(5, 2), "labels": torch.arange(5), "sizes": [3, 2]})
    assert (len(loader), len(loader.dataset), loader.batch_size, len(loader.sampler)) == (2, 5, 3, 5)
    assert loader.dataset[4][1] == 4


@pytest.mark.parametrize(
    ("returned", "is_dict", "kind"),
    [
        ({"val_loss": [1.0]}, True, "list of float"),
        ({"val_loss": (1.0,)}, True, "tuple of float"),
        ({"val_loss": torch.ones(1)}, True, "Tensor of Tensor"),
        (("model", {"val_loss": [1.0]}), False, "list of float"),
        (None, False, None),
        (torch.nn.Linear(1, 1), False, None),
    ],
)
def test_history_of_any_type(returned: Any, is_dict: bool, kind: str | None) -> None:
    """Histories of any type are read."""
    found = plain_history(returned)
    assert (found["is_dict"], found["types"].get("val_loss")) == (is_dict, kind)
    assert found["values"].get("val_loss") == ([1.0] if kind else None)


def test_epoch_ends_at_repeated_examples() -> None:
    """An epoch ends where examples are repeated."""
    script = make_script([1.0, 0.9, 0.8], random.Random(0), train_sizes=(4, 4), val_sizes=(3,))
    model, train, val = ScriptedModel(script), Batches(script["train"]), Batches(script["val"])
    model.follow(train, val)
    for _ in range(3):
        images, labels = next(iter(train))  # only the first batch
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        model.eval()(next(iter(val))[0])
        model.train()
    got = {"history": {}, "steps": 0, "idle": "", "backwards": 0, **model.record()}
    assert Journal(script, got).epochs == 3
    assert sorted(model.states) == [0, 1, 2]
