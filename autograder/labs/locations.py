"""The locations of the parts of a lab."""

from pathlib import Path

import amllab

# one folder per lab: autograder/checks/<lab>
HIDDEN_CHECKS = Path(__file__).parent.parent / "checks"
# what the checks of all labs share
KIT = Path(amllab.__file__).parent / "kit"
# what hidden checks of several labs share
HIDDEN_KIT = Path(__file__).parent.parent / "kit"
