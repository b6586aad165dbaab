"""What processes that grade ahead have at hand when they are forked: imported once, in the server that forks them.

Their memory is shared as long as nobody writes to it. A garbage collection would write to every object, to count it:
these objects are put where collections do not look (:func:`gc.freeze`).
"""

import gc
import importlib
from contextlib import suppress

import amllab
from amllab.checks.lab import all_labs, find_lab
from amllab.numerics import keep_freed_memory

# nbgrader, since a process first imports what the program imports that started it (Python before 3.14 cannot preload that)
for name in ("nbgrader.apps", "pytest", "torch", "torchvision", "timm", "autograder.ahead", "amllab.checks.wire"):
    importlib.import_module(name)
for name in all_labs():
    importlib.import_module(f"amllab.checks.{name}.probes")
for name in amllab.__all__:  # loads what it is made of
    getattr(amllab, name)
# what pytest and the checks load when they first run, on a submission that answers nothing
judge, run = (importlib.import_module(name) for name in ("autograder.judge", "amllab.checks.run"))
for name in all_labs():
    with suppress(Exception):  # a lab that is broken: whoever grades it is told, and others are graded nevertheless
        lab = find_lab(name)
        run.run_checks(lab, [lab.folder, judge.HIDDEN_CHECKS / name], judge.Unreadable(name))
keep_freed_memory()
gc.collect()
gc.freeze()
