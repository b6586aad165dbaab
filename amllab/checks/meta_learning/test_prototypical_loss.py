"""Public checks of exercise 2, ``prototypical_loss``: embeddings whose distances are known without computing them.

Each check looks at one property. Support and query come by class, with equal numbers, but for the checks that are about
just that.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.meta_learning.prototype_tables import SAYS, cross_entropy_of, on_axes, wrong_losses
from amllab.kit.expectations import TOLERANCE, Call, close, printed, refuses, returned, returns, unchanged

pytestmark = pytest.mark.cell("check_prototypical_loss", section="Exercise 2: prototypes")

NO_LOGITS, NO_LOSS = "logits to look at", "a loss to look at"
ROUGH = 1e-2  # relative difference of values that are compared with others of the same submission
FEW_DIGITS = 5e-3  # relative difference of values in half precision


def embeddings(rng, rows, d, scale=1.0):
    """Return random embeddings, float ``(rows, d)``."""
    return scale * torch.randn(rows, d, generator=torch.Generator().manual_seed(rng.getrandbits(62)))


def by_class(numbers):
    """Return labels 0, 1, 2 and so on, so many of each, one class after the other."""
    return torch.arange(len(numbers)).repeat_interleave(torch.tensor(numbers))


def case(support, support_labels, query, query_labels):
    """Return the arguments of a call by name."""
    return {"support": support, "support_labels": support_labels, "query": query, "query_labels": query_labels}


def random_case(rng, shots, queries, d=5):
    """Return a case with so many support rows and queries of each class."""
    way, shot, many = len(shots), by_class(shots), by_class(queries)
    centres = embeddings(rng, way, d)
    return case(
        centres[shot] + embeddings(rng, len(shot), d, 0.7),
        shot,
        centres[many] + embeddings(rng, len(many), d, 0.7),
        many,
    )


def call(shots, queries, d=5):
    """Return the call on random embeddings as a student reads it."""
    setup = (
        f"support, support_labels = torch.randn({sum(shots)}, {d}), torch.tensor({by_class(shots).tolist()})\n"
        f"query, query_labels = torch.randn({sum(queries)}, {d}), torch.tensor({by_class(queries).tolist()})"
    )
    return Call("prototypical_loss(support, support_labels, query, query_labels)", setup)


def answer(submission, arguments, called, **more):
    """Return the answer to a call; fail the check if it raises an error."""
    return returns(submission.ask("prototypes", **arguments, **more), called)


def logits_of(got):
    """Return the logits of an answer, or skip the check."""
    logits = got["logits"].get("logits")
    if logits is None or not logits.is_floating_point() or logits.ndim != 2:
        pytest.skip(NO_LOGITS)
    return logits


def loss_of(got):
    """Return the loss of an answer as a number, the mean of several; or skip the check."""
    loss = got["loss"].get("loss")
    if loss is None or not loss.is_floating_point() or not loss.numel():
        pytest.skip(NO_LOSS)
    return loss.double().mean()


@pytest.mark.points(2)
def test_returns_loss_and_logits(submission, rng):
    """Returns two tensors: the loss, a single number, and the logits of shape `(queries, classes)`."""
    shots, queries = [2, 2, 2], [2, 2, 2]
    called = call(shots, queries)
    got = answer(submission, random_case(rng, shots, queries), called)
    entries, loss, logits = got["entries"], got["loss"].get("loss"), got["logits"].get("logits")
    seen, symptom = "", ""
    if not entries and got["returned"] != "Tensor":
        seen = returned(got["returned"], "loss, logits")
        symptom = "nothing returned" if got["returned"] == "NoneType" else "no tuple"
    elif len(entries) != 2:
        seen = "a tensor alone" if not entries else f"{len(entries)} entries: {', '.join(entries)}"
        symptom = (
            "loss alone"
            if loss is not None and not entries
            else "logits alone"
            if not entries
            else "another number of entries"
        )
    elif got["swapped"]:
        seen, symptom = "the logits first, and then the loss", "logits before the loss"
    elif entries[0] != "Tensor":
        seen = f"`{entries[0]}` in place of the loss: a number that went through `.item()` or `float()` has no gradient"
        symptom = "a number in place of the loss"
    elif loss.numel() != 1 or not loss.is_floating_point():
        seen, symptom = f"a loss of {loss.dtype} with shape {tuple(loss.shape)}", "several losses"
    elif logits is None or not logits.is_floating_point() or tuple(logits.shape) != (6, 3):
        seen = f"logits of {logits.dtype} with shape {tuple(logits.shape)}" if logits is not None else f"`{entries[1]}`"
        symptom = "logits of another shape"
    expect(
        not symptom,
        expected=f"`{called.text}` returns a loss with one number and logits of shape (6, 3), for 6 queries and 3 classes",
        seen=seen,
        why="training calls `loss.backward()`, and the accuracy is that of the largest logit of each query",
        symptom=symptom,
        reproduce=called.lines,
    )


def named(explains):
    """Return the mistake that explains what was seen in all cases; empty if none does, or several do.

    Args:
        explains: For each case, the names of the mistakes that explain it.
    """
    names = set.intersection(*explains)
    return names.pop() if len(names) == 1 else ""


@pytest.mark.points(3)
def test_logits_at_known_distances(submission, rng):
    """Logits are squared distances with a minus sign, here of points on axes, where they are known."""
    cases = [on_axes(rng, way) for way in (3, 4)]
    seen = [logits_of(answer(submission, one.arguments, one.call)) for one in cases]
    name = named(
        {name for name, table in one.wrong.items() if close(table, logits)}
        for one, logits in zip(cases, seen, strict=True)
    )
    if not name and all(close(one.wanted, logits, FEW_DIGITS) for one, logits in zip(cases, seen, strict=True)):
        name = "half precision"
    for one, logits in zip(cases, seen, strict=True):
        fits = logits.shape == one.wanted.shape
        query = int((logits - one.wanted).abs().amax(1).argmax()) if fits else 0
        numbers = _row(logits[query]) if fits else f"shape {tuple(logits.shape)}"
        expect(
            close(one.wanted, logits),
            expected=f"logits {_row(one.wanted[query])} for query {query}, by its squared distances from the prototypes",
            seen=numbers + (f": {SAYS[name]}" if name else ""),
            why="with squared Euclidean distances the mean of the support is the best prototype, and the classifier is linear",
            symptom=name or ("other logits" if fits else "logits of another shape"),
            reproduce=f"{one.call.setup}\nprint({one.call.text}[1])",
        )


def _row(row):
    return ", ".join(f"{value:.3g}" for value in row.tolist())


@pytest.mark.points(2)
def test_loss_at_known_distances(submission, rng):
    """The loss is the mean over the queries of the cross-entropy of these logits."""
    cases = [on_axes(rng, way) for way in (3, 4)]
    seen = [loss_of(answer(submission, one.arguments, one.call)) for one in cases]
    right = [cross_entropy_of(one.wanted, one.arguments["query_labels"]) for one in cases]
    name = named(
        {name for name, value in wrong_losses(one).items() if close(value, loss)}
        for one, loss in zip(cases, seen, strict=True)
    )
    if not name and all(close(value, loss, FEW_DIGITS) for value, loss in zip(right, seen, strict=True)):
        name = "half precision"
    said = f": the loss of other logits; {SAYS[name]}" if name in cases[0].wrong else f": {SAYS[name]}" if name else ""
    for one, value, loss in zip(cases, right, seen, strict=True):
        expect(
            close(value, loss),
            expected=f"a loss of {value:.4g}, of queries at known distances from the prototypes",
            seen=f"{loss:.4g}{said}",
            why="the loss says what the network learns: another one trains another network, without any error",
            symptom=name or "another loss",
            reproduce=f"{one.call.setup}\nprint({one.call.text}[0])",
        )


def expect_same(first, second, places, called, *, expected, why, symptom):
    """Fail the check unless two answers have one loss, and the same logits: row ``i`` of the second is ``places[i]``."""
    same = close(loss_of(first), loss_of(second), ROUGH)
    seen = f"losses of {loss_of(first):.4g} and {loss_of(second):.4g}"
    both = [got["logits"].get("logits") for got in (first, second)]
    if same and all(logits is not None and logits.ndim == 2 and len(logits) == len(places) for logits in both):
        same, seen = close(both[0][places], both[1], ROUGH), "other logits"
    expect(same, expected=expected, seen=seen, why=why, symptom=symptom, reproduce=called.lines)


@pytest.mark.points(2)
def test_any_order(submission, rng):
    """Support and queries may come in any order: labels say what each row is."""
    shots, queries = [3, 3, 3, 3], [2, 2, 2, 2]
    made, called = random_case(rng, shots, queries), call(shots, queries)
    first = answer(submission, made, called)
    for part, number in (("support", sum(shots)), ("query", sum(queries))):
        # some code takes for granted that the first rows of all classes come first, or that class 0 does
        rounds = torch.arange(number).view(4, -1).T.flatten()
        mixed = torch.tensor(rng.sample(range(number), number))
        for moved in (rounds, rounds.flip(0), mixed):
            other = {**made, part: made[part][moved], f"{part}_labels": made[f"{part}_labels"][moved]}
            setup = f"order = torch.randperm({number})\n{part}, {part}_labels = {part}[order], {part}_labels[order]"
            shuffled = Call(called.text, f"{called.setup}\n{setup}")
            expect_same(
                first,
                answer(submission, other, shuffled),
                moved if part == "query" else torch.arange(sum(queries)),
                shuffled,
                expected=f"the same loss and logits, in whatever order the rows of the {part} come with their labels",
                why="an episode need not come sorted by class: a row that counts for another class ruins a prototype",
                symptom=f"depends on the order of the {part}",
            )


@pytest.mark.points(2)
def test_unequal_numbers(submission, rng):
    """Classes may have different numbers of support rows and of queries, or no query: prototypes are means of all rows."""
    shots, queries = [1, 4, 2, 3], [3, 1, 2, 0]
    made, called = random_case(rng, shots, queries), call(shots, queries)
    # the only query of a class lies near another class: a mean that does not count all queries alike is far off
    made["query"][3] = made["support"][-1]
    means = [rows.mean(dim=0) for rows in made["support"].split(shots)]
    one_each = {**made, "support": torch.stack(means), "support_labels": torch.arange(4)}
    numbers = f"; the support has {shots} rows of the classes, the query {queries}"
    first = returns(submission.ask("prototypes", **made), called, why="an episode may have any numbers", more=numbers)
    logits = first["logits"].get("logits")
    expect(
        logits is None or logits.ndim != 2 or len(logits) != sum(queries) or logits.shape[1] == 4,
        expected=f"logits of 4 classes, those of the support; the last one has no query: shape ({sum(queries)}, 4)",
        seen=f"shape {tuple(logits.shape) if logits is not None else ()}",
        why="a class that is not asked for is still one that a query can be taken for",
        symptom="classes of the query",
        reproduce=called.lines,
    )
    expect_same(
        answer(submission, one_each, called),
        first,
        torch.arange(sum(queries)),
        called,
        expected="the same loss and logits as with one support row of each class, the mean of its rows",
        why="the prototype of a class is the mean of its support, however many rows that has",
        symptom="prototypes are no means of unequal numbers",
    )
    equal = [random_case(rng, [1] * 4, [2] * 4) for _ in range(2)]
    if all(is_cross_entropy(answer(submission, one, called), one["query_labels"], TOLERANCE) for one in equal):
        expect(
            is_cross_entropy(first, made["query_labels"], ROUGH),
            expected="the mean over all queries of the cross-entropy of the logits",
            seen=f"{loss_of(first):.4g}, which is another mean",
            why="every query counts the same, however many its class has",
            symptom="no mean over unequal numbers",
            reproduce=called.lines,
        )


def is_cross_entropy(got, labels, tolerance):
    """Return whether the loss of an answer is the mean cross-entropy of its logits."""
    logits = got["logits"].get("logits")
    fits = (
        logits is not None and logits.ndim == 2 and len(logits) == len(labels) and logits.shape[1] > int(labels.max())
    )
    return fits and close(cross_entropy_of(logits, labels), loss_of(got), tolerance)


@pytest.mark.points(1)
def test_inputs_stay_the_same(submission, rng):
    """Embeddings and labels are not changed."""
    shots, queries = [2, 2, 2], [2, 2, 2]
    called = call(shots, queries)
    made = random_case(rng, shots, queries)
    for part in ("support", "query"):
        order = torch.arange(6).view(3, 2).T.flatten().flip(0)  # not by class
        made |= {name: made[name][order] for name in (part, f"{part}_labels")}
    got = answer(submission, made, called)
    if not got["loss"] and not got["logits"]:
        pytest.skip(NO_LOSS)
    unchanged(got["changed"], called, why="embeddings and labels belong to the caller, who may go on with them")


@pytest.mark.points(1)
def test_refuses_queries_without_support(submission, rng):
    """`ValueError` if a query label has no support: one beyond the labels of the support, or one that they leave out."""
    cases, calls = {}, {}
    for words, given, asked in (
        ("a query label beyond those of the support", [0, 0, 1, 1, 2, 2], [0, 1, 3]),
        ("a query label that the support leaves out", [0, 0, 2, 2, 3, 3], [0, 1, 2]),
    ):
        cases[words] = case(embeddings(rng, 6, 5), torch.tensor(given), embeddings(rng, 3, 5), torch.tensor(asked))
        setup = f"support, query = torch.randn(6, 5), torch.randn(3, 5)\nsupport_labels, query_labels = torch.tensor({given}), torch.tensor({asked})"
        short = f"support labels {given} and query labels {asked}"
        calls[words] = Call("prototypical_loss(support, support_labels, query, query_labels)", setup, short=short)
    refuses(
        {words: submission.ask("prototypes", **arguments) for words, arguments in cases.items()},
        calls,
        why="a class without support has no prototype: whatever is computed for it means nothing",
        printed=lambda words: printed(submission, "prototypes", **cases[words]),
    )
