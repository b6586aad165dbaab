"""More correct adaptations, which lean on other parts of PyTorch."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.maml.parts import correct, of_body

# name, why it is correct, body of the function
_BODIES = [
    ("skeleton", "calls a copy of the model with the adapted parameters", """
    import copy

    skeleton = copy.deepcopy(model)
    w = {n: p for n, p in model.named_parameters()}
    for _ in range(steps):
        g = torch.autograd.grad(loss_fn(functional_call(skeleton, w, (inputs,)), targets), list(w.values()), create_graph=not first_order)
        w = {n: p - lr * s for (n, p), s in zip(w.items(), g)}
    return w
"""),
    ("inplace_grad", "multiplies gradients in place for first order", """
    w = dict(model.named_parameters())
    for _ in range(steps):
        g = torch.autograd.grad(loss_fn(functional_call(model, w, (inputs,)), targets), list(w.values()), create_graph=not first_order)
        w = {n: p - s.mul_(lr) if first_order else p - s.mul(lr) for (n, p), s in zip(w.items(), g)}
    return w
"""),
    ("inplace_clone", "a dictionary of clones that is changed entry by entry", """
    w = {n: p.clone() for n, p in model.named_parameters()}
    for _ in range(steps):
        g = torch.func.grad(lambda q: loss_fn(functional_call(model, q, inputs), targets))(w)
        for n in w:
            w[n] = w[n].sub(g[n].detach() if first_order else g[n], alpha=lr)
    return w
"""),
    ("has_aux", "torch.func.grad with the predictions next to it", """
    def f(p, b):
        out = functional_call(model, (p, b), (inputs,))
        return loss_fn(out, targets), out
    p, b = dict(model.named_parameters()), dict(model.named_buffers())
    for _ in range(steps):
        g, out = torch.func.grad(f, argnums=0, has_aux=True)(p, b)
        p = {k: p[k] + (-lr) * (g[k].detach() if first_order else g[k]) for k in p}
    return p
"""),
    ("argnums_positional", "torch.func.grad with each parameter as an argument", """
    names, values = zip(*model.named_parameters())
    def f(*values):
        return loss_fn(functional_call(model, dict(zip(names, values)), (inputs,)), targets)
    for _ in range(steps):
        g = torch.func.grad(f, argnums=tuple(range(len(values))))(*values)
        values = [v - lr * (s.detach() if first_order else s) for v, s in zip(values, g)]
    return dict(zip(names, values))
"""),
    ("mean_of_loss", "takes the mean of a loss that is one number", """
    w = dict(model.named_parameters())
    with torch.set_grad_enabled(True):
        for _ in range(steps):
            loss = loss_fn(functional_call(model, w, (inputs,)), targets).mean()
            g = torch.autograd.grad(loss, w.values(), create_graph=not first_order)
            w = {n: p - lr * s for (n, p), s in zip(w.items(), g)}
    return w
"""),
    ("vmapped_over_one", "torch.func.vmap over a single task", """
    w = dict(model.named_parameters())
    for _ in range(steps):
        def f(p, x, y):
            return loss_fn(functional_call(model, p, (x,)), y)
        g = torch.func.vmap(torch.func.grad(f), in_dims=(None, 0, 0))(w, inputs[None], targets[None])
        w = {n: w[n] - lr * (g[n][0].detach() if first_order else g[n][0]) for n in w}
    return w
"""),
    ("requires_grad_filter_full", "adapts what requires a gradient, and returns all", """
    full = dict(model.named_parameters())
    names = [n for n, p in full.items() if p.requires_grad]
    for _ in range(steps):
        gs = torch.autograd.grad(loss_fn(functional_call(model, full, (inputs,)), targets), [full[n] for n in names], create_graph=not first_order, allow_unused=True, materialize_grads=True)
        full = {**full, **{n: full[n] - lr * g for n, g in zip(names, gs)}}
    return full
"""),
    ("parametrize_swap", "swaps the tensors of the model for the time of a call", """
    from torch.nn.utils.stateless import _reparametrize_module
    w = dict(model.named_parameters())
    for _ in range(steps):
        with _reparametrize_module(model, w):
            loss = loss_fn(model(inputs), targets)
        g = torch.autograd.grad(loss, list(w.values()), create_graph=not first_order)
        w = {n: p - lr * s for (n, p), s in zip(w.items(), g)}
    return w
"""),
    ("double_then_first", "second order first, then the changes as constants", """
    w = dict(model.named_parameters())
    base = w
    for _ in range(steps):
        loss = loss_fn(functional_call(model, w, (inputs,)), targets)
        g = torch.autograd.grad(loss, list(w.values()), create_graph=True)
        w = {n: p - lr * s for (n, p), s in zip(w.items(), g)}
    if first_order:
        w = {n: base[n] + (w[n] - base[n]).detach() for n in w}
    return w
"""),
    ("path_of_steps", "a list of the parameters after each step", """
    path = [dict(model.named_parameters())]
    while len(path) <= steps:
        here = path[-1]
        loss = loss_fn(functional_call(model, here, (inputs,)), targets)
        slopes = torch.autograd.grad(loss, list(here.values()), create_graph=not first_order)
        path.append({name: p - lr * slope for (name, p), slope in zip(here.items(), slopes)})
    return path[-1]
"""),
]  # fmt: skip

MORE_CORRECT = [correct(name, text, of_body(body)) for name, text, body in _BODIES]
