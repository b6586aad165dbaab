"""Public checks of exercise 1, ``nt_xent_loss``: views whose loss is known without computing it.

Each check looks at one property. A loss that is right up to its form, such as one number for each row, loses points for
that once: the other checks look at the mean.
"""

import math

import pytest
import torch

from amllab.checks import expect
from amllab.kit.expectations import Call, close, printed, refuses, returns, unchanged
from amllab.kit.loss_values import expect_one_number

pytestmark = pytest.mark.cell("check_nt_xent_loss", section="Exercise 1: the contrastive loss")

NO_VALUE = "a number to look at"
CONSTANT = "a loss that depends on its rows"
ROUGH = 1e-2  # relative difference of a value with few digits, whose gradients lose points instead
# what the usual wrong losses are, in words that a report adds to the value that was seen
SAYS = {
    "one candidate too many": "each row has one candidate too many: is it one of its own candidates?",
    "one candidate too few": "each row has one candidate too few: is its other view in the denominator?",
    "candidates from one view alone": "each row has half of the candidates: those of one view alone",
    "itself among the candidates": "this is the loss if the similarity of a row with itself is not left out",
    "itself counts as 0": "this is the loss if the similarity of a row with itself is set to 0, which still counts: exp(0) is 1",
    "itself counts as -1": "this is the loss if the similarity of a row with itself is set to -1, which still counts",
    "positive left out": "this is the loss if the other view is missing in the denominator",
    "positive counted twice": "this is the loss if the other view is counted twice in the denominator",
    "hardest candidate alone": "this is the loss if only the most similar of the other images counts",
    "no candidates": "this is the similarity of the two views alone: nothing keeps images apart",
    "wrong positives": "this is the loss if the positive of a row is another row than its other view",
    "temperature multiplied": "this is the loss if similarities are multiplied by the temperature",
    "temperature ignored": "this is the loss with a temperature of 1",
    "temperature 0.5 always": "this is the loss with a temperature of 0.5, whatever is passed",
    "temperature squared": "this is the loss if the temperature is applied twice",
    "root of the temperature": "this is the loss with the root of the temperature in its place",
    "half the temperature": "this is the loss at half the temperature; squared distances of unit vectors do that, too",
    "twice the temperature": "this is the loss at twice the temperature; cosines that are mapped to [0, 1] do that, too",
    "distance": "this is the loss with Euclidean distances in place of cosines",
    "opposite similarity": "this is the loss if similar rows count as far apart: with a distance, such as 1 - cosine, or another sign",
    "negative similarities cut off": "this is the loss if negative cosines are set to 0",
    "absolute similarities": "this is the loss with absolute values of the cosines",
    "mean of the probabilities": "this is the logarithm of a mean, not the mean of logarithms",
    "sum": "this is the sum over the rows, not their mean",
    "twice the mean": "this is twice the mean over the rows: is it a sum over 2n rows that is divided by n?",
    "half the mean": "this is half the mean over the rows",
    "negative": "this is the loss with the opposite sign: training would make views of an image different",
}


def views(rng, n, d):
    """Return two views with rows of different lengths, float ``(n, d)``."""
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    return torch.randn(2, n, d, generator=generator).unbind()


def lengths(rng, n):
    """Return lengths for the rows of two views, float ``(2, n, 1)``, from 0.5 to 8.

    The shorter one view of an image is, the longer is the other: a loss that depends on them is always another one.
    """
    steps = 0.5 * 16 ** torch.linspace(0, 1, 2 * n)
    both = torch.stack([steps[:n], steps.flip(0)[:n]])
    both[:, ::2] = both[:, ::2].flip(0)
    return both[:, rng.sample(range(n), n), None]


def loss(submission, views, temperature=None, **more):
    """Return the answer to a call of ``nt_xent_loss``."""
    return submission.ask("loss", z1=views[0], z2=views[1], temperature=temperature, **more)


def call(n, d, temperature, *, text="z1, z2", setup=""):
    """Return a call on random views, or on those that other lines make."""
    number = "" if temperature is None else f", temperature={temperature:g}"
    return Call(f"nt_xent_loss({text}{number})", setup or f"z1, z2 = torch.randn(2, {n}, {d})")


