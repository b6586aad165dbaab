"""Correct training in the style of competition notebooks and of the training scripts of model libraries."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

_HEADER = """
    def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
        if max_epochs < 1 or patience < 1:
            raise ValueError("max_epochs and patience: at least 1")
"""

AVERAGE_METERS = correct(
    "average_meters_and_scaler",
    "train_fn and valid_fn with AverageMeter over examples, a GradScaler that is switched off on a CPU, tqdm, gc",
    train="""
    import gc
    from collections import defaultdict

    from tqdm.auto import tqdm

    class AverageMeter(object):
        def __init__(self):
            self.reset()

        def reset(self):
            self.val = self.avg = self.sum = self.count = 0

        def update(self, val, n=1):
            self.val = val
            self.sum += val * n
            self.count += n
            self.avg = self.sum / self.count

    class CFG:
        max_grad_norm = 1000.0
        weight_decay = 1e-6

    def train_fn(loader, model, criterion, optimizer, scaler, scheduler, device):
        model.train()
        for m in model.modules():
            if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and not m.weight.requires_grad:
                m.eval()
        losses, scores = AverageMeter(), AverageMeter()
        bar = tqdm(enumerate(loader), total=len(loader), disable=True)
        for step, (images, targets) in bar:
            images, targets = images.to(device), targets.to(device)
            batch_size = targets.size(0)
            with torch.autocast(device_type=device.type, enabled=scaler.is_enabled()):
                y_preds = model(images)
                loss = criterion(y_preds, targets)
            losses.update(loss.item(), batch_size)
            scores.update((y_preds.argmax(1) == targets).float().mean().item(), batch_size)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            bar.set_postfix(Train_Loss=losses.avg)
        scheduler.step()
        return losses.avg, scores.avg

    @torch.inference_mode()
    def valid_fn(loader, model, criterion, device):
        model.eval()
        losses, scores = AverageMeter(), AverageMeter()
        for images, targets in tqdm(loader, desc="valid", leave=False):
            images, targets = images.to(device), targets.to(device)
            y_preds = model(images)
            losses.update(criterion(y_preds, targets).item(), targets.size(0))
            scores.update((y_preds.argmax(1) == targets).float().mean().item(), targets.size(0))
        return losses.avg, scores.avg
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        params = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=CFG.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max_epochs, eta_min=lr / 100)
        scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        criterion = nn.CrossEntropyLoss()
        history, best_loss, counter, best_epoch = defaultdict(list), np.inf, 0, 0
        for epoch in range(max_epochs):
            gc.collect()
            train_loss, train_acc = train_fn(train_loader, model, criterion, optimizer, scaler, scheduler, device)
            val_loss, val_acc = valid_fn(val_loader, model, criterion, device)
            history["train_loss"].append(train_loss)
            history["train_acc"].append(train_acc)
            history["val_loss"].append(val_loss)
            history["val_acc"].append(val_acc)
            history["lr"].append(optimizer.param_groups[0]["lr"])
            improved = val_loss < best_loss - min_delta
            if improved or not epoch:
                best_model_wts = copy.deepcopy(model.state_dict())
            if improved:
                print(f"Validation loss improved ({best_loss} ---> {val_loss})")
                best_loss, best_epoch, counter = val_loss, epoch, 0
            else:
                counter += 1
            if counter >= patience:
                break
        model.load_state_dict(best_model_wts)
        history["best_epoch"] = best_epoch
        return dict(history)

    import numpy as np
    """,
)

SMOOTHED_VALUES = correct(
    "metric_logger_and_warmup",
    "train_one_epoch with a metric logger, and a warm-up of the learning rate inside of the first epoch",
    train="""
    class SmoothedValue:
        def __init__(self):
            self.total, self.count = 0.0, 0

        def update(self, value, n=1):
            self.count += n
            self.total += value * n

        @property
        def global_avg(self):
            return self.total / self.count

    class MetricLogger:
        def __init__(self):
            self.meters = {"loss": SmoothedValue(), "acc1": SmoothedValue()}

        def log(self, output, target, loss):
            n = target.shape[0]
            acc1 = output.detach().argmax(1).eq(target).float().sum().item() / n
            self.meters["loss"].update(loss.item(), n)
            self.meters["acc1"].update(acc1, n)

    def freeze_norms(model):
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and m.affine and not m.weight.requires_grad:
                m.eval()

    def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch):
        model.train()
        freeze_norms(model)
        metric_logger, lr_scheduler = MetricLogger(), None
        if epoch == 0:
            warmup_iters = max(1, min(1000, len(data_loader) - 1))
            lr_scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0 / 1000, total_iters=warmup_iters)
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if lr_scheduler is not None:
                lr_scheduler.step()
            metric_logger.log(output, target, loss)
        return metric_logger.meters

    def evaluate_model(model, criterion, data_loader, device):
        model.eval()
        metric_logger = MetricLogger()
        with torch.inference_mode():
            for image, target in data_loader:
                image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
                output = model(image)
                metric_logger.log(output, target, criterion(output, target))
        return metric_logger.meters
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)
        criterion = nn.CrossEntropyLoss()
        rows, best, best_epoch, checkpoint = [], math.inf, None, None
        for epoch in range(max_epochs):
            train = train_one_epoch(model, criterion, optimizer, train_loader, device, epoch)
            val = evaluate_model(model, criterion, val_loader, device)
            rows.append([m.global_avg for m in (train["loss"], train["acc1"], val["loss"], val["acc1"])])
            if rows[-1][2] < best - min_delta:
                best, best_epoch = rows[-1][2], epoch
                checkpoint = {"model": copy.deepcopy(model.state_dict()), "epoch": epoch}
            elif checkpoint is None:
                checkpoint = {"model": copy.deepcopy(model.state_dict()), "epoch": epoch}
            last = -1 if best_epoch is None else best_epoch
            if epoch - last >= patience:
                break
        model.load_state_dict(checkpoint["model"])
        return {"train_loss": [r[0] for r in rows], "train_acc": [r[1] for r in rows], "val_loss": [r[2] for r in rows],
                "val_acc": [r[3] for r in rows], "best_epoch": best_epoch or 0}
    """,
)

NO_DECAY_GROUPS = correct(
    "parameter_groups_without_decay",
    "weight decay for matrices alone, gradients clipped, a warm-up whose first epoch has rate 0: nothing moves in that epoch",
    train="""
    def param_groups(model, weight_decay=0.05):
        decay, no_decay = [], []
        for name, param in model.named_parameters():
            if not param.requires_grad:
                continue
            (no_decay if param.ndim <= 1 or name.endswith(".bias") else decay).append(param)
        groups = [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]
        return [g for g in groups if g["params"]]
    """
    + _HEADER
    + """
        device = next(model.parameters()).device
        optimizer = torch.optim.AdamW(param_groups(model), lr=lr)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 2))
        out = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
        best, best_epoch, epochs_without = float("inf"), 0, 0
        for epoch in range(max_epochs):
            model.train()
            for m in model.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.weight.requires_grad:
                    m.eval()
            loss_m = top1_m = seen = 0
            for input, target in train_loader:
                input, target = input.to(device), target.to(device)
                optimizer.zero_grad()
                output = model(input)
                loss = F.cross_entropy(output, target)
                loss.backward()
                nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 5.0)
                optimizer.step()
                loss_m += loss.item() * input.size(0)
                top1_m += output.argmax(dim=1).eq(target).sum().item()
                seen += input.size(0)
            warmup.step()
            eval_metrics = evaluate(model, val_loader)
            out["train_loss"] += [loss_m / seen]
            out["train_acc"] += [top1_m / seen]
            out["val_loss"] += [eval_metrics["loss"]]
            out["val_acc"] += [eval_metrics["accuracy"]]
            if epoch == 0:
                saver = copy.deepcopy(model.state_dict())
            if eval_metrics["loss"] < best - min_delta:
                best, best_epoch, epochs_without = eval_metrics["loss"], epoch, 0
                saver = copy.deepcopy(model.state_dict())
            else:
                epochs_without += 1
                if epochs_without >= patience:
                    break
        model.load_state_dict(saver)
        out["best_epoch"] = best_epoch
        return out
    """,
)

RECIPES = [AVERAGE_METERS, SMOOTHED_VALUES, NO_DECAY_GROUPS]
