"""Traces that an attack leaves: files, processes, connections."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path


class Ears:
    """Listen on a TCP and a UDP port, an abstract socket and one in the grader's home, and keep what arrives.

    Args:
        marker: name of the Unix sockets.
        home: folder of one of them.
    """

    def __init__(self, marker: str, home: Path) -> None:
        self.heard: list[str] = []
        self._sockets = []
        addresses = [
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, f"\0{marker}"),
            (socket.AF_UNIX, str(home / f"{marker}.sock")),
        ]
        for family, address in addresses:
            listening = socket.socket(family, socket.SOCK_STREAM)
            listening.bind(address)
            listening.listen()
            self._start(listening, self._accept)
        self.tcp = self._sockets[0].getsockname()[1]
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        self.udp = datagrams.getsockname()[1]
        self._start(datagrams, self._receive)

    def _start(self, listening: socket.socket, work: Callable[[socket.socket], None]) -> None:
        self._sockets.append(listening)
        threading.Thread(target=work, args=(listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.heard.append(f"a connection to {listening.getsockname()!r}")
            connection.close()

    def _receive(self, listening: socket.socket) -> None:
        while True:
            try:
                data, _ = listening.recvfrom(1000)
            except OSError:
                return
            if data:
                self.heard.append(f"a datagram {data!r}")

    def close(self) -> None:
        for listening in self._sockets:
            listening.close()


def snapshot(*folders: Path) -> dict[str, tuple[int, int, str]]:
    """Return size, modification time and hash of every file, except those that grading itself writes."""
    written = ("attempts", "autograded", ".graded", "feedback", "gradebook.db", "gradebook.db-journal", ".nbgrader.log")
    files = [p for f in folders for p in sorted(f.rglob("*")) if not set(written) & set(p.relative_to(f).parts)]
    return {
        str(p): (p.stat().st_size, p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest())
        for p in files
        if p.is_file()
    }


def marked_files(marker: str, *folders: Path) -> list[str]:
    """Return files of the attacks, wherever they may write."""
    places = [*folders, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path.home(), Path(os.getcwd())]
    found = []
    for place in places:
        for folder, names, files in os.walk(place):
            names[:] = [name for name in names if name not in (".venv", ".git", "proc")]
            found += [f"{folder}/{name}" for name in (*files, *names) if marker in name and not name.endswith(".sock")]
    return sorted(set(found))


def marked_processes(marker: str) -> list[str]:
    """Return processes of the attacks that are still running."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, line = (process / "comm").read_text().strip(), (process / "cmdline").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if marker in name or marker in line:
            found.append(f"{process.name} {name} {line!r}")
    return found
