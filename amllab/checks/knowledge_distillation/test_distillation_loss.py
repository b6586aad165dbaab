"""Public checks of exercise 1, ``distillation_loss``: losses that are known, or related to other losses.

The teacher's part is looked at with ``alpha=1`` and the labels' part with ``alpha=0``. The checks about examples without
a label look at differences of losses, in which everything else cancels out.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.knowledge_distillation.loss_calls import (
    CONSTANT,
    NO_VALUE,
    ROUGH,
    SMALL,
    call,
    expect_rows_without_label,
    logits,
    number_of,
    partly_labelled,
    question,
    some_labels,
    teacher_counts,
    value,
)
from amllab.checks.knowledge_distillation.loss_tables import SAYS, known_logits, labels_part, teacher_part
from amllab.kit.expectations import Call, close, printed, refuses, returns, unchanged
from amllab.kit.loss_values import expect_one_number

pytestmark = pytest.mark.cell("check_distillation_loss", section="Exercise 1: the distillation loss")


@pytest.mark.points(1)
def test_returns_one_number(submission, rng):
    """Returns the loss as a tensor with one number."""
    case = logits(rng, 4, 3), logits(rng, 4, 3), some_labels(rng, 4, 3), 2.5, 0.5
    called = call(*case)
    expect_one_number(returns(submission.ask("loss", **question(*case)), called), called)


NEARLY_0 = 0.2  # a divergence in half precision is 0.1, and a cross-entropy with the teacher's probabilities above 5
OTHER_PART = ("labels' part alone", "teacher's part alone")


def expect_known(submission, cases, alpha, losses, *, passes=(), what, why):
    """Fail the check unless the losses of logits with known probabilities are right, or have a mistake of ``passes``."""
    seen = [value(submission, *one.arguments.values(), one.temperature, alpha, called=one.call(alpha)) for one in cases]
    tables = [losses(one) for one in cases]
    explains = [
        {name for name, wrong in table.items() if name and close(torch.tensor(wrong), number)}
        for table, number in zip(tables, seen, strict=True)
    ]
    names = set.intersection(*explains)
    name = names.pop() if len(names) == 1 else ""
    if name in passes:
        return
    # the other part alone, here and for the other weight
    if name in OTHER_PART:
        exchanged = [value(submission, *one.arguments.values(), one.temperature, 1.0 - alpha) for one in cases]
        rights = [torch.tensor(table[""]) for table in tables]
        if all(map(close, rights, exchanged)):
            name = "weights exchanged"
    for one, table, number in zip(cases, tables, seen, strict=True):
        expect(
            not name and close(torch.tensor(table[""]), number),
            expected=f"a loss of {table['']:.4g}: {what}, of probabilities that are to each other as powers of 2",
            seen=f"{number:.4g}" + (f": {SAYS[name]}" if name else ""),
            why=why,
            symptom=name or ("not a number" if number.isnan() else "another loss"),
            reproduce=one.call(alpha).lines,
        )


@pytest.mark.points(2)
def test_known_divergence(submission, rng):
    """With `alpha=1`, the loss is `KL(teacher || student)` at this temperature, times the square of the temperature."""
    cases = []
    for n, k, temperature in ((3, 4, 3.5), (4, 3, 1.5)):
        cases.append(known_logits(rng, n, k, temperature, teacher_part, at=temperature))
    expect_known(
        submission,
        cases,
        1.0,
        teacher_part,
        passes={"cross-entropy"},  # loses a point where student and teacher agree
        what="the teacher's part alone",
        why="it makes the student answer as the teacher does, and the factor keeps gradients of one size at all temperatures",
    )


@pytest.mark.points(1)
def test_known_cross_entropy(submission, rng):
    """With `alpha=0`, the loss is the cross-entropy of the labels, without a temperature."""
    cases = []
    for n, k, temperature in ((5, 4, 2.5), (4, 3, 5.0)):
        cases.append(known_logits(rng, n, k, temperature, labels_part, at=1.0))
    expect_known(
        submission,
        cases,
        0.0,
        labels_part,
        what="the labels' part alone",
        why="a label is certain: the student is asked for its own probabilities, which are those at a temperature of 1",
    )


def unequal_parts(rng):
    """Return logits whose two parts are of different size, and none of them is small."""
    while True:
        known = known_logits(rng, 5, 4, 2.5, teacher_part, at=2.5)
        losses = teacher_part(known)
        small, large = sorted([losses[""], losses["labels' part alone"]])
        if 0.2 < small / large < 0.7:
            return known


@pytest.mark.points(1)
def test_alpha_mixes_both_parts(submission, rng):
    """In between, both parts count: the teacher's with weight `alpha`, that of the labels with `1 - alpha`."""
    known = unequal_parts(rng)
    case = *known.arguments.values(), known.temperature
    labels, teacher = (value(submission, *case, alpha) for alpha in (0.0, 1.0))
    for alpha in (0.25, 0.75):
        seen, wanted = value(submission, *case, alpha), alpha * teacher + (1 - alpha) * labels
        expect(
            # a difference of numbers, one of which may be much larger
            abs(seen - wanted) <= ROUGH * max(abs(teacher), abs(labels)),
            expected=f"a loss of {wanted:.4g} for alpha={alpha:g}: it is {labels:.4g} for 0 and {teacher:.4g} for 1",
            seen=f"{seen:.4g}",
            why="alpha says how much the teacher counts, and the labels have the rest",
            symptom="no weighted mean of both parts",
            reproduce=known.call(alpha).lines,
        )


