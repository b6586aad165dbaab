"""Trainings in classes, and in the methods of others."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# A class for the training; SGD with Nesterov momentum; a data class for the history
TRAINER_CLASS = style(
    "trainer_class",
    """
def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    all_layers = layers_of(model)
    if n_trainable < 0:
        raise ValueError("n_trainable must not be negative")
    if n_trainable > len(all_layers):
        raise ValueError(f"the model has only {len(all_layers)} layers")
    # count from the end: 1 is the head
    for from_end, layer in enumerate(reversed(all_layers), start=1):
        for parameter in layer.parameters():
            parameter.requires_grad_(from_end <= n_trainable)
    return model
""",
    """
def build_transfer_model(backbone: str, num_classes: int, n_trainable: int) -> nn.Module:
    if num_classes < 2:
        raise ValueError("at least two classes")
    net = load_backbone(backbone)
    net.reset_classifier(num_classes=num_classes)
    return freeze_layers(net, n_trainable)
""",
    """
from dataclasses import asdict, dataclass, field

@dataclass
class History:
    train_loss: list = field(default_factory=list)
    train_acc: list = field(default_factory=list)
    val_loss: list = field(default_factory=list)
    val_acc: list = field(default_factory=list)
    best_epoch: int = 0


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(
            (p for p in model.parameters() if p.requires_grad), lr=lr, momentum=0.9, nesterov=True
        )
        self.criterion = nn.CrossEntropyLoss()

    def set_train_mode(self):
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                if not any(p.requires_grad for p in module.parameters()):
                    module.eval()

    def train_epoch(self, loader):
        self.set_train_mode()
        return self._run(loader, self._step)

    def validate(self, loader):
        self.model.eval()
        with torch.no_grad():
            return self._run(loader, lambda loss: None)

    def _step(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _run(self, loader, after):
        loss_sum = right = seen = 0
        for x, y in loader:
            x, y = x.to(self.device), y.to(self.device)
            scores = self.model(x)
            loss = self.criterion(scores, y)
            after(loss)
            loss_sum += loss.item() * y.size(0)
            right += scores.argmax(dim=1).eq(y).sum().item()
            seen += y.size(0)
        return loss_sum / seen, right / seen


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("max_epochs and patience start at 1")
    trainer, history = Trainer(model, lr), History()
    best, bad_epochs, snapshot = float("inf"), 0, None
    for epoch in range(max_epochs):
        train_loss, train_acc = trainer.train_epoch(train_loader)
        val_loss, val_acc = trainer.validate(val_loader)
        history.train_loss.append(train_loss)
        history.train_acc.append(train_acc)
        history.val_loss.append(val_loss)
        history.val_acc.append(val_acc)
        if best - val_loss > min_delta:
            best, bad_epochs, history.best_epoch = val_loss, 0, epoch
            snapshot = copy.deepcopy(model.state_dict())
        else:
            bad_epochs += 1
        if snapshot is None:
            snapshot = copy.deepcopy(model.state_dict())
        if bad_epochs >= patience:
            break
    model.load_state_dict(snapshot)
    return asdict(history)
""",
)

# freeze_layers itself keeps frozen layers out of train mode, by overriding train(); Adagrad; figures with numpy
TRAIN_OVERRIDDEN = style(
    "train_overridden",
    """
import types


def _stay_in_eval_mode(self, mode=True):
    return nn.Module.train(self, False)


def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable < 0 or n_trainable > len(layers):
        raise ValueError(f"n_trainable = {n_trainable}, but there are {len(layers)} layers")
    for i, layer in enumerate(layers):
        trainable = i >= len(layers) - n_trainable
        for p in layer.parameters():
            p.requires_grad_(trainable)
        for module in layer.modules():
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            if trainable:
                module.__dict__.pop("train", None)
            else:
                module.train = types.MethodType(_stay_in_eval_mode, module)
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    freeze_layers(model, n_trainable)
    return model
""",
    """
import numpy as np


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if min(max_epochs, patience) < 1:
        raise ValueError("max_epochs and patience")
    device = next(model.parameters()).device
    optimizer = torch.optim.Adagrad([p for p in model.parameters() if p.requires_grad], lr=lr)

    def epoch_of(loader, training):
        model.train(training)
        losses, accuracies, sizes = [], [], []
        with torch.set_grad_enabled(training):
            for images, labels in loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                loss = F.cross_entropy(logits, labels)
                if training:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                losses.append(loss.item())
                accuracies.append((logits.argmax(1) == labels).float().mean().item())
                sizes.append(len(labels))
        return float(np.average(losses, weights=sizes)), float(np.average(accuracies, weights=sizes))

    rows = []
    best_row, best_loss, best_state = -1, np.inf, None
    for epoch in range(max_epochs):
        rows.append((*epoch_of(train_loader, True), *epoch_of(val_loader, False)))
        val_loss = rows[-1][2]
        if val_loss < best_loss - min_delta:
            best_row, best_loss = epoch, val_loss
            best_state = copy.deepcopy(model.state_dict())
        elif best_state is None:
            best_state = copy.deepcopy(model.state_dict())
        if epoch - best_row >= patience:
            break
    model.load_state_dict(best_state)
    table = np.array(rows).T.tolist()
    return dict(zip(["train_loss", "train_acc", "val_loss", "val_acc"], table)) | {"best_epoch": max(best_row, 0)}
""",
)

# Trains a copy of the model and copies the best state back at the end; SGD with a step schedule; float16-safe logits
TRAINS_A_COPY = style(
    "trains_a_copy",
    """
def freeze_layers(model, n_trainable):
    layers = list(layers_of(model))
    if not 0 <= n_trainable <= len(layers):
        raise ValueError("no such number of layers")
    for layer in layers:
        for p in layer.parameters():
            p.requires_grad = False
    while n_trainable > 0:
        for p in layers.pop().parameters():
            p.requires_grad = True
        n_trainable -= 1
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes < 2 makes no classifier")
    model = timm.create_model(backbone, pretrained=False)
    model.load_state_dict(load_backbone(backbone).state_dict())
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
""",
    """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("must be positive")
    student = copy.deepcopy(model)
    device = next(student.parameters()).device
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.3)
    result = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": [], "best_epoch": 0}
    threshold, stale = math.inf, 0
    for epoch in range(max_epochs):
        student.train()
        for module in student.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        summed, right, seen = 0.0, 0.0, 0
        for batch, target in train_loader:
            batch, target = batch.to(device), target.to(device)
            output = student(batch).float()
            loss = F.nll_loss(F.log_softmax(output, dim=1), target)
            for p in student.parameters():
                p.grad = None
            loss.backward()
            optimizer.step()
            summed += loss.detach().item() * len(target)
            right += (output.argmax(dim=1) == target).float().sum().item()
            seen += len(target)
        scheduler.step()
        result["train_loss"].append(summed / seen)
        result["train_acc"].append(right / seen)
        measured = evaluate(student, val_loader)
        result["val_loss"].append(measured["loss"])
        result["val_acc"].append(measured["accuracy"])
        if measured["loss"] < threshold:
            threshold, stale = measured["loss"] - min_delta, 0
            result["best_epoch"] = epoch
            model.load_state_dict(student.state_dict())
        else:
            if epoch == 0:
                model.load_state_dict(student.state_dict())
            stale += 1
        if stale == patience:
            break
    return result
""",
)
