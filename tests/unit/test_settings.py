"""Mistakes in a lab's settings are reported with file, line and field, before anything is built or graded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amllab.lab import all_labs, find_lab
from autograder.errors import SettingsError
from autograder.labs import settings
from autograder.labs.catalog import checks_of
from autograder.labs.settings import load_lab, settings_of

MODEL = settings_of("transfer_learning")
DUE = "due = 2026-12-18T23:59:00+01:00"
GOOD = (find_lab("transfer-learning").folder / "lab.toml").read_text()


def problems_of(text: str, file: str) -> list[str]:
    return settings.problems_of(text, file, MODEL)


def changed(old: str, new: str) -> tuple[str, int]:
    """Return the lab's own settings with one change, and the line of the change."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new), GOOD[: GOOD.index(old)].count("\n") + 1


def test_settings_of_all_labs_are_valid() -> None:
    """The settings of all labs are valid."""
    assert all_labs()
    for name in all_labs():
        assert load_lab(name) == find_lab(name)


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("cell_seconds = 120", "cell_seconds = -5", "limits.cell_seconds", "must be greater than 0, not -5"),
        ("cell_seconds = 120", 'cell_seconds = "120"', "limits.cell_seconds", "must be a number, not '120'"),
        ("cell_seconds = 120", "cell_seconds = inf", "limits.cell_seconds", "must be a finite number"),
        ("processes = 256", "processes = 2.5", "limits.processes", "must be a whole number, not 2.5"),
        ("processes = 256", "processes = true", "limits.processes", "must be a whole number, not True"),
        ('title = "Transfer learning"', 'title = ""', "title", "must not be empty"),
        ('notebook = "transfer_learning"', 'notebook = "a/b"', "notebook", "must be a file name without .ipynb"),
        ("# packages = ", "packages = 3 #", "packages", 'must be a list, as in ["einops>=0.7"], not 3'),
        ('# packages = ["einops>=0.7"]', 'packages = ["a b"]', "packages[0]", "must be the name of a package"),
        ("max_epochs = 3", "max_epochs = 0", "accuracy.max_epochs", "must be greater than 0, not 0"),
        ("[0.001, 0.1, 0.3]", "[\n0.001,\n-0.1]", "accuracy.learning_rates[1]", "must be greater than 0"),
        ("[0.001, 0.1, 0.3]", "[]", "accuracy.learning_rates", "must have at least one entry"),
        ('AMLLAB_DATA = "drawn"', "AMLLAB_DATA = 3", "environment.AMLLAB_DATA", 'must be text in "quotes", not 3'),
        ('AMLLAB_DATA = "drawn"', 'HOME = "x"', "environment.HOME", "is set by the grader, for all labs"),
        ('AMLLAB_DATA = "drawn"', '"A B" = "x"', "environment.A B", "must be the name of a variable"),
        ("trusted = [", "trusted = [3,", "probes.trusted[0]", 'must be text in "quotes", not 3'),
        ("trusted = [", "trust = []\ntrusted = [", "probes.trust", "did you mean trusted?"),
        ("# [points] ", "[points]\ntest_x = -1 # ", "points.test_x", "must be at least 0, not -1"),
        ("# [deadline]", "[deadline]\ndue = 2026-12-18T23:59:00", "deadline.due", "must have an offset from UTC"),
        ("# [deadline]", "[deadline]\ndue = 2026-12-18", "deadline.due", "must be a date with a time and an offset"),
        ("# [deadline]", f"[deadline]\n{DUE}\nmost_percent = 120", "deadline.most_percent", "must be at most 100"),
        ("# [deadline]", f"[deadline]\n{DUE}\npenalty = 1", "deadline.penalty", "did you mean penalty_percent?"),
    ],
)
def test_settings_wrong_value(old: str, new: str, field: str, expected: str) -> None:
    """A wrong value is reported with line and field."""
    text, line = changed(old, new)
    if new.startswith("["):
        line += new.count("\n") if old.startswith("# ") else 0  # the table is new too
    (problem,) = problems_of(text, "a_lab/lab.toml")
    assert problem.startswith(f"a_lab/lab.toml, line {line}: {field}: ")
    assert expected in problem


