"""A small lab for tests of the engine: two exercises of a few lines, graded in a moment, nothing is trained.

``autograder new-lab`` writes it into a temporary folder, where commands and workers find it as they find labs in the
packages. The second exercise is a copy of the first under another name, for what needs several graded cells.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from nbformat import NotebookNode

import amllab.checks
import amllab.lab
import autograder.checks
from autograder.authoring.new_lab import new_lab
from autograder.course import Course
from autograder.labs import locations
from autograder.labs.corpus import Corpus, Solution
from tests.helpers.notebooks import notebook_of

ROOT = Path(__file__).resolve().parent.parent.parent
ASSIGNMENT, NOTEBOOK = "mini-lab", "mini_lab.ipynb"
LAB = "mini_lab"
CHECKS = ("check_standardise", "check_rescale")
FULL: dict[str, float] = dict.fromkeys(CHECKS, 10.0)
ZERO: dict[str, float] = dict.fromkeys(CHECKS, 0.0)

PLAIN = {
    name: f"""
def {name}(values):
    centred = values - values.mean(dim=0)
    deviation = values.std(dim=0)
    return centred / torch.where(deviation > 0, deviation, 1.0)
"""
    for name in ("standardise", "rescale")
}
RIGHT = Solution("right", PLAIN)
ONE = Solution("one", {"standardise": PLAIN["standardise"], "rescale": ""})
NOTHING = Solution("nothing", {"standardise": "", "rescale": ""})

# every Python that is started with this folder on its path knows the lab
_STARTUP = """
from pathlib import Path

import amllab.checks
import amllab.lab
import autograder.checks
from autograder.labs import locations

folder = Path(__file__).parent.parent
amllab.lab.CHECKS, locations.HIDDEN_CHECKS = folder / "amllab" / "checks", folder / "autograder" / "checks"
amllab.checks.__path__.append(str(amllab.lab.CHECKS))
autograder.checks.__path__.append(str(locations.HIDDEN_CHECKS))
"""


@cache
def files() -> Path:
    """Write the lab into a folder of its own, once for this process."""
    folder = Path(tempfile.mkdtemp(prefix="amllab-mini-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    public, hidden = folder / "amllab" / "checks", folder / "autograder" / "checks"
    for place in (public, hidden):
        place.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    written = new_lab(Course.find(folder), ASSIGNMENT)
    for file in written:
        _second_exercise(file)
    (public / "transfer_learning").symlink_to(amllab.lab.PACKAGE / "checks" / "transfer_learning")
    (folder / "amllab" / "sitecustomize.py").write_text(_STARTUP)
    return folder


def _second_exercise(file: Path) -> None:
    """Add the second exercise to a file of the scaffold; the checks get files of their own."""
    text = file.read_text()
    copied = re.sub(r"\btest_(?=mean_|input_|constant_)", "test_rescaled_", text.replace("standardise", "rescale"))
    if file.name.startswith("test_standardise"):
        file.with_name(file.name.replace("standardise", "rescale")).write_text(copied)
    elif file.name == "probes.py":
        file.write_text(text + copied[copied.index("\n\ndef ") :])
    elif file.name == f"{LAB}.py":
        begin, end = (copied.index(f'<a id="{name}"></a>') for name in ("exercise-1", "reflection"))
        exercise = copied[begin:end].replace("xercise-1", "xercise-2").replace("xercise 1", "xercise 2")
        file.write_text(text.replace('<a id="reflection"></a>', f'{exercise}<a id="reflection"></a>'))


def startup() -> str:
    """Return the folder that ``PYTHONPATH`` must have."""
    return str(files() / "amllab")


def register(patch: pytest.MonkeyPatch) -> None:
    """Make the lab known in this process and in those that it starts."""
    public, hidden = files() / "amllab" / "checks", files() / "autograder" / "checks"
    places = {"CHECKS": (amllab.lab.CHECKS, public), "HIDDEN_CHECKS": (locations.HIDDEN_CHECKS, hidden)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("amllab", "autograder", "tests"):
            continue
        for constant, (known, ours) in places.items():
            if vars(module).get(constant) is known:  # modules import it by name
                patch.setattr(module, constant, ours)
    for package, folder in ((amllab.checks, public), (autograder.checks, hidden)):
        patch.setattr(package, "__path__", [*package.__path__, str(folder)])
    patch.setenv("PYTHONPATH", os.pathsep.join([startup(), *filter(None, [os.environ.get("PYTHONPATH")])]))


def submission(solution: Solution, release: NotebookNode) -> NotebookNode:
    """Return the release with the functions of a solution, and an answer to the manually graded question."""
    return notebook_of(solution, release, Corpus())
