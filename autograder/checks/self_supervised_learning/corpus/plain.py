"""Plain correct functions of lab 2, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

LOSS = """
def nt_xent_loss(z1, z2, temperature=0.5):
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError("z1 and z2 must have the same shape (n, d)")
    if len(z1) < 2:
        raise ValueError("at least two images are needed")
    if temperature <= 0:
        raise ValueError("the temperature must be positive")
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(itself, float("-inf"))
    other = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(z.device)
    return F.cross_entropy(logits, other)
"""

PRETRAIN = """
def pretrain(encoder, projector, loader, augment, *, epochs=10, lr=1e-3, temperature=0.5):
    if epochs < 1:
        raise ValueError("epochs must be at least 1")
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    encoder.train()
    projector.train()
    history = {"loss": []}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, _labels in loader:
            if len(images) < 2:
                continue
            first, second = augment(images), augment(images)
            z1, z2 = projector(encoder(first)), projector(encoder(second))
            loss = nt_xent_loss(z1, z2, temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    return history
"""

PROBE = """
def linear_probe(encoder, loader, num_classes, *, epochs=50, lr=1e-2):
    if num_classes < 2:
        raise ValueError("num_classes must be at least 2")
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    features, labels = [], []
    with torch.no_grad():
        for images, targets in loader:
            features.append(encoder(images))
            labels.append(targets)
    for module, training in modes:
        module.training = training
    features, labels = torch.cat(features), torch.cat(labels)
    head = nn.Linear(features.shape[1], num_classes).to(features.device)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(features)).split(64):
                loss = F.cross_entropy(head(features[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return head
"""

PLAIN = {"nt_xent_loss": LOSS, "pretrain": PRETRAIN, "linear_probe": PROBE}
