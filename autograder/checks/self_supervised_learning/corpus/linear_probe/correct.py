"""Correct linear probes: the plain one with another loss, optimizer, schedule or order of work."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import (
    COLLECT,
    ENCODE,
    EPOCHS,
    EVAL,
    HEAD,
    JOIN,
    LOSS,
    MODES,
    NO_GRAD,
    OPTIMIZER,
    RESTORE,
    RETURN,
    ROWS,
    STEP,
    correct,
)
from autograder.checks.self_supervised_learning.corpus.plain import PROBE
from autograder.labs.corpus import replaced

_LOGITS = "head(features[rows])"

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED = [
    ("plain", "features are computed once, in eval mode and without gradients"),
    ("sgd_momentum", "SGD with momentum", OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)"),
    ("sgd", "plain SGD, small batches",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr)", "split(64)", "split(16)"),
    ("adamw", "AdamW with a strong weight decay", OPTIMIZER, "torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.1)"),
    ("rmsprop", "RMSprop", OPTIMIZER, "torch.optim.RMSprop(head.parameters(), lr=lr)"),
    ("adagrad", "Adagrad", OPTIMIZER, "torch.optim.Adagrad(head.parameters(), lr=lr)"),
    ("nadam", "NAdam", OPTIMIZER, "torch.optim.NAdam(head.parameters(), lr=lr)"),
    ("full_batch", "one step an epoch, with all features", "split(64)", "split(len(features))"),
    ("full_batch_sgd", "one step of SGD an epoch, with all features", "split(64)", "split(len(features))",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr)"),
    ("cosine", "a learning rate that falls as a cosine",
     f"optimizer = {OPTIMIZER}",
     f"optimizer = {OPTIMIZER}\n    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)",
     STEP, f"{STEP}            schedule.step()\n"),
    ("one_cycle", "a learning rate that rises and falls",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)",
     "    with torch.enable_grad():",
     "    steps = epochs * -(-len(features) // 64)\n"
     "    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1)\n"
     "    with torch.enable_grad():",
     STEP, f"{STEP}                schedule.step()\n"),
    ("label_smoothing", "labels smoothed a little", LOSS, LOSS.replace("labels[rows])", "labels[rows], label_smoothing=0.1)")),
    ("nll", "the negative log-likelihood of log_softmax", LOSS, f"F.nll_loss({_LOGITS}.log_softmax(dim=1), labels[rows])"),
    ("log_softmax_twice", "log_softmax of log_softmax is the same again",
     LOSS, f"F.cross_entropy({_LOGITS}.log_softmax(dim=1), labels[rows])"),
    ("one_against_all", "a logistic regression for each class",
     LOSS, f"F.binary_cross_entropy_with_logits({_LOGITS}, F.one_hot(labels[rows], num_classes).float())"),
    ("squared_error", "least squares with one-hot targets", LOSS, f"F.mse_loss({_LOGITS}, F.one_hot(labels[rows], num_classes).float())"),
    ("hinge", "a margin between the right class and the others", LOSS, f"F.multi_margin_loss({_LOGITS}, labels[rows])"),
    ("class_weights", "rare classes weigh more",
     LOSS, LOSS.replace("labels[rows])", "labels[rows], weight=1.0 / torch.bincount(labels, minlength=num_classes).clamp(min=1))")),
    ("noisy_features", "a little dropout and noise on the features",
     LOSS, LOSS.replace("features[rows]", "F.dropout(features[rows], 0.1) + 0.1 * torch.randn(len(rows), 1)")),
    ("large_batches", "batches of 100", "split(64)", "split(100)"),
    ("single_features", "batches of one feature vector, SGD", "split(64)", "split(1)",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr)"),
    ("parameter_groups", "weight decay for the weight alone",
     OPTIMIZER, 'torch.optim.SGD([{"params": [head.weight], "weight_decay": 1e-3}, {"params": [head.bias]}], lr=lr, momentum=0.9)'),
    ("warm_up", "a learning rate that rises for five epochs",
     f"optimizer = {OPTIMIZER}",
     f"optimizer = {OPTIMIZER}\n    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=5)",
     STEP, f"{STEP}            schedule.step()\n"),
    ("patience", "stops when the loss falls no longer",
     f"optimizer = {OPTIMIZER}", f"optimizer = {OPTIMIZER}\n    best, waited = math.inf, 0",
     STEP, STEP + "            waited = 0 if loss.item() < best - 1e-3 else waited + 1\n"
     "            best = min(best, loss.item())\n            if waited == 3:\n                break\n"),
    ("accumulated", "one step an epoch, with the gradients of all batches",
     STEP, "                (loss * len(rows) / len(features)).backward()\n"
     "            optimizer.step()\n            optimizer.zero_grad()\n"),
    ("averaged", "the average of the weights of all steps",
     f"optimizer = {OPTIMIZER}", f"optimizer = {OPTIMIZER}\n    average = torch.optim.swa_utils.AveragedModel(head)",
     STEP, STEP + "                average.update_parameters(head)\n", RETURN, "    return average.module\n"),
    ("sum_of_losses", "the sum over a batch, with Adam", LOSS, LOSS.replace("labels[rows])", 'labels[rows], reduction="sum")')),
    ("penalty", "a penalty on the weights, and gradients clipped",
     LOSS, f"{LOSS} + 1e-4 * head.weight.square().sum()",
     "optimizer.step()", "nn.utils.clip_grad_norm_(head.parameters(), 5.0)\n                optimizer.step()"),
    ("zero_start", "the layer starts from zeros", HEAD, f"{HEAD}    nn.init.zeros_(head.weight)\n    nn.init.zeros_(head.bias)\n"),
    ("without_bias", "a layer without bias is linear too", "num_classes).to", "num_classes, bias=False).to"),
    ("returned_frozen", "the layer is not trained any further", RETURN, "    return head.eval().requires_grad_(False)\n"),
    ("double", "trains in float64, returns float32",
     "torch.cat(features), torch", "torch.cat(features).double(), torch",
     "to(features.device)", "to(features)", RETURN, "    return head.float()\n"),
    ("none_to_zero", "gradients are set to zero after the step",
     STEP, "                loss.backward()\n                optimizer.step()\n                head.zero_grad(set_to_none=False)\n"),
    ("try_finally", "modes come back even if the encoder raises an error",
     EVAL, EVAL + "    try:\n        features, labels = [], []\n        with torch.no_grad():\n"
     "            for images, targets in loader:\n                features.append(encoder(images))\n"
     "                labels.append(targets)\n    finally:\n        for module, training in modes:\n"
     "            module.training = training\n",
     "    features, labels = [], []\n" + NO_GRAD + COLLECT + RESTORE, ""),
    ("modes_by_name", "modes in a dict by name",
     MODES, "    modes = {name: module.training for name, module in encoder.named_modules()}\n",
     RESTORE, "    for name, module in encoder.named_modules():\n        module.training = modes[name]\n"),
    ("train_from_the_root", "train() from the encoder down, so that each module has the last word on itself",
     "module.training = training", "module.train(training)"),
    ("only_changed_modules", "only what was in train mode is touched",
     MODES, "    training = [module for module in encoder.modules() if module.training]\n",
     RESTORE, "    for module in training:\n        module.training = True\n"),
    ("inference_mode", "inference mode, and clones outside of it",
     "torch.no_grad()", "torch.inference_mode()",
     JOIN, "    features, labels = torch.cat(features).clone(), torch.cat(labels).clone()\n"),
    ("forward", "calls forward, which skips hooks", "encoder(images)", "encoder.forward(images)"),
    ("flags_off_meanwhile", "parameters need no gradients meanwhile, and get their flags back",
     EVAL, EVAL + "    flags = [p.requires_grad for p in encoder.parameters()]\n    encoder.requires_grad_(False)\n",
     NO_GRAD + COLLECT, (NO_GRAD + COLLECT).replace("torch.no_grad()", "torch.enable_grad()"),
     RESTORE, RESTORE + "    for p, flag in zip(encoder.parameters(), flags):\n        p.requires_grad = flag\n"),
    ("features_first_dimension", "the number of features from a first batch", ENCODE,
     "            if not features:\n                dim = encoder(images).shape[-1]\n" + ENCODE,
     "features.shape[1], num", "dim, num"),
    ("steps_counted", "epochs times batches, in one loop",
     f"{EPOCHS}{ROWS}", "        batches = -(-len(features) // 64)\n        for step in range(epochs * batches):\n"
     "            if step % batches == 0:\n                order = torch.randperm(len(features)).split(64)\n"
     "            for rows in [order[step % batches]]:\n"),
]  # fmt: skip

CHANGED = [correct(name, text, replaced(PROBE, *texts)) for name, text, *texts in _CHANGED]
