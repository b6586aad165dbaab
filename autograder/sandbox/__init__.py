"""Isolation of submissions: their processes see, reach and use only what they are given.

:mod:`~autograder.sandbox.process_tree` starts a process tree in its own namespaces and mounts, with limits and
without privileges. :mod:`~autograder.sandbox.seccomp` and :mod:`~autograder.sandbox.landlock` add two further layers of
protection. With :mod:`~autograder.sandbox.cgroups`, the kernel counts the memory of the tree and shares the processors;
where control groups are unavailable, :mod:`~autograder.sandbox.memory_watch` counts the memory.
:mod:`~autograder.sandbox.diagnostics` reports which of these layers a machine supports.

Isolation works only on Linux and needs no privileges.
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
    "FileSystemView",
    "Group",
    "IsolationError",
    "Limits",
    "run_isolated",
    "visible_paths",
]
