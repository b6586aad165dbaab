"""Models that one lab keeps for the next: they are stored and found again, and errors say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from amllab import keep, kept, load_backbone, load_teacher
from amllab.kept_models import DRAWN, FOLDER, TEACHER

NAME = "species-encoder"
FILE = FOLDER / f"{NAME}.safetensors"


@pytest.fixture(autouse=True)
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a notebook, next to that of another one."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    return tmp_path / "first"


def encoder(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model("net5", num_classes=0).to(memory_format=torch.channels_last)
    model(torch.randn(8, 3, 32, 32))  # statistics of BatchNorm
    return model


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_kept_model_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """All weights and buffers come back, in eval mode; the message names the file."""
    model = encoder(1)
    keep(NAME, model)
    again = kept(NAME)
    assert same(model, again)
    assert not again.training
    assert capsys.readouterr().out.splitlines() == [
        f"Kept for the next lab: {FILE.as_posix()}",
        f"Kept by an earlier notebook: {FILE.as_posix()}",
    ]


def test_found_in_the_folder_of_another_lab(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook finds the model that a notebook in a folder next to it has kept."""
    keep(NAME, encoder(2))
    monkeypatch.chdir(notebook.parent / "second")
    assert same(kept(NAME), encoder(2))


def test_which_kept_model_counts(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If several notebooks have kept a model, this notebook's own counts first, then the latest."""
    for seed, folder in enumerate(("first", "second")):
        monkeypatch.chdir(notebook.parent / folder)
        keep(NAME, encoder(seed))
        os.utime(FILE, (1000 + seed, 1000 + seed))
    monkeypatch.chdir(notebook)
    assert same(kept(NAME), encoder(0))
    (notebook.parent / "third").mkdir()
    monkeypatch.chdir(notebook.parent / "third")
    assert same(kept(NAME), encoder(1))


def test_kept_again_replaces(notebook: Path) -> None:
    """A second model under the same name replaces the first, and leaves no other file."""
    keep(NAME, encoder(1))
    keep(NAME, encoder(2))
    assert same(kept(NAME), encoder(2))
    assert os.listdir(FOLDER) == [FILE.name]


def test_nothing_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a kept model, the one of the library is used, and the message says so."""
    assert same(kept(NAME), load_backbone("net5.ssl_species"))
    assert capsys.readouterr().out == f"No {NAME} has been kept: net5.ssl_species of the library is used\n"


def test_other_architectures_keep_their_classifier() -> None:
    """Any model of timm can be kept, with as many classes as it has."""
    torch.manual_seed(0)
    model = timm.create_model("net6", num_classes=3)
    keep(NAME, model)
    assert same(kept(NAME), model)


def test_compiled_model() -> None:
    """A model that ``torch.compile`` has wrapped is kept as the model in it."""
    model = encoder(3)
    keep(NAME, torch.compile(model))  # type: ignore[arg-type]
    assert same(kept(NAME), model)


@pytest.mark.parametrize(
    "about",
    [
        None,
        {"architecture": "netx", "num_classes": "0"},
        {"architecture": "net6", "num_classes": "0"},
        {"architecture": "hf-hub:x/net5", "num_classes": "0"},
    ],
)
def test_file_of_another_program(about: dict[str, str] | None) -> None:
    """A file without the name of its architecture, or with a wrong one, is named."""
    FOLDER.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in encoder(1).state_dict().items()}, FILE, metadata=about)
    with pytest.raises(ValueError, match=r"species-encoder\.safetensors cannot be read.*Delete it"):
        kept(NAME)


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_damaged_file_is_named(damage: bytes | None) -> None:
    """The error for a damaged file names it and says what to do."""
    keep(NAME, encoder(1))
    FILE.write_bytes(FILE.read_bytes()[:1000] if damage is None else damage)
    with pytest.raises(ValueError, match=r"species-encoder\.safetensors cannot be read.*Delete it"):
        kept(NAME)


def test_models_that_cannot_be_kept() -> None:
    """A model that timm cannot create again is refused before anything is written."""
    with pytest.raises(ValueError, match=r"models of timm.*this is a Sequential"):
        keep(NAME, nn.Sequential(encoder(0)))
    changed = timm.create_model("net5", num_classes=0)
    changed.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"layers are not those of 'net5' \(see extra\.weight\)"):
        keep(NAME, changed)
    assert not FOLDER.exists()


@pytest.mark.parametrize("name", ["net12", "resnet18"])
def test_replaced_classifier(name: str) -> None:
    """A classifier that was replaced by hand counts with its own outputs, whatever number the model states."""
    model = timm.create_model(name, num_classes=10)
    *parents, last = model.default_cfg["classifier"].split(".")
    parent = model.get_submodule(".".join(parents))
    setattr(parent, last, nn.Linear(model.num_features, 5))
    assert model.num_classes == 10
    keep(TEACHER, model)
    again = kept(TEACHER)
    assert same(again, model)
    assert again(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    "head", [nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 5)), nn.Linear(256, 5, bias=False)]
)
def test_heads_of_other_layers(head: nn.Module) -> None:
    """A head that timm does not make cannot be kept; the error names its weights."""
    model = timm.create_model("net12", num_classes=5)
    model.head.fc = head
    with pytest.raises(ValueError, match=r"layers are not those of 'net12' \(see head\.fc\."):
        keep(TEACHER, model)


def reptile_model(classes: int = 5) -> nn.Module:
    torch.manual_seed(classes)
    model: nn.Module = timm.create_model("net6", num_classes=classes)
    return model


def test_teacher_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a kept model, the teacher of drawn reptiles is the library's, in eval mode; for others there is none."""
    teacher = load_teacher()
    assert same(teacher, load_backbone("net12.reptiles"))
    assert not any(module.training for module in teacher.modules())
    assert capsys.readouterr().out == "net12.reptiles of the library is used\n"
    with pytest.raises(ValueError, match="no reptile-teacher that was trained on CIFAR-100 reptiles has been kept"):
        load_teacher("CIFAR-100 reptiles")


@pytest.mark.parametrize("trained_on", [DRAWN, ""])
def test_teacher_of_lab_1(trained_on: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A kept model of the same images comes first, also if it is not known what it was trained on."""
    keep(TEACHER, reptile_model(), data=trained_on)
    teacher = load_teacher()
    assert same(teacher, reptile_model())
    assert not teacher.training
    assert (
        capsys.readouterr().out.splitlines()[-1] == "Kept by an earlier notebook: data/kept/reptile-teacher.safetensors"
    )


def test_teacher_of_other_images(capsys: pytest.CaptureFixture[str]) -> None:
    """A model of photographs is a teacher for these, and not for drawn reptiles."""
    keep(TEACHER, reptile_model(), data="CIFAR-100 reptiles")
    assert same(load_teacher("CIFAR-100 reptiles"), reptile_model())
    capsys.readouterr()
    assert same(load_teacher(), load_backbone("net12.reptiles"))
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Not used, as it has 5 outputs and was trained on CIFAR-100 reptiles: ")
    assert last == "net12.reptiles of the library is used"


def test_teacher_with_other_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    """A model with another number of classes is no teacher for five."""
    keep(TEACHER, reptile_model(10), data=DRAWN)
    assert same(load_teacher(), load_backbone("net12.reptiles"))
    assert "Not used, as it has 10 outputs" in capsys.readouterr().out


def test_diverged_model_is_refused() -> None:
    """A model with NaN is not kept, and the file of an earlier one stays."""
    good, bad = encoder(1), encoder(2)
    keep(NAME, good)
    with torch.no_grad():
        bad.stem.conv.weight[0] = float("nan")  # type: ignore[union-attr, index, operator]
    with pytest.raises(ValueError, match=r"NaN or infinite numbers in stem\.conv\.weight"):
        keep(NAME, bad)
    assert same(kept(NAME), good)


def test_unknown_names() -> None:
    """The error for an unknown name lists the known ones."""
    for call in (lambda: keep("mine", encoder(0)), lambda: kept("mine")):
        with pytest.raises(
            ValueError, match="no lab keeps a model named 'mine'; the names are: species-encoder, reptile"
        ):
            call()
