"""What processes that grade ahead have at hand when they are forked: imported once, in the server that forks them.

Their memory is shared as long as nobody writes to it. A garbage collection would write to every object, to count it:
these objects are put where collections do not look (:func:`gc.freeze`).
"""

import gc
import importlib
from contextlib import suppress

import amllab
from amllab.checks.lab import all_labs, find_lab
from amllab.checks.run import ChecksBroken, run_checks
from amllab.numerics import keep_freed_memory
from autograder.grading.grader import UnreadableSubmission
from autograder.labs.locations import HIDDEN_CHECKS

# nbgrader, since a process first imports what the program imports that started it (Python before 3.14 cannot preload that)
for name in (
    "nbgrader.apps",
    "pytest",
    "torch",
    "torchvision",
    "timm",
    "autograder.scheduling.local_pool",
    "amllab.checks.wire",
):
    importlib.import_module(name)
for name in all_labs():
    importlib.import_module(f"amllab.checks.{name}.probes")
for name in amllab.__all__:  # loads what it is made of
    getattr(amllab, name)
# what pytest and the checks load when they first run, on a submission that answers nothing
for name in all_labs():
    # settings or checks that are broken: whoever grades with them is told so, and other labs are graded nevertheless
    with suppress(ValueError, ChecksBroken):
        lab = find_lab(name)
        run_checks(lab, [lab.folder, HIDDEN_CHECKS / name], UnreadableSubmission(name))
keep_freed_memory()
gc.collect()
gc.freeze()
