"""How long does the demo's class take, here and in another checkout? ``python -m bench.demo_time --other FOLDER``

Both checkouts need an environment in ``.venv`` and the class that ``make demo`` leaves in ``demo/``. The lab is
released again with ``autograder build``, then ``nbgrader autograde`` is run from the start, in turns (``--pairs``). The
seconds of each grading are printed, with their median and ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ASSIGNMENT = "transfer-learning"


def seconds(checkout: Path) -> float:
    """Return the seconds that it takes to grade the demo's class from the start."""
    course = checkout / "demo"
    for made in ("autograded", "feedback", ".graded"):
        shutil.rmtree(course / made, ignore_errors=True)
    (course / "gradebook.db").unlink(missing_ok=True)
    run(checkout, "autograder", "build")
    began = time.perf_counter()
    run(checkout, "nbgrader", "autograde")
    return time.perf_counter() - began


def run(checkout: Path, *command: str) -> None:
    """Run a command for the demo's assignment."""
    program, *words = command
    done = subprocess.run(
        [checkout / ".venv" / "bin" / program, *words, ASSIGNMENT],
        cwd=checkout / "demo",
        env={**os.environ, "PATH": f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="another checkout of the project")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"there": [], "here": []}
    for _ in range(arguments.pairs):
        for name, checkout in (("there", arguments.other.resolve()), ("here", HERE)):
            found[name].append(seconds(checkout))
            print(f"{name}: {found[name][-1]:.1f} s", flush=True)
    there, here = (statistics.median(found[name]) for name in ("there", "here"))
    print(f"median of {arguments.pairs}: there {there:.1f} s, here {here:.1f} s, {here / there:.2f} of the time")


if __name__ == "__main__":
    main()
