"""Control groups, with which the kernel limits the memory of a submission and shares the processors.

The memory controller counts every kind of memory that processes can hold: private and shared memory, files in memory,
page tables, buffers of pipes and sockets, and other kernel memory allocated on their behalf. Where this process may not
create groups, :mod:`~autograder.sandbox.memory_watch` samples the memory instead.

Version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) needs a delegated group, version 1 a writable one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"amllab-(\d+)-\d+")
_LEAF = "amllab-graders"


@dataclass
class Group:
    """The control groups of one submission, one for each controller.

    They are held as open files, because the root of the submission hides their folders.

    Attributes:
        name: Name of the groups' folders.
        files: Descriptors: first the file with the kernel's count of out-of-memory kills; then, for each controller,
            the parent of the group's folder and the file that a process writes to in order to join the group.
    """

    name: str
    files: list[int] = field(default_factory=list)

    def join(self) -> None:
        """Move this process, and all processes that it starts from now on, into the group."""
        for descriptor in self.files[2::2]:
            os.write(descriptor, b"0")

    def exceeded(self) -> bool:
        """Return whether the kernel has killed a process of the group for using too much memory."""
        found = re.search(rb"^oom_kill (\d+)$", os.pread(self.files[0], 1 << 12, 0), re.MULTILINE)
        return found is None or int(found[1]) > 0

    def remove(self, seconds: float = 2.0) -> None:
        """Remove the folders once the last process has left, or give up after ``seconds``."""
        deadline = time.monotonic() + seconds
        for parent in self.files[1::2]:
            while time.monotonic() < deadline:
                try:
                    os.rmdir(self.name, dir_fd=parent)
                    break
                except OSError:  # the kernel has not yet removed a process that has ended
                    time.sleep(0.01)

    def close(self) -> None:
        """Close the open files; the groups stay."""
        for descriptor in self.files:
            os.close(descriptor)
        self.files = []


@dataclass(frozen=True)
class ControlGroups:
    """Folders in which this process can create control groups.

    Attributes:
        memory: Folder of the memory controller, if any.
        processors: Folder of the controller that shares the processors, if any.
        version: Version of the memory controller, 1 or 2.
        reason: Why no memory controller is available.
    """

    memory: Path | None = None
    processors: Path | None = None
    version: int = 0
    reason: str = ""

    def new(self, number: int, memory_bytes: int) -> Group:
        """Create a group with a memory limit.

        Call this in a process of the grader, never in one that runs the code of a submission.

        Raises:
            OSError: The group cannot be created although :func:`find` could create one.
        """
        group = Group(f"amllab-{os.getpid()}-{number}")
        for parent in dict.fromkeys(path for path in (self.memory, self.processors) if path is not None):
            folder = parent / group.name
            folder.mkdir()
            if parent == self.memory:
                group.files.append(self._limit(folder, memory_bytes))
            group.files.append(os.open(parent, os.O_DIRECTORY | os.O_CLOEXEC))
            group.files.append(os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        return group

    def _limit(self, folder: Path, memory_bytes: int) -> int:
        """Limit the memory, without swap, and open the file with the kernel's count of out-of-memory kills."""
        if self.version == 1:
            _write(folder / "memory.limit_in_bytes", str(memory_bytes))
            if (folder / "memory.memsw.limit_in_bytes").exists():
                _write(folder / "memory.memsw.limit_in_bytes", str(memory_bytes))
            return os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        _write(folder / "memory.max", str(memory_bytes))
        if (folder / "memory.swap.max").exists():
            _write(folder / "memory.swap.max", "0")
        _write(folder / "memory.oom.group", "1")
        return os.open(folder / "memory.events", os.O_RDONLY | os.O_CLOEXEC)

    def sweep(self) -> None:
        """Remove the groups of graders that were killed."""
        for parent in filter(None, (self.memory, self.processors)):
            for folder in parent.iterdir():
                match = _NAME.fullmatch(folder.name)
                if match and not Path("/proc", match[1]).exists():
                    with suppress(OSError):  # still in use: its PID is from another PID namespace
                        folder.rmdir()


def find() -> ControlGroups:
    """Find out by trying where this process may create control groups.

    In a delegated group of version 2, move the processes of the group into a leaf to make room for new groups.
    """
    reasons = []
    memory, version = None, 0
    own = _own()
    processors = None
    for kind, wanted in (("memory", 1), ("memory", 2)):
        folder = own.get(kind if wanted == 1 else "")
        if folder is None:
            continue
        try:
            if wanted == 2:
                folder = _delegated(folder)
            _try(folder, "memory.limit_in_bytes" if wanted == 1 else "memory.max")
            memory, version = folder, wanted
            break
        except OSError as error:
            reasons.append(f"version {wanted}: {error.strerror or error}")
    for folder in (own.get("cpu"), memory if version == 2 else None):
        if folder is not None and processors is None:
            with suppress(OSError):
                _try(folder, "cpu.shares" if folder != memory else "cpu.weight")
                processors = folder
    reason = "" if memory else "; ".join(reasons) or "no memory controller is mounted"
    return ControlGroups(memory, processors, version, reason)


def _own() -> dict[str, Path]:
    """Map each controller ("" for all of version 2) to the folder of the group that this process belongs to."""
    mounts = dict(_mounts())
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            if name in mounts:
                root, point = mounts[name]
                # in a container, the root of the mount can be the group that the path starts with
                inner = path[len(root) :] if root != "/" and (path + "/").startswith(root.rstrip("/") + "/") else path
                folder = Path(point, inner.lstrip("/"))
                if ".." not in folder.parts and folder.is_dir():
                    found[name] = folder
    return found


def _mounts() -> Iterator[tuple[str, tuple[str, str]]]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        root, point = mount.split(" ")[3:5]
        kind, _, options = system.split(" ")[:3]
        if kind == "cgroup2":
            yield "", (root, point)
        elif kind == "cgroup":
            yield from ((option, (root, point)) for option in options.split(","))


def _try(folder: Path, needed: str) -> None:
    attempt = folder / f"amllab-{os.getpid()}-0"
    with suppress(FileExistsError):
        attempt.mkdir()
    try:
        if not (attempt / needed).exists():
            raise OSError(0, f"{folder} has no {needed}")
        os.close(os.open(attempt / needed, os.O_RDWR))
    finally:
        attempt.rmdir()


def _delegated(folder: Path) -> Path:
    """Enable the memory and processor controllers for the groups in a version 2 group, and return its folder.

    A group that enables controllers for its children must not contain processes itself, so they move into a leaf. This
    is allowed only where the group was delegated to this user or container.
    """
    if folder.name == _LEAF:  # another grader, still running or the parent of this one, has moved the processes before
        folder = folder.parent
    offered = (folder / "cgroup.controllers").read_text().split()
    if "memory" not in offered:
        raise OSError(0, f"{folder} has no memory controller")
    control = folder / "cgroup.subtree_control"
    if "memory" in control.read_text().split():
        return folder
    wanted = " ".join(f"+{name}" for name in ("memory", "cpu") if name in offered)
    if (folder / "cgroup.type").exists() and (folder / "cgroup.procs").read_text().strip():
        if not _is_ours(folder):
            raise OSError(0, f"{folder} is not delegated")
        leaf = folder / _LEAF
        leaf.mkdir(exist_ok=True)
        for process in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", process)
    _write(control, wanted)
    return folder


def _is_ours(folder: Path) -> bool:
    """Return whether systemd has delegated the group, or it is the root of the hierarchy that this container sees."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return Path("/proc/self/cgroup").read_text().strip() == "0::/"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
