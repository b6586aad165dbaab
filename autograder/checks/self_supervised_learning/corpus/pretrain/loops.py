"""Correct pretrainings whose loops look different."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.changes import (
    CLEAR,
    FORWARD,
    LOOP,
    LOSS,
    MEAN,
    MODES,
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
_CLOSED = '    history = {"loss": []}\n'

LOOPS = [
    correct("plain", "the plain function"),
    correct(
        "doubled_batch",
        "both views go through the networks as one batch",
        FORWARD,
        "            z1, z2 = projector(encoder(torch.cat([first, second]))).chunk(2)\n",
    ),
    correct(
        "augments_doubled_batch",
        "augmentation draws for every image of each call, also if it is there twice",
        VIEWS + FORWARD,
        "            views = augment(torch.cat([images, images]))\n"
        "            z1, z2 = projector(encoder(views)).split(len(images))\n",
    ),
    correct(
        "interleaved",
        "both views of an image stand next to each other",
        VIEWS + FORWARD,
        "            views = augment(images.repeat_interleave(2, dim=0))\n"
        "            z = projector(encoder(views))\n            z1, z2 = z[0::2], z[1::2]\n",
    ),
    correct(
        "stacked_views",
        "views are stacked, and flattened for the networks",
        VIEWS + FORWARD,
        "            views = torch.stack([augment(images) for _ in range(2)], dim=1)\n"
        "            z = projector(encoder(views.flatten(0, 1))).unflatten(0, (-1, 2))\n"
        "            z1, z2 = z.unbind(1)\n",
    ),
    correct(
        "augments_each_image",
        "images are augmented one by one",
        VIEWS,
        "            first, second = (\n"
        "                torch.cat([augment(image.unsqueeze(0)) for image in images]) for _ in range(2)\n"
        "            )\n",
    ),
    correct(
        "sequential",
        "encoder and projector are one module",
        "    parameters = [*encoder.parameters(), *projector.parameters()]\n",
        "    model = nn.Sequential(encoder, projector)\n    parameters = model.parameters()\n",
        MODES,
        "    model.train()\n",
        FORWARD,
        "            z1, z2 = model(first), model(second)\n",
    ),
    correct(
        "chained",
        "gradients are cleared at the end of each step",
        _PARAMETERS,
        "    import itertools\n\n    parameters = itertools.chain(encoder.parameters(), projector.parameters())\n",
        CLEAR,
        "",
        STEP,
        STEP + "            optimizer.zero_grad(set_to_none=True)\n",
    ),
    correct(
        "collects_in_defaultdict",
        "the history is a defaultdict, and comes from a running mean",
        _CLOSED,
        "    from collections import defaultdict\n\n    history = defaultdict(list)\n",
        SUM,
        "            seen += len(images)\n            total += (loss.item() - total) * len(images) / seen\n",
        "append(total / seen)",
        "append(total)",
    ),
    correct(
        "sums_detached_tensor",
        "the loss is summed up as a tensor without its graph",
        "total, seen = 0.0, 0",
        "total, seen = torch.zeros(()), 0",
        "loss.item() * len(images)",
        "loss.detach() * len(images)",
        "append(total / seen)",
        "append((total / seen).item())",
    ),
    correct(
        "weighted_average",
        "the mean is NumPy's average, weighted with the sizes of batches",
        "        total, seen = 0.0, 0\n",
        "        losses, sizes = [], []\n",
        SUM,
        "            losses.append(loss.item())\n            sizes.append(images.shape[0])\n",
        MEAN,
        '        history["loss"].append(np.average(losses, weights=sizes))\n',
        SIGNATURE,
        "import numpy as np\n\n" + SIGNATURE,
    ),
    correct(
        "progress_bar",
        "a progress bar shows the loss",
        SIGNATURE,
        "from tqdm.auto import tqdm\n\n" + SIGNATURE,
        "for _ in range(epochs):",
        'for _ in tqdm(range(epochs), desc="pretraining", disable=True):',
        LOOP,
        "        bar = tqdm(loader, leave=False, disable=True)\n        for images, _labels in bar:\n",
        SUM,
        SUM + "            bar.set_postfix(loss=total / seen)\n",
    ),
    correct(
        "looks_at_views",
        "a batch of one image is recognised by its views",
        SMALL + VIEWS,
        VIEWS + "            if first.size(0) == 1:\n                continue\n",
    ),
    correct(
        "symmetrised",
        "the loss is the mean of both orders of the views, which is the same",
        LOSS,
        "            loss = (nt_xent_loss(z1, z2, temperature) + nt_xent_loss(z2, z1, temperature)) / 2\n",
    ),
    correct("swapped", "the order of the views does not matter", LOSS, LOSS.replace("z1, z2", "z2, z1")),
    correct(
        "normalised",
        "the length of a row does not matter",
        LOSS,
        "            z1, z2 = F.normalize(z1), F.normalize(z2)\n"
        + LOSS.replace("temperature)", "temperature=temperature)"),
    ),
    correct(
        "in_double",
        "the loss is computed in double precision",
        LOSS,
        LOSS.replace("z1, z2", "z1.double(), z2.double()"),
    ),
    correct(
        "listed_batches",
        "the batches are put into a list once, and the views are drawn from it in every epoch",
        LOOP,
        "        for images, _labels in batches:\n",
        _CLOSED,
        _CLOSED + "    batches = list(loader)\n",
    ),
    correct(
        "shuffles_within_batch",
        "the order of the images in a batch does not matter",
        VIEWS,
        "            images = images[torch.randperm(len(images))]\n" + VIEWS,
    ),
    correct(
        "draws_epoch_first",
        "all views of an epoch are drawn before its first step",
        LOOP + SMALL + VIEWS,
        "        views = [(x, augment(x), augment(x)) for x, _ in loader if len(x) > 1]\n"
        "        for images, first, second in views:\n",
    ),
    correct(
        "compiled",
        "both networks are compiled as one",
        _PARAMETERS,
        "    model = torch.compile(nn.Sequential(encoder, projector))\n    parameters = list(model.parameters())\n",
        FORWARD,
        "            z1, z2 = model(first), model(second)\n",
    ),
    correct(
        "counts_images_first",
        "the number of images is counted in a pass of its own",
        _CLOSED,
        _CLOSED + "    n_images = sum(len(images) for images, _ in loader if len(images) > 1)\n",
        "append(total / seen)",
        "append(total / n_images)",
    ),
    correct(
        "modes_restored",
        "both networks get back the modes that they came with",
        MODES,
        "    came = [(module, module.training) for net in (encoder, projector) for module in net.modules()]\n" + MODES,
        "    return history",
        "    for module, training in came:\n        module.training = training\n    return history",
    ),
    correct(
        "moving_average",
        "a moving average of the encoder is kept aside",
        _CLOSED,
        _CLOSED + "    average = copy.deepcopy(encoder)\n",
        STEP,
        STEP + "            with torch.no_grad():\n"
        "                for mean, p in zip(average.parameters(), encoder.parameters()):\n"
        "                    mean.lerp_(p, 0.01)\n",
    ),
    correct(
        "looks_in_between",
        "after each epoch the spread of the features is looked at, in eval mode and without gradients",
        "        total, seen = 0.0, 0\n",
        "        encoder.train()\n        total, seen = 0.0, 0\n",
        MEAN,
        MEAN + "        encoder.eval()\n        with torch.no_grad():\n"
        '            history.setdefault("spread", []).append(encoder(images).std(dim=0).mean().item())\n',
    ),
    whole(
        "moves_to_device",
        "networks and images are moved to a device, labels too",
        f"""
{SIGNATURE}{REFUSE}    device = next(encoder.parameters()).device
    projector = projector.to(device)
    params = list(encoder.parameters()) + list(projector.parameters())
    opt = torch.optim.Adam(params, lr=lr, weight_decay=1e-4)
    losses = []
    for epoch in range(1, epochs + 1):
        encoder.train(), projector.train()
        running, count = 0.0, 0
        for batch in loader:
            x, y = (t.to(device, non_blocking=True) for t in batch)
            n = x.shape[0]
            if n == 1:
                continue
            a = augment(x)
            b = augment(x)
            opt.zero_grad(set_to_none=True)
            h = encoder(torch.cat((a, b), dim=0))
            z = projector(h)
            loss = nt_xent_loss(z[:n], z[n:], temperature=temperature)
            loss.backward()
            opt.step()
            running += n * float(loss)
            count += n
        losses.append(running / max(count, 1))
    return dict(loss=losses)
