"""Landlock rules that restrict writing to given paths, whatever the mounts allow, and keep signals inside.

They add a second layer of protection to the namespaces, enforced by another part of the kernel
(https://docs.kernel.org/userspace-api/landlock.html).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from autograder.sandbox.libc import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
# rights to change something: write, remove (directory, file), make (7 kinds); versions 2, 3 and 5 add refer, truncate
# and ioctl on devices
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
    """Return the version of the kernel's Landlock interface.

    Raises:
        OSError: The kernel was built or started without Landlock.
    """
    return syscall(_CREATE, None, 0, _VERSION, what="landlock_create_ruleset")


def restrict(writable: Iterable[str]) -> None:
    """Permanently restrict writing to the given paths, for this process and all processes that it starts.

    Where the kernel supports it, also deny TCP (version 4), and signals and abstract Unix sockets to processes outside
    (version 6).
    """
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
        # the kernel rejects rules for a file that contain rights of directories
        allowed = rights if os.path.isdir(path) else rights & (_WRITE_FILE | _TRUNCATE | _IOCTL)
        rule = _PathBeneath(allowed, descriptor)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0, what=f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)