def test_settings_packages_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing packages are reported before grading, when every student would lose points for them."""
    lab = find_lab("transfer-learning")
    other = replace(lab, settings={**lab.settings, "packages": ["numpy>=1", "torch<1", "nothing-of-this-name"]})
    monkeypatch.setattr(settings, "find_lab", lambda name: other)
    with pytest.raises(SettingsError) as info:
        load_lab(lab.name)
    old, missing = str(info.value).splitlines()
    assert "packages: torch<1: version " in old
    assert missing.startswith("transfer_learning/lab.toml: packages: nothing-of-this-name: it is not installed; run '")
    assert missing.endswith(""" -m pip install "nothing-of-this-name"'""")


def test_settings_unknown_key() -> None:
    """The message for an unknown key suggests a similar one."""
    text, line = changed("batch_size = 25", "batchsize = 25")
    missing, unknown = problems_of(text, "lab.toml")
    table = GOOD[: GOOD.index("[accuracy]\n")].count("\n") + 1
    assert missing == f"lab.toml, line {table}: accuracy.batch_size: is missing"
    assert unknown == f"lab.toml, line {line}: accuracy.batchsize: is not known; did you mean batch_size?"
    text, line = changed("batch_size = 64", "batchsize = 64")
    (unknown,) = problems_of(text, "lab.toml")
    assert unknown == f"lab.toml, line {line}: accuracy.photographs.batchsize: is not known; did you mean batch_size?"


def test_settings_unknown_table_and_own() -> None:
    """Unknown tables are refused; [own] may contain anything."""
    (problem,) = problems_of(GOOD + "\n[tabel]\nx = 1\n", "lab.toml")
    assert problem.startswith(f"lab.toml, line {GOOD.count(chr(10)) + 2}: tabel: is not known; known are: title, ")
    assert "[own]" in problem
    assert problems_of(GOOD + "\n[own]\nx = 1\n[own.deeper]\ny = [1]\n", "lab.toml") == []


def test_settings_missing_table_and_bad_toml() -> None:
    """Missing tables and invalid TOML are reported."""
    assert problems_of('title = "A"\nnotebook = "a"\n', "f") == ["f, line 1: limits: is missing"]
    (problem,) = problems_of('title = "A"\nnotebook = a\n', "f")
    assert problem.startswith("f: not valid TOML: Invalid value (at line 2")


def test_settings_line_after_multiline_values() -> None:
    """The line number is right after lists and strings that span several lines."""
    text, _ = changed('title = "Transfer learning"', 'title = """a\n[limits]\ncell_seconds = 1\n"""')
    text = text.replace("cell_seconds = 120", "cell_seconds = 0", 1)
    (problem,) = problems_of(text, "f")
    line = text[: text.index("cell_seconds = 0")].count("\n") + 1
    assert problem == f"f, line {line}: limits.cell_seconds: must be greater than 0, not 0"


def test_checks_listed_without_running() -> None:
    """Checks are listed without being run."""
    checks = {check.name: check for check in checks_of(find_lab("transfer-learning"))}
    thaws = checks["test_thaws"]
    assert thaws.hidden
    assert thaws.title.endswith("layers are thawed as well as frozen.")
    assert (thaws.cell, thaws.needs) == ("check_freeze_layers", ())
    assert checks["test_transfers"].needs == ("test_learns",)
    assert not checks["test_returns_the_model"].hidden


def test_environment_value_with_null() -> None:
    """A value that no process can have in its environment is refused."""
    text = GOOD.replace('AMLLAB_DATA = "drawn"', 'AMLLAB_DATA = "x\\u0000y"')
    (problem,) = problems_of(text, "lab.toml")
    assert "environment.AMLLAB_DATA: must not contain a null character" in problem
