"""Correct adaptations in many styles."""

from __future__ import annotations

from typing import Any

from autograder.checks.meta_learning.corpus.maml.parts import (
    CHECK,
    GRADS,
    LOOP,
    LOSS,
    PREDICT,
    RETURN,
    SIGNATURE,
    START,
    STEP,
    correct,
    of_body,
)
from autograder.checks.meta_learning.corpus.plain_maml import MAML
from autograder.labs.corpus import replaced

# name, why it is correct, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    ("buffers_too", "passes the buffers of the model as well, and returns the parameters alone",
     PREDICT, "        predictions = functional_call(model, {**adapted, **dict(model.named_buffers())}, (inputs,))\n"),
    ("buffers_returned", "returns the buffers as well, as they are", RETURN, "    return {**adapted, **dict(model.named_buffers())}\n"),
    ("several_dictionaries", "passes a tuple of dictionaries",
     PREDICT, "        predictions = functional_call(model, (adapted, dict(model.named_buffers())), inputs)\n"),
    ("ordered_dict", "an OrderedDict", STEP, "adapted = OrderedDict((n, p - lr * g) for (n, p), g in zip(adapted.items(), grads))",
     "\ndef", "\nfrom collections import OrderedDict\n\ndef"),
    ("sorted_names", "returns the names in alphabetical order", RETURN, "    return {name: adapted[name] for name in sorted(adapted)}\n"),
    ("always_with_graph", "keeps the graph in any case, and detaches the gradients for first order",
     "create_graph=not first_order", "create_graph=True", "lr * g for", "lr * (g.detach() if first_order else g) for"),
    ("retain_and_create", "keeps the graph of the step, too", "create_graph=not first_order", "create_graph=not first_order, retain_graph=True"),
    ("clones_first", "starts from clones, which gradients pass through",
     START, "    adapted = {name: p.clone() for name, p in model.named_parameters()}\n"),
    ("early_return", "returns the parameters themselves without a step", START, START + "    if steps == 0:\n        return adapted\n"),
    ("while_loop", "counts down", LOOP, "    while steps > 0:\n        steps -= 1\n"),
    ("torch_add", "subtracts by torch.add", "p - lr * g", "torch.add(p, g, alpha=-lr)"),
    ("divided", "adds a negative step", "p - lr * g", "p + g.mul(-lr)"),
    ("lr_tensor", "makes a tensor of lr", START, START + "    lr = torch.tensor(lr)\n"),
    ("foreach", "all parameters at once by the functions of optimizers",
     STEP, "adapted = dict(zip(adapted, torch._foreach_sub(list(adapted.values()), torch._foreach_mul(list(grads), lr))))"),
    ("unused_allowed", "parameters that the loss does not use keep their value",
     "create_graph=not first_order", "create_graph=not first_order, allow_unused=True",
     "p - lr * g for", "p if g is None else p - lr * g for"),
    ("trainable_alone", "adapts what requires a gradient", "dict(model.named_parameters())",
     "{n: p for n, p in model.named_parameters() if p.requires_grad}"),
    ("stateless", "the older name of functional_call", "functional_call(model", "torch.nn.utils.stateless.functional_call(model"),
    ("gradients_enabled", "turns gradients on", LOOP, "    for _ in range(steps):\n      with torch.enable_grad():\n"),
    ("loss_in_one_line", "no names for predictions and loss", PREDICT, "", f"        {LOSS}\n", "",
     "grad(loss,", "grad(loss_fn(functional_call(model, adapted, (inputs,)), targets),"),
    ("own_error_class", "raises a ValueError of its own, and checks more",
     "\ndef maml_adapt", "\nclass StepsError(ValueError):\n    pass\n\ndef maml_adapt",
     CHECK, '    if not isinstance(steps, int) or steps < 0:\n        raise StepsError(f"steps={steps}")\n'),
    ("straight_through", "for first order adds a constant to each parameter of the model",
     "p - lr * g for", "(p + (-lr * g).detach() if first_order else p - lr * g) for"),
]  # fmt: skip

