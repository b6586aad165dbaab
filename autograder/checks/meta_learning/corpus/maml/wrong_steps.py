"""Adaptations that end at other parameters than gradient descent does."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.maml.parts import (
    FIRST,
    GRADS,
    LATER_STEPS,
    LOOP,
    LOSS,
    PARTS,
    PREDICT,
    RETURN,
    START,
    STEP,
    STEPS,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 30 points
ALL = (9, 11)  # every step is another one
LATER = (4, 6)  # the first step is right
SOME = (7, 9)  # some parameters are not adapted
ONE_LOSS = (6, 10)  # works for one kind of loss alone

# name, mistake, cost, checks that fail, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("ascent", "goes up the gradient", ALL, STEPS, "p - lr * g", "p + lr * g"),
    ("lr_forgotten", "takes the whole gradient", ALL, STEPS, "p - lr * g", "p - g"),
    ("lr_0_01", "has a learning rate of its own", ALL, STEPS, "p - lr * g", "p - 0.01 * g"),
    ("lr_squared", "multiplies by lr twice", ALL, STEPS, "p - lr * g", "p - lr * lr * g"),
    ("half_the_step", "multiplies the loss by one half", ALL, STEPS, LOSS, f"{LOSS} / 2"),
    ("twice_the_step", "adds the loss twice", ALL, STEPS, LOSS, f"{LOSS} + loss_fn(predictions, targets)"),
    ("sum_over_examples", "multiplies the mean loss by the number of examples", ALL, STEPS, LOSS, f"{LOSS} * len(inputs)"),
    ("signs", "takes the sign of the gradient", ALL, STEPS, "lr * g for", "lr * g.sign() for"),
    ("normalised", "divides by the length of the gradient", ALL, STEPS,
     STEP, f"norm = torch.cat([g.flatten() for g in grads]).norm()\n        {STEP.replace('lr * g', 'lr * g / norm')}"),
    ("elements_clipped_at_10", "limits the elements of the gradient to 10", (4, 6), "one_step_of_networks several_steps_of_networks",
     "lr * g for", "lr * g.clamp(-10, 10) for"),
    ("five_steps_at_most", "takes five steps at most", (2, 4), "several_steps_of_networks", "range(steps)", "range(min(steps, 5))"),
    ("normalised_by_layer", "divides by the length of each gradient", ALL, STEPS, "lr * g for", "lr * g / g.norm() for"),
    ("weight_decay", "adds weight decay", (9, 15), f"{STEPS} {FIRST}", "lr * g for", "lr * (g + 0.1 * p) for"),
    ("one_too_many", "takes one step too many", ALL, f"{STEPS} no_steps", "range(steps)", "range(steps + 1)"),
    ("first_example", "looks at the first example alone", ALL, STEPS,
     "(inputs,)", "(inputs[:1],)", "loss_fn(predictions, targets)", "loss_fn(predictions, targets[:1])"),
    ("one_example_a_step", "takes a step for each example", ALL, STEPS,
     LOOP, "    for x, y in [(x, y) for _ in range(steps) for x, y in zip(inputs.split(1), targets.split(1))]:\n",
     "(inputs,)", "(x,)", "loss_fn(predictions, targets)", "loss_fn(predictions, y)"),
    ("halves", "takes a step for each half of the examples", ALL, STEPS,
     LOOP, "    for x, y in [(x, y) for _ in range(steps) for x, y in zip(inputs.chunk(2), targets.chunk(2))]:\n",
     "(inputs,)", "(x,)", "loss_fn(predictions, targets)", "loss_fn(predictions, y)"),
    ("random_start", "starts from new random parameters", ALL, STEPS + " no_steps",
     "dict(model.named_parameters())", "{n: p + 0.1 * torch.randn_like(p) for n, p in model.named_parameters()}"),
    ("one_step_always", "returns after the first step", LATER, LATER_STEPS, f"        {STEP}\n", f"        {STEP}\n        return adapted\n"),
    ("starts_again", "starts each step from the model", LATER, LATER_STEPS, LOOP + PREDICT, LOOP + START.replace("    ", "        ", 1) + PREDICT),
    ("steps_from_the_start", "subtracts the last gradient from the parameters of the model", LATER, LATER_STEPS,
     "zip(adapted.items(), grads)", "zip(model.named_parameters(), grads)"),
    ("gradient_at_the_start", "computes the gradient once", LATER, LATER_STEPS,
     PREDICT + f"        {LOSS}\n        {GRADS}\n", "",
     LOOP, "    predictions = functional_call(model, adapted, (inputs,))\n    loss = loss_fn(predictions, targets)\n"
     f"    {GRADS}\n" + LOOP),
    ("predicts_with_the_model", "takes the gradient of the model in each step", LATER, LATER_STEPS,
     "functional_call(model, adapted, (inputs,))", "model(inputs)", "list(adapted.values())", "list(model.parameters())"),
    ("times_steps", "takes one step that is `steps` times as long", LATER, LATER_STEPS,
     "range(steps)", "range(1)", "p - lr * g", "p - steps * lr * g"),
    ("lr_shared", "divides lr by the number of steps", LATER, LATER_STEPS, "p - lr * g", "p - lr / steps * g"),
    ("lr_falls", "lowers lr from step to step", LATER, LATER_STEPS, "for _ in", "for i in", "p - lr * g", "p - lr / (i + 1) * g"),
    ("momentum", "has momentum", LATER, LATER_STEPS, START, START + "    v = [0.0 for _ in adapted]\n",
     STEP, f"v = [0.9 * old + g for old, g in zip(v, grads)]\n        {STEP.replace('grads)', 'v)')}"),
    ("gradients_add_up", "adds each gradient to those of the steps before", LATER, LATER_STEPS, START, START + "    v = [0.0 for _ in adapted]\n",
     STEP, f"v = [old + g for old, g in zip(v, grads)]\n        {STEP.replace('grads)', 'v)')}"),
    ("mean_of_steps", "returns the mean over the steps", LATER, LATER_STEPS,
     START, START + "    path = []\n", f"        {STEP}\n", f"        {STEP}\n        path.append(adapted)\n",
     RETURN, "    return {n: sum(at[n] for at in path) / len(path) for n in adapted} if path else adapted\n"),
    ("before_the_last_step", "returns the parameters before the last step", ALL, STEPS,
     LOOP, "    before = adapted\n" + LOOP + "        before = adapted\n", RETURN, "    return before\n"),
    ("one_too_few", "counts the steps from 1", ALL, STEPS, "range(steps)", "range(1, steps)"),
    ("head_alone", "adapts the last layer alone", SOME, PARTS,
     "p - lr * g for", "(p - lr * g if name.split('.')[0] == list(adapted)[-1].split('.')[0] else p) for"),
    ("weights_alone", "adapts matrices alone", (4, 9), "one_step_of_networks several_steps_of_networks", "p - lr * g for", "(p - lr * g if p.ndim > 1 else p) for"),
    ("first_layer_stays", "leaves the first parameter as it is", (7, 11), STEPS,
     "p - lr * g for", "(p if name == next(iter(adapted)) else p - lr * g) for"),
    ("cross_entropy_always", "uses the cross-entropy in any case", ONE_LOSS, LATER_STEPS + " one_step_of_networks", LOSS, "loss = F.cross_entropy(predictions, targets)"),
    ("squared_error_always", "uses the squared error in any case", ONE_LOSS, PARTS + " defaults", LOSS, "loss = F.mse_loss(predictions, targets)"),
    ("arguments_swapped", "calls the loss with targets first", ONE_LOSS, PARTS + " defaults", LOSS, "loss = loss_fn(targets, predictions)"),
    ("softmax_before_the_loss", "applies softmax before the loss", ALL, STEPS, LOSS, "loss = loss_fn(predictions.softmax(-1), targets)"),
]  # fmt: skip

WRONG_STEPS = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("adam", "takes steps of Adam", ALL, STEPS, of_body("""
    adapted = dict(model.named_parameters())
    m = {n: torch.zeros_like(p) for n, p in adapted.items()}
    v = {n: torch.zeros_like(p) for n, p in adapted.items()}
    for t in range(1, steps + 1):
        loss = loss_fn(functional_call(model, adapted, (inputs,)), targets)
        grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)
        for (n, p), g in zip(list(adapted.items()), grads):
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.999 * v[n] + 0.001 * g * g
            step = (m[n] / (1 - 0.9**t)) / ((v[n] / (1 - 0.999**t) + 1e-16).sqrt())
            adapted[n] = p - lr * step
    return adapted
""")),
    wrong("clipped", "clips gradients to a length of 1", (4, 10), "several_steps one_step_of_networks several_steps_of_networks", of_body("""
    adapted = dict(model.named_parameters())
    for _ in range(steps):
        loss = loss_fn(functional_call(model, adapted, (inputs,)), targets)
        grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)
        norm = torch.sqrt(sum((g * g).sum() for g in grads))
        grads = [g * (1 / norm).clamp(max=1) for g in grads]
        adapted = {n: p - lr * g for (n, p), g in zip(adapted.items(), grads)}
    return adapted
""")),
]  # fmt: skip
