"""Correct linear probes that use the encoder in other ways: copies, hooks, states, and features in every epoch."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import correct, of_body

EVERY_EPOCH = correct(
    "every_epoch",
    "calls the encoder in every epoch, without gradients",
    of_body("""
        was_training = [module.training for module in encoder.modules()]
        encoder.eval()
        head, optimizer = None, None
        for epoch in range(epochs):
            for images, labels in loader:
                with torch.no_grad():
                    features = encoder(images)
                if head is None:
                    head = nn.Linear(features.shape[1], num_classes)
                    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
                loss = F.cross_entropy(head(features), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for module, mode in zip(encoder.modules(), was_training):
            module.training = mode
        return head
    """),
)

NUM_FEATURES = correct(
    "num_features",
    "the encoder says how many features it has; SGD with momentum, the encoder in every epoch",
    of_body("""
        state = {m: m.training for m in encoder.modules()}
        device = next(encoder.parameters()).device
        head = nn.Linear(encoder.num_features, num_classes).to(device)
        opt = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)
        encoder.eval()
        for _ in range(epochs):
            for x, y in loader:
                with torch.no_grad():
                    h = encoder(x.to(device))
                opt.zero_grad()
                F.cross_entropy(head(h), y.to(device)).backward()
                opt.step()
        for m, mode in state.items():
            m.training = mode
        return head
    """),
)

DEEP_COPY = correct(
    "deep_copy",
    "works with a copy of the encoder, so that the encoder itself is never touched",
    of_body("""
        frozen = copy.deepcopy(encoder).eval().requires_grad_(False)
        parts = [(frozen(images), labels) for images, labels in loader]
        x, y = (torch.cat(part) for part in zip(*parts))
        head = nn.Linear(x.size(1), num_classes)
        optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(x[index]), y[index]).backward()
                optimizer.step()
        return head
    """),
)

CONTEXT_MANAGER = correct(
    "context_manager",
    "a context in which the encoder is frozen, for any number of calls",
    of_body(
        """
        with frozen(encoder):
            pairs = [(encoder(images), labels) for images, labels in loader]
        features = torch.cat([f for f, _ in pairs])
        labels = torch.cat([l for _, l in pairs])
        head = nn.Linear(features.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr)
        for _ in range(epochs):
            for i in torch.randperm(len(labels)).split(128):
                optimizer.zero_grad()
                nn.CrossEntropyLoss()(head(features[i]), labels[i]).backward()
                optimizer.step()
        return head
        """,
        """
        from contextlib import contextmanager

        @contextmanager
        def frozen(model):
            modes = [m.training for m in model.modules()]
            model.eval()
            try:
                with torch.no_grad():
                    yield model
            finally:
                for m, mode in zip(model.modules(), modes):
                    m.training = mode
        """,
    ),
)

TENSOR_DATASET = correct(
    "tensor_dataset",
    "features in a TensorDataset, with a shuffling DataLoader, in small functions",
    of_body(
        """
        features, labels = extract(encoder, loader)
        return fit(features, labels, num_classes, epochs, lr)
        """,
        """
        from torch.utils.data import DataLoader, TensorDataset

        @torch.no_grad()
        def extract(encoder, loader):
            modes = {name: m.training for name, m in encoder.named_modules()}
            encoder.eval()
            out, targets = [], []
            for images, labels in loader:
                out.append(encoder(images).cpu())
                targets.append(labels.cpu())
            for name, m in encoder.named_modules():
                m.training = modes[name]
            return torch.cat(out), torch.cat(targets)

        def fit(features, labels, num_classes, epochs, lr):
            data = DataLoader(TensorDataset(features, labels), batch_size=32, shuffle=True)
            head = nn.Linear(features.shape[-1], num_classes)
            criterion = nn.CrossEntropyLoss()
            optimizer = torch.optim.Adam(head.parameters(), lr=lr)
            head.train()
            for epoch in range(epochs):
                for x, y in data:
                    optimizer.zero_grad()
                    criterion(head(x), y).backward()
                    optimizer.step()
            return head
        """,
    ),
)

HOOK = correct(
    "forward_hook",
    "collects the outputs in a hook, which is removed",
    of_body("""
        features, labels = [], []
        handle = encoder.register_forward_hook(lambda module, inputs, output: features.append(output.detach()))
        modes = [m.training for m in encoder.modules()]
        encoder.eval()
        try:
            with torch.no_grad():
                for images, targets in loader:
                    encoder(images)
                    labels.append(targets)
        finally:
            handle.remove()
            for m, mode in zip(encoder.modules(), modes):
                m.training = mode
        x, y = torch.cat(features), torch.cat(labels)
        head = nn.Linear(x.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(head(x[rows]), y[rows]).backward()
                optimizer.step()
        return head
    """),
)

FUNCTIONAL = correct(
    "functional_call",
    "calls the encoder with detached parameters and copies of its buffers",
    of_body("""
        from torch.func import functional_call

        modes = [m.training for m in encoder.modules()]
        encoder.eval()
        tensors = {name: p.detach() for name, p in encoder.named_parameters()}
        tensors |= {name: b.clone() for name, b in encoder.named_buffers()}
        x, y = [], []
        for images, labels in loader:
            x.append(functional_call(encoder, tensors, (images,)))
            y.append(labels)
        for m, mode in zip(encoder.modules(), modes):
            m.training = mode
        x, y = torch.cat(x), torch.cat(y)
        head = nn.Linear(x.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        for _ in range(epochs):
            for i in torch.randperm(len(x)).split(16):
                optimizer.zero_grad()
                F.cross_entropy(head(x[i]), y[i]).backward()
                optimizer.step()
        return head
    """),
)

STATE_RELOADED = correct(
    "state_reloaded",
    "the encoder's state and modes are saved and put back, for safety",
    of_body("""
        state = copy.deepcopy(encoder.state_dict())
        flags = {name: p.requires_grad for name, p in encoder.named_parameters()}
        modes = {name: m.training for name, m in encoder.named_modules()}
        encoder.eval()
        for p in encoder.parameters():
            p.requires_grad = False
        x, y = zip(*[(encoder(images), labels) for images, labels in loader])
        encoder.load_state_dict(state)
        for name, p in encoder.named_parameters():
            p.requires_grad = flags[name]
        for name, m in encoder.named_modules():
            m.training = modes[name]
        x, y = torch.cat(x), torch.cat(y)
        head = nn.Linear(x.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        for _ in range(epochs):
            optimizer.zero_grad()
            F.cross_entropy(head(x), y).backward()
            optimizer.step()
        return head
    """),
)

ENCODERS = [
    EVERY_EPOCH,
    NUM_FEATURES,
    DEEP_COPY,
    CONTEXT_MANAGER,
    TENSOR_DATASET,
    HOOK,
    FUNCTIONAL,
    STATE_RELOADED,
]
