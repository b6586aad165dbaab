"""Feedback of failed checks: the content of reports, symptoms of mistakes, and code that reproduces them."""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from bs4 import BeautifulSoup
from nbformat import NotebookNode

import amllab
from amllab.checks import Failure, Series, series
from amllab.checks.render import to_html, to_text
from amllab.checks.results import CheckResult, score
from amllab.checks.runner import run_checks
from amllab.checks.transfer_learning import freezing
from amllab.kit.state_dicts import layer_names
from amllab.lab import find_lab
from amllab.protocol.submission import InProcessSubmission
from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.checks.transfer_learning.corpus.public import PUBLIC_WRONG
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from autograder.labs.corpus import Solution
from autograder.labs.locations import HIDDEN_CHECKS, KIT
from autograder.notebooks.rendering import clean_html
from tests.conftest import sampled

LAB = find_lab("transfer_learning")
HIDDEN = HIDDEN_CHECKS / LAB.name
FILES = {cell: [LAB.folder / f"test_{cell}.py", *sorted(HIDDEN.glob(f"test_{cell}*_hidden.py"))] for cell in PLAIN}


# Rendering


def failed(failure: Failure) -> list[CheckResult]:
    return [CheckResult("test_x", "Title.", "check_x", 3, "failed", failure)]


def html_words(html: str) -> list[str]:
    return BeautifulSoup(html, "html.parser").get_text(" ").split()


LOSSES = Series("val_loss", (1.0, 0.9, math.nan, 1.2), ((1, "best"), (2, "should stop"), (3, "stopped")))
SERIES = {
    "short": LOSSES,
    "long": Series(
        "val_loss", tuple(1 / (1 + i) for i in range(500)), ((40, "best"), (45, "should stop"), (499, "end"))
    ),
    "two rows": Series("val_loss", tuple(float(i) for i in range(15))),
    "marks behind the values": series("val_loss", [1.0, 2.0], best=2, stopped=1),
    "two marks": series("val_loss", [1.0, 2.0], best=1, stopped=1),
    "constant": Series("x", (0.5, 0.5)),
    "not finite": Series("x", (math.inf, -math.inf, math.nan, 1e308, -1e308)),
    "NaN alone": Series("x", (math.nan,)),
    "nothing": Series("x", ()),
}


def test_series_as_text_table() -> None:
    """In text, a series is a table with its marks."""
    text = to_text(failed(Failure("a", "b", "c", series=LOSSES)))
    table = text[text.index("    epoch") :].splitlines()[:-1]
    assert table == [
        "    epoch     0      1      2      3",
        "    val_loss  1.000  0.900  NaN    1.200",
        "              ▃      ▁      ×      █",
        "                     ↑ best",
        "                            ↑ should stop",
        "                                   ↑ stopped",
    ]


@pytest.mark.parametrize("name", SERIES)
def test_report_text_equals_html(name: str) -> None:
    """Reports in text and in HTML have the same content."""
    failure = Failure(
        "1 & 2", "a < b", "<i>c</i>", "the loop", series=SERIES[name], reproduce="x = 1\nif x < 2:\n    x"
    )
    text, html = to_text(failed(failure)), to_html(failed(failure))
    details = text[text.index("expected:") : text.rindex("\n")]
    words = html_words(html)
    assert words[words.index("expected:") :] == details.split()
    assert "<i>c" not in html
    lines = details[details.index("try it:") :].splitlines()
    assert [line[14:] for line in [" " * 4 + lines[0], *lines[1:]]] == failure.reproduce.splitlines()
    assert BeautifulSoup(html, "html.parser").pre.get_text() == failure.reproduce  # type: ignore[union-attr]
    assert max(map(len, text.splitlines())) <= 100


def test_report_survives_sanitizing() -> None:
    """The sanitizer of formgrader and feedback pages leaves a report unchanged."""
    # formgrader and feedback sanitize their pages
    failure = Failure("a", "b < c", "d", series=LOSSES, reproduce="x = 1 < 2")
    report = to_html(failed(failure))
    before, after = (BeautifulSoup(html, "html.parser") for html in (report, clean_html(report)))
    assert after.get_text() == before.get_text()
    assert [tag["style"] for tag in after.find_all(style=True)] == [tag["style"] for tag in before.find_all(style=True)]