@pytest.mark.points(1)
def test_agreement_costs_nothing(submission, rng):
    """Where the student agrees with the teacher, the teacher's part is 0."""
    n, k, temperature = 4, 5, 3.0
    student, labels = logits(rng, n, k), some_labels(rng, n, k)
    # a cross-entropy of the labels shows, however small its weight
    student[torch.arange(n), labels] = student.amin(dim=1) - 4
    certain = 12 * torch.eye(k)[labels]
    # the same probabilities, from other logits
    same = student + torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    seen, exchanged = (value(submission, student, same, labels, temperature, alpha) for alpha in (1.0, 0.0))
    if abs(value(submission, student, certain, labels, temperature, 1.0)) < SMALL:
        pytest.skip(CONSTANT)
    shown = Call(
        f"distillation_loss(logits, logits, torch.arange(4), temperature={temperature:g}, alpha=1)",
        f"logits = torch.randn({n}, {k})",
    )
    expect(
        # weights that have changed places lose points elsewhere
        abs(seen) < NEARLY_0 or abs(exchanged) < NEARLY_0,
        expected="a loss of 0 for `alpha=1`, where the student has the teacher's probabilities",
        seen=f"{seen:.4g}",
        why="a divergence is 0 for equal probabilities; a cross-entropy is larger, by a number that no training changes",
        symptom="agreement costs something",
        reproduce=shown.lines,
    )


@pytest.mark.points(2)
def test_rows_without_label(submission, rng):
    """An example with label -1 counts in the teacher's part, and not in the labels' part."""
    # with and without a label for the first row and the last one
    for n, k, rows, temperature in ((5, 4, (0, rng.choice([1, 2, 3])), 2.0), (4, 3, (3,), 3.0)):
        expect_rows_without_label(submission, *partly_labelled(rng, n, k, rows), temperature, rng.choice([0.4, 0.6]))


@pytest.mark.points(1)
def test_no_label_at_all(submission, rng):
    """Without any label, the teacher's part alone counts: a finite number, whose gradient reaches the student."""
    n, k, temperature = 4, 3, 3.0
    student, teachers, none, _ = partly_labelled(rng, n, k, range(n))
    called = call(student, teachers[0], none, temperature, 0.5)
    why = "a batch may happen to have no label: a single NaN ends a training, and the teacher has something to say"
    got = returns(
        submission.ask("loss", **question(student, teachers[0], none, temperature, 0.5), learning=["student_logits"]),
        called,
        why=why,
    )
    number, gradient = number_of(got), got["gradients"].get("student_logits")
    if number is None:
        pytest.skip(NO_VALUE)
    finite = bool(number.isfinite()) and (gradient is None or bool(gradient.isfinite().all()))
    expect(
        finite,
        expected="a finite loss and a finite gradient where all labels are -1",
        seen=f"a loss of {number:.4g}" if not number.isfinite() else "a gradient that is not finite",
        why=why,
        symptom="not finite without labels",
        reproduce=called.lines,
    )
    expect(
        gradient is not None and bool(gradient.any()),
        expected="a gradient of `student_logits` where all labels are -1",
        seen="none" if gradient is None else "a gradient of zeros",
        why=why,
        symptom="no gradient without labels",
        reproduce=called.lines,
    )
    seen = teacher_counts(submission, student, teachers, none, temperature, 0.5)
    expect(
        abs(seen) > SMALL,
        expected="a loss that depends on the teacher where all labels are -1",
        seen="the same loss with two teachers",
        why=why,
        symptom="no teacher's part without labels",
        reproduce=called.lines,
    )


