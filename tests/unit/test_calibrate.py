"""Thresholds: how they are fitted and judged, and that those shipped follow from the evidence that lies beside them."""

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


def test_bounds_are_those_of_the_tables() -> None:
    # one-sided tolerance factors, 95 % confidence, 99 % of the population: Hahn and Meeker, Statistical Intervals
    assert tail_at_most(10, 3.981) == pytest.approx(0.01, rel=1e-3)
    assert tail_at_most(50, 2.862) == pytest.approx(0.01, rel=1e-2)


def test_a_bound_of_a_tail_is_above_its_estimate_and_closes_in() -> None:
    bounds = [tail_at_most(n, 4.0) for n in (5, 20, 100, 10_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert 3.17e-5 < bounds[-1] < 5e-5
    assert tail_at_most(20, -1.0) == 0.5


def test_a_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = 0.00135  # beyond three standard deviations
    samples = rng.standard_normal((400, 25))
    bounds = [tail_at_most(25, (3 - row.mean()) / row.std(ddof=1)) for row in samples]
    assert 0.91 < np.mean([bound >= truth for bound in bounds]) < 0.99


def test_counting_alone() -> None:
    assert counted_at_most(0, 3000) == pytest.approx(1e-3, rel=0.01)  # the rule of three
    assert counted_at_most(0, 100) < counted_at_most(1, 100)


def test_thresholds_lie_between_wrong_and_right() -> None:
    found = fit({"a": normal(0.6, 0.02), "b": normal(0.55, 0.02)}, {"c": normal(0.2, 0.02)}, SPREAD)
    assert found["start"] == pytest.approx(0.2 + 3.09 * 0.02, abs=0.02)
    assert found["full"] == pytest.approx(0.375, abs=0.02)  # half-way: all spreads are the same
    assert all(round(value / calibration.STEP, 6).is_integer() for value in found.values())


def test_styles_that_overlap_are_named() -> None:
    with pytest.raises(ThresholdError, match=r"'nearly'.*'slow'.*1,000"):
        fit({"fast": normal(0.7, 0.02), "slow": normal(0.4, 0.03)}, {"nearly": normal(0.3, 0.03)}, SPREAD)


def test_the_side_with_more_spread_gets_more_room() -> None:
    found = fit({"a": normal(0.6, 0.03)}, {"b": normal(0.2, 0.01)}, 0.001)
    assert found["full"] == pytest.approx(0.3, abs=0.02)


def test_a_spread_below_that_of_counting_is_not_believed() -> None:
    assert fit({"a": [0.6] * 5}, {"b": [0.2] * 5}, SPREAD)["start"] >= 0.2 + 3 * SPREAD
    assert judge("b", False, [0.2] * 5, 0.4, SPREAD).probability > 0


@pytest.mark.parametrize(("right", "wrong"), [(True, 2), (False, 1)])
def test_wrong_verdicts_are_counted(right: bool, wrong: int) -> None:
    verdict = judge("a", right, [0.3, 0.35, 0.4], 0.4, SPREAD)
    assert (verdict.wrong, verdict.n) == (wrong, 3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lab: Lab) -> tuple[Lab, list[tuple[str, int]]]:
    """A lab whose accuracies come from a generator, and a list of what was measured."""
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


def test_an_interrupted_calibration_goes_on(quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path) -> None:
    lab, runs = quick
    kept = tmp_path / "kept" / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Calibration(lab, seeds=5, fresh=5).run(kept, jobs=1)
    before = len(kept.read_text().splitlines())
    assert before == 15
    evidence = Calibration(lab, seeds=5, fresh=5).run(kept, jobs=1)
    assert len(runs) == 32  # the two of the seed that was cut off are measured again
    assert len(kept.read_text().splitlines()) == 30
    assert {name: len(rows["shares"]) for name, rows in evidence["samples"].items()} == {"r": 10, "s": 10, "w": 10}
    assert evidence["right"]["runs"] == 10


def test_runs_that_ended_at_a_lower_ceiling_are_made_again(
    quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path
) -> None:
    lab, runs = quick
    kept = tmp_path / "runs.jsonl"
    calibration = Calibration(lab, seeds=3, fresh=3)
    cut = [{"style": "r", "mark": calibration.marks["r"], "seed": seed, "shares": [0.4, 0.5]} for seed in range(6)]
    kept.write_text("".join(json.dumps({**row, "seconds": 1.0}) + "\n" for row in cut))
    runs.extend([("", 0)] * 20)  # nothing interrupts this one
    evidence = calibration.run(kept, jobs=1)
    assert len({seed for name, seed in runs if name == "r"}) == 6
    assert [len(row) for row in evidence["samples"]["r"]["shares"]] == [1] * 6


def test_a_lab_says_up_to_where_learning_rates_are_tried(lab: Lab) -> None:
    drawn = transfer_learning.ceiling(lab)
    assert transfer_learning.complete(lab, [drawn])
    assert not transfer_learning.complete(lab, [0.2, drawn - 0.01])
    assert transfer_learning.complete(lab, [0.2] * len(lab.settings["accuracy"]["learning_rates"]))
    assert accuracy.thresholds(lab)["full"] <= drawn


def test_the_file_holds_each_kind_of_data_by_itself(quick: tuple[Lab, list[tuple[str, int]]], tmp_path: Path) -> None:
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


def test_attempts_end_with_the_first_that_is_enough() -> None:
    assert calibration.counted([0.2, 0.46, 0.6], 0.45) == [0.2, 0.46]
    assert calibration.counted([0.2, 0.3], 0.45) == [0.2, 0.3]


def test_too_few_seeds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", ASSIGNMENT, "--seeds", "2"]) == 2
    assert "three seeds" in capsys.readouterr().err
    assert main(["calibrate", "no-such-lab"]) == 2
    assert "no lab 'no-such-lab'" in capsys.readouterr().err


SHIPPED = json.loads((ROOT / "amllab/checks/transfer_learning/thresholds.json").read_text())


@pytest.mark.parametrize("kind", sorted(SHIPPED))
def test_the_shipped_thresholds_follow_from_their_evidence(kind: str) -> None:
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
def test_what_was_not_fitted_is_rejected_whatever_its_accuracy(lab: Lab) -> None:
    styles = [style for style in transfer_learning.STYLES if not style.fitted]
    assert [style.name for style in styles] == ["random weights, all trained, AdamW"]
    assert all(transfer_learning.rejected(lab, style, seed=3) for style in styles)
    (plain,) = [style for style in transfer_learning.STYLES if style.name == "AdamW"]
    assert not transfer_learning.rejected(lab, plain, seed=3)


def test_the_page_says_what_the_file_says(lab: Lab) -> None:
    text = (ROOT / "docs" / f"calibration-{ASSIGNMENT}.md").read_text()
    assert text == calibration_page.page(lab, SHIPPED)
    assert all((ROOT / "docs" / calibration_page.picture_name(lab, kind)).is_file() for kind in SHIPPED)


def test_thresholds_of_another_budget_are_refused(lab: Lab) -> None:
    assert accuracy.thresholds(lab)["start"] < accuracy.thresholds(lab)["full"]
    other = {**lab.settings["accuracy"], "max_epochs": 1}
    with pytest.raises(ValueError, match=f"autograder calibrate {ASSIGNMENT}"):
        accuracy.thresholds(dataclasses.replace(lab, settings={**lab.settings, "accuracy": other}))
