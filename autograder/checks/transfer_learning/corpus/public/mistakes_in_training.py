"""Wrong training loops in the style of public code; the cost of each was fixed before any check ran."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus import plain
from autograder.checks.transfer_learning.corpus.public.averages import EMA_VALIDATED
from autograder.checks.transfer_learning.corpus.public.checkpoints import (
    IN_MEMORY_FILE,
    PICKLED_MODULE,
    STOPPER_WITH_FILE,
    WHOLE_MODEL_SAVED,
)
from autograder.checks.transfer_learning.corpus.public.optimizers import ALL_PARAMETERS, ARRAYS_TO_LISTS, NUMPY_FIGURES
from autograder.checks.transfer_learning.corpus.public.recipes import AVERAGE_METERS
from autograder.checks.transfer_learning.corpus.public.submission import TRAIN, changed
from autograder.checks.transfer_learning.corpus.public.trainers import LEARNER
from autograder.checks.transfer_learning.corpus.public.tutorials import ACCUMULATOR, PHASES, QUICKSTART
from autograder.labs.corpus import Solution

PLAIN = Solution("plain", {TRAIN: plain.TRAIN})
_MOVED = "            images, labels = images.to(device), labels.to(device)\n            optimizer"
_STATE = "        if best_state is None:\n            best_state = copy.deepcopy(model.state_dict())\n"


def _in(base: Solution, name: str, reason: str, cost: tuple[float, float], *texts: str) -> Solution:
    return changed(base, TRAIN, name, reason, cost, *texts)


HOW_IT_TRAINS = [
    _in(PLAIN, "mixup", "trains on mixtures of two images each, not on the images as they come", (3, 9),
        _MOVED, _MOVED.replace("            optimizer", "            lam = 0.7\n            perm = torch.randperm(len(images))\n"
                               "            images = lam * images + (1 - lam) * images[perm]\n            optimizer"),
        "loss = F.cross_entropy(logits, labels)",
        "loss = lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[perm])"),
    _in(PLAIN, "flips_batches", "flips half of the training batches, not the images as they come", (3, 8),
        _MOVED, _MOVED.replace("            optimizer", "            if torch.rand(()) < 0.5:\n"
                               "                images = images.flip(-1)\n            optimizer")),
    _in(PLAIN, "random_erasing", "erases a square of every training image, not the images as they come", (3, 8),
        _MOVED, _MOVED.replace("            optimizer", "            images = images.clone()\n"
                               "            images[:, :, 2:6, 2:6] = 0\n            optimizer")),
    _in(PLAIN, "class_weights", "weights the classes in the cross-entropy by how rare they are in the batch", (3, 8),
        "loss = F.cross_entropy(logits, labels)",
        "counts = torch.bincount(labels, minlength=logits.shape[1]).clamp(min=1)\n"
        "            loss = F.cross_entropy(logits, labels, weight=len(labels) / counts.float())"),
    _in(PLAIN, "accumulates_two_batches", "takes a step after every second batch only", (3, 9),
        "for images, labels in train_loader:", "for step, (images, labels) in enumerate(train_loader):",
        "            optimizer.zero_grad()\n", "",
        "            loss.backward()\n            optimizer.step()\n",
        "            (loss / 2).backward()\n            if (step + 1) % 2 == 0:\n                optimizer.step()\n"
        "                optimizer.zero_grad()\n"),
    _in(PLAIN, "penalty_in_the_loss", "adds an L1 penalty on the weights to the loss", (2, 7),
        "loss = F.cross_entropy(logits, labels)",
        "loss = F.cross_entropy(logits, labels) + 1e-3 * sum(p.abs().sum() for p in params)"),
    _in(PLAIN, "focal_loss", "trains with the focal loss", (3, 8), "loss = F.cross_entropy(logits, labels)",
        "ce = F.cross_entropy(logits, labels, reduction='none')\n            loss = ((1 - torch.exp(-ce)) ** 2 * ce).mean()"),
    _in(PLAIN, "skips_small_batches", "leaves out batches that are smaller than the first one", (3, 7),
        _MOVED, "            full = locals().get('full') or len(images)\n            if len(images) < full:\n                continue\n"
        + _MOVED),
    _in(ACCUMULATOR, "every_batchnorm_in_eval", "sends every BatchNorm to eval mode, that of trainable layers too", (2, 7),
        "if isinstance(blk, nn.BatchNorm2d) and not blk.bias.requires_grad:", "if isinstance(blk, nn.BatchNorm2d):"),
    _in(PHASES, "batchnorm_forgotten", "lets the statistics of frozen BatchNorm layers drift", (3, 9),
        """                for module in model.modules():
                    if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                        module.eval()
