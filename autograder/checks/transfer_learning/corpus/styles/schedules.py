"""Trainings with schedules, learning rates by layer, and mixed precision."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# One-cycle schedule; validation in inference mode; a copy of the whole model; values copied back one by one
ONE_CYCLE = style(
    "one_cycle",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable < 0 or len(layers) < n_trainable:
        raise ValueError(f"cannot leave {n_trainable} of {len(layers)} layers trainable")
    names = {name for layer in layers[: len(layers) - n_trainable] for name, _ in layer.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in names)
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    freeze_layers(model, n_trainable)
    model.reset_classifier(num_classes)
    # the new head learns unless nothing does
    model.get_classifier().requires_grad_(n_trainable > 0)
    return model
""",
    """
def run_through(model, loader, device):
    for images, labels in loader:
        yield (logits := model(images.to(device))), F.cross_entropy(logits, labels.to(device)), labels.to(device)


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError
    device = next(model.parameters()).device
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=max_epochs + 2)
    history = dict(train_loss=[], train_acc=[], val_loss=[], val_acc=[])
    best_model, best_epoch, best_loss = None, 0, math.inf
    not_better = 0
    for epoch in range(max_epochs):
        model.train()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.train(m.weight.requires_grad)
        sums = torch.zeros(3, dtype=torch.float64)
        for logits, loss, labels in run_through(model, train_loader, device):
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, max_norm=1.0)
            optimizer.step()
            sums += torch.tensor([loss.item() * len(labels), (logits.argmax(1) == labels).sum().item(), len(labels)])
        history["train_loss"].append((sums[0] / sums[2]).item())
        history["train_acc"].append((sums[1] / sums[2]).item())
        schedule.step()
        model.eval()
        sums.zero_()
        with torch.inference_mode():
            for logits, loss, labels in run_through(model, val_loader, device):
                hits = (logits.argmax(1) == labels).sum().item()
                sums += torch.tensor([loss.item() * len(labels), hits, len(labels)])
        history["val_loss"].append((sums[0] / sums[2]).item())
        history["val_acc"].append((sums[1] / sums[2]).item())
        if history["val_loss"][-1] < best_loss - min_delta:
            best_loss, best_epoch, best_model, not_better = history["val_loss"][-1], epoch, copy.deepcopy(model), 0
        else:
            best_model = best_model or copy.deepcopy(model)
            not_better += 1
        if not_better >= patience:
            break
    with torch.no_grad():
        for mine, best in zip(model.parameters(), best_model.parameters()):
            mine.copy_(best)
        for mine, best in zip(model.buffers(), best_model.buffers()):
            mine.copy_(best)
    history["best_epoch"] = best_epoch
    return history
""",
)

# A learning rate for each layer; losses of single examples in lists; hooks keep frozen BatchNorm in eval mode
RATES_BY_LAYER = style(
    "rates_by_layer",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if not isinstance(n_trainable, int) or not 0 <= n_trainable <= len(layers):
        raise ValueError(n_trainable)
    states = [False] * (len(layers) - n_trainable) + [True] * n_trainable
    for layer, state in zip(layers, states):
        for _, parameter in layer.named_parameters():
            parameter.requires_grad = state
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes must be at least 2")
    source = load_backbone(backbone)
    model = copy.deepcopy(source)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
""",
    """
from statistics import fmean


def keep_in_eval_mode(module, inputs):
    module.training = False


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("arguments")
    device = next(model.parameters()).device
    trainable = [p for p in model.parameters() if p.requires_grad]
    # parameters near the output take larger steps
    groups = [{"params": [p], "lr": lr * 0.95 ** (len(trainable) - 1 - i)} for i, p in enumerate(trainable)]
    optimizer = torch.optim.Adam(groups, lr=lr)
    hooks = [
        m.register_forward_pre_hook(keep_in_eval_mode)
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine and not m.weight.requires_grad
    ]
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    best = {"loss": math.inf, "epoch": 0, "state": None}
    try:
        for epoch in range(max_epochs):
            losses, hits = [], []
            model.train()
            for images, labels in train_loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                each = F.cross_entropy(logits, labels, reduction="none")
                optimizer.zero_grad()
                each.mean().backward()
                optimizer.step()
                losses += each.tolist()
                hits += (logits.argmax(1) == labels).tolist()
            history["train_loss"].append(fmean(losses))
            history["train_acc"].append(fmean(hits))
            losses, hits = [], []
            model.eval()
            with torch.no_grad():
                for images, labels in val_loader:
                    images, labels = images.to(device), labels.to(device)
                    logits = model(images)
                    losses += F.cross_entropy(logits, labels, reduction="none").tolist()
                    hits += (logits.argmax(1) == labels).tolist()
            history["val_loss"].append(fmean(losses))
            history["val_acc"].append(fmean(hits))
            improved = fmean(losses) < best["loss"] - min_delta
            if improved or best["state"] is None:
                best["state"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            if improved:
                best["loss"], best["epoch"] = fmean(losses), epoch
                count = 0
            else:
                count = count + 1 if epoch else 1
            if count == patience:
                break
    finally:
        for hook in hooks:
            hook.remove()
    model.load_state_dict(best["state"])
    return history | {"best_epoch": best["epoch"]}
""",
)

# The forward pass in mixed precision; the whole model is saved; AdamW by groups of the library's layers if they exist
MIXED_PRECISION = style(
    "mixed_precision",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    count = len(layers)
    if count < n_trainable or n_trainable < 0:
        raise ValueError(f"between 0 and {count}")
    [p.requires_grad_(k >= count - n_trainable) for k in range(count) for p in layers[k].parameters()]
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    freeze_layers(model, n_trainable)
    return model
""",
    """
import io


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1:
        raise ValueError("max_epochs < 1")
    if patience < 1:
        raise ValueError("patience < 1")
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, fused=False)
    history = {k: [] for k in ("train_loss", "train_acc", "val_loss", "val_acc")}
    best_loss, history["best_epoch"], strikes, saved = math.inf, 0, 0, None
    for epoch in range(max_epochs):
        model.train()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
        total, good, count = 0.0, 0, 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(labels)
            good += int((logits.argmax(1) == labels).sum())
            count += len(labels)
        history["train_loss"].append(total / count)
        history["train_acc"].append(good / count)
        measured = evaluate(model, val_loader)
        history["val_loss"].append(measured["loss"])
        history["val_acc"].append(measured["accuracy"])
        improved = best_loss - measured["loss"] > min_delta
        if improved or epoch == 0:
            saved = io.BytesIO()
            torch.save(model, saved)
        if improved:
            best_loss, history["best_epoch"], strikes = measured["loss"], epoch, 0
        else:
            strikes += 1
            if strikes == patience:
                break
    saved.seek(0)
    model.load_state_dict(torch.load(saved, weights_only=False).state_dict())
    return history
""",
)
