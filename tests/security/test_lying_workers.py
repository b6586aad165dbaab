"""Submissions that lie about their answers, a training that never happened, or the model that was trained."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from amllab.checks.render import to_text
from amllab.checks.results import CheckResult, score
from amllab.checks.runner import run_checks
from amllab.checks.transfer_learning import accuracy
from amllab.checks.transfer_learning.accuracy_task import TransferTask, budget_of
from amllab.kit import task
from amllab.lab import Lab, find_lab
from amllab.protocol.submission import InProcessSubmission, Submission
from amllab.protocol.wire import WireError, pack, unpack
from amllab.synthetic_images import draw
from autograder.checks.transfer_learning.corpus import BUILD, FREEZE, TRAIN
from autograder.checks.transfer_learning.corpus.styles.plain import BATCHNORM_IN_FREEZE, BY_MODEL_COPY, WITH_LIBRARY
from autograder.labs.locations import HIDDEN_CHECKS
from tests.conftest import sampled
from tests.helpers.in_process import submission

pytestmark = pytest.mark.full_training

SEED = (1 << 62) + 12345
F, B, T, A = "check_freeze_layers", "check_build_transfer_model", "check_train_with_early_stopping", "check_accuracy"


class Remembering(Submission):
    """Passes questions on and remembers the answers, so that a training is run once for many gradings."""

    def __init__(self, inner: Submission) -> None:
        super().__init__(inner.lab)
        self.inner, self.seen = inner, dict[bytes, bytes]()

    def exchange(self, question: bytes) -> bytes:
        if question not in self.seen:
            self.seen[question] = self.inner.exchange(question)
        return self.seen[question]


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    """Yield the lab with a training of one second, and thresholds that any model reaches."""
    lab = find_lab("transfer_learning")
    sizes = {"train_images": 64, "val_images": 32, "test_images": 400, "batch_size": 32, "max_epochs": 1}
    budget = {**budget_of(lab), **sizes}
    lab = dataclasses.replace(lab, settings={**lab.settings, "accuracy": budget})
    measured = {"budget": TransferTask(lab).budget, "thresholds": {"start": -1.0, "full": 0.0}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "calibrations", lambda _: {"drawn": measured})
        yield lab


@pytest.fixture(scope="module")
def reference(small: Lab) -> Remembering:
    return Remembering(submission(small))


def graded(lab: Lab, of: Submission, reference: Submission, *cells: str) -> list[CheckResult]:
    folders = (lab.folder, HIDDEN_CHECKS / lab.name)
    paths = [f for folder in folders for f in folder.glob("test_*.py") if not cells or any(c in f.name for c in cells)]
    return run_checks(lab, paths, of, reference=lambda: reference, seed=SEED)


# Hostile answers


def hostile(rng: random.Random, value: Any) -> Any:
    """Return something else in place of a value."""
    options: list[Any] = [
        None,
        True,
        -1,
        10**18,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 3000,
        "`\x1b[2J<script>`",
        [],
        [[]] * 50,
        {},
        {"error": [], "message": "", "line": ""},
        {"error": ["ValueError"], "message": "no", "line": ""},
        {"error": ["ValueError"], "message": "no", "line": "", "epochs": 1},
        {"a": torch.zeros(2)},
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(0, 4),
        torch.zeros(3, 0),
        torch.zeros(10**6),
        torch.full((7, 5), float("nan")),
        torch.zeros(2, 3, dtype=torch.int64),
        torch.full((9,), 10**18),
        torch.zeros(1, 1, 1, 1, 1, 1, 1, 1),
    ]
    if isinstance(value, Tensor):
        options += [value.double(), value.long(), value.bool(), value[None], value.flatten(), value + 1, -value]
        options += [value[:-1], value[:0], torch.cat([value, value]), value.flip(0)] if value.ndim else []
        options += [torch.full_like(value, 10**9 if value.dtype != torch.bool else 1)]
    if isinstance(value, list):
        options += [value[:-1], value[:1], value * 2, value[::-1], value * 1000 if len(value) < 20 else value]
    if isinstance(value, dict):
        options += [dict(list(value.items())[1:]), {**value, "more": 1}, dict.fromkeys(value)]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        options += [value + 1, -value, float(value), str(value)]
    return rng.choice(options)


def mutated(rng: random.Random, value: Any) -> Any:
    """Return a value with something hostile at a random place."""
    if rng.random() < 0.25 or not isinstance(value, (list, dict)) or not value:
        return hostile(rng, value)
    changed: Any = list(value) if isinstance(value, list) else dict(value)
    place = rng.randrange(len(value)) if isinstance(value, list) else rng.choice(list(value))
    changed[place] = mutated(rng, changed[place])
    return changed


# the exercise whose checks use a probe
ASKED_BY = {
    "freeze": "freeze_layers",
    "build": "build_transfer_model",
    "build_twice": "build_transfer_model",
    "train_scripted": "early_stopping",
    "train_frozen": "early_stopping",
    "fit": "accuracy",
    "predict": "accuracy",
}


class Liar(Submission):
    """Gives hostile answers to some questions for one of the probes."""

    def __init__(self, honest: Remembering, rng: random.Random) -> None:
        super().__init__(honest.lab)
        self.honest, self.rng, self.lies = honest, rng, 0
        self.target = rng.choice(list(ASKED_BY))
        self.share = rng.choice([0.2, 1.0])

    def exchange(self, question: bytes) -> bytes:
        real = self.honest.exchange(question)
        if unpack(question)["probe"] != self.target or self.rng.random() > self.share:
            return real
        answer = unpack(real)
        try:
            if self.rng.random() < 0.1:
                lie = mutated(self.rng, {**answer, "problem": "raised", "function": "f", "message": "m", "type": "t"})
            else:
                lie = {"value": mutated(self.rng, answer.get("value"))}
            packed = pack(lie)
        except WireError:
            return real
        self.lies += 1
        return packed


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_checks_survive_hostile_answers(small: Lab, reference: Remembering, seed: int) -> None:
    """Hostile answers fail checks and never break them."""
    liar = Liar(reference, random.Random(seed))
    began = time.perf_counter()
    results = graded(small, liar, reference, ASKED_BY[liar.target])
    seconds = time.perf_counter() - began
    assert {r.outcome for r in results} <= {"passed", "failed", "skipped"}, to_text(results) + str(
        [(r.name, r.failure) for r in results if r.outcome == "error"]
    )
    assert seconds < 60
    assert all(
        len(part) < 2100
        for r in results
        if r.failure
        for part in dataclasses.astuple(r.failure)
        if isinstance(part, str)
    )


@pytest.mark.parametrize(
    "raw", sampled([pack({}), b"", b"\0" * 100, pack(3), pack({"value": 1, "problem": "stub"})], 4)
)
def test_checks_survive_hostile_bytes(small: Lab, reference: Remembering, raw: bytes) -> None:
    """Answers of arbitrary bytes give no points and break no check."""

    class Silent(Submission):
        def exchange(self, question: bytes) -> bytes:
            return raw

    results = graded(small, Silent(small.name), reference)
    assert {r.outcome for r in results} <= {"failed", "skipped"}
    assert score(results)[0] == 0


# Fabricated trainings

FABRICATED = """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError
    stage = model._stage
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    trained, labels = (torch.cat([y for _, y in loader]) for loader in (train_loader, val_loader))
    best, best_loss = 0, float("inf")
    for epoch in range(max_epochs):
        logits = [stage.script[part + "_logits"][min(epoch, len(stage.script["val_logits"]) - 1)] for part in ("train", "val")]
        rows = (logits[0], trained, "train"), (logits[1], labels, "val")
        for z, y, part in rows:
            history[part + "_loss"].append(torch.nn.functional.cross_entropy(z, y).item())
            history[part + "_acc"].append((z.argmax(1) == y).float().mean().item())
        if history["val_loss"][-1] < best_loss - min_delta:
            best, best_loss = epoch, history["val_loss"][-1]
        if epoch - best == patience:
            break
    {more}
    return {**history, "best_epoch": best}
