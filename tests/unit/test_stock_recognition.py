"""Ordinary nbgrader assignments are told from labs, and from labs whose name is misspelled."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from amllab.lab import all_labs
from autograder.stock.modules import imported_by
from autograder.stock.recognition import calls_check, is_ordinary, notebooks_in
from tests.conftest import ASSIGNMENT, ROOT
from tests.helpers.stock_courses import EXAMPLE, FILES, PACKAGE, SEARCHED, locked_test, solution_cell, stock_notebook

NAMES = [lab.replace("_", "-") for lab in all_labs()]
# locked cell, own cell -> whether the locked cell calls check() of the library
CALLS = [
    ('check("freeze_layers")', "from amllab import check", True),
    ('check("freeze_layers")', "", True),  # the cell that imports it is not known
    ("check_all()", "from amllab import check_all", True),
    ('amllab.check("x")', "import amllab", True),
    ('aml.check("x")', "import amllab as aml", True),
    ('verify("x")', "from amllab import check as verify", True),
    ('from amllab.checks import check\ncheck("x")', "", True),
    ('%time check("x")\ncheck("x")', "from amllab import check", True),
    ('%time check("x")', "", True),
    ('%%time\ncheck("x")', "", True),
    ('%time len("x")', "", False),
    ('%time check("x")', "check = len", False),
    ('for name in ["a"]:\n    check(name)', "from amllab import check", True),
    ('check("x"', "from amllab import check", True),  # it does not parse
    ("check(3)", "def check(x):\n    return x", False),
    ('check("a")', "def check(x):\n    return x", False),
    ('check("a")', "from tools import check", False),
    ('check("a")', "check = len", False),
    ('grader.check("q1")', "import otter\ngrader = otter.Notebook()", False),
    ("check(2)", "", False),  # a function that students write
    ("assert True", 'check("freeze_layers")', False),  # not in a locked cell
    ('# check("x")', "", False),
    ('print("check(1)")', "", False),
]


@pytest.mark.parametrize(("locked", "own", "expected"), CALLS)
def test_calls_check(locked: str, own: str, expected: bool) -> None:
    """Only calls of the library's function in locked cells count."""
    notebook = stock_notebook(nbformat.v4.new_code_cell(own), locked_test("test", locked))
    assert calls_check(notebook) is expected


def test_labs_call_check() -> None:
    """The notebooks of all labs do, and no notebook of nbgrader does."""
    paths = [*(ROOT / "assignments").glob("*/*.ipynb"), *(ROOT / "source").glob("*/*.ipynb")]
    assert len(paths) >= len(NAMES)
    assert [path for path in paths if not calls_check(nbformat.read(path, as_version=4))] == []
    theirs = [
        *EXAMPLE.rglob("*.ipynb"),
        *FILES.glob("[!t]*.ipynb"),
        *PACKAGE.glob("tests/preprocessors/files/t*.ipynb"),
    ]
    assert len(theirs) > 20
    assert [path for path in theirs if calls_check(nbformat.read(path, as_version=4))] == []


def test_is_ordinary(release: NotebookNode) -> None:
    """A lab is none, and a misspelled lab is found out."""
    plain = stock_notebook(solution_cell("double", "x"), locked_test("test", "assert double(1) == 2"))
    assert not is_ordinary(ASSIGNMENT, [plain])
    assert is_ordinary("ps1", [plain])
    for notebooks in ([], [release], [plain, release]):
        with pytest.raises(LookupError, match=f"no lab 'transfer-lerning'; there are: .*{all_labs()[0]}"):
            is_ordinary("transfer-lerning", notebooks)


@pytest.mark.slow
def test_notebooks_in_gradebook_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks are found in folders and in the gradebook; what cannot be read is left to nbgrader."""
    monkeypatch.setenv("PATH", SEARCHED)
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        assert list(notebooks_in([tmp_path / "source"], gradebook, "ps1")) == []
        gradebook.add_assignment("ps1")
        gradebook.add_notebook("p1", "ps1")
        gradebook.add_source_cell("test", "p1", "ps1", cell_type="code", locked=True)
        assert list(notebooks_in([tmp_path / "source"], gradebook, "ps1")) == []  # nothing is known about it
        gradebook.find_source_cell("test", "p1", "ps1").source = 'check("freeze_layers")'
        (recorded,) = notebooks_in([tmp_path / "source"], gradebook, "ps1")
        assert calls_check(recorded)
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "p1.ipynb").write_text("{")
        nbformat.write(stock_notebook(), tmp_path / "source" / "p2.ipynb")
        assert len(list(notebooks_in([tmp_path / "source"], gradebook, "ps1"))) == 2


def test_imported_modules(tmp_path: Path) -> None:
    """Installed modules that the release imports are loaded once; modules of the course's folder are not."""
    source = "%matplotlib inline\nimport numpy as np, json\nfrom matplotlib import pyplot\nimport helper, torch.nn"
    cells = [nbformat.v4.new_code_cell(text) for text in (source, "from . import x\nimport", "import numpy")]
    nbformat.write(stock_notebook(*cells), tmp_path / "p1.ipynb")
    (tmp_path / "p2.ipynb").write_text("[]")
    (tmp_path / "helper.py").write_text("1/0")
    assert imported_by(tmp_path) == ["numpy", "json", "torch.nn", "matplotlib"]