""", ""),
    _in(LEARNER, "norms_frozen_before_train", "sends frozen BatchNorm to eval mode before train() switches it back", (3, 9),
        """        self.model.train(train)
        if train:
            self("before_epoch")
""", """        if train:
            self("before_epoch")
        self.model.train(train)
"""),
    _in(PLAIN, "double_precision", "turns the caller's model into one of double precision", (1, 6),
        "    device = next", "    model.double()\n    device = next", "images.to(device)", "images.to(device).double()"),
    _in(EMA_VALIDATED, "average_over_the_whole_state", "averages the whole state, which moves frozen weights in the last bit", (2, 7),
        "self.params = [p for p in model.parameters() if p.requires_grad]",
        "self.params = [t for t in model.state_dict().values() if t.is_floating_point()]",
        "torch.optim.AdamW(ema.params, lr=lr)", "torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)",
        "s.lerp_(p, 1 - self.decay)", "s.mul_(self.decay).add_(p, alpha=1 - self.decay)"),
    _in(ALL_PARAMETERS, "frozen_weights_decay", "shrinks every weight after each step, frozen ones too", (2, 8),
        "            optimizer.step()\n", "            optimizer.step()\n            for p in model.parameters():\n"
        "                p.data.mul_(1 - 1e-4)\n"),
]  # fmt: skip

WHAT_IT_REPORTS = [
    _in(NUMPY_FIGURES, "arrays_in_the_history", "returns numpy arrays in place of lists", (1, 5),
        'return {**history, "best_epoch": best_epoch}',
        'return {**{k: np.array(v) for k, v in history.items()}, "best_epoch": best_epoch}'),
    _in(ARRAYS_TO_LISTS, "table_of_all_epochs", "returns an entry for each of max_epochs, NaN for those that were not run", (2, 7),
        "table[: epoch + 1].T.tolist()", "table.T.tolist()"),
    _in(PLAIN, "tuples_in_the_history", "returns tuples in place of lists", (1, 4),
        '    history["best_epoch"] = best_epoch\n', '    history = {k: tuple(v) for k, v in history.items()}\n'
        '    history["best_epoch"] = best_epoch\n'),
    _in(QUICKSTART, "size_of_the_dataset", "divides by len(loader.dataset), which a list of batches does not have", (3, 12),
        "size, loss_sum, correct = 0, 0.0, 0.0", "size, loss_sum, correct = len(dataloader.dataset), 0.0, 0.0",
        "        size += len(X)\n", "", "size, test_loss, correct = 0, 0, 0",
        "size, test_loss, correct = len(dataloader.dataset), 0, 0", "        size += y.shape[0]\n", ""),
    _in(PLAIN, "stops_before_the_figures", "breaks out before the figures of the last epoch are in the lists", (2, 7),
        '        history["train_loss"].append(total / n)\n        history["train_acc"].append(hits / n)\n',
        "        train_loss, train_acc = total / n, hits / n\n",
        '        history["val_loss"].append(val_loss)\n        history["val_acc"].append(hits / n)\n', "        val_acc = hits / n\n",
        "                break\n", '                break\n        history["train_loss"].append(train_loss)\n'
        '        history["train_acc"].append(train_acc)\n        history["val_loss"].append(val_loss)\n'
        '        history["val_acc"].append(val_acc)\n'),
    _in(PLAIN, "second_pass_for_training_figures", "takes the training figures from a second pass after the epoch", (2, 7),
        '        history["train_loss"].append(total / n)\n        history["train_acc"].append(hits / n)\n',
        '        again = evaluate(model, train_loader)\n        history["train_loss"].append(again["loss"])\n'
        '        history["train_acc"].append(again["accuracy"])\n'),
    _in(PLAIN, "accuracy_after_the_step", "counts the hits with a second forward pass after the step", (2, 6),
        "            hits += (logits.argmax(1) == labels).sum().item()\n            n +=",
        "            with torch.no_grad():\n                hits += (model(images).argmax(1) == labels).sum().item()\n            n +="),
    _in(AVERAGE_METERS, "meters_over_batches", "averages over batches: the meters are not told how many examples a batch has", (2, 7),
        "losses.update(loss.item(), batch_size)", "losses.update(loss.item())",
        "losses.update(criterion(y_preds, targets).item(), targets.size(0))", "losses.update(criterion(y_preds, targets).item())"),
    _in(PLAIN, "training_accuracy_over_batches", "averages the training accuracy over batches, not over examples", (1, 5),
        "        total, hits, n = 0.0, 0, 0\n        for images, labels in train_loader:",
        "        total, hits, n, shares = 0.0, 0, 0, []\n        for images, labels in train_loader:",
        "            n += len(labels)\n        history", "            n += len(labels)\n"
        "            shares.append((logits.argmax(1) == labels).float().mean().item())\n        history",
        '["train_acc"].append(hits / n)', '["train_acc"].append(sum(shares) / len(shares))'),
    _in(PLAIN, "loss_of_the_last_validation_batch", "takes the loss of the last validation batch for that of the epoch", (3, 9),
        "val_loss = total / n", 'val_loss = F.cross_entropy(logits, labels).item()'),
    _in(PLAIN, "keys_of_another_library", "names the figures loss and accuracy in place of train_loss and train_acc", (2, 7),
        '"train_loss"', '"loss"', '"train_acc"', '"accuracy"'),
    _in(PLAIN, "flipped_views_in_validation", "validates on the mean of an image's logits and those of its mirror image", (3, 8),
        "                logits = model(images)\n", "                logits = (model(images) + model(images.flip(-1))) / 2\n"),
]  # fmt: skip

WHEN_IT_STOPS = [
    _in(PLAIN, "counts_only_clear_losses", "counts an epoch against patience only where its loss is above the best one by min_delta", (2, 7),
        "        else:\n            waited += 1", "        elif val_loss > best_loss + min_delta:\n            waited += 1"),
    _in(STOPPER_WITH_FILE, "stopper_off_by_one", "stops one epoch after patience is used up", (3, 7),
        "self.counter >= self.patience", "self.counter > self.patience"),
    _in(STOPPER_WITH_FILE, "stopper_without_the_end", "never loads the checkpoint: the model has the last weights", (5, 11),
        '    model.load_state_dict(torch.load("checkpoint.pt", weights_only=True))\n', ""),
    _in(WHOLE_MODEL_SAVED, "saves_every_epoch", "saves each epoch to the file of the best: the model has the last weights", (4, 11),
        "        if epoch == 0:\n            torch.save(model, PATH)\n", "        torch.save(model, PATH)\n"),
    _in(PICKLED_MODULE, "name_bound_to_the_copy", "binds its own name to the best model: the caller's has the last weights", (4, 11),
        "model.load_state_dict(best_model.state_dict())", "model = best_model"),
    _in(PHASES, "best_accuracy", "watches the validation accuracy, not the loss", (5, 13),
        "if epoch_loss < best_loss - min_delta:", "if -epoch_acc.item() < best_loss - min_delta:",
        "best_loss, best_epoch, no_improve = epoch_loss", "best_loss, best_epoch, no_improve = -epoch_acc.item()"),
    _in(PLAIN, "epochs_without_end", "ignores max_epochs", (3, 9),
        "for epoch in range(max_epochs):", "for epoch in itertools.count():"),
    _in(PLAIN, "nan_ends_training", "ends at the first loss that is NaN", (1, 5),
        "        if val_loss < best", "        if math.isnan(val_loss):\n            break\n        if val_loss < best"),
    _in(IN_MEMORY_FILE, "rounded_losses", "compares losses that are rounded to two digits", (2, 7),
        'if val["loss"] < best - min_delta:', 'if round(val["loss"], 2) < best - min_delta:',
        'best, best_epoch, waited = val["loss"]', 'best, best_epoch, waited = round(val["loss"], 2)'),
    _in(PLAIN, "best_loss_of_ten", "starts from a best loss of 10: where all are above, none improves", (1, 5),
        'float("inf")', "10.0"),
    _in(PLAIN, "averaged_at_the_end", "ends with the mean of the weights of all epochs, not with those of the best", (4, 11),
        "    model.load_state_dict(best_state)\n",
        "    for p, total_ in zip(params, sums):\n        p.data.copy_(total_ / (epoch + 1))\n",
        '    best_loss, best_epoch, waited = float("inf"), 0, 0\n',
        '    best_loss, best_epoch, waited = float("inf"), 0, 0\n    sums = [torch.zeros_like(p) for p in params]\n',
        "        model.eval()\n", "        for p, total_ in zip(params, sums):\n            total_ += p.data\n        model.eval()\n"),
    _in(PLAIN, "reference_to_the_best", "keeps the state of the best epoch without a copy", (4, 11),
        "copy.deepcopy(model.state_dict())", "model.state_dict()"),
    _in(PLAIN, "stops_by_a_window", "stops when the last patience losses are above the one before them, not by the best one", (3, 9),
        "            if waited >= patience:\n                break\n",
        '            pass\n        recent = history["val_loss"][-patience - 1:]\n'
        "        if len(recent) > patience and all(a < b for a, b in zip(recent, recent[1:])):\n            break\n"),
    _in(PLAIN, "waits_for_warm_up", "lets patience begin after three epochs", (2, 7),
        "            waited += 1\n", "            waited += epoch >= 3\n"),
]  # fmt: skip
