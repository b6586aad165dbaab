"""Thresholds: how they are fitted and validated; the shipped ones follow from the evidence in their file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from amllab.checks.transfer_learning import accuracy
from amllab.lab import Lab, find_lab
from autograder.authoring import calibration, calibration_page
from autograder.authoring.calibration import WRONG_VERDICTS, Calibration, counted_at_most, fit, judge, tail_at_most
from autograder.checks.transfer_learning import calibration as transfer_learning
from autograder.cli import main
from autograder.errors import ThresholdError
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
    assert all(round(value / calibration.STEP, 6).is_integer() for value in found.values())


def test_fit_names_overlapping_styles() -> None:
    """If styles overlap, the error names them."""
    with pytest.raises(ThresholdError, match=r"'nearly'.*'slow'.*1,000"):
        fit({"fast": normal(0.7, 0.02), "slow": normal(0.4, 0.03)}, {"nearly": normal(0.3, 0.03)}, SPREAD)


def test_fit_allows_for_spread() -> None:
    """The threshold is farther from the side with more spread."""
    found = fit({"a": normal(0.6, 0.03)}, {"b": normal(0.2, 0.01)}, 0.001)
    assert found["full"] == pytest.approx(0.3, abs=0.02)


def test_spread_lower_bound() -> None:
    """A measured spread below that of counting test images is replaced by the latter."""
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

    def measure(lab: Lab, style: SimpleNamespace, seed: int) -> tuple[list[float], float]:
        runs.append((style.name, seed))
        if len(runs) == 17:
            raise KeyboardInterrupt
        return [float(np.random.default_rng(seed).normal(0.6 if style.right else 0.2, 0.02))], 1.0

    styles = [
        SimpleNamespace(name=name, right=name != "w", source=name, every=1, fitted=True) for name in ("r", "s", "w")
    ]
    module = SimpleNamespace(
        STYLES=styles,
        ceiling=lambda lab: 0.5,
        complete=lambda lab, shares: len(shares) == 1,
        measure=measure,
        kind=lambda lab: "drawn",
        budget=lambda lab: {"test_images": 500},
    )
    monkeypatch.setattr(calibration, "_module", lambda lab: module)
    return dataclasses.replace(lab, folder=tmp_path), runs


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
    cut = [{"style": "r", "mark": calibration.marks["r"], "seed": seed, "shares": [0.4, 0.5]} for seed in range(6)]
    kept.write_text("".join(json.dumps({**row, "seconds": 1.0}) + "\n" for row in cut))
    runs.extend([("", 0)] * 20)  # past the run that is interrupted
    evidence = calibration.run(kept, jobs=1)
    assert len({seed for name, seed in runs if name == "r"}) == 6
    assert [len(row) for row in evidence["samples"]["r"]["shares"]] == [1] * 6


def test_calibration_ceiling(lab: Lab) -> None:
    """The lab defines the accuracy up to which further learning rates are tried."""
    drawn = transfer_learning.ceiling(lab)
    assert transfer_learning.complete(lab, [drawn])
    assert not transfer_learning.complete(lab, [0.2, drawn - 0.01])
    assert transfer_learning.complete(lab, [0.2] * len(lab.settings["accuracy"]["learning_rates"]))
    assert accuracy.thresholds(lab)["full"] <= drawn


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
    calibration_page.plot(evidence, tmp_path / "plot.png", "a title")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert calibration_page.table(evidence).count("\n") == 4


def test_calibration_counted_attempts() -> None:
    """Attempts count up to and including the first that reaches the threshold."""
    assert calibration.counted([0.2, 0.46, 0.6], 0.45) == [0.2, 0.46]
    assert calibration.counted([0.2, 0.3], 0.45) == [0.2, 0.3]


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
    calibration = Calibration(find_lab(ASSIGNMENT), data="drawn" if kind == "drawn" else str(ROOT / "docs"))
    assert calibration.kind == kind
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
    assert all(transfer_learning.rejected(lab, style, seed=3) for style in styles)
    (plain,) = [style for style in transfer_learning.STYLES if style.name == "AdamW"]
    assert not transfer_learning.rejected(lab, plain, seed=3)


def test_calibration_page_is_up_to_date(lab: Lab) -> None:
    """The documentation page agrees with the file of thresholds."""
    text = (ROOT / "docs" / f"calibration-{ASSIGNMENT}.md").read_text()
    assert text == calibration_page.page(lab, SHIPPED)
    assert all((ROOT / "docs" / calibration_page.picture_name(lab, kind)).is_file() for kind in SHIPPED)


def test_thresholds_of_another_budget(lab: Lab) -> None:
    """Thresholds measured with another budget are refused."""
    assert accuracy.thresholds(lab)["start"] < accuracy.thresholds(lab)["full"]
    other = {**lab.settings["accuracy"], "max_epochs": 1}
    with pytest.raises(ValueError, match=f"autograder calibrate {ASSIGNMENT}"):
        accuracy.thresholds(dataclasses.replace(lab, settings={**lab.settings, "accuracy": other}))
