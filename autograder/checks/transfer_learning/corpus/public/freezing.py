"""Correct ways to freeze layers, as in tutorials, libraries and notebooks."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

FEATURE_EXTRACT = correct(
    "feature_extract_then_unfreeze",
    "freezes every parameter, then thaws those of the last layers: all are decided at each call",
    freeze="""
    def set_parameter_requires_grad(parameters, value):
        for param in parameters:
            param.requires_grad = value

    def freeze_layers(model, n_trainable):
        blocks = layers_of(model)
        if n_trainable < 0 or n_trainable > len(blocks):
            raise ValueError(f"cannot train {n_trainable} of {len(blocks)} layers")
        set_parameter_requires_grad(model.parameters(), False)
        for block in blocks[len(blocks) - n_trainable:]:
            set_parameter_requires_grad(block.parameters(), True)
        return model
    """,
)

BY_NAMES = correct(
    "trainable_names",
    "collects the full names of the trainable parameters and compares them for equality",
    freeze="""
    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if not 0 <= n_trainable <= len(layers):
            raise ValueError("n_trainable out of range")
        trainable = set()
        for layer in layers[len(layers) - n_trainable:]:
            trainable |= {name for name, _ in layer.named_parameters()}
        for name, param in model.named_parameters():
            param.requires_grad_(name in trainable)
            # print(name, param.requires_grad)
        return model
    """,
)

BY_IDENTITY = correct(
    "identity_of_parameters",
    "the trainable parameters are known by their identity, as in layer-wise learning rates",
    freeze="""
    def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
        groups = [list(layer.parameters()) for layer in layers_of(model)]
        if n_trainable < 0 or len(groups) < n_trainable:
            raise ValueError("n_trainable=%d, but there are %d layers" % (n_trainable, len(groups)))
        tunable_ids = {id(p) for group in groups[len(groups) - n_trainable:] for p in group}
        for p in model.parameters():
            p.requires_grad = id(p) in tunable_ids
        return model
    """,
)

FREEZE_TO = correct(
    "freeze_to_of_a_learner",
    "freeze_to(k) of a learner with parameter groups: k is the first trainable group",
    freeze="""
    class Groups:
        def __init__(self, model):
            self.groups = layers_of(model)

        def freeze_to(self, k):
            for i, g in enumerate(self.groups):
                for p in g.parameters():
                    p.requires_grad_(i >= k)

        def __len__(self):
            return len(self.groups)

    def freeze_layers(model, n_trainable):
        learner = Groups(model)
        if n_trainable > len(learner) or n_trainable < 0:
            raise ValueError(n_trainable)
        learner.freeze_to(len(learner) - n_trainable)
        return model
    """,
)

KERAS_TRAINABLE = correct(
    "layer_trainable_flag",
    "a flag for each layer, first all on, then the first ones off, as with base_model.layers[:k]",
    freeze="""
    def set_trainable(layer, trainable):
        for weight in layer.parameters():
            weight.requires_grad = trainable

    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        n_layers = len(layers)
        if n_trainable not in range(n_layers + 1):
            raise ValueError(f"n_trainable must be in [0, {n_layers}]")
        for layer in layers:
            set_trainable(layer, True)
        for layer in layers[:n_layers - n_trainable]:
            set_trainable(layer, False)
        return model
    """,
)

NUMPY_MASK = correct(
    "numpy_mask",
    "a boolean mask over the layers; True goes to a parameter as a bool of Python's",
    freeze="""
    import numpy as np

    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        index = np.arange(len(layers))
        if n_trainable < 0 or n_trainable > index.size:
            raise ValueError("bad n_trainable")
        mask = index >= index.size - n_trainable
        for keep, layer in zip(mask, layers):
            for p in layer.parameters():
                p.requires_grad = bool(keep)
        return model
    """,
)

ZIP_REVERSED = correct(
    "countdown_from_the_head",
    "walks from the head to the input and counts down what may still be trained",
    freeze="""
    def freeze_layers(model, n_trainable):
        stack = list(layers_of(model))
        if n_trainable < 0:
            raise ValueError("negative")
        if n_trainable > len(stack):
            raise ValueError("too many")
        left = n_trainable
        while stack:
            layer = stack.pop()
            for p in layer.parameters():
                p.requires_grad = left > 0
            left -= 1
        return model
    """,
)

ITERTOOLS = correct(
    "chained_parameters",
    "two slices, chained: the frozen and the trainable parameters",
    freeze="""
    from itertools import chain

    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        n_frozen = len(layers) - n_trainable
        if n_frozen < 0 or n_trainable < 0:
            raise ValueError(f"{n_trainable=}")
        frozen = chain.from_iterable(l.parameters() for l in layers[:n_frozen])
        trainable = chain.from_iterable(l.parameters() for l in layers[n_frozen:])
        [p.requires_grad_(False) for p in frozen]
        [p.requires_grad_(True) for p in trainable]
        return model
    """,
)

TYPE_CHECKED = correct(
    "checks_types_first",
    "refuses what is no integer with TypeError, about which the contract says nothing, and the rest with ValueError",
    freeze="""
    import operator

    def freeze_layers(model, n_trainable):
        \"\"\"Fine-tune the last blocks.\"\"\"
        n_trainable = operator.index(n_trainable)
        layers = layers_of(model)
        total = len(layers)
        try:
            if not (0 <= n_trainable <= total):
                raise IndexError(n_trainable)
        except IndexError as error:
            raise ValueError(f"expected 0 to {total}") from error
        boundary = total - n_trainable
        for position in range(total):
            flag = False if position < boundary else True
            for _, weight in layers[position].named_parameters():
                weight.requires_grad_(flag)
        return model
    """,
)

TIMM_FROZEN_NORMS = correct(
    "timm_frozen_batchnorm",
    "timm's freeze turns BatchNorm of frozen layers into FrozenBatchNorm2d, whose weights and statistics are buffers",
    freeze="""
    from timm.utils import freeze, unfreeze

    def freeze_layers(model, n_trainable):
        n_layers = len(layers_of(model))
        if not 0 <= n_trainable <= n_layers:
            raise ValueError("n_trainable")
        unfreeze(model)
        layers = layers_of(model)
        for layer in layers[:n_layers - n_trainable]:
            inside = {id(m) for m in layer.modules()}
            for p in layer.parameters():
                p.requires_grad = False
            names = [name for name, m in model.named_modules() if id(m) in inside]
            if names:
                freeze(model, names)
        return model
    """,
)

MOMENTUM_ZERO = correct(
    "momentum_zero",
    "BatchNorm of frozen layers gets momentum 0: its statistics never move, and thawed layers get theirs back",
    freeze="""
    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if not 0 <= n_trainable <= len(layers):
            raise ValueError(n_trainable)
        for i, layer in enumerate(layers):
            frozen = i < len(layers) - n_trainable
            for p in layer.parameters():
                p.requires_grad = not frozen
            for m in layer.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm):
                    if frozen and m.momentum != 0.0:
                        m.own_momentum, m.momentum = m.momentum, 0.0
                    elif not frozen and hasattr(m, "own_momentum"):
                        m.momentum = m.own_momentum
        return model
    """,
)

NOT_TRACKED = correct(
    "not_tracked",
    "frozen BatchNorm does not track: in train mode its buffers stay, in eval mode it uses them",
    freeze="""
    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if n_trainable < 0 or n_trainable > len(layers):
            raise ValueError("0 <= n_trainable <= %d" % len(layers))
        for depth, layer in enumerate(reversed(layers)):
            on = depth < n_trainable
            for p in layer.parameters():
                p.requires_grad = on
            for module in layer.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.track_running_stats = on
        return model
    """,
)

GRADUAL = correct(
    "gradual_unfreezing",
    "unfreezes one layer after the other from the head, as ULMFiT does, up to n_trainable",
    freeze="""
    def unfreeze_one_more(model, already):
        for p in layers_of(model)[-1 - already].parameters():
            p.requires_grad = True
        return already + 1

    def freeze_layers(model, n_trainable):
        if n_trainable < 0 or n_trainable > len(layers_of(model)):
            raise ValueError("n_trainable")
        model.requires_grad_(False)
        unfrozen = 0
        while unfrozen < n_trainable:
            unfrozen = unfreeze_one_more(model, unfrozen)
        return model
    """,
)

LLAMA_STYLE = correct(
    "partition_of_a_state_dict",
    "the names of all trainable parameters as a set, as for adapters; the rest is frozen",
    freeze="""
    def get_trainable_params(model, last):
        layers = layers_of(model)
        kept = layers[len(layers) - last:]
        return {name: param for layer in kept for name, param in layer.named_parameters()}

    def set_trainable_params(model, names):
        for k, v in model.named_parameters():
            v.requires_grad_(k in names)

    def freeze_layers(model, n_trainable):
        if n_trainable < 0 or n_trainable > len(layers_of(model)):
            raise ValueError(f"n_trainable={n_trainable}")
        set_trainable_params(model, set(get_trainable_params(model, n_trainable)))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"trainable: {trained:,} of {sum(p.numel() for p in model.parameters()):,}")
        return model
    """,
)

HOOKED_NORMS = correct(
    "norms_sent_back_by_a_hook",
    "a forward hook of each frozen BatchNorm sends it to eval mode before it computes; thawing takes the hook away",
    freeze="""
    def stay_in_eval(module, args):
        module.eval()

    def freeze_layers(model, n_trainable):
        layers = layers_of(model)
        if not 0 <= n_trainable <= len(layers):
            raise ValueError("n_trainable")
        for i, layer in enumerate(layers):
            trainable = i >= len(layers) - n_trainable
            for p in layer.parameters():
                p.requires_grad = trainable
            for m in layer.modules():
                if not isinstance(m, nn.modules.batchnorm._BatchNorm):
                    continue
                if hasattr(m, "eval_hook"):
                    m.eval_hook.remove()
                    del m.eval_hook
                if not trainable:
                    m.eval_hook = m.register_forward_pre_hook(stay_in_eval)
        return model
    """,
)

FREEZING = [
    FEATURE_EXTRACT, BY_NAMES, BY_IDENTITY, FREEZE_TO, KERAS_TRAINABLE, NUMPY_MASK, ZIP_REVERSED, ITERTOOLS, TYPE_CHECKED,
    TIMM_FROZEN_NORMS, MOMENTUM_ZERO, NOT_TRACKED, GRADUAL, LLAMA_STYLE, HOOKED_NORMS,
]  # fmt: skip
