"""Command line of the preflight: ``python -m amllab.preflight transfer_learning.ipynb``."""

from __future__ import annotations

import argparse
import sys

from amllab.preflight import preflight


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if the notebook is ready, 1 if there is something to fix or a check did not pass, 2 if there is no notebook.
    """
    parser = argparse.ArgumentParser(
        prog="python -m amllab.preflight", description="Check a saved notebook as grading would, before you submit it."
    )
    parser.add_argument(
        "notebook", nargs="?", help="the file (default: the only notebook of a lab in the working directory)"
    )
    report = preflight(parser.parse_args(argv).notebook)
    if report.problem:
        print(f"preflight: {report.problem}", file=sys.stderr)
        return 2
    print(report)
    return 0 if report.is_ready else 1


if __name__ == "__main__":
    sys.exit(main())
