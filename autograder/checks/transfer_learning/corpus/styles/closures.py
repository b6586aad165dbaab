"""Trainings as closures and recursive functions."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# LBFGS with one evaluation for each step, with a closure; a class that decides when to stop; parameters swapped by data
CLOSURE = style(
    "closure",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable > len(layers):
        raise ValueError("too many")
    if n_trainable < 0:
        raise ValueError("too few")
    for position, layer in zip(range(len(layers), 0, -1), layers):
        # position: 1 for the head, 2 for the layer before it, ...
        for p in layer.parameters():
            p.requires_grad = position <= n_trainable
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes, "avg")
    return freeze_layers(model, n_trainable)
""",
    """
class EarlyStopping:
    def __init__(self, patience, min_delta):
        self.patience, self.min_delta = patience, min_delta
        self.best_loss, self.best_epoch, self.bad = float("inf"), 0, 0
        self.saved = None

    def __call__(self, epoch, loss, model):
        good = loss < self.best_loss - self.min_delta
        if good:
            self.best_loss, self.best_epoch = loss, epoch
        self.bad = 0 if good else self.bad + 1
        if good or self.saved is None:
            self.saved = [t.detach().clone() for t in itertools.chain(model.parameters(), model.buffers())]
        return self.bad >= self.patience

    def restore(self, model):
        for tensor, value in zip(itertools.chain(model.parameters(), model.buffers()), self.saved):
            tensor.data = value


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("at least 1")
    device = next(model.parameters()).device
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(params, lr=lr, max_iter=1, history_size=1)
    stopper = EarlyStopping(patience, min_delta)
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    for epoch in range(max_epochs):
        model.train()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
        loss_sum, correct, n = 0.0, 0, 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            outputs = []

            def closure():
                optimizer.zero_grad()
                outputs.append(model(images))
                loss = F.cross_entropy(outputs[-1], labels)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            loss_sum += float(loss) * len(labels)
            correct += int((outputs[0].argmax(1) == labels).sum())
            n += len(labels)
        measured = evaluate(model, val_loader)
        for key, value in zip(history, (loss_sum / n, correct / n, *measured.values())):
            history[key].append(value)
        if stopper(epoch, measured["loss"], model):
            break
    stopper.restore(model)
    return {**history, "best_epoch": stopper.best_epoch}
""",
)

# Training figures from a separate pass; validation batches kept in a list; recursion in place of a loop
RECURSIVE = style(
    "recursive",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if not 0 <= n_trainable <= len(layers):
        raise ValueError("n_trainable")

    def walk(rest, left):
        if rest:
            for p in rest[-1].parameters():
                p.requires_grad = left > 0
            walk(rest[:-1], left - 1)

    walk(layers, n_trainable)
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
""",
    """
def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("max_epochs < 1 or patience < 1")
    device = next(model.parameters()).device
    val_batches = [(images.to(device), labels.to(device)) for images, labels in val_loader]
    optimizer = torch.optim.Adamax([p for p in model.parameters() if p.requires_grad], lr=lr)
    frozen = [
        m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not any(p.requires_grad for p in m.parameters())
    ]

    def epoch(number, best_loss, best_epoch, best_state, waited):
        model.train()
        for m in frozen:
            m.eval()
        losses, hits, n = 0.0, 0, 0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses, hits, n = losses + loss.item() * len(labels), hits + (logits.argmax(1) == labels).sum().item(), n + len(labels)
        row = (losses / n, hits / n, *evaluate(model, val_batches).values())
        improved = row[2] < best_loss - min_delta
        if improved or number == 0:
            best_state = copy.deepcopy(model.state_dict())
        if improved:
            best_loss, best_epoch, waited = row[2], number, 0
        else:
            waited += 1
        if waited == patience or number + 1 == max_epochs:
            return [row], best_epoch, best_state
        rows, best_epoch, best_state = epoch(number + 1, best_loss, best_epoch, best_state, waited)
        return [row, *rows], best_epoch, best_state

    rows, best_epoch, best_state = epoch(0, math.inf, 0, None, 0)
    model.load_state_dict(best_state)
    names = ("train_loss", "train_acc", "val_loss", "val_acc")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)} | {"best_epoch": best_epoch}
""",
)