def test_series_long_keeps_marks() -> None:
    """A long series is shortened, but keeps its marks."""
    text = to_text(failed(Failure("a", "b", "c", series=SERIES["long"])))
    epochs = [word for line in text.splitlines() if line.startswith("    epoch") for word in line.split()[1:]]
    assert {"0", "40", "45", "499", "…"} <= set(epochs)
    assert len(epochs) < 40
    assert len(text.splitlines()) < 25


def test_series_drops_invalid_marks() -> None:
    """Marks that are not an index of the series are dropped."""
    # a submission may return any number as its best epoch
    marks = {f"m{i}": epoch for i, epoch in enumerate([None, math.nan, math.inf, -1, 1e300, 0.5, 3, 2.0])}
    assert series("x", [1, 2], **marks).marks == ((2, "m7"),)


def test_failure_evidence_and_json() -> None:
    """Only failures show evidence, and they can be serialized as JSON."""
    failure = Failure("a", "b", "c", series=SERIES["not finite"], reproduce="x")
    (result,) = failed(failure)
    got = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert got["failure"]["series"]["values"] == ["inf", "-inf", "nan", 1e308, -1e308]
    for outcome in ("skipped", "error"):
        other = [CheckResult("t", "T.", "c", 1, outcome, failure)]  # type: ignore[arg-type]
        assert "try it" not in to_text(other) + to_html(other)
        assert "∞" not in to_text(other)
        assert "table" not in to_html(other)


def test_report_lists_failures_first() -> None:
    """Failures come first, and those with the same symptom share one block."""

    def of(name: str, outcome: Any, failure: Failure | None = None) -> CheckResult:
        return CheckResult(name, f"Title of {name}.", "check_x", 2, outcome, failure)

    late = Failure("5 epochs", "6 epochs", "patience", symptom="1 epoch late", series=LOSSES, reproduce="x")
    later = Failure(
        "7 epochs", "8 epochs", "patience", symptom="1 epoch late", series=SERIES["constant"], reproduce="y"
    )
    other = Failure("a", "b", "c", symptom="percent", series=SERIES["two marks"], reproduce="z")
    results = [
        of("a", "passed"),
        of("b", "failed", late),
        of("c", "skipped", Failure("waits for this check: Title of b.", "", "")),
        of("d", "failed", later),
        of("e", "skipped", Failure("waits for this check: Title of b.", "", "")),
        of("f", "failed", other),
    ]
    text = to_text(results)
    titles = [line for line in text.splitlines() if line[0] in "✗✓–"]
    assert titles == [
        "✗ Title of b.  [0/2]",
        "✗ Title of d.  [0/2]",
        "✗ Title of f.  [0/2]",
        "– not run until the other checks pass: Title of c. · Title of e.  [0/4]",
        "✓ Title of a.  [2/2]",
    ]
    assert [text.count(part) for part in ("6 epochs", "8 epochs", "try it", "    epoch")] == [1, 0, 2, 2]
    # a recognised mistake explains all failures, so only the first block shows the numbers
    named = to_text(results, ["This looks like a known mistake: stops late."])
    assert named.startswith("→ This looks like a known mistake: stops late.\n✗ Title of b.")
    assert [named.count(part) for part in ("try it", "    epoch")] == [1, 1]
    for remarks in ([], ["This looks like a known mistake: stops late."]):
        said = " ".join(html_words(to_html(results, remarks=remarks)))
        places = [said.index(f"Title of {name}.") for name in "bdfcea"]
        assert places == sorted(places)
        assert said.count("try it:") == 2 - len(remarks) == to_html(results, remarks=remarks).count("<table")


def test_report_hides_symptoms() -> None:
    """Symptoms are internal and not part of a report."""
    results = failed(Failure("a", "b", "c", symptom="XYZZY"))
    assert "XYZZY" not in to_text(results) + to_html(results)


# Mistakes


def namespace(variant: Solution) -> dict[str, Any]:
    """Return the variables of a notebook: the imports of its setup, and the variant's functions."""
    names = ("layers_of", "load_backbone", "evaluate")
    variables: dict[str, Any] = {"torch": torch, "timm": timm, "math": math, "nn": torch.nn}
    variables |= {name: getattr(amllab, name) for name in names}
    for cell, source in PLAIN.items():
        exec(variant.sources.get(cell, source), variables)
    return variables


@cache
def reference() -> InProcessSubmission:
    """Return the plain correct functions: one object for all tests, because it caches its answers."""
    return InProcessSubmission(LAB.name, namespace(CORRECT[0]))


