"""Trainings with other optimizers than those of every tutorial."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# A custom optimizer class (Lion, Chen et al. 2023), with groups and weight decay; the best state is saved to a file;
# momentum 0 keeps the statistics of frozen layers
OWN_OPTIMIZER = style(
    "own_optimizer",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if not 0 <= n_trainable <= len(layers):
        raise ValueError("0 <= n_trainable <= number of layers")
    n_frozen = len(layers) - n_trainable
    for layer in layers[:n_frozen]:
        for p in layer.parameters():
            p.requires_grad = False
    for layer in layers[n_frozen:]:
        for p in layer.parameters():
            p.requires_grad = True
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("two classes or more")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    with torch.no_grad():
        nn.init.trunc_normal_(model.get_classifier().weight, std=0.02)
        nn.init.zeros_(model.get_classifier().bias)
    return freeze_layers(model, n_trainable)
""",
    """
import tempfile
from pathlib import Path


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                update = (beta1 * state["m"] + (1 - beta1) * p.grad).sign()
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * update)
                state["m"].mul_(beta2).add_(p.grad, alpha=1 - beta2)


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("max_epochs, patience >= 1")
    device = next(model.parameters()).device
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors}]
    optimizer = Lion([group for group in groups if group["params"]], lr=lr / 3)
    momenta = {}
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and not norm.weight.requires_grad:
            momenta[norm], norm.momentum = norm.momentum, 0.0
    columns = ([], [], [], [])
    best, best_epoch, wait = float("inf"), -1, 0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "best.pt"
        for epoch in range(max_epochs):
            model.train()
            s, c, n = 0.0, 0, 0
            for x, t in train_loader:
                x, t = x.to(device), t.to(device)
                z = model(x)
                loss = F.cross_entropy(z, t)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                s, c, n = s + loss.item() * len(t), c + (z.argmax(1) == t).sum().item(), n + len(t)
            result = evaluate(model, val_loader)
            for column, value in zip(columns, (s / n, c / n, result["loss"], result["accuracy"])):
                column.append(value)
            if result["loss"] < best - min_delta:
                best, best_epoch, wait = result["loss"], epoch, 0
                torch.save(model.state_dict(), checkpoint)
            else:
                wait += 1
                if not checkpoint.exists():
                    torch.save(model.state_dict(), checkpoint)
            if wait >= patience:
                break
        model.load_state_dict(torch.load(checkpoint))
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    return dict(zip(("train_loss", "train_acc", "val_loss", "val_acc"), columns), best_epoch=max(best_epoch, 0))
""",
)

# Sharpness-aware minimisation: two passes over each batch, one step; NumPy for the figures
SHARPNESS_AWARE = style(
    "sharpness_aware",
    """
def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    layers = layers_of(model)
    trainable = range(len(layers) - n_trainable, len(layers))
    if trainable.start < 0 or n_trainable < 0:
        raise ValueError(f"cannot leave {n_trainable} of {len(layers)} layers trainable")
    for i, layer in enumerate(layers):
        for p in layer.parameters():
            p.requires_grad = i in trainable
    return model
""",
    """
def build_transfer_model(backbone: str, num_classes: int, n_trainable: int) -> nn.Module:
    if not num_classes >= 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    freeze_layers(model, n_trainable)
    return model
""",
    """
import numpy as np


class SAM:
    # climbs to the highest loss within rho, and takes the gradient from there
    def __init__(self, params, lr, rho=0.05):
        self.params, self.rho = list(params), rho
        self.base = torch.optim.AdamW(self.params, lr=lr)

    def step(self, loss):
        loss().backward()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in self.params]).norm() + 1e-12
            moves = [self.rho * p.grad / norm for p in self.params]
            for p, move in zip(self.params, moves):
                p.add_(move)
        self.base.zero_grad()
        loss().backward()
        with torch.no_grad():
            for p, move in zip(self.params, moves):
                p.sub_(move)
        self.base.step()
        self.base.zero_grad()


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("max_epochs and patience are at least 1")
    device = next(model.parameters()).device
    optimizer = SAM((p for p in model.parameters() if p.requires_grad), lr)
    batchnorms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    rows, best, lowest, waited, kept = [], 0, np.inf, 0, None
    for epoch in range(max_epochs):
        model.train()
        for m in batchnorms:
            m.train(all(p.requires_grad for p in m.parameters()))
        sums = np.zeros(3)
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            looks = []

            def loss():
                looks.append(model(images))
                return F.cross_entropy(looks[-1], labels)

            optimizer.step(loss)
            first = looks[0].detach()
            sums += [F.cross_entropy(first, labels).item() * len(labels), (first.argmax(1) == labels).sum().item(), len(labels)]
        validated = evaluate(model, val_loader)
        figures = [*(sums[:2] / sums[2]), validated["loss"], validated["accuracy"]]
        rows.append(np.array(figures, dtype=np.float64))
        if epoch == 0 or rows[-1][2] < lowest - min_delta:
            kept = copy.deepcopy(model.state_dict())
        waited += 1
        if rows[-1][2] < lowest - min_delta:
            best, lowest, waited = epoch, rows[-1][2], 0
        if waited == patience:
            break
    model.load_state_dict(kept)
    columns = zip(("train_loss", "train_acc", "val_loss", "val_acc"), zip(*rows))
    return {name: list(column) for name, column in columns} | {"best_epoch": best}
""",
)

# A quasi-Newton method, whose optimizer calls back for the loss
QUASI_NEWTON = style(
    "quasi_newton",
    """
def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    layers = list(layers_of(model))
    if n_trainable not in range(len(layers) + 1):
        raise ValueError(f"n_trainable={n_trainable}")
    while layers:
        layer, open_ = layers.pop(), n_trainable > 0
        n_trainable -= 1
        for p in layer.parameters():
            p.requires_grad_(open_)
    return model
""",
    """
def build_transfer_model(backbone: str, num_classes: int, n_trainable: int) -> nn.Module:
    if num_classes in (0, 1) or num_classes < 0:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
""",
    """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if min(max_epochs, patience) < 1:
        raise ValueError("max_epochs and patience")
    device = next(model.parameters()).device
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(params, lr=lr, max_iter=2, max_eval=2, history_size=4)
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": [], "best_epoch": 0}
    best, left, weights = float("inf"), patience, None
    while len(history["val_loss"]) < max_epochs and left > 0:
        model.train()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
        total = right = n = 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            seen = []

            def closure():
                optimizer.zero_grad()
                logits = model(images)
                seen.append(logits.detach())
                loss = F.cross_entropy(logits, labels)
                loss.backward()
                return loss

            optimizer.step(closure)
            total += F.cross_entropy(seen[0], labels, reduction="sum").item()
            right += (seen[0].argmax(1) == labels).sum().item()
            n += len(labels)
        measured = evaluate(model, val_loader)
        history["train_loss"].append(total / n)
        history["train_acc"].append(right / n)
        history["val_loss"].append(measured["loss"])
        history["val_acc"].append(measured["accuracy"])
        left -= 1
        if weights is None:
            weights = copy.deepcopy(model.state_dict())
        if measured["loss"] < best - min_delta:
            best, left, weights = measured["loss"], patience, copy.deepcopy(model.state_dict())
            history["best_epoch"] = len(history["val_loss"]) - 1
    model.load_state_dict(weights)
    return history
""",
)
