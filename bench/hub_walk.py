"""A term on a JupyterHub, with the seconds of each step: ``python -m bench.hub_walk``

An instructor, a teaching assistant and two students have accounts of their own and a browser each. The hub has the
configuration of ``docs/hub.md``. ``AMLLAB_SCREENSHOTS=docs/screenshots`` takes screenshots for the documentation.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.hub import hub, missing
from tests.helpers.hub_walk import ASSIGNMENT, walk_through
from tests.helpers.jupyter import chromium


def main() -> None:
    if why := missing():
        sys.exit(why)
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="hub-") as folder,
        hub(Path(folder), ASSIGNMENT) as site,
        chromium() as browser,
    ):
        print(f"{time.perf_counter() - began:6.1f} s  {'':<10}  accounts, course, hub and formgrader start")
        walk = walk_through(site, browser)
    print(f"{sum(seconds for seconds, _, _ in walk.steps):6.1f} s  {'':<10}  all steps")


if __name__ == "__main__":
    main()
