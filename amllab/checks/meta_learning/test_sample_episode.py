"""Public checks of exercise 1, ``sample_episode``: what every episode must satisfy, whatever was drawn.

Each check looks at one property, and leaves the others alone. Four tensors in another order lose points for that once:
the other checks put them in the contract's order.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.meta_learning import episode_fairness
from amllab.checks.meta_learning.episode_draws import expect_fair, sampled
from amllab.checks.meta_learning.episode_faults import (
    ORDERS,
    Question,
    episodes_in,
    faults,
    order_of,
)
from amllab.checks.meta_learning.episode_probes import PARTS
from amllab.checks.meta_learning.episode_questions import (
    NO_EPISODE,
    QUERIES,
    SETUP,
    SHOT,
    WAY,
    answer,
    read,
    readable,
    seeds,
    shuffled,
    usual,
)
from amllab.kit.expectations import Call, printed, refuses, returned

pytestmark = pytest.mark.cell("check_sample_episode", section="Exercise 1: an episode")


@pytest.mark.points(2)
def test_returns_indices_and_labels(submission, rng):
    """Returns four int64 tensors in this order: indices and new labels of the support, and those of the query."""
    question = usual(rng)
    got = answer(submission, question, seeds(rng))
    entries, call = got["entries"], question.call
    other = [entry for entry in entries if entry["type"] != "Tensor"]
    expect(
        len(entries) == len(PARTS) and not other,
        expected=f"`{call.text}` returns {', '.join(PARTS)}",
        seen=returned(got["returned"], ", ".join(PARTS))
        if not entries
        else f"{len(entries)} entries: {', '.join(entry['type'] for entry in entries)}",
        why="the caller unpacks four tensors, and looks up images by the indices",
        symptom={"NoneType": "nothing returned"}.get(
            got["returned"], "no tensors" if len(entries) == len(PARTS) else "another number of entries"
        ),
        reproduce=call.lines,
    )
    episodes = episodes_in(got)
    order = order_of(question, episodes)
    expect(
        not ORDERS[order],
        expected=f"the order {', '.join(PARTS)}",
        seen=ORDERS[order],
        why="the caller takes the four tensors apart by their order",
        symptom=f"another order: {ORDERS[order]}",
        reproduce=call.lines,
    )
    found = faults(question, episodes)
    for kind in ("sizes", "range"):
        symptom, said = found.get(kind, ("", ""))
        expect(
            not said,
            expected=f"n_way * k_shot = {WAY * SHOT} support images and n_way * n_query = {WAY * QUERIES} query images",
            seen=said,
            why="a loss or an accuracy over another number of images is that of another task",
            symptom=symptom,
            reproduce=call.lines,
        )
    for name, entry in zip(PARTS, entries, strict=True):
        flat = len(entry["shape"]) == 1
        expect(
            entry["dtype"] == "int64" and flat,
            expected="four int64 tensors of one dimension",
            seen=f"`{name}` is a tensor of {entry['dtype']} with shape {tuple(entry['shape'])}",
            why="indices and class labels are whole numbers, and the labels go to `F.cross_entropy` as they are",
            symptom="another dtype" if flat else "another shape",
            reproduce=call.lines,
        )


@pytest.mark.points(2)
def test_no_image_twice(submission, rng):
    """No image occurs twice in an episode: a query image is never a support image as well."""
    question = usual(rng)
    got = answer(submission, question, seeds(rng))
    symptom, said = faults(question, read(question, got)).get("images", ("", ""))
    expect(
        not said,
        expected="support and query images that are all different, in each of 20 episodes",
        seen=said,
        why="a network recognises an image that it has just been shown without any idea of its class: the accuracy lies",
        symptom=symptom,
        reproduce=question.call.lines,
    )


@pytest.mark.points(2)
def test_new_labels_name_classes(submission, rng):
    """New labels `0 ... n_way - 1` name one class each, the same in support and query; all have their numbers of images."""
    question = usual(rng)
    got = answer(submission, question, seeds(rng))
    symptom, said = faults(question, read(question, got)).get("labels", ("", ""))
    expect(
        not said,
        expected=f"labels 0 to {WAY - 1}: each names one class of the data set, with {SHOT} support and {QUERIES} query images",
        seen=said,
        why="the support tells by examples what the labels of the query mean",
        symptom=symptom,
        reproduce=question.call.lines,
    )


@pytest.mark.points(1)
def test_new_labels_are_random(submission, run_seed):
    """Which class gets which new label is random."""
    question, episodes = sampled(submission, run_seed)
    expect_fair(
        episode_fairness.of_labels(question, episodes),
        question,
        expected="every new label for every class, each as likely as another",
        why="a label that tells the class can be learned by heart, without any look at the support",
    )


@pytest.mark.points(1)
def test_same_state_same_episode(submission, rng):
    """The same state of the generator gives the same episode."""
    question, seed = usual(rng), rng.getrandbits(62)
    got = answer(submission, question, [seed] * 3)
    if not readable(got):
        pytest.skip(NO_EPISODE)
    first, *others = episodes_in(got)
    same = all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    expect(
        same,
        expected="the same episode from two generators with the same seed",
        seen="two different episodes",
        why="an experiment that cannot be repeated cannot be compared: every random number has to come from `generator`",
        symptom="another episode from the same state",
        reproduce=f"{SETUP}\nfor _ in range(2):\n"
        f"    print(sample_episode(labels, {WAY}, {SHOT}, {QUERIES}, torch.Generator().manual_seed(1)))",
    )


def expect_refusals(submission, rng, cases, why):
    """Fail the check unless each call raises ``ValueError``; cases: what is wrong -> question, short form of the call."""
    seed = rng.getrandbits(62)
    questions = {words: {**question.arguments, "seeds": [seed]} for words, (question, _) in cases.items()}
    refuses(
        {words: submission.ask("episodes", **question) for words, question in questions.items()},
        {words: Call(question.call.text, question.setup, short=short) for words, (question, short) in cases.items()},
        why=why,
        printed=lambda words: printed(submission, "episodes", **questions[words]),
    )


@pytest.mark.points(1)
def test_refuses_numbers_below_one(submission, rng):
    """`ValueError` if `n_way`, `k_shot` or `n_query` is below 1."""
    labels, cases = usual(rng).labels, {}
    for name, place in (("n_way", 0), ("k_shot", 1), ("n_query", 2)):
        for number in (0, -1):
            numbers = [WAY, SHOT, QUERIES]
            numbers[place] = number
            words = f"{'no' if number == 0 else 'negative'} {name}"
            cases[words] = (Question(labels, *numbers, SETUP), f"{name}={number}")
    expect_refusals(submission, rng, cases, "an episode without classes, support or query is a mistake of the caller")


@pytest.mark.points(1)
def test_refuses_too_few_classes(submission, rng):
    """`ValueError` if fewer than `n_way` classes have `k_shot + n_query` images."""
    enough = SHOT + QUERIES
    cases = {}
    for words, sizes in {
        "too few classes": [enough + 1] * (WAY - 1),
        "too few large classes": [enough + 1] * (WAY - 1) + [enough - 1, enough - 1, 2],
        "small classes alone": [enough - 1] * (2 * WAY),
    }.items():
        setup = "labels = torch.tensor(" + " + ".join(f"[{c}] * {size}" for c, size in enumerate(sizes)) + ")"
        short = f"n_way={WAY}, k_shot={SHOT}, n_query={QUERIES} and classes with {', '.join(map(str, sizes))} images"
        cases[words] = (Question(shuffled(rng, sizes), WAY, SHOT, QUERIES, setup), short)
    expect_refusals(
        submission, rng, cases, "an episode with fewer classes or images than asked for is easier: its accuracy lies"
    )
