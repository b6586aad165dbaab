"""What a cached grading depends on: its own lab, the engine, and data that the lab names; nothing else."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from amllab.lab import Lab
from autograder.grading import cache, lab_digest
from autograder.grading.cache import key_of
from autograder.labs import locations

NOTEBOOK = new_notebook(cells=[new_code_cell("x = 1")])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small packages with the labs ``one`` and ``two``."""
    for package in ("amllab", "autograder"):
        for lab in ("one", "two"):
            folder = tmp_path / package / "checks" / lab
            folder.mkdir(parents=True)
            (folder / f"test_{package}.py").write_text("x = 1")
            (folder / "lab.toml").write_text("x = 1")
        (tmp_path / package / "engine.py").write_text("x = 1")
        (tmp_path / package / "checks" / "plugin.py").write_text("x = 1")
    monkeypatch.setattr(cache, "PACKAGES", (tmp_path / "amllab", tmp_path / "autograder"))
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", tmp_path / "autograder" / "checks")
    monkeypatch.setattr(lab_digest, "_hashed", {})
    return tmp_path


def key(root: Path, **settings: Any) -> str:
    """Return the key of a grading of lab ``one``, as a new process would."""
    cache.engine.cache_clear()
    lab_digest.files_digest.cache_clear()
    return key_of(NOTEBOOK, Lab("one", root / "amllab" / "checks" / "one", "One", "one", {}, settings))


KEPT = (
    "amllab/checks/two/test_amllab.py",
    "amllab/checks/two/lab.toml",
    "amllab/checks/two/new/deeper.py",
    "autograder/checks/two/test_autograder.py",
    "autograder/checks/two/mistakes.json",
    "amllab/checks/three/lab.toml",
    "amllab/checks/one/lab.toml",  # its settings count, as read before the run
    "autograder/checks/one/corpus/plain.py",
    "autograder/checks/one/evidence/study.json",
    "amllab/checks/one/__pycache__/x.pyc",
    "amllab/checks/one/.ipynb_checkpoints/test.py",
)
GRADED_AGAIN = (
    "amllab/checks/one/test_amllab.py",
    "amllab/checks/one/data.npz",
    "amllab/checks/one/deeper/helper.py",
    "autograder/checks/one/test_autograder.py",
    "autograder/checks/one/mistakes.json",
    "amllab/engine.py",
    "amllab/checks/plugin.py",
    "amllab/weights/net.safetensors",
    "autograder/engine.py",
    "autograder/new.py",
)


@pytest.mark.parametrize("name", [*KEPT, *GRADED_AGAIN])
def test_key_files(root: Path, name: str) -> None:
    """An edit of the lab or the engine changes the key; an edit of another lab does not."""
    before = key(root)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("x = 2")
    assert (key(root) == before) == (name in KEPT)


def test_key_settings(root: Path) -> None:
    """Settings of the lab count, except for the deadline with its penalties."""
    before = key(root)
    assert key(root, deadline={"due": "2030-01-01", "penalty_percent": 10}) == before
    assert key(root, packages=["numpy"]) != key(root, packages=["timm"])
    others = [
        {"own": {"x": 1}},
        {"points": {"test_a": 1}},
        {"environment": {"A": "1"}},
        {"probes": {"trusted": ["a.b"]}},
    ]
    assert len({before, *(key(root, **settings) for settings in others)}) == 5


def test_key_package_versions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions of the lab's packages count; a package that is not installed has its own key."""
    before = key(root, packages=["einops>=0.7"])
    monkeypatch.setattr(lab_digest, "version", lambda name: "9.9")
    assert key(root, packages=["einops>=0.7"]) != before
    assert key(root) == key(root)


def images(folder: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def in_place(file: Path) -> None:
    """Change a file's content, and give it back its size and its times."""
    before = file.stat()
    file.write_bytes(bytes(reversed(file.read_bytes())))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], object]] = {
    "in place": lambda folder: in_place(folder / "a/1.png"),
    "renamed": lambda folder: (folder / "a/1.png").rename(folder / "a/3.png"),
    "of another class": lambda folder: (folder / "a/1.png").rename(folder / "b/3.png"),
    "removed": lambda folder: (folder / "a/1.png").unlink(),
    "one more": lambda folder: (folder / "a/9.png").write_bytes(b""),
    "swapped": lambda folder: [
        (folder / "a/1.png").rename(folder / "x"),
        (folder / "a/2.png").rename(folder / "a/1.png"),
        (folder / "x").rename(folder / "a/2.png"),
    ],
    "folder replaced": lambda folder: [
        shutil.rmtree(folder),
        images(folder),
        (folder / "a/1.png").write_bytes(b"a/9.png"),
    ],
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize(
    ("settings", "change"),
    [*(("accuracy", change) for change in CHANGES), ("environment", "in place"), ("own", "in place")],
)
def test_key_images(root: Path, tmp_path: Path, change: str, settings: str) -> None:
    """The content of an image folder in the settings counts, even if sizes and times stay the same."""
    folder = images(tmp_path / "images")
    named = {
        "accuracy": {"accuracy": {"data": str(folder)}},
        "environment": {"environment": {"AMLLAB_DATA": str(folder)}},
        "own": {"own": {"tables": [{"data": str(folder)}]}},
    }[settings]
    before = key(root, **named)
    assert key(root, **named) == before
    CHANGES[change](folder)
    assert key(root, **named) != before


def test_key_image_changed_after_reading(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read again only if something about it has changed."""
    folder = images(tmp_path / "images")
    monkeypatch.setattr(lab_digest, "_RECENT_SECONDS", -1.0)
    before = key(root, accuracy={"data": str(folder)})
    read: list[str] = []
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *args, **more: [read.append(path.name), opened(path, *args, **more)][1]
    )
    assert key(root, accuracy={"data": str(folder)}) == before
    assert "1.png" not in read
    time.sleep(0.05)  # more than the resolution of time stamps
    in_place(folder / "a" / "1.png")
    read.clear()
    assert key(root, accuracy={"data": str(folder)}) != before
    assert read.count("1.png") == 1


def test_key_images_odd_folders(root: Path, tmp_path: Path) -> None:
    """Circular links, broken links, pipes and invalid paths still give a key."""
    folder = images(tmp_path / "images")
    plain = key(root, accuracy={"data": str(folder)})
    (folder / "a" / "circle").symlink_to(folder)
    (folder / "a" / "nowhere.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    assert key(root, accuracy={"data": str(folder)}) != plain
    other = images(tmp_path / "other")
    shutil.rmtree(folder / "b")
    (folder / "b").symlink_to(other / "b")
    linked = key(root, accuracy={"data": str(folder)})
    in_place(other / "b" / "1.png")
    assert key(root, accuracy={"data": str(folder)}) != linked
    for odd in ("drawn", "", "~nobody-of-this-name/x", "a\0b", "x" * 5000):
        assert key(root, accuracy={"data": odd})
