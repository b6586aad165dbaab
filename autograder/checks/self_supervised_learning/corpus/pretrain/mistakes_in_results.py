"""Mistakes in what is returned."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.changes import MEAN, STEP, SUM, wrong

_ADD = "            total += loss.item() * len(images)\n"
_COUNT = "            seen += len(images)\n"
_ZERO = "        total, seen = 0.0, 0\n"
_RETURN = "    return history"
_LIST = '    history = {"loss": []}\n'
_APPEND = '        history["loss"].append'

IN_RESULTS = [
    wrong("mean_over_batches", "averages over batches, not over images", (3, 5), SUM, "            total += loss.item()\n            seen += 1\n"),
    wrong("mean_over_all_batches", "averages over batches, with the one that is left out", (3, 5), _ADD, "            total += loss.item()\n",
          MEAN, f"{_APPEND}(total / len(loader))\n"),
    wrong("sum_over_images", "reports the sum over the images", (3, 5), MEAN, f"{_APPEND}(total)\n"),
    wrong("sum_over_batches", "reports the sum over the batches", (3, 5), _ADD, "            total += loss.item()\n", MEAN, f"{_APPEND}(total)\n"),
    wrong("batch_means_over_images", "divides the sum over batches by the number of images", (3, 5), _ADD, "            total += loss.item()\n"),
    wrong("images_over_batches", "divides the sum over images by the number of batches", (3, 5), _COUNT, "            seen += 1\n"),
    wrong("last_batch", "reports the loss of the last batch", (3, 5), MEAN, f"{_APPEND}(loss.item())\n"),
    wrong("first_batch", "reports the loss of the first batch", (3, 5), SUM, "            total, seen = total or loss.item(), 1\n"),
    wrong("twice_the_mean", "reports twice the mean", (3, 5), _ADD, "            total += 2 * loss.item() * len(images)\n"),
    wrong("half_the_mean", "divides by the number of views", (3, 5), _COUNT, "            seen += 2 * len(images)\n"),
    wrong("running_mean", "averages over all epochs so far", (3, 5), _ZERO, "", _LIST, _LIST + "    total, seen = 0.0, 0\n"),
    wrong("never_starts_again", "adds up over all epochs", (3, 5), _ZERO, "        seen = 0\n", _LIST, _LIST + "    total = 0.0\n"),
    wrong("first_epoch_repeated", "reports the first epoch again and again", (3, 5), MEAN,
          f"{_APPEND}(history['loss'][0] if history['loss'] else total / seen)\n"),
    wrong("exponential_mean", "reports a moving average over the batches", (3, 5), SUM,
          "            total = loss.item() if not seen else 0.9 * total + 0.1 * loss.item()\n            seen = 1\n"),
    wrong("reports_fresh_views", "reports the loss of other views, in eval mode after the epoch", (3, 7), MEAN,
          "        encoder.eval(), projector.eval()\n        with torch.no_grad():\n            total, seen = 0.0, 0\n"
          "            for images, _ in loader:\n                if len(images) > 1:\n"
          "                    views = [projector(encoder(augment(images))) for _ in range(2)]\n"
          "                    total += nt_xent_loss(*views, temperature).item() * len(images)\n                    seen += len(images)\n"
          "        encoder.train(), projector.train()\n" + MEAN),
    wrong("counts_batch_of_one", "counts the image of a batch of one in the mean", (1, 3), _COUNT, "",
          "            if len(images) < 2:\n", _COUNT + "            if len(images) < 2:\n"),
    wrong("divides_by_dataset", "divides by the size of the data set, the image that is left out included", (1, 3),
          _ZERO, _ZERO.replace("seen = 0.0, 0", "seen = 0.0, sum(len(images) for images, _ in list(loader))"), _COUNT, ""),
    wrong("history_of_batches", "reports the loss of every batch", (1, 5), MEAN, "", STEP, STEP + "            history['loss'].append(loss.item())\n"),
    wrong("reports_no_losses", "returns an empty list of losses", (3, 5), MEAN, ""),
    wrong("returns_list", "returns the list instead of the dict", (1, 3), _RETURN, '    return history["loss"]'),
    wrong("another_key", "returns the losses under another key", (1, 3), '"loss"', '"losses"'),
    wrong("returns_nothing", "does not return the history", (3, 5), _RETURN + "\n", ""),
    wrong("returns_encoder", "returns the encoder", (3, 5), _RETURN, "    return encoder"),
    wrong("returns_both", "returns the encoder and the history", (1, 3), _RETURN, "    return encoder, history"),
    wrong("returns_last_loss", "returns the last loss alone", (1, 5), _RETURN, '    return {"loss": history["loss"][-1]}'),
    wrong("returns_tensors", "reports tensors instead of floats", (0.5, 2), "loss.item()", "loss.detach()"),
    wrong("returns_graphs", "reports tensors that keep their graphs", (0.5, 3), "loss.item()", "loss"),
    wrong("returns_one_tensor", "reports the losses as one tensor", (0.5, 3), _RETURN, '    return {"loss": torch.tensor(history["loss"])}'),
]  # fmt: skip
