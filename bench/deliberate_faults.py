"""Does a deliberate fault in each layer turn ``make test`` red? ``python -m bench.deliberate_faults``

Put ten faults, one in each layer, into the code, one at a time, and run the test file of ``make test`` that is about
that code until a test fails. Before, run these files without a fault: all of them have to pass. Print a table of the
faults, the test that found each, and the seconds until then. The exit status is 1 if a fault was not found.

``--only NUMBER`` tries one fault. ``--all-tests`` runs all tests of ``make test`` in place of the one file, until the
first one fails: many minutes for each fault.

The faults are written into this checkout and taken out again, so it must not have uncommitted changes. If the script
is killed, ``git checkout .`` removes the fault.
"""

from __future__ import annotations

import argparse
import os
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
        what: what is wrong.
        layer: what the code is for.
        tests: the test file that is about it, without ``tests/`` and ``.py``.
        file: the file of the code, from the root of the repository.
        old, new: the code and the faulty code; ``old`` occurs once in the file.
    """

    what: str
    layer: str
    tests: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault(
        "the first copy of a check counts",
        "matching of cells",
        "unit/test_normalize",
        "amllab/matching.py",
        "copies[-1 if released.is_check else 0]",
        "copies[0]",
    ),
    Fault(
        "links of students lead anywhere",
        "cleaning of outputs",
        "security/test_sanitize",
        "autograder/notebooks/safe_html.py",
        "return value if _LINK.fullmatch(value) else None",
        "return value",
    ),
    Fault(
        "no system call is refused",
        "sandbox",
        "security/test_process_tree",
        "autograder/sandbox/process_tree.py",
        "seccomp.install(counted=group is not None)",
        "pass",
    ),
    Fault(
        "answers of any form are accepted",
        "protocol",
        "unit/test_submission",
        "amllab/protocol/submission.py",
        "return (0, unreadable(wrong)) if wrong else (",
        "return (",
    ),
    Fault(
        "a false value other than False passes",
        "checks",
        "unit/test_checks",
        "amllab/protocol/failure.py",
        "    if not holds:\n",
        "    if holds is False:\n",
    ),
    Fault(
        "every check cell gets full points",
        "report cells",
        "unit/test_report_cells",
        "autograder/grading/report_cells.py",
        'f"{earned:g}"',
        'f"{possible:g}"',
    ),
    Fault(
        "new code keeps a seed that feedback has named",
        "seeds",
        "unit/test_seeds",
        "autograder/gradebook/seeds.py",
        "json.dumps([student, what_is_run(notebook)])",
        "json.dumps([student])",
    ),
    Fault(
        "other code gets the points of the last grading",
        "cache",
        "unit/test_grading_cache",
        "autograder/grading/cache.py",
        'if cell.cell_type == "code" else []',
        "if False else []",
    ),
    Fault(
        "a day costs points only when it is over",
        "late penalty",
        "unit/test_late_penalty",
        "autograder/nbgrader_plugins/late_penalty.py",
        "math.ceil(seconds_late / _DAY)",
        "math.floor(seconds_late / _DAY)",
    ),
    Fault(
        "a command fails without a message",
        "command line",
        "unit/test_command_line",
        "autograder/commands/exit_status.py",
        "        _say(reason)\n",
        "",
    ),
)


def found_by(fault: Fault, files: Sequence[str]) -> tuple[str, float]:
    """Return the test of some files that fails first with a fault, or an empty text, and the seconds until then."""
    file = ROOT / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.file} has {fault.old!r} {text.count(fault.old)} times, not once")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        return first_failure(files)
    finally:
        file.write_text(text, encoding="utf-8")


def first_failure(files: Sequence[str]) -> tuple[str, float]:
    """Return the test of ``make test`` that fails first, or an empty text, and the seconds until then.

    Args:
        files: test files without ``tests/`` and ``.py``; all if empty.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/{name}.py" for name in files] or ["--numprocesses=3", "--dist=loadfile"]
    # compiled faulty code would outlast the fault
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    test = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.M)
    if done.returncode and not test:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
    return test[1] if test else "", time.perf_counter() - began


def main() -> int:
    """Try the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="number of the fault to try, from 1")
    parser.add_argument("--all-tests", action="store_true", help="run all tests of make test for each fault")
    arguments = parser.parse_args()
    if subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode:
        raise SystemExit("The checkout has uncommitted changes: commit them, or run this in a clone.")
    chosen = [(n, fault) for n, fault in enumerate(FAULTS, 1) if arguments.only in (None, n)]
    test, seconds = first_failure([] if arguments.all_tests else sorted({fault.tests for _, fault in chosen}))
    if test:  # it would fail with every fault, and show nothing
        raise SystemExit(f"{test} fails without a fault: fix it first")
    print("| | fault | layer | file | found by | seconds |\n|---|---|---|---|---|---|")
    print(f"| 0 | none | | | all of these tests pass | {seconds:.0f} |", flush=True)
    missed = 0
    for number, fault in chosen:
        test, seconds = found_by(fault, [] if arguments.all_tests else [fault.tests])
        missed += not test
        shown = f"`{test.removeprefix('tests/')}`" if test else "**not found**"
        print(
            f"| {number} | {fault.what} | {fault.layer} | `{fault.file}` | {shown} | {seconds:.0f} |",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
