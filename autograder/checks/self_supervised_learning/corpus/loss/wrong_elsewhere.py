"""Contrastive losses with the right value and another mistake: gradients, range, errors, what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.self_supervised_learning.corpus.loss.parts import (
    LOGITS,
    MASK,
    NORMALISE,
    RETURN,
    SIGNATURE,
    changed,
    of_body,
    wrong,
)
from autograder.checks.self_supervised_learning.corpus.plain import LOSS

# what a mistake should cost, of 25 points
PART = (3, 5)  # a part of the gradient
NO_GRADIENT = (5, 9)  # training changes nothing, or ends with an error
COLD = (2, 2)  # low temperatures alone
ONE_ERROR, ALL_ERRORS = (1, 1), (2, 2)
FORM = (2, 3)  # the right numbers in another form
NOTHING = (15, 25)  # there is nothing to learn from

_EXPONENTIALS = "e = logits.exp()\n    match = e.gather(1, other[:, None])[:, 0]\n"
_SHAPES = '    if z1.ndim != 2 or z1.shape != z2.shape:\n        raise ValueError("z1 and z2 must have the same shape (n, d)")\n'
_COUNT = '    if len(z1) < 2:\n        raise ValueError("at least two images are needed")\n'
_POSITIVE = '    if temperature <= 0:\n        raise ValueError("the temperature must be positive")\n'

# name, mistake, cost, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # gradients
    ("first_detached", "detaches the first view", PART, "cat([z1, z2])", "cat([z1.detach(), z2])"),
    ("second_detached", "detaches the second view", PART, "cat([z1, z2])", "cat([z1, z2.detach()])"),
    ("both_detached", "detaches both views", NO_GRADIENT, "cat([z1, z2])", "cat([z1, z2]).detach()"),
    ("no_grad", "computes without gradients", NO_GRADIENT, "\ndef", "\n@torch.no_grad()\ndef"),
    ("new_tensor", "copies the views into a tensor without gradients", NO_GRADIENT,
     "torch.cat([z1, z2])", "torch.tensor(torch.cat([z1, z2]).tolist())"),
    ("through_numpy", "computes with numpy", NO_GRADIENT, "torch.cat([z1, z2])", "torch.from_numpy(torch.cat([z1, z2]).detach().numpy())"),
    ("fresh_gradient", "returns a copy of the loss that requires a gradient but has none", NO_GRADIENT,
     RETURN, f"{RETURN}.detach().requires_grad_()"),
    ("lengths_detached", "takes the lengths of rows as constants", PART,
     f"z = {NORMALISE}", "z = torch.cat([z1, z2])\n    z = z / z.detach().norm(dim=1, keepdim=True)"),
    ("candidates_detached", "detaches the candidates", PART, "z @ z.T", "z @ z.detach().T"),
    ("negatives_detached", "detaches the negatives", PART,
     MASK, MASK + "    logits = torch.where(torch.eye(2 * n).roll(n, dims=1).bool(), logits, logits.detach())\n"),
    ("denominator_detached", "detaches the denominator", PART,
     RETURN, "return (logits.logsumexp(1).detach() - logits.gather(1, other[:, None])[:, 0]).mean()"),
    ("second_direction_detached", "asks the rows of the second view without gradients", PART,
     RETURN, "return (F.cross_entropy(logits[:n], other[:n]) + F.cross_entropy(logits[n:].detach(), other[n:])) / 2"),
    ("half_precision", "computes in half precision", (1, 9), LOGITS, "(z.half() @ z.half().T / temperature).float()"),
    ("bfloat16", "computes in bfloat16", (1, 9), LOGITS, "(z.bfloat16() @ z.bfloat16().T / temperature).float()"),
    ("rounded", "rounds the loss for display", (5, 10), RETURN, f"return ({RETURN.removeprefix('return ')} * 1000).round() / 1000"),
    # low temperatures
    ("exponentials", "takes exponentials, their sum and its logarithm one by one", COLD,
     RETURN, _EXPONENTIALS + "    return -torch.log(match / e.sum(1)).mean()"),
    ("logarithm_of_softmax", "takes the logarithm of softmax", COLD,
     RETURN, "return -logits.softmax(dim=1).gather(1, other[:, None]).log().mean()"),
    ("eps_in_logarithm", "adds a small number to the probability", COLD,
     RETURN, "return -(logits.softmax(dim=1).gather(1, other[:, None]) + 1e-8).log().mean()"),
    ("tiny_eps_in_logarithm", "adds a tiny number to the probability", COLD,
     RETURN, "return -(logits.softmax(dim=1).gather(1, other[:, None]) + 1e-20).log().mean()"),
    ("clamped_probability", "clamps the probability from below", COLD,
     RETURN, "return -logits.softmax(dim=1).gather(1, other[:, None]).clamp(min=1e-12).log().mean()"),
    ("clamped_logits", "clamps the logits", COLD, LOGITS, "(z @ z.T / temperature).clamp(-50, 50)"),
    ("clamped_temperature", "raises low temperatures to 0.05", COLD, LOGITS, "z @ z.T / max(temperature, 0.05)"),
    ("nan_to_num", "replaces what is not a number by 0", COLD,
     RETURN, _EXPONENTIALS + "    return -torch.log(match / e.sum(1)).nan_to_num(0, 0, 0).mean()"),
    ("own_exponential_subtracted", "subtracts exp(1 / t) for the row itself, which overflows", COLD,
     MASK, "", RETURN, _EXPONENTIALS + "    return -torch.log(match / (e.sum(1) - math.exp(1 / temperature))).mean()"),
    ("own_diagonal_subtracted", "subtracts the exponential of the row itself, which overflows", COLD,
     MASK, "", RETURN, _EXPONENTIALS + "    return -torch.log(match / (e.sum(1) - e.diagonal())).mean()"),
    ("own_exponential_in_double", "subtracts exp(1 / t) in double precision, where nothing else is left", COLD,
     NORMALISE, "F.normalize(torch.cat([z1, z2]).double(), dim=1)",
     MASK, "", RETURN, _EXPONENTIALS + "    return -torch.log(match / (e.sum(1) - math.exp(1 / temperature))).mean()"),
    ("masked_exponentials", "masks exponentials", COLD,
     MASK, "", RETURN, "e = logits.exp() * ~itself\n    return -torch.log(e[torch.arange(2 * n), other] / e.sum(dim=1)).mean()"),
    ("where_after_overflow", "hides an overflow by where, behind which the gradient is not a number", COLD,
     RETURN, "top = logits.amax(1).detach()\n    plain, safe = logits.exp().sum(1).log(), (logits - top[:, None]).exp().sum(1).log() + top\n"
     "    total = torch.where(top < 30, plain, safe)\n    return (total - logits.gather(1, other[:, None])[:, 0]).mean()"),
    # errors
    ("no_check_of_shapes", "accepts views of any shape", ONE_ERROR, _SHAPES, ""),
    ("no_check_of_dimensions", "accepts views that are no matrices", ONE_ERROR, "z1.ndim != 2 or ", ""),
    ("no_check_of_equal_shapes", "accepts views of different shapes", ONE_ERROR, " or z1.shape != z2.shape", ""),
    ("rows_counted_alone", "compares the numbers of rows alone", ONE_ERROR, "z1.shape != z2.shape", "len(z1) != len(z2)"),
    ("no_check_of_count", "accepts a single image", ONE_ERROR, _COUNT, ""),
    ("accepts_one_image", "accepts a single image, though not none", ONE_ERROR, "len(z1) < 2", "len(z1) < 1"),
    ("no_check_of_temperature", "accepts any temperature", ONE_ERROR, _POSITIVE, ""),
    ("accepts_temperature_0", "accepts a temperature of 0", ONE_ERROR, "temperature <= 0", "temperature < 0"),
    ("accepts_negative_temperature", "accepts negative temperatures", ONE_ERROR, "temperature <= 0", "temperature == 0"),
    ("no_checks", "accepts anything", ALL_ERRORS, _SHAPES + _COUNT + _POSITIVE, ""),
    ("other_error", "raises another error", ALL_ERRORS, "raise ValueError", "raise RuntimeError"),
    ("assertions", "asserts instead of raising a ValueError", ALL_ERRORS,
     _SHAPES + _COUNT + _POSITIVE, "    assert z1.ndim == 2 and z1.shape == z2.shape and len(z1) >= 2 and temperature > 0\n"),
    ("prints", "prints a message instead of raising", ALL_ERRORS,
     'raise ValueError("z1', 'return print("z1', 'raise ValueError("at', 'return print("at', 'raise ValueError("the', 'return print("the'),
    ("refuses_two_images", "refuses two images", ONE_ERROR, "len(z1) < 2", "len(z1) <= 2"),
    ("refuses_one_number", "refuses rows of one number", ONE_ERROR, "len(z1) < 2", "len(z1) < 2 or z1.shape[1] < 2"),
    ("refuses_large_batches", "refuses more images than numbers in a row", (1, 2), "len(z1) < 2", "len(z1) < 2 or len(z1) > z1.shape[1]"),
    ("default_0_1", "has a default of 0.1", (1, 1), "temperature=0.5", "temperature=0.1"),
    ("default_1", "has a default of 1", (1, 1), "temperature=0.5", "temperature=1.0"),
    ("no_default", "has no default", (1, 1), "temperature=0.5", "temperature"),
    # what is returned, and what is left
    ("item", "returns a plain number", (5, 9), RETURN, f"{RETURN}.item()"),
    ("one_loss_per_row", "returns one loss for each row", FORM, RETURN, 'return F.cross_entropy(logits, other, reduction="none")'),
    ("one_loss_per_image", "returns one loss for each image", FORM,
     RETURN, 'return F.cross_entropy(logits, other, reduction="none").view(2, n).mean(0)'),
    ("pair", "returns the logits as well", NOTHING, RETURN, f"{RETURN}, logits"),
    ("returns_nothing", "returns nothing", NOTHING, RETURN, f"loss = {RETURN.removeprefix('return ')}"),
    ("prints_the_loss", "prints the loss instead of returning it", NOTHING, RETURN, f"print({RETURN.removeprefix('return ')})"),
    ("two_lines_swapped", "uses a name before it has a value", NOTHING, "    n = len(z1)\n", "", "    return F", "    n = len(z1)\n    return F"),
    ("normalises_the_inputs", "normalises its inputs in place", (4, 12),
     "    n = len(z1)\n", "    n = len(z1)\n    z1 /= z1.norm(dim=1, keepdim=True)\n    z2 /= z2.norm(dim=1, keepdim=True)\n"),
    ("normalises_the_data", "normalises the data of its inputs", (2, 9),
     "    n = len(z1)\n", "    n = len(z1)\n    for rows in (z1, z2):\n        rows.data.copy_(F.normalize(rows.data, dim=1))\n"),
    ("divides_the_inputs", "divides its inputs by the root of the temperature", (1, 12),
     "    n = len(z1)\n", "    n = len(z1)\n    z1.data /= temperature ** 0.5\n    z2.data /= temperature ** 0.5\n"),
]  # fmt: skip

_SUBTRACTED_WITH_CONSTANT_LENGTHS = """
    z = torch.cat([z1, z2])
    z = z / z.norm(dim=1, keepdim=True).detach()
    e = (z @ z.T / temperature).exp()
    match = torch.cat([e.diagonal(n), e.diagonal(-n)])
    return -(match / (e.sum(1) - math.exp(1 / temperature))).log().mean()
"""

_UNTOUCHED = f"{SIGNATURE}    return None\n"

ELSEWHERE = [
    *(changed(name, text, cost, *texts) for name, text, cost, *texts in _CHANGED),
    wrong("subtracted_with_constant_lengths", "subtracts exp(1 / t) though the lengths are constants", (4, 6),
          of_body(_SUBTRACTED_WITH_CONSTANT_LENGTHS)),
    wrong("empty", "has no body yet", (20, 25), _UNTOUCHED),
    wrong("other_arguments", "has other names for its arguments", (20, 25), LOSS.replace("z1", "zi").replace("z2", "zj")),
]  # fmt: skip
