"""Hidden checks of exercise 3: the encoder afterwards, what it was shown, and whether the training does as it is told.

What lost points in the public checks does not lose them again: a layer that has not learned is not asked which images
it learned from.
"""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning.probe_encoder import FIRST, hooks_of, prepared
from amllab.checks.self_supervised_learning.probe_modes import SETUP, _structure, called
from amllab.checks.self_supervised_learning.probe_runs import (
    DEFAULTS,
    WATCH,
    accuracy_of,
    answer,
    before,
    call,
    drawn,
    known_mistake,
    modules_of,
    parameters_of,
    wait_until_learned,
)
from amllab.kit.expectations import some, unchanged
from amllab.kit.snapshots import changes
from amllab.kit.state_dicts import values_changed
from amllab.seeds import derive

pytestmark = pytest.mark.cell("check_linear_probe", section="Exercise 3: the linear probe")


@pytest.mark.points(3)
def test_statistics_stay(submission, run_seed):
    """The encoder comes back bit for bit, the statistics of BatchNorm included."""
    for modes in SETUP:
        asked, got, made = called(submission, run_seed, modes)
        snapshot, settings = before(asked)
        changed = values_changed(snapshot["state"], got["encoder"]["state"])
        statistics = [name for name in changed if "running" in name]
        others = [name for name in changed if name not in statistics]
        unchanged(
            changed,
            made,
            expected=f"an encoder that comes {modes} and goes with the same parameters and buffers, bit for bit",
            more=". In train mode, BatchNorm updates its running statistics at each batch, also without gradients"
            if statistics and not others
            else "",
            why="a frozen encoder is not frozen if its statistics drift: its features are other ones after each probe",
            symptom="statistics drift" if not others else "values changed",
        )
        expect(
            got["settings"] == settings,
            expected="the same modules with the same settings afterwards",
            seen=f"changed: {some(_lines(settings, got['settings']), none='the order of modules')}",
            why="the encoder is trained further after a probe, with other modules or settings than it was built with",
            symptom="settings changed",
            share=1 / 3,
            reproduce=f"{made.lines}\nencoder",
        )
        hooks = hooks_of(prepared(asked["encoder"], [], []))
        expect(
            got["hooks"] == hooks,
            expected="the hooks of its owner on the encoder, and no others",
            seen="hooks were added and not removed" if got["hooks"] > hooks else "hooks were removed",
            why="a hook that stays behind runs at each further call of the encoder; one that is missing was there for a reason",
            symptom="hooks left" if got["hooks"] > hooks else "hooks removed",
            share=2 / 3,
            reproduce=f"{made.lines}\n[len(module._forward_hooks) for module in encoder.modules()]",
        )


def _lines(settings, seen):
    """Return the lines of a description that differ."""
    known = settings.splitlines()
    return [line.strip() for line in seen.splitlines() if line not in known] or [
        line.strip() for line in known if line not in seen.splitlines()
    ]


@pytest.mark.points(2)
def test_flags_come_back(submission, run_seed):
    """The same parameters require gradients as before, and none has a `.grad`; PyTorch's settings are as before."""
    asked, got, made = called(submission, run_seed, "in train mode")
    snapshot, settings = before(asked)
    found = changes(snapshot, got["encoder"])
    if _structure(got["settings"]) != _structure(settings):
        found = {}  # modules that were replaced have lost points
    flags, gradients = found.get("requires_grad", []), found.get("gradients", [])
    thawed = [name for name in flags if name in got["encoder"]["trainable"]]
    what = "trainable now" if thawed else "frozen now"
    setup = f"{made.setup}for p in encoder[0].parameters():\n    p.requires_grad = False\n"
    expect(
        not flags,
        expected="the same parameters trainable as before: all but those of the first layer",
        seen=f"{what}: {some(thawed or flags)}",
        why="which parts of an encoder are trained is decided by its owner: pretraining that goes on would train other ones",
        symptom=what,
        reproduce=f"{setup}{made.text}\n[name for name, p in encoder.named_parameters() if p.requires_grad]",
    )
    expect(
        not gradients,
        expected="no gradients on the encoder's parameters",
        seen=f"`.grad` of {some(gradients)}",
        why="the next backward pass adds to this gradient: the first step of another training would be wrong",
        symptom="gradients left",
        share=0.5,
        reproduce=f"{setup}{made.text}\n[name for name, p in encoder.named_parameters() if p.grad is not None]",
    )
    expect(
        got["gradients_enabled"],
        expected="gradients that are recorded after the call, as before it",
        seen="`torch.is_grad_enabled()` is False: gradients were switched off and not on again",
        why="nothing that follows in the notebook can be trained",
        symptom="gradients switched off",
        share=0.5,
        reproduce=f"{made.lines}\ntorch.is_grad_enabled()",
    )
    expect(
        got["default_dtype"] == "torch.float32",
        expected="the default dtype that was there before",
        seen=got["default_dtype"],
        why="all layers and tensors that follow in the notebook have another precision",
        symptom="default dtype changed",
        share=0.5,
        reproduce=f"{made.lines}\ntorch.get_default_dtype()",
    )