@pytest.mark.points(1)
def test_logits_stay(submission, rng):
    """Logits and labels are not changed."""
    case = logits(rng, 4, 3), logits(rng, 4, 3), torch.tensor([-1, 0, 2, -1]), 2.5, 0.5
    called = call(*case)
    got = submission.ask("loss", **question(*case))
    if "error" in got:
        # what happens to -1 loses points elsewhere
        case = *case[:2], case[2].clamp(min=0), *case[3:]
        got = returns(submission.ask("loss", **question(*case)), called)
    if number_of(got) is None:
        pytest.skip(NO_VALUE)
    unchanged(got["changed"], called, why="logits and labels belong to the caller, who may go on with them")


def expect_refusals(submission, cases, why):
    """Fail the check unless each call raises ``ValueError``; cases: what is wrong -> arguments and what is shown."""
    refuses(
        {words: submission.ask("loss", **question(*arguments)) for words, (arguments, _) in cases.items()},
        {words: shown for words, (_, shown) in cases.items()},
        why=why,
        printed=lambda words: printed(submission, "loss", **question(*cases[words][0])),
    )


@pytest.mark.points(1)
def test_refuses_other_shapes(submission, rng):
    """`ValueError` unless both logits have one shape, and there is one label for each row."""
    shapes = {
        "a class more in the teacher": ((4, 3), (4, 5), 4),
        "a class less in the teacher": ((4, 3), (4, 1), 4),
        "a class less in the student": ((4, 1), (4, 3), 4),
        "one row in the teacher": ((4, 3), (1, 3), 4),
        "one row in the student": ((1, 3), (4, 3), 1),
        "more rows in the teacher": ((4, 3), (6, 3), 4),
        "fewer labels": ((4, 3), (4, 3), 3),
        "more labels": ((4, 3), (4, 3), 6),
        "one label": ((4, 3), (4, 3), 1),
    }
    cases = {}
    for words, (one, other, n) in shapes.items():
        shown = Call(
            f"distillation_loss(torch.randn{one}, torch.randn{other}, torch.zeros({n}, dtype=torch.int64))",
            short=f"logits of shapes {one} and {other} and {n} label{'s' * (n > 1)}",
        )
        cases[words] = ((logits(rng, *one), logits(rng, *other), torch.zeros(n, dtype=torch.int64), 2.0, 0.5), shown)
    expect_refusals(submission, cases, "other shapes give a number that means nothing, and often no error")


@pytest.mark.points(1)
def test_refuses_impossible_numbers(submission, rng):
    """`ValueError` unless the temperature is positive and alpha is between 0 and 1."""
    cases = {}
    for words, temperature, alpha in (
        ("temperature of zero", 0.0, 0.5),
        ("negative temperature", -round(rng.uniform(0.5, 4), 2), 0.5),
        ("negative alpha", 2.0, -round(rng.uniform(0.1, 0.5), 2)),
        ("alpha above 1", 2.0, round(rng.uniform(1.1, 1.9), 2)),
    ):
        case = logits(rng, 4, 3), logits(rng, 4, 3), torch.tensor([-1, 0, 2, 1]), temperature, alpha
        shown = call(*case)
        cases[words] = (case, Call(shown.text, shown.setup, short=f"temperature={temperature:g}, alpha={alpha:g}"))
    why = "0 divides by zero, and a negative number turns a part of the loss around: the student would flee from it"
    expect_refusals(submission, cases, why)
