"""Correct ways to replace the head, as in tutorials, libraries and notebooks."""

from __future__ import annotations

from autograder.checks.transfer_learning.corpus.public.submission import correct

# the name of the classifier is in the model's configuration; set where it is found
_SET_HEAD = """
    def set_head(model, head):
        name = model.pretrained_cfg["classifier"]
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, head)
"""
_CHECK = """
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}")
"""

BY_CONFIGURATION = correct(
    "head_by_configuration",
    "a new nn.Linear where the configuration says that the classifier is",
    build=_SET_HEAD
    + """
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        set_head(model, nn.Linear(model.get_classifier().in_features, num_classes))
        model.num_classes = num_classes
        return freeze_layers(model, n_trainable)
    """,
)

DROPOUT_HEAD = correct(
    "dropout_and_linear",
    "the head is dropout and a linear layer, at the classifier's place: what it is made of is free",
    build=_SET_HEAD
    + """
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        n_features = model.get_classifier().in_features
        set_head(model, nn.Sequential(nn.Dropout(p=0.2), nn.Linear(n_features, num_classes)))
        freeze_layers(model, n_trainable)
        return model
    """,
)

TWO_LAYER_HEAD = correct(
    "hidden_layer_in_the_head",
    "the head has a hidden layer, at the classifier's place: what it is made of is free",
    build=_SET_HEAD
    + """
    class MLPHead(nn.Module):
        def __init__(self, in_features, num_classes, hidden=128, p=0.3):
            super().__init__()
            self.fc1 = nn.Linear(in_features, hidden)
            self.act = nn.ReLU(inplace=True)
            self.drop = nn.Dropout(p)
            self.fc2 = nn.Linear(hidden, num_classes)

        def forward(self, x):
            return self.fc2(self.drop(self.act(self.fc1(x))))

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        set_head(model, MLPHead(model.get_classifier().in_features, num_classes))
        return freeze_layers(model, n_trainable)
    """,
)

NORMALISED_HEAD = correct(
    "layer_norm_in_the_head",
    "a LayerNorm before the linear layer of the head: what it is made of is free",
    build=_SET_HEAD
    + """
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        dim = model.num_features
        set_head(model, nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes)))
        return freeze_layers(model, n_trainable)
    """,
)

LEARNER_HEAD = correct(
    "batchnorm_in_the_head",
    "the head of a learner: BatchNorm, dropout, linear, twice; what it is made of is free",
    build=_SET_HEAD
    + """
    def create_head(nf, n_out, lin_ftrs=64, ps=0.5):
        return nn.Sequential(
            nn.BatchNorm1d(nf), nn.Dropout(ps / 2), nn.Linear(nf, lin_ftrs, bias=False), nn.ReLU(),
            nn.BatchNorm1d(lin_ftrs), nn.Dropout(ps), nn.Linear(lin_ftrs, n_out, bias=False),
        )

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        set_head(model, create_head(model.get_classifier().in_features, num_classes))
        return freeze_layers(model, n_trainable)
    """,
)

WEIGHT_NORMALISED = correct(
    "weight_normalised_head",
    "the weight of the new head is parametrised (direction and length): what it is made of is free",
    build="""
    from torch.nn.utils.parametrizations import weight_norm

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        model.reset_classifier(num_classes)
        weight_norm(model.get_classifier())
        freeze_layers(model, n_trainable)
        return model
    """,
)

SEARCHED = correct(
    "head_searched_by_identity",
    "looks for the module that is the classifier, and puts the new one in its place",
    build="""
    def replace_module(root, old, new):
        for name, module in root.named_children():
            if module is old:
                setattr(root, name, new)
                return True
            if replace_module(module, old, new):
                return True
        return False

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        net = load_backbone(backbone)
        old = net.get_classifier()
        assert replace_module(net, old, nn.Linear(old.in_features, num_classes, bias=old.bias is not None))
        return freeze_layers(net, n_trainable)
    """,
)

OWN_INIT = correct(
    "head_with_its_own_initialisation",
    "the usual head, with weights drawn from a narrow normal distribution and no bias",
    build="""
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        model.reset_classifier(num_classes)
        head = model.get_classifier()
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return freeze_layers(model, n_trainable)
    """,
)

