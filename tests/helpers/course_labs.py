"""Courses with labs of their own, in the process of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import amllab.lab


@contextmanager
def forgotten_course() -> Iterator[None]:
    """Forget at the end which course's labs this process has found."""
    labs, variable = amllab.lab._labs, os.environ.pop(amllab.lab.LABS, None)
    paths = [(path, list(path)) for path, _ in amllab.lab._search_paths]
    try:
        yield
    finally:
        amllab.lab._labs = labs
        os.environ.pop(amllab.lab.LABS, None)
        if variable is not None:
            os.environ[amllab.lab.LABS] = variable
        for path, before in paths:
            path[:] = before
