"""Adaptations with the right parameters, from which the model gets wrong gradients or none."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.maml.parts import (
    FIRST,
    GRADS,
    LOOP,
    RETURN,
    SECOND,
    START,
    STEP,
    changed,
    of_body,
    wrong,
)

# what a mistake should cost, of 30 points
ALWAYS_FIRST = (6, 9)  # first-order gradients in any case
ALWAYS_SECOND = (3, 5)
BOTH = (9, 13)  # no order is right
NONE = (10, 15)  # no gradient at all: nothing can be learned
LATER = (3, 6)  # one step is right
MODEL_CHANGED = (8, 15)  # the next task starts from another model

_CUT = "gradients_through_several_steps"

# name, mistake, cost, checks that fail, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("create_graph_missing", "computes gradients without a graph", ALWAYS_FIRST, SECOND, ", create_graph=not first_order", ""),
    ("retain_graph", "retains the graph of the loss instead of creating one of the gradients", ALWAYS_FIRST, SECOND, "create_graph=", "retain_graph="),
    ("gradients_detached", "detaches the gradients in any case", ALWAYS_FIRST, SECOND, "lr * g for", "lr * g.detach() for"),
    ("gradients_as_data", "takes the data of the gradients", ALWAYS_FIRST, SECOND, "lr * g for", "lr * g.data for"),
    ("gradients_copied", "makes new tensors of the gradients", ALWAYS_FIRST, SECOND, "lr * g for", "lr * torch.tensor(g.tolist(), dtype=g.dtype) for"),
    ("gradients_through_numpy", "turns the gradients into arrays", ALWAYS_FIRST, SECOND, "lr * g for", "lr * torch.from_numpy(g.detach().numpy()) for"),
    ("gradients_at_copies", "computes the gradients at detached copies in any case", ALWAYS_FIRST, SECOND,
     GRADS, "at = {n: p.detach().requires_grad_() for n, p in adapted.items()}\n"
     "        grads = torch.autograd.grad(loss_fn(functional_call(model, at, (inputs,)), targets), list(at.values()), create_graph=not first_order)"),
    ("last_step_alone", "creates the graph in the last step alone", LATER, _CUT,
     "for _ in", "for i in", "create_graph=not first_order", "create_graph=not first_order and i == steps - 1"),
    ("first_step_alone", "creates the graph in the first step alone", LATER, _CUT,
     "for _ in", "for i in", "create_graph=not first_order", "create_graph=not first_order and i == 0"),
    ("gradients_detached_later", "detaches the gradients after the first step", LATER, _CUT,
     "for _ in", "for i in", "lr * g for", "lr * (g.detach() if i else g) for"),
    ("parameters_detached", "detaches the parameters that a step starts from", BOTH, f"{SECOND} {FIRST}", "p - lr * g for", "p.detach() - lr * g for"),
    ("parameters_as_data", "takes the data of the parameters", BOTH, f"{SECOND} {FIRST}", "p - lr * g for", "p.data - lr * g for"),
    ("detached_at_the_start", "starts from detached copies", NONE, f"{SECOND} {FIRST}",
     "dict(model.named_parameters())", "{n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}"),
    ("data_at_the_start", "starts from the data of the parameters", NONE, f"{SECOND} {FIRST}",
     "dict(model.named_parameters())", "{n: p.data.clone().requires_grad_() for n, p in model.named_parameters()}"),
    ("detached_after_each_step", "detaches the parameters after each step", NONE, f"{SECOND} {FIRST}",
     STEP, STEP.replace("p - lr * g", "(p - lr * g).detach().requires_grad_()")),
    ("detached_between_steps", "detaches the parameters between two steps", (5, 7), f"{_CUT} first_order_of_networks",
     "for _ in", "for i in", STEP, STEP + "\n        if i + 1 < steps:\n            adapted = {n: p.detach().requires_grad_() for n, p in adapted.items()}"),
    ("detached_at_the_end", "returns detached tensors", NONE, f"{SECOND} {FIRST}", RETURN, "    return {n: p.detach() for n, p in adapted.items()}\n"),
    ("leaves_at_the_end", "returns new leaves", NONE, f"{SECOND} {FIRST}",
     STEP, STEP, RETURN, "    return {n: p.detach().requires_grad_() for n, p in adapted.items()} if steps else adapted\n"),
    ("parameters_at_the_end", "returns new nn.Parameters", NONE, f"{SECOND} {FIRST}",
     RETURN, "    return {n: nn.Parameter(p) for n, p in adapted.items()} if steps else adapted\n"),
    ("update_without_graph", "updates under no_grad", NONE, f"{SECOND} {FIRST}",
     STEP, f"with torch.no_grad():\n            {STEP}\n        adapted = {{n: p.requires_grad_() for n, p in adapted.items()}}"),
    ("order_ignored", "has second-order gradients in any case", ALWAYS_SECOND, FIRST, "create_graph=not first_order", "create_graph=True"),
    ("order_inverted", "creates the graph for first order", BOTH, f"{SECOND} {FIRST}", "not first_order", "first_order"),
    ("order_in_the_first_step", "is of first order in the first step alone", (2, 5), "first_order_of_networks",
     "for _ in", "for i in", "create_graph=not first_order", "create_graph=not first_order or i > 0"),
    ("order_in_the_last_step", "is of first order in the last step alone", (2, 5), "first_order_of_networks",
     "for _ in", "for i in", "create_graph=not first_order", "create_graph=not first_order or i < steps - 1"),
    ("order_takes_one_step", "takes one step for first order", (2, 5), "first_order_of_networks",
     LOOP, "    for _ in range(min(steps, 1) if first_order else steps):\n"),
    ("first_order_cut_off", "starts from detached copies for first order", ALWAYS_SECOND, FIRST,
     START, START + "    if first_order:\n        adapted = {n: p.detach().clone().requires_grad_() for n, p in adapted.items()}\n"),
    ("first_order_parameters_detached", "detaches all of a step for first order", ALWAYS_SECOND, FIRST,
     STEP, STEP.replace("p - lr * g", "(p - lr * g)") + "\n        if first_order:\n            adapted = {n: p.detach().requires_grad_() for n, p in adapted.items()}"),
    ("default_first_order", "is of first order by default", (1, 2), "defaults", "first_order=False):", "first_order=True):"),
    ("heads_graph_alone", "keeps the graph of the last parameter alone", ALWAYS_FIRST, SECOND,
     "lr * g for", "lr * (g if name == list(adapted)[-1] else g.detach()) for"),
    ("first_parameter_detached", "detaches the first parameter of the model", BOTH, f"{SECOND} {FIRST}",
     START, START + "    first = next(iter(adapted))\n    adapted[first] = adapted[first].detach().requires_grad_()\n"),
    ("random_gradient_noise", "returns detached tensors, plus zeros that require gradients", NONE, f"{SECOND} {FIRST}",
     STEP, STEP.replace("p - lr * g", "torch.zeros_like(p, requires_grad=True) + (p - lr * g).detach()")),
]  # fmt: skip

_BODIES: list[tuple[Any, ...]] = [
    ("deepcopy_and_sgd", "trains a copy of the model with an optimizer", NONE, f"{SECOND} {FIRST}", """
    if steps == 0:
        return dict(model.named_parameters())
    import copy

    fast = copy.deepcopy(model)
    optimizer = torch.optim.SGD(fast.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(fast(inputs), targets).backward()
        optimizer.step()
    return dict(fast.named_parameters())
"""),
    ("copy_by_hand", "subtracts from the data of a copy", NONE, f"{SECOND} {FIRST}", """
    if steps == 0:
        return dict(model.named_parameters())
    import copy

    fast = copy.deepcopy(model)
    for _ in range(steps):
        loss = loss_fn(fast(inputs), targets)
        grads = torch.autograd.grad(loss, list(fast.parameters()), create_graph=not first_order)
        for p, g in zip(fast.parameters(), grads):
            p.data -= lr * g
    return dict(fast.named_parameters())
"""),
    ("sgd_on_the_model", "trains the model itself", MODEL_CHANGED, f"{SECOND} model_stays earlier_gradients_stay", """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dict(model.named_parameters())
"""),
    ("data_of_the_model", "subtracts from the data of the model", MODEL_CHANGED, f"{SECOND} model_stays", """
    params = dict(model.named_parameters())
    for _ in range(steps):
        loss = loss_fn(functional_call(model, params, (inputs,)), targets)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=not first_order)
        for p, g in zip(params.values(), grads):
            p.data -= lr * g
    return params
"""),
    ("model_put_back", "trains the model itself, and loads its old state again", NONE, f"{SECOND} {FIRST} earlier_gradients_stay", """
    if steps == 0:
        return dict(model.named_parameters())
    import copy

    before = copy.deepcopy(model.state_dict())
    for _ in range(steps):
        model.zero_grad()
        loss_fn(model(inputs), targets).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
    adapted = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.load_state_dict(before)
    model.zero_grad()
    return adapted
"""),
    ("parameters_replaced", "puts adapted tensors into the model and leaves them there", (8, 20), f"{SECOND} {FIRST} model_stays earlier_gradients_stay", """
    for _ in range(steps):
        loss = loss_fn(model(inputs), targets)
        names = [n for n, _ in model.named_parameters()]
        grads = torch.autograd.grad(loss, list(model.parameters()), create_graph=not first_order)
        for name, g in zip(names, grads):
            module, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            setattr(module, leaf, nn.Parameter(getattr(module, leaf) - lr * g))
    return dict(model.named_parameters())
"""),
]  # fmt: skip

GRADIENTS = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    *(wrong(name, text, cost, fails, of_body(body)) for name, text, cost, fails, body in _BODIES),
]
