"""Modules that the fork server imports once, so that grading processes start with them loaded.

The processes share this memory as long as nobody writes to it. Garbage collection would write to every object in order
to count its references, so these objects are excluded from it (:func:`gc.freeze`). It is off during the imports, where
it would take a fifth of the time and find next to nothing.
"""

import gc
import importlib
import os
from contextlib import suppress

# nbgrader, because a process first imports the main module of the program (Python before 3.14 cannot preload that one)
MODULES = ("nbgrader.apps", "pytest", "torch", "torchvision", "timm", "amllab.protocol.wire")


def _import() -> None:
    import amllab

    for name in MODULES:
        importlib.import_module(name)
    for name in amllab.__all__:  # loads the modules that define it
        getattr(amllab, name)


def _use(assignment: str) -> None:
    """Import the probes of a lab, and what pytest and its checks import on their first run.

    A lab with broken settings, probes or checks is left out: anyone who grades it gets the error, and other labs can
    still be graded.
    """
    import nbformat

    from amllab.checks.runner import ChecksBrokenError, run_checks
    from amllab.lab import find_lab
    from amllab.protocol.lab_probes import ProbesError, probes_of
    from autograder.grading.cache import key_of
    from autograder.grading.grader import UnreadableSubmission
    from autograder.labs.locations import hidden_checks
    from autograder.sandbox.lab_imports import trial

    name = assignment.replace("-", "_")
    if trial(lambda: probes_of(name), 90):
        return
    with suppress(LookupError, ValueError, ProbesError, ChecksBrokenError):
        probes_of(name)
        lab = find_lab(assignment)
        key_of(nbformat.v4.new_notebook(), lab)  # keeps the digests of the code that is loaded here
        # this submission answers nothing
        run_checks(lab, [lab.folder, hidden_checks(lab.name)], UnreadableSubmission(lab.name))


def _preload() -> None:
    from amllab.numerics import keep_freed_memory
    from autograder.scheduling.local_pool import PRELOADED_LAB

    _import()
    if graded := os.environ.pop(PRELOADED_LAB, ""):
        _use(graded)
    keep_freed_memory()


gc.disable()
try:
    _preload()
finally:
    gc.enable()
gc.freeze()
