"""An instructor's own images and backbone: nothing is graded without thresholds for exactly these."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from amllab import backbones
from amllab.checks.render import to_text
from amllab.checks.results import score
from amllab.checks.runner import run_checks
from amllab.checks.transfer_learning.accuracy import normalization, pooled
from amllab.kit.accuracy import agreement
from amllab.kit.lending import lent_weights
from amllab.lab import Lab, find_lab
from amllab.loading import load_backbone
from autograder.authoring.calibration import in_time, submission_of
from autograder.authoring.own_choice import fitting_side, use_backbone, use_data
from autograder.checks.transfer_learning import calibration
from autograder.cli import main
from autograder.errors import SettingsError, ThresholdError
from autograder.labs import locations, own
from autograder.labs.calibrated import Calibrated, Style, calibrated_of
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.labs.own import own_file, require_thresholds
from autograder.labs.settings import load_lab, problems_of, settings_of
from tests import conftest
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader, new_course
from tests.helpers.drawings import SETS, drawn_folder

VIT = "test_vit"
STYLES = [style for style in calibration.STYLES if style.name in ("AdamW", "no training")]


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Another folder for what graders alone have, and short calibrations."""
    folder = tmp_path / "hidden"
    (folder / "transfer_learning").mkdir(parents=True)
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", folder)
    monkeypatch.setattr(calibration, "STYLES", STYLES)
    return folder / "transfer_learning"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return drawn_folder(tmp_path / "six", "six")


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Weights of a small transformer in another folder of weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(backbones, "WEIGHTS", folder)
    torch.manual_seed(0)
    save_file(timm.create_model(VIT).state_dict(), folder / f"{VIT}.safetensors")
    return folder


def shorten(hidden: Path, **values: Any) -> None:
    """Edit the budget in the file, as an instructor may."""
    lab = find_lab(ASSIGNMENT)
    own.write_own(lab, {"learning_rates": [0.003], "test_images": 200, **values})


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrations that train nothing: right variants get 80 %, wrong ones 20 %."""

    def measure(declared: Calibrated, style: Style, seed: int) -> tuple[list[float], float]:
        return [(0.8 if style.right else 0.2) + 0.01 * (seed % 3)], 1.0

    monkeypatch.setattr("autograder.authoring.calibration.measure", measure)


def calibrated(folder: Path) -> None:
    runs = str(folder / "runs.jsonl")
    assert main(["calibrate", ASSIGNMENT, "--seeds", "3", "--fresh", "3", "--runs", runs]) == 0


def points(lab: Lab, style: Style) -> tuple[float, str]:
    folders = (lab.folder, HIDDEN_CHECKS / lab.name)
    paths = [path for folder in folders for path in sorted(folder.glob("test_accuracy*.py"))]
    results = run_checks(lab, paths, submission_of(calibrated_of(lab).task, style), seed=7)
    return score(results)[0], to_text(results)


def test_use_data_before_calibration(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After use-data, building and grading are refused with the command to run, and nothing is written."""
    assert main(["use-data", ASSIGNMENT, str(images)]) == 0
    said = capsys.readouterr().out
    assert "classes = 6" in said
    assert f"next: run 'autograder calibrate {ASSIGNMENT}'" in said
    course = new_course(tmp_path)
    release = course / "assignments" / ASSIGNMENT / NOTEBOOK
    before = release.read_bytes()
    release.with_name("mine.ipynb").write_bytes(before)
    monkeypatch.chdir(course)
    for command in (["build", ASSIGNMENT], ["grade", str(release.with_name("mine.ipynb")), "--lab", ASSIGNMENT]):
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "autograder: transfer_learning: no thresholds were measured for the data and the budget of own.toml: run "
            f"'autograder calibrate {ASSIGNMENT}'\n"
        )
    assert release.read_bytes() == before
    submitted = course / "submitted" / "ada" / ASSIGNMENT / NOTEBOOK
    submitted.parent.mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / ASSIGNMENT / NOTEBOOK, submitted)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode != 0
    assert f"run 'autograder calibrate {ASSIGNMENT}'" in done.stderr
    assert not (course / "autograded").exists()


