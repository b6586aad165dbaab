"""The locations of the parts of a lab."""

from pathlib import Path

# one folder per lab: autograder/checks/<lab>
HIDDEN_CHECKS = Path(__file__).parent.parent / "checks"