""",
    ),
    whole(
        "trainer_class",
        "the loop is a class of its own",
        f"""
class Pretraining:
    def __init__(self, encoder, projector, augment, lr, temperature):
        self.nets = nn.ModuleList([encoder, projector])
        self.augment, self.temperature = augment, temperature
        self.optimizer = torch.optim.AdamW(self.nets.parameters(), lr=lr, weight_decay=1e-6)

    def project(self, images):
        return self.nets[1](self.nets[0](self.augment(images)))

    def step(self, images):
        loss = nt_xent_loss(self.project(images), self.project(images), self.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epoch(self, loader):
        self.nets.train()
        rows = [(self.step(images), len(images)) for images, _ in loader if len(images) > 1]
        return sum(loss * n for loss, n in rows) / sum(n for _, n in rows)


{SIGNATURE}{REFUSE}    training = Pretraining(encoder, projector, augment, lr, temperature)
    return {{"loss": [training.epoch(loader) for _ in range(epochs)]}}
""",
    ),
    whole(
        "iterators",
        "batches come from an iterator, in a while loop",
        f"""
{SIGNATURE}    if not epochs >= 1:
        raise ValueError(epochs)
    optimizer = torch.optim.NAdam([p for net in (encoder, projector) for p in net.parameters()], lr=lr)
    curve = torch.full((epochs,), float("nan"), dtype=torch.float64)
    epoch = 0
    while epoch < epochs:
        encoder.train()
        projector.train()
        batches, sums = iter(loader), torch.zeros(2, dtype=torch.float64)
        while True:
            try:
                images = next(batches)[0]
            except StopIteration:
                break
            if images.size(0) > 1:
                optimizer.zero_grad()
                with torch.enable_grad():
                    h1 = encoder(augment(images))
                    h2 = encoder(augment(images))
                    z1, z2 = projector(torch.cat([h1, h2])).chunk(2)
                    loss = nt_xent_loss(z1, z2, temperature)
                    loss.backward()
                optimizer.step()
                sums += torch.tensor([loss.item() * images.size(0), images.size(0)])
        curve[epoch] = sums[0] / sums[1]
        epoch += 1
    return {{"loss": curve.tolist(), "epochs": epochs}}
""",
    ),
    correct(
        "mixed_precision",
        "the forward pass is left to autocast, with a gradient scaler that is switched off",
        OPTIMIZER,
        OPTIMIZER + '    scaler = torch.amp.GradScaler("cpu", enabled=False)\n',
        FORWARD,
        '            with torch.autocast("cpu", dtype=torch.bfloat16):\n    '
        + FORWARD
        + "            z1, z2 = z1.float(), z2.float()\n",
        UPDATE,
        CLEAR
        + "            scaler.scale(loss).backward()\n            scaler.step(optimizer)\n            scaler.update()\n",
    ),
]
