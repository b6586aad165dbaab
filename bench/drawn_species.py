"""How many images a second does the library draw, and what do they look like? ``python -m bench.drawn_species``

Draw species and reptiles, and print the images for each second of one core: the median of ``--runs`` runs. With
``--plot FILE``, also save a picture with a row of individuals for each of 12 species.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from amllab import plots
from amllab.plots.figure import SHOWN_PER_INCH
from amllab.species import draw_species
from amllab.synthetic_images import draw

SPECIES, ROW, PLOT_SEED = 12, 10, 5


def rate(images: int, drawing: Callable[[int], object], runs: int) -> float:
    """Return the images for each second of a processor core; every run has another seed."""
    seconds = []
    for seed in range(runs + 1):
        began = time.process_time()
        drawing(seed)
        seconds.append(time.process_time() - began)
    return images / statistics.median(seconds[1:])  # the first run also warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="file for the picture")
    arguments = parser.parse_args()
    for size, per_species in ((32, 40), (64, 20)):
        found = rate(10 * per_species, lambda seed: draw_species(10, per_species, seed, size), arguments.runs)  # noqa: B023
        print(f"10 species, {per_species} images of each, {size} pixels: {found:.0f} images a second")
    print(f"500 reptiles, 32 pixels: {rate(500, lambda seed: draw(500, seed), arguments.runs):.0f} images a second")
    if arguments.plot:
        drawn = draw_species(SPECIES, ROW, PLOT_SEED)
        figure = plots.gallery(drawn.images, drawn.labels, drawn.classes, ROW)
        figure.savefig(arguments.plot, dpi=SHOWN_PER_INCH)


if __name__ == "__main__":
    main()