def test_use_data_changes_nothing_for_students(images: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Students get the same files as before, and their own check needs no folder."""
    shipped = {file: file.read_bytes() for file in lab.folder.iterdir() if file.is_file()}
    use_data(ASSIGNMENT, str(images))
    shutil.rmtree(images)
    assert {file: file.read_bytes() for file in lab.folder.iterdir() if file.is_file()} == shipped
    assert find_lab(ASSIGNMENT).settings == lab.settings
    assert not own_file(lab).is_relative_to(ROOT / "amllab")
    monkeypatch.setattr(conftest, "_small", True)  # a short training suffices
    (plain,) = [style for style in STYLES if style.name == "AdamW"]
    student = find_lab(ASSIGNMENT)
    results = run_checks(
        student, [student.folder / "test_accuracy.py"], submission_of(calibrated_of(student).task, plain)
    )
    assert score(results) == (8, 8)


@pytest.mark.slow
def test_own_images_are_graded(images: Path, hidden: Path, tmp_path: Path) -> None:
    """With six classes of own images, right functions get all points, wrong ones none, and texts follow the data."""
    shipped = (ROOT / "amllab/checks/transfer_learning/thresholds.json").read_bytes()
    use_data(ASSIGNMENT, str(images))
    shorten(hidden, max_epochs=4, test_images=100)
    calibrated(tmp_path)
    lab = load_lab(ASSIGNMENT)
    require_thresholds(lab)
    assert lab.own.startswith("images-")
    assert lab.own.endswith("-net6")
    evidence = hidden / "evidence" / f"thresholds-{lab.own}.json"
    assert json.loads(evidence.read_text())[lab.own]["budget"]["classes"] == 6
    assert (hidden / "evidence" / f"calibration-{ASSIGNMENT}-{lab.own}.md").is_file()
    assert (ROOT / "amllab/checks/transfer_learning/thresholds.json").read_bytes() == shipped
    earned = {style.name: points(lab, style) for style in STYLES}
    assert earned["AdamW"][0] == 20
    assert earned["no training"][0] == 0
    learned = next(style for style in STYLES if style.name == "AdamW")
    slow = Style("slow", right=False, source=learned.source.replace("lr=lr)", "lr=0.0001 * lr)"))
    text = points(lab, slow)[1]
    assert "(guessing: 16.7 %)" in text
    assert "reptile" not in text


def test_own_images_changed(images: Path, hidden: Path, tmp_path: Path, untrained: None) -> None:
    """Other images, a missing folder or another budget are refused until they are calibrated."""
    use_data(ASSIGNMENT, str(images))
    shorten(hidden)
    calibrated(tmp_path)
    require_thresholds(load_lab(ASSIGNMENT))
    first = next(path for path in sorted(images.rglob("*.png")))
    before = first.read_bytes()
    Image.new("RGB", (32, 32)).save(first)
    with pytest.raises(SettingsError, match=f"have changed: run 'autograder use-data {ASSIGNMENT} FOLDER'"):
        require_thresholds(load_lab(ASSIGNMENT))
    first.write_bytes(before)
    first.rename(first.with_name("another name.png"))
    require_thresholds(load_lab(ASSIGNMENT))
    shorten(hidden, max_epochs=9)
    with pytest.raises(SettingsError, match="no thresholds were measured"):
        require_thresholds(load_lab(ASSIGNMENT))
    images.rename(tmp_path / "away")
    with pytest.raises(SettingsError, match="there is no folder"):
        require_thresholds(load_lab(ASSIGNMENT))
    assert main(["calibrate", ASSIGNMENT]) == 2
    use_data(ASSIGNMENT, str(tmp_path / "away"))
    shorten(hidden)
    require_thresholds(load_lab(ASSIGNMENT))  # the same images elsewhere


def test_return_to_the_labs_own_images(images: Path, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """``use-data`` with the name of the lab's own images returns to these and removes the file."""
    use_data(ASSIGNMENT, str(images))
    assert own_file(lab).is_file()
    assert main(["use-data", ASSIGNMENT, "drawn"]) == 0
    assert "ready to grade" in capsys.readouterr().out
    assert not own_file(lab).exists()
    assert load_lab(ASSIGNMENT) == lab


def test_evidence_for_each_choice(images: Path, hidden: Path, tmp_path: Path, weights: Path, untrained: None) -> None:
    """Each choice of images and backbone keeps its own evidence."""
    use_backbone(ASSIGNMENT, VIT)
    shorten(hidden)
    calibrated(tmp_path)
    assert load_lab(ASSIGNMENT).own == f"drawn-{VIT}"
    use_data(ASSIGNMENT, str(images))
    with pytest.raises(SettingsError, match="no thresholds"):
        require_thresholds(load_lab(ASSIGNMENT))
    shorten(hidden)
    calibrated(tmp_path)
    use_data(ASSIGNMENT, "drawn")
    shorten(hidden)
    require_thresholds(load_lab(ASSIGNMENT))
    use_backbone(ASSIGNMENT, "net6")
    with pytest.raises(SettingsError, match="no thresholds"):  # one learning rate is not the lab's budget
        require_thresholds(load_lab(ASSIGNMENT))
    assert len(list((hidden / "evidence").glob("thresholds-*.json"))) == 2


@pytest.mark.slow
def test_own_transformer_is_graded(images: Path, hidden: Path, tmp_path: Path, weights: Path) -> None:
    """A transformer is trained on own images and graded."""
    use_data(ASSIGNMENT, str(images))
    table = use_backbone(ASSIGNMENT, VIT)
    assert (table["backbone"], table["side"], table["classes"]) == (VIT, 160, 6)
    assert use_data(ASSIGNMENT, str(images), side=32)["side"] == 32
    shorten(hidden, max_epochs=12, n_trainable=7)
    calibrated(tmp_path)
    lab = load_lab(ASSIGNMENT)
    assert [points(lab, style)[0] for style in STYLES] == [20, 0]


@pytest.mark.parametrize(
    "name", ["net6", VIT, "test_convnext", "test_efficientnet", "test_mambaout", "test_resnet", "test_nfnet"]
)
def test_predictions_follow_from_pooled_features(name: str) -> None:
    """For every kind of backbone, logits follow from its pooled features, and logits of another origin do not."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    torch.nn.init.normal_(model.get_classifier().weight)
    images = torch.rand(150, 3, 64, 64) * torch.rand(150, 3, 1, 1) * 4 - 2
    with torch.no_grad():
        features, logits = pooled(model, model.forward_features(images)), model(images).double()
    assert all(found.shape[0] == 150 and found.ndim == 2 for found in features)
    logits -= logits.mean(0)  # with random weights, one class would win everywhere
    assert max(agreement(found, logits) for found in features) >= 0.8
    assert max(agreement(found, torch.randn_like(logits)) for found in features) < 0.5


def test_normalization_of_the_backbone() -> None:
    """Images are normalised as the backbone was pretrained."""
    assert normalization("net6")["mean"] == list(backbones.CIFAR10_MEAN)
    assert normalization(VIT) == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_backbone_sets_the_side(images: Path) -> None:
    """A transformer gets images of the size that it was pretrained with, unless a person has chosen another."""
    assert fitting_side("net6", 17, 3) == 17
    assert fitting_side(VIT, 32, 3) == 160
    assert fitting_side(VIT, 32, 3, chosen=True) == 32
    assert fitting_side("test_vit3", 32, 3) == 160
    with pytest.raises(SettingsError, match="takes images neither of 32 pixels nor of 384 pixels"):
        fitting_side("vit_small_patch16_384", 32, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net7", "timm has no model named 'net7'. Similar names: "),
        ("resnet101", "could not be downloaded"),
        ("test_vit3", "does not take the lab's own images of 32 pixels: choose larger ones first"),
        ("test_resnet", "is too few for n_trainable = 6"),
        ("test_vit2", "of weights, and a submission's answer holds 1 MB"),
    ],
)
def test_backbones_that_do_not_suit(
    weights: Path, name: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone that cannot be graded is refused with one sentence, and nothing is written."""
    monkeypatch.setattr("amllab.loading._answers", lambda address: False)
    if name.startswith("test"):
        save_file(timm.create_model(name).state_dict(), weights / f"{name}.safetensors")
    lab = find_lab(ASSIGNMENT)
    if name == "test_resnet":
        shorten(weights, n_trainable=6)
    if name == "test_vit2":
        monkeypatch.setitem(lab.limits, "answer_bytes", 1_200_000)
        monkeypatch.setattr("autograder.authoring.own_choice.find_lab", lambda _: lab)
    before = own_file(lab).read_text() if own_file(lab).exists() else ""
    assert main(["use-backbone", ASSIGNMENT, name]) == 2
    assert message in capsys.readouterr().err
    assert (own_file(lab).read_text() if own_file(lab).exists() else "") == before


def test_backbone_weights_are_stored(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Weights that came from the network are stored in the library, where isolated submissions find them."""
    model = timm.create_model(VIT)
    (weights / f"{VIT}.safetensors").unlink()
    monkeypatch.setattr("autograder.authoring.own_choice.load_backbone", lambda name: model)
    use_backbone(ASSIGNMENT, VIT)
    monkeypatch.undo()
    file = weights / f"{VIT}.safetensors"
    assert file.stat().st_mode & 0o777 == 0o644  # isolated submissions are another user


def test_weights_of_an_instructor_are_readable(weights: Path, tmp_path: Path) -> None:
    """A file of weights that an instructor has put into the library becomes readable; a link is refused."""
    file = weights / f"{VIT}.safetensors"
    file.chmod(0o600)  # as safetensors writes it
    use_backbone(ASSIGNMENT, VIT)
    assert file.stat().st_mode & 0o777 == 0o644
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is a link, which isolated submissions cannot follow"):
        use_backbone(ASSIGNMENT, VIT)


def test_lent_weights_come_before_stored_ones(weights: Path) -> None:
    """Weights that a check lends for a question replace those that are stored in the library."""
    stored = load_backbone(VIT).state_dict()
    lent = timm.create_model(VIT, num_classes=10).state_dict()
    with lent_weights(VIT, lent):
        found = load_backbone(VIT).state_dict()
    assert not torch.equal(stored["pos_embed"], lent["pos_embed"])
    assert torch.equal(found["pos_embed"], lent["pos_embed"])
    assert torch.equal(load_backbone(VIT).state_dict()["pos_embed"], stored["pos_embed"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[accuracy]\nepochs = 3\n", "line 2: accuracy.epochs: is not known; did you mean max_epochs?"),
        ("[accuracy]\nside = 15\n", "line 2: accuracy.side: must be at least 16, not 15"),
        ('[accuracy]\ndata = "/images"\n', "needs data, digest and classes together"),
        ("[limits]\ncell_seconds = 1.0\n", "limits: is not known"),
        ("[accuracy\n", "not valid TOML"),
    ],
)
def test_own_file_with_mistake(hidden: Path, text: str, message: str) -> None:
    """A mistake in the file is reported with its line."""
    (hidden / "own.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load_lab(ASSIGNMENT)
    assert str(error.value).startswith("transfer_learning/own.toml")
    assert message in str(error.value)


def test_folder_in_lab_toml(lab: Lab) -> None:
    """A folder in lab.toml, which students get, is refused with the command to use instead."""
    text = (lab.folder / "lab.toml").read_text().replace('data = "drawn" ', 'data = "/images" ')
    (problem,) = problems_of(text, "lab.toml", settings_of(lab.name))
    assert "accuracy.data: must be drawn or cifar100; for your own images, run 'autograder use-data" in problem


def test_use_data_bad_arguments(images: Path, tmp_path: Path, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad folder or size is refused with one sentence, and nothing is written."""
    for arguments, message in (
        ([str(tmp_path / "none")], "there is no folder"),
        ([str(images), "--side", "8"], "the side must be 16 to 224 pixels, not 8"),
        ([str(next(images.iterdir()))], "has images, but no folder for each class"),
    ):
        assert main(["use-data", ASSIGNMENT, *arguments]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not own_file(lab).exists()


def test_use_backbone_keeps_image_size(images: Path, weights: Path) -> None:
    """A new backbone keeps the chosen size of the images if it takes it."""
    assert use_data(ASSIGNMENT, str(images), side=48)["side"] == 48
    assert use_backbone(ASSIGNMENT, VIT)["side"] == 48


def test_training_too_long(lab: Lab) -> None:
    """A training that leaves no time for slower machines ends the calibration."""
    task = calibrated_of(lab).task
    with pytest.raises(ThresholdError, match="took 50 s, and a submission, perhaps on a slower machine, has 120 s"):
        in_time(task, STYLES[0], 50.0)
    in_time(task, STYLES[0], 30.0)


def test_right_variant_that_breaks_a_rule(
    images: Path, hidden: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """Calibration stops if a rule of the check rejects a right variant: it would reject submissions, too."""
    use_data(ASSIGNMENT, str(images))
    shorten(hidden, max_epochs=1, train_images=60)
    monkeypatch.setattr("amllab.checks.transfer_learning.accuracy.AGREEING", 1.1)
    assert main(["calibrate", ASSIGNMENT, "--seeds", "3", "--fresh", "3", "--runs", str(tmp_path / "runs")]) == 2
    assert "the check rejects the right variant 'AdamW'" in capsys.readouterr().err


def test_export_to_gradescope_is_refused(images: Path, tmp_path: Path) -> None:
    """Gradescope's machines do not have the images."""
    from autograder.course import Course
    from autograder.exports.gradescope.package import write_zip

    use_data(ASSIGNMENT, str(images))
    with pytest.raises(ValueError, match=r"own\.toml is in use"):
        write_zip(Course.find(ROOT), ASSIGNMENT, tmp_path / "a.zip")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["net6", VIT])
@pytest.mark.parametrize("name", SETS)
def test_own_images_of_any_kind(
    name: str, backbone: str, hidden: Path, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With any classes, sizes, colour modes and kind of backbone, right functions earn points and wrong ones do not."""
    folder, side = str(drawn_folder(tmp_path / name, name)), min(min(size) for size in SETS[name][2])
    use_data(ASSIGNMENT, folder)
    table = use_backbone(ASSIGNMENT, backbone)
    assert table["classes"] == SETS[name][0]
    assert table["side"] == (side if backbone == "net6" else 160)
    use_data(ASSIGNMENT, folder, side)  # faster
    shorten(hidden, max_epochs=12, batch_size=16, n_trainable=3 if backbone == "net6" else 7)
    # these weights are random: they see nothing in 16 pixels, which are one patch, nor in 100 classes of five images
    if backbone == VIT and name in ("two", "hundred"):
        assert main(["calibrate", ASSIGNMENT, "--seeds", "3", "--fresh", "3", "--runs", str(tmp_path / "runs")]) == 2
        assert "no threshold separates" in capsys.readouterr().err
        assert not list(hidden.glob("evidence/*"))
        return
    calibrated(tmp_path)
    lab = load_lab(ASSIGNMENT)
    assert [points(lab, style)[0] for style in STYLES] == [20, 0]