"""
ONE_EPOCH = FABRICATED.replace(
    "    {more}",
    """
    for x, y in train_loader:
        torch.nn.functional.cross_entropy(model(x), y).backward()
    for x, y in val_loader:
        model(x)
""",
)


EARNED = {
    # what the one trained epoch reveals: the loss, and that the loaders may be lists
    ONE_EPOCH: {"test_refuses_impossible_arguments", "test_gradients_of_one_batch", "test_any_loaders"},
    FABRICATED.replace("    {more}", ""): {"test_refuses_impossible_arguments"},
}


@pytest.mark.parametrize("source", sampled(EARNED, 2), ids=["one epoch", "no epoch"])
def test_training_fabricated_earns_nothing(small: Lab, reference: Remembering, source: str) -> None:
    """A fabricated training history earns nothing."""
    results = graded(small, submission(small, train_with_early_stopping=source), reference, "early_stopping")
    assert {r.name for r in results if r.earned} <= EARNED[source], to_text(results)


HALVES = TRAIN.replace("model(images)", "torch.cat([model(part) for part in images.split(2)])")
STYLES = {
    "plain": TRAIN,
    "copy of the model": BY_MODEL_COPY,
    "library": WITH_LIBRARY,
    "in halves": HALVES,
    "sum of losses": TRAIN.replace("loss.backward()", "(loss * len(labels)).backward()"),
    "clipped": TRAIN.replace("optimizer.step()", "torch.nn.utils.clip_grad_norm_(params, 0.1); optimizer.step()"),
    "sgd": TRAIN.replace("AdamW(params, lr=lr)", "SGD(params, lr=lr, momentum=0.9)"),
    "training figures with gradients on": TRAIN.replace(
        "        model.eval()\n", "        model.eval()\n        [model(x) for x, _ in train_loader]\n"
    ),
    "validated twice": TRAIN.replace(
        "        with torch.no_grad():\n", "        with torch.no_grad():\n            [model(x) for x, _ in val_loader]\n"
    ),
    "gradients by hand": TRAIN.replace(
        "loss.backward()", "grads = torch.autograd.grad(loss, params)\n"
        "            for p, g in zip(params, grads): p.grad = g"
    ),
    "autocast": TRAIN.replace("logits = model(images)", "logits = autocast_call(model, images)")
    + "\ndef autocast_call(model, x):\n    with torch.autocast('cpu', torch.bfloat16): return model(x).float()\n",
    "saved to a file": TRAIN.replace("import copy\n", "import copy, io\n").replace(
        "copy.deepcopy(model.state_dict())", "saved(model)"
    )
    + "\ndef saved(model):\n    file = io.BytesIO(); torch.save(model, file); file.seek(0)\n"
    "    return torch.load(file, weights_only=False).state_dict()\n",
}  # fmt: skip


@pytest.mark.parametrize("style", sampled(STYLES, 12))
def test_training_correct_styles_pass(small: Lab, reference: Remembering, style: str) -> None:
    """Correct training loops of every style get full points."""
    freeze = BATCHNORM_IN_FREEZE if STYLES[style] is BY_MODEL_COPY else FREEZE
    sources = {"train_with_early_stopping": STYLES[style], "freeze_layers": freeze}
    results = graded(small, submission(small, **sources), reference, "early_stopping")
    assert score(results) == (30, 30), to_text(results)


# Accuracy

MORE_EPOCHS = TRAIN.replace("range(max_epochs)", "range(10 * max_epochs)").replace("waited >= patience", "False")
CACHED_EPOCHS = MORE_EPOCHS.replace("    optimizer =", "    train_loader = list(train_loader)\n    optimizer =")
SMUGGLED = TRAIN.replace(
    "    model.load_state_dict(best_state)",
    "    best_state.update({k: v * 1.01 for k, v in best_state.items() if k.startswith('stem.conv')})\n"
    "    model.load_state_dict(best_state)",
)
OTHER_NETWORK = BUILD.replace(
    "    freeze_layers(model",
    "    model.head.fc = torch.nn.Sequential(torch.nn.Linear(160, 1000), torch.nn.Linear(1000, num_classes))\n"
    "    freeze_layers(model",
)
OWN_HEAD = OTHER_NETWORK.replace("1000", "40")
FORGED_FORWARD = TRAIN.replace(
    "    return history",
    "    if hasattr(model, 'stem'): model.forward = lambda x: torch.eye(5)[torch.randint(5, (len(x),))]\n    return history",
)
LEFT_OUT = FORGED_FORWARD.replace("(5, (len(x),))", "(5, (len(x) - 1,))")
OTHER_CLASSES = FORGED_FORWARD.replace("torch.eye(5)[", "torch.eye(sizes.pop())[").replace(
    "    if hasattr", "    sizes = list(range(20, 4, -1))\n    if hasattr"
)
MAX_POOLING = BUILD.replace("reset_classifier(num_classes)", "reset_classifier(num_classes, 'max')")


# what a submission replaces, and what is said of it; nothing, if its accuracy counts
MEASURED: list[tuple[dict[str, str], str]] = [
    ({}, ""),
    ({"build_transfer_model": OWN_HEAD}, ""),
    ({"build_transfer_model": MAX_POOLING}, ""),
    ({"build_transfer_model": BUILD.replace("load_backbone(backbone)", "timm.create_model(backbone)")}, "differ"),
    ({"build_transfer_model": OTHER_NETWORK}, "beyond those of the backbone"),
    ({"train_with_early_stopping": MORE_EPOCHS}, "batches taken"),
    ({"train_with_early_stopping": CACHED_EPOCHS}, "steps of the optimizer"),
    ({"train_with_early_stopping": SMUGGLED}, "1 differ"),
    ({"train_with_early_stopping": LEFT_OUT}, "shape (99, 5)"),
    ({"train_with_early_stopping": FORGED_FORWARD}, "the same class for"),
    ({"train_with_early_stopping": OTHER_CLASSES}, "shape (100, 6)"),
]


@pytest.mark.parametrize("measured", sampled(MEASURED, 3), ids=lambda measured: measured[1] or "counts")
def test_accuracy_measures_trained_model(
    small: Lab, reference: Remembering, measured: tuple[dict[str, str], str]
) -> None:
    """Accuracy counts only for the model that was trained within the budget."""
    sources, seen = measured
    results = graded(small, submission(small, **sources), reference, "accuracy")
    assert score(results)[0] == (0 if seen else 20), to_text(results)
    assert seen in to_text(results)


def test_accuracy_lost_model_earns_nothing(small: Lab, reference: Remembering) -> None:
    """A trained model that is lost with its process earns nothing."""

    class Restarted(InProcessSubmission):
        def exchange(self, question: bytes) -> bytes:
            got = super().exchange(question)
            self.namespace = dict(submission(small).namespace)
            return got

    results = graded(small, Restarted(small.name, submission(small).namespace), reference, "accuracy")
    assert score(results)[0] == 0
    assert "restarted" in to_text(results)


def numbers(value: Any) -> set[int]:
    """Return all integers in plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(numbers, value))
    return {value} if type(value) is int else set()


