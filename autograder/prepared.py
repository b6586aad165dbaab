"""What processes that grade ahead have at hand when they are forked: imported once, in the server that forks them.

Their memory is shared as long as nobody writes to it. A garbage collection would write to every object, to count it:
these objects are put where collections do not look (:func:`gc.freeze`).
"""

import gc
import importlib

import amllab
from amllab.checks.lab import all_labs
from amllab.numerics import keep_freed_memory

# nbgrader, since a process first imports what the program imports that started it (Python before 3.14 cannot preload that)
for name in ("nbgrader.apps", "pytest", "torch", "torchvision", "timm", "autograder.ahead", "amllab.checks.wire"):
    importlib.import_module(name)
for lab in all_labs():
    importlib.import_module(f"amllab.checks.{lab}.probes")
for name in amllab.__all__:  # loads what it is made of
    getattr(amllab, name)
keep_freed_memory()
gc.collect()
gc.freeze()
