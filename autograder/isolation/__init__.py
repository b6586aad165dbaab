"""Isolation: a submission's processes see, reach and use what they are given, and nothing else of the machine.

:mod:`~autograder.isolation.sandbox` builds a process tree from namespaces, mounts, limits and privileges given up;
:mod:`~autograder.isolation.seccomp` and :mod:`~autograder.isolation.landlock` are two further locks behind it;
:mod:`~autograder.isolation.doctor` says what a machine offers of all this. Linux only, no privileges needed.
"""

from autograder.isolation.sandbox import OUT_OF_MEMORY, SCRATCH, IsolationError, Limits, View, supervise, visible_paths

__all__ = ["OUT_OF_MEMORY", "SCRATCH", "IsolationError", "Limits", "View", "supervise", "visible_paths"]
