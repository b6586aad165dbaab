"""Isolated process trees: what a submission sees and may use, and how all its processes end.

Call :func:`run_isolated` in a freshly forked process. It moves into new namespaces and starts the first process of the
tree, which builds the new root, drops all privileges, locks itself in, and starts the worker::

    fork server ── supervisor ── init (pid 1 inside) ── worker ── kernel of the notebook
                   outside: watches the tree's memory, and ends the tree on SIGTERM or with the fork server

No process inside has a PID for the supervisor, so none can stop it or slow it down.

When init ends, the kernel ends everything else in its PID namespace, including daemons, threads, and processes that
ignore signals.
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

OUT_OF_MEMORY = 97  # exit status of a tree that exceeded its memory limit
_USER = 1000  # ID of the ordinary user inside
# as root, every tree gets its own user ID, in a range that neither people nor services use
_FIRST_OUTER_USER = 2_000_000_000


def run_isolated(
    view: FileSystemView,
    limits: Limits,
    worker: Callable[[], int],
    ready: int,
    group: Group | None = None,
    cores: Collection[int] = (),
) -> int:
    """Run ``worker`` in an isolated descendant of this process, which must be freshly forked and single-threaded.

    Args:
        view: Part of the file system that the worker sees.
        limits: Limits of the resources that it may use.
        worker: Function to run inside; the caller must have closed all descriptors except its own.
        ready: Descriptor to report to: it is closed without a message once ``worker`` starts, or receives a JSON
            message about the layer that failed.
        group: Control group with the memory limit; without one, this process samples the memory.
        cores: Processors to run on, by default all.

    Returns:
        The exit status of the worker, or :data:`OUT_OF_MEMORY` if the tree exceeded its memory limit.
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
    os.read(built, 1)  # until init closes its end, /proc is still that of the machine
    exceeded = _watch(ended, group, origin, limits.memory_bytes)
    if exceeded:
        end(0, None)
    code = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    if group is not None:
        # the tree can have ended because the kernel killed a process, or between two checks
        exceeded = exceeded or group.exceeded()
        group.remove()
    return OUT_OF_MEMORY if exceeded else code


def _watch(ended: int, group: Group | None, origin: Origin | None, memory_bytes: int) -> bool:
    """Wait until the tree has ended or exceeds its memory limit; return whether it exceeds the limit."""
    sampler = None if origin is None else Sampler(origin, memory_bytes, (SCRATCH, "/dev/shm"))
    with suppress(OSError):  # only root may raise its priority
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    pause = PERIOD
    while not select.select([ended], [], [], pause)[0]:
        began = time.process_time()
        if (sampler is not None and sampler.exceeded()) or (group is not None and group.exceeded()):
            return True
        # sampling hundreds of processes must not take a whole processor away from others
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
    """Run as the first process of the tree: lock it in, start the worker and wait for it; ending ends the tree."""
    user = _USER if outer_user is None else outer_user
    layer = "parent"
    try:
        libc.die_with_parent(signal.SIGKILL)
        os.setsid()  # otherwise signals and priorities for "my group" would reach the fork server
        layer = "control group"
        if group is not None:
            group.join()
            group.close()  # the descriptors lead to folders of the machine
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
            libc.no_huge_pages()  # nothing counts the rest of a huge page that was released in part
        layer = "privileges"
        _drop_privileges(outer_user)
        layer = "Landlock"
        landlock.restrict([SCRATCH, "/dev"])
        layer = "seccomp"
        seccomp.install(counted=group is not None)
        libc.set_dumpable(False)
        libc.die_with_parent(signal.SIGKILL)  # the change of user has undone the first call
        os.close(building)
        child = os.fork()
    except (OSError, ValueError) as error:
        return _failed(ready, layer, error)
    os.close(ready)
    if child == 0:
        libc.set_dumpable(True)  # a process that is not dumpable cannot read its own /proc
        os._exit(worker())
    # signals from inside reach the first process only if it has a handler, and Python installs one for SIGINT
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.closerange(0, 1024)  # keep no descriptor of the worker open, so that its peers notice when it ends
    while True:
        process, status = os.wait()
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _set_limits(limits: Limits) -> None:
    # the kernel kills these processes first if the machine runs out of memory; written before the limits on files apply
    Path("/proc/self/oom_score_adj").write_text("1000")
    private, reserved = (int(_status()[name].split()[0]) * 1024 for name in ("VmData", "VmSize"))
    for kind, value in (
        # a single allocation that is too large fails with an error
        (resource.RLIMIT_DATA, private + limits.memory_bytes),
        (resource.RLIMIT_AS, reserved + limits.memory_bytes + ADDRESS_BYTES),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_CORE, 1),  # 0 would still pipe core dumps to a handler of the machine
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
    """Return the fields of /proc/self/status; called before any code of a submission runs."""
    with open("/proc/self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
