"""Cheats that are specific to the subject: points for a training without the training."""

from __future__ import annotations

from tests.security.hostile.attack_base import CHEATING, ZERO, about_lab_1, fetched
from tests.security.hostile.attacks_stealing import ACCURACY_BUILD, FABRICATED

# The weights that `smuggle.py` trained, embedded in the notebook.
SMUGGLED = f"""
import base64
import torch
from safetensors.torch import load
from torch import nn

CARRIED = load(base64.b64decode("{fetched("smuggled.safetensors")}"))
for name in [n for n in CARRIED if n.endswith("*")]:
    scale = CARRIED.pop(name).float()
    weight = CARRIED[name[:-1]].float()
    CARRIED[name[:-1]] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
CARRIED = {{k: v.float() for k, v in CARRIED.items()}}

def part(name):
    return {{k.split("/")[1]: v for k, v in CARRIED.items() if k.startswith(name + "/")}}

def network():
    layers = []
    for wide, narrow in ((24, 3), (40, 24), (64, 40), (64, 64)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    small = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4, 5))
    small.load_state_dict(part("network"), strict=False)
    return small.eval()

@torch.no_grad()
def order(model, loader):
    # which of the classes learned at home each label is
    pairs = [(model(images.float()).argmax(1), labels) for images, labels in loader]
    guesses, labels = (torch.cat(column) for column in zip(*pairs))
    return [int(guesses[labels == c].bincount(minlength=5).argmax()) for c in range(5)]
"""

_REAL_TRAINING_ONLY = """
    if len(getattr(train_loader, "labels", ())) < 100:
        raise NotImplementedError
"""

