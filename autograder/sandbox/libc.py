"""The system calls of Linux that Python's ``os`` does not offer, by ctypes: errors become ``OSError``."""

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
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """Raises ``OSError`` with the call's name where a call of libc failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    """A system call that libc has no function for."""
    # integers as C longs: the variadic syscall() would take the lower half of a register otherwise
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(_libc.syscall(ctypes.c_long(number), *values), what)


def unshare(flags: int) -> None:
    """Moves this process (its children, for a pid namespace) into new namespaces: unshare(2)."""
    checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts a file system, or binds a folder: mount(2)."""
    arguments = [text.encode() if text else None for text in (source, target, fstype)]
    checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {fstype or 'bind'} {target}")


def unmount(target: str) -> None:
    """Takes a mount and everything below it out of sight: umount2(2)."""
    checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Makes a mount the root of the mount namespace: pivot_root(2)."""
    checked(_libc.pivot_root(new_root.encode(), put_old.encode()), "pivot_root")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def read_only(target: str) -> None:
    """Makes a mount and all mounts below it read-only, without set-user-ID and devices: mount_setattr(2), Linux 5.12."""
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
    """Has the kernel send ``signal`` to this process when its parent ends. A change of user undoes it."""
    checked(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl PDEATHSIG")


def set_dumpable(value: bool) -> None:
    """Whether other processes of the same user may read this one's memory through /proc."""
    checked(_libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0), "prctl DUMPABLE")


def no_huge_pages() -> None:
    """This process and all that it starts get pages of the ordinary size alone."""
    checked(_libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0), "prctl THP_DISABLE")


def no_new_privileges() -> None:
    """From here on no program started, set-user-ID or not, gains a privilege."""
    checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl NO_NEW_PRIVS")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def empty_bounding_set() -> None:
    """Takes every capability out of what programs started from here on could ever have; needs CAP_SETPCAP."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        checked(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl CAPBSET_DROP")
    checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl CAP_AMBIENT")


def drop_capabilities() -> None:
    """Gives up all capabilities: capset(2) with empty sets."""
    header = _CapabilityHeader(0x20080522, 0)
    empty = (ctypes.c_uint32 * 6)()
    checked(_libc.capset(ctypes.byref(header), ctypes.byref(empty)), "capset")


class _SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _SockProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_SockFilter))]


def install_filter(instructions: list[tuple[int, int, int, int]]) -> None:
    """Installs a seccomp filter, BPF instructions (code, jump if true, jump if false, operand), for good."""
    program = (_SockFilter * len(instructions))(*(_SockFilter(*i) for i in instructions))
    head = _SockProgram(len(instructions), program)
    checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0), "prctl SECCOMP")
