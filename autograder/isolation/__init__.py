"""Isolation: a submission's processes see, reach and use what they are given, and nothing else of the machine.

:mod:`~autograder.isolation.sandbox` builds a process tree from namespaces, mounts, limits and privileges given up;
:mod:`~autograder.isolation.seccomp` and :mod:`~autograder.isolation.landlock` are two further locks behind it;
:mod:`~autograder.isolation.groups` has the kernel count its memory and share the processors, :mod:`~autograder.isolation.memory`
counts where that cannot be had; :mod:`~autograder.isolation.doctor` says what a machine offers of all this. Linux only, no privileges needed.
"""

from autograder.isolation.groups import ControlGroups, Group
from autograder.isolation.sandbox import OUT_OF_MEMORY, SCRATCH, IsolationError, Limits, View, supervise, visible_paths

__all__ = [
    "OUT_OF_MEMORY",
    "SCRATCH",
    "ControlGroups",
    "Group",
    "IsolationError",
    "Limits",
    "View",
    "supervise",
    "visible_paths",
]
