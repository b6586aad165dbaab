"""Where the parts of a lab are."""

from pathlib import Path

# of each lab: autograder/checks/<lab>
HIDDEN_CHECKS = Path(__file__).parent.parent / "checks"
