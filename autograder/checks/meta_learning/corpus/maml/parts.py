"""The means to write solutions of exercise 3: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.plain_maml import MAML
from autograder.labs.exercise import Exercise

CELL = "maml_adapt"
SIGNATURE = "def maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False):\n"
GUARD = """\
    if steps < 0:
        raise ValueError("steps: 0 or more")
"""

# texts of the plain function
START = "    adapted = dict(model.named_parameters())\n"
LOOP = "    for _ in range(steps):\n"
PREDICT = "        predictions = functional_call(model, adapted, (inputs,))\n"
LOSS = "loss = loss_fn(predictions, targets)"
GRADS = "grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)"
STEP = "adapted = {name: p - lr * g for (name, p), g in zip(adapted.items(), grads)}"
RETURN = "    return adapted\n"
CHECK = '    if steps < 0:\n        raise ValueError("steps must not be negative")\n'

# checks that do not pass, for groups of mistakes
STEPS = "one_step several_steps one_step_of_networks several_steps_of_networks"
LATER_STEPS = "several_steps several_steps_of_networks"
PARTS = "one_step one_step_of_networks several_steps_of_networks"
SECOND = "gradient_through_the_step gradients_through_one_step gradients_through_several_steps"
FIRST = "first_order first_order_of_networks"
ALL_BUT_ERRORS = (
    f"adapted_by_name no_steps model_stays earlier_gradients_stay modes_stay defaults {STEPS} {SECOND} {FIRST}"
)

EXERCISE = Exercise("maml", CELL, MAML, SIGNATURE + GUARD)
of_body, changed, wrong, correct = EXERCISE.of_body, EXERCISE.changed, EXERCISE.wrong, EXERCISE.correct
