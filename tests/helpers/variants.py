"""Submissions that are wrong in exactly one way, and correct ones in several styles.

A variant replaces the source of some solution cells of the released notebook. Wrong ones are made from plain correct
functions by replacing a piece of text, so that each differs from a correct submission in a single mistake.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from nbformat import NotebookNode

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

F, B, T, A = "check_freeze_layers", "check_build_transfer_model", "check_train_with_early_stopping", "check_accuracy"
CELLS = {"freeze_layers": FREEZE, "build_transfer_model": BUILD, "train_with_early_stopping": TRAIN}


@dataclass(frozen=True)
class Variant:
    """A submission.

    Attributes:
        name: name of the variant, also the student's id.
        loses: the cells in which it loses points; it has full marks in all others.
        sources: sources of its solution cells; cells that are not named have the plain correct functions above.
    """

    name: str
    loses: frozenset[str] = frozenset()
    sources: dict[str, str] = field(default_factory=dict)


def _wrong(name: str, cell: str, *texts: str, loses: tuple[str, ...]) -> Variant:
    """Return the plain correct function of ``cell`` with texts replaced: old, new, old, new, ..."""
    source = CELLS[cell]
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        assert old in source, f"{name}: {old!r} is not in the correct function"
        source = source.replace(old, new)
    return Variant(name, frozenset(loses), {cell: source})


WRONG = [
    _wrong("freezes_the_last", "freeze_layers", "index >= cut", "index < n_trainable", loses=(F,)),
    _wrong("off_by_one", "freeze_layers", "index >= cut", "index > cut", loses=(F,)),
    _wrong(
        "never_thaws", "freeze_layers", "p.requires_grad = index >= cut", "p.requires_grad &= index >= cut", loses=(F,)
    ),
    _wrong("returns_nothing", "freeze_layers", "    return model\n", "", loses=(F,)),
    _wrong(
        "freezes_a_copy",
        "freeze_layers",
        "layers = layers_of(model)",
        "import copy; model = copy.deepcopy(model); layers = layers_of(model)",
        loses=(F,),
    ),
    _wrong("no_upper_bound", "freeze_layers", "not 0 <= n_trainable <= len(layers)", "n_trainable < 0", loses=(F,)),
    _wrong(
        "skips_biases",
        "freeze_layers",
        "for p in layer.parameters():",
        "for p in [p for p in layer.parameters() if p.ndim > 1]:",
        loses=(F,),
    ),
    _wrong(
        "misses_root_parameters",
        "freeze_layers",
        "for p in layer.parameters():",
        "for p in {p for m in layer.modules() for p in m.parameters()}:",
        loses=(F,),
    ),
    _wrong(
        "old_head_kept_for_ten_classes",
        "build_transfer_model",
        "    model.reset_classifier",
        "    if num_classes != model.num_classes: model.reset_classifier",
        loses=(B,),
    ),
    _wrong("head_not_replaced", "build_transfer_model", "    model.reset_classifier(num_classes)\n", "", loses=(B,)),
    _wrong(
        "not_pretrained",
        "build_transfer_model",
        "load_backbone(backbone)",
        "timm.create_model(backbone, pretrained=False)",
        loses=(B, A),
    ),
    _wrong(
        "one_model_for_all",
        "build_transfer_model",
        "model = load_backbone(backbone)",
        "model = CACHE.setdefault(backbone, load_backbone(backbone))",
        "\ndef build",
        "CACHE = {}\n\ndef build",
        loses=(B,),
    ),
    _wrong(
        "freezes_before_new_head",
        "build_transfer_model",
        "model.reset_classifier(num_classes)\n    freeze_layers(model, n_trainable)",
        "freeze_layers(model, n_trainable)\n    model.reset_classifier(num_classes)",
        loses=(B,),
    ),
    _wrong("does_not_freeze", "build_transfer_model", "    freeze_layers(model, n_trainable)\n", "", loses=(B,)),
    _wrong("accepts_one_class", "build_transfer_model", "num_classes < 2", "num_classes < 1", loses=(B,)),
    _wrong("always_net12", "build_transfer_model", "load_backbone(backbone)", 'load_backbone("net12")', loses=(B,)),
    _wrong("patience_one_too_many", "train_with_early_stopping", "waited >= patience", "waited > patience", loses=(T,)),
    _wrong(
        "patience_over_all_epochs",
        "train_with_early_stopping",
        "best_loss, best_epoch, waited = val_loss, epoch, 0",
        "best_loss, best_epoch = val_loss, epoch",
        loses=(T,),
    ),
    _wrong(
        "best_by_reference",
        "train_with_early_stopping",
        "copy.deepcopy(model.state_dict())",
        "model.state_dict()",
        loses=(T,),
    ),
    _wrong("last_weights", "train_with_early_stopping", "    model.load_state_dict(best_state)\n", "", loses=(T,)),
    _wrong(
        "buffers_not_restored",
        "train_with_early_stopping",
        "    model.load_state_dict(best_state)",
        "    model.load_state_dict({k: v for k, v in best_state.items() if k in dict(model.named_parameters())}, strict=False)",
        loses=(T,),
    ),
    _wrong(
        "means_over_batches",
        "train_with_early_stopping",
        ', reduction="sum")',
        ")",
        "val_loss = total / n",
        "val_loss = total / len(val_loader)",
        loses=(T,),
    ),
    _wrong(
        "train_mode_once",
        "train_with_early_stopping",
        "    for epoch in range(max_epochs):\n        model.train()",
        "    model.train()\n    for epoch in range(max_epochs):",
        loses=(T,),
    ),
    _wrong("validates_in_train_mode", "train_with_early_stopping", "        model.eval()\n", "", loses=(T,)),
    _wrong("validates_with_gradients", "train_with_early_stopping", "with torch.no_grad():", "if True:", loses=(T,)),
    _wrong("gradients_pile_up", "train_with_early_stopping", "            optimizer.zero_grad()\n", "", loses=(T,)),
    _wrong(
        "trains_on_validation",
        "train_with_early_stopping",
        "in train_loader:",
        "in list(train_loader) + list(val_loader):",
        loses=(T,),
    ),
    _wrong("min_delta_ignored", "train_with_early_stopping", "best_loss - min_delta", "best_loss", loses=(T,)),
    _wrong(
        "ties_improve",
        "train_with_early_stopping",
        "if val_loss < best_loss - min_delta:",
        "if not val_loss >= best_loss - min_delta:",
        loses=(T,),
    ),
    _wrong(
        "tensors_in_history",
        "train_with_early_stopping",
        'history["val_loss"].append(val_loss)',
        'history["val_loss"].append(torch.tensor(val_loss))',
        loses=(T,),
    ),
    _wrong(
        "best_epoch_from_one",
        "train_with_early_stopping",
        '"best_epoch"] = best_epoch',
        '"best_epoch"] = best_epoch + 1',
        loses=(T,),
    ),
    _wrong("statistics_drift", "train_with_early_stopping", "not m.weight.requires_grad", "False", loses=(T,)),
    _wrong(
        "percent",
        "train_with_early_stopping",
        'history["val_acc"].append(hits / n)',
        'history["val_acc"].append(100 * hits / n)',
        loses=(T,),
    ),
    _wrong(
        "accepts_patience_zero",
        "train_with_early_stopping",
        "max_epochs < 1 or patience < 1",
        "max_epochs < 1",
        loses=(T,),
    ),
    _wrong("learning_rate_ignored", "train_with_early_stopping", "lr=lr)", "lr=1e-7)", loses=(T, A)),
]

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
    Variant("plain"),
    Variant(
        "batchnorm_in_freeze",
        sources={"freeze_layers": BATCHNORM_IN_FREEZE, "train_with_early_stopping": BY_MODEL_COPY},
    ),
    Variant("with_the_library", sources={"train_with_early_stopping": WITH_LIBRARY}),
]


def notebook_of(variant: Variant, release: NotebookNode) -> NotebookNode:
    """Return the released notebook with the variant's functions, and an answer to the reflection."""
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        grade_id = (cell.metadata.get("nbgrader") or {}).get("grade_id")
        if grade_id in CELLS:
            cell.source = variant.sources.get(grade_id, CELLS[grade_id]).strip()
        if grade_id == "reflection":
            cell.source = (
                "Fine-tuning four layers was best on my validation images, by more than the spread over seeds."
            )
    return notebook
