"""Correct pretrainings with other optimizers, schedules and ways to compute gradients."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.changes import (
    BACK,
    CLEAR,
    FORWARD,
    LOSS,
    MEAN,
    OPTIMIZER,
    REFUSE,
    SIGNATURE,
    SMALL,
    STEP,
    SUM,
    UPDATE,
    VIEWS,
    correct,
    whole,
)

_PARAMETERS = "    parameters = [*encoder.parameters(), *projector.parameters()]\n"


def _optimizer(name: str, text: str, made: str) -> list[str]:
    return [name, text, OPTIMIZER, f"    optimizer = torch.optim.{made}\n"]


OPTIMIZERS = [
    correct(*_optimizer("sgd", "plain gradient descent", "SGD(parameters, lr=lr)")),
    correct(*_optimizer("radam", "RAdam, whose first steps are small", "RAdam(parameters, lr=lr)")),
    correct(*_optimizer("adagrad", "Adagrad", "Adagrad(parameters, lr=lr)")),
    correct(*_optimizer("rmsprop", "RMSprop with momentum", "RMSprop(parameters, lr=lr, momentum=0.9, alpha=0.9)")),
    correct(*_optimizer("rprop", "Rprop", "Rprop(parameters, lr=lr)")),
    correct(
        *_optimizer(
            "momentum_cosine",
            "momentum and a cosine schedule",
            "SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)",
        ),
        "    history = ",
        "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)\n    history = ",
        MEAN,
        MEAN + "        schedule.step()\n",
    ),
    correct(
        "scaled_rate",
        "the learning rate grows with the size of the batch, as in the paper",
        OPTIMIZER,
        "    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)\n",
        STEP,
        "            for group in optimizer.param_groups:\n                group['lr'] = lr * len(images) / 256\n"
        + STEP,
    ),
    correct(
        "warm_up",
        "the learning rate begins at 0 and grows over the first epochs",
        OPTIMIZER,
        OPTIMIZER + "    schedule = torch.optim.lr_scheduler.LambdaLR(\n"
        "        optimizer, lambda e: e / 2 if e < 2 else 0.5 * (1 + math.cos(math.pi * (e - 2) / max(epochs - 2, 1)))\n"
        "    )\n",
        MEAN,
        MEAN + "        schedule.step()\n",
    ),
    correct(
        "steps_once_before",
        "a first step without gradients changes nothing",
        OPTIMIZER,
        OPTIMIZER + "    optimizer.zero_grad()\n    optimizer.step()\n",
    ),
    correct(
        "one_cycle",
        "one cycle of the learning rate over all batches",
        OPTIMIZER,
        "    optimizer = torch.optim.Adam(parameters)\n"
        "    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(loader))\n",
        STEP,
        STEP + "            schedule.step()\n",
    ),
    correct(
        "clips_norm",
        "gradients are clipped to a norm",
        STEP,
        "            nn.utils.clip_grad_norm_(parameters, 0.1)\n" + STEP,
    ),
    correct(
        "clips_values",
        "gradients are clipped one by one",
        STEP,
        "            nn.utils.clip_grad_value_(parameters, 0.1)\n" + STEP,
    ),
    correct(
        "two_optimizers",
        "each network has an optimizer of its own",
        OPTIMIZER,
        "    optimizers = [torch.optim.AdamW(net.parameters(), lr=lr) for net in (encoder, projector)]\n",
        UPDATE,
        "            for optimizer in optimizers:\n                optimizer.zero_grad()\n"
        + BACK
        + "            for optimizer in optimizers:\n                optimizer.step()\n",
    ),
    correct(
        "optimizer_for_each_parameter",
        "each parameter has an optimizer of its own, which steps as soon as its gradient is there",
        OPTIMIZER,
        "    optimizers = {p: torch.optim.Adam([p], lr=lr, foreach=False) for p in parameters}\n\n"
        "    def update(p):\n        optimizers[p].step()\n        optimizers[p].zero_grad()\n\n"
        "    handles = [p.register_post_accumulate_grad_hook(update) for p in parameters]\n",
        UPDATE,
        BACK,
        "    return history",
        "    for handle in handles:\n        handle.remove()\n    return history",
    ),
    correct(
        "no_decay_of_norms",
        "weight decay leaves out biases and normalisation",
        OPTIMIZER,
        "    groups = [\n"
        '        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},\n'
        '        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},\n'
        "    ]\n    optimizer = torch.optim.AdamW(groups, lr=lr)\n",
    ),
    correct(
        "accumulates_batches",
        "one step for two batches, with the mean of their gradients",
        _PARAMETERS,
        _PARAMETERS + "    waiting = 0\n",
        UPDATE,
        "            (loss / 2).backward()\n            waiting += 1\n"
        "            if waiting == 2:\n                optimizer.step()\n                optimizer.zero_grad()\n"
        "                waiting = 0\n",
        MEAN,
        "        if waiting:\n            optimizer.step()\n            optimizer.zero_grad()\n            waiting = 0\n"
        + MEAN,
    ),
    correct(
        "lbfgs",
        "a quasi-Newton method, which evaluates a batch several times",
        OPTIMIZER,
        "    optimizer = torch.optim.LBFGS(parameters, lr=lr, max_iter=2, history_size=4)\n",
        FORWARD + LOSS + UPDATE,
        "\n            def closure():\n                optimizer.zero_grad()\n"
        "                z1, z2 = projector(encoder(first)), projector(encoder(second))\n"
        "                loss = nt_xent_loss(z1, z2, temperature)\n                loss.backward()\n                return loss\n\n"
        "            loss = optimizer.step(closure)\n",
    ),
    correct(
        "lbfgs_line_search",
        "a quasi-Newton method with a line search",
        OPTIMIZER,
        "    optimizer = torch.optim.LBFGS(parameters, lr=lr, max_iter=3, line_search_fn='strong_wolfe')\n",
        FORWARD + LOSS + UPDATE,
        "\n            def closure():\n                optimizer.zero_grad()\n"
        "                z1, z2 = projector(encoder(torch.cat([first, second]))).chunk(2)\n"
        "                loss = nt_xent_loss(z1, z2, temperature)\n                loss.backward()\n                return loss\n\n"
        "            loss = optimizer.step(closure)\n",
    ),
    correct(
        "sharpness_aware",
        "two backward passes over a batch, one step",
        LOSS + UPDATE,
        LOSS + CLEAR + BACK + "            norm = torch.stack([p.grad.norm() for p in parameters]).norm() + 1e-12\n"
        "            moves = [0.02 * p.grad / norm for p in parameters]\n"
        "            with torch.no_grad():\n                torch._foreach_add_(parameters, moves)\n"
        + CLEAR
        + "            nt_xent_loss(projector(encoder(first)), projector(encoder(second)), temperature).backward()\n"
        "            with torch.no_grad():\n                torch._foreach_sub_(parameters, moves)\n" + STEP,
    ),
    whole(
        "lars",
        "an optimizer of its own: layer-wise adaptive rates with momentum",
        f"""
