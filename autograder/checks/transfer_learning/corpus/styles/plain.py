"""The plain functions, with other care for BatchNorm, and with the library's own helpers."""

from __future__ import annotations

from autograder.labs.corpus import Solution

BATCHNORM_IN_FREEZE = """
import torch

def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable < 0 or n_trainable > len(layers):
        raise ValueError(f"n_trainable={n_trainable}")
    frozen, trainable = layers[: len(layers) - n_trainable], layers[len(layers) - n_trainable :]
    for group, learns in ((frozen, False), (trainable, True)):
        for layer in group:
            for p in layer.parameters():
                p.requires_grad_(learns)
            for m in layer.modules():
                if isinstance(m, torch.nn.BatchNorm2d):
                    m.momentum = 0.1 if learns else 0.0
    return model
"""

# no care for BatchNorm (freeze_layers does that), a copy of the whole model, a schedule, validation results in a list
BY_MODEL_COPY = """
import copy, math, torch
from torch import nn

def one_pass(model, batches, criterion, optimizer=None):
    sums = [0.0, 0, 0]
    for x, y in batches:
        out = model(x)
        loss = criterion(out, y)
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        sums[0] += float(loss) * len(y)
        sums[1] += int((out.argmax(dim=-1) == y).sum())
        sums[2] += len(y)
    return sums[0] / sums[2], sums[1] / sums[2]

def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if patience < 1:
        raise ValueError("patience")
    if max_epochs < 1:
        raise ValueError("max_epochs")
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max_epochs, eta_min=lr / 10)
    val_batches = list(val_loader)
    rows, best, best_loss = [], -1, math.inf
    keeper = None
    for epoch in range(max_epochs):
        model.train()
        train_metrics = one_pass(model, train_loader, criterion, optimizer)
        scheduler.step()
        model.eval()
        with torch.inference_mode():
            val_metrics = one_pass(model, val_batches, criterion)
        rows.append((*train_metrics, *val_metrics))
        improved = val_metrics[0] + min_delta < best_loss
        if improved or keeper is None:
            keeper = copy.deepcopy(model)
        if improved:
            best, best_loss = epoch, val_metrics[0]
        if epoch - best == patience:
            break
    model.load_state_dict(keeper.state_dict())
    columns = [list(column) for column in zip(*rows)]
    return dict(zip(["train_loss", "train_acc", "val_loss", "val_acc"], columns), best_epoch=max(best, 0))
"""

# uses amllab's own helpers
WITH_LIBRARY = """
import torch
from amllab import Epochs, evaluate

class Stopper:
    def __init__(self, patience, min_delta):
        self.patience, self.min_delta, self.left = patience, min_delta, patience
        self.best, self.epoch, self.state = None, 0, None

    def update(self, model, epoch, loss):
        better = loss == loss and (self.best is None or loss < self.best - self.min_delta)
        if better or epoch == 0:
            self.epoch, self.state = epoch, {k: v.detach().clone() for k, v in model.state_dict().items()}
        if better:
            self.best, self.left = loss, self.patience
            return False
        return self._spend()

    def _spend(self):
        self.left -= 1
        return self.left == 0

def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if min(max_epochs, patience) < 1:
        raise ValueError
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.NAdam([{"params": [p]} for p in trainable], lr=lr)
    out = {key: [] for key in ("train_loss", "train_acc", "val_loss", "val_acc")}
    stopper = Stopper(patience, min_delta)
    for epoch in (progress := Epochs(max_epochs)):
        model.train()
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if own and all(not p.requires_grad for p in own) and not list(module.children()):
                module.eval()
        loss_sum, hits, n = 0.0, 0, 0
        for x, y in progress.batches(train_loader):
            logits = model(x)
            loss = torch.nn.functional.cross_entropy(logits, y)
            for p in trainable:
                p.grad = None
            loss.backward()
            optimizer.step()
            loss_sum, hits, n = loss_sum + loss.item() * len(y), hits + int((logits.argmax(1) == y).sum()), n + len(y)
        measured = evaluate(model, val_loader)
        for name, value in zip(out, (loss_sum / n, hits / n, measured["loss"], measured["accuracy"])):
            out[name].append(value)
        if stopper.update(model, epoch, out["val_loss"][-1]):
            break
    model.load_state_dict(stopper.state)
    return {**out, "best_epoch": stopper.epoch}
"""

CORRECT = [
    Solution("plain", {}),
    Solution(
        "batchnorm_in_freeze",
        {"freeze_layers": BATCHNORM_IN_FREEZE, "train_with_early_stopping": BY_MODEL_COPY},
    ),
    Solution("with_the_library", {"train_with_early_stopping": WITH_LIBRARY}),
]
