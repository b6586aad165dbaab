"""Isolation: a submission's processes see, reach and use what they are given, and nothing else of the machine.

:mod:`~autograder.sandbox.process_tree` builds a process tree from namespaces, mounts, limits and privileges given up;
:mod:`~autograder.sandbox.seccomp` and :mod:`~autograder.sandbox.landlock` are two further locks behind it;
:mod:`~autograder.sandbox.cgroups` has the kernel count its memory and share the processors, :mod:`~autograder.sandbox.memory_watch`
counts where that cannot be had; :mod:`~autograder.sandbox.diagnostics` says what a machine offers of all this. Linux only, no privileges needed.
"""

from autograder.errors import IsolationError
from autograder.sandbox.cgroups import ControlGroups, Group
from autograder.sandbox.file_system import SCRATCH, FileSystemView, visible_paths
from autograder.sandbox.limits import Limits
from autograder.sandbox.process_tree import OUT_OF_MEMORY, run_isolated

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
