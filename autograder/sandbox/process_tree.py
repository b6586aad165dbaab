"""A process tree of its own for a submission: what it sees, what it may use, and that all of it ends.

:func:`supervise` is called in a freshly forked process. It moves into new namespaces and starts the tree's first process,
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
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from autograder.sandbox import interpreter_paths, landlock, libc, seccomp
from autograder.sandbox.cgroups import Group
from autograder.sandbox.memory_watch import PERIOD, Origin, Sampler

SCRATCH = "/tmp"
OUT_OF_MEMORY = 97  # exit status of a tree that was ended for its memory
_USER = 1000  # a plain user's number inside
# as root every tree gets a user of its own, in a range that neither people nor services are numbered in
_FIRST_OUTER_USER = 2_000_000_000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/sys/devices/system/cpu")
_SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
_DEVICES = ("null", "full", "random", "urandom")
_ADDRESS_BYTES = (
    16 << 30
)  # that a process may reserve beyond its memory: page tables take a 512th of what it reads of it
_TERMINALS = 16


class IsolationError(RuntimeError):
    """This machine did not isolate a process; the message says at which layer, and why."""


@dataclass(frozen=True)
class Limits:
    """What one submission's process tree may use.

    Attributes:
        memory_bytes: of all its processes together, beyond what they share with the fork server: their own memory, shared memory,
            files in the scratch directory, and what the kernel holds on their behalf.
        processes: processes and threads.
        open_files: of each process.
        file_bytes: of one file.
        scratch_bytes: of all files in the scratch directory; shared memory (``/dev/shm``) gets a sixteenth of it on top.
        cpu_seconds: processor time of each process.
    """

    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    scratch_bytes: int
    cpu_seconds: int


@dataclass(frozen=True)
class View:
    """What of the file system a submission sees, read-only. Of two entries, the one with the longer path decides.

    Attributes:
        readable: files and folders seen at their own paths.
        hidden: folders that are empty, whatever they lie in.
        links: symbolic links, place and target, by which the former are reached too.
    """

    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Raises :class:`IsolationError` where an entry is both."""
        for path in set(self.readable) & set(self.hidden):
            raise IsolationError(
                f"{path} holds the interpreter's packages and is to be hidden: use a virtual environment"
            )


