"""Measure what the live view of a training costs: ``python -m bench.live_view``

Train in a real notebook kernel, with the view and without it in turn, and compare the times of consecutive pairs. The
batches are in memory and the model is the smaller one, so that steps are short and the share of the view is largest.
"""

from __future__ import annotations

import argparse
import json
import statistics

import nbformat
from nbclient import NotebookClient

SETUP = """
import os, time, torch
from torch.nn import functional as F
from amllab import Epochs, load_backbone

batches = [(torch.randn({size}, 3, 32, 32), torch.randint(10, ({size},))) for _ in range({batches})]

def seconds(view):
    os.environ["AMLLAB_PROGRESS"] = "1" if view else "0"
    torch.manual_seed(0)
    model = load_backbone("net6")
    optimizer = torch.optim.AdamW(model.parameters())
    began = time.perf_counter()
    for _ in (progress := Epochs({epochs})):
        for images, labels in progress.batches(batches):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            progress.show(loss=loss)
        progress.log(train_loss=loss, val_loss=loss, train_acc=0.5, val_acc=0.5)
    return time.perf_counter() - began

seconds(True), seconds(False)  # the first steps of a process are slower
"""
MEASURE = """
import json
pairs = [(seconds(True), seconds(False)) if i % 2 else (seconds(False), seconds(True))[::-1] for i in range({pairs})]
print(json.dumps(pairs))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=4, help="of each training")
    parser.add_argument("--batches", type=int, default=12, help="of each epoch")
    parser.add_argument("--size", type=int, default=16, help="images of a batch")
    arguments = vars(parser.parse_args())
    cells = [nbformat.v4.new_code_cell(source.format(**arguments)) for source in (SETUP, MEASURE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
    printed = "".join(o.text for o in cells[1].outputs if o.output_type == "stream" and o.name == "stdout")
    pairs = json.loads(printed)
    ratios = [shown / silent for shown, silent in pairs]
    views = [o for o in cells[1].outputs if o.output_type == "display_data"]
    print(f"{len(pairs)} pairs of trainings of {arguments['epochs']} epochs, {arguments['batches']} batches each")
    print(f"without the view  {statistics.median(silent for _, silent in pairs):.2f} s (median)")
    print(
        f"with it           {statistics.median(shown for shown, _ in pairs):.2f} s, {len(views)} views in the notebook"
    )
    print(f"ratio             {statistics.median(ratios):.3f} (median), {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
