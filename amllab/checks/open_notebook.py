"""The notebook that a student has open: its variables, and what to run if a function is missing."""

from __future__ import annotations

from typing import Any

from amllab.checks.exercises import exercises_of
from amllab.lab import find_lab
from amllab.protocol.submission import InProcessSubmission


def variables(caller: str) -> dict[str, Any]:
    """Return the variables of the notebook, or of the IPython session, that this code runs in.

    Args:
        caller: Name of the function that the student called, for the error.

    Raises:
        RuntimeError: There is no notebook and no IPython session.
    """
    # imported here because the library also works without IPython
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise RuntimeError(f"{caller}() inspects the functions of a notebook: call it in a notebook or in IPython")
    found: dict[str, Any] = shell.user_ns
    return found


class OpenNotebook(InProcessSubmission):
    """An open notebook, some of whose cells may not have been run yet."""

    def cause(self, name: str) -> str:
        """Return which cell to run, if the name is that of a function that the lab asks for."""
        exercise = next((found for found in exercises_of(find_lab(self.lab)) if name in found.functions), None)
        if exercise is None:
            return ""
        place = f" ({exercise.heading})" if exercise.heading else ""
        if name not in self.namespace:
            return f"yet: run its cell above first{place}"
        kind = type(self.namespace[name]).__name__
        return f"as a function, it is a variable of type `{kind}`: run its cell above again{place}"
