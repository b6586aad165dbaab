"""Trainings in plain loops, with checkpoints in memory and small functions."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import style

# RMSprop with a schedule that watches the validation loss; the best state is saved to a buffer of bytes; running
# statistics of frozen layers are restored after each epoch
SAVED_IN_MEMORY = style(
    "saved_in_memory",
    """
def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable < 0 or n_trainable > len(layers):
        raise ValueError
    for i in range(len(layers)):
        flag = True if i >= len(layers) - n_trainable else False
        for p in layers[i].parameters():
            p.requires_grad = flag
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes < 2")
    model = load_backbone(backbone)
    # the last linear layer is the classifier: a new one in its place
    name, old = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Linear(old.in_features, num_classes, bias=old.bias is not None))
    model.num_classes = num_classes
    freeze_layers(model, n_trainable)
    return model
""",
    """
import io


def statistics_of_frozen(model):
    kept = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            if all(not p.requires_grad for p in module.parameters()):
                kept[name] = {k: v.clone() for k, v in module.named_buffers()}
    return kept


def put_back(model, kept):
    with torch.no_grad():
        for name, buffers in kept.items():
            for k, v in model.get_submodule(name).named_buffers():
                v.copy_(buffers[k])


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1:
        raise ValueError(f"max_epochs={max_epochs}")
    if patience < 1:
        raise ValueError(f"patience={patience}")
    device = next(model.parameters()).device
    optimizer = torch.optim.RMSprop([p for p in model.parameters() if p.requires_grad], lr=lr, alpha=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    kept = statistics_of_frozen(model)
    train_loss, train_acc, val_loss, val_acc = [], [], [], []
    file = io.BytesIO()
    lowest, best_epoch = None, 0
    for epoch in range(max_epochs):
        model.train()
        total, correct, n = 0.0, 0, 0
        for images, labels in train_loader:
            images = images.to(device)
            labels = labels.to(device)
            optimizer.zero_grad(set_to_none=True)
            prediction = model(images)
            loss = nn.functional.cross_entropy(prediction, labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * images.size(0)
            correct += (prediction.argmax(-1) == labels).sum().item()
            n += images.size(0)
        put_back(model, kept)
        train_loss.append(total / n)
        train_acc.append(correct / n)
        measured = evaluate(model, val_loader)
        val_loss.append(measured["loss"])
        val_acc.append(measured["accuracy"])
        scheduler.step(val_loss[-1])
        is_number = not math.isnan(val_loss[-1])
        if is_number and (lowest is None or val_loss[-1] < lowest - min_delta):
            lowest, best_epoch = val_loss[-1], epoch
            file = io.BytesIO()
            torch.save(model.state_dict(), file)
            waiting = 0
        else:
            if epoch == 0:
                torch.save(model.state_dict(), file)
                waiting = 0
            waiting += 1
            if waiting == patience:
                break
    file.seek(0)
    model.load_state_dict(torch.load(file, map_location=device))
    return {
        "train_loss": train_loss,
        "train_acc": train_acc,
        "val_loss": val_loss,
        "val_acc": val_acc,
        "best_epoch": best_epoch,
    }
""",
)

# Everything in small functions, warm-up and decay as a function of the step, sums on the device; an iterator of epochs
SMALL_FUNCTIONS = style(
    "small_functions",
    """
def set_trainable(parameters, value):
    for p in parameters:
        p.requires_grad = value


def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    if n_trainable < 0 or n_trainable > len(layers):
        raise ValueError("n_trainable")
    split = len(layers) - n_trainable
    set_trainable(itertools.chain.from_iterable(layer.parameters() for layer in layers[:split]), False)
    set_trainable(itertools.chain.from_iterable(layer.parameters() for layer in layers[split:]), True)
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes in (0, 1) or num_classes < 0:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
""",
    """
from collections import namedtuple

Figures = namedtuple("Figures", "loss acc")


def is_frozen(module):
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def train_mode(model):
    model.train()
    for module in filter(is_frozen, model.modules()):
        module.training = False


def one_epoch(model, loader, on_loss):
    device = next(model.parameters()).device
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.long, device=device)
    count = 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        on_loss(loss / len(labels))
        loss_sum += loss.detach()
        correct += (logits.detach().argmax(1) == labels).sum()
        count += len(labels)
    return Figures((loss_sum / count).item(), correct.item() / count)


def train_step(optimizer, schedule):
    def step(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    return step


def epochs_of_training(model, train_loader, val_loader, lr):
    optimizer = torch.optim.NAdam([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=1e-4)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    while True:
        train_mode(model)
        trained = one_epoch(model, train_loader, train_step(optimizer, warm_up))
        model.eval()
        with torch.no_grad():
            validated = one_epoch(model, val_loader, lambda loss: None)
        yield trained, validated


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1:
        raise ValueError("max_epochs")
    if patience < 1:
        raise ValueError("patience")
    trained, validated = [], []
    best_epoch, best_loss, best_state, waited = 0, math.inf, None, 0
    epochs = itertools.islice(epochs_of_training(model, train_loader, val_loader, lr), max_epochs)
    for epoch, (of_training, of_validation) in enumerate(epochs):
        trained.append(of_training)
        validated.append(of_validation)
        waited += 1
        if of_validation.loss < best_loss - min_delta:
            best_epoch, best_loss, waited = epoch, of_validation.loss, 0
        if waited == 0 or epoch == 0:
            best_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if waited >= patience:
            break
    model.load_state_dict(best_state, strict=True)
    return {
        "train_loss": [f.loss for f in trained],
        "train_acc": [f.acc for f in trained],
        "val_loss": [f.loss for f in validated],
        "val_acc": [f.acc for f in validated],
        "best_epoch": best_epoch,
    }
""",
)

# The best is found in the list of losses; states of all epochs are kept; AMSGrad; the library's progress display
LISTS_FIRST = style(
    "lists_first",
    """
def freeze_layers(model, n_trainable):
    if n_trainable < 0 or n_trainable > len(layers_of(model)):
        raise ValueError("n_trainable is out of range")
    trainable = layers_of(model)[::-1][:n_trainable]
    wanted = set()
    for layer in trainable:
        wanted |= {name for name, _ in layer.named_parameters()}
    for name, p in model.named_parameters():
        p.requires_grad = name in wanted
    return model
""",
    """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("at least two")
    model = load_backbone(backbone)
    head = {name for name, _ in layers_of(model)[-1].named_parameters()}
    before = {k: v.clone() for k, v in model.state_dict().items() if k not in head}
    model.reset_classifier(num_classes)
    model.load_state_dict(before, strict=False)
    freeze_layers(model, n_trainable)
    return model
""",
    """
def last_improvement(losses, min_delta):
    best, where = math.inf, -1
    for i, loss in enumerate(losses):
        if loss < best - min_delta:
            best, where = loss, i
    return where


def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    if max_epochs < 1 or patience < 1:
        raise ValueError("too small")
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr, amsgrad=True)
    states = []
    train_loss, train_acc, val_loss, val_acc = [], [], [], []
    for epoch in (progress := Epochs(max_epochs)):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not next(module.parameters()).requires_grad:
                module.eval()
        losses, right, sizes = [], [], []
        for images, labels in progress.batches(train_loader):
            images, labels = images.to(device), labels.to(device)
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right.append((logits.argmax(1) == labels).sum().item())
            sizes.append(len(labels))
            progress.show(loss=losses[-1])
        train_loss.append(sum(a * b for a, b in zip(losses, sizes)) / sum(sizes))
        train_acc.append(sum(right) / sum(sizes))
        validated = evaluate(model, val_loader)
        val_loss.append(validated["loss"])
        val_acc.append(validated["accuracy"])
        progress.log(train_loss=train_loss[-1], val_loss=val_loss[-1])
        states.append(copy.deepcopy(model.state_dict()))
        if epoch - last_improvement(val_loss, min_delta) >= patience:
            break
    best_epoch = max(last_improvement(val_loss, min_delta), 0)
    model.load_state_dict(states[best_epoch])
    return {
        "train_loss": train_loss,
        "train_acc": train_acc,
        "val_loss": val_loss,
        "val_acc": val_acc,
        "best_epoch": best_epoch,
    }
""",
)
