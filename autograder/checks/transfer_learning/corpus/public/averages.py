"""Correct training with averaged weights, or with learning rates by layer or by loss."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience have to be 1 or more")
"""

EMA_VALIDATED = correct(
    "average_that_is_validated",
    "an exponential average of the trainable weights is what is validated, and what the model ends with; the loop trains the raw ones",
    train="""
    class EMA:
        def __init__(self, model, decay):
            self.params = [p for p in model.parameters() if p.requires_grad]
            self.shadow = [p.detach().clone() for p in self.params]
            self.decay = decay

        @torch.no_grad()
        def update(self):
            for s, p in zip(self.shadow, self.params):
                s.lerp_(p, 1 - self.decay)

        @torch.no_grad()
        def swap(self):
            for s, p in zip(self.shadow, self.params):
                raw = p.detach().clone()
                p.copy_(s)
                s.copy_(raw)
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        ema = EMA(model, decay=0.6)
        optimizer = torch.optim.AdamW(ema.params, lr=lr)
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, wait, best_state = math.inf, 0, 0, None
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                    m.eval()
            s = h = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                out = model(x)
                loss = F.cross_entropy(out, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                ema.update()
                s, h, n = s + loss.item() * len(y), h + (out.argmax(1) == y).sum().item(), n + len(y)
            ema.swap()
            val = evaluate(model, val_loader)
            better = val["loss"] < best - min_delta
            if better or best_state is None:
                best_state = copy.deepcopy(model.state_dict())
            ema.swap()
            for key, value in zip(history, (s / n, h / n, val["loss"], val["accuracy"])):
                history[key].append(value)
            if better:
                best, best_epoch, wait = val["loss"], epoch, 0
            else:
                wait += 1
                if wait >= patience:
                    break
        model.load_state_dict(best_state)
        return {**history, "best_epoch": best_epoch}
    """,
)

DISCRIMINATIVE_RATES = correct(
    "rate_for_each_layer",
    "layers_of inside of the training: a learning rate and a mode for each layer, with a way for models that it does not know",
    train=_HEADER
    + """
        device = next(model.parameters()).device
        try:
            layers = layers_of(model)
        except TypeError:
            layers = [m for m in model.modules() if list(m.parameters(recurse=False))]
        groups = []
        for depth, layer in enumerate(reversed(layers)):
            params = [p for p in layer.parameters() if p.requires_grad]
            if params and isinstance(layer, nn.Module):
                params = [p for p in layer.parameters(recurse=False) if p.requires_grad]
            if params:
                groups.append({"params": params, "lr": lr * 0.9 ** depth})
        optimizer = torch.optim.Adam(groups, lr=lr)
        history = {k: [] for k in ("train_loss", "train_acc", "val_loss", "val_acc")}
        best, best_epoch, waited, best_state = math.inf, 0, 0, None
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                own = list(m.parameters())
                if own and not any(p.requires_grad for p in own):
                    m.eval()
            loss_sum = hits = n = 0
            for images, labels in train_loader:
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                loss = F.cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(labels)
                hits += (logits.argmax(1) == labels).sum().item()
                n += len(labels)
            result = evaluate(model, val_loader)
            for k, v in zip(history, (loss_sum / n, hits / n, result["loss"], result["accuracy"])):
                history[k].append(v)
            if result["loss"] < best - min_delta or best_state is None:
                best_state = copy.deepcopy(model.state_dict())
            if result["loss"] < best - min_delta:
                best, best_epoch, waited = result["loss"], epoch, 0
            else:
                waited += 1
            if waited == patience:
                break
        model.load_state_dict(best_state)
        return {**history, "best_epoch": best_epoch}
    """,
)

PLATEAU = correct(
    "reduce_on_plateau",
    "the learning rate falls on plateaus; the stopper is a generator that is sent the losses",
    train="""
    def stopper(patience, min_delta):
        best, bad, verdict = math.inf, 0, None
        while True:
            loss = yield verdict
            if loss < best - min_delta:
                best, bad, verdict = loss, 0, "best"
            else:
                bad += 1
                verdict = "stop" if bad >= patience else "wait"
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        opt = torch.optim.NAdam([p for p in model.parameters() if p.requires_grad], lr=lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1)
        early = stopper(patience, min_delta)
        next(early)
        hist, best_epoch = dict(train_loss=[], train_acc=[], val_loss=[], val_acc=[]), 0
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.train(any(p.requires_grad for p in m.parameters()))
            losses, sizes, right = [], [], 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                opt.zero_grad()
                z = model(x)
                loss = F.nll_loss(F.log_softmax(z, dim=1), y)
                loss.backward()
                opt.step()
                losses.append(loss.item())
                sizes.append(len(y))
                right += (z.argmax(1) == y).sum().item()
            v = evaluate(model, val_loader)
            plateau.step(v["loss"])
            hist["train_loss"].append(sum(l * s for l, s in zip(losses, sizes)) / sum(sizes))
            hist["train_acc"].append(right / sum(sizes))
            hist["val_loss"].append(v["loss"])
            hist["val_acc"].append(v["accuracy"])
            verdict = early.send(v["loss"])
            if verdict == "best" or epoch == 0:
                state = {k: t.clone() for k, t in model.state_dict().items()}
                best_epoch = epoch
            if verdict == "stop":
                break
        model.load_state_dict(state)
        hist["best_epoch"] = best_epoch
        return hist
    """,
)

