"""Data sets that torchvision downloads once, and what is said where that is not possible."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from torchvision.datasets import CIFAR10

VARIABLE = "AMLLAB_DATA"  # the environment variable that names the images of a lab
ROOT = Path("data")  # torchvision's download folder, below the working directory
CONNECTION_SECONDS = 3.0


class DataUnavailable(RuntimeError):  # noqa: N818
    """Raised when the requested data set is neither on this machine nor available for download."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 200 characters; its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def problem_with(dataset: type[CIFAR10]) -> str | None:
    """Download CIFAR-10 or CIFAR-100 unless it is there; return why this is not possible, or ``None`` if it is.

    A server that does not answer is given up after a few seconds.
    """
    try:
        dataset(str(ROOT), train=True, download=False)
        return None
    except RuntimeError:  # missing or incomplete
        pass
    try:
        request = urllib.request.Request(dataset.url, method="HEAD")
        urllib.request.urlopen(request, timeout=CONNECTION_SECONDS).close()
        dataset(str(ROOT), train=True, download=True)
        return None
    except urllib.error.URLError as error:
        return first_line(error) if not isinstance(error.reason, Exception) else first_line(error.reason)
    except (OSError, RuntimeError) as error:
        return first_line(error)
