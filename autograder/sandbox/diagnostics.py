"""Diagnostics of the isolation that this machine supports: each layer is tried in its own process."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.sandbox import allowed_syscalls, cgroups, landlock, libc, seccomp
from autograder.sandbox.file_system import FileSystemView
from autograder.sandbox.limits import Limits
from autograder.sandbox.memory_watch import PERIOD
from autograder.sandbox.process_tree import _new_namespaces, run_isolated

_LIMITS = Limits(1 << 30, 64, 64, 1 << 20, 1 << 24, 60)
_NAMESPACES = {
    "mount namespace": libc.CLONE_NEWNS,
    "pid namespace": libc.CLONE_NEWPID,
    "network namespace": libc.CLONE_NEWNET,
    "ipc namespace": libc.CLONE_NEWIPC,
}
_USER_NAMESPACES = (
    "as an ordinary user: allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu 24.04, "
    "kernel.unprivileged_userns_clone=1 on old Debian, user.max_user_namespaces > 0 elsewhere)"
)
_CONTAINER = (
    "in a container: give it CAP_SYS_ADMIN and a seccomp profile that lets it create namespaces and mount /proc"
)

_GROUPS = (
    "to get a control group: run as root, with 'systemd-run --user --scope -p Delegate=yes' in front of the command, or in a container with "
    "writable control groups"
)
_OLDEST = (5, 14)


@dataclass(frozen=True)
class Finding:
    """The result of trying one layer.

    Attributes:
        layer: Name of the layer.
        works: Whether the layer works on this machine as grading needs it.
        detail: Versions, or why the layer does not work.
        remedy: What to do if the layer does not work.
    """

    layer: str
    works: bool
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Try every layer, and finally all of them together.

    Call this in a process with a single thread, because each layer is tried in a fork.

    Returns:
        One result per layer; the last one covers all layers together.
    """
    if sys.platform != "linux":
        remedy = "grade on Linux, or in a Linux container or virtual machine"
        return [Finding("system", False, f"{platform.system()}: namespaces exist only on Linux", remedy)]
    as_root = os.geteuid() == 0
    known = f"Linux {platform.release()}, {platform.machine()}, {_user(as_root)}"
    findings = [
        Finding(
            "system",
            _release() >= _OLDEST,
            known,
            "use Linux 5.14 or newer, which counts the processes of each submission separately",
        )
    ]
    findings += [
        _finding("user namespace", lambda: _new_namespaces(as_root=False), _USER_NAMESPACES) if not as_root
        else Finding("user", True, "each submission runs as its own user without privileges")
    ]  # fmt: skip
    for name, flag in _NAMESPACES.items():
        flags = flag if as_root else flag | libc.CLONE_NEWUSER
        findings.append(_finding(name, lambda flags=flags: libc.unshare(flags), _CONTAINER))  # type: ignore[misc]
    findings += [
        _finding("seccomp", _install_filter, "use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64"),
        _finding(
            "Landlock",
            lambda: f"version {landlock.version()}",
            "use a kernel with CONFIG_SECURITY_LANDLOCK, lsm=landlock",
        ),
        _finding("memory", _memory, ""),
        _finding("processors", _processors, ""),
        _whole(),
    ]
    return findings


def report(findings: list[Finding]) -> str:
    """Format the results as text."""
    width = max(len(finding.layer) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'ok' if finding.works else 'NO':<3} {finding.layer:<{width}}  {finding.detail}")
        if not finding.works and finding.remedy:
            lines.append(f"    {'':<{width}}  -> {finding.remedy}")
    ready = all(finding.works for finding in findings)
    lines.append("Submissions run isolated on this machine." if ready else "This machine does not isolate submissions.")
    return "\n".join(lines)


def _release() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def _memory() -> str:
    """Describe how the memory of a submission is counted."""
    found = cgroups.find()
    if found.memory is None:
        return f"sampled from outside, {1 / PERIOD:.0f} times a second: no control group ({found.reason}); {_GROUPS}"
    group = found.new(1, _LIMITS.memory_bytes)
    group.remove()
    return f"control group, version {found.version}: the kernel counts all memory and ends submissions that exceed the limit ({found.memory})"


def _processors() -> str:
    """Describe how submissions share the processors."""
    found = cgroups.find()
    shared = "control groups with equal shares" if found.processors else "no control group for equal shares"
    waits = (
        "waiting for CPU time is measured"
        if os.path.exists("/proc/self/schedstat")
        else "waiting for CPU time is not measured (no schedstat)"
    )
    cores = len(os.sched_getaffinity(0))
    return f"{cores}; each of several submissions keeps to its own; {shared}; {waits}"


def _user(as_root: bool) -> str:
    return "as root" if as_root else f"as user {os.geteuid()}"


def _install_filter() -> str:
    libc.no_new_privileges()
    seccomp.install()
    allowed = len(allowed_syscalls.ALLOWED) + len(seccomp.INSPECTED)
    return f"{allowed} system calls allowed, {len(seccomp.INSPECTED)} of them with some arguments; all others refused"


def _finding(layer: str, attempt: Callable[[], str | None], remedy: str) -> Finding:
    """Run ``attempt`` in a forked process and return the result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer: dict[str, Any]
        try:
            answer = {"works": True, "detail": attempt() or "can be created"}
        except (OSError, ValueError) as error:
            answer = {"works": False, "detail": str(error)}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"works": False, "detail": "the process that tried it was killed"}
    return Finding(layer, answer["works"], answer["detail"], remedy)


def _whole() -> Finding:
    """Try all layers together, and report what an isolated process sees."""
    reading, writing = os.pipe()
    inside, told = os.pipe()
    found = cgroups.find()
    try:
        group = found.new(2, _LIMITS.memory_bytes) if found.memory else None
    except OSError as error:
        return Finding("all together", False, f"control group: {error}", _GROUPS)
    child = os.fork()
    if child == 0:
        os.close(reading)

        def look() -> int:
            seen = {"processes": sum(name.isdigit() for name in os.listdir("/proc")), "root": sorted(os.listdir("/"))}
            os.write(told, json.dumps(seen).encode())
            return 0

        view = FileSystemView((sys.prefix, sys.base_prefix), (str(Path(__file__).parent.parent),))
        os._exit(run_isolated(view, _LIMITS, look, writing, group))
    os.close(writing)
    os.close(told)
    if group is not None:
        group.close()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(inside, "rb") as seen:
        failure, facts = pipe.read(), seen.read()
    os.waitpid(child, 0)
    if failure or not facts:
        reason = json.loads(failure) if failure else {"layer": "worker", "reason": "it ended without a message"}
        return Finding(
            "all together", False, f"{reason['layer']}: {reason['reason']}", f"{_CONTAINER}; or {_USER_NAMESPACES}"
        )
    found = json.loads(facts)
    return Finding(
        "all together", True, f"a submission sees {found['processes']} processes and /{' /'.join(found['root'])}"
    )