def number_of(got):
    """Return the number that was returned, or the mean of several; ``None`` if there is none."""
    value = got["value"].get("value")
    return None if value is None or not value.is_floating_point() or not value.numel() else value.double().mean()


def value(submission, views, temperature, called):
    """Return the loss as a number; fail the check if the call raises an error, skip it if there is no number."""
    number = number_of(returns(loss(submission, views, temperature), called))
    if number is None:
        pytest.skip(NO_VALUE)
    return number


def expect_losses(submission, cases, *, why):
    """Fail the check unless all losses have their known values.

    Args:
        submission: The submission.
        cases: Views, temperature, values by the name of the mistake (the right one has none), call, and what is
            expected in words.
        why: Why it matters.
    """
    seen = [value(submission, views, temperature, called) for views, temperature, _, called, _ in cases]
    # the right value is the first one
    pairs_of = [(case[2], one) for case, one in zip(cases, seen, strict=True)]
    names = [name for name in cases[0][2] if all(close(torch.tensor(by[name]), one) for by, one in pairs_of)]
    name = names[0] if names else None
    for (_, _, values, called, words), one in zip(cases, seen, strict=True):
        expect(
            name == "" or (name is None and close(torch.tensor(values[""]), one, ROUGH)),
            expected=f"a loss of {values['']:.4g}: {words}",
            seen=f"{one:.4g}" + (f": {SAYS[name]}" if name else ""),
            why=why,
            symptom=name or "another loss",
            reproduce=called.lines,
        )


def of_other_size(mean, n):
    """Return the values of losses that are right up to a factor, and of the right one."""
    return {"": mean, "sum": 2 * n * mean, "twice the mean": 2 * mean, "half the mean": mean / 2, "negative": -mean}


@pytest.mark.points(2)
def test_returns_one_number(submission, rng):
    """Returns the loss as a tensor with one number."""
    called = call(4, 8, 0.5)
    expect_one_number(returns(loss(submission, views(rng, 4, 8), 0.5), called), called)


@pytest.mark.points(1)
def test_all_rows_alike(submission, rng):
    """If all rows point in the same direction, every one of the `2n - 1` candidates is equally likely: the loss is `log(2n - 1)`."""
    cases = []
    for n in (3, 4):
        temperature = round(rng.uniform(1.2, 1.6), 2)
        row = torch.nn.functional.normalize(views(rng, 1, rng.randint(5, 9))[0], dim=1)
        values = {
            **of_other_size(math.log(2 * n - 1), n),
            "one candidate too many": math.log(2 * n),
            "itself counts as 0": math.log(2 * n - 1 + math.exp(-1 / temperature)),
            "itself counts as -1": math.log(2 * n - 1 + math.exp(-2 / temperature)),
            "one candidate too few": math.log(2 * n - 2),
            "candidates from one view alone": math.log(n),
            "hardest candidate alone": math.log(2),
        }
        called = call(0, 0, temperature, text="z, 3 * z", setup=f"z = torch.ones({n}, 8)")
        words = f"log({2 * n - 1}), since each of the {2 * n} rows has {2 * n - 1} candidates that are equally likely"
        cases.append((row * lengths(rng, n), temperature, values, called, words))
    expect_losses(submission, cases, why="a network that cannot tell images apart starts with this loss")


def pairs(rng, cosines, *, along_axes):
    """Return two views, float ``(n, d)``: rows of an image with these cosines, rows of different images at right angles."""
    n = len(cosines)
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    directions, _ = torch.linalg.qr(torch.randn(2 * n + 2, 2 * n, dtype=torch.float64, generator=generator))
    if along_axes:  # centring rows, for one, may change nothing in other directions
        directions = torch.eye(2 * n + 2, dtype=torch.float64)[:, : 2 * n]
    first, rest = directions.T.split(n)
    along = torch.tensor(cosines, dtype=torch.float64)[:, None]
    second = along * first + (1 - along**2).sqrt() * rest
    return (torch.stack([first, second]) * lengths(rng, n)).float()


