"""Wrong freezing and head replacement in the style of public code; each cost was fixed before any check ran."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.heads import DROPOUT_HEAD
from autograder.checks.transfer_learning.corpus.public.submission import BUILD, FREEZE, changed, wrong

_LOADED = """
    def build_transfer_model(backbone, num_classes, n_trainable):
        if num_classes < 2:
            raise ValueError(num_classes)
        model = load_backbone(backbone)
"""
_COUNTED = """
    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if not 0 <= n_trainable <= len(layers):
            raise ValueError(n_trainable)
"""

IN_FREEZE = [
    wrong(FREEZE, "prefix_of_a_name", "freezes by the beginnings of names, so that blocks.1 is also blocks.10 and the stem misses the class token",
          (3, 9), _COUNTED + """
        for layer in layers:
            on = layer in layers[len(layers) - n_trainable:]
            for name, param in model.named_parameters():
                if name.startswith(layer.name):
                    param.requires_grad = on
        return model
    """),
    wrong(FREEZE, "modules_of_the_last_layers", "thaws the modules of the last layers, which leaves out parameters that live on the model itself",
          (2, 7), _COUNTED + """
        model.requires_grad_(False)
        for layer in layers[len(layers) - n_trainable:]:
            for m in layer.modules():
                m.requires_grad_(True)
        return model
    """),
    wrong(FREEZE, "child_counter", "counts the children of the model and not its layers",
          (6, 14), """
    def freeze_layers(model, n_trainable):
        if not 0 <= n_trainable <= len(layers_of(model)):
            raise ValueError(n_trainable)
        children = list(model.children())
        ct = 0
        for child in children:
            ct += 1
            for param in child.parameters():
                param.requires_grad = ct > len(children) - n_trainable
        return model
    """),
    wrong(FREEZE, "last_tensors", "counts tensors from the end, not layers",
          (6, 14), _COUNTED + """
        weights = list(model.named_parameters())
        for i, (name, weight) in enumerate(weights):
            weight.requires_grad_(i >= len(weights) - n_trainable)
        return model
    """),
    wrong(FREEZE, "gradients_set_to_none", "takes the gradients away instead of asking for none: nothing is frozen",
          (10, 20), _COUNTED + """
        for layer in layers[: len(layers) - n_trainable]:
            for p in layer.parameters():
                p.grad = None
        return model
    """),
    wrong(FREEZE, "no_grad_block", "touches the parameters under no_grad, which freezes nothing",
          (10, 20), _COUNTED + """
        with torch.no_grad():
            for layer in layers[: len(layers) - n_trainable]:
                for p in layer.parameters():
                    p.copy_(p.detach())
        return model
    """),
    wrong(FREEZE, "head_alone", "always leaves the head alone trainable, as for feature extraction",
          (6, 14), _COUNTED + """
        for param in model.parameters():
            param.requires_grad = False
        for param in model.get_classifier().parameters():
            param.requires_grad = True
        return model
    """),
    wrong(FREEZE, "norms_stay_trainable", "never freezes normalisation layers",
          (3, 10), _COUNTED + """
        for i, layer in enumerate(layers):
            for m in layer.modules():
                norm = isinstance(m, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm))
                for p in m.parameters(recurse=False):
                    p.requires_grad = norm or i >= len(layers) - n_trainable
        return model
    """),
    wrong(FREEZE, "head_with_the_norm_before_it", "lets the parameters right before the head be trained with it",
          (3, 9), _COUNTED + """
        names = [name for name, _ in model.named_parameters()]
        trainable = {name for layer in layers[len(layers) - n_trainable:] for name, _ in layer.named_parameters()}
        head = [name for name, _ in layers[-1].named_parameters()]
        if n_trainable:
            trainable.update(names[names.index(head[0]) - 2:])
        for name, p in model.named_parameters():
            p.requires_grad = name in trainable
        return model
    """),
    wrong(FREEZE, "names_of_net12", "knows the names of net12's layers alone, and freezes every layer of another model",
          (3, 10), """
    NAMES = ["stem", *(f"stages.{i}.conv{j}" for i in range(3) for j in (1, 2, 3)), "final_conv", "head"]

    def freeze_layers(model, n_trainable):
        if not 0 <= n_trainable <= len(layers_of(model)):
            raise ValueError(n_trainable)
        on = NAMES[len(NAMES) - n_trainable:] if n_trainable <= len(NAMES) else NAMES
        for name, p in model.named_parameters():
            p.requires_grad = any(name.startswith(prefix + ".") for prefix in on)
        return model
    """),
    wrong(FREEZE, "flag_on_layers", "sets an attribute of the layers, which they refuse: every call raises",
          (10, 20), _COUNTED + """
        for i, layer in enumerate(layers):
            layer.requires_grad = i >= len(layers) - n_trainable
        return model
    """),
    wrong(FREEZE, "weights_alone", "freezes and thaws what is called weight, and no bias",
          (3, 8), _COUNTED + """
        for i, layer in enumerate(layers):
            for name, p in layer.named_parameters():
                if name.endswith("weight"):
                    p.requires_grad = i >= len(layers) - n_trainable
        return model
    """),
    wrong(FREEZE, "counts_from_one", "numbers layers from 1 and compares as from 0: one layer too many is trainable",
          (4, 10), _COUNTED + """
        for i, layer in enumerate(layers, 1):
            for p in layer.parameters():
                p.requires_grad = i >= len(layers) - n_trainable
        return model
    """),
    wrong(FREEZE, "freezes_but_never_thaws", "a second call with a larger number thaws nothing",
          (2, 7), _COUNTED + """
        for layer in layers[: len(layers) - n_trainable]:
            for param in layer.parameters():
                param.requires_grad = False
        return model
    """),
    wrong(FREEZE, "prints_and_gives_up", "prints a message in place of raising ValueError",
          (1, 4), """
    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if n_trainable < 0 or n_trainable > len(layers):
            print("n_trainable must be between 0 and", len(layers))
            return model
        for i, layer in enumerate(layers):
            for p in layer.parameters():
                p.requires_grad = i >= len(layers) - n_trainable
        return model
    """),
]  # fmt: skip

IN_BUILD = [
    wrong(BUILD, "model_head_fc", "writes model.head.fc, which other architectures than the course's do not have",
          (3, 10), _LOADED + """
        model.head.fc = nn.Linear(model.head.fc.in_features, num_classes)
        return freeze_layers(model, n_trainable)
    """),
    wrong(BUILD, "fc_as_in_resnets", "puts the new head at model.fc, which net12 never calls: the old head answers",
          (4, 12), _LOADED + """
        model.fc = nn.Linear(model.num_features, num_classes)
        freeze_layers(model, n_trainable)
        return model
    """),
    wrong(BUILD, "wrapped_with_a_new_head", "returns a wrapper around the backbone in place of the timm model",
          (4, 12), """
    class TransferModel(nn.Module):
        def __init__(self, body, num_classes):
            super().__init__()
            self.body = body
            self.fc = nn.Linear(body.num_features, num_classes)

        def forward(self, x):
            return self.fc(self.body(x))

    def build_transfer_model(backbone, num_classes, n_trainable):
        if num_classes < 2:
            raise ValueError(num_classes)
        body = load_backbone(backbone)
        body.reset_classifier(0)
        layers = layers_of(body)
        for i, layer in enumerate(layers):
            for p in layer.parameters():
                p.requires_grad = i >= len(layers) + 1 - n_trainable
        model = TransferModel(body, num_classes)
        model.fc.requires_grad_(n_trainable > 0)
        return model
    """),
    wrong(BUILD, "new_head_after_freezing", "freezes first and puts the head in then, which is always trainable",
          (2, 6), _LOADED + """
        freeze_layers(model, n_trainable)
        model.reset_classifier(num_classes)
        return model
    """),
    changed(DROPOUT_HEAD, BUILD, "softmax_in_the_head", "ends with a softmax: probabilities where logits are asked for",
            (2, 7), "nn.Linear(n_features, num_classes))", "nn.Linear(n_features, num_classes), nn.Softmax(dim=1))"),
    wrong(BUILD, "cached_backbone", "caches the backbone and changes it at each call: all models are one",
          (2, 7), """
    from functools import lru_cache

    @lru_cache(maxsize=None)
    def get_backbone(name):
        return load_backbone(name)

    def build_transfer_model(backbone, num_classes, n_trainable):
        if num_classes < 2:
            raise ValueError(num_classes)
        model = get_backbone(backbone)
        model.reset_classifier(num_classes)
        return freeze_layers(model, n_trainable)
    """),
    wrong(BUILD, "adapters_in_convolutions", "puts adapters around the convolutions, so that pretrained weights have other names",
          (3, 10), """
    class LoRAConv(nn.Module):
        def __init__(self, conv, r=2):
            super().__init__()
            self.conv = conv
            self.down = nn.Conv2d(conv.in_channels, r, 1, stride=conv.stride, bias=False)
            self.up = nn.Conv2d(r, conv.out_channels, 1, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x):
            return self.conv(x) + self.up(self.down(x))
    """ + _LOADED + """
        model.reset_classifier(num_classes)
        freeze_layers(model, n_trainable)
        for m in list(model.modules()):
            for name, child in list(m.named_children()):
                if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.groups == 1:
                    setattr(m, name, LoRAConv(child))
        return model
    """),
    wrong(BUILD, "linear_probe_always", "freezes all but the head, whatever n_trainable is",
          (4, 10), _LOADED + """
        for param in model.parameters():
            param.requires_grad = False
        model.reset_classifier(num_classes)
        return model
    """),
    wrong(BUILD, "head_replaced_by_a_linear_layer", "replaces model.head whole, pooling and all: the model of the course no longer runs",
          (6, 16), _LOADED + """
        model.head = nn.Linear(model.num_features, num_classes)
        return freeze_layers(model, n_trainable)
    """),
    wrong(BUILD, "only_if_classes_differ", "replaces the head only where the number of classes differs",
          (2, 6), _LOADED + """
        if model.num_classes != num_classes:
            model.reset_classifier(num_classes)
        return freeze_layers(model, n_trainable)
    """),
    wrong(BUILD, "class_names_or_number", "accepts a single class and none: no ValueError",
          (1, 4), """
    def build_transfer_model(backbone, num_classes, n_trainable):
        assert num_classes is not None
        model = load_backbone(backbone)
        model.reset_classifier(num_classes)
        return freeze_layers(model, n_trainable)
    """),
    wrong(BUILD, "initialises_every_linear_layer", "draws new weights for every linear layer and convolution, not for the head alone",
          (4, 12), """
    def init_weights(m):
        if isinstance(m, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(m.weight)
    """ + _LOADED + """
        model.reset_classifier(num_classes)
        model.apply(init_weights)
        return freeze_layers(model, n_trainable)
    """),
]  # fmt: skip
