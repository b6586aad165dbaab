"""Measure how long a student waits for ``check()``: ``python -m bench.check_seconds [--lab LAB]``

The cells of the solution are run in a kernel, without the experiments. Then each exercise is checked three times. The
first check of a kernel also loads pytest and the checks; of the others, the median counts.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time

import nbformat
from nbclient import NotebookClient

from autograder.notebooks.metadata import skipped_cells
from tests.conftest import ASSIGNMENT, ROOT

TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lab", default=ASSIGNMENT, help=f"assignment (default {ASSIGNMENT})")
    lab = parser.parse_args().lab
    os.environ["AMLLAB_DATA"] = "drawn"
    notebook = nbformat.read(ROOT / "solutions" / lab / f"{lab.replace('-', '_')}.ipynb", as_version=4)
    skipped = skipped_cells(notebook)
    cells = [cell for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and i not in skipped]
    checks = [found[0] for cell in notebook.cells if (found := re.findall(r'^check\("\w+"\)', cell.source, re.M))]
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
    with client.setup_kernel():

        def seconds(source: str) -> float:
            began = time.perf_counter()
            client.execute_cell(nbformat.v4.new_code_cell(source), 0)
            return time.perf_counter() - began

        for cell in cells:
            seconds(cell.source)
        for number, check in enumerate(checks):
            every = [seconds(check) for _ in range(TIMES + (number == 0))]
            first = f"  ({every.pop(0):.2f} s the first time)" if number == 0 else ""
            print(f"{check:42}{statistics.median(every):6.2f} s{first}")


if __name__ == "__main__":
    main()
