"""Linux system calls that Python's ``os`` does not offer, through ctypes; errors raise ``OSError``."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 2, 4, 8, 32
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 4096, 16384, 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_THP_DISABLE = 22, 2, 41
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MOUNT_SETATTR, _AT_RECURSIVE, _AT_FDCWD = 442, 0x8000, -100
_RENAME_EXCHANGE = 2
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """Return the result of a libc call.

    Raises:
        OSError: The call failed; the message contains ``what``, the name of the call.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    """Make a system call for which libc has no function."""
    # as C longs: otherwise only the lower half of a register is set for the variadic syscall()
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(_libc.syscall(ctypes.c_long(number), *values), what)


def unshare(flags: int) -> None:
    """Move this process (for a PID namespace, its children) into new namespaces.

    See unshare(2).
    """
    checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system, or bind a folder.

    See mount(2).
    """
    arguments = [text.encode() if text else None for text in (source, target, fstype)]
    checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {fstype or 'bind'} {target}")


def unmount(target: str) -> None:
    """Detach a mount and all mounts below it.

    See umount2(2).
    """
    checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def exchange(one: str, other: str) -> None:
    """Exchange two files or folders in one step.

    See renameat2(2).
    """
    names = one.encode(), other.encode()
    checked(_libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE), f"exchange {one} {other}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make a mount the root of the mount namespace.

    See pivot_root(2).
    """
    checked(_libc.pivot_root(new_root.encode(), put_old.encode()), "pivot_root")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def read_only(target: str) -> None:
    """Make a mount and all mounts below it read-only, and disable set-user-ID programs and devices there.

    See mount_setattr(2); needs Linux 5.12.
    """
    attributes = _MountAttributes(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV, 0, 0, 0)
    syscall(
        _MOUNT_SETATTR,
        _AT_FDCWD,
        target.encode(),
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        what=f"mount_setattr {target}",
    )


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when its parent ends; a change of user undoes this."""
    checked(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl PDEATHSIG")


def set_dumpable(value: bool) -> None:
    """Set whether other processes of the same user may read the memory of this process through /proc."""
    checked(_libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0), "prctl DUMPABLE")


def no_huge_pages() -> None:
    """Disable transparent huge pages for this process and all processes that it starts."""
    checked(_libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0), "prctl THP_DISABLE")


def no_new_privileges() -> None:
    """Prevent programs started from now on, set-user-ID or not, from gaining privileges."""
    checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl NO_NEW_PRIVS")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def empty_bounding_set() -> None:
    """Remove all capabilities that programs started from now on could ever gain; needs CAP_SETPCAP."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        checked(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl CAPBSET_DROP")
    checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl CAP_AMBIENT")


def drop_capabilities() -> None:
    """Drop all capabilities, with capset(2) and empty sets."""
    header = _CapabilityHeader(0x20080522, 0)
    empty = (ctypes.c_uint32 * 6)()
    checked(_libc.capset(ctypes.byref(header), ctypes.byref(empty)), "capset")


class _SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _SockProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_SockFilter))]


def install_filter(instructions: list[tuple[int, int, int, int]]) -> None:
    """Install a seccomp filter, which cannot be removed.

    Args:
        instructions: BPF instructions as tuples of code, jump if true, jump if false, and operand.
    """
    program = (_SockFilter * len(instructions))(*(_SockFilter(*i) for i in instructions))
    head = _SockProgram(len(instructions), program)
    checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0), "prctl SECCOMP")
