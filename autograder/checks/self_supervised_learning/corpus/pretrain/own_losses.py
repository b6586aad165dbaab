"""Pretrainings that compute the contrastive loss themselves, correct ones and wrong ones."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.changes import REFUSE, SIGNATURE, whole, wrong

_LOSS = "            loss = F.cross_entropy(logits, target)\n"
_Z1 = "            z1 = F.normalize(projector(encoder(augment(images))), dim=1)\n"
_Z2 = _Z1.replace("z1", "z2")

_OWN = f"""
{SIGNATURE}{REFUSE}    optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=lr)
    history = {{"loss": []}}
    for _ in range(epochs):
        encoder.train()
        projector.train()
        total, seen = 0.0, 0
        for images, _labels in loader:
            n = len(images)
            if n < 2:
                continue
{_Z1}{_Z2}            z = torch.cat([z1, z2])
            logits = z @ z.T / temperature
            logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
            target = torch.arange(2 * n).roll(n)
{_LOSS}            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * n
            seen += n
        history["loss"].append(total / seen)
    return history
"""

OWN_LOSSES = [
    whole("own_loss", "computes the loss itself", _OWN),
    whole(
        "own_loss_interleaved",
        "computes the loss itself, of one batch in which both views of an image stand next to each other",
        f"""
def contrast(z, temperature):
    z = z / z.norm(dim=1, keepdim=True)
    similarity = torch.exp(z @ z.T / temperature)
    similarity = similarity * (1 - torch.eye(len(z)))
    positive = torch.exp((z * z[torch.arange(len(z)) ^ 1]).sum(1) / temperature)
    return -(positive / similarity.sum(1)).log().mean()


{SIGNATURE}{REFUSE}    nets = nn.Sequential(encoder, projector)
    optimizer = torch.optim.SGD(nets.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(epochs):
        nets.train()
        sums = [0.0, 0]
        for images, _ in loader:
            if images.shape[0] == 1:
                continue
            views = augment(images.repeat_interleave(2, dim=0))
            loss = contrast(nets(views), temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums = [sums[0] + loss.item() * images.shape[0], sums[1] + images.shape[0]]
        losses.append(sums[0] / sums[1])
    return {{"loss": losses}}
""",
    ),
    whole(
        "own_loss_lbfgs",
        "computes the loss itself, in the closure of a quasi-Newton method",
        f"""
class InfoNCE(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, a, b):
        rows = torch.cat([a, b])
        cosines = F.cosine_similarity(rows[:, None], rows[None], dim=2) / self.temperature
        others = ~torch.eye(len(rows), dtype=torch.bool)
        positives = cosines.diagonal(len(a)).repeat(2)
        return (cosines[others].view(len(rows), -1).logsumexp(1) - positives).mean()


{SIGNATURE}{REFUSE}    criterion = InfoNCE(temperature)
    optimizer = torch.optim.LBFGS([*encoder.parameters(), *projector.parameters()], lr=lr, max_iter=3)
    means = []
    for _ in range(epochs):
        encoder.train()
        projector.train()
        weights, values = [], []
        for images, _labels in loader:
            if len(images) >= 2:
                a, b = augment(images), augment(images)

                def closure():
                    optimizer.zero_grad()
                    loss = criterion(projector(encoder(a)), projector(encoder(b)))
                    loss.backward()
                    return loss

                values.append(float(optimizer.step(closure)))
                weights.append(len(images))
        means.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    return {{"loss": means}}
""",
    ),
]

WRONG_OWN_LOSSES = [
    wrong("own_mean_over_batches", "averages its own losses over batches", (3, 5),
          "total += loss.item() * n", "total += loss.item()", "seen += n", "seen += 1", source=_OWN),
    wrong("own_not_masked", "leaves each row among its own candidates, in a loss of its own", (3, 8),
          'logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))', "pass", source=_OWN),
    wrong("own_neighbours", "looks for the positives at other rows, in a loss of its own", (3, 12),
          "torch.arange(2 * n).roll(n)", "torch.arange(2 * n).roll(1)", source=_OWN),
    wrong("own_without_temperature", "leaves the temperature out of a loss of its own", (2, 4),
          "z @ z.T / temperature", "z @ z.T", source=_OWN),
    wrong("own_fixed_temperature", "always uses a temperature of 0.5 in a loss of its own", (2, 4),
          "z @ z.T / temperature", "z @ z.T / 0.5", source=_OWN),
    wrong("own_not_normalised", "does not normalise the rows, in a loss of its own", (3, 8),
          _Z1 + _Z2, (_Z1 + _Z2).replace("F.normalize(", "(").replace(", dim=1)", ")"), source=_OWN),
    wrong("own_second_detached", "detaches the second view, in a loss of its own", (2, 5),
          "torch.cat([z1, z2])", "torch.cat([z1, z2.detach()])", source=_OWN),
    wrong("own_shuffled_pairs", "compares views of different images, in a loss of its own", (3, 12),
          "torch.cat([z1, z2])", "torch.cat([z1, z2.roll(1, 0)])", source=_OWN),
    wrong("own_uphill", "goes up the gradient of a loss of its own", (3, 12),
          "loss.backward()", "(-loss).backward()", source=_OWN),
    wrong("own_one_view", "uses the same view twice, in a loss of its own", (6, 12),
          _Z2, "            z2 = z1\n", source=_OWN),
    wrong("own_eval_mode", "never goes to train mode, with a loss of its own", (3, 5),
          "        encoder.train()\n        projector.train()\n", "", source=_OWN),
    wrong("own_never_steps", "never steps, with a loss of its own", (10, 13),
          "            optimizer.step()\n", "", source=_OWN),
    wrong("alignment_alone", "pulls both views together, with nothing that pushes images apart", (3, 8),
          _LOSS, "            loss = (z1 - z2).square().sum(1).mean()\n", source=_OWN),
]  # fmt: skip
