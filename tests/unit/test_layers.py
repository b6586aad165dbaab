"""``layers_of`` on common architectures, and errors of ``load_backbone``."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from amllab.layers import layers_of
from amllab.loading import BackboneUnavailable, UnknownBackbone, load_backbone
from tests.conftest import ROOT

# name, number of layers, a parameter of the first layer (one of the model itself, if there is any)
ARCHITECTURES = [
    ("net12", 12, "stem.conv.weight"),
    ("net6", 6, "stem.conv.weight"),
    ("net5", 5, "stem.conv.weight"),
    ("resnet18", 10, "conv1.weight"),
    ("resnet50", 18, "conv1.weight"),
    ("mobilenetv3_small_100", 14, "conv_stem.weight"),
    ("mobilenetv2_100", 19, "conv_stem.weight"),
    ("convnext_atto", 14, "stem.0.weight"),
    ("vit_tiny_patch16_224", 14, "cls_token"),
    ("deit_tiny_distilled_patch16_224", 14, "dist_token"),
]


@pytest.mark.parametrize(("name", "count", "first"), ARCHITECTURES)
def test_layers_partition_parameters(name: str, count: int, first: str) -> None:
    """Every parameter of a model belongs to exactly one layer."""
    model = timm.create_model(name, num_classes=5)
    layers = layers_of(model)
    named = [n for layer in layers for n, _ in layer.named_parameters()]
    assert len(layers) == count
    assert sorted(named) == sorted(n for n, _ in model.named_parameters())
    assert first in dict(layers[0].named_parameters())
    assert len({layer.name for layer in layers}) == count


@pytest.mark.parametrize("name", [name for name, *_ in ARCHITECTURES])
def test_layers_last_is_classifier(name: str) -> None:
    """The last layer is the classifier."""
    model = timm.create_model(name, num_classes=5)
    classifier = model.get_classifier()
    modules = classifier if isinstance(classifier, tuple) else (classifier,)
    wanted = {id(p) for module in modules for p in module.parameters()}
    assert {id(p) for p in layers_of(model)[-1].parameters()} == wanted


@pytest.mark.parametrize("name", ["net12", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_layers_own_their_modules(name: str) -> None:
    """Every module belongs to at most one layer, and every BatchNorm to exactly one."""
    model = timm.create_model(name, num_classes=5)
    owner: dict[int, str] = {}
    for layer in layers_of(model):
        own = {id(p) for p in layer.parameters()}
        for module in layer.modules():
            assert owner.setdefault(id(module), layer.name) == layer.name
            assert {id(p) for p in module.parameters()} <= own
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(id(m) in owner for m in norms)


def test_layers_in_forward_order() -> None:
    """Layers are in the order of the forward pass."""
    model = timm.create_model("net12", num_classes=5)
    seen: list[str] = []
    for layer in layers_of(model):
        for module in layer.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(lambda *_, name=layer.name: seen.append(name))
    model(torch.randn(1, 3, 32, 32))
    assert seen == [layer.name for layer in layers_of(model)]


@pytest.mark.parametrize("name", ["net6", "vit_tiny_patch16_224"])
def test_layer_requires_grad(name: str) -> None:
    """``requires_grad_`` of a layer sets all of its parameters, those of the model itself too, and no others."""
    model = timm.create_model(name, num_classes=5)
    first, *others = layers_of(model)
    assert first.requires_grad_(False) is first
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in first.named_parameters()}
    if name.startswith("vit"):
        assert "pos_embed" in frozen
    assert all(module.training for module in model.modules())  # as in PyTorch, the mode is another matter
    first.requires_grad_()
    assert all(p.requires_grad for layer in (first, *others) for p in layer.parameters())


def test_layer_modes() -> None:
    """``train`` and ``eval`` of a layer set the modules of this layer, until the mode of the model is set."""
    model = timm.create_model("net6", num_classes=5)
    layers = layers_of(model)
    assert layers[0].eval() is layers[0]
    assert not any(module.training for module in layers[0].modules())
    assert all(module.training for layer in layers[1:] for module in layer.modules())
    assert layers[0].train() is layers[0]
    assert all(module.training for module in model.modules())
    layers[0].eval()
    model.train()
    assert all(module.training for module in layers[0].modules())


def test_layer_names_are_those_of_the_model() -> None:
    """Parameters, buffers, modules and the state of all layers together are those of the model, under its names."""
    model = timm.create_model("net12", num_classes=5)
    layers = layers_of(model)
    assert {name: id(b) for layer in layers for name, b in layer.named_buffers()} == {
        name: id(b) for name, b in model.named_buffers()
    }
    assert [id(b) for b in layers[0].buffers()] == [id(b) for _, b in layers[0].named_buffers()]
    modules = dict(model.named_modules())
    for layer in layers:
        assert all(modules[name] is module for name, module in layer.named_modules())
        assert [module for _, module in layer.named_modules()] == list(layer.modules())
    state = {name: tensor for layer in layers for name, tensor in layer.state_dict().items()}
    assert {name: t.data_ptr() for name, t in state.items()} == {n: t.data_ptr() for n, t in model.state_dict().items()}


def test_layer_lists_what_it_has() -> None:
    """The error for an attribute that a layer lacks lists what it has; layers can still be copied and displayed."""
    layer = layers_of(timm.create_model("net6"))[0]
    for name in ("weight", "children", "training"):
        with pytest.raises(AttributeError, match=rf"a Layer has no attribute '{name}'.*name, .*requires_grad_\(\)"):
            getattr(layer, name)
    assert not hasattr(layer, "_repr_html_")
    assert copy.deepcopy(layer).name == copy.copy(layer).name == layer.name
    with pytest.raises(AttributeError, match="requires_grad"):
        layer.requires_grad = False  # type: ignore[attr-defined]


def test_layers_of_other_models() -> None:
    """Models without parameter groups of timm are refused."""
    with pytest.raises(TypeError, match=r"Sequential.*timm\.create_model"):
        layers_of(nn.Sequential(nn.Linear(2, 2)))


def test_backbone_unknown_name() -> None:
    """The error for an unknown name suggests similar ones."""
    with pytest.raises(UnknownBackbone, match="resnet18"):
        load_backbone("resnet_18")


def test_backbone_unknown_weights() -> None:
    """For weights that do not exist, those that do are listed."""
    with pytest.raises(
        UnknownBackbone, match=r"no weights named 'net5\.ssl_x'\. It has: net5\.ssl_cifar10, net5\.ssl_spec"
    ):
        load_backbone("net5.ssl_x")


def test_backbone_weights_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a network, the error for weights that are not cached says so."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # no server listens there
    with pytest.raises(BackboneUnavailable, match=r"resnet18.*internet"):
        load_backbone("resnet18")


def test_backbone_weights_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cached weights need no network."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    hub = timm.get_pretrained_cfg("resnet18").hf_hub_id.replace("/", "--")
    snapshot = tmp_path / f"models--{hub}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(3)
    weights = timm.create_model("resnet18").state_dict()
    save_file(weights, snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    got = load_backbone("resnet18")
    assert torch.equal(got.fc.weight, weights["fc.weight"])
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("name", ["net12", "net6"])
def test_shipped_backbones(name: str) -> None:
    """Loading a shipped backbone twice gives equal weights that share no memory."""
    first, second = load_backbone(name), load_backbone(name)
    assert first.num_classes == 10
    for (key, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
        assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()


def test_timm_creates_course_models() -> None:
    """timm creates the models of the course like its own."""
    model = timm.create_model("net12", pretrained=True, num_classes=5).eval()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    assert model.pretrained_cfg["num_classes"] == 10
    model.reset_classifier(7)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert model.forward_features(torch.randn(2, 3, 32, 32)).shape == (2, 256, 4, 4)
    wanted = load_backbone("net12").state_dict()
    same = [k for k, v in model.state_dict().items() if k in wanted and torch.equal(v, wanted[k])]
    assert set(wanted) - set(same) == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize(
    ("name", "parameters", "size"), [("net12", 3_000_000, 6_000_000), ("net6", 500_000, 1_000_000)]
)
def test_backbone_sizes(name: str, parameters: int, size: int) -> None:
    """The shipped backbones stay within their limits of parameters and bytes."""
    from amllab.backbones import WEIGHTS

    assert sum(p.numel() for p in load_backbone(name).parameters()) <= parameters
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= size


def test_net5_is_an_encoder() -> None:
    """net5 returns features unless it gets a classifier, and takes images of any even side."""
    encoder = timm.create_model("net5")
    assert 136_000 <= sum(p.numel() for p in encoder.parameters()) <= 140_000
    assert encoder.num_features == 96
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 96)
    assert encoder(torch.randn(2, 3, 64, 48)).shape == (2, 96)
    assert encoder.forward_features(torch.randn(2, 3, 32, 32)).shape == (2, 96, 4, 4)
    assert timm.create_model("net5", num_classes=7)(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert [layer.name for layer in layers_of(encoder)] == ["stem", "stages.0.conv1", "stages.1.conv1", "final_conv"]


@pytest.mark.parametrize("tag", ["ssl_cifar10", "ssl_species"])
def test_net5_pretrained(tag: str, tmp_path: Path) -> None:
    """Weights of an encoder load by tag, and leave a new classifier as it was initialized."""
    from amllab.backbones import WEIGHTS
    from amllab.pretrain.checkpoints import save_weights

    trained = timm.create_model("net5")
    save_weights(trained, tmp_path / "w.safetensors")
    assert timm.models.get_pretrained_cfg(f"net5.{tag}").file == str(WEIGHTS / f"net5-{tag}.safetensors")
    for num_classes in (0, 5):
        overlay = {"file": str(tmp_path / "w.safetensors")}
        loaded = timm.create_model(
            f"net5.{tag}", pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay
        )
        state = loaded.state_dict()
        for name, value in trained.state_dict().items():
            assert torch.equal(state[name], value.half().float() if value.is_floating_point() else value), name
        assert set(state) - set(trained.state_dict()) == ({"head.fc.weight", "head.fc.bias"} if num_classes else set())


# PyTorch is loaded once; each order of imports has a process of its own
ORDERS = """
import os, sys
import torch, torchvision
for order in ("import timm, amllab", "import amllab, timm", "import timm.data, amllab"):
    child = os.fork()
    if not child:
        exec(order)
        print(order, [len(timm.list_models(name)) for name in ("net12", "net6", "net5")], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_backbones_registered() -> None:
    """timm knows the backbones once both packages are imported, in any order."""
    done = subprocess.run([sys.executable, "-c", ORDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "import timm, amllab [1, 1, 1]",
        "import amllab, timm [1, 1, 1]",
        "import timm.data, amllab [1, 1, 1]",
    ], done.stderr


def test_library_does_not_load_timm() -> None:
    """The library alone loads neither timm nor PyTorch, and reports a missing timm as Python does."""
    code = (
        "import sys, amllab; print(sorted({'timm', 'torch'} & {*sys.modules}))\n"
        "sys.path[:] = [path for path in sys.path if 'site-packages' not in path]\n"
        "try:\n    import timm\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "No module named 'timm'"], done.stderr
