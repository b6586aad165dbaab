"""The real paths of the interpreter and its packages, which are often reached through symbolic links.

A submission sees folders at their real paths, and the links that lead there. A hidden folder therefore has to be
covered only once, no matter how many names it has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

_MOST_LINKS = 40  # on one path, as in the kernel


def follow(path: str, links: dict[str, str]) -> str:
    """Resolve a path, and add all links on the way to ``links`` (location -> target), including links in targets."""
    real, parts, met = "/", path.split("/")[::-1], 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            real = os.path.dirname(real)
            continue
        place = os.path.join(real, part)
        if not os.path.islink(place):
            real = place
            continue
        met += 1
        if met > _MOST_LINKS:  # a loop: the path leads nowhere
            return os.path.abspath(path)
        links[place] = target = os.readlink(place)
        parts += target.split("/")[::-1]
        real = "/" if target.startswith("/") else real
    return real


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or something inside it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def of_packages(entries: Iterable[str]) -> set[str]:
    """Find the files and folders of packages that are outside the folders in which Python looks for packages.

    Installers such as uv and conda may link to a cache instead of copying, and an editable installation may refer to
    another folder.

    Args:
        entries: Entries of ``sys.path``.
    """
    found = {place for entry in entries if os.path.isdir(entry) for place in _linked(entry)}
    for name, module in list(sys.modules.items()):
        file, folders = getattr(module, "__file__", None), getattr(module, "__path__", None)
        if "." in name or name == "__main__":
            continue
        if file:
            found.add(_package(name, file) if folders is not None else os.path.realpath(file))
        found.update(folder for folder in folders or () if isinstance(folder, str))
    return {place for place in found if os.path.exists(place)}


def _linked(entry: str) -> Iterator[str]:
    """Yield the real paths of packages in a folder that are links themselves or contain linked files."""
    with os.scandir(entry) as packages:
        for package in packages:
            if package.is_symlink():
                if package.name.endswith((".py", ".so", ".libs")) or os.path.isfile(f"{package.path}/__init__.py"):
                    yield os.path.realpath(package.path)
            elif package.is_dir() and (link := _first_link(package.path)):
                yield _package(package.name, link)


def _first_link(folder: str) -> str | None:
    try:
        with os.scandir(folder) as files:
            return next((file.path for file in files if file.is_symlink()), None)
    except OSError:
        return None


def _package(name: str, file: str) -> str:
    """Return the real folder of a package from one of its files, or the real file if the folder has another name."""
    real = os.path.realpath(file)
    folder = os.path.dirname(real)
    return folder if os.path.basename(folder) == name else real


def aliases(folder: str, shown: Iterable[str]) -> set[str]:
    """Find other paths of a folder inside the shown folders; bind mounts create them without links to follow.

    Args:
        folder: Real path of the folder.
        shown: Real paths of the folders that are shown.
    """
    found = set()
    above, others = folder, [other for other in shown if not is_below(other, folder)]
    while above != "/":
        for other in others:
            if other != above and _same(other, above):
                found.add(os.path.normpath(os.path.join(other, os.path.relpath(folder, above))))
        above = os.path.dirname(above)
    return found


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
