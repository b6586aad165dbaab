"""How far the accuracy check tells right from wrong: ``python bench/accuracy_check.py --seeds 5``.

Runs the check's own training (``lab.toml``: images, epochs, layers) with correct functions and with typical wrong ones,
and prints the accuracy of each on the test images of the check, and on the same images as they were drawn, before the check
shifts and mirrors them. The functions are those of ``tests/variants.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from variants import BATCHNORM_IN_FREEZE, BUILD, BY_MODEL_COPY, FREEZE, TRAIN, WITH_LIBRARY

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.checks.lab import find_lab
from amllab.checks.submission import InProcessSubmission
from amllab.checks.transfer_learning.accuracy import accuracy, data_seed, fit_and_predict, key
from amllab.drawn import draw

FROM_SCRATCH = BUILD.replace("load_backbone(backbone)", "timm.create_model(backbone)")
STYLES = {
    "correct: AdamW": (FREEZE, BUILD, TRAIN),
    "correct: Adam, cosine, clipped": (BATCHNORM_IN_FREEZE, BUILD, BY_MODEL_COPY),
    "correct: NAdam": (FREEZE, BUILD, WITH_LIBRARY),
    "random weights, all but the last frozen": (FREEZE, FROM_SCRATCH, TRAIN),
    "learning rate 1e-7": (FREEZE, BUILD, TRAIN.replace("lr=lr)", "lr=1e-7)")),
}


def run(style: tuple[str, str, str], seed: int, lab) -> tuple[float, float, float]:
    """Accuracy on the test images, on the same as they were drawn, and seconds."""
    namespace: dict = {}
    exec("import timm\nfrom amllab import layers_of, load_backbone", namespace)
    for source in style:
        exec(source, namespace)
    began = time.perf_counter()
    submission = InProcessSubmission(lab.name, namespace)
    _, predicted, test = fit_and_predict(submission, lab, seed)
    seconds = time.perf_counter() - began
    drawn = draw(
        sum(lab.settings["accuracy"][f"{part}_images"] for part in ("train", "val", "test")), seed=data_seed(seed)
    )
    images = {"images": drawn.images[-len(test.labels) :], "mean": list(CIFAR10_MEAN), "std": list(CIFAR10_STD)}
    as_drawn = submission.ask("predict", key=key(seed), **images)
    return accuracy(predicted["logits"], test.labels), accuracy(as_drawn["logits"], test.labels), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-trainable", type=int, help="instead of that of lab.toml")
    args = parser.parse_args()
    lab = find_lab("transfer_learning")
    budget = dict(lab.settings["accuracy"])
    if args.n_trainable is not None:
        budget["n_trainable"] = args.n_trainable
        lab = dataclasses.replace(lab, settings={**lab.settings, "accuracy": budget})
    print(
        f"budget: {budget}\n\n| functions | mean ± sd, % | min–max, % | as drawn, % | seconds |\n|---|---|---|---|---|"
    )
    for name, style in STYLES.items():
        runs = [run(style, seed, lab) for seed in tqdm(range(1000, 1000 + args.seeds), desc=name, leave=False)]
        values, drawn, seconds = [100 * r[0] for r in runs], [100 * r[1] for r in runs], [r[2] for r in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"| {name} | {statistics.mean(values):.1f} ± {spread:.1f} | {min(values):.1f}–{max(values):.1f} "
            f"| {statistics.mean(drawn):.1f} | {statistics.median(seconds):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
