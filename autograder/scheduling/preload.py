"""Modules that the fork server imports once, so that grading processes start with them loaded.

The processes share this memory as long as nobody writes to it. Garbage collection would write to every object in order
to count its references, so these objects are excluded from it (:func:`gc.freeze`).
"""

import gc
import importlib
import os
from contextlib import suppress

import nbformat

import amllab
from amllab.checks.runner import ChecksBrokenError, run_checks
from amllab.lab import find_lab
from amllab.numerics import keep_freed_memory
from amllab.protocol.lab_probes import ProbesError, probes_of
from autograder.grading.cache import key_of
from autograder.grading.grader import UnreadableSubmission
from autograder.labs.locations import hidden_checks
from autograder.sandbox.lab_imports import trial
from autograder.scheduling.local_pool import PRELOADED_LAB

# nbgrader, because a process first imports the main module of the program (Python before 3.14 cannot preload that one)
for name in ("nbgrader.apps", "pytest", "torch", "torchvision", "timm", "amllab.protocol.wire"):
    importlib.import_module(name)
for name in amllab.__all__:  # loads the modules that define it
    getattr(amllab, name)


def _use(assignment: str) -> None:
    """Import what pytest and the checks of a lab import on their first run; this submission answers nothing."""
    lab = find_lab(assignment)
    key_of(nbformat.v4.new_notebook(), lab)  # keeps the digests of the code that is loaded here
    run_checks(lab, [lab.folder, hidden_checks(lab.name)], UnreadableSubmission(lab.name))


graded = os.environ.pop(PRELOADED_LAB, "")
# a lab with broken settings, probes or checks: anyone who grades it gets the error, and other labs can still be graded
if graded and not trial(lambda: probes_of(graded.replace("-", "_")), 90):
    with suppress(LookupError, ValueError, ProbesError, ChecksBrokenError):
        probes_of(graded.replace("-", "_"))
        _use(graded)
keep_freed_memory()
gc.collect()
gc.freeze()
