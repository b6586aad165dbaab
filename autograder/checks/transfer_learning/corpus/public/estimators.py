"""Correct training by objects that take a model and fit it."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience have to be 1 or more")
"""

COMPILE_AND_FIT = correct(
    "compile_and_fit",
    "compile and fit with a History and on_epoch_end of callbacks; restore_best_weights at the end of training",
    train="""
    class EarlyStop:
        def __init__(self, monitor="val_loss", min_delta=0, patience=0, restore_best_weights=True):
            self.monitor, self.min_delta, self.patience, self.restore = monitor, abs(min_delta), patience, restore_best_weights

        def on_train_begin(self, net):
            self.net, self.wait, self.best, self.best_weights, self.best_epoch = net, 0, float("inf"), None, 0

        def on_epoch_end(self, epoch, logs):
            if self.best_weights is None:
                self.best_weights = self.net.get_weights()
            self.wait += 1
            if logs[self.monitor] < self.best - self.min_delta:
                self.best, self.best_epoch, self.wait = logs[self.monitor], epoch, 0
                self.best_weights = self.net.get_weights()
                return
            if self.wait >= self.patience:
                self.net.stop_training = True

        def on_train_end(self):
            if self.restore and self.best_weights is not None:
                self.net.set_weights(self.best_weights)

    class Net:
        stop_training = False

        def __init__(self, module):
            self.module, self.device = module, next(module.parameters()).device

        def compile(self, optimizer, loss):
            self.optimizer, self.loss = optimizer, loss

        def get_weights(self):
            return [v.detach().cpu().clone() for v in self.module.state_dict().values()]

        def set_weights(self, weights):
            names = list(self.module.state_dict())
            self.module.load_state_dict(dict(zip(names, weights)))

        def train_step(self, x, y):
            self.optimizer.zero_grad()
            y_pred = self.module(x)
            loss = self.loss(y_pred, y)
            loss.backward()
            self.optimizer.step()
            return loss.item(), y_pred

        def test_step(self, x, y):
            with torch.no_grad():
                y_pred = self.module(x)
                return self.loss(y_pred, y).item(), y_pred

        def _mode(self, training):
            self.module.train(training)
            if training:
                for m in self.module.modules():
                    weights = list(m.parameters(recurse=False))
                    if isinstance(m, nn.BatchNorm2d) and weights and not weights[0].requires_grad:
                        m.training = False

        def _loop(self, data, step, training):
            self._mode(training)
            loss, acc, count = 0.0, 0.0, 0
            for x, y in data:
                x, y = x.to(self.device), y.to(self.device)
                batch_loss, y_pred = step(x, y)
                loss += batch_loss * y.size(0)
                acc += y_pred.argmax(1).eq(y).sum().item()
                count += y.size(0)
            return loss / count, acc / count

        def fit(self, data, epochs, validation_data, callbacks):
            history = {"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []}
            [c.on_train_begin(self) for c in callbacks]
            for epoch in range(epochs):
                logs = dict(zip(history, (*self._loop(data, self.train_step, True), *self._loop(validation_data, self.test_step, False))))
                for key, value in logs.items():
                    history[key].append(value)
                [c.on_epoch_end(epoch, logs) for c in callbacks]
                if self.stop_training:
                    break
            [c.on_train_end() for c in callbacks]
            return history
    """
    + _HEADER
    + """
        net = Net(model)
        net.compile(torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr), nn.CrossEntropyLoss())
        stop = EarlyStop(min_delta=min_delta, patience=patience)
        h = net.fit(train_loader, max_epochs, val_loader, [stop])
        return {"train_loss": h["loss"], "train_acc": h["accuracy"], "val_loss": h["val_loss"], "val_acc": h["val_accuracy"],
                "best_epoch": stop.best_epoch}
    """,
)

