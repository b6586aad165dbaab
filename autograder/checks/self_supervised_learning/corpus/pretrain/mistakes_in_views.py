"""Mistakes in what is shown: views, pairs, batches and labels."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.changes import (
    BACK,
    FORWARD,
    LOOP,
    LOSS,
    MEAN,
    REFUSE,
    SIGNATURE,
    SMALL,
    VIEWS,
    whole,
    wrong,
)

_LIST = '    history = {"loss": []}\n'

IN_VIEWS = [
    # views
    wrong("one_view", "uses the same view twice", (6, 12), VIEWS, "            first = second = augment(images)\n"),
    wrong("one_projection", "compares one projection with itself", (6, 12), VIEWS + FORWARD,
          "            z1 = z2 = projector(encoder(augment(images)))\n"),
    wrong("first_plain", "takes the images as they are for the first view", (6, 12), VIEWS, "            first, second = images, augment(images)\n"),
    wrong("second_plain", "takes the images as they are for the second view", (6, 12), VIEWS, "            first, second = augment(images), images\n"),
    wrong("no_augmentation", "does not augment at all", (6, 12), VIEWS, "            first = second = images\n"),
    wrong("view_of_view", "makes the second view from the first", (5, 12), VIEWS,
          "            first = augment(images)\n            second = augment(first)\n"),
    wrong("augmented_once", "augments once, before the epochs", (6, 12), _LIST,
          _LIST + "    views = [(images, augment(images), augment(images)) for images, _ in loader]\n",
          LOOP + SMALL + VIEWS, "        for images, first, second in views:\n" + SMALL),
    wrong("same_seed", "draws the same numbers for both views of an epoch, so that both are the same", (6, 12),
          VIEWS, "            drawn = {}\n            first = drawn.setdefault(0, augment(images))\n            second = drawn[0].clone()\n"),
    wrong("second_shuffled", "shuffles the second view", (5, 12), VIEWS,
          VIEWS + "            second = second[torch.randperm(len(second))]\n"),
    wrong("second_rolled", "pairs each image with a view of the next one", (5, 12), VIEWS, VIEWS.replace("augment(images)\n", "augment(images.roll(1, 0))\n")),
    wrong("second_flipped", "reverses the order of the second view", (5, 12), LOSS, LOSS.replace("z2,", "z2.flip(0),")),
    wrong("wrong_halves", "splits interleaved views in halves", (5, 12), VIEWS + FORWARD,
          "            views = augment(images.repeat_interleave(2, dim=0))\n            z1, z2 = projector(encoder(views)).chunk(2)\n"),
    wrong("two_loaders", "takes the second view from a second pass, which is in another order", (3, 12),
          LOOP, "        for (images, _), (others, _) in zip(loader, loader):\n",
          VIEWS, "            first, second = augment(images), augment(others)\n"),
    wrong("four_views", "shows four views of an image", (3, 7), FORWARD,
          "            z1, z2 = projector(encoder(torch.cat([first, second]))), projector(encoder(torch.cat([augment(images), augment(images)])))\n"),
    wrong("views_standardised", "standardises the views of each batch once more", (3, 7), VIEWS,
          VIEWS + "            first, second = ((v - v.mean()) / v.std() for v in (first, second))\n"),
    wrong("images_scaled", "scales the images in place before it augments them", (3, 7), VIEWS, "            images.div_(255)\n" + VIEWS),
    wrong("noise_of_its_own", "uses noise of its own for the second view", (4, 12), VIEWS,
          "            first = augment(images)\n            second = images + 0.1 * torch.randn_like(images)\n"),
    # batches
    wrong("half_batches", "compares the images of half a batch at a time", (3, 8), LOSS,
          "            half = len(z1) // 2\n            loss = (nt_xent_loss(z1[:half], z2[:half], temperature)"
          " + nt_xent_loss(z1[half:], z2[half:], temperature)) / 2\n"),
    wrong("without_last_batch", "leaves out the last batch", (3, 8), LOOP, "        for images, _labels in list(loader)[:-1]:\n"),
    wrong("smaller_batches_left_out", "leaves out batches that are smaller than the largest", (3, 7),
          _LIST, _LIST + "    full = max(len(images) for images, _ in loader)\n", "if len(images) < 2:", "if len(images) < full:"),
    wrong("first_batch_alone", "trains on the first batch alone", (3, 10), MEAN, MEAN, "            seen += len(images)\n", "            seen += len(images)\n            break\n"),
    wrong("next_iter", "takes the first batch of a new iterator again and again", (3, 12), LOOP,
          "        for _ in range(len(list(loader))):\n            images, _labels = next(iter(loader))\n"),
    wrong("iterator_made_once", "makes the iterator over the batches once", (3, 12), LOOP, "        for images, _labels in batches:\n",
          _LIST, _LIST + "    batches = iter(loader)\n", "append(total / seen)", "append(total / max(seen, 1))"),
    wrong("one_image_too_many", "leaves out a batch of two images as well", (1, 2), "len(images) < 2", "len(images) <= 2"),
    wrong("batch_of_one_crashes", "does not leave out a batch of one image", (3, 5), SMALL, ""),
    wrong("ends_at_batch_of_one", "ends the epoch at a batch of one image", (2, 5), SMALL, SMALL.replace("continue", "break")),
    wrong("refuses_batch_of_one", "refuses loaders with a batch of one image", (3, 5), SMALL, SMALL.replace("continue", 'raise RuntimeError("too small")')),
    wrong("doubles_batch_of_one", "shows a batch of one image twice", (2, 5), SMALL,
          "            if len(images) < 2:\n                images = torch.cat([images, images])\n"),
    wrong("needs_dataset", "works only with loaders that have a dataset", (1, 3), _LIST, _LIST + "    n_images = len(loader.dataset)\n"),
    # labels
    whole("supervised", "trains a classifier with the labels", f"""
{SIGNATURE}{REFUSE}    head = None
    encoder.train()
    history = {{"loss": []}}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            if len(images) < 2:
                continue
            features = encoder(images)
            if head is None:
                head = nn.Linear(features.shape[1], 10)
                optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=lr)
            loss = F.cross_entropy(head(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
            seen += len(images)
        history["loss"].append(total / seen)
    return history
""", (10, 13)),
    whole("supervised_contrast", "takes all images with the same label for views of each other", f"""
{SIGNATURE}{REFUSE}    optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=lr)
    encoder.train()
    projector.train()
    history = {{"loss": []}}
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            n = len(images)
            if n < 2:
                continue
            z = F.normalize(projector(encoder(torch.cat([augment(images), augment(images)]))), dim=1)
            itself = torch.eye(2 * n, dtype=torch.bool)
            log_p = (z @ z.T / temperature).masked_fill(itself, float("-inf")).log_softmax(1)
            alike = (labels.repeat(2)[:, None] == labels.repeat(2)[None]) & ~itself
            loss = -(log_p.masked_fill(~alike, 0.0).sum(1) / alike.sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * n
            seen += n
        history["loss"].append(total / seen)
    return history
""", (4, 13)),
    wrong("labels_as_well", "trains with the labels as well", (3, 10), "_labels in", "labels in",
          LOSS, LOSS + "            loss = loss + F.cross_entropy(encoder(first), labels)\n"),
    wrong("labels_if_there_are_any", "trains with the labels as well, where there are any", (2, 10), "_labels in", "labels in",
          BACK, "            known = labels >= 0\n            more = F.cross_entropy(encoder(first)[known], labels[known]) if known.any() else 0\n"
          "            (loss + more).backward()\n"),
    wrong("images_without_label_left_out", "leaves out images whose label is negative", (3, 6), "_labels in", "labels in",
          SMALL, "            images = images[labels >= 0]\n" + SMALL, "append(total / seen)", "append(total / max(seen, 1))"),
    wrong("sees_plain_images_too", "shows the encoder the plain images as well, in train mode", (3, 7), BACK, BACK + "            encoder(images)\n"),
]  # fmt: skip
