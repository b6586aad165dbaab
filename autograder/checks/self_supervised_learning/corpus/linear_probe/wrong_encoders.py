"""Wrong linear probes: what they do to the encoder, and what they show it."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import (
    COLLECT,
    ENCODE,
    EPOCHS,
    EVAL,
    HEAD,
    JOIN,
    MODES,
    NO_GRAD,
    RESTORE,
    RETURN,
    Row,
    changed,
    of_body,
    wrong,
)

_WITH_GRADIENTS = "    if True:\n        for images, targets in loader:\n"
# a loop that trains with the encoder in it; what is trained, and the mode, differ
_TOGETHER = """
    modes = [(module, module.training) for module in encoder.modules()]
    {mode}
    with torch.no_grad():
        features = encoder(next(iter(loader))[0])
    head = nn.Linear(features.shape[1], num_classes)
    optimizer = torch.optim.{optimizer}({parameters}, lr=lr)
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(head(encoder(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for module, training in modes:
        module.training = training
    return head
"""
_BOTH = "[*encoder.parameters(), *head.parameters()]"


def _together(mode: str, parameters: str, optimizer: str = "Adam") -> str:
    return of_body(_TOGETHER.format(mode=mode, parameters=parameters, optimizer=optimizer))


_MODES: list[Row] = [
    ("train_mode", "never sends the encoder to eval mode", (3, 5), EVAL, ""),
    ("explicit_train_mode", "sends the encoder to train mode", (3, 6), EVAL, "    encoder.train()\n"),
    ("top_level_flag", "sets the flag of the encoder alone, and none of its modules", (3, 5),
     EVAL, "    encoder.training = False\n"),
    ("only_children_without_parameters", "sends modules without parameters alone to eval mode, and no BatchNorm", (3, 5),
     EVAL, "    for module in encoder.modules():\n        if not list(module.parameters()):\n            module.eval()\n"),
    ("modes_not_restored", "leaves the encoder in eval mode", (2, 3), RESTORE, ""),
    ("all_train_after", "sends all modules to train mode afterwards", (2, 3), RESTORE, "    encoder.train()\n"),
    ("eval_after", "sends the encoder to eval mode again at the end", (2, 3), RETURN, "    encoder.eval()\n    return head\n"),
    ("one_mode_for_all", "gives all modules the mode of the encoder afterwards", (1, 2),
     MODES, "    was_training = encoder.training\n", RESTORE, "    encoder.train(was_training)\n"),
    ("children_modes", "puts back the modes of the encoder's children, each with all that is in it", (1, 2),
     MODES, "    modes = [(encoder, encoder.training), *((m, m.training) for m in encoder.children())]\n",
     "module.training = training", "module.train(training)"),
    ("restored_upside_down", "puts modes back from the last module to the encoder, with all that is in each", (1, 2),
     RESTORE, "    for module, training in reversed(modes):\n        module.train(training)\n"),
    ("modes_read_too_late", "reads the modes after eval mode was set", (2, 3), MODES + EVAL, EVAL + MODES),
]  # fmt: skip

_FLAGS: list[Row] = [
    ("frozen_for_good", "freezes the encoder and leaves it so", (2, 3),
     EVAL, EVAL + "    for p in encoder.parameters():\n        p.requires_grad = False\n"),
    ("all_thawed", "makes all parameters trainable afterwards, also those that were frozen", (1, 3),
     EVAL, EVAL + "    encoder.requires_grad_(False)\n", RESTORE, RESTORE + "    encoder.requires_grad_(True)\n"),
    ("gradients_recorded", "records gradients through the encoder, and throws them away", (0.5, 2),
     NO_GRAD, _WITH_GRADIENTS, ENCODE, "            features.append(encoder(images).detach())\n"),
    ("gradients_off_for_good", "switches gradients off, and not on again", (0.5, 2),
     "    with torch.no_grad():\n", "    torch.set_grad_enabled(False)\n    if True:\n"),
    ("default_dtype", "changes the default dtype and leaves it so", (0.5, 4),
     EVAL, EVAL + "    torch.set_default_dtype(torch.float64)\n",
     HEAD, "    head = nn.Linear(features.shape[1], num_classes, dtype=torch.float32)\n"),
]  # fmt: skip

_ENCODERS: list[Row] = [
    ("momentum_zero", "stops BatchNorm by a momentum of 0, which it leaves there, and stays in train mode", (2, 5),
     EVAL, "    for module in encoder.modules():\n        if isinstance(module, nn.BatchNorm2d):\n            module.momentum = 0\n"),
    ("tracking_off", "switches running statistics off for good, and stays in train mode", (2, 5),
     EVAL, "    for module in encoder.modules():\n        if isinstance(module, nn.BatchNorm2d):\n"
     "            module.track_running_stats = False\n"),
    ("dropout_off", "sets the rate of dropout to 0 for good", (1, 3),
     EVAL, EVAL + "    for module in encoder.modules():\n        if isinstance(module, nn.Dropout2d):\n            module.p = 0.0\n"),
    ("statistics_put_back", "shows images in train mode, and puts the statistics back afterwards", (2, 4),
     EVAL, "    state = copy.deepcopy(encoder.state_dict())\n", RESTORE, RESTORE + "    encoder.load_state_dict(state)\n"),
    ("statistics_of_the_images", "computes BatchNorm's statistics of the loader's images, and then sends the encoder to eval mode",
     (3, 6), EVAL, "    encoder.train()\n    with torch.no_grad():\n        for images, _ in loader:\n            encoder(images)\n" + EVAL),
    ("rounded_to_half", "sends the encoder through half precision", (3, 6),
     EVAL, EVAL + "    encoder.half().float()\n"),
    ("double_for_good", "leaves the encoder in double precision", (3, 6),
     EVAL, EVAL + "    encoder.double()\n", "encoder(images)", "encoder(images.double()).float()"),
    ("hooks_removed", "clears the hooks of the encoder", (0.5, 2),
     EVAL, EVAL + "    for module in encoder.modules():\n        module._forward_hooks.clear()\n"),
    ("hook_left", "leaves its hook on the encoder", (0.5, 2),
     EVAL, EVAL + "    found = []\n    encoder.register_forward_hook(lambda m, i, o: found.append(o))\n",
     ENCODE, "            encoder(images)\n            features.append(found[-1])\n"),
    ("batch_norm_wrapped", "wraps each BatchNorm in a module of its own, and leaves it there", (3, 6),
     EVAL, EVAL + "    for name, module in list(encoder.named_modules()):\n        if isinstance(module, nn.BatchNorm2d):\n"
     "            parent, _, child = name.rpartition('.')\n"
     "            setattr(encoder.get_submodule(parent), child, nn.Sequential(module))\n"),
    ("last_layer_removed", "replaces the encoder's last layer by an identity", (8, 20),
     EVAL, EVAL + "    encoder.embed = nn.Identity()\n"),
    ("weights_normalised", "scales the encoder's weights to length 1", (3, 20),
     EVAL, EVAL + "    for p in encoder.parameters():\n        p.data /= p.data.norm()\n"),
]  # fmt: skip

_IMAGES: list[Row] = [
    ("last_batch_dropped", "leaves the last batch out", (2, 5), "in loader:", "in list(loader)[:-1]:"),
    ("skips_single_images", "skips batches of one image", (2, 4),
     ENCODE, "            if len(images) < 2:\n                continue\n" + ENCODE),
    ("squeezed", "squeezes the features, so that a batch of one image raises an error", (2, 5),
     "encoder(images))", "encoder(images).squeeze())"),
    ("first_batch", "returns the features of the first batch alone", (6, 10), COLLECT, COLLECT + "            break\n"),
    ("last_batch_only", "keeps the features of the last batch alone", (6, 10),
     COLLECT, "            features, labels = [encoder(images)], [targets]\n"),
    ("full_batches_only", "drops batches smaller than the first", (2, 5),
     ENCODE, "            size = len(images) if not features else size\n            if len(images) < size:\n"
     "                continue\n" + ENCODE),
    ("clamped_in_place", "clamps the images of the loader in place", (1, 4),
     ENCODE, "            images.clamp_(-3, 3)\n" + ENCODE),
    ("passes_mixed", "takes the features from one pass and the labels from another", (7, 10),
     NO_GRAD + COLLECT,
     "    with torch.no_grad():\n        features = [encoder(images) for images, _ in loader]\n"
     "    labels = [targets for _, targets in loader]\n"),
    ("one_label_list", "collects the labels once, and calls the encoder in a new order in every epoch", (7, 10),
     JOIN, "    labels = torch.cat(labels)\n    features = torch.zeros(len(labels), features[0].shape[1])\n",
     EPOCHS, EPOCHS + "            modes = [m.training for m in encoder.modules()]\n            encoder.eval()\n"
     "            with torch.no_grad():\n                features = torch.cat([encoder(images) for images, _ in loader])\n"
     "            for m, mode in zip(encoder.modules(), modes):\n                m.training = mode\n"),
]  # fmt: skip

WRONG_ENCODERS = [
    *changed([*_MODES, *_FLAGS, *_ENCODERS, *_IMAGES]),
    wrong(
        "trains_the_encoder", "trains the encoder together with the layer", (6, 9), _together("encoder.eval()", _BOTH)
    ),
    wrong(
        "trains_the_encoder_in_train_mode",
        "trains the encoder together with the layer, in train mode",
        (6, 10),
        _together("encoder.train()", _BOTH),
    ),
    wrong(
        "trains_the_encoder_sgd",
        "trains the encoder together with the layer, by SGD",
        (6, 9),
        _together("encoder.eval()", _BOTH, "SGD"),
    ),
    wrong(
        "gradients_left",
        "leaves gradients on the encoder, though the optimizer has the layer alone",
        (2, 4),
        _together("encoder.eval()", "head.parameters()"),
    ),
    wrong(
        "gradients_left_in_train_mode",
        "trains the layer behind an encoder in train mode, with gradients through it",
        (4, 8),
        _together("encoder.train()", "head.parameters()"),
    ),
]
