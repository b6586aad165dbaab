"""Correct training in the style of trainer libraries: modules with steps, engines with events, and callbacks."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs >= 1 and patience >= 1")
"""

MODULE_AND_TRAINER = correct(
    "module_and_trainer",
    "training_step and validation_step in a module, a trainer with callbacks; the module holds the model, which is changed itself",
    train="""
    class LitClassifier(nn.Module):
        def __init__(self, model, lr):
            super().__init__()
            self.model, self.lr = model, lr

        def forward(self, x):
            return self.model(x)

        def on_train_epoch_start(self):
            for m in self.model.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.weight is not None and not m.weight.requires_grad:
                    m.eval()

        def _shared_step(self, batch):
            x, y = batch
            logits = self(x)
            return {"loss": F.cross_entropy(logits, y), "hits": (logits.argmax(-1) == y).sum(), "n": y.numel()}

        training_step = validation_step = _shared_step

        def configure_optimizers(self):
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.lr)

    class Checkpoint:
        state, epoch = None, 0

        def save(self, model, epoch):
            self.state, self.epoch = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}, epoch

    class StopEarly:
        def __init__(self, patience, min_delta):
            self.patience, self.min_delta, self.best, self.wait, self.stop = patience, min_delta, math.inf, 0, False

        def __call__(self, value):
            better = value < self.best - self.min_delta
            self.best = value if better else self.best
            self.wait = 0 if better else self.wait + 1
            self.stop = self.wait >= self.patience
            return better

    class MiniTrainer:
        def __init__(self, max_epochs, stopper):
            self.max_epochs, self.stopper, self.logged = max_epochs, stopper, []
            self.checkpoint = Checkpoint()

        def _epoch(self, step, loader, device, optimizer=None):
            sums = [0.0, 0, 0]
            for batch in loader:
                out = step([t.to(device) for t in batch])
                if optimizer is not None:
                    optimizer.zero_grad()
                    out["loss"].backward()
                    optimizer.step()
                sums[0] += out["loss"].item() * out["n"]
                sums[1] += out["hits"].item()
                sums[2] += out["n"]
            return sums[0] / sums[2], sums[1] / sums[2]

        def fit(self, module, train, val):
            device = next(module.parameters()).device
            optimizer = module.configure_optimizers()
            for epoch in range(self.max_epochs):
                module.train()
                module.on_train_epoch_start()
                row = self._epoch(module.training_step, train, device, optimizer)
                module.eval()
                with torch.inference_mode():
                    row += self._epoch(module.validation_step, val, device)
                self.logged.append(row)
                if self.stopper(row[2]) or epoch == 0:
                    self.checkpoint.save(module.model, epoch)
                if self.stopper.stop:
                    break
            module.model.load_state_dict(self.checkpoint.state)
    """
    + _HEADER
    + """
        trainer = MiniTrainer(max_epochs, StopEarly(patience, min_delta))
        trainer.fit(LitClassifier(model, lr), train_loader, val_loader)
        columns = [list(column) for column in zip(*trainer.logged)]
        return dict(zip(["train_loss", "train_acc", "val_loss", "val_acc"], columns), best_epoch=trainer.checkpoint.epoch)
    """,
)

ENGINE = correct(
    "engine_with_events",
    "two engines that fire events; handlers validate, store the best state and end the run",
    train="""
    from collections import defaultdict

    class Engine:
        def __init__(self, process):
            self.process, self.handlers, self.epoch, self.should_end = process, defaultdict(list), 0, False

        def on(self, event):
            def register(handler):
                self.handlers[event].append(handler)
                return handler
            return register

        def fire(self, event):
            for handler in self.handlers[event]:
                handler(self)

        def run(self, data, max_epochs=1):
            for self.epoch in range(max_epochs):
                self.loss_sum = self.correct = self.seen = 0
                self.fire("epoch_started")
                for batch in data:
                    loss, y_pred, y = self.process(self, batch)
                    self.loss_sum += loss * len(y)
                    self.correct += int((y_pred.argmax(1) == y).sum())
                    self.seen += len(y)
                self.metrics = {"loss": self.loss_sum / self.seen, "accuracy": self.correct / self.seen}
                self.fire("epoch_completed")
                if self.should_end:
                    break
            return self
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        optimizer = torch.optim.RMSprop([p for p in model.parameters() if p.requires_grad], lr=lr)

        def update(engine, batch):
            x, y = (t.to(device) for t in batch)
            optimizer.zero_grad()
            y_pred = model(x)
            loss = F.cross_entropy(y_pred, y)
            loss.backward()
            optimizer.step()
            return loss.item(), y_pred.detach(), y

        def inference(engine, batch):
            model.eval()
            with torch.no_grad():
                x, y = (t.to(device) for t in batch)
                y_pred = model(x)
                return F.cross_entropy(y_pred, y).item(), y_pred, y

        trainer, evaluator = Engine(update), Engine(inference)
        log = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": [], "best_epoch": 0}
        state = {"best": math.inf, "counter": 0, "weights": None}

        @trainer.on("epoch_started")
        def train_mode(engine):
            model.train()
            for m in model.modules():
                if isinstance(m, nn.BatchNorm2d) and not any(p.requires_grad for p in m.parameters()):
                    m.eval()

        @trainer.on("epoch_completed")
        def validate(engine):
            metrics = evaluator.run(val_loader).metrics
            log["train_loss"].append(engine.metrics["loss"])
            log["train_acc"].append(engine.metrics["accuracy"])
            log["val_loss"].append(metrics["loss"])
            log["val_acc"].append(metrics["accuracy"])

        @trainer.on("epoch_completed")
        def early_stopping(engine):
            score = log["val_loss"][-1]
            if state["best"] - score > min_delta:
                state.update(best=score, counter=0, weights=copy.deepcopy(model.state_dict()))
                log["best_epoch"] = engine.epoch
            else:
                state["counter"] += 1
                engine.should_end = state["counter"] >= patience
            if state["weights"] is None:
                state["weights"] = copy.deepcopy(model.state_dict())

        trainer.run(train_loader, max_epochs)
        model.load_state_dict(state["weights"])
        return log
    """,
)

