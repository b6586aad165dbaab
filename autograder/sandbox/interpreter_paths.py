"""Where the interpreter's folders really are: homes, environments and packages are often reached through symbolic links.

A submission sees folders at their real places, and the links that lead there. So what is hidden needs to be covered in one place
only, whatever the number of its names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

_MOST_LINKS = 40  # on one path, as in the kernel


def follow(path: str, links: dict[str, str]) -> str:
    """The real path; the links that are met on the way are added to ``links`` (place -> target), those of targets included."""
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
        if met > _MOST_LINKS:  # a circle: nothing is there
            return os.path.abspath(path)
        links[place] = target = os.readlink(place)
        parts += target.split("/")[::-1]
        real = "/" if target.startswith("/") else real
    return real


def is_below(path: str, folder: str) -> bool:
    """Whether a path is that of a folder or of something in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def of_packages(entries: Iterable[str]) -> set[str]:
    """What packages consist of outside of the folders in which Python looks for them.

    Installers may link to a cache instead of copying (uv, conda), and an editable installation may name another folder.

    Args:
        entries: of ``sys.path``.
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
    """Where links among the packages in a folder lead: those of the packages themselves, and of their first files."""
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
    """The folder of the package where a file of it really is; the file alone where that is a folder of another name."""
    real = os.path.realpath(file)
    folder = os.path.dirname(real)
    return folder if os.path.basename(folder) == name else real


def aliases(folder: str, shown: Iterable[str]) -> set[str]:
    """Further names of a folder among those shown: bind mounts have no link to follow.

    Args:
        folder: real path.
        shown: real paths of folders.
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
