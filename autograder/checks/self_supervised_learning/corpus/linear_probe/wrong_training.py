"""Wrong linear probes: how the layer is trained."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import (
    EPOCHS,
    HEAD,
    JOIN,
    LOSS,
    OPTIMIZER,
    RETURN,
    ROWS,
    STEP,
    Row,
    changed,
    of_body,
    wrong,
)

_LOGITS = "head(features[rows])"
_SCALED = "    mean, std = features.mean(0), features.std(0) + 1e-6\n    features = (features - mean) / std\n"

_TRAINING: list[Row] = [
    ("not_trained", "returns the layer untrained", (7, 10), "range(epochs)", "range(0)"),
    ("no_step", "computes gradients and takes no step", (7, 10), "                optimizer.step()\n", ""),
    ("no_backward", "steps without gradients", (7, 10), "                loss.backward()\n", ""),
    ("labels_shuffled", "shuffles the labels", (7, 10), JOIN, JOIN + "    labels = labels[torch.randperm(len(labels))]\n"),
    ("features_shuffled", "shuffles the features and not the labels", (7, 10),
     JOIN, JOIN + "    features = features[torch.randperm(len(features))]\n"),
    ("two_orders", "shuffles features and labels in two different orders", (7, 10),
     LOSS, "F.cross_entropy(head(features[rows]), labels[torch.randperm(len(labels))[: len(rows)]])"),
    ("first_labels", "compares every batch with the first labels", (7, 10), "labels[rows])", "labels[: len(rows)])"),
    ("same_label", "compares every batch with the label of its first image", (7, 10),
     "labels[rows])", "labels[rows[0]].expand(len(rows)))"),
    ("softmax_first", "puts a softmax before the cross-entropy", (3, 6), LOSS, f"F.cross_entropy({_LOGITS}.softmax(dim=1), labels[rows])"),
    ("softmax_first_sgd", "puts a softmax before the cross-entropy, and trains by SGD", (3, 6),
     LOSS, f"F.cross_entropy(F.softmax({_LOGITS}, dim=-1), labels[rows])",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)"),
    ("softmax_first_in_the_loop", "puts a softmax before the cross-entropy, with all features at once", (3, 6),
     LOSS, f"F.cross_entropy(nn.Softmax(dim=1)({_LOGITS}), labels[rows])", "split(64)", "split(len(features))"),
    ("sigmoid_first", "puts a sigmoid before the cross-entropy", (3, 6), LOSS, f"F.cross_entropy({_LOGITS}.sigmoid(), labels[rows])"),
    ("relu_first", "puts a ReLU before the cross-entropy", (2, 6), LOSS, f"F.cross_entropy({_LOGITS}.relu(), labels[rows])"),
    ("nll_of_probabilities", "takes nll_loss of probabilities", (3, 6), LOSS, f"F.nll_loss({_LOGITS}.softmax(dim=1), labels[rows])"),
    ("nll_of_logits", "takes nll_loss of logits", (3, 6), LOSS, f"F.nll_loss({_LOGITS}, labels[rows])"),
    ("ascends", "maximises the loss", (7, 10), LOSS, f"-{LOSS}"),
    ("softmax_over_the_batch", "takes the softmax over the batch", (5, 10),
     LOSS, f"F.nll_loss({_LOGITS}.log_softmax(dim=0), labels[rows])"),
    ("no_zero_grad", "never sets gradients to zero", (1, 4), "                optimizer.zero_grad()\n", ""),
    ("no_zero_grad_sgd", "never sets gradients to zero, with SGD", (1, 4), "                optimizer.zero_grad()\n", "",
     OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr)"),
    ("zero_grad_each_epoch", "sets gradients to zero once an epoch", (1, 4),
     "                optimizer.zero_grad()\n", "", EPOCHS, EPOCHS + "            optimizer.zero_grad()\n"),
    ("zero_grad_after_backward", "sets gradients to zero before the step uses them", (7, 10),
     STEP, "                loss.backward()\n                optimizer.zero_grad()\n                optimizer.step()\n"),
    ("lr_ignored", "has a learning rate of its own", (1, 2), "lr=lr", "lr=1e-2"),
    ("lr_left_out", "leaves the learning rate to the optimizer", (1, 2), "(head.parameters(), lr=lr)", "(head.parameters())"),
    ("lr_too_small", "takes a thousandth of the learning rate", (5, 10), "lr=lr", "lr=1e-3 * lr"),
    ("epochs_ignored", "trains for 50 epochs whatever is asked for", (1, 2), "range(epochs)", "range(50)"),
    ("one_epoch_too_few", "trains for one epoch too few", (0.5, 1), "range(epochs)", "range(1, epochs)"),
    ("one_epoch_too_many", "trains for one epoch too many", (0.5, 1), "range(epochs)", "range(epochs + 1)"),
    ("one_epoch", "returns after the first epoch", (5, 10), STEP, STEP + "            return head\n"),
    ("one_step", "returns after the first step", (5, 10), STEP, STEP + "                return head\n"),
    ("one_batch_an_epoch", "trains on the first 4 features alone", (6, 10), ROWS, "            for rows in [torch.arange(4)]:\n"),
    ("starts_again", "starts a new layer and optimizer in every epoch", (5, 10),
     EPOCHS, EPOCHS + "            head = nn.Linear(features.shape[1], num_classes)\n"
     f"            optimizer = {OPTIMIZER}\n"),
    ("state_from_the_start", "returns the weights of the start as the best ones", (7, 10),
     HEAD, HEAD + "    best = copy.deepcopy(head.state_dict())\n", RETURN, "    head.load_state_dict(best)\n    return head\n"),
    ("another_layer_returned", "returns a new layer instead of the trained one", (7, 10),
     RETURN, "    return nn.Linear(features.shape[1], num_classes)\n"),
    ("standardised", "trains on standardised features, and does not fold the scaling into the layer", (4, 8), JOIN, JOIN + _SCALED),
    ("standardised_sgd", "trains on standardised features by SGD, and does not fold the scaling into the layer", (4, 8),
     JOIN, JOIN + _SCALED, OPTIMIZER, "torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)"),
    ("centred", "subtracts the mean of the features for the training alone", (4, 8), JOIN, JOIN + "    features -= features.mean(0)\n"),
    ("normalised", "trains on features of length 1", (2, 5), JOIN, JOIN + "    features = F.normalize(features, dim=1)\n"),
    ("normalised_full_batch", "trains on features of length 1, all at once", (2, 5),
     JOIN, JOIN + "    features = F.normalize(features, dim=1)\n", "split(64)", "split(len(features))"),
    ("normalised_over_images", "scales each feature to length 1 over all images", (2, 5),
     JOIN, JOIN + "    features = F.normalize(features, dim=0)\n"),
    ("in_no_grad", "trains without gradients, which raises an error", (10, 20), "torch.enable_grad()", "torch.no_grad()"),
    ("drops_incomplete_batches", "drops batches smaller than 64, also where there is no other", (1, 3),
     ROWS, ROWS + "                if len(rows) < 64:\n                    continue\n"),
    ("held_out", "holds the last fifth of the images out", (1, 3),
     JOIN, JOIN + "    kept = int(0.8 * len(labels))\n    features, labels = features[:kept], labels[:kept]\n"),
    ("other_epochs_by_default", "trains for 10 epochs by default", (0.5, 1), "epochs=50", "epochs=10"),
    ("other_lr_by_default", "has another learning rate by default", (0.5, 1), "lr=1e-2", "lr=3e-2"),
]  # fmt: skip

_BATCH_NORM = """
    norm = nn.BatchNorm1d(features.shape[1], affine=False)
    head = nn.Linear(features.shape[1], num_classes)
    model = nn.Sequential(norm, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(features[rows]), labels[rows]).backward()
            optimizer.step()
    return head
"""

WRONG_TRAINING = [
    *changed(_TRAINING),
    wrong(
        "batch_norm_before_the_layer",
        "trains behind a BatchNorm, and returns the layer alone",
        (4, 8),
        of_body(_BATCH_NORM, features=True),
    ),
]
