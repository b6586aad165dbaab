"""The seccomp filter, which lets only the system calls that a notebook needs reach the kernel.

Calls that :mod:`~autograder.sandbox.allowed_syscalls` does not list are unavailable to a submission:

- calls to reach other processes, or to change mounts and namespaces;
- calls to talk to the network or to other submissions, through locks and watches on files that all of them see;
- resources shared by the whole machine (asynchronous I/O, inotify);
- large parts of the kernel with a history of vulnerabilities (bpf, io_uring, perf, keyrings, ...);
- everything that newer kernels add.

A few calls are allowed only with certain arguments. The numbers come from the kernel's ``unistd.h``; a test compares
them where the headers are installed.
"""

from __future__ import annotations

import errno
import platform
from collections.abc import Iterable, Mapping

from autograder.sandbox.allowed_syscalls import ALLOWED
from autograder.sandbox.libc import install_filter

# AUDIT_ARCH_* in the kernel's audit.h
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# fail with "operation not permitted"; all other calls that are not allowed fail with "function not implemented"
REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    # parts of the kernel that only administrators and profilers need
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    # memory and queues outside the scratch directory and the private memory of processes
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # scheduling: processors, policies and priorities
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "ioprio_set": (251, 30),
}
# succeed without reaching the kernel: all files of a submission are in memory, and the call would make the whole
# machine write to disk
DONE_ALREADY: Mapping[str, tuple[int | None, int | None]] = {"sync": (162, 81), "syncfs": (306, 267)}
# allowed only with certain arguments
INSPECTED = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "setsockopt": (54, 208),
    "mmap": (9, 222),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
}
_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_THREAD, _FILES = 0x10000, 0x400  # CLONE_THREAD, CLONE_FILES
_AF_UNIX, _AF_NETLINK = 1, 16
_SOL_SOCKET, _BUFFERS = 1, (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF, and with FORCE
_SHARED, _ANONYMOUS, _HUGE = 0x1, 0x20, 0x40000  # of mmap
# descriptors and their flags, signal owners, reading pipe sizes and seals; no locks, leases, notifications or hints,
# which belong to a file and are visible to everyone who sees the file, and no larger pipes
_FCNTL = (0, 1, 2, 3, 4, 8, 9, 10, 11, 15, 16, 1030, 1032, 1034)
# terminals and sockets (0x54..), except requests that type for others or load modules: TIOCSTI, TIOCLINUX, TIOCCONS,
# TIOCSETD
_TERMINAL, _TERMINAL_REFUSED = 0x5400, (0x5412, 0x541C, 0x541D, 0x5423)
# PDEATHSIG, DUMPABLE, KEEPCAPS, NAME, GET_SECCOMP, TSC, CAPBSET_READ, TIMERSLACK, CHILD_SUBREAPER, NO_NEW_PRIVS,
# GET_TID_ADDRESS, GET_THP_DISABLE, CAP_AMBIENT, SET_VMA
_PRCTL = (1, 2, 3, 4, 7, 8, 15, 16, 21, 23, 25, 26, 29, 30, 36, 37, 38, 39, 40, 42, 47, 0x53564D41)

_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]
_PASS: Instruction = (_RETURN, 0, 0, _ALLOW)


