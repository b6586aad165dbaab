"""Thresholds: how they are fitted and validated; the shipped ones follow from the evidence in their file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from amllab.checks.transfer_learning.accuracy_task import TransferTask
from amllab.kit.task import ACCURACY, Score, attempted, thresholds
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import CheckFailure
from autograder.authoring import calibration, calibration_page
from autograder.authoring.calibration import Calibration, submission_of
from autograder.authoring.fitting import WRONG_VERDICTS, counted, counted_at_most, fit, judge, tail_at_most
from autograder.checks.transfer_learning import calibration as transfer_learning
from autograder.cli import main
from autograder.errors import ThresholdError
from autograder.labs.calibrated import Calibrated, Style, calibrated_of
from tests.conftest import ASSIGNMENT, ROOT

SPREAD = 0.01


def normal(mean: float, sd: float, n: int = 40, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(mean, sd, n).tolist()


def test_tail_bound_matches_tables() -> None:
    """Bounds of the tail agree with published tables."""
    # one-sided tolerance factors, 95 % confidence, 99 % of the population: Hahn and Meeker, Statistical Intervals
    assert tail_at_most(10, 3.981) == pytest.approx(0.01, rel=1e-3)
    assert tail_at_most(50, 2.862) == pytest.approx(0.01, rel=1e-2)


def test_tail_bound_converges() -> None:
    """The bound of a tail is above its estimate and converges to it."""
    bounds = [tail_at_most(n, 4.0) for n in (5, 20, 100, 10_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert 3.17e-5 < bounds[-1] < 5e-5
    assert tail_at_most(20, -1.0) == 0.5


def test_tail_bound_coverage() -> None:
    """The bound holds as often as its confidence level says."""
    rng = np.random.default_rng(1)
    truth = 0.00135  # beyond three standard deviations
    samples = rng.standard_normal((400, 25))
    bounds = [tail_at_most(25, (3 - row.mean()) / row.std(ddof=1)) for row in samples]
    assert 0.91 < np.mean([bound >= truth for bound in bounds]) < 0.99


def test_count_bound() -> None:
    """Bounds from counts alone: the rule of three, and more failures give a higher bound."""
    assert counted_at_most(0, 3000) == pytest.approx(1e-3, rel=0.01)  # the rule of three
    assert counted_at_most(0, 100) < counted_at_most(1, 100)


def test_thresholds_between_wrong_and_right() -> None:
    """Thresholds lie between the accuracies of wrong and right styles."""
    found = fit({"a": normal(0.6, 0.02), "b": normal(0.55, 0.02)}, {"c": normal(0.2, 0.02)}, SPREAD)
    assert found["start"] == pytest.approx(0.2 + 3.09 * 0.02, abs=0.02)
    assert found["full"] == pytest.approx(0.375, abs=0.02)  # halfway, because all spreads are the same
    assert all(round(value / ACCURACY.step, 6).is_integer() for value in found.values())


def test_fit_names_overlapping_styles() -> None:
    """If styles overlap, the error names them, and advises other data where the wrong one is no worse."""
    right = {"fast": normal(0.7, 0.02), "slow": normal(0.4, 0.03)}
    with pytest.raises(ThresholdError, match=r"'nearly'.*'slow'.*1,000.* Allow more epochs"):
        fit(right, {"nearly": normal(0.3, 0.03)}, SPREAD)
    with pytest.raises(ThresholdError, match=r"'easy'.*'slow'.* Choose data on which 'easy' is worse"):
        fit(right, {"easy": normal(0.45, 0.03)}, SPREAD)
    error = Score("error", worst=1.0, step=0.005, higher_is_better=False)
    with pytest.raises(ThresholdError, match="Choose data on which 'easy' is worse"):
        fit({"slow": normal(0.4, 0.03)}, {"easy": normal(0.35, 0.03)}, SPREAD, error)


def test_fit_allows_for_spread() -> None:
    """The threshold is farther from the side with more spread."""
    found = fit({"a": normal(0.6, 0.03)}, {"b": normal(0.2, 0.01)}, 0.001)
    assert found["full"] == pytest.approx(0.3, abs=0.02)


def test_fit_lower_is_better() -> None:
    """For errors, thresholds and verdicts are those of the mirrored accuracies, mirrored."""
    error = Score("error", worst=1.0, step=0.005, higher_is_better=False)
    right, wrong = {"a": normal(0.6, 0.02), "b": normal(0.55, 0.02)}, {"c": normal(0.2, 0.02)}
    mirrored = [{name: [1 - v for v in values] for name, values in side.items()} for side in (right, wrong)]
    found, other = fit(right, wrong, SPREAD), fit(*mirrored, SPREAD, error)
    assert other == pytest.approx({name: 1 - value for name, value in found.items()})
    assert other["full"] < other["start"]
    for name, values, is_right in (("b", right["b"], True), ("c", wrong["c"], False)):
        one = judge(name, is_right, values, found["full"], SPREAD)
        two = judge(name, is_right, [1 - v for v in values], other["full"], SPREAD, error)
        assert (two.wrong, two.probability) == (one.wrong, pytest.approx(one.probability))


def test_fit_needs_both_sides() -> None:
    """Without wrong variants there is nothing to fit."""
    with pytest.raises(ThresholdError, match="right and wrong variants: both kinds are needed"):
        fit({"a": normal(0.6, 0.02)}, {}, SPREAD)


def test_spread_lower_bound() -> None:
    """The spread is at least the counting error of the test images."""
    assert fit({"a": [0.6] * 5}, {"b": [0.2] * 5}, SPREAD)["start"] >= 0.2 + 3 * SPREAD
    assert judge("b", False, [0.2] * 5, 0.4, SPREAD).probability > 0


@pytest.mark.parametrize(("right", "wrong"), [(True, 2), (False, 1)])
def test_verdicts_count_wrong_ones(right: bool, wrong: int) -> None:
    """Wrong verdicts are counted for right and for wrong styles."""
    verdict = judge("a", right, [0.3, 0.35, 0.4], 0.4, SPREAD)
    assert (verdict.wrong, verdict.n) == (wrong, 3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Lab) -> tuple[Lab, list[tuple[str, int]]]:
    """A lab whose accuracies come from a random generator, and the list of its measured runs."""
    runs: list[tuple[str, int]] = []

    def measure(declared: Calibrated, style: Style, seed: int) -> tuple[list[float], float]:
        runs.append((style.name, seed))
        if len(runs) == 17:
            raise KeyboardInterrupt
        return [float(np.random.default_rng(seed).normal(0.6 if style.right else 0.2, 0.02))], 1.0

    styles = [Style(name, right=name != "w", source=name) for name in ("r", "s", "w")]
    monkeypatch.setattr(calibration, "measure", measure)
    monkeypatch.setattr(
        calibration, "calibrated_of", lambda lab, part: Calibrated(TransferTask(lab), styles, {"drawn": 0.5})
    )
    settings = {**lab.settings, "accuracy": {**lab.settings["accuracy"], "learning_rates": [0.001]}}
    return dataclasses.replace(lab, folder=tmp_path, settings=settings), runs


def test_calibration_resumes(quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path) -> None:
    """An interrupted calibration resumes with the seed that was interrupted."""
    lab, runs = quick
    kept = tmp_path / "kept" / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Calibration(lab, seeds=5, fresh=5).run(kept, jobs=1)
    before = len(kept.read_text().splitlines())
    assert before == 15
    evidence = Calibration(lab, seeds=5, fresh=5).run(kept, jobs=1)
    assert len(runs) == 32  # the two runs of the interrupted seed are repeated
    assert len(kept.read_text().splitlines()) == 30
    assert {name: len(rows["shares"]) for name, rows in evidence["samples"].items()} == {"r": 10, "s": 10, "w": 10}
    assert evidence["right"]["runs"] == 10


def test_calibration_repeats_incomplete_runs(quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path) -> None:
    """Runs that ended at a lower ceiling are repeated."""
    lab, runs = quick
    kept = tmp_path / "runs.jsonl"
    calibration = Calibration(lab, seeds=3, fresh=3)
    cut = [{"style": "r", "mark": calibration.marks["r"], "seed": seed, "shares": [0.4, 0.45]} for seed in range(6)]
    kept.write_text("".join(json.dumps({**row, "seconds": 1.0}) + "\n" for row in cut))
    runs.extend([("", 0)] * 20)  # past the run that is interrupted
    evidence = calibration.run(kept, jobs=1)
    assert len({seed for name, seed in runs if name == "r"}) == 6
    assert [len(row) for row in evidence["samples"]["r"]["shares"]] == [1] * 6


def test_calibration_ceiling(lab: Lab) -> None:
    """The lab defines the accuracy up to which further learning rates are tried."""
    declared = calibrated_of(lab)
    assert declared.ceiling is not None
    assert declared.complete([declared.ceiling])
    assert not declared.complete([0.2, declared.ceiling - 0.01])
    assert declared.complete([0.2] * len(lab.settings["accuracy"]["learning_rates"]))
    assert thresholds(declared.task)["full"] <= declared.ceiling


def test_calibration_file_by_kind_of_data(quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path) -> None:
    """The file stores each kind of data separately."""
    lab, _ = quick
    (tmp_path / "thresholds.json").write_text('{"reptiles": {"thresholds": {"full": 0.5}}}')
    kept = tmp_path / "runs.jsonl"
    calibration = Calibration(lab, seeds=3, fresh=3)
    with pytest.raises(KeyboardInterrupt):
        calibration.run(kept, jobs=1)
    evidence = calibration.run(kept, jobs=1)
    calibration.write(evidence)
    written = json.loads((tmp_path / "thresholds.json").read_text())
    assert written["reptiles"] == {"thresholds": {"full": 0.5}}
    assert written["drawn"] == json.loads(json.dumps(evidence))
    calibration_page.plot(evidence, tmp_path / "plot.png", calibration.task, "a title")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert calibration_page.table(evidence, calibration.task).count("\n") == 4


def test_calibration_counted_attempts() -> None:
    """Attempts count up to and including the first that reaches the threshold."""
    assert counted([0.2, 0.46, 0.6], 0.45) == [0.2, 0.46]
    assert counted([0.2, 0.3], 0.45) == [0.2, 0.3]


def test_calibrate_refuses_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer than three seeds and unknown labs are refused."""
    assert main(["calibrate", ASSIGNMENT, "--seeds", "2"]) == 2
    assert "three seeds" in capsys.readouterr().err
    assert main(["calibrate", "no-such-lab"]) == 2
    assert "no lab 'no-such-lab'" in capsys.readouterr().err


