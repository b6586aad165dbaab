"""Correct linear probes that find the layer in other ways: line searches, closed forms, and scaled features."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.parts import correct, of_body

LBFGS_LINE_SEARCH = correct(
    "lbfgs_line_search",
    "L-BFGS with a line search, which chooses its steps itself; at most `epochs` iterations",
    of_body(
        """
        head = nn.Linear(features.shape[1], num_classes)
        optimizer = torch.optim.LBFGS(head.parameters(), lr=lr, max_iter=epochs, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(head(features), labels) + 1e-3 * head.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return head
        """,
        features=True,
    ),
)

LBFGS_EPOCHS = correct(
    "lbfgs_epochs",
    "L-BFGS on all features, a step of several iterations an epoch, with the given learning rate",
    of_body(
        """
        head = nn.Linear(features.shape[1], num_classes)
        optimizer = torch.optim.LBFGS(head.parameters(), lr=lr)
        for _ in range(epochs):
            def closure():
                optimizer.zero_grad()
                loss = F.cross_entropy(head(features), labels)
                loss.backward()
                return loss
            optimizer.step(closure)
        return head
        """,
        features=True,
    ),
)

RIDGE = correct(
    "ridge",
    "ridge regression to one-hot targets, solved at once: neither epochs nor a learning rate are needed",
    of_body(
        """
        x, y = features.double(), F.one_hot(labels, num_classes).double()
        x_mean, y_mean = x.mean(0), y.mean(0)
        a, b = x - x_mean, y - y_mean
        weight = torch.linalg.solve(a.T @ a + 1e-2 * len(x) * torch.eye(x.shape[1], dtype=x.dtype), a.T @ b)
        head = nn.Linear(x.shape[1], num_classes)
        with torch.no_grad():
            head.weight.copy_(weight.T)
            head.bias.copy_(y_mean - x_mean @ weight)
        return head
        """,
        features=True,
    ),
)

NEAREST_MEAN = correct(
    "discriminant",
    "a linear discriminant with a shared spherical covariance, in closed form",
    of_body(
        """
        d = features.shape[1]
        means = torch.zeros(num_classes, d)
        counts = torch.bincount(labels, minlength=num_classes)
        means.index_add_(0, labels, features)
        means /= counts.clamp(min=1)[:, None]
        variance = (features - means[labels]).square().mean()
        head = nn.Linear(d, num_classes)
        head.weight.data.copy_(means / variance)
        bias = -means.square().sum(1) / (2 * variance) + (counts.clamp(min=1) / len(labels)).log()
        head.bias.data.copy_(torch.where(counts > 0, bias, torch.full_like(bias, -1e4)))
        return head
        """,
        features=True,
    ),
)

FOLDED = correct(
    "standardised_and_folded",
    "trains on standardised features, and puts the scaling into the layer's weight and bias",
    of_body(
        """
        mean, std = features.mean(0), features.std(0, correction=0) + 1e-6
        scaled = (features - mean) / std
        head = nn.Linear(features.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        for _ in range(epochs):
            for rows in torch.randperm(len(scaled)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(head(scaled[rows]), labels[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            head.weight /= std
            head.bias -= head.weight @ mean
        return head
        """,
        features=True,
    ),
)

BATCH_NORM_FOLDED = correct(
    "batch_norm_folded",
    "a BatchNorm without parameters before the layer, folded into it at the end",
    of_body(
        """
        norm = nn.BatchNorm1d(features.shape[1], affine=False, momentum=None)
        head = nn.Linear(features.shape[1], num_classes)
        model = nn.Sequential(norm, head)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for _ in range(epochs):
            optimizer.zero_grad()
            F.cross_entropy(model(features), labels).backward()
            optimizer.step()
        scale = (norm.running_var + norm.eps).rsqrt()
        folded = nn.Linear(features.shape[1], num_classes)
        folded.load_state_dict({
            "weight": head.weight.detach() * scale,
            "bias": head.bias.detach() - head.weight.detach() @ (scale * norm.running_mean),
        })
        return folded
        """,
        features=True,
    ),
)

BEST_STATE = correct(
    "best_state",
    "keeps the weights with the lowest loss, and stops once it is tiny",
    of_body(
        """
        head = nn.Linear(features.shape[1], num_classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        best, state = float("inf"), None
        for epoch in range(epochs):
            for rows in torch.randperm(len(features)).split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(features[rows]), labels[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = F.cross_entropy(head(features), labels).item()
            if loss < best:
                best, state = loss, copy.deepcopy(head.state_dict())
            if loss < 1e-4:
                break
        head.load_state_dict(state)
        return head
        """,
        features=True,
    ),
)

OWN_STEPS = correct(
    "own_steps",
    "gradient descent without an optimizer",
    of_body(
        """
        head = nn.Linear(features.shape[1], num_classes)
        for _ in range(epochs):
            for rows in torch.randperm(len(features)).split(16):
                head.zero_grad()
                F.cross_entropy(head(features[rows]), labels[rows]).backward()
                with torch.no_grad():
                    for p in head.parameters():
                        p -= lr * p.grad
        return head
        """,
        features=True,
    ),
)

OWN_GRADIENTS = correct(
    "own_gradients",
    "the gradient of the cross-entropy by its formula, with momentum, on bare tensors",
    of_body(
        """
        n, d = features.shape
        w, b = torch.zeros(num_classes, d), torch.zeros(num_classes)
        v, u = torch.zeros_like(w), torch.zeros_like(b)
        targets = F.one_hot(labels, num_classes).float()
        for _ in range(epochs):
            for rows in torch.randperm(n).split(32):
                wrong = (features[rows] @ w.T + b).softmax(1) - targets[rows]
                v = 0.9 * v + wrong.T @ features[rows] / len(rows)
                u = 0.9 * u + wrong.mean(0)
                w, b = w - lr * v, b - lr * u
        head = nn.Linear(d, num_classes)
        head.weight.data, head.bias.data = w, b
        return head
        """,
        features=True,
    ),
)

SUBCLASS = correct(
    "subclass",
    "a class of its own that is an nn.Linear, and trains itself",
    of_body(
        """
        head = Probe(features.shape[1], num_classes)
        head.fit(features, labels, epochs, lr)
        return head
        """,
        """
        class Probe(nn.Linear):
            def fit(self, x, y, epochs, lr):
                optimizer = torch.optim.Adam(self.parameters(), lr=lr)
                for _ in range(epochs):
                    for i in torch.randperm(len(x)).split(32):
                        optimizer.zero_grad()
                        F.cross_entropy(self(x[i]), y[i]).backward()
                        optimizer.step()
        """,
        features=True,
    ),
)

AUTOGRAD = correct(
    "autograd_grad",
    "gradients by autograd.grad, put into .grad for Adam",
    of_body(
        """
        head = nn.Linear(features.shape[1], num_classes)
        parameters = list(head.parameters())
        optimizer = torch.optim.Adam(parameters, lr=lr)
        for _ in range(epochs):
            for rows in torch.randperm(len(features)).split(64):
                loss = F.cross_entropy(head(features[rows]), labels[rows])
                for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                    p.grad = gradient
                optimizer.step()
        return head
        """,
        features=True,
    ),
)

LAYERS = [
    LBFGS_LINE_SEARCH,
    LBFGS_EPOCHS,
    RIDGE,
    NEAREST_MEAN,
    FOLDED,
    BATCH_NORM_FOLDED,
    BEST_STATE,
    OWN_STEPS,
    OWN_GRADIENTS,
    SUBCLASS,
    AUTOGRAD,
]
