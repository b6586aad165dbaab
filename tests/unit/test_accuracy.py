"""The accuracy check: the same numbers on every machine, any optimizer, points that increase with accuracy."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbformat import NotebookNode
from PIL import Image

from amllab.checks.render import to_text
from amllab.checks.results import score
from amllab.checks.runner import run_checks
from amllab.checks.transfer_learning import accuracy
from amllab.checks.transfer_learning.accuracy_task import TransferTask, budget_of
from amllab.kit import task
from amllab.kit.task import ACCURACY, Measured, measured
from amllab.lab import Lab
from amllab.numerics import same_numbers
from amllab.protocol.submission import InProcessSubmission, SubmissionError
from amllab.synthetic_images import CLASSES, draw
from autograder.checks.transfer_learning.corpus import PLAIN, TRAIN
from autograder.checks.transfer_learning.corpus.styles.optimizers import QUASI_NEWTON
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from autograder.labs.locations import HIDDEN_CHECKS
from tests.conftest import NOTEBOOK, ROOT, sampled
from tests.helpers.notebooks import notebook_of

SETUP = """
import copy, timm, torch
from torch import nn
from torch.nn import functional as F
from amllab import evaluate, layers_of, load_backbone
"""


def functions(lab: Lab, **sources: str) -> InProcessSubmission:
    """Return the plain correct functions, with some replaced."""
    namespace: dict[str, Any] = {}
    exec(SETUP, namespace)
    for source in {**PLAIN, **sources}.values():
        exec(source, namespace)
    return InProcessSubmission(lab.name, namespace)


def with_budget(lab: Lab, **changed: Any) -> Lab:
    budget = {**budget_of(lab), **changed}
    return dataclasses.replace(lab, settings={**lab.settings, "accuracy": budget})


@pytest.fixture
def small(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab with a training of one second and with thresholds that tests can set."""
    small = with_budget(lab, train_images=128, val_images=32, test_images=200, max_epochs=1)
    set_thresholds(monkeypatch, small, 0.0, 0.01)
    return small


def set_thresholds(patch: pytest.MonkeyPatch, lab: Lab, start: float, full: float) -> None:
    found = {"budget": TransferTask(lab).budget, "thresholds": {"start": start, "full": full}}
    patch.setattr(task, "calibrations", lambda _: {"drawn": found, "reptiles": found})


def logits(lab: Lab) -> torch.Tensor:
    return accuracy.fit_and_predict(functions(lab), TransferTask(lab), seed=3).predicted["logits"]


def test_accuracy_threads_and_bfloat16(small: Lab) -> None:
    """The number of threads and autocast to bfloat16 do not change a single digit of the logits."""
    found = []
    threads = torch.get_num_threads()
    try:
        for n, reduced in ((1, False), (2, True)):
            torch.set_num_threads(n)
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                found.append(logits(small))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_same_numbers_float32_one_thread() -> None:
    """The context computes in float32 on one thread, even if the submission turns on autocast."""
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        with same_numbers():
            assert (a @ b).dtype == torch.float32
            assert torch.get_num_threads() == 1
            # autocast in the submission is ignored: processors without bfloat16 would be ten times slower
            with torch.autocast("cpu", torch.bfloat16):
                assert (a @ b).dtype == torch.float32
        assert (a @ b).dtype == torch.bfloat16


@pytest.mark.slow
def test_report_independent_of_threads(tmp_path: Path, release: NotebookNode) -> None:
    """The report of a submission does not depend on the number of threads."""
    (variant,) = [v for v in TYPICAL if v.name == "means_over_batches"]
    notebook = tmp_path / NOTEBOOK
    nbformat.write(notebook_of(variant, release), notebook)
    command = [sys.executable, "-m", "autograder", "grade", str(notebook), "--json", "--seed", "5"]
    found = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
        for check in found[-1]["checks"]:
            del check["seconds"]
    assert found[0]["checks"] == found[1]["checks"]
    assert found[0]["cells"]["check_accuracy"] == {"score": 20, "max_score": 20}
    assert found[0]["score"] < 90


def accuracy_checks(lab: Lab, submission: InProcessSubmission) -> list[Any]:
    folders = (lab.folder, HIDDEN_CHECKS / lab.name)
    paths = [path for folder in folders for path in folder.glob("test_accuracy*.py")]
    return run_checks(lab, paths, submission, seed=7)


def at_rate(rates: dict[float, str]) -> str:
    """Return the plain training function, with other code at some learning rates."""
    head, body = TRAIN.split("    if max_epochs < 1", 1)
    other = "".join(f"    if abs(lr - {rate}) < 1e-9:\n        {line}\n" for rate, line in rates.items())
    return f"{head}{other}    if max_epochs < 1{body}"


def test_accuracy_first_rate_suffices(small: Lab) -> None:
    """If the first learning rate reaches the threshold, no other is tried."""
    submission = functions(
        small,
        train_with_early_stopping=at_rate(dict.fromkeys(small.settings["accuracy"]["learning_rates"][1:], "1 / 0")),
    )
    found = measured(submission, TransferTask(small), 7)
    assert list(found.scores) == ["lr=0.001"]
    assert measured(submission, TransferTask(small), 7) is found
    assert score(accuracy_checks(small, submission)) == (20, 20)