def at_right_angles(cosines, temperature):
    """Return the losses of such pairs, right and wrong ones."""
    n, t = len(cosines), temperature
    zeros = 2 * n - 2

    def mean(loss, logits=None):
        """Return the mean of a function of the logit of the positive."""
        found = [loss(logit) for logit in logits or [cosine / t for cosine in cosines]]
        return sum(found) / n

    def against(others):
        """Return the loss of a positive among others whose exponentials have this sum."""
        return lambda logit: math.log1p(others * math.exp(-logit))

    right = against(zeros)
    return {
        **of_other_size(mean(right), n),
        "itself among the candidates": mean(against(zeros + math.exp(1 / t))),
        "itself counts as 0": mean(against(zeros + 1)),
        "itself counts as -1": mean(against(zeros + math.exp(-1 / t))),
        "positive left out": mean(lambda logit: math.log(zeros) - logit),
        "positive counted twice": mean(lambda logit: math.log(2 + zeros * math.exp(-logit))),
        "candidates from one view alone": mean(against(n - 1)),
        "hardest candidate alone": mean(against(1)),
        "no candidates": mean(lambda logit: -logit),
        "mean of the probabilities": -math.log(mean(lambda logit: math.exp(-right(logit)))),
        "wrong positives": mean(lambda logit: math.log(zeros + math.exp(logit))),
        "temperature multiplied": mean(right, [cosine * t for cosine in cosines]),
        "temperature ignored": mean(right, cosines),
        "temperature 0.5 always": mean(right, [cosine / 0.5 for cosine in cosines]),
        "temperature squared": mean(right, [cosine / t**2 for cosine in cosines]),
        "root of the temperature": mean(right, [cosine / t**0.5 for cosine in cosines]),
        "half the temperature": mean(right, [2 * cosine / t for cosine in cosines]),
        "twice the temperature": mean(right, [cosine / (2 * t) for cosine in cosines]),
        "distance": mean(right, [(math.sqrt(2) - math.sqrt(2 - 2 * cosine)) / t for cosine in cosines]),
        "opposite similarity": mean(right, [-cosine / t for cosine in cosines]),
        "negative similarities cut off": mean(right, [max(cosine, 0) / t for cosine in cosines]),
        "absolute similarities": mean(right, [abs(cosine) / t for cosine in cosines]),
    }


@pytest.mark.points(3)
def test_pairs_at_right_angles(submission, rng):
    """The loss is right where the two views of an image are at known angles, and rows of different images at right angles."""
    cases = []
    for usual, low, high in (((0.6, 0.4, -0.1), 0.65, 0.75), ((0.7, 0.5, 0.3, -0.2), 1.2, 1.5)):
        temperature, n = round(rng.uniform(low, high), 2), len(usual)
        cosines = [round(cosine + rng.uniform(-0.03, 0.03), 2) for cosine in usual]
        rng.shuffle(cosines)
        setup = (
            f"q, c = torch.eye({2 * n}), torch.tensor({cosines})[:, None]\n"
            f"z1, z2 = q[:{n}], c * q[:{n}] + (1 - c**2).sqrt() * q[{n}:]"
        )
        words = (
            f"the cosines of the two views of each image are {', '.join(map(str, cosines))}, those of all other pairs "
            f"are 0, and the temperature is {temperature:g}"
        )
        called = call(0, 0, temperature, setup=setup)
        drawn = pairs(rng, cosines, along_axes=n == 3)
        cases.append((drawn, temperature, at_right_angles(cosines, temperature), called, words))
    expect_losses(submission, cases, why="each row has to find its other view among all remaining rows of both views")


def expect_no_change(submission, cases, called, *, expected, why, symptom):
    """Fail the check unless two pairs of views have the same loss, in all cases; skip it if all views have."""
    # two views that are the same have another loss
    others = [(view, view) for pair, _ in cases for view in pair]
    numbers = [value(submission, views, 0.5, called) for views in (*others, *(pair for pair, _ in cases))]
    if all(close(numbers[0], number, ROUGH) for number in numbers):
        pytest.skip(CONSTANT)
    for first, (_, other) in zip(numbers[len(others) :], cases, strict=True):
        second = value(submission, other, 0.5, called)
        expect(
            close(first, second, ROUGH),
            expected=expected,
            seen=f"{first:.4g} and {second:.4g}",
            why=why,
            symptom=symptom,
            reproduce=called.lines,
        )


