"""Sockets can be created where the name of the temporary folder is long, as on clusters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from amllab.sockets import parent_folder

START = """
import multiprocessing
from amllab.sockets import use_short_paths
use_short_paths()
process = multiprocessing.get_context("forkserver").Process(target=print, args=("started",))
process.start()
process.join()
"""


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    return folder


def test_parent_folder(long_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder with a short name is used as it is; in place of a long one, the system's own."""
    for folder, parent in (("/var/tmp", "/var/tmp"), (str(long_folder), "/tmp")):
        monkeypatch.setattr(tempfile, "tempdir", folder)
        assert parent_folder() == parent


def test_multiprocessing_with_long_temporary_folder(long_folder: Path) -> None:
    """Processes that grade, and warm kernels, start from a server with a socket."""
    environment = {**os.environ, "TMPDIR": str(long_folder)}
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "started\n", done.stderr
