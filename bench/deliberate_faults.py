"""Does a deliberate fault in each layer turn ``make test`` red? ``python -m bench.deliberate_faults``

Put ten faults, one in each layer, into a copy of the repository, one at a time, and run the tests of ``make test``
there until the first one fails; first, run them once without a fault. Print a table of the faults, the test that found
each, and the seconds until then; the exit status is 1 if a fault was not found. ``--only NUMBER`` tries one fault.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """A change of one place in the code.

    Attributes:
        layer: what the code is for.
        file: the file, from the root of the repository.
        old, new: the code and the faulty code; ``old`` occurs once in the file.
    """

    layer: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault("matching of cells", "amllab/matching.py", "copies[-1 if released.is_check else 0]", "copies[0]"),
    Fault("cleaning of outputs", "autograder/notebooks/safe_html.py", '"mailto", "data"}', '"data", "javascript"}'),
    Fault("sandbox", "autograder/sandbox/process_tree.py", "seccomp.install(counted=group is not None)", "pass"),
    Fault("protocol", "amllab/protocol/submission.py", "return (0, unreadable(wrong)) if wrong else (", "return ("),
    Fault("checks", "amllab/protocol/failure.py", "    if not holds:\n", "    if not holds and share > 0.5:\n"),
    Fault("report cells", "autograder/grading/report_cells.py", 'f"{earned:g}"', 'f"{possible:g}"'),
    Fault(
        "seeds", "autograder/grading/class_session.py", "code = [student, what_is_run(notebook)]", "code = [student]"
    ),
    Fault("cache", "autograder/grading/cache.py", 'if cell.cell_type == "code" else []', "if False else []"),
    Fault("late penalty", "autograder/nbgrader_plugins/late_penalty.py", "/ 100 * possible", "/ 10 * possible"),
    Fault("command line", "autograder/commands/exit_status.py", "        _say(reason)\n", ""),
)


def found_by(fault: Fault, copy: Path) -> tuple[str, float]:
    """Return the test that fails first with a fault, or an empty text, and the seconds until then."""
    file = copy / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.file} has {fault.old!r} {text.count(fault.old)} times, not once")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        return first_failure(copy)
    finally:
        file.write_text(text, encoding="utf-8")


def first_failure(copy: Path) -> tuple[str, float]:
    """Return the test that fails first in a copy, or an empty text, and the seconds until then."""
    command = [str(copy / ".venv" / "bin" / "python"), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["--numprocesses=3", "--dist=loadfile", "--ignore=tests/unit/test_mutation_study.py"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    test = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    return test[1] if test else "", time.perf_counter() - began


def copied(folder: Path) -> Path:
    """Copy the tracked files, with an environment whose packages are those of this one and whose course is the copy."""
    copy = folder / "copy"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(copy / ".venv")], check=True)
    packages = next((copy / ".venv" / "lib").glob("python*/site-packages"))
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (packages / "course.pth").write_text(f"{copy}\n{here}\n", encoding="utf-8")
    return copy


def main() -> int:
    """Try the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, help="number of the fault to try, from 1")
    arguments = parser.parse_args()
    missed = 0
    folder = Path(tempfile.mkdtemp(prefix="amllab-faults-"))
    try:
        copy = copied(folder)
        test, seconds = first_failure(copy)
        if test:  # it would fail with every fault, and show nothing
            raise SystemExit(f"{test} fails without a fault: nothing can be said of the faults")
        print(f"   no fault: all tests pass{'':76} {seconds:6.0f} s", flush=True)
        for number, fault in enumerate(FAULTS, 1):
            if arguments.only in (None, number):
                test, seconds = found_by(fault, copy)
                missed += not test
                print(f"{number:2} {fault.layer:20} {test or 'not found':100} {seconds:6.0f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
