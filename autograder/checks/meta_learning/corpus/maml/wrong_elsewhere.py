"""Adaptations that steps and gradients do not tell from correct ones, or that return nothing to work with."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.maml.parts import (
    ALL_BUT_ERRORS,
    CHECK,
    FIRST,
    GRADS,
    LATER_STEPS,
    LOOP,
    LOSS,
    PREDICT,
    RETURN,
    SECOND,
    SIGNATURE,
    START,
    STEP,
    STEPS,
    changed,
    of_body,
    wrong,
)
from autograder.checks.meta_learning.corpus.plain_maml import MAML

# what a mistake should cost, of 30 points
ONE = (1, 1)
LEFT_BEHIND = (2, 3)  # something is left in the model
FORM = (2, 2)  # the right tensors in another form
NOTHING = (25, 30)  # there is nothing to work with

_ALL = f"{ALL_BUT_ERRORS} refuses_negative_steps"
_STATES = "model_stays earlier_gradients_stay"

# name, mistake, cost, checks that fail, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # errors and numbers of steps
    ("no_check", "accepts negative steps", ONE, "refuses_negative_steps", CHECK, ""),
    ("accepts_minus_1", "accepts -1", ONE, "refuses_negative_steps", "steps < 0", "steps < -1"),
    ("other_error", "raises another error", ONE, "refuses_negative_steps", "raise ValueError", "raise RuntimeError"),
    ("asserts", "asserts instead of raising a ValueError", ONE, "refuses_negative_steps", CHECK, "    assert steps >= 0\n"),
    ("prints", "prints a message instead of raising", ONE, "refuses_negative_steps", "raise ValueError", "return print"),
    ("absolute_steps", "takes as many steps as the absolute number", ONE, "refuses_negative_steps", CHECK, "    steps = abs(steps)\n"),
    ("refuses_no_steps", "refuses 0 steps", ONE, "no_steps", "steps < 0", "steps < 1"),
    ("at_least_one_step", "takes a step where there should be none", ONE, "no_steps", "range(steps)", "range(max(steps, 1))"),
    ("nothing_without_steps", "returns nothing without a step", ONE, "no_steps", RETURN, "    return adapted if steps else {}\n"),
    ("cut_off_without_steps", "returns copies without gradients where there is no step", ONE, "no_steps",
     RETURN, "    return adapted if steps else {n: p.detach().clone() for n, p in adapted.items()}\n"),
    ("default_5_steps", "takes 5 steps by default", ONE, "defaults", "steps=1", "steps=5"),
    ("default_lr", "has another learning rate by default", ONE, "defaults", "lr=0.01", "lr=0.1"),
    ("default_loss", "has the squared error by default", ONE, "defaults", "loss_fn=F.cross_entropy", "loss_fn=F.mse_loss"),
    ("no_default_loss", "has no default for the loss", ONE, "defaults", "loss_fn=F.cross_entropy", "loss_fn"),
    # what is left in the model
    ("train_mode", "puts the model into train mode", ONE, "modes_stay", LOOP, "    model.train()\n" + LOOP),
    ("eval_mode", "puts the model into eval mode", ONE, "modes_stay", LOOP, "    model.eval()\n" + LOOP),
    ("train_mode_for_a_while", "uses the model in train mode, and puts the mode of the whole back", ONE, "modes_stay",
     LOOP, "    mode = model.training\n    model.train()\n" + LOOP, RETURN, "    model.train(mode)\n" + RETURN),
    ("other_mode", "uses the model in train mode, and puts all modes back", ONE, "modes_stay",
     LOOP, "    modes = [m.training for m in model.modules()]\n    model.train()\n" + LOOP,
     RETURN, "    for m, mode in zip(model.modules(), modes):\n        m.training = mode\n" + RETURN),
    ("backward_on_the_model", "leaves gradients in the model", LEFT_BEHIND, _STATES,
     LOOP, "    loss_fn(model(inputs), targets).backward()\n" + LOOP),
    ("backward_into_the_model", "takes the gradients of the first step from the model, and leaves them there", LEFT_BEHIND, _STATES,
     GRADS, "loss.backward(create_graph=not first_order, inputs=list(adapted.values()))\n        grads = [p.grad for p in adapted.values()]"),
    ("backward_and_cleared", "takes the gradients of the first step from the model, and clears them", ONE, "earlier_gradients_stay",
     LOOP, "    model.zero_grad()\n" + LOOP,
     GRADS, "loss.backward(create_graph=not first_order, inputs=list(adapted.values()))\n        grads = [p.grad for p in adapted.values()]",
     RETURN, "    model.zero_grad()\n" + RETURN),
    ("gradients_cleared", "clears the gradients of the model", ONE, "earlier_gradients_stay", RETURN, "    model.zero_grad()\n" + RETURN),
    ("gradients_cleared_first", "clears the gradients of the model before the steps", ONE, "earlier_gradients_stay", LOOP, "    model.zero_grad()\n" + LOOP),
    ("gradients_set_to_zero", "sets the gradients of the model to zeros", LEFT_BEHIND, _STATES,
     RETURN, "    for p in model.parameters():\n        p.grad = torch.zeros_like(p)\n" + RETURN),
    ("model_frozen", "freezes the model", (2, 15), f"model_stays {SECOND} {FIRST}", RETURN, "    model.requires_grad_(False)\n" + RETURN),
    ("gradients_off", "turns gradients off and leaves them so", (1, 2), "earlier_gradients_stay",
     RETURN, "    torch.set_grad_enabled(False)\n" + RETURN),
    ("model_noise", "adds a little to a parameter of the model", (2, 8), "model_stays gradients_through_one_step gradients_through_several_steps",
     RETURN, "    with torch.no_grad():\n        next(model.parameters()).add_(1e-9)\n" + RETURN),
    ("inputs_changed", "normalises the inputs in place", (2, 12), f"{STEPS} model_stays", LOOP, "    inputs -= inputs.mean()\n" + LOOP),
    # what is returned
    ("list", "returns a list", FORM, "adapted_by_name", RETURN, "    return list(adapted.values())\n"),
    ("pairs", "returns pairs of names and tensors", FORM, "adapted_by_name", RETURN, "    return list(adapted.items())\n"),
    ("with_the_loss", "returns the last loss as well", FORM, "adapted_by_name",
     START, START + "    loss = None\n", RETURN, "    return adapted, loss\n"),
    ("numbered", "returns numbers in place of names", FORM, "adapted_by_name", RETURN, "    return dict(enumerate(adapted.values()))\n"),
    ("prefix", "puts a prefix before the names", FORM, "adapted_by_name", RETURN, "    return {f'model.{n}': p for n, p in adapted.items()}\n"),
    ("flat_tensors", "returns flattened tensors", (15, 30), ALL_BUT_ERRORS.replace(" several_steps ", " "), RETURN, "    return {n: p.flatten()[None] for n, p in adapted.items()}\n"),
    ("one_vector", "returns one vector", (15, 30), ALL_BUT_ERRORS, RETURN, "    return torch.cat([p.flatten() for p in adapted.values()])\n"),
    ("gradients_returned", "returns the last gradients", (8, 15), f"{STEPS} {FIRST}", RETURN, "    return dict(zip(adapted, grads)) if steps else adapted\n"),
    ("changes_returned", "returns the changes", (8, 15), f"{STEPS} {FIRST} no_steps", RETURN, "    return {n: p - q for (n, p), q in zip(adapted.items(), model.parameters())}\n"),
    ("returns_nothing", "returns nothing", NOTHING, ALL_BUT_ERRORS, RETURN, ""),
    ("prints_the_result", "prints the result", NOTHING, ALL_BUT_ERRORS, RETURN, "    print(adapted)\n"),
    ("result_forgotten", "returns the parameters of the model", (15, 27), ALL_BUT_ERRORS.replace("adapted_by_name no_steps ", ""), RETURN, "    return dict(model.named_parameters())\n"),
    ("name_missing", "uses a name that does not exist", NOTHING, ALL_BUT_ERRORS.replace("no_steps ", ""), STEP, STEP.replace("lr * g", "learning_rate * g")),
    ("inputs_forgotten", "calls the model without inputs", (20, 30), ALL_BUT_ERRORS.replace("no_steps ", ""), "(inputs,)", "()"),
    ("called_on_the_model", "calls the model without the parameters", (8, 20),
     f"{LATER_STEPS} model_stays earlier_gradients_stay modes_stay gradients_through_several_steps first_order_of_networks", PREDICT, "        predictions = model(inputs)\n"),
]  # fmt: skip

_UNTOUCHED = f"{SIGNATURE}    return None\n"

ELSEWHERE = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("module", "returns a module whose parameters are the adapted tensors", FORM, "adapted_by_name", of_body(f"""
{START}{LOOP}{PREDICT}        {LOSS}
        {GRADS}
        {STEP}
    import copy

    fast = copy.deepcopy(model)
    for name, tensor in adapted.items():
        owner, leaf = fast.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        del owner._parameters[leaf]
        setattr(owner, leaf, tensor)
    return fast
""")),
    wrong("empty", "has no body yet", NOTHING, _ALL, _UNTOUCHED),
    wrong("positional", "has no argument `steps`", NOTHING, _ALL, MAML.replace("steps", "num_steps")),
]  # fmt: skip
