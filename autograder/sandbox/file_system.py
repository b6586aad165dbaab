"""The file system that a submission sees: its own root, built from mounts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import IsolationError
from autograder.sandbox import interpreter_paths, libc
from autograder.sandbox.limits import Limits

SCRATCH = "/tmp"
SCRATCH_FILES = 20_000  # files and folders in it
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/sys/devices/system/cpu")
_SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
_DEVICES = ("null", "full", "random", "urandom")
_TERMINALS = 16


@dataclass(frozen=True)
class FileSystemView:
    """The part of the file system that a submission sees, read-only.

    Where entries overlap, the one with the longest path wins.

    Attributes:
        readable: Files and folders that appear at their own paths.
        hidden: Folders that appear empty, even inside readable folders.
        links: Symbolic links to readable paths, as pairs of location and target.
    """

    readable: tuple[str, ...]
    hidden: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Check that no path is both readable and hidden.

        Raises:
            IsolationError: A path is both.
        """
        for path in set(self.readable) & set(self.hidden):
            raise IsolationError(
                f"{path} has the interpreter's packages, but must be hidden from submissions: use a virtual environment"
            )


def new_root(view: FileSystemView, limits: Limits, user: int, *, counted: bool) -> None:
    """Replace the root by a new one and change to its scratch directory.

    The new root contains only the paths in ``view``, the system's programs and libraries, a scratch directory,
    ``/proc``, a minimal ``/etc`` and a few devices.

    Args:
        view: Paths to show and to hide.
        limits: Limits that set the size of the scratch directory and of ``/dev/shm``.
        user: Owner of the scratch directory, as numbered inside.
        counted: Whether a control group counts all memory; if not, ``/dev/zero`` is left out.
    """
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
    # two steps, so that everything in the old root can be bound, including the contents of /tmp
    libc.mount("tmpfs", "/tmp", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=16m")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    libc.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    libc.mount("tmpfs", "/new", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=16m")
    # before the rest: the interpreter may be in a folder of that name, and is then bound inside this one
    os.makedirs("/new" + SCRATCH)
    options = f"mode=700,uid={user},gid={user},size={limits.scratch_bytes},nr_inodes={SCRATCH_FILES}"
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


def _show(view: FileSystemView) -> None:
    """Bind readable paths and cover hidden ones, shorter paths first so that longer ones end up on top."""
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
    """Create the mount point, unless it exists already inside a folder that is bound, and so read-only."""
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
    # shared mappings of "zero" are memory that belongs to no process
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


def visible_paths(hidden: Iterable[str] = ()) -> FileSystemView:
    """Return the view that a submission needs: the interpreter, its packages and the course's public checks.

    The grading package is not in it.

    Args:
        hidden: Folders to hide in addition to the grading package.
    """
    import amllab
    import autograder
    from amllab.lab import HIDDEN, PUBLIC, course_labs

    links: dict[str, str] = {}

    def real(paths: Iterable[str]) -> set[str]:
        return {interpreter_paths.follow(os.path.abspath(path), links) for path in paths}

    labs = course_labs()
    public, secret = ([str(labs / kind)] if labs is not None else [] for kind in (PUBLIC, HIDDEN))
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    library, grading = (os.path.dirname(module.__file__ or "") for module in (amllab, autograder))
    entries = {entry for entry in (*sys.path, *_library_folders()) if entry and os.path.exists(entry)}
    readable = real({*prefixes, library, *entries, *public})
    covered = real({grading, *hidden, *secret})
    covered |= {alias for folder in covered for alias in interpreter_paths.aliases(folder, readable)}
    # a folder of packages that must be hidden can contain the course library, which is then shown on its own
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
    return FileSystemView(tuple(sorted(readable)), tuple(sorted(covered)), tuple(sorted(links.items())))


def _library_folders() -> list[str]:
    """Return the search path of the dynamic linker, which environment modules set on some machines."""
    return [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder.startswith("/")]
