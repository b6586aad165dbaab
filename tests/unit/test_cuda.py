"""The public checks on a machine with a GPU, where students move models and batches: the same verdicts as on a CPU.

Skipped where there is no GPU. Grading itself runs on the CPU.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from amllab.checks.runner import run_checks
from amllab.lab import find_lab
from amllab.protocol.submission import InProcessSubmission
from autograder.checks.transfer_learning.corpus import BUILD, FREEZE, PLAIN, TRAIN
from autograder.checks.transfer_learning.corpus.public import PUBLIC_CORRECT
from autograder.checks.transfer_learning.corpus.styles import TRAINING_STYLES
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = find_lab("transfer-learning")
_DEVICE = "    device = next(model.parameters()).device\n"
_CUDA = '    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")\n    model.to(device)\n'
_BUILD_CUDA = BUILD.replace("    freeze_layers(model", '    model = model.to("cuda")\n    freeze_layers(model')
STYLES = {
    "as they come": {},
    "moves the model to the GPU": {"train_with_early_stopping": TRAIN.replace(_DEVICE, _CUDA)},
    "builds on the GPU": {"build_transfer_model": _BUILD_CUDA},
    "default device": {"freeze_layers": 'import torch\ntorch.set_default_device("cuda")\n' + FREEZE},
}


def namespace(sources: dict[str, str]) -> dict[str, Any]:
    """Return the variables of a notebook with these cells, including its setup cell."""
    path = ROOT / "assignments" / LAB.assignment / f"{LAB.notebook}.ipynb"
    cells = {c["metadata"].get("nbgrader", {}).get("grade_id"): c for c in json.loads(path.read_text())["cells"]}
    found: dict[str, Any] = {"__name__": "__main__"}
    for source in ("".join(cells["setup"]["source"]), *sources.values()):
        exec(compile(source, "<cell>", "exec"), found)
    return found


# loops that use the device of the model, changed to move the model to the GPU
_STAYS = re.compile(r"^( *)device = next\(model\.parameters\(\)\)\.device$", re.MULTILINE)
_MOVES = r'\1device = torch.device("cuda")\n\1model.to(device)'
for variant in (*CORRECT, *TRAINING_STYLES, *PUBLIC_CORRECT):
    moved, number = _STAYS.subn(_MOVES, variant.sources.get("train_with_early_stopping", ""))
    if number:
        STYLES[f"{variant.name}, moved"] = {**variant.sources, "train_with_early_stopping": moved}


@pytest.mark.parametrize("style", STYLES)
def test_cuda_correct_styles(style: str) -> None:
    """Correct styles pass the public checks on a GPU."""
    sources = {**PLAIN, **STYLES[style]}
    assert sources != PLAIN or not STYLES[style]
    try:
        submission = InProcessSubmission(LAB.name, namespace(sources))
        results = run_checks(LAB, [LAB.folder], submission, seed=3)
    finally:
        torch.set_default_device(None)
    failed = {r.name: (r.failure and r.failure.seen) for r in results if r.outcome != "passed"}
    assert not failed