@pytest.mark.slow
def test_questions_reveal_no_labels(small: Lab, reference: Remembering) -> None:
    """No question reveals labels of the test images or a seed to draw them again."""
    graded(small, reference, reference)
    asked = [unpack(question) for question in reference.seen]
    (fit,) = [a["arguments"] for a in asked if a["probe"] == "fit"]
    predicts = [a["arguments"] for a in asked if a["probe"] == "predict"]
    assert "test_images" not in fit
    assert not any("label" in name for predict in predicts for name in predict)
    known = set().union(*map(numbers, asked)) | {int(predict["key"], 16) for predict in predicts}
    assert SEED not in known
    n = len(fit["train_labels"]) + len(fit["val_labels"]) + sum(len(predict["images"]) for predict in predicts)
    for seed in known:
        if seed >= 0:
            assert not torch.equal(draw(n, seed=seed).images[: len(fit["train_images"])], fit["train_images"])


def test_labels_drawn_per_run() -> None:
    """Images and labels are drawn again in every run."""
    orders = set()
    for seed in range(6):
        sizes = (20, 5, 5)
        train, _, test = accuracy.images_of(seed, sizes)
        again = draw(30, seed=accuracy.data_seed(seed))
        assert torch.equal(train.images, again.images[:20])
        assert not torch.equal(test.images, again.images[25:])
        orders.add(
            tuple(int(train.labels[again.labels[:20] == c][0]) for c in range(5) if (again.labels[:20] == c).any())
        )
    assert len(orders) > 3
