"""Correct ``freeze_layers`` and ``build_transfer_model`` in the styles of public code.

All other functions are the plain ones.
"""

from __future__ import annotations

from autograder.labs.corpus import Solution

_CHECKED = """
    layers = layers_of(model)
    if not 0 <= n_trainable <= len(layers):
        raise ValueError("n_trainable")
"""

_FREEZE = {
    # timm replaces BatchNorm by a class without num_batches_tracked, and its parameters by buffers
    "frozen_batch_norm": f"""
from timm.layers import freeze_batch_norm_2d, unfreeze_batch_norm_2d

def freeze_layers(model, n_trainable):
    {_CHECKED.strip()}
    unfreeze_batch_norm_2d(model)
    layers = layers_of(model)
    cut = len(layers) - n_trainable
    for index, layer in enumerate(layers):
        for p in layer.parameters():
            p.requires_grad_(index >= cut)
    frozen = [name for layer in layers[:cut] for name, _ in layer.named_parameters()]
    for name, m in list(model.named_modules()):
        if isinstance(m, nn.BatchNorm2d) and name + ".weight" in frozen:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, freeze_batch_norm_2d(m))
    return model
""",
    "modules_and_rest": f"""
def freeze_layers(model, n_trainable):
    {_CHECKED.strip()}
    model.requires_grad_(False)
    for layer in layers[len(layers) - n_trainable:]:
        for m in layer.modules():
            m.requires_grad_(True)
        for p in layer.parameters():
            p.requires_grad_(True)
    return model
""",
    "param_groups": f"""
def freeze_layers(model, n_trainable):
    {_CHECKED.strip()}
    groups = [{{"params": list(layer.parameters()), "learns": i >= len(layers) - n_trainable}} for i, layer in enumerate(layers)]
    for group in groups:
        for p in group["params"]:
            p.requires_grad = group["learns"]
    return model
""",
    "by_names": f"""
def freeze_layers(model, n_trainable):
    {_CHECKED.strip()}
    learns = {{name for layer in layers[len(layers) - n_trainable:] for name, _ in layer.named_parameters()}}
    for name, p in model.named_parameters():
        p.requires_grad = name in learns
    return model
""",
    "timm_freeze": f"""
from timm.utils import freeze, unfreeze

def freeze_layers(model, n_trainable):
    {_CHECKED.strip()}
    unfreeze(model, include_bn_running_stats=False)
    if n_trainable < len(layers):
        freeze(model, include_bn_running_stats=False)
    for layer in layers[len(layers) - n_trainable:]:
        for p in layer.parameters():
            p.requires_grad_(True)
    return model
""",
}

_PUT_IN = """
    parent, _, child = layers_of(model)[-1].name.rpartition(".")
    setattr(model.get_submodule(parent), child, head)
    return freeze_layers(model, n_trainable)
"""
_LOAD = """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    linear = model.get_classifier()
"""
_BUILD = {
    "several_layers": "head = nn.Sequential(nn.Linear(linear.in_features, 32), nn.ReLU(), nn.Linear(32, num_classes))",
    "dropout": "head = nn.Sequential(nn.Dropout(0.2), linear)",
    "weight_norm": "head = nn.utils.parametrizations.weight_norm(linear)",
    "spectral_norm": "head = nn.utils.parametrizations.spectral_norm(linear)",
    "norm_and_linear": "head = nn.Sequential(nn.LayerNorm(linear.in_features), nn.Dropout(0.1), linear)",
}

# freezing that needs no function of another cell, before the new head is added
_FROZEN_AT_ONCE = """
def build_transfer_model(backbone, num_classes, n_trainable):
    if num_classes < 2:
        raise ValueError("num_classes")
    model = load_backbone(backbone)
    for p in model.parameters():
        p.requires_grad_(False)
    model.reset_classifier(num_classes)
    layers = layers_of(model)
    for i, layer in enumerate(layers):
        for p in layer.parameters():
            p.requires_grad_(i >= len(layers) - n_trainable)
    return model
"""
MODEL_STYLES = [
    *(Solution(name, {"freeze_layers": source}) for name, source in _FREEZE.items()),
    *(
        Solution(f"head_{name}", {"build_transfer_model": f"{_LOAD}    {head}{_PUT_IN}"})
        for name, head in _BUILD.items()
    ),
    Solution("frozen_at_once", {"build_transfer_model": _FROZEN_AT_ONCE}),
]
