"""A training under a budget of another lab: a line is fitted, its score is an error, and lower is better."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import amllab.checks
import autograder.checks
from amllab import lab as labs
from amllab.checks.render import to_text
from amllab.checks.results import score
from amllab.checks.runner import run_checks
from amllab.kit.task import Measured, Score, measured, thresholds
from amllab.lab import Lab
from amllab.protocol.submission import InProcessSubmission
from autograder.authoring import calibration_page
from autograder.authoring.calibration import Calibration
from autograder.errors import SettingsError
from autograder.labs.calibrated import calibrated_of
from autograder.labs.settings import load_lab

FIT = """
import torch
def fit(x, y, steps):
    weights = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.5)
    for _ in range(steps):
        loss = (weights[0] * x + weights[1] - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda x: weights[0].detach() * x + weights[1].detach()
"""
PUBLIC = {
    "lab.toml": """
        title = "A line"
        notebook = "line_fit"

        [limits]
        cell_seconds = 120
        answer_seconds = 120
        answer_bytes = 67108864
        output_bytes = 200000
        total_seconds = 900
        memory_bytes = 3221225472
        processes = 256
        open_files = 512
        file_bytes = 536870912
        scratch_bytes = 1073741824

        [training]
        data = "line"
        points = 40
        noise = 0.1
        steps = [30, 100]
    """,
    "probes.py": """
        import torch
        from torch import Tensor

        from amllab.protocol.schema import AnyTensor
        from amllab.protocol.submission import Functions


        def fit_line(functions: Functions, *, x: Tensor, y: Tensor, steps: int, unseen: Tensor) -> AnyTensor:
            return functions.fit(x, y, steps)(unseen).float()
    """,
    "task.py": """
        import torch

        from amllab.kit.task import Score, Task
        from amllab.seeds import derive


        class LineTask(Task):
            table = "training"
            score = Score("error", worst=5.0, step=0.005, higher_is_better=False)

            @property
            def budget(self):
                return {name: value for name, value in self.lab.settings["training"].items() if name != "data"}

            @property
            def data(self):
                return self.lab.settings["training"]["data"]

            @property
            def spread(self):
                return 0.002

            @property
            def attempts(self):
                return [f"{steps} steps" for steps in self.budget["steps"]]

            def train(self, submission, seed, attempt=0, remark=""):
                generator = torch.Generator().manual_seed(derive(seed, "line"))
                x, unseen = (2 * torch.rand(self.budget["points"], generator=generator) - 1 for _ in range(2))
                a, b = 2 + torch.rand(2, generator=generator) / 5
                y = a * x + b + self.budget["noise"] * torch.randn(len(x), generator=generator)
                steps = self.budget["steps"][attempt]
                return submission.ask("fit_line", x=x, y=y, steps=steps, unseen=unseen), a * unseen + b

            def rate(self, trained):
                predicted, true = trained
                return (predicted - true).square().mean().sqrt().item()
    """,
    "test_line.py": """
        import pytest

        from amllab.checks import expect
        from amllab.checks.line_fit.task import LineTask
        from amllab.kit.task import measured, share_of_points, thresholds

        pytestmark = pytest.mark.cell("check_line", section="Exercise 1")


        @pytest.mark.points(10)
        def test_line(submission, lab_settings, run_seed):
            \"\"\"The line is near the points.\"\"\"
            task = LineTask(lab_settings)
            wanted, reached = thresholds(task), measured(submission, task, run_seed)
            share = share_of_points(reached.best, wanted)
            expect(
                task.score.reaches(reached.best, wanted["full"]),
                expected=f"an error of at most {task.score.text(wanted['full'])}",
                seen=str(reached),
                why="it is a line",
                share=max(0.0, share),
            )
    """,
}
HIDDEN = {
    "budget.py": """
        from typing import Annotated

        from pydantic import Field

        from autograder.labs.settings import Count, Table

        TABLE = "training"


        class Budget(Table):
            data: str
            points: Count
            noise: Annotated[float, Field(ge=0)]
            steps: list[Count]
    """,
    "calibration.py": """
        from amllab.checks.line_fit.task import LineTask
        from autograder.labs.calibrated import Style

        TASK = LineTask
        FIT = FIT_SOURCE
        STYLES = [
            Style("descent", True, FIT),
            Style("slow descent", True, FIT.replace("lr=0.5", "lr=0.04")),
            Style("the mean", False, "def fit(x, y, steps):\\n    return lambda x: y.mean() + 0 * x\\n"),
            Style("nothing", False, "def fit(x, y, steps):\\n    return lambda x: x / 0\\n"),
        ]
    """,
}


@pytest.fixture
def line(evidence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    yield line_in(tmp_path, monkeypatch)
    for name in [name for name in sys.modules if ".line_fit" in name]:
        del sys.modules[name]


def line_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Return a lab with a budget of its own, in folders outside both packages."""
    for package, place, files in ((amllab.checks, "public", PUBLIC), (autograder.checks, "hidden", HIDDEN)):
        folder = tmp_path / place / "line_fit"
        folder.mkdir(parents=True)
        for name, text in {**files, "__init__.py": ""}.items():
            (folder / name).write_text(textwrap.dedent(text).replace("FIT_SOURCE", repr(FIT)))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder.parent)])
    monkeypatch.setattr(labs, "CHECKS", tmp_path / "public")
    return load_lab("line-fit")


