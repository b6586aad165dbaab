"""The locations of the parts of a lab."""

from pathlib import Path

import amllab
from amllab.lab import HIDDEN, course_lab, name_in_course

# one folder for each shipped lab: autograder/checks/<lab>
HIDDEN_CHECKS = Path(__file__).parent.parent / "checks"
# what the checks of all labs share
KIT = Path(amllab.__file__).parent / "kit"
# what hidden checks of several labs share
HIDDEN_KIT = Path(__file__).parent.parent / "kit"


def hidden_checks(lab: str) -> Path:
    """Return the folder of a lab's hidden checks, whether it exists or not; see :mod:`amllab.lab`."""
    return course_lab(lab, HIDDEN) or HIDDEN_CHECKS / lab


def hidden_name(lab: str, file: str) -> str:
    """Return the name of a file next to a lab's hidden checks, for messages."""
    return f"{name_in_course(hidden_checks(lab), 3)}/{file}"
