"""Landlock: whatever the mounts allow, only the scratch directory can be written, and no signal leaves.

A second lock behind the namespaces, kept by another part of the kernel (https://docs.kernel.org/userspace-api/landlock.html).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from autograder.sandbox.libc import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
# rights that change something: write, remove (dir, file), make (7 kinds); then refer (2), truncate (3), ioctl on devices (5)
_WRITE_FILE, _TRUNCATE, _IOCTL = 1 << 1, 1 << 14, 1 << 15
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract unix sockets, signals


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("fs", "net", "scoped")]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """Version of the kernel's Landlock interface.

    Raises:
        OSError: the kernel was built or started without it.
    """
    return syscall(_CREATE, None, 0, _VERSION, what="landlock_create_ruleset")


def restrict(writable: Iterable[str]) -> None:
    """Leaves only what is below the given paths writable, for this process and all that it starts, for good."""
    available = version()
    rights = _CHANGES
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        rights |= right if available >= since else 0
    attributes = _Ruleset(rights, _TCP if available >= 4 else 0, _SCOPES if available >= 6 else 0)
    size = 24 if available >= 6 else 16 if available >= 4 else 8
    ruleset = syscall(_CREATE, ctypes.byref(attributes), size, 0, what="landlock_create_ruleset")
    try:
        for path in writable:
            _allow(ruleset, path, rights)
        syscall(_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        # a rule for a file may name only what can be done to a file
        allowed = rights if os.path.isdir(path) else rights & (_WRITE_FILE | _TRUNCATE | _IOCTL)
        rule = _PathBeneath(allowed, descriptor)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0, what=f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)