@pytest.fixture
def calibrated(line: Lab, evidence: str) -> Lab:
    (line.folder / "thresholds.json").write_text(evidence)
    return line


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The thresholds file that a calibration writes."""
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        calibration = Calibration(line_in(folder, patch), seeds=4, fresh=4)
        calibration.write(calibration.run(folder / "runs.jsonl", jobs=1))
        text = calibration.task.evidence.read_text()
    for name in [name for name in sys.modules if ".line_fit" in name]:
        del sys.modules[name]
    return text


def submission(lab: Lab, name: str, source: str = "") -> InProcessSubmission:
    namespace: dict[str, object] = {}
    (style,) = [style for style in calibrated_of(lab).styles if style.name == name]
    exec(source or style.source, namespace)
    return InProcessSubmission(lab.name, namespace)


def checked(lab: Lab, submission: InProcessSubmission) -> tuple[float, str]:
    results = run_checks(lab, [lab.folder / "test_line.py"], submission, seed=5)
    return score(results)[0], to_text(results)


def test_task_thresholds_of_an_error(calibrated: Lab) -> None:
    """Thresholds of an error lie between right and wrong variants, the one for full points below the other."""
    task = calibrated_of(calibrated).task
    found = thresholds(task)
    assert 0.02 < found["full"] < found["start"] < 1
    evidence = json.loads(task.evidence.read_text())["line"]
    means = {verdict["style"]: verdict["mean"] for verdict in evidence["verdicts"]}
    assert means["descent"] < found["full"] < means["the mean"] < means["nothing"] == 5.0
    assert evidence["right"]["wrong_verdicts"] == evidence["wrong"]["wrong_verdicts"] == 0
    assert {len(row) for row in evidence["samples"]["descent"]["shares"]} == {2}  # without a ceiling, all attempts


def test_task_points_of_an_error(calibrated: Lab) -> None:
    """A right submission gets all points after the attempts that it needs, a wrong one none."""
    assert checked(calibrated, submission(calibrated, "descent"))[0] == 10
    task = calibrated_of(calibrated).task
    assert list(measured(submission(calibrated, "descent"), task, 5).scores) == ["30 steps"]
    assert list(measured(submission(calibrated, "slow descent"), task, 5).scores) == ["30 steps", "100 steps"]
    points, text = checked(calibrated, submission(calibrated, "the mean"))
    assert points == 0
    assert "with 30 steps" in text


def test_task_part_of_the_points(calibrated: Lab) -> None:
    """An error between both thresholds gives a part of the points."""
    middle = sum(thresholds(calibrated_of(calibrated).task).values()) / 2
    off = FIT.replace("+ weights[1].detach()", f"+ weights[1].detach() + {middle}")
    points, text = checked(calibrated, submission(calibrated, "descent", off))
    assert 3 <= points <= 7
    assert "an error of at most" in text


def test_task_error_and_nan(calibrated: Lab) -> None:
    """NaN is the worst score; an error of the first attempt fails the check, one of a later attempt is the worst."""
    task = calibrated_of(calibrated).task
    nan = measured(submission(calibrated, "nothing"), task, 5)
    assert nan.scores == {"30 steps": 5.0, "100 steps": 5.0}
    source = "def fit(x, y, steps):\n    if steps > LIMIT:\n        raise ValueError\n    return lambda x: 0 * x\n"
    late, early = (submission(calibrated, "nothing", source.replace("LIMIT", limit)) for limit in ("30", "10"))
    assert measured(late, task, 5).scores["100 steps"] == 5.0
    assert "ValueError" in checked(calibrated, early)[1]


def test_task_uncalibrated(line: Lab, calibrated: Lab) -> None:
    """Without thresholds for exactly this budget and data, nothing is measured."""
    for changed in ({"noise": 0.2}, {"data": "curve"}):
        other = dataclasses.replace(line, settings={**line.settings, "training": line.settings["training"] | changed})
        with pytest.raises(ValueError, match="autograder calibrate line-fit"):
            measured(submission(line, "descent"), calibrated_of(other).task, 5)


def test_task_page(calibrated: Lab, tmp_path: Path) -> None:
    """The page and the plot name the score and its unit."""
    task = calibrated_of(calibrated).task
    known = json.loads(task.evidence.read_text())
    text = calibration_page.page([task], known)
    assert "thresholds of the error check" in text
    assert "## Data: line" in text
    assert "%" not in text.replace("95 %", "")
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == ["| descent", "| slow descent", "| the mean", "| nothing"]
    calibration_page.plot(known["line"], tmp_path / "plot.png", task, "a title")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_task_budget_is_validated(line: Lab) -> None:
    """The lab's own model validates its table of lab.toml."""
    file = line.folder / "lab.toml"
    text = file.read_text()
    for old, new, message in (
        ("points = 40", "points = 0", "training.points: must be greater than 0, not 0"),
        ("noise", "nose", "training.nose: is not known; did you mean noise?"),
        ("[training]", "[accuracy]", "accuracy: is not known"),
        ("steps = [30, 100]", "steps = [30, '100']", r"training.steps\[1\]: must be a whole number"),
    ):
        file.write_text(text.replace(old, new))
        with pytest.raises(SettingsError, match=message):
            load_lab("line-fit")


def test_score_in_words() -> None:
    """A score is written with its unit, and the best is the highest or the lowest."""
    share, error = Score("accuracy", 0.0, 0.005, factor=100, unit=" %", digits=1), Score("error", 9.0, 0.1, False)
    assert (share.text(0.4567), error.text(0.4567)) == ("45.7 %", "0.457")
    assert (share.best([0.1, 0.3]), error.best([0.1, 0.3]), error.best([])) == (0.3, 0.1, 9.0)
    assert [error.credible(value) for value in (1.0, 10.0, float("nan"), float("-inf"))] == [1.0, 9.0, 9.0, 9.0]
    assert str(Measured({"a": 0.5, "b": 0.25}, error, "a remark")) == "0.500 with a, 0.250 with b, a remark"
    assert str(Measured({"": 0.5}, error)) == "0.500"
