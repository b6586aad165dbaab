"""Correct training that keeps the best epoch in one of many common ways."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience must be >= 1")
"""
# an epoch of training, the same for all of these
_FIT = """
    def fit_epoch(model, loader, optimizer):
        device = next(model.parameters()).device
        model.train()
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in m.parameters()):
                m.eval()
        loss_sum, correct, total = 0.0, 0, 0
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            output = model(data)
            loss = F.cross_entropy(output, target)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(data)
            correct += output.argmax(dim=1, keepdim=True).eq(target.view_as(output.argmax(dim=1, keepdim=True))).sum().item()
            total += len(data)
        return loss_sum / total, correct / total
"""

STOPPER_WITH_FILE = correct(
    "stopper_with_a_checkpoint_file",
    "a stopper object that is called with loss and model, and saves the state to checkpoint.pt",
    train=_FIT
    + """
    class EarlyStopping:
        def __init__(self, patience=7, verbose=False, delta=0, path="checkpoint.pt", trace_func=print):
            self.patience, self.verbose, self.delta, self.path, self.trace_func = patience, verbose, delta, path, trace_func
            self.counter, self.best_val_loss, self.early_stop, self.saved = 0, None, False, False

        def __call__(self, val_loss, model):
            if math.isnan(val_loss):
                self.trace_func("Validation loss is NaN.")
                if not self.saved:
                    self.save_checkpoint(val_loss, model)
                return self.count()
            if self.best_val_loss is None or val_loss < self.best_val_loss - self.delta:
                self.save_checkpoint(val_loss, model)
                self.best_val_loss, self.counter = val_loss, 0
                return True
            return self.count()

        def count(self):
            self.counter += 1
            self.early_stop = self.counter >= self.patience
            return False

        def save_checkpoint(self, val_loss, model):
            if self.verbose:
                self.trace_func(f"Validation loss decreased ({self.best_val_loss} --> {val_loss:.6f}).  Saving model ...")
            torch.save(model.state_dict(), self.path)
            self.saved = True
    """
    + _HEADER
    + """
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
        early_stopping = EarlyStopping(patience=patience, verbose=True, delta=min_delta)
        history, best_epoch = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}, 0
        for epoch in range(max_epochs):
            train_loss, train_acc = fit_epoch(model, train_loader, optimizer)
            val = evaluate(model, val_loader)
            for key, value in zip(history, (train_loss, train_acc, val["loss"], val["accuracy"])):
                history[key].append(value)
            if early_stopping(val["loss"], model):
                best_epoch = epoch
            if early_stopping.early_stop:
                print("Early stopping")
                break
        model.load_state_dict(torch.load("checkpoint.pt", weights_only=True))
        return dict(history, best_epoch=best_epoch)
    """,
)

WHOLE_MODEL_SAVED = correct(
    "whole_model_saved",
    "saves the whole model with torch.save(model, path), loads it again and copies its state",
    train=_FIT
    + _HEADER
    + """
        PATH = "best_model.pth"
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
        train_losses, train_accs, valid_losses, valid_accs = [], [], [], []
        valid_loss_min, best_epoch, stale = math.inf, 0, 0
        for epoch in range(max_epochs):
            loss, acc = fit_epoch(model, train_loader, optimizer)
            train_losses.append(loss)
            train_accs.append(acc)
            valid = evaluate(model, val_loader)
            valid_losses.append(valid["loss"])
            valid_accs.append(valid["accuracy"])
            if epoch == 0:
                torch.save(model, PATH)
            if valid["loss"] < valid_loss_min - min_delta:
                print(f"Validation loss decreased ({valid_loss_min:.6f} --> {valid['loss']:.6f}). Saving model ...")
                torch.save(model, PATH)
                valid_loss_min, best_epoch, stale = valid["loss"], epoch, 0
            else:
                stale += 1
                if stale == patience:
                    break
        best = torch.load(PATH, weights_only=False)
        model.load_state_dict(best.state_dict())
        return {"train_loss": train_losses, "train_acc": train_accs, "val_loss": valid_losses, "val_acc": valid_accs,
                "best_epoch": best_epoch}
    """,
)

CHECKPOINT_DICT = correct(
    "checkpoint_with_optimizer",
    "a checkpoint of model, optimizer, epoch and loss in a temporary folder, as in resumable training",
    train=_FIT
    + """
    import tempfile
    from pathlib import Path
    """
    + _HEADER
    + """
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "best.ckpt"
            best_loss, best_epoch, num_bad = math.inf, 0, 0
            for epoch in range(max_epochs):
                history_row = [*fit_epoch(model, train_loader, optimizer), *evaluate(model, val_loader).values()]
                for key, value in zip(history, history_row):
                    history[key].append(value)
                val_loss = history["val_loss"][-1]
                is_best = val_loss < best_loss - min_delta
                if is_best or not path.exists():
                    torch.save({"epoch": epoch, "model_state_dict": model.state_dict(),
                                "optimizer_state_dict": optimizer.state_dict(), "loss": val_loss}, path)
                if is_best:
                    best_loss, best_epoch = val_loss, epoch
                num_bad = 0 if is_best else num_bad + 1
                if num_bad >= patience:
                    break
            checkpoint = torch.load(path)
        model.load_state_dict(checkpoint["model_state_dict"])
        history["best_epoch"] = best_epoch
        return history
    """,
)

