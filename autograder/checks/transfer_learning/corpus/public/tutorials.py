"""Correct training loops, as in tutorials and lectures."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience must be positive")
"""

PHASES = correct(
    "phases",
    "one loop over the phases train and val with set_grad_enabled, sums over examples, deep copies of the best weights",
    train=_HEADER
    + """
        since = time.time()
        device = next(model.parameters()).device
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
        dataloaders = {"train": train_loader, "val": val_loader}
        history = {f"{phase}_{what}": [] for phase in dataloaders for what in ("loss", "acc")}
        best_model_wts, best_loss, best_epoch, no_improve = None, float("inf"), 0, 0
        for epoch in range(max_epochs):
            print(f"Epoch {epoch}/{max_epochs - 1}\\n" + "-" * 10)
            for phase in ["train", "val"]:
                if phase == "train":
                    model.train()
                    for module in model.modules():
                        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                            module.eval()
                else:
                    model.eval()
                running_loss, running_corrects, dataset_size = 0.0, 0, 0
                for inputs, labels in dataloaders[phase]:
                    inputs, labels = inputs.to(device), labels.to(device)
                    optimizer.zero_grad()
                    with torch.set_grad_enabled(phase == "train"):
                        outputs = model(inputs)
                        _, preds = torch.max(outputs, 1)
                        loss = criterion(outputs, labels)
                        if phase == "train":
                            loss.backward()
                            optimizer.step()
                    running_loss += loss.item() * inputs.size(0)
                    running_corrects += torch.sum(preds == labels.data)
                    dataset_size += inputs.size(0)
                epoch_loss = running_loss / dataset_size
                epoch_acc = running_corrects.double() / dataset_size
                history[phase + "_loss"].append(epoch_loss)
                history[phase + "_acc"].append(epoch_acc.item())
                print(f"{phase} Loss: {epoch_loss:.4f} Acc: {epoch_acc:.4f}")
            if best_model_wts is None:
                best_model_wts = copy.deepcopy(model.state_dict())
            if epoch_loss < best_loss - min_delta:
                best_loss, best_epoch, no_improve = epoch_loss, epoch, 0
                best_model_wts = copy.deepcopy(model.state_dict())
            else:
                no_improve += 1
                if no_improve >= patience:
                    break
        time_elapsed = time.time() - since
        print(f"Training complete in {time_elapsed // 60:.0f}m {time_elapsed % 60:.0f}s")
        model.load_state_dict(best_model_wts)
        history["best_epoch"] = best_epoch
        return history
    """,
)

QUICKSTART = correct(
    "train_loop_and_test_loop",
    "train_loop and test_loop as functions, softmax nowhere, mean over examples, clones of all tensors",
    train="""
    def train_loop(dataloader, model, loss_fn, optimizer, frozen_norms, device):
        model.train()
        for norm in frozen_norms:
            norm.eval()
        size, loss_sum, correct = 0, 0.0, 0.0
        for batch, (X, y) in enumerate(dataloader):
            X, y = X.to(device), y.to(device)
            pred = model(X)
            loss = loss_fn(pred, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            size += len(X)
            loss_sum += loss.item() * len(X)
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
        return loss_sum / size, correct / size

    @torch.no_grad()
    def test_loop(dataloader, model, loss_fn, device):
        model.eval()
        size, test_loss, correct = 0, 0, 0
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            pred = model(X)
            test_loss += loss_fn(pred, y).item() * y.shape[0]
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
            size += y.shape[0]
        return test_loss / size, correct / size
    """
    + _HEADER
    + """
        device = next(iter(model.parameters())).device
        loss_fn = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=lr)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        frozen = [m for m in norms if m.affine and not m.weight.requires_grad]
        results = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": [], "best_epoch": 0}
        best, bad = math.inf, 0
        for t in range(max_epochs):
            train_loss, train_acc = train_loop(train_loader, model, loss_fn, optimizer, frozen, device)
            val_loss, val_acc = test_loop(val_loader, model, loss_fn, device)
            results["train_loss"].append(train_loss)
            results["train_acc"].append(train_acc)
            results["val_loss"].append(val_loss)
            results["val_acc"].append(val_acc)
            better = val_loss < best - min_delta
            if better or t == 0:
                best_weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if better:
                best, bad, results["best_epoch"] = val_loss, 0, t
                continue
            bad += 1
            if bad == patience:
                print("Early stopping at epoch", t)
                break
        model.load_state_dict(best_weights)
        return results
    """,
)

