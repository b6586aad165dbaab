"""The plain correct functions of the lab, and the means to change them."""

from __future__ import annotations

from autograder.labs.corpus import Solution, replaced

FREEZE = """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if not 0 <= n_trainable <= len(layers):
        raise ValueError("n_trainable")
    cut = len(layers) - n_trainable
    for index, layer in enumerate(layers):
        for p in layer.parameters():
            p.requires_grad = index >= cut
    return model
"""

BUILD = """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    freeze_layers(model, n_trainable)
    return model
"""

TRAIN = """
import copy
import torch
import torch.nn.functional as F

def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("max_epochs and patience must be at least 1")
    device = next(model.parameters()).device
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr)
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    best_loss, best_epoch, waited = float("inf"), 0, 0
    best_state = None
    for epoch in range(max_epochs):
        model.train()
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
        total, hits, n = 0.0, 0, 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            hits += (logits.argmax(1) == labels).sum().item()
            n += len(labels)
        history["train_loss"].append(total / n)
        history["train_acc"].append(hits / n)
        model.eval()
        total, hits, n = 0.0, 0, 0
        with torch.no_grad():
            for images, labels in val_loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                total += F.cross_entropy(logits, labels, reduction="sum").item()
                hits += (logits.argmax(1) == labels).sum().item()
                n += len(labels)
        val_loss = total / n
        history["val_loss"].append(val_loss)
        history["val_acc"].append(hits / n)
        if best_state is None:
            best_state = copy.deepcopy(model.state_dict())
        if val_loss < best_loss - min_delta:
            best_loss, best_epoch, waited = val_loss, epoch, 0
            best_state = copy.deepcopy(model.state_dict())
        else:
            waited += 1
            if waited >= patience:
                break
    model.load_state_dict(best_state)
    history["best_epoch"] = best_epoch
    return history
"""

PLAIN = {"freeze_layers": FREEZE, "build_transfer_model": BUILD, "train_with_early_stopping": TRAIN}


def changed(name: str, cell: str, text: str, *texts: str, loses: tuple[str, ...] = ()) -> Solution:
    """Return the plain functions with one mistake: texts of ``cell`` replaced, old, new, old, new, ..."""
    source = replaced(PLAIN[cell], *texts)
    return Solution(name, {cell: source}, text, cell, loses=frozenset(loses or (f"check_{cell}",)))


def style(name: str, freeze: str, build: str, train: str) -> Solution:
    """Return a correct solution of all three functions."""
    return Solution(name, dict(zip(PLAIN, (freeze, build, train), strict=True)))