IN_MEMORY_FILE = correct(
    "bytes_in_memory",
    "torch.save into a BytesIO",
    train=_FIT
    + """
    import io

    def dump(model):
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        return buffer.getvalue()
    """
    + _HEADER
    + """
        opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
        rows, best, best_epoch, waited, kept = [], float("inf"), 0, 0, b""
        epoch = 0
        while epoch < max_epochs and waited < patience:
            train_loss, train_acc = fit_epoch(model, train_loader, opt)
            val = evaluate(model, val_loader)
            rows.append((train_loss, train_acc, val["loss"], val["accuracy"]))
            waited += 1
            if val["loss"] < best - min_delta:
                best, best_epoch, waited = val["loss"], epoch, 0
                kept = dump(model)
            kept = kept or dump(model)
            epoch += 1
        model.load_state_dict(torch.load(io.BytesIO(kept)))
        a, b, c, d = (list(column) for column in zip(*rows))
        return {"train_loss": a, "train_acc": b, "val_loss": c, "val_acc": d, "best_epoch": best_epoch}
    """,
)

PICKLED_MODULE = correct(
    "copy_of_the_module",
    "deepcopy of the whole model, and load_state_dict from the copy at the end",
    train=_FIT
    + _HEADER
    + """
        optim = torch.optim.Adamax([p for p in model.parameters() if p.requires_grad], lr=lr)
        logs = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best_model, best_loss, best_epoch, trigger_times = None, math.inf, 0, 0
        for epoch in range(max_epochs):
            loss, acc = fit_epoch(model, train_loader, optim)
            current = evaluate(model, val_loader)
            logs["train_loss"].append(loss); logs["train_acc"].append(acc)
            logs["val_loss"].append(current["loss"]); logs["val_acc"].append(current["accuracy"])
            if best_model is None:
                best_model = copy.deepcopy(model)
            if current["loss"] < best_loss - min_delta:
                best_loss, best_epoch, trigger_times = current["loss"], epoch, 0
                best_model = copy.deepcopy(model)
                continue
            trigger_times += 1
            print("Trigger times:", trigger_times)
            if trigger_times >= patience:
                print("Early stopping!")
                break
        model.load_state_dict(best_model.state_dict())
        logs["best_epoch"] = best_epoch
        return logs
    """,
)

ALL_EPOCHS_STORED = correct(
    "every_epoch_stored",
    "stores the state of every epoch, and picks at the end the one that the rule says",
    train=_FIT
    + """
    def best_index(losses, min_delta):
        best, index = math.inf, 0
        for i, loss in enumerate(losses):
            if loss < best - min_delta:
                best, index = loss, i
        return index, best

    def epochs_since(losses, min_delta):
        index, best = best_index(losses, min_delta)
        return len(losses) - 1 - index if best < math.inf else len(losses)
    """
    + _HEADER
    + """
        optimizer = torch.optim.Adagrad([p for p in model.parameters() if p.requires_grad], lr=lr)
        history, states = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}, []
        for _ in range(max_epochs):
            train_loss, train_acc = fit_epoch(model, train_loader, optimizer)
            val = evaluate(model, val_loader)
            history["train_loss"].append(train_loss)
            history["train_acc"].append(train_acc)
            history["val_loss"].append(val["loss"])
            history["val_acc"].append(val["accuracy"])
            states.append({k: v.clone() for k, v in model.state_dict().items()})
            if epochs_since(history["val_loss"], min_delta) >= patience:
                break
        history["best_epoch"], _ = best_index(history["val_loss"], min_delta)
        model.load_state_dict(states[history["best_epoch"]])
        return history
    """,
)

PARAMETERS_AND_BUFFERS = correct(
    "parameters_and_buffers_apart",
    "clones parameters and buffers in two dicts and copies them back in place",
    train=_FIT
    + """
    @torch.no_grad()
    def snapshot(model):
        return ({n: p.clone() for n, p in model.named_parameters()}, {n: b.clone() for n, b in model.named_buffers()})

    @torch.no_grad()
    def restore(model, shot):
        parameters, buffers = shot
        for n, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(parameters[n])
        for n, b in model.named_buffers():
            b.copy_(buffers[n])
    """
    + _HEADER
    + """
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, amsgrad=True)
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": [], "best_epoch": 0, "stopped_early": False}
        best, wait = math.inf, 0
        for epoch in range(max_epochs):
            tr = fit_epoch(model, train_loader, optimizer)
            va = evaluate(model, val_loader)
            history["train_loss"].append(tr[0])
            history["train_acc"].append(tr[1])
            history["val_loss"].append(va["loss"])
            history["val_acc"].append(va["accuracy"])
            if va["loss"] < best - min_delta:
                best, wait, history["best_epoch"] = va["loss"], 0, epoch
                shot = snapshot(model)
            else:
                wait += 1
                if epoch == 0:
                    shot = snapshot(model)
            if wait >= patience:
                history["stopped_early"] = True
                break
        restore(model, shot)
        return history
    """,
)

CHECKPOINTS = [
    STOPPER_WITH_FILE, WHOLE_MODEL_SAVED, CHECKPOINT_DICT, IN_MEMORY_FILE, PICKLED_MODULE, ALL_EPOCHS_STORED,
    PARAMETERS_AND_BUFFERS,
]  # fmt: skip