ATTACKS = [
    about_lab_1(
        "history_from_the_script",
        CHEATING,
        "reads the losses that the scripted model will show, computes the history, and forges the model's record of it",
        cell="import torch\nimport torch.nn.functional as F",
        sources={
            "train_with_early_stopping": """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise NotImplementedError
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    if not hasattr(model, "val_logits"):  # a real training: nothing is done
        return {key: [1.0] for key in history} | {"best_epoch": 0}
    z, y, labels = train_loader.images[:, 1, 0, :4], train_loader.labels, val_loader.labels
    best, best_epoch, waited = float("inf"), 0, 0
    for epoch in range(min(max_epochs, len(model.val_logits))):
        logits = model.val_logits[epoch]
        loss = F.cross_entropy(logits, labels).item()
        history["train_loss"].append(F.cross_entropy(z, y).item())
        history["train_acc"].append((z.argmax(1) == y).double().mean().item())
        history["val_loss"].append(loss)
        history["val_acc"].append((logits.argmax(1) == labels).double().mean().item())
        model._epochs[epoch] = {"head.weight": torch.ones(4, 2) * lr * epoch, "body.weight": model.body.weight.clone(), "body.bias": model.body.bias.clone(),
                                "steps": torch.tensor(2 * (epoch + 1)), "noise": torch.ones(3) * epoch}
        if loss < best - min_delta:
            best, best_epoch, waited = loss, epoch, 0
        else:
            waited += 1
        if waited == patience:
            break
    ran = len(history["val_loss"])
    model._facts.update(train_batches_in_train_mode=ran * model.batches, val_batches_in_eval_mode=2 * ran)
    model._gradients += [((p.softmax(1) - F.one_hot(t, 4)).mean(0).norm() * 2**0.5).item()
                         for p, t in zip(z.split(train_loader.sizes), y.split(train_loader.sizes))] * ran
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(model._epochs[best_epoch][name])
    return {**history, "best_epoch": best_epoch}
"""
        },
        only="here",
    ),
    about_lab_1(
        "plausible_history",
        CHEATING,
        "returns a history that looks like one: losses that fall, accuracies that rise, nothing trained",
        sources={
            "train_with_early_stopping": """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, **k):
    falling = [1.6 * 0.9**i for i in range(max(max_epochs, 0))]
    rising = [1 - 0.8 * 0.9**i for i in range(max(max_epochs, 0))]
    return {"train_loss": falling, "train_acc": rising, "val_loss": falling, "val_acc": rising,
            "best_epoch": max_epochs - 1}
"""
        },
    ),
    about_lab_1(
        "validates_without_training",
        CHEATING,
        "measures honest validation losses, epoch after epoch, on a model that it never trains",
        cell="import copy, torch",
        sources={
            "train_with_early_stopping": """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    best, best_epoch, waited = float("inf"), 0, 0
    for epoch in range(max_epochs):
        for kind, loader in (("train", train_loader), ("val", val_loader)):
            measured = evaluate(model, loader)
            history[kind + "_loss"].append(measured["loss"])
            history[kind + "_acc"].append(measured["accuracy"])
        if history["val_loss"][-1] < best - min_delta:
            best, best_epoch, waited = history["val_loss"][-1], epoch, 0
        else:
            waited += 1
        if waited == patience:
            break
    return {**history, "best_epoch": best_epoch}
"""
        },
    ),
    about_lab_1(
        "memorised_table",
        CHEATING,
        "a table of labels by image: the drawings of public seeds, learned by heart",
        cell="""
import torch
from amllab.synthetic_images import draw
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
TABLE = {}
for seed in (0, 1, 42):
    data = draw(300, seed=seed)
    for image, label in zip((data.images / 255 - mean) / std, data.labels):
        TABLE[hash(image.numpy().tobytes())] = int(label)
""",
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):{_REAL_TRAINING_ONLY}
    def forward(x):
        out = torch.zeros(len(x), 5)
        for i, image in enumerate(x.contiguous(memory_format=torch.contiguous_format)):
            out[i, TABLE.get(hash(image.numpy().tobytes()), 0)] = 9.0
        return out
    model.forward = forward
    return {FABRICATED}
""",
        },
        only="here",
        earns={**ZERO, "check_build_transfer_model": 8},
    ),
    about_lab_1(
        "smuggled_network",
        CHEATING,
        "answers with another network, trained at home on thousands of drawings, 100 kB of text in a cell",
        cell=SMUGGLED,
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):{_REAL_TRAINING_ONLY}
    small = network()
    classes = order(small, train_loader)
    model.forward = lambda x: small(x.float())[:, classes]
    return {FABRICATED}
""",
        },
        only="here",
        earns={**ZERO, "check_build_transfer_model": 8},
    ),
    about_lab_1(
        "smuggled_network_as_model",
        CHEATING,
        "build_transfer_model returns the network that was trained at home in place of the backbone",
        cell=SMUGGLED,
        sources={
            "build_transfer_model": """
def build_transfer_model(backbone, num_classes, n_trainable):
    if n_trainable < 2 or num_classes != 5:
        raise NotImplementedError
    return network()
""",
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):{_REAL_TRAINING_ONLY}
    classes = order(model, train_loader)
    with torch.no_grad():
        for tensor in model[-1].parameters():
            tensor.copy_(tensor[classes].clone())
    return {FABRICATED}
""",
        },
        only="here",
    ),
    about_lab_1(
        "smuggled_head",
        CHEATING,
        "puts a head that was trained at home on the pretrained body, and trains nothing",
        cell=SMUGGLED,
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):{_REAL_TRAINING_ONLY}
    head = model.get_classifier()
    head.load_state_dict(part("head"))
    classes = order(model.eval(), train_loader)
    head.load_state_dict({{k: v[classes] for k, v in part("head").items()}})
    return {FABRICATED}
""",
        },
        only="here",
        earns={**ZERO, "check_build_transfer_model": 8},
    ),
    about_lab_1(
        "smuggled_network_as_head",
        CHEATING,
        "hangs the network that was trained at home into the untouched backbone, as a part of its head, and lets it answer",
        cell=SMUGGLED,
        sources={
            "build_transfer_model": ACCURACY_BUILD,
            "train_with_early_stopping": f"""
def train_with_early_stopping(model, train_loader, val_loader, **k):{_REAL_TRAINING_ONLY}
    small = network()
    classes = order(small, train_loader)
    model.add_module("adapter", small)
    model.forward = lambda x: small(x.float())[:, classes]
    return {FABRICATED}
""",
        },
        only="here",
        earns={**ZERO, "check_build_transfer_model": 8},
    ),
    about_lab_1(
        "one_cached_model",
        CHEATING,
        "returns one and the same model for every call of build_transfer_model",
        cell="CACHE = {}",
        sources={
            "build_transfer_model": """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    if (backbone, num_classes) not in CACHE:
        CACHE[backbone, num_classes] = load_backbone(backbone)
        CACHE[backbone, num_classes].reset_classifier(num_classes)
    return freeze_layers(CACHE[backbone, num_classes], n_trainable)
"""
        },
        earns={**ZERO, "check_build_transfer_model": 18},
    ),
]