def graded(variant: Solution, cell: str, seed: int) -> list[CheckResult]:
    submission = InProcessSubmission(LAB.name, namespace(variant))
    return run_checks(LAB, FILES[cell], submission, reference=reference, seed=seed)


@cache
def failures(name: str, seed: int) -> dict[str, Failure]:
    """Return the failures of the checks that a wrong variant fails."""
    variant = next(v for v in TYPICAL if v.name == name)
    (cell,) = variant.sources
    results = graded(variant, cell, seed)
    assert {r.outcome for r in results} <= {"passed", "failed", "skipped"}, to_text(results)
    return {r.name: r.failure for r in results if r.outcome == "failed" and r.failure is not None}


def pattern(name: str, seed: int) -> dict[str, str]:
    return {check: failure.symptom for check, failure in failures(name, seed).items()}


SEEDS = (1, 123456789, 987654321)
PATTERNS = {
    "freezes_the_last": {"test_last_layers_are_trainable": "counted from the input"},
    "off_by_one": {
        "test_last_layers_are_trainable": "one layer too few",
        "test_all_and_none": "one layer too few",
    },
    "never_thaws": {"test_thaws": "never thaws"},
    "returns_nothing": {"test_returns_the_model": "in place, but not returned"},
    "freezes_a_copy": {"test_returns_the_model": "model itself untouched"},
    "skips_biases": {
        "test_last_layers_are_trainable": "one-dimensional parameters missed",
        "test_all_and_none": "one-dimensional parameters missed",
    },
    "misses_root_parameters": {"test_every_architecture": "parameters of the model itself missed"},
    "head_not_replaced": {"test_new_head": "old head kept", "test_fresh_head": "old head kept"},
    "always_net12": {"test_any_backbone": "another backbone"},
    "old_head_kept_for_ten_classes": {"test_fresh_head": "old head kept"},
    "not_pretrained": {"test_keeps_the_pretrained_weights": "not pretrained"},
    "one_model_for_all": {"test_shares_no_tensors": "one model for all"},
    "freezes_before_new_head": {"test_freezes_all_but_the_last": "head always trainable"},
    "does_not_freeze": {"test_freezes_all_but_the_last": "nothing frozen"},
    "accepts_one_class": {"test_refuses_fewer_than_two_classes": "accepts 1 class"},
    "patience_one_too_many": {"test_stops_after_patience": "1 epoch late"},
    "best_by_reference": {"test_ends_with_the_best_epoch": "weights: last epoch; buffers: last epoch; by reference"},
    "last_weights": {"test_ends_with_the_best_epoch": "weights: last epoch; buffers: last epoch; never put back"},
    "buffers_not_restored": {"test_ends_with_the_best_epoch": "buffers: last epoch; buffers left out"},
    "means_over_batches": {"test_means_over_examples": "val_loss: mean over the batches"},
    "percent": {"test_means_over_examples": "val_acc: percent"},
    "train_mode_once": {"test_modes": "train mode in the first epoch alone"},
    "validates_in_train_mode": {"test_modes": "validation in train mode"},
    "validates_with_gradients": {"test_modes": "validation with gradients"},
    "gradients_pile_up": {"test_gradients_of_one_batch": "piled up"},
    "learning_rate_ignored": {"test_steps": "learning rate ignored"},
    "min_delta_ignored": {"test_min_delta": "min_delta ignored"},
    "ties_improve": {"test_nan_is_no_improvement": "NaN improves"},
    "tensors_in_history": {"test_history": "val_loss: tensor"},
    "best_epoch_from_one": {"test_best_epoch": "best_epoch: counted from 1"},
    "statistics_drift": {"test_frozen_layers_stay": "statistics drift"},
    "accepts_patience_zero": {"test_refuses_impossible_arguments": "accepts patience=0"},
}


@pytest.mark.parametrize("name", sampled(PATTERNS, 48))
def test_symptoms_independent_of_seed(name: str) -> None:
    """A mistake has the same symptoms with every seed."""
    assert [pattern(name, seed) for seed in SEEDS[:2]] == [PATTERNS[name]] * 2


def test_symptoms_distinguish_mistakes() -> None:
    """No two mistakes have the same pattern of symptoms."""
    patterns = [tuple(pattern.items()) for pattern in PATTERNS.values()]
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize("variant", sampled(CORRECT, 4), ids=lambda variant: variant.name)
def test_correct_functions_get_full_marks(variant: Solution) -> None:
    """Correct functions lose no points."""
    results = [r for cell in PLAIN for r in graded(variant, cell, SEEDS[0])]
    assert score(results) == (70, 70), to_text(results)