def test_accuracy_tries_other_rates(small: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first learning rate is too low, the others are tried, and the best counts."""
    set_thresholds(monkeypatch, small, 0.1, 0.99)
    submission = functions(small, train_with_early_stopping=at_rate({0.1: "raise ValueError('diverged')"}))
    found = measured(submission, TransferTask(small), 7)
    assert list(found.scores) == ["lr=0.001", "lr=0.1", "lr=0.3"]
    assert found.scores["lr=0.1"] == 0.0
    assert found.best == max(found.scores.values()) > 0.2
    assert "with lr=0.3" in str(found)


def test_accuracy_error_at_first_rate(small: Lab) -> None:
    """An error at the first learning rate fails the check."""
    results = accuracy_checks(
        small, functions(small, train_with_early_stopping=at_rate({0.001: "raise ValueError('no')"}))
    )
    assert score(results) == (0, 20)
    assert "ValueError: no" in to_text(results)


def test_accuracy_points_are_monotonic(small: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points increase with accuracy, from zero at the lower threshold to all at the upper one."""
    submission = functions(small)
    reached = measured(submission, TransferTask(small), 7).best
    earned = []
    for start, full in (
        (1.0, 1.1),
        (reached, 1.0),
        (0.0, 4 * reached),
        (0.0, 2 * reached),
        (0.0, 1.01 * reached),
        (0.0, reached),
    ):
        set_thresholds(monkeypatch, small, start, full)
        earned.append(score(run_with(monkeypatch, small, submission, reached))[0])
    assert earned == sorted(earned)
    assert earned == [0, 0, 11, 14, 19.5, 20]


def run_with(patch: pytest.MonkeyPatch, lab: Lab, submission: InProcessSubmission, reached: float) -> list[Any]:
    """Run the checks on a submission that has reached this accuracy."""
    found = Measured({"lr=0.001": reached}, ACCURACY)
    patch.setattr(task, "_measured", {submission: {(TransferTask, 7): found}})
    return accuracy_checks(lab, submission)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of class images."""
    data = draw(260, seed=1)
    for number, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = tmp_path / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return tmp_path


def test_accuracy_on_a_folder(small: Lab, photographs: Path) -> None:
    """Images of a folder replace the drawn ones; each seed samples its own training and validation images."""
    lab = with_budget(small, train_images=150, test_images=60, data=str(photographs))
    first, second = (accuracy.images_of(seed, (150, 32, 60), str(photographs)) for seed in (1, 2))
    assert [len(part.labels) for part in first] == [150, 32, 60]
    assert not torch.equal(first[0].images, second[0].images)
    shown = {bytes(image.numpy().tobytes()) for part in first[:2] for image in part.images}
    assert len(shown) == 182  # all images differ
    trained = accuracy.fit_and_predict(functions(lab), TransferTask(lab), seed=1)
    assert trained.predicted["logits"].shape == (60, len(CLASSES))
    assert torch.equal(trained.test.images, first[2].images)


def test_accuracy_test_images_are_held_out(photographs: Path) -> None:
    """No seed trains on an image of the test part, whose images are used again, changed, if they are few."""
    learning, test = accuracy.own_images(str(photographs), 32)
    assert (len(learning), len(test)) == (210, 50)
    held_out = {bytes(image.numpy().tobytes()) for image in test.images}
    for seed in range(5):
        train, val, shown = accuracy.images_of(seed, (150, 50, 120), str(photographs))
        assert not held_out & {bytes(i.numpy().tobytes()) for part in (train, val) for i in part.images}
        assert len({bytes(image.numpy().tobytes()) for image in shown.images}) == 120


def test_accuracy_too_few_images(photographs: Path) -> None:
    """A folder with too few images to learn from is refused."""
    with pytest.raises(ValueError, match="210 images in a part of which 300 are asked for"):
        accuracy.images_of(1, (200, 100, 50), str(photographs))


def test_accuracy_stub_draws_no_images(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or unfinished function is reported before any image is drawn."""

    def stub(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(accuracy, "images_of", lambda *_: pytest.fail("drawn"))
    for namespace in ({}, {"build_transfer_model": stub, "train_with_early_stopping": stub}):
        with pytest.raises(SubmissionError, match="missing"):
            measured(InProcessSubmission(lab.name, dict(namespace)), TransferTask(lab), 3)


WRAPPED = PLAIN["build_transfer_model"].replace("    return model", "    return nn.Sequential(model)")
FAULTS = {
    "returns nothing": PLAIN["build_transfer_model"].replace("    return model\n", ""),
    "another backbone": PLAIN["build_transfer_model"].replace("load_backbone(backbone)", 'load_backbone("net12")'),
    "wrapped": "from torch import nn\n" + WRAPPED,
}


@pytest.mark.parametrize("name", sampled(FAULTS, 3))
def test_accuracy_replaces_wrong_model(small: Lab, name: str) -> None:
    """A wrongly built model costs no points here, only in the exercise that builds it."""
    submission = functions(small, build_transfer_model=FAULTS[name])
    assert score(accuracy_checks(small, submission)) == (20, 20)
    found = measured(submission, TransferTask(small), 7)
    assert found.remark
    assert "a model of the checks" in str(found)


# saves the whole model to a file
CHECKPOINT = """
    import io
    file = io.BytesIO()
    torch.save(copy.deepcopy(model), file)
    file.seek(0)
    torch.load(file, weights_only=False)
"""
CHOICES = {
    "checkpoints of whole models": TRAIN.replace(
        "    model.load_state_dict(best_state)", CHECKPOINT + "    model.load_state_dict(best_state)"
    ),
    "a quasi-Newton method": QUASI_NEWTON.sources["train_with_early_stopping"],
}


@pytest.mark.parametrize("name", sampled(CHOICES, 2))
def test_accuracy_checkpoint_and_quasi_newton(small: Lab, name: str) -> None:
    """The instrumentation of the check supports checkpoints of whole models and quasi-Newton methods."""
    submission = functions(small, train_with_early_stopping=CHOICES[name])
    trained = accuracy.fit_and_predict(submission, TransferTask(small), 7)
    assert trained.fitted["steps"] == 6  # batches of one epoch
    assert trained.predicted["logits"].isfinite().all()
