"""How good are the features of an encoder? Extraction, nearest neighbours and linear evaluation.

None of these changes the encoder. Features are tensors ``(n, d)``, computed once and evaluated in several ways.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.images import labelled_subset
from amllab.training import measuring
from amllab.views import normalise

BATCH = 500
SHARPNESS = 10.0  # of the votes of neighbours by their similarity: a temperature of 0.1
MAX_STEPS = 200  # of the optimizer of the linear evaluation


def extract_features(encoder: nn.Module, images: Tensor, batch_size: int = BATCH) -> Tensor:
    """Return the features of images, computed in eval mode and without gradients.

    Afterwards, each module of the encoder is in the mode (train or eval) that it was in before.

    Args:
        encoder: module from normalised images ``(batch, 3, h, w)`` to features ``(batch, d)``.
        images: ``(n, 3, h, w)``, either uint8, which are normalised as CIFAR-10 is, or normalised float.
        batch_size: number of images in a batch.

    Returns:
        Features, float32 ``(n, d)``, on the CPU.

    Raises:
        ValueError: there are no images, uint8 ones are not ``(n, 3, h, w)``, or the outputs are not ``(batch, d)``.
    """
    if not len(images):
        raise ValueError("extract_features() needs at least one image")
    # images in grey would be normalised to three channels without a word
    if images.dtype == torch.uint8 and (images.ndim != 4 or images.shape[1] != 3):
        raise ValueError(f"uint8 images must be (n, 3, h, w), not {tuple(images.shape)}")
    parameter = next(encoder.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    parts = []
    with measuring(encoder):
        for batch in images.split(batch_size):
            ready = normalise(batch) if batch.dtype == torch.uint8 else batch
            out = encoder(ready.to(device))
            if out.ndim != 2:
                raise ValueError(f"the encoder's features must be (batch, d), not {tuple(out.shape)}")
            parts.append(out.float().cpu())
    return torch.cat(parts)


def knn_accuracy(
    train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor, neighbours: int = 10
) -> float:
    """Return the accuracy of a vote of the nearest neighbours.

    Similarity is the cosine between features after subtraction of the training features' mean. Each of the nearest
    training examples votes for its class with a weight that grows with its similarity (Wu et al., *Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination*, 2018).

    Args:
        train_features: float ``(n, d)``, of the examples that vote.
        train_labels: their classes, int64 ``(n,)``.
        features: float ``(m, d)``, of the examples to classify.
        labels: their classes, int64 ``(m,)``.
        neighbours: number of votes; all training examples if there are fewer.

    Returns:
        The share of correct predictions, in [0, 1].

    Raises:
        ValueError: numbers of features and labels differ, or there are none.
    """
    _check(train_features, train_labels, features, labels)
    middle = train_features.mean(0)
    known, asked = (F.normalize(values.float() - middle, dim=1) for values in (train_features, features))
    right = 0
    for some, wanted in zip(asked.split(BATCH), labels.split(BATCH), strict=True):
        similarity, nearest = (some @ known.T).topk(min(neighbours, len(known)), 1)
        votes = torch.zeros(len(some), int(train_labels.max()) + 1)
        votes.scatter_add_(1, train_labels[nearest], (SHARPNESS * similarity).exp())
        right += int((votes.argmax(1) == wanted).sum())
    return right / len(labels)


def linear_evaluation(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    per_class: int | None = None,
    draws: int = 3,
    seed: int = 0,
    penalty: float = 1e-2,
) -> float:
    """Return the accuracy of logistic regression on features of which some have labels.

    Features are standardized by the labelled examples. The regression is solved by L-BFGS on all of them at once.

    Args:
        train_features: float ``(n, d)``.
        train_labels: their classes, int64 ``(n,)``.
        features: float ``(m, d)``, of the examples to classify.
        labels: their classes, int64 ``(m,)``.
        per_class: number of labelled examples of each class, chosen at random; ``None`` for all.
        draws: number of choices; the result is the mean of their accuracies.
        seed: seed of the choices.
        penalty: factor of the sum of squares of the weights in the loss.

    Returns:
        The share of correct predictions, in [0, 1].

    Raises:
        ValueError: numbers of features and labels differ, there are none, or a class has fewer than ``per_class``
            examples.
    """
    _check(train_features, train_labels, features, labels)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    if per_class is None:
        return _regression_accuracy(train_features, train_labels, features, labels, penalty)
    generator = torch.Generator().manual_seed(seed)
    chosen = [labelled_subset(train_labels, per_class, generator) for _ in range(draws)]
    found = [
        _regression_accuracy(train_features[index], train_labels[index], features, labels, penalty) for index in chosen
    ]
    return sum(found) / draws


def _check(train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor) -> None:
    for name, values, of in (("training", train_features, train_labels), ("test", features, labels)):
        if values.ndim != 2 or len(values) != len(of) or not len(of):
            raise ValueError(
                f"the {name} features must be (n, d) with n labels and n >= 1, not {tuple(values.shape)} with {len(of)}"
            )


def _regression_accuracy(
    train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor, penalty: float
) -> float:
    """Fit logistic regression with a penalty on the weights; return its accuracy."""
    train_features, features = train_features.double(), features.double()
    middle, spread = train_features.mean(0), train_features.std(0, correction=0) + 1e-4
    known, asked = (train_features - middle) / spread, (features - middle) / spread
    classes = int(train_labels.max()) + 1
    weight = torch.zeros(known.shape[1], classes, dtype=torch.double, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(known @ weight + bias, train_labels) + penalty * weight.pow(2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return float(((asked @ weight + bias).argmax(1) == labels).double().mean())
