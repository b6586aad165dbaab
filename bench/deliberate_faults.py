"""Does a deliberate fault in each layer turn ``make test`` red? ``python -m bench.deliberate_faults``

Put ten faults, one in each layer, into the code, one at a time, and run the tests of ``make test`` until the first one
fails: the file that is about that layer first, and all others only if it passes. Before, run these files without a
fault. Print a table of the faults, the test that found each, and the seconds until then; the exit status is 1 if a
fault was not found. ``--only NUMBER`` tries one fault.

The faults are written into this checkout and taken out again, so it must not have uncommitted changes. If the script
is killed, ``git checkout .`` removes the fault.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """A change of one place in the code.

    Attributes:
        layer: what the code is for.
        tests: the test file that is about it.
        file: the file, from the root of the repository.
        old, new: the code and the faulty code; ``old`` occurs once in the file.
    """

    layer: str
    tests: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault(
        "matching of cells",
        "unit/test_normalize",
        "amllab/matching.py",
        "copies[-1 if released.is_check else 0]",
        "copies[0]",
    ),
    Fault(
        "cleaning of outputs",
        "security/test_sanitize",
        "autograder/notebooks/safe_html.py",
        '"mailto", "data"}',
        '"data", "javascript"}',
    ),
    Fault(
        "sandbox",
        "security/test_isolation",
        "autograder/sandbox/process_tree.py",
        "seccomp.install(counted=group is not None)",
        "pass",
    ),
    Fault(
        "protocol",
        "unit/test_wire",
        "amllab/protocol/submission.py",
        "return (0, unreadable(wrong)) if wrong else (",
        "return (",
    ),
    Fault(
        "checks",
        "unit/test_checks",
        "amllab/protocol/failure.py",
        "    if not holds:\n",
        "    if not holds and share > 0.5:\n",
    ),
    Fault(
        "report cells",
        "integration/test_grading",
        "autograder/grading/report_cells.py",
        'f"{earned:g}"',
        'f"{possible:g}"',
    ),
    Fault(
        "seeds",
        "unit/test_seeds",
        "autograder/grading/class_session.py",
        "code = [student, what_is_run(notebook)]",
        "code = [student]",
    ),
    Fault(
        "cache",
        "integration/test_cache",
        "autograder/grading/cache.py",
        'if cell.cell_type == "code" else []',
        "if False else []",
    ),
    Fault(
        "late penalty",
        "integration/test_late",
        "autograder/nbgrader_plugins/late_penalty.py",
        "/ 100 * possible",
        "/ 10 * possible",
    ),
    Fault(
        "command line",
        "integration/test_command_line",
        "autograder/commands/exit_status.py",
        "        _say(reason)\n",
        "",
    ),
)


def found_by(fault: Fault) -> tuple[str, float]:
    """Return the test that fails first with a fault, or an empty text, and the seconds until then."""
    file = ROOT / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.file} has {fault.old!r} {text.count(fault.old)} times, not once")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        test, seconds = first_failure([fault.tests])
        return (test, seconds) if test else first_failure()
    finally:
        file.write_text(text, encoding="utf-8")


def first_failure(files: Sequence[str] = ()) -> tuple[str, float]:
    """Return the test of ``make test`` that fails first, or an empty text, and the seconds until then.

    Args:
        files: test files without ``tests/`` and ``.py``; all if empty.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["--numprocesses=3", "--dist=loadfile", *(f"tests/{name}.py" for name in files)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    test = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode and not test:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
    return test[1] if test else "", time.perf_counter() - began


def main() -> int:
    """Try the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, help="number of the fault to try, from 1")
    arguments = parser.parse_args()
    if subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode:
        raise SystemExit("The checkout has uncommitted changes: commit them, or run this in a clone.")
    chosen = [(n, fault) for n, fault in enumerate(FAULTS, 1) if arguments.only in (None, n)]
    test, seconds = first_failure(sorted({fault.tests for _, fault in chosen}))
    if test:  # it would fail with every fault, and show nothing
        raise SystemExit(f"{test} fails without a fault: fix it first")
    print(f"   {'no fault':20} {'all of these files pass':100} {seconds:6.0f} s", flush=True)
    missed = 0
    for number, fault in chosen:
        test, seconds = found_by(fault)
        missed += not test
        print(f"{number:2} {fault.layer:20} {test or 'not found':100} {seconds:6.0f} s", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