# name, why it is correct, body of the function, and definitions before it
_BODIES = [
    ("func_grad", "torch.func.grad, with gradients detached for first order", """
    def loss_of(params):
        return loss_fn(functional_call(model, params, (inputs,)), targets)

    params = dict(model.named_parameters())
    for _ in range(steps):
        grads = torch.func.grad(loss_of)(params)
        if first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        params = {name: params[name] - lr * grads[name] for name in params}
    return params
"""),
    ("func_grad_and_value", "grad_and_value of a function of parameters and data", """
    def compute_loss(params, buffers, x, y):
        return loss_fn(torch.func.functional_call(model, (params, buffers), (x,)), y)

    params = {k: v for k, v in model.named_parameters()}
    buffers = {k: v for k, v in model.named_buffers()}
    for _ in range(steps):
        grads, _loss = torch.func.grad_and_value(compute_loss)(params, buffers, inputs, targets)
        params = {k: v - lr * (grads[k].detach() if first_order else grads[k]) for k, v in params.items()}
    return params
"""),
    ("func_vjp", "the pullback of 1", """
    params = dict(model.named_parameters())
    for _ in range(steps):
        loss, pullback = torch.func.vjp(lambda p: loss_fn(functional_call(model, p, inputs), targets), params)
        (slopes,) = pullback(torch.ones_like(loss))
        params = {k: params[k] - lr * (slopes[k].detach() if first_order else slopes[k]) for k in params}
    return params
"""),
    ("jacobian", "the Jacobian of a number", """
    params = dict(model.named_parameters())
    for i in range(steps):
        jacobian = torch.func.jacrev(lambda p: loss_fn(functional_call(model, p, (inputs,)), targets))(params)
        for name in params:
            jacobian[name] = jacobian[name].detach() if first_order else jacobian[name]
        params = {name: params[name] - lr * jacobian[name] for name in params}
    return params
"""),
    ("recursion", "one step, then the rest by recursion", """
    return descend(dict(model.named_parameters()), model, inputs, targets, steps, lr, loss_fn, first_order)
""", """
def descend(params, model, inputs, targets, steps, lr, loss_fn, first_order):
    if steps == 0:
        return params
    loss = loss_fn(functional_call(model, params, (inputs,)), targets)
    grads = torch.autograd.grad(loss, tuple(params.values()), create_graph=not first_order)
    moved = {name: p - lr * g for (name, p), g in zip(params.items(), grads)}
    return descend(moved, model, inputs, targets, steps - 1, lr, loss_fn, first_order)
"""),
    ("reduce", "folds a function of one step over the steps", """
    names = [name for name, _ in model.named_parameters()]

    def step(values, _):
        loss = loss_fn(functional_call(model, dict(zip(names, values)), (inputs,)), targets)
        slopes = torch.autograd.grad(loss, values, create_graph=not first_order)
        return [v - lr * s for v, s in zip(values, slopes)]

    return dict(zip(names, reduce(step, range(steps), list(model.parameters()))))
""", "from functools import reduce\n"),
    ("lists", "lists of tensors, and names at the end", """
    names, fast = zip(*model.named_parameters())
    fast = list(fast)
    for step in range(steps):
        logits = functional_call(model, {n: w for n, w in zip(names, fast)}, inputs)
        grad = torch.autograd.grad(loss_fn(logits, targets), fast, create_graph=True)
        if first_order:
            grad = [g.detach() for g in grad]
        for i in range(len(fast)):
            fast[i] = fast[i] - lr * grad[i]
    return {n: w for n, w in zip(names, fast)}
"""),
    ("changes_added_up", "adds up the changes, and adds them to the parameters", """
    own = dict(model.named_parameters())
    change = {name: torch.zeros_like(p) for name, p in own.items()}
    for _ in range(steps):
        now = {name: own[name] + change[name] for name in own}
        grads = torch.autograd.grad(loss_fn(functional_call(model, now, (inputs,)), targets), list(now.values()),
                                    create_graph=not first_order)
        change = {name: change[name] - lr * g for name, g in zip(own, grads)}
    return {name: own[name] + change[name] for name in own}
"""),
    ("flat_vector", "all parameters in one vector", """
    own = dict(model.named_parameters())
    sizes = [p.numel() for p in own.values()]

    def unpacked(vector):
        return {n: part.view_as(p) for (n, p), part in zip(own.items(), vector.split(sizes))}

    vector = torch.nn.utils.parameters_to_vector(own.values())
    for _ in range(steps):
        loss = loss_fn(functional_call(model, unpacked(vector), (inputs,)), targets)
        (slope,) = torch.autograd.grad(loss, vector, create_graph=not first_order)
        vector = vector - lr * slope
    return unpacked(vector)
"""),
    ("backward_into_clones", "backward, with clones as the only inputs", """
    params = {name: p.clone() for name, p in model.named_parameters()}
    for _ in range(steps):
        loss = loss_fn(functional_call(model, params, (inputs,)), targets)
        for p in params.values():
            p.retain_grad()
        loss.backward(inputs=list(params.values()), create_graph=not first_order)
        params = {name: p - lr * p.grad for name, p in params.items()}
    return params
"""),
    ("copies_for_first_order", "first-order gradients from copies that are leaves", """
    params = dict(model.named_parameters())
    for _ in range(steps):
        at = {n: p.detach().clone().requires_grad_() for n, p in params.items()} if first_order else params
        loss = loss_fn(functional_call(model, at, (inputs,)), targets)
        if first_order:
            loss.backward()
            grads = [p.grad for p in at.values()]
        else:
            grads = torch.autograd.grad(loss, list(at.values()), create_graph=True)
        params = {n: p - lr * g for (n, p), g in zip(params.items(), grads)}
    return params
"""),
    ("module_copy", "a copy of the model whose parameters are replaced by tensors", """
    import copy

    fast = copy.deepcopy(model)
    owners = {}
    for name, p in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        owners[name] = (fast.get_submodule(path), leaf)
    adapted = {name: p.clone() for name, p in model.named_parameters()}

    def put():
        for name, (owner, leaf) in owners.items():
            owner._parameters.pop(leaf, None)
            setattr(owner, leaf, adapted[name])

    for _ in range(steps):
        put()
        loss = loss_fn(fast(inputs), targets)
        slopes = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)
        adapted = {name: w - lr * g for (name, w), g in zip(adapted.items(), slopes)}
    return adapted
"""),
    ("lent_to_the_model", "lends tensors to the model, and puts its parameters back", """
    own = dict(model.named_parameters())
    adapted = dict(own)
    with lent(model, own) as put:
        for _ in range(steps):
            put(adapted)
            grads = torch.autograd.grad(loss_fn(model(inputs), targets), list(adapted.values()), create_graph=not first_order)
            adapted = {name: p - lr * g for (name, p), g in zip(adapted.items(), grads)}
    return adapted
""", """
from contextlib import contextmanager

@contextmanager
def lent(model, own):
    places = {name: (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in own}

    def put(tensors):
        for name, (module, leaf) in places.items():
            module._parameters[leaf] = tensors[name]

    try:
        yield put
    finally:
        put(own)
"""),
    ("class", "an object that adapts", """
    learner = Learner(model, lr, loss_fn, second_order=not first_order)
    for _ in range(steps):
        learner.step(inputs, targets)
    return learner.weights
""", """
class Learner:
    def __init__(self, model, lr, loss_fn, second_order):
        self.model, self.lr, self.loss_fn, self.second_order = model, lr, loss_fn, second_order
        self.weights = dict(model.named_parameters())

    def __call__(self, x):
        return functional_call(self.model, self.weights, (x,))

    def step(self, x, y):
        loss = self.loss_fn(self(x), y)
        grads = torch.autograd.grad(loss, list(self.weights.values()), create_graph=self.second_order)
        for (name, weight), grad in zip(list(self.weights.items()), grads):
            self.weights[name] = weight - self.lr * grad
"""),
    ("generator", "a generator of the parameters after each step", """
    *_, last = trajectory(model, inputs, targets, steps, lr, loss_fn, first_order)
    return last
""", """
def trajectory(model, inputs, targets, steps, lr, loss_fn, first_order):
    weights = dict(model.named_parameters())
    yield weights
    for _ in range(steps):
        loss = loss_fn(functional_call(model, weights, (inputs,)), targets)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=not first_order)
        weights = {name: w - lr * slope for (name, w), slope in zip(weights.items(), slopes)}
        yield weights
"""),
    ("functional_vjp", "the vector-Jacobian product of torch.autograd.functional", """
    names = [n for n, _ in model.named_parameters()]
    values = tuple(p for _, p in model.named_parameters())

    def loss_of(*values):
        return loss_fn(functional_call(model, dict(zip(names, values)), (inputs,)), targets)

    for _ in range(steps):
        _, slopes = torch.autograd.functional.vjp(loss_of, values, create_graph=not first_order)
        values = tuple(v - lr * s for v, s in zip(values, slopes))
    return dict(zip(names, values))
"""),
    ("tree_map", "maps a function over dictionaries", """
    from torch.utils import _pytree as tree

    params = dict(model.named_parameters())
    for _ in range(steps):
        slopes = torch.func.grad(lambda p: loss_fn(functional_call(model, p, (inputs,)), targets))(params)
        params = tree.tree_map(lambda p, g: p - lr * (g.detach() if first_order else g), params, slopes)
    return params
"""),
    ("two_branches", "one loop for each order", """
    params = dict(model.named_parameters())
    if first_order:
        shift = {n: torch.zeros_like(p) for n, p in params.items()}
        for _ in range(steps):
            here = {n: (p + shift[n]).detach().requires_grad_() for n, p in params.items()}
            slopes = torch.autograd.grad(loss_fn(functional_call(model, here, (inputs,)), targets), list(here.values()))
            shift = {n: shift[n] - lr * s for n, s in zip(shift, slopes)}
        return {n: p + shift[n] for n, p in params.items()}
    for _ in range(steps):
        slopes = torch.autograd.grad(
            loss_fn(functional_call(model, params, (inputs,)), targets), list(params.values()), create_graph=True
        )
        params = {n: p - lr * s for (n, p), s in zip(params.items(), slopes)}
    return params
"""),
    ("saved_gradients", "backward on the model itself, whose gradients are put back afterwards", """
    adapted = dict(model.named_parameters())
    own = dict(adapted)
    saved = {name: p.grad for name, p in own.items()}
    for step in range(steps):
        for p in own.values():
            p.grad = None
        loss = loss_fn(functional_call(model, adapted, (inputs,)), targets)
        grads = torch.autograd.grad(loss, list(adapted.values()), create_graph=not first_order)
        adapted = {name: p - lr * g for (name, p), g in zip(adapted.items(), grads)}
    for name, p in own.items():
        p.grad = saved[name]
    return adapted
"""),
    ("state_dict_kept", "the variables of the state, without buffers", """
    state = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, nn.Parameter)}
    for _ in range(steps):
        predictions = functional_call(model, state, args=(inputs,))
        grads = torch.autograd.grad(loss_fn(predictions, targets), list(state.values()), create_graph=not first_order)
        state = {k: v - lr * g for (k, v), g in zip(state.items(), grads)}
    return state
"""),
]  # fmt: skip

_ANNOTATED = SIGNATURE.replace(
    "model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False)",
    "model: nn.Module, inputs: Tensor, targets: Tensor, *, steps: int = 1, lr: float = 0.01, "
    "loss_fn=nn.functional.cross_entropy, first_order: bool = False) -> dict[str, Tensor]",
)

CORRECT = [
    correct("plain", "as the notebook explains it", MAML),
    *(correct(name, text, replaced(MAML, *texts)) for name, text, *texts in _CHANGED),
    *(correct(name, text, of_body(*sources)) for name, text, *sources in _BODIES),
    correct("annotated", "with annotations", replaced(MAML, SIGNATURE, _ANNOTATED)),
    correct(
        "index_of_parameters",
        "writes each gradient down by its name",
        replaced(
            MAML,
            f"        {GRADS}\n        {STEP}\n",
            f"        {GRADS}\n        by_name = dict(zip(adapted.keys(), grads))\n"
            "        adapted = {name: adapted[name].sub(by_name[name], alpha=lr) for name in by_name}\n",
        ),
    ),
]
