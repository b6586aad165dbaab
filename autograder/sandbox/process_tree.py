"""A process tree of its own for a submission: what it sees, what it may use, and that all of it ends.

:func:`run_isolated` is called in a freshly forked process. It moves into new namespaces and starts the tree's first process,
which builds the new root, gives up every privilege, locks itself in, and starts the worker::

    fork server ── supervisor ── init (pid 1 inside) ── worker ── kernel of the notebook
                   outside: watches the tree's memory, and ends it on SIGTERM or with the fork server

Nothing inside can name the supervisor, and so neither stop nor slow it.

When init ends, the kernel ends everything else in its pid namespace: daemons, threads, whatever ignored its signals.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType

from autograder.sandbox import landlock, libc, seccomp
from autograder.sandbox.cgroups import Group
from autograder.sandbox.file_system import SCRATCH, FileSystemView, new_root
from autograder.sandbox.limits import ADDRESS_BYTES, Limits
from autograder.sandbox.memory_watch import PERIOD, Origin, Sampler

OUT_OF_MEMORY = 97  # exit status of a tree that was ended for its memory
_USER = 1000  # a plain user's number inside
# as root every tree gets a user of its own, in a range that neither people nor services are numbered in
_FIRST_OUTER_USER = 2_000_000_000


def run_isolated(
    view: FileSystemView,
    limits: Limits,
    worker: Callable[[], int],
    ready: int,
    group: Group | None = None,
    cores: Collection[int] = (),
) -> int:
    """Runs ``worker`` isolated, in this (freshly forked, single-threaded) process's descendants; returns its exit status.

    Args:
        view: what it sees.
        limits: what it may use.
        worker: runs inside; descriptors other than its own must have been closed.
        ready: descriptor that gets nothing and is closed once ``worker`` starts, or a message, in JSON, saying what failed.
        group: control group, which has the limit of memory; without one this process samples.
        cores: processors that it runs on, by default all.
    """
    outer_user = None if os.geteuid() else _FIRST_OUTER_USER + os.getpid()
    layer = "namespaces"
    try:
        libc.die_with_parent(signal.SIGTERM)
        _new_namespaces(as_root=outer_user is not None)
        layer = "memory"
        origin = Origin.of_this_process() if group is None else None
        built, building = os.pipe()
        init = os.fork()
    except (OSError, ValueError, LookupError) as error:
        if group is not None:
            group.remove()
        return _failed(ready, layer, error)
    if init == 0:
        os.close(built)
        os._exit(_init(view, limits, worker, ready, outer_user, group, origin, cores, building))
    os.close(ready)
    os.close(building)
    ended = os.pidfd_open(init)

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(init, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    os.read(built, 1)  # until then /proc is still that of the machine
    exceeded = _watch(ended, group, origin, limits.memory_bytes)
    if exceeded:
        end(0, None)
    code = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    if group is not None:
        exceeded = exceeded or group.exceeded()  # it can have ended of this, or before anybody looked
        group.remove()
    return OUT_OF_MEMORY if exceeded else code


def _watch(ended: int, group: Group | None, origin: Origin | None, memory_bytes: int) -> bool:
    """Waits until the tree has ended, or has more than its limit of memory; returns which of them."""
    sampler = None if origin is None else Sampler(origin, memory_bytes, (SCRATCH, "/dev/shm"))
    with suppress(OSError):  # only an administrator may
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    pause = PERIOD
    while not select.select([ended], [], [], pause)[0]:
        began = time.process_time()
        if (sampler is not None and sampler.exceeded()) or (group is not None and group.exceeded()):
            return True
        # hundreds of processes shall not cost others a processor
        pause = max(PERIOD, 4 * (time.process_time() - began))
    return False


def _failed(ready: int, layer: str, error: BaseException) -> int:
    os.write(ready, json.dumps({"layer": layer, "reason": str(error)}).encode())
    os.close(ready)
    return 1


def _new_namespaces(*, as_root: bool) -> None:
    flags = libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWNET | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS
    if as_root:
        libc.unshare(flags)
        return
    user, group = os.geteuid(), os.getegid()
    libc.unshare(flags | libc.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_USER} {user} 1"),
        ("gid_map", f"{_USER} {group} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(text)


def _init(
    view: FileSystemView,
    limits: Limits,
    worker: Callable[[], int],
    ready: int,
    outer_user: int | None,
    group: Group | None,
    origin: Origin | None,
    cores: Collection[int],
    building: int,
) -> int:
    """The tree's first process: locks itself in, starts the worker, waits for it, and ends everything by ending."""
    user = _USER if outer_user is None else outer_user
    layer = "parent"
    try:
        libc.die_with_parent(signal.SIGKILL)
        os.setsid()  # signals and priorities for "my group" would otherwise reach the fork server
        layer = "control group"
        if group is not None:
            group.join()
            group.close()  # its folders are those of the machine
        if origin is not None:
            origin.close()
        libc.unshare(libc.CLONE_NEWCGROUP)
        layer = "processors"
        if cores:
            os.sched_setaffinity(0, cores)
        layer = "mounts"
        new_root(view, limits, user, counted=group is not None)
        layer = "limits"
        _set_limits(limits)
        if group is None:
            libc.no_huge_pages()  # of one that was given back in part, the rest is counted nowhere
        layer = "privileges"
        _drop_privileges(outer_user)
        layer = "Landlock"
        landlock.restrict([SCRATCH, "/dev"])
        layer = "seccomp"
        seccomp.install(counted=group is not None)
        libc.set_dumpable(False)
        libc.die_with_parent(signal.SIGKILL)  # the change of user has undone the first
        os.close(building)
        child = os.fork()
    except (OSError, ValueError) as error:
        return _failed(ready, layer, error)
    os.close(ready)
    if child == 0:
        libc.set_dumpable(True)  # a process that cannot be dumped cannot read its own /proc
        os._exit(worker())
    # signals from inside reach the first process only where it has a handler, and Python has one for this
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.closerange(0, 1024)  # nothing of the worker's stays open here: its end is seen as an end
    while True:
        process, status = os.wait()
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _set_limits(limits: Limits) -> None:
    # where the machine itself runs out of memory, this is what goes first; written before files are limited
    Path("/proc/self/oom_score_adj").write_text("1000")
    private, reserved = (int(_status()[name].split()[0]) * 1024 for name in ("VmData", "VmSize"))
    for kind, value in (
        (resource.RLIMIT_DATA, private + limits.memory_bytes),  # one allocation that is too large fails, and says so
        (resource.RLIMIT_AS, reserved + limits.memory_bytes + ADDRESS_BYTES),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_CORE, 1),  # 0 would still hand the dump to a program of the machine that waits for it
        (resource.RLIMIT_SIGPENDING, 4096),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_MEMLOCK, 1 << 20),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_privileges(outer_user: int | None) -> None:
    libc.empty_bounding_set()
    if outer_user is not None:
        os.setgroups([])
        os.setresgid(outer_user, outer_user, outer_user)
        os.setresuid(outer_user, outer_user, outer_user)
    libc.drop_capabilities()
    libc.no_new_privileges()


def _status() -> dict[str, str]:
    """Of this process, before anything of a submission runs."""
    with open("/proc/self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