ACCUMULATOR = correct(
    "accumulator",
    "an accumulator of sums, loss with reduction none, accuracy by a function of its own",
    train="""
    class Accumulator:
        \"\"\"Sums over n variables.\"\"\"
        def __init__(self, n):
            self.data = [0.0] * n

        def add(self, *args):
            self.data = [a + float(b) for a, b in zip(self.data, args)]

        def __getitem__(self, idx):
            return self.data[idx]

    def accuracy(y_hat, y):
        cmp = y_hat.argmax(axis=1).type(y.dtype) == y
        return float(cmp.type(y.dtype).sum())

    def train_epoch(net, train_iter, loss, trainer, device):
        metric = Accumulator(3)
        for X, y in train_iter:
            X, y = X.to(device), y.to(device)
            y_hat = net(X)
            l = loss(y_hat, y)
            trainer.zero_grad()
            l.mean().backward()
            trainer.step()
            metric.add(l.sum(), accuracy(y_hat, y), y.numel())
        return metric[0] / metric[2], metric[1] / metric[2]

    def evaluate_loss(net, data_iter, loss, device):
        net.eval()
        metric = Accumulator(3)
        with torch.no_grad():
            for X, y in data_iter:
                X, y = X.to(device), y.to(device)
                out = net(X)
                metric.add(loss(out, y).sum(), accuracy(out, y), y.numel())
        return metric[0] / metric[2], metric[1] / metric[2]
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        loss = nn.CrossEntropyLoss(reduction="none")
        trainer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9, weight_decay=5e-4)
        log = [[], [], [], []]
        best, since_best, best_epoch, params = math.inf, 0, 0, None
        for epoch in range(max_epochs):
            model.train()
            for blk in model.modules():
                if isinstance(blk, nn.BatchNorm2d) and not blk.bias.requires_grad:
                    blk.eval()
            figures = (*train_epoch(model, train_loader, loss, trainer, device), *evaluate_loss(model, val_loader, loss, device))
            for column, value in zip(log, figures):
                column.append(value)
            since_best += 1
            if figures[2] < best - min_delta:
                best, since_best, best_epoch, params = figures[2], 0, epoch, None
            if params is None:
                params = [t.clone() for t in model.state_dict().values()]
            if since_best >= patience:
                break
        with torch.no_grad():
            for t, saved in zip(model.state_dict().values(), params):
                t.copy_(saved)
        return dict(zip(("train_loss", "train_acc", "val_loss", "val_acc", "best_epoch"), (*log, best_epoch)))
    """,
)

CHECKPOINT_FOLDER = correct(
    "checkpoints_in_a_folder",
    "saves the state of the best epoch below a folder and loads it at the end; the validation loop in a function",
    train="""
    import json
    import os

    CHECKPOINT_PATH = "saved_models"

    def save_model(model, model_path, model_name):
        os.makedirs(model_path, exist_ok=True)
        torch.save(model.state_dict(), os.path.join(model_path, model_name + ".tar"))

    def load_model(model, model_path, model_name):
        model.load_state_dict(torch.load(os.path.join(model_path, model_name + ".tar"), map_location="cpu"))
        return model

    def test_model(net, data_loader, device, loss_module):
        net.eval()
        true_preds, total, count = 0.0, 0.0, 0
        for imgs, labels in data_loader:
            imgs, labels = imgs.to(device), labels.to(device)
            with torch.no_grad():
                logits = net(imgs)
                preds = logits.argmax(dim=-1)
                total += loss_module(logits, labels).item() * labels.shape[0]
                true_preds += (preds == labels).sum().item()
                count += labels.shape[0]
        return total / count, true_preds / count
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        loss_module = nn.CrossEntropyLoss()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[100, 150], gamma=0.1)
        val_scores, best_val_epoch, best_score = [], -1, math.inf
        train_losses, train_scores, val_losses = [], [], []
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                    m.eval()
            true_preds, count, epoch_loss = 0.0, 0, 0.0
            for imgs, labels in train_loader:
                imgs, labels = imgs.to(device), labels.to(device)
                optimizer.zero_grad()
                preds = model(imgs)
                loss = loss_module(preds, labels)
                loss.backward()
                optimizer.step()
                true_preds += (preds.argmax(dim=-1) == labels).sum().item()
                epoch_loss += loss.item() * labels.shape[0]
                count += labels.shape[0]
            scheduler.step()
            train_losses.append(epoch_loss / count)
            train_scores.append(true_preds / count)
            val_loss, val_acc = test_model(model, val_loader, device, loss_module)
            val_losses.append(val_loss)
            val_scores.append(val_acc)
            if epoch == 0 or val_loss < best_score - min_delta:
                print("\\t   (New best performance, saving model...)")
                save_model(model, CHECKPOINT_PATH, "net")
                best_val_epoch = epoch
                best_score = val_loss if val_loss == val_loss else best_score
            last_improvement = best_val_epoch if best_score < math.inf else -1
            if epoch - last_improvement >= patience:
                break
        load_model(model, CHECKPOINT_PATH, "net")
        with open(os.path.join(CHECKPOINT_PATH, "results.json"), "w") as f:
            json.dump({"val_scores": val_scores}, f)
        return {"train_loss": train_losses, "train_acc": train_scores, "val_loss": val_losses, "val_acc": val_scores,
                "best_epoch": best_val_epoch}
    """,
)

TUTORIALS = [PHASES, QUICKSTART, ACCUMULATOR, CHECKPOINT_FOLDER]
