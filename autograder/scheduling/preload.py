"""Modules that the fork server imports once, so that grading processes start with them loaded.

The processes share this memory as long as nobody writes to it. Garbage collection would write to every object in order
to count its references, so these objects are excluded from it (:func:`gc.freeze`).
"""

import gc
import importlib
from contextlib import suppress

import amllab
from amllab.checks.runner import ChecksBrokenError, run_checks
from amllab.lab import all_labs, find_lab
from amllab.numerics import keep_freed_memory
from autograder.grading.grader import UnreadableSubmission
from autograder.labs.locations import HIDDEN_CHECKS

# nbgrader, because a process first imports the main module of the program (Python before 3.14 cannot preload that one)
for name in (
    "nbgrader.apps",
    "pytest",
    "torch",
    "torchvision",
    "timm",
    "autograder.scheduling.local_pool",
    "amllab.protocol.wire",
):
    importlib.import_module(name)
for name in all_labs():
    importlib.import_module(f"amllab.checks.{name}.probes")
for name in amllab.__all__:  # loads the modules that define it
    getattr(amllab, name)
# modules that pytest and the checks import on their first run; the submission of this run answers nothing
for name in all_labs():
    # broken settings or checks: anyone who grades with them gets the error, and other labs can still be graded
    with suppress(ValueError, ChecksBrokenError):
        lab = find_lab(name)
        run_checks(lab, [lab.folder, HIDDEN_CHECKS / name], UnreadableSubmission(name))
keep_freed_memory()
gc.collect()
gc.freeze()
