"""Trainings that compute gradients without `backward()` of a loss."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# No optimizer: gradients of a function of the parameters, with torch.func; plain gradient descent
FUNCTIONAL = style(
    "functional",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable not in range(len(layers) + 1):
        raise ValueError(f"{n_trainable} is not in 0 ... {len(layers)}")
    model.requires_grad_(False)
    for layer in layers[len(layers) - n_trainable:]:
        for p in layer.parameters():
            p.requires_grad_(True)
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if not num_classes >= 2:
        raise ValueError(num_classes)
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    model = freeze_layers(model, n_trainable)
    return model
""",
    """
from torch.func import functional_call, grad_and_value


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1:
        raise ValueError("max_epochs")
    if patience < 1:
        raise ValueError("patience")
    device = next(model.parameters()).device
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    buffers = dict(model.named_buffers())

    def loss_of(parameters, buffers, images, labels):
        logits = functional_call(model, (parameters, buffers), (images,))
        return F.cross_entropy(logits, labels), logits

    gradient_of = grad_and_value(loss_of, has_aux=True)
    history = {name: [] for name in ("train_loss", "train_acc", "val_loss", "val_acc")}
    best_loss, best_epoch, best = math.inf, 0, None
    since_best = 0
    for epoch in range(max_epochs):
        model.train()
        for module in model.modules():
            if hasattr(module, "running_mean") and not any(p.requires_grad for p in module.parameters()):
                module.eval()
        loss_sum, hits, count = 0.0, 0, 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            parameters = {name: p.detach() for name, p in trainable.items()}
            gradients, (loss, logits) = gradient_of(parameters, buffers, images, labels)
            with torch.no_grad():
                for name, p in trainable.items():
                    p -= lr * gradients[name]
            loss_sum += float(loss) * len(labels)
            hits += int((logits.argmax(1) == labels).sum())
            count += len(labels)
        measured = evaluate(model, val_loader)
        for name, value in zip(history, (loss_sum / count, hits / count, measured["loss"], measured["accuracy"])):
            history[name].append(value)
        if measured["loss"] < best_loss - min_delta:
            best_loss, best_epoch, since_best = measured["loss"], epoch, 0
        else:
            since_best += 1
        if epoch == best_epoch:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        if since_best == patience:
            break
    model.load_state_dict(best)
    return {**history, "best_epoch": best_epoch}
""",
)

# Gradients from torch.autograd.grad, momentum by hand, a while loop; nothing is ever written to p.grad
GRADIENTS_BY_HAND = style(
    "gradients_by_hand",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    total = len(layers)
    if not (n_trainable >= 0 and n_trainable <= total):
        raise ValueError("n_trainable out of range")
    learns = {id(p) for layer in layers[total - n_trainable:] for p in layer.parameters()}
    for p in model.parameters():
        p.requires_grad = id(p) in learns
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes <= 1:
        raise ValueError("a classifier of one class has nothing to decide")
    pretrained = load_backbone(backbone)
    model = timm.create_model(backbone, num_classes=num_classes)
    head = {name for name, _ in layers_of(pretrained)[-1].named_parameters()}
    kept = {name: value for name, value in pretrained.state_dict().items() if name not in head}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    assert not unexpected and set(missing) <= {name for name, _ in layers_of(model)[-1].named_parameters()}
    return freeze_layers(model, n_trainable)
""",
    """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("at least one epoch, and patience for at least one")
    weights = [w for w in model.parameters() if w.requires_grad]
    velocity = [torch.zeros_like(w) for w in weights]
    device = weights[0].device if weights else next(model.parameters()).device
    frozen_norms = []
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
            frozen_norms.append(m)
    curves = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    best_so_far, winner, memory = math.inf, 0, None
    epoch, patience_left = 0, patience
    while epoch < max_epochs and patience_left > 0:
        model.train()
        for m in frozen_norms:
            m.eval()
        losses, correct, n = 0.0, 0, 0
        for x, y in train_loader:
            x, y = x.to(device), y.to(device)
            out = model(x)
            loss = F.cross_entropy(out, y)
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for w, v, g in zip(weights, velocity, gradients):
                    v.mul_(0.8).add_(g)
                    w.sub_(lr * v)
            losses += loss.item() * x.shape[0]
            correct += torch.sum(out.max(1).indices == y).item()
            n += x.shape[0]
        curves["train_loss"].append(losses / n)
        curves["train_acc"].append(correct / n)
        model.eval()
        losses, correct, n = 0.0, 0, 0
        with torch.no_grad():
            for x, y in val_loader:
                x, y = x.to(device), y.to(device)
                out = model(x)
                losses += F.cross_entropy(out, y).item() * x.shape[0]
                correct += torch.sum(out.max(1).indices == y).item()
                n += x.shape[0]
        curves["val_loss"].append(losses / n)
        curves["val_acc"].append(correct / n)
        better = curves["val_loss"][-1] < best_so_far - min_delta
        if better:
            best_so_far, winner, patience_left = curves["val_loss"][-1], epoch, patience
        else:
            patience_left -= 1
        if better or memory is None:
            memory = copy.deepcopy(model.state_dict())
        epoch += 1
    model.load_state_dict(memory)
    curves["best_epoch"] = winner
    return curves
""",
)
