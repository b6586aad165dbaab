"""The kernels of ordinary assignments: which notebooks can run isolated, and which are left to nbgrader."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from autograder.errors import CourseError

_OURS = re.compile(r"python(3(\.\d+)?)?")  # names that jupyter_client replaces by the present interpreter
_DEFAULT = "python3"


@dataclass(frozen=True)
class Kernel:
    """How a notebook of an assignment is run.

    Attributes:
        environment: Environment variables that the kernel declares.
        why_not: Why it is not isolated; empty if it is.
    """

    environment: dict[str, str] = field(default_factory=dict)
    why_not: str = ""


def kernel_of(notebook: str, recorded: str | None, configured: str = "") -> Kernel:
    """Choose how to run the submissions of a notebook. What a submission says about its kernel does not count.

    Args:
        notebook: Name of the notebook.
        recorded: The kernelspec in the gradebook, as JSON: that of the instructor's notebook.
        configured: Name of the kernel that the course sets for all notebooks; empty if it sets none.

    Raises:
        CourseError: The kernel is not installed, and is none of Python's.
    """
    said = _said(recorded)
    name = configured or str(said.get("name") or _DEFAULT)
    name = _DEFAULT if name == "python" else name  # as in jupyter_client
    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        if str(said.get("language", "")).lower() == "python" and not configured:
            return Kernel()
        installed = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise CourseError(
            f"{notebook}.ipynb needs the kernel {name!r}, which is not installed here; there are: {installed}. Install it, "
            "or choose another kernel in the instructor's notebook and run 'nbgrader generate_assignment --force'"
        ) from None
    if _is_present(spec):
        return Kernel({str(key): str(value) for key, value in spec.env.items()})
    return Kernel(why_not=f"its kernel is {spec.display_name}")


def _said(recorded: str | None) -> Mapping[str, Any]:
    try:
        said = json.loads(recorded or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}


def _is_present(spec: KernelSpec) -> bool:
    """Return whether a kernel is ipykernel in the environment of this process."""
    if spec.language.lower() != "python" or not spec.argv or not any("ipykernel" in part for part in spec.argv[1:]):
        return False
    program = spec.argv[0]
    if _OURS.fullmatch(program):
        return True
    # the interpreter of an environment is a link to one that several share: its folder tells
    return os.path.realpath(os.path.dirname(program)) == os.path.realpath(os.path.dirname(sys.executable))