PARTIAL_FIT = correct(
    "partial_fit",
    "an estimator with partial_fit and a history of dicts, one per epoch, that is turned into lists at the end",
    train="""
    class Estimator:
        def __init__(self, module, lr):
            self.module_ = module
            self.optimizer_ = torch.optim.SGD(self.trainable(), lr=lr, momentum=0.9)
            self.history_ = []

        def trainable(self):
            return [p for p in self.module_.parameters() if p.requires_grad]

        def train_step(self, Xi, yi):
            self.optimizer_.zero_grad()
            y_pred = self.module_(Xi)
            loss = nn.functional.cross_entropy(y_pred, yi)
            loss.backward()
            self.optimizer_.step()
            return loss, y_pred

        def partial_fit(self, loader):
            device = next(self.module_.parameters()).device
            self.module_.train()
            for part in self.module_.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.train(part.weight.requires_grad)
            batches = []
            for Xi, yi in loader:
                loss, y_pred = self.train_step(Xi.to(device), yi.to(device))
                batches.append({"size": len(yi), "loss": loss.item(), "right": (y_pred.argmax(1).cpu() == yi.cpu()).sum().item()})
            size = sum(b["size"] for b in batches)
            self.history_.append({
                "train_loss": sum(b["size"] * b["loss"] for b in batches) / size,
                "train_acc": sum(b["right"] for b in batches) / size,
            })
            return self

        def validate(self, loader):
            scores = evaluate(self.module_, loader)
            self.history_[-1].update(val_loss=scores["loss"], val_acc=scores["accuracy"])
            return scores["loss"]
    """
    + _HEADER
    + """
        estimator, best, waited, best_epoch = Estimator(model, lr), math.inf, 0, 0
        for epoch in range(max_epochs):
            loss = estimator.partial_fit(train_loader).validate(val_loader)
            if loss < best - min_delta:
                best, best_epoch, waited = loss, epoch, 0
                best_weights = copy.deepcopy(model.state_dict())
            else:
                if epoch == 0:
                    best_weights = copy.deepcopy(model.state_dict())
                waited += 1
            if waited >= patience:
                break
        model.load_state_dict(best_weights)
        rows = estimator.history_
        return {**{key: [row[key] for row in rows] for key in rows[0]}, "best_epoch": best_epoch}
    """,
)

SOLVER = correct(
    "solver_class",
    "a solver with update rules of its own (momentum by hand) and copies of the best parameters and buffers",
    train="""
    class Solver:
        def __init__(self, model, data, **kwargs):
            self.model, self.data = model, data
            self.lr = kwargs.pop("learning_rate", 1e-3)
            self.num_epochs = kwargs.pop("num_epochs", 10)
            self.device = next(model.parameters()).device
            self.params = [p for p in model.parameters() if p.requires_grad]
            self.velocity = [torch.zeros_like(p) for p in self.params]
            self._reset()

        def _reset(self):
            self.best_val_loss, self.best_params, self.best_epoch, self.bad = np.inf, None, 0, 0
            self.loss_history, self.train_acc, self.val_loss, self.val_acc = [], [], [], []

        def _step(self, X, y):
            scores = self.model(X)
            loss = F.cross_entropy(scores, y)
            grads = torch.autograd.grad(loss, self.params, allow_unused=True)
            with torch.no_grad():
                for w, v, dw in zip(self.params, self.velocity, grads):
                    if dw is None:
                        continue
                    v.mul_(0.9).sub_(self.lr * dw)
                    w.add_(v)
            return loss.item(), (scores.argmax(1) == y).float().sum().item()

        def check(self, loader):
            self.model.eval()
            losses, hits, N = 0.0, 0, 0
            with torch.no_grad():
                for X, y in loader:
                    X, y = X.to(self.device), y.to(self.device)
                    scores = self.model(X)
                    losses += F.cross_entropy(scores, y, reduction="sum").item()
                    hits += int((scores.argmax(1) == y).sum())
                    N += X.shape[0]
            return losses / N, hits / N

        def train(self, patience, min_delta):
            for epoch in range(self.num_epochs):
                self.model.train()
                for m in self.model.modules():
                    if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                        m.eval()
                total, hits, N = 0.0, 0.0, 0
                for X, y in self.data["train"]:
                    X, y = X.to(self.device), y.to(self.device)
                    loss, right = self._step(X, y)
                    total, hits, N = total + loss * len(y), hits + right, N + len(y)
                self.loss_history.append(total / N)
                self.train_acc.append(hits / N)
                val_loss, val_acc = self.check(self.data["val"])
                self.val_loss.append(val_loss)
                self.val_acc.append(val_acc)
                improved = val_loss < self.best_val_loss - min_delta
                if improved or epoch == 0:
                    self.best_params = {k: v.clone() for k, v in self.model.state_dict().items()}
                if improved:
                    self.best_val_loss, self.best_epoch, self.bad = val_loss, epoch, 0
                else:
                    self.bad += 1
                if self.bad >= patience:
                    break
            self.model.load_state_dict(self.best_params)

    import numpy as np
    """
    + _HEADER
    + """
        solver = Solver(model, {"train": train_loader, "val": val_loader}, learning_rate=lr, num_epochs=max_epochs)
        solver.train(patience, min_delta)
        return {"train_loss": solver.loss_history, "train_acc": solver.train_acc, "val_loss": solver.val_loss,
                "val_acc": solver.val_acc, "best_epoch": solver.best_epoch}
    """,
)

ESTIMATORS = [COMPILE_AND_FIT, PARTIAL_FIT, SOLVER]
