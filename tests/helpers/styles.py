"""Correct solutions, written independently of one another and of the reference, as varied as those of good students.

Each fulfils the contract to the letter and must get full marks: a style that loses points is a false alarm.
"""

from __future__ import annotations

from tests.helpers.variants import Variant


def _style(name: str, freeze: str, build: str, train: str) -> Variant:
    sources = {"freeze_layers": freeze, "build_transfer_model": build, "train_with_early_stopping": train}
    return Variant(name, sources=sources)


# A class for the training; SGD with Nesterov momentum; a data class for the history
TRAINER_CLASS = _style(
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

# No optimizer: gradients of a function of the parameters, with torch.func; plain gradient descent
FUNCTIONAL = _style(
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
GRADIENTS_BY_HAND = _style(
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

# RMSprop with a schedule that watches the validation loss; the best state is saved to a buffer of bytes; running
# statistics of frozen layers are restored after each epoch
SAVED_IN_MEMORY = _style(
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

# A custom optimizer class (Lion, Chen et al. 2023), with groups and weight decay; the best state is saved to a file;
# momentum 0 keeps the statistics of frozen layers
OWN_OPTIMIZER = _style(
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

# One-cycle schedule; validation in inference mode; a copy of the whole model; values copied back one by one
ONE_CYCLE = _style(
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
RATES_BY_LAYER = _style(
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

# freeze_layers itself keeps frozen layers out of train mode, by overriding train(); Adagrad; figures with numpy
TRAIN_OVERRIDDEN = _style(
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

# Everything in small functions, warm-up and decay as a function of the step, sums on the device; an iterator of epochs
SMALL_FUNCTIONS = _style(
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

# Trains a copy of the model and copies the best state back at the end; SGD with a step schedule; float16-safe logits
TRAINS_A_COPY = _style(
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

# The best is found in the list of losses; states of all epochs are kept; AMSGrad; the library's progress display
LISTS_FIRST = _style(
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

# The forward pass in mixed precision; the whole model is saved; AdamW by groups of the library's layers if they exist
MIXED_PRECISION = _style(
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

# LBFGS with one evaluation for each step, with a closure; a class that decides when to stop; parameters swapped by data
CLOSURE = _style(
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
RECURSIVE = _style(
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

# Sharpness-aware minimisation: two passes over each batch, one step; NumPy for the figures
SHARPNESS_AWARE = _style(
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
QUASI_NEWTON = _style(
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

STYLES = [
    TRAINER_CLASS,
    FUNCTIONAL,
    GRADIENTS_BY_HAND,
    SAVED_IN_MEMORY,
    OWN_OPTIMIZER,
    ONE_CYCLE,
    RATES_BY_LAYER,
    TRAIN_OVERRIDDEN,
    SMALL_FUNCTIONS,
    TRAINS_A_COPY,
    LISTS_FIRST,
    MIXED_PRECISION,
    CLOSURE,
    RECURSIVE,
    SHARPNESS_AWARE,
    QUASI_NEWTON,
]
