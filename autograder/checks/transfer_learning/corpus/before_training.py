"""Mistakes that people make in exercises 1 and 2, each made once in the plain correct function."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.plain import changed

_GRAD = "p.requires_grad = index >= cut"
_BOUNDS = "not 0 <= n_trainable <= len(layers)"
_LAYERS = "layers = layers_of(model)"
_LOOP = "    for index, layer in enumerate(layers):\n        for p in layer.parameters():\n            " + _GRAD

_FREEZING = [
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
_BUILDING = [
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

# name, mistake, and texts that are replaced: old, new, old, new, ...
FREEZING = [changed(name, "freeze_layers", *texts) for name, *texts in _FREEZING]
BUILDING = [changed(name, "build_transfer_model", *texts) for name, *texts in _BUILDING]
