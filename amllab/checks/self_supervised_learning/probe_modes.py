"""A probe of an encoder whose modules come in train mode, in eval mode, or in part in each."""

from amllab.checks import expect
from amllab.checks.self_supervised_learning.probe_runs import answer, call, drawn, modules_of, parameters_of
from amllab.seeds import derive

SETUP = {
    "in train mode": "encoder.train()\n",
    "in eval mode": "encoder.eval()\n",
    "in part in train mode": "encoder.train()\nencoder[1].eval()  # a frozen BatchNorm layer\n",
}
AFTER = "\n[(name, module.training) for name, module in encoder.named_modules()]"


def question(run_seed, modes):
    """Return the question for an encoder in these modes, in part trainable: the same for all checks."""
    seed = derive(run_seed, "encoder")
    case = drawn(seed, [kind for _ in range(8) for kind in range(4)])
    names = parameters_of(case)
    training = {
        "in train mode": modules_of(case),
        "in eval mode": [],
        # a part that is sent to train mode or to eval mode as a whole would not be in these modes
        "in part in train mode": [
            "",
            "drop",
            "stem",
            "stem.0",
            "stem.2",
            "body",
            "body.0",
            "body.1",
            "body.2",
            "embed",
        ],
    }
    asked = case.question(seed, (14, 10, 6, 2), arguments={"epochs": 3, "lr": 1e-2})
    return {**asked, "training": training[modes], "trainable": [n for n in names if not n.startswith("stem")]}


def called(submission, run_seed, modes):
    """Return the question for an encoder in these modes, its answer, and the call; fail the check without an answer."""
    asked = question(run_seed, modes)
    got = answer(submission, asked)
    was_used(got, asked)
    return asked, got, call(asked, setup=SETUP[modes])


def was_used(got, asked):
    """Fail a check of the encoder's state if nothing was done that could have changed it."""
    expect(
        got["passes"],
        expected="a layer that is trained on the images of the loader",
        seen="the loader was never read",
        why="an encoder that is not used stays as it is: there is nothing to look at",
        symptom="loader not read",
        reproduce=call(asked).lines,
    )


def _structure(settings):
    """Return the names and classes of the modules in a description."""
    return [line.strip().split("(")[:2] for line in settings.splitlines()]