LEARNER = correct(
    "learner_with_callbacks",
    "a learner whose callbacks cancel the fit by an exception, as fastai does",
    train="""
    class CancelFitException(Exception):
        pass

    class Callback:
        learn = None
        def before_epoch(self): pass
        def after_batch(self): pass
        def after_epoch(self): pass
        def after_fit(self): pass

    class FreezeNorms(Callback):
        def before_epoch(self):
            for l in self.learn.model.modules():
                if isinstance(l, nn.BatchNorm2d) and not l.weight.requires_grad:
                    l.eval()

    class Recorder(Callback):
        def __init__(self):
            self.values = []
        def after_epoch(self):
            self.values.append((*self.learn.train_stats, *self.learn.valid_stats))

    class TrackBest(Callback):
        def __init__(self, patience, min_delta):
            self.patience, self.min_delta, self.best, self.wait, self.best_epoch = patience, min_delta, np.inf, 0, 0
        def after_epoch(self):
            val = self.learn.valid_stats[0]
            improved = np.less(val, self.best - self.min_delta)
            if improved or self.learn.epoch == 0:
                self.saved = copy.deepcopy(self.learn.model.state_dict())
            if improved:
                self.best, self.wait, self.best_epoch = val, 0, self.learn.epoch
            else:
                self.wait += 1
                if self.wait >= self.patience:
                    print(f"No improvement since epoch {self.learn.epoch - self.wait}: early stopping")
                    raise CancelFitException()
        def after_fit(self):
            self.learn.model.load_state_dict(self.saved)

    class Learner:
        def __init__(self, dls, model, lr, cbs):
            self.train_dl, self.valid_dl = dls
            self.model, self.cbs = model, cbs
            self.opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr, betas=(0.9, 0.99))
            self.device = next(model.parameters()).device
            for cb in cbs:
                cb.learn = self

        def __call__(self, event):
            for cb in self.cbs:
                getattr(cb, event)()

        def one_epoch(self, dl, train):
            self.model.train(train)
            if train:
                self("before_epoch")
            tot, acc, n = 0.0, 0.0, 0
            with torch.set_grad_enabled(train):
                for xb, yb in dl:
                    xb, yb = xb.to(self.device), yb.to(self.device)
                    pred = self.model(xb)
                    loss = F.cross_entropy(pred, yb)
                    if train:
                        loss.backward()
                        self.opt.step()
                        self.opt.zero_grad()
                    tot += loss.detach().item() * len(xb)
                    acc += (pred.argmax(dim=1) == yb).float().sum().item()
                    n += len(xb)
            return tot / n, acc / n

        def fit(self, n_epoch):
            try:
                for self.epoch in range(n_epoch):
                    self.opt.zero_grad()
                    self.train_stats = self.one_epoch(self.train_dl, True)
                    self.valid_stats = self.one_epoch(self.valid_dl, False)
                    self("after_epoch")
            except CancelFitException:
                pass
            self("after_fit")

    import numpy as np
    """
    + _HEADER
    + """
        recorder, best = Recorder(), TrackBest(patience, min_delta)
        Learner((train_loader, val_loader), model, lr, [FreezeNorms(), recorder, best]).fit(max_epochs)
        tl, ta, vl, va = map(list, zip(*recorder.values))
        return dict(train_loss=tl, train_acc=ta, val_loss=vl, val_acc=va, best_epoch=best.best_epoch)
    """,
)

TRAINERS = [MODULE_AND_TRAINER, ENGINE, LEARNER]