class LARS(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.9, weight_decay=1e-6, trust=0.1):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.add(p, alpha=group["weight_decay"])
                if p.ndim > 1:
                    g = g * (group["trust"] * p.norm() / (g.norm() + 1e-8))
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["momentum"]).add_(g)
                p.sub_(group["lr"] * v)


{SIGNATURE}{REFUSE}    optimizer = LARS([*encoder.parameters(), *projector.parameters()], lr)
    history = []
    for _ in range(epochs):
        encoder.train()
        projector.train()
        pairs = []
        for images, *_ in loader:
            if len(images) > 1:
                z1 = projector(encoder(augment(images)))
                z2 = projector(encoder(augment(images)))
                loss = nt_xent_loss(z1, z2, temperature)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                pairs += [loss.item()] * len(images)
        history.append(sum(pairs) / len(pairs))
    return {{"loss": history}}
""",
    ),
    whole(
        "gradients_of_its_own",
        "gradients from torch.autograd.grad and momentum without an optimizer",
        f"""
{SIGNATURE}{REFUSE}    weights = [*encoder.parameters(), *projector.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    encoder.train()
    projector.train()
    curve = []
    for _ in range(epochs):
        total = n = 0
        for images, _labels in loader:
            if len(images) < 2:
                continue
            views = [augment(images) for _ in range(2)]
            loss = nt_xent_loss(*(projector(encoder(v)) for v in views), temperature)
            with torch.no_grad():
                for w, v, g in zip(weights, velocity, torch.autograd.grad(loss, weights)):
                    v.mul_(0.9).add_(g)
                    w.sub_(lr * v)
            total += float(loss) * len(images)
            n += len(images)
        curve.append(total / n)
    return {{"loss": curve}}
""",
    ),
    whole(
        "functional",
        "the loss as a function of the parameters, with torch.func",
        f"""
from torch.func import functional_call, grad_and_value


{SIGNATURE}{REFUSE}    model = nn.Sequential(encoder, projector).train()
    buffers = dict(model.named_buffers())

    def loss_of(parameters, buffers, first, second):
        z1, z2 = (functional_call(model, (parameters, buffers), (v,)) for v in (first, second))
        return nt_xent_loss(z1, z2, temperature)

    history = {{"loss": []}}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, _labels in loader:
            if len(images) < 2:
                continue
            parameters = {{name: p.detach() for name, p in model.named_parameters()}}
            gradients, loss = grad_and_value(loss_of)(parameters, buffers, augment(images), augment(images))
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p -= lr * gradients[name]
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    return history
""",
    ),
    whole(
        "gradients_in_place",
        "an update without an optimizer, after which gradients are set to zero",
        f"""
{SIGNATURE}{REFUSE}    params = [*encoder.parameters(), *projector.parameters()]
    history = {{"loss": []}}
    for _ in range(epochs):
        encoder.train()
        projector.train()
        total, seen = 0.0, 0
        for images, _labels in loader:
{SMALL}{VIEWS}{FORWARD}{LOSS}            loss.backward()
            with torch.no_grad():
                for p in params:
                    p -= lr * p.grad
                    p.grad.zero_()
{SUM}{MEAN}    return history
""",
    ),
]
