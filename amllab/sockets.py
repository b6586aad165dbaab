"""Folders for the sockets of processes on one machine: an address has at most 107 bytes, and so a short path.

On some machines, as on clusters, the name of the temporary folder is longer than that.
"""

import multiprocessing.util
import os
import tempfile
from unittest.mock import patch

_LONGEST = 60  # bytes of the name of a temporary folder that leave enough for the names in it
_SHORT = "/tmp"


def parent_folder() -> str:
    """Return the folder in which to create a temporary folder for sockets."""
    usual = tempfile.gettempdir()
    return _SHORT if len(os.fsencode(usual)) > _LONGEST and os.path.isdir(_SHORT) else usual


def use_short_paths() -> None:
    """Let multiprocessing create its sockets in such a folder, which it chooses once in a process."""
    with patch.object(tempfile, "tempdir", parent_folder()):
        multiprocessing.util.get_temp_dir()