_NORMS = """
    def train_mode(model):
        model.train()
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.weight is not None and not m.weight.requires_grad:
                m.eval()
"""
_SETUP = """
        device = next(model.parameters()).device
        params = [p for p in model.parameters() if p.requires_grad]
"""

WEIGHTS_AVERAGED_BY_EPOCH = correct(
    "weights_averaged_over_epochs",
    "validates the mean of the trainable weights over the epochs so far, trains on with the raw ones, ends with the mean of the best epoch",
    train=_NORMS
    + _HEADER
    + _SETUP
    + """
        optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9)
        mean = [torch.zeros_like(p) for p in params]
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, waited, state = math.inf, 0, 0, None
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            with torch.no_grad():
                raw = [p.clone() for p in params]
                for m, p in zip(mean, params):
                    m += (p - m) / (epoch + 1)
                    p.copy_(m)
            val = evaluate(model, val_loader)
            if val["loss"] < best - min_delta or state is None:
                state = copy.deepcopy(model.state_dict())
            with torch.no_grad():
                for p, r in zip(params, raw):
                    p.copy_(r)
            for key, value in zip(history, (total / n, hits / n, val["loss"], val["accuracy"])):
                history[key].append(value)
            if val["loss"] < best - min_delta:
                best, best_epoch, waited = val["loss"], epoch, 0
                continue
            waited += 1
            if waited >= patience:
                break
        model.load_state_dict(state)
        return {**history, "best_epoch": best_epoch}
    """,
)

LAYER_BY_LAYER = correct(
    "mode_of_each_layer",
    "layers_of inside of the loop: modules of layers that are all frozen go to eval mode, modules of other models by their parameters",
    train="""
    def parts(model):
        try:
            return [(list(layer.parameters()), list(layer.modules())) for layer in layers_of(model)]
        except TypeError:
            return [(list(m.parameters()), [m]) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    """
    + _HEADER
    + _SETUP
    + """
        optimizer = torch.optim.Adam(params, lr=lr)
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, left = math.inf, 0, patience
        for epoch in range(max_epochs):
            model.train()
            for parameters, modules in parts(model):
                if parameters and not any(p.requires_grad for p in parameters):
                    for m in modules:
                        m.eval()
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            val = evaluate(model, val_loader)
            for key, value in zip(history, (total / n, hits / n, val["loss"], val["accuracy"])):
                history[key].append(value)
            improved = val["loss"] < best - min_delta
            if improved:
                best, best_epoch, left = val["loss"], epoch, patience
            else:
                left -= 1
            if improved or epoch == 0:
                state = copy.deepcopy(model.state_dict())
            if not left:
                break
        model.load_state_dict(state)
        return {**history, "best_epoch": best_epoch}
    """,
)

TRAINABLE_IN_TRAIN_MODE = correct(
    "train_mode_where_weights_are_trainable",
    "each module that has parameters is in train mode if one of them is trainable; those without any follow the model",
    train=_HEADER
    + _SETUP
    + """
        optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9, nesterov=True)
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, waited, state = math.inf, 0, 0, None
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                weights = list(m.parameters(recurse=False))
                if weights:
                    m.training = any(w.requires_grad for w in weights)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            val = evaluate(model, val_loader)
            for key, value in zip(history, (total / n, hits / n, val["loss"], val["accuracy"])):
                history[key].append(value)
            waited += 1
            if val["loss"] < best - min_delta:
                best, best_epoch, waited, state = val["loss"], epoch, 0, copy.deepcopy(model.state_dict())
            elif state is None:
                state = copy.deepcopy(model.state_dict())
            if waited == patience:
                break
        model.load_state_dict(state)
        return {**history, "best_epoch": best_epoch}
    """,
)

AVERAGES = [
    EMA_VALIDATED, DISCRIMINATIVE_RATES, PLATEAU, WEIGHTS_AVERAGED_BY_EPOCH, LAYER_BY_LAYER, TRAINABLE_IN_TRAIN_MODE,
]  # fmt: skip