def small_batches(run_seed):
    """Return a case and a question whose loader is a list: one class is alone in batches of one, one in the last batch."""
    seed = derive(run_seed, "small batches")
    labels = [kind for _ in range(7) for kind in range(6)]
    labels = [*labels[:16], *[6] * 6, *labels[16:], *[7] * 6]
    case = drawn(seed, labels)
    return case, {**case.question(seed, (16, 1, 1, 1, 1, 1, 1, 14, 12, 6), arguments=DEFAULTS), "as_list": True}


@pytest.mark.points(2)
def test_shown_in_eval_mode(submission, run_seed):
    """Every image is shown to the encoder as it is, in eval mode and without gradients."""
    case, asked = small_batches(run_seed)
    asked = {**asked, "training": modules_of(case), "trainable": parameters_of(case), "arguments": {"epochs": 2}}
    got = answer(submission, asked)
    made = call(asked, setup=WATCH)
    missing = sorted(set(range(FIRST, FIRST + len(case.labels))) - set(got["shown"]["numbers"].tolist()))
    expect(
        not (missing or got["changed"]),
        expected=f"all {len(case.labels)} images shown, as the loader gives them, those of small batches included",
        seen="images or labels of the loader are changed in place"
        if got["changed"]
        else f"{len(missing)} are never shown as they are"
        + (
            ": those of the last batch"
            if missing == list(range(FIRST + len(case.labels) - 6, FIRST + len(case.labels)))
            else ""
        )
        + (": those of batches of one image" if missing == list(range(FIRST + 16, FIRST + 22)) else ""),
        why="where labels are few, every one of them counts",
        symptom="images changed in place" if got["changed"] else "images left out",
        reproduce=made.lines,
    )
    modes = got["shown"]["in_train_mode"]
    expect(
        not modes,
        expected="BatchNorm and dropout in eval mode whenever the encoder is shown an image",
        seen=f"in train mode at times: {some(modes)}",
        why="in train mode the features of an image depend on its batch and on chance",
        symptom="train mode",
        reproduce=made.lines,
    )
    expect(
        not got["shown"]["with_gradients"],
        expected="no gradients recorded through the encoder, as within `torch.no_grad()`",
        seen=f"gradients recorded in {got['shown']['with_gradients']} of {got['shown']['calls']} calls of the encoder",
        why="nothing needs them, and they keep the activations of every layer in memory",
        symptom="gradients recorded",
        share=0.5,
        reproduce=made.lines,
    )


@pytest.mark.points(1)
def test_learns_from_every_image(submission, run_seed):
    """A class whose images come in batches of one, or in the last batch alone, is recognised as well."""
    wait_until_learned(submission, run_seed)
    case, asked = small_batches(run_seed)
    got = answer(submission, asked)
    if known_mistake(submission, run_seed):
        return  # it has lost points, and such a layer recognises less
    for kind, where in ((6, "batches of one image"), (7, "the last batch, which is small,")):
        chosen = case.classes == kind
        outputs = {name: value[chosen] for name, value in got["outputs"].items()}
        accuracy = accuracy_of({"outputs": outputs}, case.classes[chosen])
        expect(
            accuracy >= 0.5,
            expected=f"at least 50% of new images recognised, of a class whose images come in {where} alone",
            seen=f"{accuracy:.0%} of them; the other classes are learned",
            why="where labels are few, every one of them counts",
            symptom="single images forgotten" if kind == 6 else "last batch forgotten",
            reproduce=call(asked).lines,
        )