def supervise(
    view: View,
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
    view: View,
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
        _new_root(view, limits, user, counted=group is not None)
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


def _new_root(view: View, limits: Limits, user: int, *, counted: bool) -> None:
    """A root of nothing but what ``view`` names, a scratch directory, ``/proc`` and a few devices."""
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
    # two steps, so that everything of the old root can be bound, what lies in /tmp too
    libc.mount("tmpfs", "/tmp", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=16m")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    libc.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    libc.mount("tmpfs", "/new", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=16m")
    # before the rest: the interpreter may lie in a folder of that name, and is then shown inside
    os.makedirs("/new" + SCRATCH)
    options = f"mode=700,uid={user},gid={user},size={limits.scratch_bytes},nr_inodes=20000"
    libc.mount("tmpfs", "/new" + SCRATCH, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, options)
    _show(view)
    _make_etc(user)
    _make_dev(user, limits, counted=counted)
    os.makedirs("/new/proc")
    libc.mount("proc", "/new/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    os.mkdir("/new/.old")
    libc.pivot_root("/new", "/new/.old")
    os.chdir(SCRATCH)
    libc.unmount("/.old")
    os.rmdir("/.old")
    libc.mount("", "/", flags=libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV)


def _show(view: View) -> None:
    """Binds what is readable and covers what is hidden, shorter paths first so that longer ones lie on top."""
    entries = [(path, True) for path in (*_SYSTEM, *_SETTINGS, *view.readable)] + [(p, False) for p in view.hidden]
    for path, readable in sorted(set(entries), key=lambda entry: (len(Path(entry[0]).parts), entry[0])):
        source, target = "/old" + path, "/new" + path
        if os.path.islink(source) and path in _SYSTEM:  # /lib -> usr/lib
            os.symlink(os.readlink(source), target)
        elif readable and os.path.exists(source):
            _make_target(source, target)
            libc.mount(source, target, flags=libc.MS_BIND | libc.MS_REC)
            libc.read_only(target)
        elif not readable and os.path.isdir(target):
            libc.mount("tmpfs", target, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=1m")
    for place, aim in view.links:
        if not os.path.lexists("/new" + place):
            os.makedirs(os.path.dirname("/new" + place), exist_ok=True)
            os.symlink(aim, "/new" + place)


def _make_target(source: str, target: str) -> None:
    """A place to bind to; one that lies in a folder already bound, and so read-only, is there."""
    if os.path.exists(target):
        return
    if os.path.isdir(source):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()


def _make_etc(user: int) -> None:
    os.makedirs("/new/etc", exist_ok=True)
    for name, text in {
        "passwd": f"student:x:{user}:{user}::{SCRATCH}:/bin/sh\n",
        "group": f"student:x:{user}:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "hosts": "127.0.0.1 localhost\n",
    }.items():
        Path("/new/etc", name).write_text(text)


def _make_dev(user: int, limits: Limits, *, counted: bool) -> None:
    os.makedirs("/new/dev/pts")
    # what is mapped of "zero" is shared memory that belongs to no process
    for name in (*_DEVICES, "zero") if counted else _DEVICES:
        Path("/new/dev", name).touch()
        libc.mount(f"/old/dev/{name}", f"/new/dev/{name}", flags=libc.MS_BIND)
    for name, target in {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
                         "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}.items():  # fmt: skip
        os.symlink(target, f"/new/dev/{name}")
    flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
    libc.mount(
        "devpts",
        "/new/dev/pts",
        "devpts",
        flags & ~libc.MS_NODEV,
        f"newinstance,ptmxmode=0666,mode=620,max={_TERMINALS}",
    )
    os.makedirs("/new/dev/shm")
    size = limits.scratch_bytes // 16
    libc.mount("tmpfs", "/new/dev/shm", "tmpfs", flags, f"mode=700,uid={user},gid={user},size={size},nr_inodes=1000")


def _set_limits(limits: Limits) -> None:
    # where the machine itself runs out of memory, this is what goes first; written before files are limited
    Path("/proc/self/oom_score_adj").write_text("1000")
    private, reserved = (int(_status()[name].split()[0]) * 1024 for name in ("VmData", "VmSize"))
    for kind, value in (
        (resource.RLIMIT_DATA, private + limits.memory_bytes),  # one allocation that is too large fails, and says so
        (resource.RLIMIT_AS, reserved + limits.memory_bytes + _ADDRESS_BYTES),
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


def visible_paths(hidden: Iterable[str] = ()) -> View:
    """What a submission needs to see of this machine: the interpreter and its packages, without the grading package.

    Args:
        hidden: folders to hide beside that package.
    """
    import amllab
    import autograder

    links: dict[str, str] = {}

    def real(paths: Iterable[str]) -> set[str]:
        return {interpreter_paths.follow(os.path.abspath(path), links) for path in paths}

    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    library, grading = (os.path.dirname(module.__file__ or "") for module in (amllab, autograder))
    entries = {entry for entry in (*sys.path, *_library_folders()) if entry and os.path.exists(entry)}
    readable = real({*prefixes, library, *entries})
    covered = real({grading, *hidden})
    covered |= {alias for folder in covered for alias in interpreter_paths.aliases(folder, readable)}
    # a folder of packages that is to be hidden holds the library, which is shown by itself
    readable = {path for path in readable if path not in covered or path in real(prefixes)}
    own = {
        path
        for path in real(interpreter_paths.of_packages(entries))
        if not any(interpreter_paths.is_below(path, p) for p in readable)
    }
    readable |= {
        path for path in own if path not in covered and not interpreter_paths.is_below(path, os.path.realpath(grading))
    }
    interpreter_paths.follow(os.path.abspath(sys.executable), links)
    return View(tuple(sorted(readable)), tuple(sorted(covered)), tuple(sorted(links.items())))


def _library_folders() -> list[str]:
    """Where the dynamic linker looks for libraries, on machines whose modules set that."""
    return [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder.startswith("/")]