def check_files(*folders: Path) -> list[Path]:
    """Return the files of checks of the exercises, and of their helpers in some folders."""
    helpers = [file for folder in folders for file in folder.glob("*.py")]
    helpers = [file for file in helpers if not file.name.startswith("test_") and "accuracy" not in file.stem]
    return [*itertools.chain(*FILES.values()), *helpers]


def test_failures_have_symptom_and_reason() -> None:
    """Every expectation of a check states a symptom and a reason."""
    calls = [
        (file.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for file in check_files(LAB.folder, HIDDEN, KIT)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "expect"
    ]
    assert len(calls) > 30
    assert not [call for call in calls if not {"expected", "seen", "why", "symptom"} <= call[2]]


def test_symptoms_of_missing_and_raising() -> None:
    """Missing and raising functions have a symptom, too."""

    def results(**functions: Any) -> dict[str, str]:
        submission = InProcessSubmission(LAB.name, functions)
        checked = run_checks(LAB, FILES["freeze_layers"][:1], submission)
        return {r.name: r.failure.symptom for r in checked if r.outcome == "failed" and r.failure is not None}

    def own(model: object, n: int) -> None:
        raise type("<b>Mine</b>", (KeyError,), {})

    assert set(results().values()) == {"missing"}
    assert set(results(freeze_layers=own).values()) == {"raised KeyError"}


@pytest.mark.parametrize(
    ("trainable", "symptom"),
    [
        (lambda layers, n: layers[-n:], "all trainable for 0"),
        (lambda layers, n: layers[: len(layers) - n], "frozen and trainable swapped"),
        (lambda layers, n: layers[len(layers) - n - 1 :] if n < len(layers) else layers, "one layer too many"),
        (lambda layers, n: layers[len(layers) - n : -1], "head always frozen"),
        (lambda layers, n: [], "everything frozen"),
        (lambda layers, n: layers[-n:][:1] if n else [], "one layer alone"),
        (lambda layers, n: layers[len(layers) - n :], ""),
        (lambda layers, n: layers[2:], "other layers"),
        (lambda layers, n: layers[-1:], "always the head alone"),
    ],
)
def test_symptoms_of_freezing(trainable: Any, symptom: str) -> None:
    """Each way to make the wrong layers trainable has its own symptom, with a reason."""
    layers = layer_names("net6")
    asked = [("net6", n, {name for layer in trainable(layers, n) for name in layer}) for n in (1, 3, 6, 0)]
    assert freezing.symptom(asked) == symptom
    assert freezing.reason(symptom)


def test_layers_in_words() -> None:
    """Reports name layers by their numbers, and say if only parts of a layer are meant."""
    layers = layer_names("net6")
    assert freezing.layers_in_words("net6", {*layers[4], *layers[5]}) == "layers 4, 5"
    assert freezing.layers_in_words("net6", set()) == "none"
    assert freezing.layers_in_words("net6", {*layers[5], "stem.conv.weight"}) == ("layer 5 and parts of layer 0")


# Code that reproduces a mistake


def outcome(lines: str, variables: dict[str, Any]) -> tuple[str, str]:
    """Return what the lines print, and the value of the last line or the error that they raise."""
    tree = ast.parse(lines)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(tree, "<lines>", "exec"), variables)
            value = repr(eval(compile(ast.Expression(last.value), "<lines>", "eval"), variables)) if last else ""
        except ValueError:
            value = "ValueError"
    return printed.getvalue(), value


SAID = {
    "returns_nothing": "`None` was returned: is `return model` missing?",
    "always_net12": 'a net12 was returned for backbone="net6"',
    "off_by_one": "trainable: layers 4, 5; n_trainable = 0, 1, 2, 3, 4, 5, 6 leaves 0, 0, 1, 2, 3, 4, 5 layers trainable",
    "freezes_a_copy": "another model is returned, and the one that was given is as it was",
}


@pytest.mark.parametrize("name", sampled(SAID, 4))
def test_report_plain_wording(name: str) -> None:
    """Reports describe a mistake in plain words."""
    for seed in SEEDS[:2]:
        assert SAID[name] in [failure.seen for failure in failures(name, seed).values()]