@pytest.mark.points(1)
def test_epochs_and_lr(submission, run_seed):
    """`epochs` says how long the layer is trained, and `lr` how fast."""
    wait_until_learned(submission, run_seed)
    seed = derive(run_seed, "epochs")
    case = drawn(seed, [kind for _ in range(12) for kind in range(4)])
    asked = case.question(seed, (16, 16, 16))

    def trained(epochs, lr):
        return answer(submission, {**asked, "arguments": {"epochs": epochs, "lr": lr}})

    runs = {epochs: trained(epochs, 1e-3) for epochs in (1, 2, 3)}
    steps = {epochs: run["taken"]["steps"] for epochs, run in runs.items()}
    evaluations = {epochs: run["taken"]["evaluations"] for epochs, run in runs.items()}
    if not any(evaluations.values()) and not any(steps.values()):
        return  # a solution in one step has neither epochs nor a learning rate
    symptom, seen = wrong_epochs(steps if any(steps.values()) else evaluations, evaluations)
    expect(
        not symptom,
        expected="a training of `epochs` passes over the features",
        seen=seen,
        why="a probe that is trained longer or shorter than it says cannot be compared with others",
        symptom=symptom,
        share=0.5 if "one epoch" in symptom else 0.0,
        reproduce=call({**asked, "arguments": {"epochs": 1, "lr": 1e-3}}).lines,
    )
    fast, slow, still = (trained(2, lr) for lr in (2e-2, 2e-3, 1e-12))
    rates = fast["taken"]["rate"] / max(slow["taken"]["rate"], 1e-30)
    moved = [_moved(still["state"], run["state"]) for run in (fast, slow)]
    expect(
        fast["taken"]["line_search"] or rates > 5 or moved[0] > 3 * moved[1],
        expected="larger steps with lr=0.02 than with lr=0.002",
        seen=f"the same steps with both, of a learning rate of {fast['taken']['rate']:g}: is `lr` what the optimizer gets?"
        if moved[0] == moved[1]
        else f"weights that moved by {moved[0]:.2g} and {moved[1]:.2g} in two epochs: is `lr` what the optimizer gets?",
        why="a learning rate that is passed but not used makes every search for a good one pointless",
        symptom="learning rate ignored",
        reproduce=call({**asked, "arguments": {"epochs": 2, "lr": 2e-3}}).lines,
    )
    told, default = trained(**DEFAULTS), answer(submission, {**asked, "arguments": {}})
    wanted = told["taken"]["steps"], told["taken"]["rate"]
    seen = default["taken"]["steps"], default["taken"]["rate"]
    expect(
        seen == wanted or told["taken"]["steps"] != DEFAULTS["epochs"] * (steps[3] - steps[2]),
        expected="without `epochs` and `lr` the training of epochs=50 and lr=0.01, as the signature says",
        seen=f"{seen[0]} steps with a learning rate of {seen[1]:g}, not {wanted[0]} with {wanted[1]:g}",
        why="probes that name neither are compared with each other",
        symptom="other defaults",
        share=0.5,
        reproduce=call({**asked, "arguments": {}}).lines,
    )


def wrong_epochs(counts, evaluations):
    """Return the symptom of numbers of steps that do not follow from the numbers of epochs, and what was seen."""
    each = counts[3] - counts[2]
    text = f"{', '.join(map(str, counts.values()))} steps with epochs={', '.join(map(str, counts))}"
    if counts[2] - counts[1] == each > 0 and counts[1] != each:
        symptom = {2 * each: "one epoch too many", 0: "one epoch too few"}.get(counts[1], "")
        return symptom, f"{text}: {symptom}"
    if len(set(counts.values())) == len(set(evaluations.values())) == 1:
        return "epochs ignored", f"{text}: is `epochs` used?"
    return "", ""


def _moved(before_, after):
    """Return how far the weights of a layer have moved."""
    return sum(float((after[name] - before_[name]).double().norm()) for name in before_ if name in after)