STATE_DICT = correct(
    "weights_through_a_state_dict",
    "builds the model for the new classes, and loads every weight of the pretrained one but the head's",
    build="""
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        source = load_backbone(backbone)
        target = load_backbone(backbone)
        target.reset_classifier(num_classes)
        weights = source.state_dict()
        own = target.state_dict()
        head = target.pretrained_cfg["classifier"] + "."
        usable = {k: v for k, v in weights.items() if k in own and not k.startswith(head)}
        missing, unexpected = target.load_state_dict(usable, strict=False)
        print("not loaded:", missing, "unexpected:", unexpected)
        return freeze_layers(target, n_trainable)
    """,
)

IF_ELIF = correct(
    "one_branch_for_each_architecture",
    "a branch for each name that a head goes by, and timm's way for all others",
    build="""
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        if isinstance(getattr(model, "fc", None), nn.Linear):             # resnet
            model.fc = nn.Linear(model.fc.in_features, num_classes)
        elif isinstance(getattr(model, "classifier", None), nn.Linear):   # densenet, mobilenet
            model.classifier = nn.Linear(model.classifier.in_features, num_classes)
        elif isinstance(getattr(model, "head", None), nn.Linear):         # vit
            model.head = nn.Linear(model.head.in_features, num_classes)
        else:
            model.reset_classifier(num_classes)
        return freeze_layers(model, n_trainable)
    """,
)

FREEZES_INLINE = correct(
    "freezes_without_the_first_exercise",
    "freezes by itself after the new head is in, and needs no other function",
    build="""
    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        model.reset_classifier(num_classes)
        layers = layers_of(model)
        for i, layer in enumerate(layers):
            for p in layer.parameters():
                p.requires_grad = i >= len(layers) - n_trainable
        return model
    """,
)

BUILDER_CLASS = correct(
    "builder_class",
    "a builder with a method for each step; each call loads a model of its own",
    build="""
    class ModelBuilder:
        def __init__(self, backbone):
            self.model = load_backbone(backbone)

        def with_head(self, num_classes):
            if num_classes < 2:
                raise ValueError("a classifier has at least two classes")
            self.model.reset_classifier(num_classes)
            return self

        def frozen_but(self, n):
            freeze_layers(self.model, n)
            return self

        def build(self):
            return self.model

    def build_transfer_model(backbone, num_classes, n_trainable):
        return ModelBuilder(backbone).with_head(num_classes).frozen_but(n_trainable).build()
    """,
)

CACHED_WEIGHTS = correct(
    "cached_but_copied",
    "loads each backbone once and gives out deep copies: two calls share no tensors",
    build="""
    from functools import lru_cache

    @lru_cache(maxsize=None)
    def pretrained(backbone):
        return load_backbone(backbone)

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = copy.deepcopy(pretrained(backbone))
        model.reset_classifier(num_classes)
        return freeze_layers(model, n_trainable)
    """,
)

COSINE_HEAD = correct(
    "cosine_classifier",
    "the head compares directions: normalised features, a linear layer without bias, a learned scale",
    build=_SET_HEAD
    + """
    class CosineClassifier(nn.Module):
        def __init__(self, in_features, num_classes, scale=16.0):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(num_classes, in_features))
            self.scale = nn.Parameter(torch.tensor(scale))
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

        def forward(self, x):
            return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))

    def build_transfer_model(backbone, num_classes, n_trainable):"""
    + _CHECK
    + """
        model = load_backbone(backbone)
        set_head(model, CosineClassifier(model.get_classifier().in_features, num_classes))
        return freeze_layers(model, n_trainable)
    """,
)

HEADS = [
    BY_CONFIGURATION, DROPOUT_HEAD, TWO_LAYER_HEAD, NORMALISED_HEAD, LEARNER_HEAD, WEIGHT_NORMALISED, SEARCHED, OWN_INIT,
    STATE_DICT, IF_ELIF, FREEZES_INLINE, BUILDER_CLASS, CACHED_WEIGHTS, COSINE_HEAD,
]  # fmt: skip
