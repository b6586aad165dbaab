"""A plain correct ``expected_calibration_error``, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

CALIBRATION = """
def expected_calibration_error(logits, labels, n_bins=15):
    if n_bins < 1:
        raise ValueError("n_bins must be at least 1")
    if len(labels) != len(logits):
        raise ValueError("each row of logits needs a label")
    probabilities = logits.detach().softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == labels).float()
    edges = torch.linspace(0, 1, n_bins + 1)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = (right[inside].mean() - confidence[inside].mean()).abs()
            error += inside.float().mean().item() * gap.item()
    return error
"""
