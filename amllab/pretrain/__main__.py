"""The command ``python -m amllab.pretrain``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import timm
import torch

from amllab import pretrain
from amllab.backbones import WEIGHTS
from amllab.images import cifar10
from amllab.numerics import best_device
from amllab.pretrain import fine_tuning, self_supervised, supervised
from amllab.pretrain.checkpoints import save_weights
from amllab.reptiles import reptile_arrays

CIFAR10 = Path("data/cifar10")
STATISTICS = 2000  # images for the BatchNorm statistics of the untrained encoder
SUPERVISED, ENCODERS, TEACHERS = ("net12", "net6"), ("net5",), ("net12",)


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m amllab.pretrain",
        description=(pretrain.__doc__ or "").partition(":")[0],
        epilog=f"With labels: {', '.join(SUPERVISED)}. Without: {', '.join(ENCODERS)}. On reptiles: {', '.join(TEACHERS)}.",
    )
    parser.add_argument("model", nargs="?", choices=[*SUPERVISED, *ENCODERS], help="default without labels: net5")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--self-supervised", action="store_true", help="train an encoder on images without labels")
    kind.add_argument("--reptiles", action="store_true", help="fine-tune a pretrained backbone on drawn reptiles")
    parser.add_argument(
        "--data",
        help="folder of CIFAR-10, downloaded if empty (default: data/cifar10); without labels: cifar10 or species",
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for weights and model card")
    args = parser.parse_args(words)
    kinds = {"--self-supervised": args.self_supervised, "--reptiles": args.reptiles}
    option = next((name for name, chosen in kinds.items() if chosen), "without --self-supervised")
    possible = {"--self-supervised": ENCODERS, "--reptiles": TEACHERS}.get(option, SUPERVISED)
    args.model = args.model or (possible[0] if len(possible) == 1 else None)
    if args.model not in possible:
        parser.error(f"{option}, the model is one of: {', '.join(possible)}")
    if args.reptiles and args.data is not None:
        parser.error("--reptiles draws its images: it takes no --data")
    if args.epochs is not None and args.epochs < 1:
        parser.error("--epochs must be at least 1")
    return args


def main(words: list[str] | None = None) -> None:
    """Run the command: train, then write the weights and the model card."""
    args = arguments(words)
    args.out.mkdir(parents=True, exist_ok=True)
    figures = (_without_labels if args.self_supervised else _reptiles if args.reptiles else _with_labels)(args)
    print(json.dumps({k: v for k, v in figures.items() if k != "losses"}))


def _with_labels(args: argparse.Namespace) -> dict[str, Any]:
    root = Path(args.data or CIFAR10)
    epochs = {} if args.epochs is None else {"epochs": args.epochs}
    recipe = supervised.Recipe(args.model, seed=args.seed, **epochs)
    model, figures = supervised.pretrain(recipe, root, args.checkpoints / f"{args.model}-seed{args.seed}.pt")
    weights = args.out / f"{args.model}.safetensors"
    save_weights(model, weights)
    shipped = _loaded(args.model, weights)
    figures["test_accuracy"] = supervised.accuracy(shipped, cifar10(root, train=False), best_device())
    parameters = sum(p.numel() for p in shipped.parameters())
    supervised.write_card(args.out / f"{args.model}.md", recipe, figures, parameters, weights.stat().st_size)
    return figures


def _without_labels(args: argparse.Namespace) -> dict[str, Any]:
    source: self_supervised.Source = "species" if args.data == "species" else "cifar10"
    root = Path(args.data) if args.data not in (None, "cifar10", "species") else CIFAR10
    epochs = {} if args.epochs is None else {"epochs": args.epochs}
    recipe = self_supervised.SelfSupervisedRecipe(source, args.model, seed=args.seed, **epochs)
    name = f"{args.model}-ssl_{source}"
    checkpoint = args.checkpoints / f"{name}-seed{args.seed}.pt"
    encoder, figures = self_supervised.pretrain_without_labels(recipe, root, checkpoint)
    weights = args.out / f"{name}.safetensors"
    save_weights(encoder, weights)
    shipped = _loaded(f"{args.model}.ssl_{source}", weights)
    known, asked = self_supervised.evaluation_images(recipe, root)
    baseline = self_supervised.untrained(recipe, known.images[:STATISTICS])
    after, before = (self_supervised.evaluated(model, known, asked) for model in (shipped, baseline))
    accuracies = {name: (after[name], before[name]) for name in after}
    parameters = sum(p.numel() for p in shipped.parameters())
    card = args.out / f"{name}.md"
    self_supervised.write_encoder_card(card, recipe, figures, accuracies, parameters, weights.stat().st_size)
    return {**figures, **after}


def _reptiles(args: argparse.Namespace) -> dict[str, Any]:
    epochs = {} if args.epochs is None else {"epochs": args.epochs}
    recipe = fine_tuning.FineTuningRecipe(args.model, seed=args.seed, **epochs)
    model, figures = fine_tuning.fine_tune(recipe, fine_tuning.training_part())
    weights = args.out / f"{args.model}-reptiles.safetensors"
    save_weights(model, weights)
    shipped = _loaded(f"{args.model}.reptiles", weights).cpu()
    results = fine_tuning.evaluated(shipped, reptile_arrays("test", "drawn"))
    parameters = sum(p.numel() for p in shipped.parameters())
    card = args.out / f"{args.model}-reptiles.md"
    fine_tuning.write_teacher_card(card, recipe, figures, results, parameters, weights.stat().st_size)
    return {**figures, **results}


def _loaded(name: str, weights: Path) -> torch.nn.Module:
    """Return the model as it will be loaded: with its weights in fp16."""
    model: torch.nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(weights)})
    model.to(best_device(), memory_format=torch.channels_last)
    return model


if __name__ == "__main__":
    main()