# mistakes of public code, and the text that names their cause
NAMED = {
    "names_of_net12": "; of net12 it is right: are names of its layers, or their number, written into the code?",
    "child_counter": "n_trainable = 0, 1, 2, 3, 4, 5, 6 leaves 0, 1, 2, 5, 6, 6, 6 layers trainable",
    "fc_as_in_resnets": ": the new `fc.weight` is not used by the model. Its head is `model.get_classifier()`",
    "only_if_classes_differ": "Is the head replaced only where the number of classes differs?",
    "adapters_in_convolutions": "; there are others: `",
}


@pytest.mark.parametrize("name", sampled(NAMED, 5))
def test_report_names_cause(name: str) -> None:
    """Reports name the cause of mistakes in public code."""
    (wrong,) = [w for w in PUBLIC_WRONG if w.name == name]
    variables = namespace(Solution(name, sources=wrong.sources))
    results = run_checks(LAB, FILES[wrong.cell], InProcessSubmission(LAB.name, variables), seed=SEEDS[0])
    assert NAMED[name] in to_text(results), to_text(results)


@pytest.mark.slow
def test_reasons_match_mistakes() -> None:
    """No reason names a mistake that the submission does not make."""
    whys = {name: " ".join(f.why for f in failures(name, SEEDS[0]).values()) for name in PATTERNS}
    assert [name for name, why in whys.items() if "put in after freezing" in why] == ["freezes_before_new_head"]
    assert [name for name, why in whys.items() if "from scratch" in why] == ["not_pretrained"]


@pytest.mark.parametrize("name", sampled(PATTERNS, 48))
def test_reproduction_shows_mistake(name: str) -> None:
    """The suggested lines reproduce the mistake, and behave otherwise with correct functions."""
    variant = next(v for v in TYPICAL if v.name == name)
    for seed in SEEDS[1:]:
        for failure in failures(name, seed).values():
            assert failure.reproduce
            right, again, wrong = (outcome(failure.reproduce, namespace(v)) for v in (CORRECT[0], CORRECT[0], variant))
            assert right == again != wrong
            assert str(seed) not in failure.reproduce


def test_reproduction_matches_report() -> None:
    """The suggested lines print the numbers of the report."""
    failure = failures("patience_one_too_many", SEEDS[0])["test_stops_after_patience"]
    assert failure.series is not None
    epoch = {mark: e for e, mark in failure.series.marks}
    wrong = next(v for v in TYPICAL if v.name == "patience_one_too_many")
    _, right_value = outcome(failure.reproduce, namespace(CORRECT[0]))
    _, wrong_value = outcome(failure.reproduce, namespace(wrong))
    assert right_value == f"({epoch['should stop'] + 1}, {epoch['best']})"
    assert wrong_value == f"({epoch['stopped'] + 1}, {epoch['best']})"


def test_scripted_training_losses() -> None:
    """A scripted training yields the requested losses."""
    losses = [1.0, 0.25, math.nan]
    model, train_loader, val_loader = amllab.scripted_training(losses, train_sizes=(5, 1), val_sizes=(2, 2))
    history = namespace(CORRECT[0])["train_with_early_stopping"](model, train_loader, val_loader, max_epochs=4)
    assert history["val_loss"] == pytest.approx([*losses, math.nan], abs=1e-5, nan_ok=True)
    assert history["best_epoch"] == 1
    assert sorted(model.states) == [0, 1, 2, 3]
    assert torch.equal(model.states[1]["head.weight"], model.head.weight)
    assert [len(labels) for _, labels in train_loader] == [5, 1]
    for arguments in ({"val_losses": []}, {"val_losses": [-1.0]}, {"val_losses": [math.inf]}):
        with pytest.raises(ValueError, match="val_losses"):
            amllab.scripted_training(**arguments)
    with pytest.raises(ValueError, match="batches"):
        amllab.scripted_training([1.0], val_sizes=())


# Pointers to the notebook


def test_pointers_exist_in_notebook(release: NotebookNode) -> None:
    """Sections that failures point to exist in the notebook."""
    text = re.sub(r"<[^>]+>|\*\*", "", "\n".join(cell.source for cell in release.cells))
    files = check_files(LAB.folder, HIDDEN)
    named = {node.value for f in files for node in ast.walk(ast.parse(f.read_text())) if _is_pointer(node)}
    assert len(named) > 12
    for where in named:
        exercise, _, place = where.partition(", ") if ", " in where else (where, "", where)
        assert exercise in text
        assert place in text, where


def _is_pointer(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(re.match(r"Exercise \d[,:]", node.value))
    )