@pytest.mark.points(1)
def test_length_of_rows_does_not_matter(submission, rng):
    """The length of a row does not matter, only its direction."""
    cases = []
    for first, other in (views(rng, 4, 6) for _ in range(2)):
        pair = torch.nn.functional.normalize(torch.stack([first, first + 0.5 * other]), dim=2)
        cases.append((pair, pair * lengths(rng, 4)))
    expect_no_change(
        submission,
        cases,
        call(4, 6, 0.5, text="z1 * (1 + torch.rand(4, 1)), z2"),
        expected="the same loss before and after rows are multiplied by positive numbers",
        why="the contract compares directions: without that, a network makes its rows longer instead of better",
        symptom="depends on the length of rows",
    )


@pytest.mark.points(1)
def test_views_can_be_swapped(submission, rng):
    """Both views have the same role: swapping them changes nothing."""
    # rows of one view are similar to each other, those of the other are not
    pairs = [torch.stack([a + 2 * b[:1], b]) for a, b in (views(rng, 4, 6) for _ in range(4))]
    expect_no_change(
        submission,
        [(pair, pair.flip(0)) for pair in pairs],
        call(4, 6, 0.5, text="z2, z1"),
        expected="the same loss of `z1, z2` and of `z2, z1`",
        why="every row of both views has to find its other view",
        symptom="views have different roles",
    )


@pytest.mark.points(1)
def test_inputs_stay(submission, rng):
    """`z1` and `z2` are not changed."""
    called = call(4, 6, 0.5)
    got = returns(loss(submission, views(rng, 4, 6), 0.5), called)
    if number_of(got) is None:
        pytest.skip(NO_VALUE)
    unchanged(got["changed"], called, why="the projections belong to the caller, who may go on with them")


def expect_refusals(submission, cases, why):
    """Fail the check unless each call raises ``ValueError``; cases: what is wrong -> views, temperature, call."""
    questions = {
        words: {"z1": views[0], "z2": views[1], "temperature": number} for words, (views, number, _) in cases.items()
    }
    refuses(
        {words: submission.ask("loss", **question) for words, question in questions.items()},
        {words: called for words, (_, _, called) in cases.items()},
        why=why,
        printed=lambda words: printed(submission, "loss", **questions[words]),
    )


@pytest.mark.points(1)
def test_refuses_wrong_shapes(submission, rng):
    """`ValueError` unless both views have one shape `(n, d)`, with `n >= 2`."""
    shapes = {
        "shorter rows in z2": ((4, 6), (4, 5)),
        "longer rows in z2": ((4, 5), (4, 6)),
        "another number of rows": ((4, 6), (1, 6)),
        "vectors": ((6,), (6,)),
        "three dimensions": ((4, 2, 3), (4, 2, 3)),
        "one image": ((1, 6), (1, 6)),
    }
    cases = {}
    for words, (one, other) in shapes.items():
        called = Call(f"nt_xent_loss(torch.randn{one}, torch.randn{other})", short=f"shapes {one} and {other}")
        cases[words] = ([views(rng, 1, math.prod(shape))[0].view(shape) for shape in (one, other)], 0.5, called)
    why = "one image has nothing to be told from, and other shapes give a number that means nothing"
    expect_refusals(submission, cases, why)


@pytest.mark.points(1)
def test_refuses_impossible_temperature(submission, rng):
    """`ValueError` unless the temperature is positive."""
    cases = {}
    for words, number in (("zero", 0.0), ("negative", -round(rng.uniform(0.2, 1), 2))):
        short = f"temperature={number:g}"
        called = Call(f"nt_xent_loss(torch.randn(4, 6), torch.randn(4, 6), {short})", short=short)
        cases[words] = (views(rng, 4, 6), number, called)
    why = "0 divides by zero, and a negative temperature pushes the views of an image apart"
    expect_refusals(submission, cases, why)