SHIPPED = json.loads((ROOT / "amllab/checks/transfer_learning/thresholds.json").read_text())


@pytest.mark.parametrize("kind", sorted(SHIPPED))
def test_thresholds_shipped_match_evidence(kind: str) -> None:
    """The shipped thresholds and verdicts follow from the evidence in their file."""
    found = SHIPPED[kind]
    calibration = Calibration(find_lab(ASSIGNMENT), data="drawn" if kind == "drawn" else "cifar100")
    assert calibration.task.data == kind
    (_, a), (_, b) = found["seeds"]["fitted"], found["seeds"]["fresh"]
    spread = math.sqrt(0.25 / found["budget"]["test_images"]) / 2
    styles = {style.name: style for style in transfer_learning.STYLES}
    assert styles.keys() == found["samples"].keys()
    fitted: dict[str, list[float]] = {}
    fresh: dict[str, list[float]] = {}
    for name, rows in found["samples"].items():
        values = dict(zip(range(0, b, rows["every"]), map(max, rows["shares"]), strict=True))
        assert rows["fitted"] is styles[name].fitted
        fitted[name] = [value for seed, value in values.items() if seed < a]
        fresh[name] = [value for seed, value in values.items() if seed >= a]
    by_side = [
        {n: v for n, v in fitted.items() if styles[n].fitted and styles[n].right is side} for side in (True, False)
    ]
    assert found["thresholds"] == pytest.approx(fit(*by_side, spread))
    for verdict in found["verdicts"]:
        name, full = verdict["style"], found["thresholds"]["full"]
        again = judge(name, styles[name].right, fresh[name], full, spread)
        assert vars(again) == pytest.approx(verdict)
        if styles[name].fitted:
            assert again.at_most <= WRONG_VERDICTS, again
            assert again.wrong == 0