def _error(number: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | number


def _argument(place: int) -> Instruction:
    return _LOAD, 0, 0, _ARGUMENTS + 8 * place  # the lower half: the kernel uses 32 bits of all inspected arguments


def _is(value: int, *then: Instruction) -> list[Instruction]:
    """Return a branch for a loaded value that equals ``value``; ``then`` must end in a return."""
    return [(_JUMP_EQUAL, 0, len(then), value), *then]


def _has(bits: int, *then: Instruction) -> list[Instruction]:
    return [(_JUMP_ANY_BIT, 0, len(then), bits), *then]


def _one_of(place: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    return [_argument(place), *(step for value in values for step in _is(value, _PASS)), _error(otherwise)]


def _inspections(counted: bool) -> dict[str, list[Instruction]]:
    """Return the instructions that inspect the arguments, for each call in :data:`INSPECTED`."""
    family = [
        _argument(0),
        *_is(_AF_UNIX, _PASS),
        *_is(_AF_NETLINK, _error(errno.EOPNOTSUPP)),  # libzmq aborts the process on any other error
        _error(errno.ENETUNREACH),  # the error that programs expect on a machine without a network
    ]
    buffers = [_argument(1), (_JUMP_EQUAL, 1, 0, _SOL_SOCKET), _PASS, _argument(2)]
    buffers += [step for option in _BUFFERS for step in _is(option, _error(errno.EPERM))]
    shared = [(_AND, 0, 0, _SHARED | _ANONYMOUS), *_is(_SHARED | _ANONYMOUS, _error(errno.ENOMEM))]
    return {
        "clone": [
            _argument(0),
            *_has(_NAMESPACES, _error(errno.EPERM)),
            # a thread with its own file table: its open files cannot be counted from outside
            (_AND, 0, 0, _THREAD | _FILES),
            *_is(_THREAD, _error(errno.EPERM)),
            _PASS,
        ],
        # its flags are behind a pointer, out of reach of the filter; if it does not exist, libc falls back to clone
        "clone3": [_error(errno.ENOSYS)],
        "socket": family,
        "socketpair": family,
        # without a control group to count them, refuse larger buffers, and shared memory that belongs to no process
        "setsockopt": [_PASS] if counted else [*buffers, _PASS],
        "mmap": [_argument(3), *_has(_HUGE, _error(errno.ENOMEM)), *([] if counted else shared), _PASS],
        "fcntl": _one_of(1, _FCNTL, errno.EINVAL),
        "ioctl": [
            _argument(1),
            *(step for request in _TERMINAL_REFUSED for step in _is(request, _error(errno.EPERM))),
            (_AND, 0, 0, 0xFFFFFF00),
            *_is(_TERMINAL, _PASS),
            # requests of terminals that encode a size: TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER
            *_one_of(1, (0x80045430, 0x40045431, 0x5441), errno.ENOTTY),
        ],
        "prctl": _one_of(0, _PRCTL, errno.EINVAL),
        # only the priority of the process itself, which the kernel does not let it raise without a privilege
        "setpriority": [_argument(0), (_JUMP_EQUAL, 1, 0, 0), _error(errno.EPERM), *_one_of(1, (0,), errno.EPERM)],
        # only the ordinary scheduling that the process already has, which libzmq requests
        "sched_setscheduler": _one_of(1, (0,), errno.EPERM),
    }


def program(machine: str, *, counted: bool = True) -> list[Instruction]:
    """Return the filter program for an architecture.

    Args:
        machine: Architecture, as returned by ``platform.machine()``.
        counted: Whether a control group counts all memory; if not, the filter refuses more calls.

    Raises:
        OSError: No filter exists for the architecture.
    """
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}, only for {', '.join(ARCHITECTURES)}")
    column = list(ARCHITECTURES).index(machine)
    rules: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),  # other architectures number their calls differently
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, 0x40000000),  # x32 calls of x86_64: the same calls under other numbers
        (_RETURN, 0, 0, _KILL),
    ]
    for first, last in _ranges(numbers[column] for numbers in ALLOWED.values()):
        rules += [(_JUMP_GREATER_EQUAL, 0, 2, first), (_JUMP_GREATER_EQUAL, 1, 0, last + 1), _PASS]
    inspections = _inspections(counted)
    for name, numbers in INSPECTED.items():
        rules += _is(numbers[column], *inspections[name])
    for refused, error in ((REFUSED, errno.EPERM), (DONE_ALREADY, 0)):
        for pair in refused.values():
            number = pair[column]
            if number is not None:
                rules += _is(number, _error(error))
    return [*rules, _error(errno.ENOSYS)]


def _ranges(numbers: Iterable[int | None]) -> list[tuple[int, int]]:
    """Return the numbers as ranges of first and last number."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(number for number in numbers if number is not None):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def install(*, counted: bool = True) -> None:
    """Install the filter for this process and all processes that it starts; needs ``no_new_privileges``."""
    install_filter(program(platform.machine(), counted=counted))
