"""Wrong linear probes: what they return, and which arguments they refuse."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import (
    ENCODE,
    HEAD,
    OPTIMIZER,
    RETURN,
    Row,
    changed,
    of_body,
    wrong,
)

_CHECK = 'if num_classes < 2:\n        raise ValueError("num_classes must be at least 2")'

_LAYERS: list[Row] = [
    ("returns_nothing", "returns nothing", (8, 20), RETURN, ""),
    ("returns_sequential", "returns the encoder and the layer in one model", (8, 20), RETURN, "    return nn.Sequential(encoder, head)\n"),
    ("returns_accuracy", "returns an accuracy", (8, 20),
     RETURN, "    return (head(features).argmax(1) == labels).float().mean().item()\n"),
    ("returns_a_pair", "returns the layer and its accuracy", (8, 20),
     RETURN, "    return head, (head(features).argmax(1) == labels).float().mean().item()\n"),
    ("returns_weight", "returns the weight of the layer", (8, 20), RETURN, "    return head.weight\n"),
    ("returns_state", "returns the state of the layer", (8, 20), RETURN, "    return head.state_dict()\n"),
    ("returns_outputs", "returns the outputs for the images", (8, 20), RETURN, "    return head(features)\n"),
    ("returns_encoder", "returns the encoder", (8, 20), RETURN, "    return encoder\n"),
    ("two_layers", "trains two layers with a ReLU between them", (8, 20),
     HEAD, "    head = nn.Sequential(nn.Linear(features.shape[1], 64), nn.ReLU(), nn.Linear(64, num_classes))\n"),
    ("softmax_at_the_end", "returns a model with a softmax at the end", (8, 20), RETURN, "    return nn.Sequential(head, nn.Softmax(1))\n"),
    ("ten_outputs", "has 10 outputs whatever num_classes is", (2, 5), "shape[1], num_classes)", "shape[1], 10)"),
    ("one_output_too_many", "has one output too many", (2, 5), "shape[1], num_classes)", "shape[1], num_classes + 1)"),
    ("classes_of_the_labels", "counts the classes in the labels", (1, 3), "shape[1], num_classes)", "shape[1], int(labels.max()) + 1)"),
    ("different_labels", "counts the different labels", (1, 3), "shape[1], num_classes)", "shape[1], len(labels.unique()))"),
    ("ninety_six_features", "takes 96 features for granted", (10, 20), "features.shape[1], num", "96, num"),
    ("batch_for_features", "takes the number of images for the number of features", (10, 20), "features.shape[1], num", "features.shape[0], num"),
    ("activations", "probes the activations before the encoder's last layer", (8, 15),
     "encoder(images)", "nn.Sequential(*list(encoder.children())[:-1])(images)"),
    ("pixels", "probes the pixels, without the encoder", (8, 16), ENCODE, "            features.append(images.flatten(1))\n"),
    ("pooled_images", "probes the mean colours of the images, without the encoder", (8, 16),
     ENCODE, "            features.append(images.mean(dim=(2, 3)))\n"),
    ("in_double", "returns the layer in double precision", (1, 4), RETURN, "    return head.double()\n"),
    ("not_refused", "accepts any number of classes", (0.5, 1), f"    {_CHECK}\n", ""),
    ("one_class", "accepts one class", (0.5, 1), "num_classes < 2", "num_classes < 1"),
    ("negative_classes", "accepts negative numbers of classes", (0.5, 1), "num_classes < 2", "num_classes in (0, 1)"),
    ("refuses_two_classes", "refuses two classes", (0.5, 2), "num_classes < 2", "num_classes <= 2"),
    ("asserts", "refuses too few classes with another error", (0.5, 1), _CHECK, "assert num_classes >= 2"),
    ("another_error", "refuses too few classes with a RuntimeError", (0.5, 1), "raise ValueError", "raise RuntimeError"),
    ("prints", "prints a message where too few classes should be refused", (0.5, 1),
     'raise ValueError("num_classes must be at least 2")', 'print("num_classes must be at least 2")'),
    ("returns_the_error", "returns the error instead of raising it", (0.5, 1), "raise ValueError", "return ValueError"),
    ("bends_classes", "takes two classes where fewer are asked for", (0.5, 1), _CHECK, "num_classes = max(num_classes, 2)"),
    ("optimizer_without_weight", "trains the bias alone", (5, 10), OPTIMIZER, "torch.optim.Adam([head.bias], lr=lr)"),
]  # fmt: skip

WRONG_LAYERS = [
    *changed(_LAYERS),
    wrong(
        "layer_without_training",
        "builds the layer from the first batch, and returns it",
        (7, 10),
        of_body("""
            modes = [(module, module.training) for module in encoder.modules()]
            encoder.eval()
            with torch.no_grad():
                features = encoder(next(iter(loader))[0])
            for module, training in modes:
                module.training = training
            return nn.Linear(features.shape[1], num_classes)
        """),
    ),
]
