"""Correct training that optimizes, computes or counts in an unusual way."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience must be at least one")
        device = next(model.parameters()).device
        params = [p for p in model.parameters() if p.requires_grad]
"""
_NORMS = """
    def train_mode(model):
        model.train()
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.weight is not None and not m.weight.requires_grad:
                m.eval()
"""
# code after an epoch of training, with its figures in train_loss and train_acc
_THEN = """
            val = evaluate(model, val_loader)
            for key, value in zip(history, (train_loss, train_acc, val["loss"], val["accuracy"])):
                history[key].append(value)
            if val["loss"] < best - min_delta:
                best, best_epoch, waited, state = val["loss"], epoch, 0, copy.deepcopy(model.state_dict())
            else:
                waited, state = waited + 1, state or copy.deepcopy(model.state_dict())
            if waited >= patience:
                break
        model.load_state_dict(state)
        return {**history, "best_epoch": best_epoch}
"""
_START = """
        history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, waited, state = math.inf, 0, 0, None
"""

LBFGS = correct(
    "lbfgs_closure",
    "LBFGS: one step for each batch, whose closure computes the loss several times; the figure is that of the first time",
    train=_NORMS
    + _HEADER
    + """
        for p in params:
            p.data = p.data.contiguous()  # LBFGS flattens with view
        optimizer = torch.optim.LBFGS(params, lr=min(1.0, 100 * lr), max_iter=3, history_size=5)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                seen = []

                def closure():
                    optimizer.zero_grad()
                    logits = model(x)
                    loss = F.cross_entropy(logits, y)
                    loss.backward()
                    seen.append((loss.item(), (logits.argmax(1) == y).sum().item()))
                    return loss

                optimizer.step(closure)
                total, hits, n = total + seen[0][0] * len(y), hits + seen[0][1], n + len(y)
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

PLAIN_LBFGS = correct(
    "lbfgs_as_documented",
    "LBFGS as its documentation shows it, over the weights as load_backbone gives them",
    train=_NORMS
    + _HEADER
    + """
        optimizer = torch.optim.LBFGS(params, lr=min(0.5, 50 * lr), max_iter=2)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                outputs = []

                def closure():
                    optimizer.zero_grad()
                    outputs.append(model(x))
                    loss = F.cross_entropy(outputs[-1], y)
                    loss.backward()
                    return loss

                total += optimizer.step(closure).item() * len(y)
                hits += (outputs[0].argmax(1) == y).sum().item()
                n += len(y)
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

COMPILED = correct(
    "compiled_with_fallback",
    "trains a compiled model that shares the weights, and goes on without where compiling does not work",
    train=_NORMS
    + """
    def try_compile(model):
        try:
            import torch._dynamo
            torch._dynamo.config.suppress_errors = True
            return torch.compile(model)
        except Exception as error:
            print("torch.compile is not available:", error)
            return model
    """
    + _HEADER
    + """
        optimizer = torch.optim.AdamW(params, lr=lr)
        compiled = try_compile(model)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                optimizer.zero_grad()
                logits = compiled(x)
                loss = F.cross_entropy(logits, y)
                loss.backward()
                optimizer.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

ALL_PARAMETERS = correct(
    "optimizer_over_all_parameters",
    "the optimizer is given every parameter; frozen ones have no gradient, so it leaves them alone, weight decay included",
    train=_NORMS
    + _HEADER
    + """
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

NUMPY_FIGURES = correct(
    "numpy_averages",
    "figures are numpy's float64, averages weighted by the batch sizes: lists of floats",
    train="""
    import numpy as np
    """
    + _NORMS
    + _HEADER
    + """
        optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            losses, accs, sizes = [], [], []
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach().cpu().numpy().astype(np.float64))
                accs.append((logits.detach().argmax(1) == y).cpu().numpy().mean())
                sizes.append(y.numel())
            train_loss = np.average(losses, weights=sizes)
            train_acc = np.average(accs, weights=sizes)"""
    + _THEN,
)

ARRAYS_TO_LISTS = correct(
    "array_of_figures_to_lists",
    "an array of epochs by figures that is cut to the epochs run, and turned into lists",
    train="""
    import numpy as np
    """
    + _NORMS
    + _HEADER
    + """
        optimizer = torch.optim.RAdam(params, lr=lr)
        table = np.full((max_epochs, 4), np.nan)
        best, best_epoch, since, weights = np.inf, 0, 0, None
        for epoch in range(max_epochs):
            train_mode(model)
            outs, ys = [], []
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                out = model(x)
                optimizer.zero_grad()
                F.cross_entropy(out, y, reduction="sum").div(len(y)).backward()
                optimizer.step()
                outs.append(out.detach())
                ys.append(y)
            outs, ys = torch.cat(outs), torch.cat(ys)
            val = evaluate(model, val_loader)
            table[epoch] = (F.cross_entropy(outs, ys).item(), (outs.argmax(1) == ys).double().mean().item(),
                            val["loss"], val["accuracy"])
            since += 1
            if table[epoch, 2] < best - min_delta:
                best, best_epoch, since, weights = table[epoch, 2], epoch, 0, None
            weights = weights or copy.deepcopy(model.state_dict())
            if since == patience:
                break
        model.load_state_dict(weights)
        columns = table[: epoch + 1].T.tolist()
        return dict(zip(("train_loss", "train_acc", "val_loss", "val_acc"), columns), best_epoch=best_epoch)
    """,
)

ONE_HOT = correct(
    "one_hot_targets",
    "cross-entropy with the classes as probabilities 0 and 1: the same loss",
    train=_NORMS
    + _HEADER
    + """
        optimizer = torch.optim.Adam(params, lr=lr)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            running, hits, n = torch.zeros((), device=device), 0, 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                target = F.one_hot(y, logits.shape[1]).to(logits.dtype)
                loss = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                running += loss.detach() * len(y)
                hits += (logits.argmax(1) == y).sum().item()
                n += len(y)
            train_loss, train_acc = (running / n).item(), hits / n"""
    + _THEN,
)

SLOW_WEIGHTS = correct(
    "slow_and_fast_weights",
    "lookahead: every few steps the weights go half of the way back to slow copies, within the optimizer",
    train=_NORMS
    + """
    class Lookahead:
        def __init__(self, optimizer, k=3, alpha=0.5):
            self.optimizer, self.k, self.alpha, self.calls = optimizer, k, alpha, 0
            self.params = [p for g in optimizer.param_groups for p in g["params"]]
            self.slow = [p.detach().clone() for p in self.params]

        def zero_grad(self):
            self.optimizer.zero_grad()

        @torch.no_grad()
        def step(self):
            self.optimizer.step()
            self.calls += 1
            if self.calls % self.k == 0:
                for slow, fast in zip(self.slow, self.params):
                    slow.add_(fast - slow, alpha=self.alpha)
                    fast.copy_(slow)
    """
    + _HEADER
    + """
        optimizer = Lookahead(torch.optim.Adam(params, lr=lr))"""
    + _START
    + """
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
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

CYCLES = correct(
    "one_cycle_by_batch",
    "one cycle of the learning rate over all batches, counted before the training begins",
    train=_NORMS
    + _HEADER
    + """
        steps = sum(1 for _ in train_loader) if not hasattr(train_loader, "__len__") else len(train_loader)
        optimizer = torch.optim.AdamW(params, lr=lr)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=max_epochs * steps + 1)"""
    + _START
    + """
        for epoch in range(max_epochs):
            train_mode(model)
            total = hits = n = 0
            for x, y in train_loader:
                x, y = x.to(device), y.to(device)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_value_(params, 1.0)
                optimizer.step()
                cycle.step()
                total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
            train_loss, train_acc = total / n, hits / n"""
    + _THEN,
)

OPTIMIZERS = [
    LBFGS,
    PLAIN_LBFGS,
    COMPILED,
    ALL_PARAMETERS,
    NUMPY_FIGURES,
    ARRAYS_TO_LISTS,
    ONE_HOT,
    SLOW_WEIGHTS,
    CYCLES,
]