@pytest.mark.slow
def test_unfitted_styles_are_rejected(lab: Lab) -> None:
    """A wrong style that is not fitted is rejected by other checks, whatever its accuracy."""
    styles = [style for style in transfer_learning.STYLES if not style.fitted]
    assert [style.name for style in styles] == ["random weights, all trained, AdamW"]
    task = TransferTask(lab)
    for style in styles:
        with pytest.raises(CheckFailure):
            attempted(submission_of(task, style), task, seed=3)
    (plain,) = [style for style in transfer_learning.STYLES if style.name == "AdamW"]
    assert attempted(submission_of(task, plain), task, seed=3) > 0.3


def test_calibration_page_is_up_to_date(lab: Lab) -> None:
    """The documentation page agrees with the file of thresholds."""
    text = (ROOT / "docs" / f"calibration-{ASSIGNMENT}.md").read_text()
    assert text == calibration_page.page([TransferTask(lab)], SHIPPED)
    assert all((ROOT / "docs" / calibration_page.picture_name(TransferTask(lab), kind)).is_file() for kind in SHIPPED)


def test_thresholds_of_another_budget(lab: Lab) -> None:
    """Thresholds measured with another budget are refused."""
    found = thresholds(TransferTask(lab))
    assert found["start"] < found["full"]
    other = {**lab.settings["accuracy"], "max_epochs": 1}
    with pytest.raises(ValueError, match=f"autograder calibrate {ASSIGNMENT}"):
        thresholds(TransferTask(dataclasses.replace(lab, settings={**lab.settings, "accuracy": other})))


@pytest.mark.parametrize(("seeds", "fresh"), [(3, 3), (5, 11), (7, 4), (20, 40)])
def test_few_seeds_for_each_variant(lab: Lab, seeds: int, fresh: int) -> None:
    """Each variant is measured on three seeds of each kind, also one that needs fewer seeds than others."""
    styles = Calibration(lab, seeds=seeds, fresh=fresh).declared.styles
    for part in (range(seeds), range(seeds, seeds + fresh)):
        assert min(sum(seed % style.every == 0 for seed in part) for style in styles) >= 3
    declared = {style.name: style.every for style in calibrated_of(lab).styles}
    assert max(declared.values()) > 1
    assert min(seeds, fresh) < 20 or {style.name: style.every for style in styles} == declared
