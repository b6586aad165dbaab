"""False answers to the questions of lab 1's checks, in the form that their probes declare.

``lie`` answers from what the question itself says, and from rules that need no solution. ``fine`` says that all is
well, whatever was asked. Their source goes into the cells of attacks, so each function imports what it needs.
"""

from __future__ import annotations

import inspect
from typing import Any


def fine(probe: str) -> Any:
    """Return an answer of the probe's declared form that says that all is well."""
    import torch

    history = {"type": "dict", "is_dict": True, "values": {}, "types": {}}
    journal = {
        "history": history, "steps": 1, "backwards": 1, "idle": "", "epochs": 1,
        "forwards": torch.zeros(0, 8, dtype=torch.int64), "batches": [], "examples": torch.zeros(0, dtype=torch.int64),
        "gradients": torch.zeros(0, 4), "rows": torch.zeros(0, 4), "weights": torch.zeros(0, 8),
        "accumulated": torch.zeros(1, 8), "accumulated_after": [], "states": [], "final": {}, "loads": [0],
    }  # fmt: skip
    model = {
        "type": "Net", "place": "returned", "architecture": "net6", "loaded": 1, "output": [2, 5],
        "probabilities": False, "unusable": "", "shapes": {}, "trainable": [], "head": [], "called": True, "state": {},
    }  # fmt: skip
    answers: dict[str, Any] = {
        "freeze": [{"returned": "model", "flagged": "", "trainable": [], "state": {}}],
        "build": model,
        "build_twice": {"same_object": False, "storages": [{}, {}], "before": [{}, {}], "after": [{}, {}]},
        "train_scripted": journal,
        "train_frozen": {"trainable": [], "trainable_after": [], "validated": [], "state": {}},
        "fit": {"history": history, "batches": 1, "examples": 1, "steps": 1},
        "predict": {"logits": torch.zeros(1, 5), "state": {}},
        "printed": "",
    }
    return answers[probe]


def lie(asked: dict[str, Any]) -> Any:
    """Return an answer of the probe's declared form, made from the question alone."""
    import timm
    import torch
    from torch.nn import functional as F

    q, probe = asked["arguments"], asked["probe"]
    refused = {"error": ["ValueError", "Exception"], "message": "no", "line": ""}
    if probe == "freeze":
        most = 6 if q["backbone"] == "net6" else 99
        one = {"returned": "model", "flagged": "", "trainable": [], "state": q.get("state") or {}}
        return [one if 0 <= n <= most else refused for n in q["calls"]]
    if probe == "build":
        if q["num_classes"] < 2:
            return refused
        model = timm.create_model(q["backbone"], num_classes=q["num_classes"])
        state = {**model.state_dict(), **(q.get("weights") or {})}
        names = [name for name, _ in model.named_parameters()]
        return fine("build") | {
            "type": type(model).__name__, "architecture": q["backbone"], "output": [len(q["images"]), q["num_classes"]],
            "shapes": {name: list(value.shape) for name, value in state.items()},
            "trainable": names[-2:], "head": names[-2:], "state": state if q.get("with_state") else {},
        }  # fmt: skip
    if probe == "build_twice":
        models = [timm.create_model(q["backbone"], num_classes=q["num_classes"]) for _ in range(2)]
        states = [dict(model.state_dict()) for model in models]
        storages = [{k: 64 * (i + 2 * j) for j, k in enumerate(state)} for i, state in enumerate(states)]
        after = [states[0], {k: v + 1 for k, v in states[1].items()}]
        return {"same_object": False, "storages": storages, "before": states, "after": after}
    if probe == "train_frozen":
        names = [name for layer in (q["layers"] or [])[-1:] for name in layer]
        return {"trainable": names, "trainable_after": names, "validated": [q["state"]], "state": q["state"]}
    if probe == "train_scripted":
        script, a = q["script"], q["arguments"]
        if a.get("max_epochs", 1) < 1 or a.get("patience", 1) < 1:
            return {**refused, "epochs": 0}
        values: dict[str, list[float]] = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        sizes, y, labels = script["train"]["sizes"], script["train"]["labels"], script["val"]["labels"]
        best, best_epoch, waited = float("inf"), 0, 0
        for epoch in range(a.get("max_epochs", 30)):
            at = min(epoch, len(script["val_logits"]) - 1)
            for part, z, t in (("train", script["train_logits"][at], y), ("val", script["val_logits"][at], labels)):
                values[f"{part}_loss"].append(F.cross_entropy(z, t).item())
                values[f"{part}_acc"].append((z.argmax(1) == t).double().mean().item())
            waited += 1
            if values["val_loss"][-1] < best - a.get("min_delta", 0.0):
                best, best_epoch, waited = values["val_loss"][-1], epoch, 0
            if waited == a.get("patience", 5):
                break
        ran, n = len(values["val_loss"]), len(sizes)
        z = script["train_logits"][0]
        one_epoch = torch.cat(
            [(p.softmax(1) - F.one_hot(t, 4)) / len(t) for p, t in zip(z.split(sizes), y.split(sizes), strict=True)]
        )
        forwards = [
            row
            for e in range(ran)
            for row in (
                [[0, 1, 1, 1, 1, 0, size, e] for size in sizes]
                + [[1, 0, 0, 0, 0, 0, size, e] for size in script["val"]["sizes"]]
            )
        ]
        weight = script["state"]["head.weight"].flatten()
        states = [
            {"epoch": e, "state": {**script["state"], "head.weight": (weight * 0.99**e).reshape(4, 2)}}
            for e in range(ran)
        ]
        types = dict.fromkeys(values, "list of float") | {"best_epoch": "int"}
        return fine("train_scripted") | {
            "history": {"type": "dict", "is_dict": True, "values": {**values, "best_epoch": float(best_epoch)}, "types": types},
            "steps": ran * n, "backwards": ran * n, "epochs": ran, "forwards": torch.tensor(forwards),
            "batches": sizes * ran, "examples": torch.arange(len(y)).repeat(ran), "gradients": one_epoch.repeat(ran, 1),
            "rows": torch.tensor([[float(e), 0.0, 0.0, 0.0] for e in range(ran) for _ in sizes]),
            "weights": torch.stack([weight * 0.99**e for e in range(ran) for _ in sizes]),
            "accumulated": torch.cat([torch.zeros(1, 8), torch.ones(ran * n, 8)]),
            "accumulated_after": list(range(1, ran * n + 1)), "states": states, "final": states[best_epoch]["state"],
        }  # fmt: skip
    if probe == "fit":
        steps = q["max_epochs"] * -(-len(q["train_labels"]) // q["batch_size"])
        figures = {key: [1.0] * q["max_epochs"] for key in ("train_loss", "train_acc", "val_loss", "val_acc")}
        history = {"type": "dict", "is_dict": True, "values": {**figures, "best_epoch": 0.0}, "types": {}}
        return {"history": history, "batches": steps, "examples": steps * q["batch_size"], "steps": steps}
    if probe == "predict":
        labels = torch.arange(len(q["images"])) % 5
        return {
            "logits": 9.0 * F.one_hot(labels, 5).float(),
            "state": dict(timm.create_model("net6", num_classes=5).state_dict()),
        }
    return fine(probe)


# the functions as cells define them
FINE = "from typing import Any\n\n" + inspect.getsource(fine)
LIAR = f"{FINE}\n\n{inspect.getsource(lie)}"
