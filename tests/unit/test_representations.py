"""Features of an encoder, nearest neighbours and linear evaluation."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from amllab import draw_species, extract_features, knn_accuracy, linear_evaluation, load_backbone
from amllab.images import labelled_subset
from amllab.views import normalise

CLASSES = 4


def clusters(n, spread, seed=0):
    """Return features and labels: a cluster for each class, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    return 5 + 3 * torch.eye(CLASSES, 6)[labels] + spread * torch.randn(n, 6, generator=generator), labels


def test_features():
    """Features are those of the encoder in eval mode, for images of both types, whatever the size of the batches."""
    encoder = timm.create_model("net5")
    images = draw_species(2, 7, seed=0).images
    encoder.stem.eval()
    modes = [module.training for module in encoder.modules()]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = extract_features(encoder, images, batch_size=5)
    assert features.shape == (14, 96)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert torch.allclose(features, extract_features(encoder, normalise(images)), atol=1e-5)
    encoder.eval()
    assert torch.allclose(features, encoder(normalise(images)).detach(), atol=1e-5)


def test_features_of_other_modules():
    """Any module with outputs `(batch, d)` can be used; other outputs are refused."""
    assert extract_features(nn.Flatten(), torch.zeros(3, 3, 2, 2)).shape == (3, 12)
    with pytest.raises(ValueError, match="at least one image"):
        extract_features(nn.Flatten(), torch.zeros(0, 3, 2, 2))
    with pytest.raises(ValueError, match=r"features must be \(batch, d\), not \(3, 3, 2, 2\)"):
        extract_features(nn.Identity(), torch.zeros(3, 3, 2, 2))


@pytest.mark.parametrize("evaluation", [knn_accuracy, linear_evaluation])
def test_evaluations_of_clusters(evaluation):
    """Separate clusters are recognised, features without information are not, and overlapping ones in part."""
    found = [evaluation(*clusters(400, spread), *clusters(1200, spread, seed=1)) for spread in (0.1, 1.5, 100.0)]
    assert found[0] == 1
    assert 0.5 < found[1] < 0.9
    assert 0.15 < found[2] < 0.35


def test_nearest_neighbours_vote():
    """The vote of several neighbours counts, each by its similarity."""
    labels = torch.tensor([0, 1, 1, 2, 2])
    asked = torch.tensor([[1.0, 0.02]])
    for height, neighbours, winner in ((0.25, 1, 0), (0.25, 3, 1), (0.25, 100, 1), (0.5, 3, 0)):
        known = torch.tensor([[1.0, 0.0], [0.9, height], [0.9, height], [-1.0, 0.0], [-1.8, -2 * height]])
        found = knn_accuracy(known, labels, asked, torch.tensor([winner]), neighbours)
        assert found == 1, (height, neighbours)


def test_nearest_neighbours_do_not_depend_on_origin_and_scale():
    """Shifted and scaled features give the same accuracy."""
    parts = clusters(200, 1.0), clusters(300, 1.0, seed=1)
    wanted = knn_accuracy(*parts[0], *parts[1])
    moved = [(7 * (features - 4), labels) for features, labels in parts]
    assert knn_accuracy(*moved[0], *moved[1]) == pytest.approx(wanted, abs=0.01)


def test_linear_evaluation_with_few_labels():
    """Few labels of each class give less than all; the same seed gives the same result."""
    parts = *clusters(400, 1.5), *clusters(1200, 1.5, seed=1)
    few = [linear_evaluation(*parts, per_class=2, draws=10, seed=seed) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    assert few[0] < linear_evaluation(*parts) - 0.05
    one = [linear_evaluation(*parts, per_class=2, draws=1, seed=0), linear_evaluation(*parts, per_class=2, draws=2)]
    assert one[0] != one[1]
    with torch.no_grad():
        assert linear_evaluation(*parts, per_class=2, draws=10) == few[0]


def test_labelled_subset():
    """The subset has the same number of examples of each class, chosen at random."""
    labels = torch.tensor([2, 0, 2, 0, 2, 5, 5])
    index = labelled_subset(labels, 2, torch.Generator().manual_seed(0))
    assert labels[index].tolist() == [0, 0, 2, 2, 5, 5]
    assert len(index.unique()) == 6
    draws = {tuple(labelled_subset(labels, 1, torch.Generator().manual_seed(seed)).tolist()) for seed in range(40)}
    assert len(draws) == 2 * 3 * 2
    with pytest.raises(ValueError, match="class 0 has 2 examples, but 3 are needed"):
        labelled_subset(labels, 3, torch.Generator())
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        labelled_subset(labels, 0, torch.Generator())


@pytest.mark.parametrize("evaluation", [knn_accuracy, linear_evaluation])
def test_impossible_evaluations(evaluation):
    """Features without labels, an empty test set and zero draws are refused."""
    features, labels = clusters(8, 1.0)
    with pytest.raises(ValueError, match="the training features"):
        evaluation(features[:5], labels, features, labels)
    with pytest.raises(ValueError, match="the test features"):
        evaluation(features, labels, features[:0], labels[:0])
    with pytest.raises(ValueError, match="draws"):
        linear_evaluation(features, labels, features, labels, draws=0)


@pytest.mark.parametrize("name", ["net5.ssl_species", "net5.ssl_cifar10"])
def test_shipped_encoders_know_new_species(name):
    """With the shipped encoders, nearest neighbours recognise new species far more often than with an untrained one."""
    known = draw_species(8, 20, seed=77)
    asked = draw_species(8, 20, seed=77, individuals=1)
    torch.manual_seed(0)
    accuracies = [
        knn_accuracy(
            extract_features(encoder, known.images), known.labels, extract_features(encoder, asked.images), asked.labels
        )
        for encoder in (timm.create_model("net5", num_classes=0), load_backbone(name))
    ]
    assert accuracies[1] > accuracies[0] + 0.15, accuracies
