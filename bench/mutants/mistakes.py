"""Mistakes that people make in this lab, each made once in a plain correct function, and described in words."""

from __future__ import annotations

from dataclasses import dataclass

from tests.helpers.variants import CELLS, WRONG, Variant, _wrong

_FREEZE, _BUILD, _TRAIN = CELLS
_STATE = "copy.deepcopy(model.state_dict())"
_IMPROVES = "if val_loss < best_loss - min_delta:"
_SUM = 'total += F.cross_entropy(logits, labels, reduction="sum").item()'
_NORMS = """        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
"""


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        id: short and unique.
        name: the mistake in words, as a clause: "restores the last instead of the best weights".
        exercise: the exercise in which it is made.
        source: source of that exercise's cell.
    """

    id: str
    name: str
    exercise: str
    source: str


# names of the mistakes that are also graded with the command line
_NAMES = {
    "freezes_the_last": "freezes the last layers instead of the first",
    "off_by_one": "leaves one layer too few trainable",
    "never_thaws": "freezes, but never thaws",
    "returns_nothing": "does not return the model",
    "freezes_a_copy": "freezes a copy of the model",
    "no_upper_bound": "accepts more layers than there are",
    "skips_biases": "freezes weights, but no biases or BatchNorm parameters",
    "misses_root_parameters": "misses parameters that live on the model itself",
    "old_head_kept_for_ten_classes": "keeps the old head where the number of classes is the same",
    "head_not_replaced": "keeps the old head",
    "not_pretrained": "starts from random weights",
    "one_model_for_all": "gives the same model out again",
    "freezes_before_new_head": "freezes before the new head is put in",
    "does_not_freeze": "builds without freezing",
    "accepts_one_class": "accepts a single class",
    "always_net12": "ignores the name of the backbone",
    "patience_one_too_many": "waits one epoch longer than patience",
    "patience_over_all_epochs": "counts epochs without improvement over the whole training, not in a row",
    "best_by_reference": "keeps a reference to the weights instead of a copy",
    "last_weights": "leaves the model with the last weights",
    "buffers_not_restored": "restores parameters, but no buffers",
    "means_over_batches": "averages the validation loss over batches, not over examples",
    "train_mode_once": "switches to train mode once, before the first epoch",
    "validates_in_train_mode": "validates in train mode",
    "validates_with_gradients": "validates with gradients switched on",
    "gradients_pile_up": "never clears the gradients",
    "trains_on_validation": "trains on the validation data as well",
    "min_delta_ignored": "ignores min_delta",
    "ties_improve": "takes NaN for an improvement",
    "tensors_in_history": "keeps tensors in the history",
    "best_epoch_from_one": "counts the best epoch from 1",
    "statistics_drift": "lets the BatchNorm statistics of frozen layers drift",
    "percent": "gives accuracies in percent",
    "accepts_patience_zero": "accepts patience 0",
    "learning_rate_ignored": "ignores the learning rate",
}


def _known(variant: Variant) -> Mistake:
    ((exercise, source),) = variant.sources.items()
    return Mistake(variant.name, _NAMES[variant.name], exercise, source)


def _mistake(exercise: str, id_: str, name: str, *texts: str) -> Mistake:
    """Make a mistake by replacing ``texts`` in the plain correct function: old, new, old, new, ..."""
    return Mistake(id_, name, exercise, _wrong(id_, exercise, *texts, loses=()).sources[exercise])


_GRAD = "p.requires_grad = index >= cut"
_BOUNDS = "not 0 <= n_trainable <= len(layers)"
_LAYERS = "layers = layers_of(model)"
_LOOP = "    for index, layer in enumerate(layers):\n        for p in layer.parameters():\n            " + _GRAD

_IN_FREEZE = [
    ("slice_from_the_end", "takes the last 0 layers for all of them", _LOOP,
     "    for p in model.parameters():\n        p.requires_grad = False\n"
     "    for layer in layers[-n_trainable:]:\n        for p in layer.parameters():\n            p.requires_grad = True"),
    ("refuses_all_layers", "refuses to leave all layers trainable", _BOUNDS, "not 0 <= n_trainable < len(layers)"),
    ("refuses_zero", "refuses to freeze everything", _BOUNDS, "not 0 < n_trainable <= len(layers)"),
    ("accepts_negative", "accepts negative numbers of layers", _BOUNDS, "n_trainable > len(layers)"),
    ("one_more_than_layers", "accepts one layer more than there are", _BOUNDS, "not 0 <= n_trainable <= len(layers) + 1"),
    ("clamps", "bends impossible numbers of layers instead of refusing them",
     'raise ValueError("n_trainable")', "n_trainable = max(0, min(n_trainable, len(layers)))"),
    ("asserts", "refuses impossible numbers of layers with another error",
     f'if {_BOUNDS}:\n        raise ValueError("n_trainable")', "assert 0 <= n_trainable <= len(layers)"),
    ("one_layer_too_many", "leaves one layer too many trainable", _GRAD, "p.requires_grad = index >= cut - 1"),
    ("head_always_frozen", "freezes the head as well", _GRAD, "p.requires_grad = cut <= index < len(layers) - 1"),
    ("head_always_trainable", "leaves the head trainable whatever is asked for",
     _GRAD, "p.requires_grad = index >= cut or index == len(layers) - 1"),
    ("only_that_layer", "leaves one layer trainable and not the last ones", _GRAD, "p.requires_grad = index == cut"),
    ("counts_children", "counts the model's top modules instead of its layers", _LAYERS, "layers = list(model.children())"),
    ("counts_parameters", "counts parameters instead of layers", _LOOP,
     "    parameters = list(model.parameters())\n    for index, p in enumerate(parameters):\n"
     "        p.requires_grad = index >= len(parameters) - n_trainable"),
    ("counts_for_net12", "takes every model for one of 12 layers", "cut = len(layers) - n_trainable", "cut = 12 - n_trainable"),
    ("flag_on_modules", "sets requires_grad on modules, where it has no effect", _LOOP,
     "    for index, layer in enumerate(layers):\n        for m in layer.modules():\n            m.requires_grad = index >= cut"),
    ("only_convolutions", "freezes convolutions only", "for p in layer.parameters():\n            " + _GRAD,
     "for p in [m.weight for m in layer.modules() if isinstance(m, nn.Conv2d)]:\n            " + _GRAD),
    ("never_freezes_again", "thaws, but never freezes again", _GRAD,
     "p.requires_grad |= index >= cut" if False else "p.requires_grad = index >= cut or getattr(p, 'was_thawed', False)\n"
     "            p.was_thawed = p.requires_grad"),
    ("freezes_first_call_only", "does nothing when it is called again", _LAYERS,
     "layers = layers_of(model)\n    if getattr(model, 'is_frozen', False):\n        return model\n    model.is_frozen = True"),
    ("zeroes_frozen", "sets frozen weights to zero", _GRAD, _GRAD + "\n            p.data.mul_(index >= cut)"),
    ("resets_statistics", "resets the statistics of frozen BatchNorm layers", "        for p in layer.parameters():",
     "        for m in layer.modules():\n            if index < cut and hasattr(m, 'reset_running_stats'):\n"
     "                m.reset_running_stats()\n        for p in layer.parameters():"),
    ("resets_trainable", "starts the trainable layers from random weights", "        for p in layer.parameters():",
     "        for m in layer.modules():\n            if index >= cut and hasattr(m, 'reset_parameters'):\n"
     "                m.reset_parameters()\n        for p in layer.parameters():"),
    ("returns_layers", "returns the layers instead of the model", "    return model", "    return layers"),
    ("thaws_modules", "thaws modules, and leaves parameters of the model itself frozen", _LOOP,
     "    model.requires_grad_(False)\n    for layer in layers[cut:]:\n        for m in layer.modules():\n            m.requires_grad_(True)"),
    ("thaws_the_last_norm", "thaws the norm next to the head together with the head", "    return model",
     "    if n_trainable:\n        norms = [m for m in model.modules() if 'Norm' in type(m).__name__]\n"
     "        norms[-1].requires_grad_(True)\n    return model"),
    ("fails_for_many", "fails from 5 trainable layers on", _LAYERS, _LAYERS + "\n    assert n_trainable not in (5, 6)"),
    ('return_in_loop', 'returns from within the loop, so that only the first layer is handled',
     '    return model\n',
     '        return model\n'),
    ('assigns_method', 'assigns the answer to requires_grad_, the name of the method, and not to requires_grad: no flag changes',
     'p.requires_grad = index >= cut',
     'p.requires_grad_ = index >= cut'),
    ('cut_is_n', 'takes n_trainable for the number of layers to be frozen from the input on',
     'cut = len(layers) - n_trainable',
     'cut = n_trainable'),
    ('skips_stem', 'leaves the first layer out of the loop, as if the stem were no layer: its flags stay as they were',
     'enumerate(layers):',
     'enumerate(layers[1:], 1):'),
    ('full_is_nothing', 'takes a call with all layers trainable for nothing to do and returns at once: what was frozen before stays frozen',
     '    cut = len(layers) - n_trainable\n',
     '    if n_trainable == len(layers):\n        return model\n    cut = len(layers) - n_trainable\n'),
    ('counts_unfrozen', 'counts only the layers that are still trainable: after a first call a larger number raises ValueError',
     'layers = layers_of(model)',
     'layers = [layer for layer in layers_of(model) if any(p.requires_grad for p in layer.parameters())]'),
]  # fmt: skip

_HEAD = "model.reset_classifier(num_classes)"
_LOAD = "model = load_backbone(backbone)"
_THEN_FREEZE = "freeze_layers(model, n_trainable)"
_IN_BUILD = [
    ("one_output_too_many", "gives the head one output too many", _HEAD, "model.reset_classifier(num_classes + 1)"),
    ("no_head", "takes the head off and puts none on", _HEAD, "model.reset_classifier(0)"),
    ("build_returns_nothing", "does not return the model it built", "    return model", "    return None"),
    ("returns_layers_of_model", "returns the layers of the model it built", "    return model", "    return layers_of(model)"),
    ("always_linear_probe", "always leaves the head alone trainable", _THEN_FREEZE, "freeze_layers(model, 1)"),
    ("freezes_n", "freezes n_trainable layers instead of all but n_trainable", _THEN_FREEZE,
     "freeze_layers(model, len(layers_of(model)) - n_trainable)\n"
     "    for layer in layers_of(model)[: n_trainable]:\n        for p in layer.parameters():\n            p.requires_grad = False\n"
     "    for layer in layers_of(model)[n_trainable:]:\n        for p in layer.parameters():\n            p.requires_grad = True"),
    ("freezes_all", "freezes everything, the new head too", _THEN_FREEZE,
     "freeze_layers(model, n_trainable)\n    model.requires_grad_(False)"),
    ("thaws_after", "thaws everything after freezing", _THEN_FREEZE,
     "freeze_layers(model, n_trainable)\n    model.requires_grad_(True)"),
    ("ignores_classes", "always builds a head for five classes", _HEAD, "model.reset_classifier(5)"),
    ("refuses_two_classes", "refuses two classes", "num_classes < 2", "num_classes <= 2"),
    ("another_error", "refuses too few classes with another error", "raise ValueError", "raise RuntimeError"),
    ("negative_classes", "accepts negative numbers of classes", "num_classes < 2", "num_classes in (0, 1)"),
    ("trainable_from_scratch", "starts the trainable layers of the backbone from random weights", _HEAD, _HEAD +
     "\n    for layer in layers_of(model)[len(layers_of(model)) - n_trainable :]:\n        for m in layer.modules():\n"
     "            if hasattr(m, 'reset_parameters'):\n                m.reset_parameters()"),
    ("all_from_scratch", "draws all pretrained weights again", _HEAD, _HEAD +
     "\n    for m in model.modules():\n        if hasattr(m, 'reset_parameters'):\n            m.reset_parameters()"),
    ("statistics_from_scratch", "resets the pretrained BatchNorm statistics", _HEAD, _HEAD +
     "\n    for m in model.modules():\n        if hasattr(m, 'reset_running_stats'):\n            m.reset_running_stats()"),
    ("parameters_alone", "takes over the pretrained parameters, but no BatchNorm statistics", _LOAD,
     "model = timm.create_model(backbone)\n    for p, q in zip(model.parameters(), load_backbone(backbone).parameters()):\n"
     "        p.data.copy_(q.data)"),
    ("head_on_head", "puts a new layer behind the old head", _HEAD, "model = nn.Sequential(model, nn.Linear(10, num_classes))"),
    ("rows_of_old_head", "starts the new head from rows of the old one", _HEAD,
     "old = model.get_classifier().weight.detach().clone()\n    model.reset_classifier(num_classes)\n"
     "    model.get_classifier().weight.data[: len(old)] = old[:num_classes]"),
    ("shared_body", "shares the body between models", _LOAD,
     "model = copy.copy(BODIES.setdefault(backbone, load_backbone(backbone)))\n"
     "    model._modules = dict(model._modules)\n    top = layers_of(model)[-1].name.split('.')[0]\n"
     "    setattr(model, top, copy.deepcopy(getattr(model, top)))",
     "\ndef build", "BODIES = {}\n\ndef build"),
    ("shared_head", "shares one head between models", _HEAD,
     "model.reset_classifier(num_classes)\n    parent, _, child = layers_of(model)[-1].name.rpartition('.')\n"
     "    head = HEADS.setdefault((backbone, num_classes), model.get_classifier())\n"
     "    setattr(model.get_submodule(parent), child, head)",
     "\ndef build", "HEADS = {}\n\ndef build"),
    ("noise", "disturbs the pretrained weights", _HEAD, _HEAD +
     "\n    with torch.no_grad():\n        for p in model.parameters():\n            p += 1e-4 * torch.randn_like(p)"),
    ("half_precision", "leaves the model in half precision", _HEAD, _HEAD + "\n    model.bfloat16().float()"),
    ("head_fc_by_name", "puts the head in under the name that net12 has for it", _HEAD,
     "model.head.fc = nn.Linear(model.head.fc.in_features, num_classes)"),
    ("always_net6", "always builds net6", _LOAD, 'model = load_backbone("net6")'),
    ("wraps", "wraps the model in a class of its own", "    return model", "    return Net(model)",
     "\ndef build", "class Net(nn.Module):\n    def __init__(self, model):\n        super().__init__()\n        self.model = model\n\n"
     "    def forward(self, x):\n        return self.model(x)\n\ndef build"),
    ("low_rank", "gives convolutions low-rank adapters under names of their own", _THEN_FREEZE,
     _THEN_FREEZE + "\n    for name, m in list(model.named_modules()):\n        if isinstance(m, nn.Conv2d):\n"
     "            parent, _, child = name.rpartition('.')\n            setattr(model.get_submodule(parent), child, Adapted(m))",
     "\ndef build", "class Adapted(nn.Module):\n    def __init__(self, conv):\n        super().__init__()\n        self.conv = conv\n"
     "        self.down = nn.Conv2d(conv.in_channels, 2, conv.kernel_size, conv.stride, conv.padding, bias=False)\n"
     "        self.up = nn.Conv2d(2, conv.out_channels, 1, bias=False)\n        nn.init.zeros_(self.up.weight)\n\n"
     "    def forward(self, x):\n        return self.conv(x) + self.up(self.down(x))\n\ndef build"),
    ("returns_a_pair", "returns model and head", "    return model", "    return model, model.get_classifier()"),
    ('freezes_by_classes', 'hands num_classes to freeze_layers in place of n_trainable',
     'freeze_layers(model, n_trainable)',
     'freeze_layers(model, num_classes)'),
    ('head_extra', 'counts the head on top of n_trainable: one layer more is trainable, and all layers raise ValueError',
     'freeze_layers(model, n_trainable)',
     'freeze_layers(model, n_trainable + 1)'),
    ('binary_one_output', 'gives the head a single output where there are two classes, as for a sigmoid',
     'model.reset_classifier(num_classes)',
     'model.reset_classifier(num_classes if num_classes > 2 else 1)'),
    ('fc_in_name', 'takes every layer with fc in its name for the head and resets its weights: other models lose those of their MLPs',
     '    model.reset_classifier(num_classes)\n',
     '    model.reset_classifier(num_classes)\n    from torch import nn\n    for name, module in model.named_modules():\n        if "fc" in name and isinstance(module, (nn.Linear, nn.Conv2d)):\n            module.reset_parameters()\n'),
    ('frozen_bn_everywhere', "turns every BatchNorm into timm's frozen one, that of the trainable layers too, whose scale and shift are no parameters any more",
     '    freeze_layers(model, n_trainable)\n',
     '    freeze_layers(model, n_trainable)\n    from timm.layers import freeze_batch_norm_2d\n    model = freeze_batch_norm_2d(model)\n'),
]  # fmt: skip

_STEP = "            loss.backward()\n            optimizer.step()\n"
_CLEAR = "            optimizer.zero_grad()\n"
_TRAIN_LOSS = "loss = F.cross_entropy(logits, labels)"
_VALIDATION = "for images, labels in val_loader:"
_PARAMS = "params = [p for p in model.parameters() if p.requires_grad]"
_RESTORE = "    model.load_state_dict(best_state)\n"
_BEST = "best_loss, best_epoch, waited = val_loss, epoch, 0"
_STOP = "            if waited >= patience:\n                break\n"
_WAIT = "            waited += 1\n" + _STOP
_FIRST = f"        if best_state is None:\n            best_state = {_STATE}\n"
_KEEP = f"            {_BEST}\n            best_state = {_STATE}\n"
_REFUSE = "if max_epochs < 1 or patience < 1:"
_START = 'best_loss, best_epoch, waited = float("inf"), 0, 0'
_IN_TRAIN = [
    # when it stops
    ("patience_one_too_few", "stops one epoch before patience is used up", "waited >= patience", "waited >= patience - 1"),
    ("stops_at_once", "stops at the first epoch without improvement", "waited >= patience", "waited >= 1"),
    ("never_stops", "never stops early", _STOP, ""),
    ("patience_in_all", "stops at the first epoch without improvement once patience epochs have been run",
     "if waited >= patience:", "if epoch + 1 >= patience:"),
    ("one_epoch_more", "runs one epoch more than max_epochs", "range(max_epochs)", "range(max_epochs + 1)"),
    ("one_epoch_less", "runs one epoch less than max_epochs", "range(max_epochs)", "range(max_epochs - 1)"),
    ("compares_with_last", "compares with the epoch before instead of the best one", _WAIT, _WAIT + "        best_loss = val_loss\n"),
    ("best_loss_lowered", "lets the best loss move without an improvement", _WAIT,
     _WAIT + "        best_loss = min(best_loss, val_loss)\n"),
    ("forgets_best_loss", "takes every epoch for an improvement", _BEST, "best_epoch, waited = epoch, 0"),
    ("min_delta_wrong_sign", "adds min_delta where it has to be subtracted", "best_loss - min_delta", "best_loss + min_delta"),
    ("min_delta_relative", "takes min_delta for a share of the best loss", "best_loss - min_delta", "best_loss * (1 - min_delta)"),
    ("min_delta_only_to_stop", "uses min_delta to stop, but not to choose the best epoch", _WAIT, _WAIT +
     f"        if val_loss < lowest:\n            lowest, best_epoch = val_loss, epoch\n            best_state = {_STATE}\n",
     _START, _START + '\n    lowest = float("inf")'),
    ("equal_improves", "takes a loss that is as low as the best one for an improvement", "val_loss < best_loss", "val_loss <= best_loss"),
    ("higher_improves", "takes a higher loss for an improvement", _IMPROVES, "if val_loss > best_loss - min_delta or epoch == 0:"),
    ("watches_accuracy", "watches the validation accuracy instead of the loss", _IMPROVES, "if -hits / n < best_loss - min_delta:",
     "best_loss, best_epoch, waited = val_loss", "best_loss, best_epoch, waited = -hits / n"),
    ("watches_train_loss", "watches the training loss instead of the validation loss", _IMPROVES,
     'if history["train_loss"][-1] < best_loss - min_delta:', "best_loss, best_epoch, waited = val_loss",
     'best_loss, best_epoch, waited = history["train_loss"][-1]'),
    ("starts_from_one", "starts from a best loss of 1", 'float("inf")', "1.0"),
    ("starts_from_ten", "starts from a best loss of 10", 'float("inf")', "10.0"),
    ("starts_from_zero", "starts from a best loss of 0", 'float("inf")', "0.0"),
    ("nan_stops", "stops at a loss that is NaN", _IMPROVES, f"if val_loss != val_loss:\n            break\n        {_IMPROVES}"),
    ("nan_not_counted", "does not count epochs whose loss is NaN", _IMPROVES,
     f"if val_loss != val_loss:\n            continue\n        {_IMPROVES}"),
    ("nan_as_first_best", "takes the first loss for the best, also when it is NaN", _IMPROVES,
     "if epoch == 0 or val_loss < best_loss - min_delta:"),
    ("patience_from_epoch_0", "takes epoch 0 for an improvement whatever its loss is, and waits from there",
     _WAIT, "            if epoch - best_epoch >= patience:\n                break\n"),
    ("nothing_to_restore", "has no weights to go back to where no loss was a number", _FIRST, ""),
    ("accepts_no_epochs", "accepts max_epochs 0", _REFUSE, "if patience < 1:"),
    ("refuses_long_patience", "refuses a patience longer than max_epochs", _REFUSE,
     "if max_epochs < 1 or patience < 1 or patience > max_epochs:"),
    ("train_another_error", "refuses impossible arguments with another error", "raise ValueError", "raise RuntimeError"),
    # what it remembers
    ("shallow_copy", "copies the dictionary of the weights, but not the weights", _STATE, "copy.copy(model.state_dict())"),
    ("keeps_last_state", "remembers the last state as the best", _WAIT, _WAIT + f"        best_state = {_STATE}\n"),
    ("keeps_first_state", "goes back to the first epoch", f"            {_BEST}\n            best_state = {_STATE}\n", f"            {_BEST}\n"),
    ("state_before_epoch", "remembers the weights from before the best epoch", "        model.train()\n",
     f"        before = {_STATE}\n        model.train()\n", _KEEP, f"            {_BEST}\n            best_state = before\n"),
    ("restores_initial", "goes back to the weights from before the training",
     f"            {_BEST}\n            best_state = {_STATE}\n", f"            {_BEST}\n", "    best_state = None\n", f"    best_state = {_STATE}\n"),
    ("restores_buffers_alone", "restores buffers, but no parameters", _RESTORE,
     "    model.load_state_dict({k: v for k, v in best_state.items() if k in dict(model.named_buffers())}, strict=False)\n"),
    ("restores_only_when_stopped", "restores the best weights only when it has stopped early", _RESTORE,
     "    if waited >= patience:\n        model.load_state_dict(best_state)\n"),
    ("restores_a_copy", "restores the best weights into a copy of the model", _RESTORE,
     "    model = copy.deepcopy(model)\n    model.load_state_dict(best_state)\n"),
    ("best_epoch_last", "returns the last epoch as the best", '"best_epoch"] = best_epoch', '"best_epoch"] = epoch'),
    ("best_epoch_first", "always returns epoch 0 as the best", "best_loss, best_epoch, waited = val_loss, epoch, 0", "best_loss, waited = val_loss, 0"),
    ("best_epoch_lowest", "returns the epoch of the lowest loss, improvement or not", '"best_epoch"] = best_epoch',
     '"best_epoch"] = min(range(len(history["val_loss"])), key=history["val_loss"].__getitem__)'),
    ("best_epoch_loss", "returns the best loss in place of the best epoch", '"best_epoch"] = best_epoch', '"best_epoch"] = best_loss'),
    ("without_best_epoch", "does not return the best epoch", '    history["best_epoch"] = best_epoch\n', ""),
    ("history_up_to_best", "cuts the history at the best epoch", "    return history",
     '    return {k: v[: best_epoch + 1] if k != "best_epoch" else v for k, v in history.items()}'),
    ("train_returns_model", "returns the model in place of the history", "    return history", "    return model"),
    ("returns_both", "returns model and history", "    return history", "    return model, history"),
    ("train_returns_nothing", "does not return the history", "    return history\n", ""),
    # how it trains
    ("never_steps", "never takes a step", "            optimizer.step()\n", ""),
    ("never_backward", "never computes gradients", "            loss.backward()\n", ""),
    ("steps_before_backward", "steps before the gradients are computed", _STEP, "            optimizer.step()\n            loss.backward()\n",
     ),
    ("clears_before_step", "clears the gradients right before the step", _STEP,
     "            loss.backward()\n            optimizer.zero_grad()\n            optimizer.step()\n"),
    ("clears_once_an_epoch", "clears the gradients once an epoch", _CLEAR, "",
     "        for images, labels in train_loader:\n", "        optimizer.zero_grad()\n        for images, labels in train_loader:\n"),
    ("steps_once_an_epoch", "steps once an epoch", _STEP, "            loss.backward()\n", _CLEAR, "",
     '        history["train_loss"].append(total / n)\n',
     '        optimizer.step()\n        optimizer.zero_grad()\n        history["train_loss"].append(total / n)\n'),
    ("reversed", "goes up the gradient instead of down", "loss.backward()", "(-loss).backward()"),
    ("detached", "detaches the logits from the graph", "            logits = model(images)\n            loss",
     "            logits = model(images).detach().requires_grad_()\n            loss"),
    ("trains_without_gradients", "switches gradients off while training", "        for images, labels in train_loader:",
     "        torch.set_grad_enabled(False)\n        for images, labels in train_loader:"),
    ("softmax", "applies softmax before the cross-entropy", _TRAIN_LOSS, "loss = F.cross_entropy(logits.softmax(1), labels)"),
    ("nll_of_logits", "takes logits for log-probabilities", _TRAIN_LOSS, "loss = F.nll_loss(logits, labels)"),
    ("squared_error", "trains with the squared error", _TRAIN_LOSS,
     "loss = F.mse_loss(logits.softmax(1), F.one_hot(labels, logits.shape[1]).float())"),
    ("label_smoothing", "trains with smoothed labels", _TRAIN_LOSS, "loss = F.cross_entropy(logits, labels, label_smoothing=0.1)"),
    ("trains_each_batch_twice", "takes two steps on each batch", _STEP,
     _STEP + "            optimizer.zero_grad()\n            F.cross_entropy(model(images), labels).backward()\n            optimizer.step()\n"),
    ("learning_rate_fixed", "uses a learning rate of its own", "lr=lr)", "lr=1e-3)"),
    ("optimizer_over_head", "optimizes the last two parameter tensors alone", _PARAMS, _PARAMS + "[-2:]"),
    ("thaws_everything", "thaws everything before training", _PARAMS,
     "model.requires_grad_(True)\n    params = list(model.parameters())"),
    ("freezes_after_training", "leaves everything frozen behind", "    return history", "    model.requires_grad_(False)\n    return history"),
    ("decays_frozen", "lets weight decay shrink frozen weights", "            optimizer.step()\n",
     "            optimizer.step()\n            with torch.no_grad():\n                for p in model.parameters():\n"
     "                    p.mul_(1 - 0.01 * lr)\n"),
    ("iterator_made_once", "makes the iterator over the training batches once", "in train_loader:", "in batches:",
     "    for epoch in range(max_epochs):", "    batches = iter(train_loader)\n    for epoch in range(max_epochs):"),
    ("leaves_out_last_batch", "leaves out the last training batch", "in train_loader:", "in list(train_loader)[:-1]:"),
    ("trains_on_first_batch", "trains on the first batch alone", "in train_loader:", "in list(train_loader)[:1]:"),
    ("loaders_swapped", "trains on the validation data", "in train_loader:", "in val_loader:"),
    # modes and BatchNorm
    ("never_trains_mode", "stays in eval mode after the first validation", "        model.train()\n", ""),
    ("mode_as_it_came", "trains the first epoch in the mode in which the model came",
     "        model.train()\n", "        if epoch > 0:\n            model.train()\n"),
    ("eval_before_training", "trains in eval mode", "        model.train()\n", "        model.eval()\n"),
    ("statistics_first_epoch", "keeps the BatchNorm statistics of frozen layers in the first epoch alone",
     "            if isinstance(m, torch.nn.BatchNorm2d) and not m.weight",
     "            if epoch == 0 and isinstance(m, torch.nn.BatchNorm2d) and not m.weight"),
    ("statistics_before_train", "sends frozen BatchNorm to eval mode before train() undoes it", "        model.train()\n" + _NORMS,
     _NORMS + "        model.train()\n"),
    ("statistics_of_others", "keeps the BatchNorm statistics of the trainable layers instead of the frozen ones",
     "not m.weight.requires_grad", "m.weight.requires_grad"),
    ("norms_of_vectors", "looks for another class of BatchNorm than the model has", "torch.nn.BatchNorm2d", "torch.nn.BatchNorm1d"),
    ("root_alone_in_eval", "switches the top module alone to eval mode", "        model.eval()\n", "        model.training = False\n"),
    # what it measures
    ("validates_on_training_data", "validates on the training data", _VALIDATION, "for images, labels in train_loader:"),
    ("validates_first_batch", "validates on the first batch alone", _VALIDATION, "for images, labels in list(val_loader)[:1]:"),
    ("validates_before_training", "validates in the first epoch alone", 'val_loss = total / n',
     'val_loss = total / n if epoch == 0 else history["val_loss"][0]'),
    ("sums_not_reset", "adds the validation figures to those of the training", "        model.eval()\n        total, hits, n = 0.0, 0, 0\n",
     "        model.eval()\n"),
    ("validation_mean_per_batch", "adds up means of batches as if they were sums", _SUM, "total += F.cross_entropy(logits, labels).item()"),
    ("train_loss_over_batches", "averages the training loss over batches, not over examples", "total += loss.item() * len(labels)",
     "total += loss.item()", '["train_loss"].append(total / n)', '["train_loss"].append(total / len(train_loader))'),
    ("train_loss_of_last_batch", "reports the training loss of the last batch", '["train_loss"].append(total / n)',
     '["train_loss"].append(loss.item())'),
    ("train_loss_sum", "reports the sum of the training losses", '["train_loss"].append(total / n)', '["train_loss"].append(total)'),
    ("val_loss_sum", "reports the sum of the validation losses", "val_loss = total / n", "val_loss = total"),
    ("train_acc_count", "reports the number of hits as the accuracy", '["train_acc"].append(hits / n)', '["train_acc"].append(float(hits))'),
    ("train_acc_percent", "gives the training accuracy in percent", '["train_acc"].append(hits / n)', '["train_acc"].append(100 * hits / n)'),
    ("val_acc_over_batches", "averages the validation accuracy over batches, not over examples",
     '["val_acc"].append(hits / n)', '["val_acc"].append(sum(shares) / len(shares))',
     "with torch.no_grad():", "shares = []\n        with torch.no_grad():",
     "                n += len(labels)\n", "                n += len(labels)\n"
     "                shares.append((logits.argmax(1) == labels).float().mean().item())\n"),
    ("error_rate", "reports the share of errors as the accuracy", '["val_acc"].append(hits / n)', '["val_acc"].append(1 - hits / n)'),
    ("argmax_over_batch", "takes the lowest logit for the prediction", '                hits += (logits.argmax(1) == labels).sum().item()',
     '                hits += (logits.argmin(1) == labels).sum().item()'),
    ("lists_swapped", "swaps training and validation losses", 'history["val_loss"].append(val_loss)', 'history["train_loss"].append(val_loss)',
     'history["train_loss"].append(total / n)', 'history["val_loss"].append(total / n)'),
    ("train_tensors_in_history", "keeps tensors of the training loss", "total += loss.item() * len(labels)", "total += loss * len(labels)"),
    ("best_epoch_tensor", "returns the best epoch as a tensor", '"best_epoch"] = best_epoch', '"best_epoch"] = torch.tensor(best_epoch)'),
    ("one_entry_more", "writes the training figures down twice", 'history["train_loss"].append(total / n)',
     'history["train_loss"] += [total / n] * 2'),
    ("figures_of_best_alone", "writes down improved epochs alone", '        history["val_loss"].append(val_loss)\n', "",
     _KEEP, _KEEP + '            history["val_loss"].append(val_loss)\n'),
    ('returns_at_patience', 'returns from the loop when patience is used up, past the line that restores the best weights',
     '                break\n',
     '                history["best_epoch"] = best_epoch\n                return history\n'),
    ('one_list', 'makes the history with dict.fromkeys: all four figures go to one and the same list',
     'history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}',
     'history = dict.fromkeys(("train_loss", "train_acc", "val_loss", "val_acc"), [])'),
    ('normalises_in_place', "normalises each training batch once more, and does it in place, in the caller's own images",
     '            optimizer.zero_grad()\n',
     '            images.sub_(images.mean()).div_(images.std())\n            optimizer.zero_grad()\n'),
    ('validates_average_keeps_raw', 'validates a moving average of the weights, but remembers and restores the raw ones, which were never validated',
     '    best_state = None\n',
     '    best_state = None\n    average = copy.deepcopy(model)\n',
     '            optimizer.step()\n',
     '            optimizer.step()\n            with torch.no_grad():\n                for mean, p in zip(average.parameters(), model.parameters()):\n                    if p.requires_grad:\n                        mean.lerp_(p, 0.1)\n                for mean, b in zip(average.buffers(), model.buffers()):\n                    mean.copy_(b)\n',
     '        model.eval()\n',
     '        model.eval()\n        average.eval()\n',
     '                logits = model(images)\n                total +=',
     '                logits = average(images)\n                total +='),
    ('train_sums_not_reset', 'resets the sums of the training figures once, before the first epoch: they are means over all epochs so far',
     '    best_state = None\n',
     '    best_state = None\n    train_total, train_hits, train_n = 0.0, 0, 0\n',
     '        total, hits, n = 0.0, 0, 0\n        for images, labels in train_loader:\n',
     '        for images, labels in train_loader:\n',
     '            total += loss.item() * len(labels)\n            hits += (logits.argmax(1) == labels).sum().item()\n            n += len(labels)\n        history["train_loss"].append(total / n)\n        history["train_acc"].append(hits / n)\n',
     '            train_total += loss.item() * len(labels)\n            train_hits += (logits.argmax(1) == labels).sum().item()\n            train_n += len(labels)\n        history["train_loss"].append(train_total / train_n)\n        history["train_acc"].append(train_hits / train_n)\n'),
    ('thaws_after_two', 'thaws the frozen layers after two epochs, for a second phase of fine-tuning with a smaller learning rate',
     '        model.train()\n',
     '        if epoch == 2:\n            thawed = [p for p in model.parameters() if not p.requires_grad]\n            for p in thawed:\n                p.requires_grad = True\n            if thawed:\n                optimizer.add_param_group({"params": thawed, "lr": lr / 10})\n        model.train()\n'),
    ('smoothed_val_loss', "compares the mean of the last three validation losses, against noise, instead of the epoch's own",
     '        if val_loss < best_loss - min_delta:\n            best_loss, best_epoch, waited = val_loss, epoch, 0\n',
     '        recent = history["val_loss"][-3:]\n        smooth = sum(recent) / len(recent)\n        if smooth < best_loss - min_delta:\n            best_loss, best_epoch, waited = smooth, epoch, 0\n'),
    ('default_min_delta', 'has a default of its own for min_delta, 0.001 in place of 0',
     'min_delta=0.0',
     'min_delta=1e-3'),
    ('no_decay_group_lost', 'hands the optimizer the matrices and kernels alone: trainable biases and BatchNorm parameters are never trained',
     'params = [p for p in model.parameters() if p.requires_grad]',
     'params = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]'),
]  # fmt: skip

MISTAKES = [
    *map(_known, WRONG),
    *(_mistake(_FREEZE, *parts) for parts in _IN_FREEZE),
    *(_mistake(_BUILD, *parts) for parts in _IN_BUILD),
    *(_mistake(_TRAIN, *parts) for parts in _IN_TRAIN),
]
