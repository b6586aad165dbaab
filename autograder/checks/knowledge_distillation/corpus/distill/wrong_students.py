"""Wrong distillations: what the student is shown, how it is trained, and what is returned."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ANSWER,
    ASK,
    BACK,
    CLEAR,
    EPOCHS,
    HISTORY,
    LOOP,
    LOSS,
    MEAN,
    OPTIMIZER,
    RETURN,
    SEEN,
    SIGNATURE,
    STEP,
    SUMS,
    TOTAL,
    TRAIN,
    UPDATE,
    changed,
    wrong,
)
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL

# what a mistake should cost, of 30 points, and the checks that it fails
VIEWS = (3, 3), "student_sees_every_view"
LABELS = (2, 2), "labels_of_the_loader"
MODE = (2, 2), "student_in_train_mode"
STEPS = (2, 2), "steps_of_the_student"
NUMBERS = (2, 2), "numbers_and_defaults"
DEFAULT = (1, 1), "numbers_and_defaults"
MEANS = (3, 3), "losses_of_epochs"
RETURNED = (1, 1), "returns_losses"
FLOATS = (0.5, 0.5), "returns_losses"
NOT_LEARNED = (
    (10, 10),
    "student_learns goes_down_from_its_weights losses_of_epochs gradient_of_the_loss steps_of_the_student numbers_and_defaults",
)
EVERYTHING = (
    "returns_losses student_sees_every_view same_views_for_teacher labels_of_the_loader teacher_in_eval_mode student_in_train_mode "
    "student_learns goes_down_from_its_weights losses_of_epochs teacher_bit_for_bit teacher_modes_come_back "
    "teacher_flags_and_gradients teacher_without_gradients gradient_of_the_loss steps_of_the_student numbers_and_defaults"
)
NOTHING = (27, 30), EVERYTHING

_CALL = "student_logits, teacher_logits, labels, temperature, alpha"

# name, mistake, cost, checks that fail, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # what is shown
    ("views_kept", "puts the batches into a list once, so that all epochs have the same views", *VIEWS,
     HISTORY, HISTORY + "    batches = list(loader)\n", "in loader:", "in batches:"),
    ("views_repeated", "repeats the first pass for ever", *VIEWS, HISTORY, HISTORY + "    import itertools\n    batches = itertools.cycle(list(loader))\n    n_batches = len(list(loader))\n",
     LOOP, "        for images, labels in itertools.islice(batches, n_batches):\n"),
    ("last_batch_dropped", "leaves out the last batch", *VIEWS, "in loader:", "in list(loader)[:-1]:"),
    ("small_batches_dropped", "leaves out batches that are smaller than the first", *VIEWS,
     SUMS, SUMS + "        full = None\n", ASK, "            full = full or len(images)\n            if len(images) < full:\n                continue\n" + ASK),
    ("batches_without_label_skipped", "skips batches without any label", *VIEWS, ASK, "            if (labels < 0).all():\n                continue\n" + ASK),
    ("batches_with_images_without_label_skipped", "skips batches in which a label is missing", *VIEWS,
     ASK, "            if (labels < 0).any():\n                continue\n" + ASK),
    ("images_without_label_left_out", "leaves out images without a label", (3, 5), "",
     ASK, "            images, labels = images[labels >= 0], labels[labels >= 0]\n            if len(images) < 2:\n                continue\n" + ASK),
    ("first_batch_alone", "trains on the first batch alone", (3, 4), "", SEEN, SEEN + "            break\n"),
    ("first_batch_again", "takes the first batch of a new iterator again and again", (3, 7), "",
     LOOP, "        for _ in range(len(list(loader))):\n            images, labels = next(iter(loader))\n"),
    ("iterator_made_once", "makes the iterator over the batches once", (3, 7), "", HISTORY, HISTORY + "    batches = iter(loader)\n", "in loader:", "in batches:", "total / seen", "total / max(seen, 1)"),
    ("images_scaled", "scales the images once more", (3, 7), "", ASK, "            images = images / 255\n" + ASK),
    ("images_mirrored", "mirrors the views once more", (3, 7), "", ASK, "            images = images.flip(3)\n" + ASK),
    ("images_mixed", "mixes images of the batch", (3, 7), "", ASK, "            images = 0.7 * images + 0.3 * images.roll(1, 0)\n" + ASK),
    ("student_gets_noise", "adds noise to the student's images", (3, 8), "", "= student(images)", "= student(images + 0.05 * torch.randn_like(images))"),
    ("views_and_answers_kept", "puts views and answers of the first pass into a list, for all epochs", *VIEWS,
     HISTORY, HISTORY + "    with torch.no_grad():\n        answered = [(x, y, teacher(x)) for x, y in loader]\n",
     LOOP + ASK, "        for images, labels, teacher_logits in answered:\n"),
    ("needs_dataset", "works only with loaders that have a data set", *RETURNED, HISTORY, HISTORY + "    n_images = len(loader.dataset)\n"),
    ("needs_batch_size", "works only with loaders that have a batch size", *RETURNED, HISTORY, HISTORY + "    size = loader.batch_size\n"),
    # labels
    ("class_for_no_label", "takes class 0 for no label", *LABELS, LOSS, LOSS.replace("labels", "labels.clamp(min=0)")),
    ("absolute_labels", "takes the absolute number of a label", *LABELS, LOSS, LOSS.replace("labels", "labels.abs()")),
    ("pseudo_labels", "takes the teacher's most probable class where there is no label", *LABELS,
     LOSS, "            labels = torch.where(labels < 0, teacher_logits.argmax(1), labels)\n" + LOSS),
    ("teachers_labels", "takes the teacher's most probable class for all labels", *LABELS, LOSS, LOSS.replace("labels", "teacher_logits.argmax(1)")),
    ("students_labels", "takes the student's most probable class where there is no label", *LABELS,
     LOSS, "            labels = torch.where(labels < 0, student_logits.argmax(1), labels)\n" + LOSS),
    ("labels_shifted", "gives the loss labels of other images", *LABELS, LOSS, LOSS.replace("labels", "labels.roll(1)")),
    ("last_class_for_no_label", "takes the last class for no label", *LABELS, LOSS, LOSS.replace("labels", "labels % 4")),
    ("labels_sorted", "gives the loss the labels in ascending order", *LABELS, LOSS, LOSS.replace("labels", "labels.sort().values")),
    ("no_labels", "never gives the loss a label", *LABELS, LOSS, LOSS.replace("labels", "torch.full_like(labels, -1)")),
    ("unlabelled_rows_dropped", "leaves images without a label out of the loss", (2, 4), "",
     LOSS, "            known = labels >= 0\n            if not known.any():\n                continue\n"
     + LOSS.replace("student_logits, teacher_logits, labels", "student_logits[known], teacher_logits[known], labels[known]")),
    ("unlabelled_rows_dropped_always", "gives the loss the rows with a label alone, also where there are none", (4, 6), "",
     LOSS, LOSS.replace("student_logits, teacher_logits, labels", "student_logits[labels >= 0], teacher_logits[labels >= 0], labels[labels >= 0]")),
    ("first_rows_alone", "gives the loss the first three rows alone", (2, 9), "", LOSS, LOSS.replace("student_logits, teacher_logits, labels", "student_logits[:3], teacher_logits[:3], labels[:3]")),
    # modes
    ("student_in_eval_mode", "sends the student to eval mode", *MODE, TRAIN, "    student.eval()\n"),
    ("student_as_it_comes", "never sends the student to train mode", *MODE, TRAIN, ""),
    ("flag_of_the_student", "sets the flag of the student alone", *MODE, TRAIN, "    student.training = True\n"),
    ("eval_after_an_epoch", "looks at the student in eval mode after an epoch, and goes on in it", *MODE, MEAN, MEAN + "        student.eval()\n"),
    ("train_mode_by_its_flag", "sends the student to train mode only if its flag says eval mode", (1, 1), "student_in_train_mode",
     TRAIN, "    if not student.training:\n        student.train()\n"),
    ("batch_norm_frozen", "keeps the student's BatchNorm in eval mode", *MODE, TRAIN, TRAIN + "    for m in student.modules():\n        if isinstance(m, nn.BatchNorm1d):\n            m.eval()\n"),
    # training
    ("never_steps", "never steps", *NOT_LEARNED, STEP, ""),
    ("no_backward", "never goes backwards", *NOT_LEARNED, BACK, ""),
    ("cleared_before_the_step", "clears the gradients before the step", *NOT_LEARNED, UPDATE, BACK + CLEAR + STEP),
    ("optimizer_of_the_teacher", "gives the optimizer the teacher's parameters alone", (10, 14), "", "student.parameters()", "teacher.parameters()"),
    ("copy_is_trained", "trains a copy of the student", *NOT_LEARNED, OPTIMIZER, "    student = copy.deepcopy(student)\n" + OPTIMIZER),
    ("start_restored", "puts the weights of the start back at the end", *NOT_LEARNED, HISTORY, HISTORY + "    start = copy.deepcopy(student.state_dict())\n",
     RETURN, "    student.load_state_dict(start)\n" + RETURN),
    ("student_detached", "detaches the student's logits", (27, 30), "", "= student(images)", "= student(images).detach()"),
    ("student_without_gradients", "calls the student without gradients", (27, 30), "", ASK + ANSWER, ASK + "                student_logits = student(images)\n"),
    ("never_cleared", "never clears the gradients", *STEPS, CLEAR, ""),
    ("cleared_once_an_epoch", "clears the gradients once an epoch", *STEPS, CLEAR, "", SUMS, SUMS + "        optimizer.zero_grad()\n"),
    ("steps_once_an_epoch", "steps once an epoch, with the gradient of the last batch", *STEPS, STEP, "", MEAN, "        optimizer.step()\n" + MEAN),
    ("steps_twice", "steps twice with each gradient", *STEPS, STEP, STEP + STEP),
    ("steps_before_backward", "steps before the backward pass", *NOTHING, UPDATE, STEP + CLEAR + BACK),
    ("head_alone", "trains the last layer alone", *STEPS, "student.parameters()", "list(student.parameters())[-2:]"),
    ("body_alone", "leaves the last layer as it is", *STEPS, "student.parameters()", "list(student.parameters())[:-2]"),
    ("matrices_alone", "trains matrices alone", *STEPS, "student.parameters()", "[p for p in student.parameters() if p.ndim > 1]"),
    ("uphill", "goes up the gradient", (4, 4), "goes_down_from_its_weights gradient_of_the_loss steps_of_the_student", "loss.backward()", "(-loss).backward()"),
    ("maximizes", "lets the optimizer go up", (3, 3), "goes_down_from_its_weights steps_of_the_student", "lr=lr)", "lr=lr, maximize=True)"),
    ("lr_ignored", "always uses a learning rate of 0.001", *STEPS, "lr=lr", "lr=1e-3"),
    ("lr_left_out", "leaves the learning rate to the optimizer", *STEPS, ", lr=lr)", ")"),
    ("new_weights", "gives the student new weights first", (1, 1), "goes_down_from_its_weights",
     TRAIN, TRAIN + "    for m in student.children():\n        m.reset_parameters()\n"),
    ("optimizer_in_each_epoch_of_a_copy", "trains a fresh copy in each epoch", *NOT_LEARNED, LOOP, "        learner = copy.deepcopy(student)\n"
     "        optimizer = torch.optim.AdamW(learner.parameters(), lr=lr)\n" + LOOP, "= student(images)", "= learner(images)"),
    ("second_loss", "adds a loss of the labels, which the distillation loss has already", (1, 4), "",
     BACK, "            known = labels >= 0\n            more = F.cross_entropy(student_logits[known], labels[known], reduction='sum')\n            (loss + more).backward()\n"),
    # numbers
    ("numbers_swapped", "swaps temperature and alpha", *NUMBERS, _CALL, _CALL.replace("temperature, alpha", "alpha, temperature")),
    ("numbers_left_out", "gives the loss neither temperature nor alpha", *NUMBERS, ", temperature, alpha)\n            opt", ")\n            opt"),
    ("alpha_left_out", "does not give the loss alpha", *NUMBERS, "temperature, alpha)\n            opt", "temperature)\n            opt"),
    ("temperature_left_out", "does not give the loss the temperature", *NUMBERS, "labels, temperature, alpha", "labels, alpha=alpha"),
    ("alpha_at_the_place_of_temperature", "gives the loss alpha in the place of the temperature", *NUMBERS, "labels, temperature, alpha", "labels, alpha"),
    ("alpha_turned_round", "gives the loss 1 - alpha", *NUMBERS, "temperature, alpha)\n            opt", "temperature, 1 - alpha)\n            opt"),
    ("temperature_squared", "gives the loss the square of the temperature", *NUMBERS, "labels, temperature,", "labels, temperature ** 2,"),
    ("temperature_1", "always uses a temperature of 1", *NUMBERS, "labels, temperature,", "labels, 1.0,"),
    ("temperature_falls", "lets the temperature fall from epoch to epoch", *NUMBERS, SUMS, SUMS + "        temperature = max(temperature * 0.9, 0.1)\n"),
    ("default_temperature", "has another temperature by default", *DEFAULT, "temperature=4.0", "temperature=2.0"),
    ("default_alpha", "has another alpha by default", *DEFAULT, "alpha=0.9", "alpha=0.5"),
    ("default_epochs", "has another number of epochs by default", *DEFAULT, "epochs=10", "epochs=5"),
    ("default_lr", "has another learning rate by default", *DEFAULT, "lr=1e-3,", "lr=1e-2,"),
    ("no_default_temperature", "has no default of the temperature", *NUMBERS, "temperature=4.0", "temperature"),
    ("alpha_where_there_are_labels", "uses another alpha for batches without any label", (1, 1), "gradient_of_the_loss",
     LOSS, LOSS.replace("alpha)", "alpha if (labels >= 0).any() else 1.0)")),
    ("both_parts_swapped", "adds up both parts of the loss with each other's weight", (2, 4), "",
     LOSS, "            soft, hard = (distillation_loss(student_logits, teacher_logits, labels, temperature, a) for a in (1.0, 0.0))\n"
     "            loss = (1 - alpha) * soft + alpha * hard\n"),
    ("both_parts_alike", "adds up both parts of the loss without weights", (2, 6), "",
     LOSS, "            soft, hard = (distillation_loss(student_logits, teacher_logits, labels, temperature, a) for a in (1.0, 0.0))\n"
     "            loss = soft + hard\n"),
    ("alpha_falls", "lets alpha fall from epoch to epoch", *NUMBERS, SUMS, SUMS + "        alpha = alpha * 0.9\n"),
    # epochs
    ("epoch_too_few", "runs one epoch too few", *RETURNED, "range(epochs)", "range(epochs - 1)"),
    ("epoch_too_many", "runs one epoch too many", *RETURNED, "range(epochs)", "range(epochs + 1)"),
    ("one_epoch", "runs one epoch", (1, 4), "", "range(epochs)", "range(1)"),
    ("ten_epochs", "always runs ten epochs", (1, 1), "returns_losses", "range(epochs)", "range(10)"),
    # losses
    ("mean_over_batches", "averages over batches", *MEANS, "loss.item() * len(images)", "loss.item()", SEEN, "            seen += 1\n"),
    ("sum_over_images", "adds up over the images", *MEANS, "total / seen", "total"),
    ("sum_over_batches", "adds up means over batches", *MEANS, "loss.item() * len(images)", "loss.item()", "total / seen", "total"),
    ("divided_by_images", "divides the sum over batches by the number of images", *MEANS, "loss.item() * len(images)", "loss.item()"),
    ("divided_by_batches", "divides the sum over images by the number of batches", *MEANS, SEEN, "            seen += 1\n"),
    ("divided_by_len_of_loader", "divides by the number of batches that the loader has", *MEANS, "total / seen", "total / len(loader)"),
    ("weighted_with_labels", "weighs each batch with the number of its labels", *MEANS, TOTAL + SEEN,
     "            n = int((labels >= 0).sum())\n            total += loss.item() * n\n            seen += n\n", "total / seen", "total / max(seen, 1)"),
    ("last_batch", "reports the loss of the last batch", *MEANS, "total / seen", "loss.item()"),
    ("never_set_back", "goes on adding up over the epochs", *MEANS, EPOCHS + SUMS, "    total, seen = 0.0, 0\n" + EPOCHS),
    ("sum_never_set_back", "sets the number of images back, and not the sum", *MEANS, EPOCHS + SUMS, "    total = 0.0\n" + EPOCHS + "        seen = 0\n"),
    ("first_epoch_repeated", "reports the loss of the first epoch in all epochs", *MEANS, "append(total / seen)", "append(history['loss'][0] if history['loss'] else total / seen)"),
    ("negative", "reports the loss with the opposite sign", *MEANS, "total / seen", "-total / seen"),
    ("rounded", "rounds the loss to one digit", *MEANS, "append(total / seen)", "append(round(total / seen, 1))"),
    ("after_the_step", "reports the loss of further views after the epoch", *MEANS, MEAN, "        with torch.no_grad():\n"
     "            rows = [(float(distillation_loss(student(x), teacher(x), y, temperature, alpha)), len(x)) for x, y in loader]\n"
     "        history['loss'].append(sum(l * n for l, n in rows) / sum(n for _, n in rows))\n"),
    ("largest_batch", "divides by the largest size of a batch", *MEANS, SEEN, "            seen = max(seen, len(images))\n"),
    ("small_batches_not_counted", "leaves small batches out of the mean", *MEANS, TOTAL + SEEN,
     "            if len(images) > 4:\n                total += loss.item() * len(images)\n                seen += len(images)\n", "total / seen", "total / max(seen, 1)"),
    ("unlabelled_not_counted", "leaves batches without a label out of the mean", *MEANS, TOTAL + SEEN,
     "            if (labels >= 0).any():\n                total += loss.item() * len(images)\n                seen += len(images)\n"),
    ("smoothed", "reports a moving average over the epochs", *MEANS, "append(total / seen)", "append(0.9 * history['loss'][-1] + 0.1 * total / seen if history['loss'] else total / seen)"),
    ("multiplied_twice", "multiplies with the number of images twice", *MEANS, TOTAL, "            total += loss.item() * len(images) ** 2\n"),
    ("one_for_each_batch", "reports a loss for each batch", (1, 4), "", MEAN, "", SEEN, SEEN + "            history['loss'].append(loss.item())\n"),
    ("one_in_all", "reports one loss for the whole training", (1, 4), "", MEAN, "        history['loss'] = [total / seen]\n"),
    ("tensors", "reports tensors", *FLOATS, "loss.item()", "loss.detach()"),
    ("strings", "reports texts", (0.5, 4), "", "append(total / seen)", "append(f'{total / seen:.4f}')"),
    ("array", "reports an array", *FLOATS, RETURN, "    import numpy as np\n\n    return {'loss': np.array(history['loss'])}\n"),
    ("list_alone", "returns the list alone", *RETURNED, RETURN, "    return history['loss']\n"),
    ("other_key", "has another key", *RETURNED, '"loss"', '"train_loss"'),
    ("with_the_student", "returns the student as well", *RETURNED, RETURN, "    return student, history\n"),
    ("returns_nothing", "returns nothing", (1, 4), "returns_losses losses_of_epochs", RETURN, ""),
    ("returns_the_student", "returns the student", (1, 4), "returns_losses losses_of_epochs", RETURN, "    return student\n"),
    ("prints", "prints the losses", (1, 4), "returns_losses losses_of_epochs", RETURN, "    print(history)\n"),
    ("returns_in_the_loop", "returns after the first epoch", (1, 4), "", MEAN, MEAN + "        return history\n"),
    ("stops_after_two_epochs", "stops after two epochs", (1, 1), "returns_losses", MEAN, MEAN + "        if len(history['loss']) > 1:\n            break\n"),
    # nothing works
    ("gradients_off_for_all", "switches gradients off for the whole loop", (27, 30), "", EPOCHS, "    torch.set_grad_enabled(False)\n" + EPOCHS),
    ("name_missing", "uses a name that does not exist", *NOTHING, "temperature, alpha)\n            opt", "tau, alpha)\n            opt"),
    ("numbers_first", "gives the loss the numbers before the labels", (27, 30), "", "labels, temperature, alpha", "temperature, alpha, labels"),
    ("loss_without_labels", "gives the loss no labels", (27, 30), "", "teacher_logits, labels, ", "teacher_logits, "),
]  # fmt: skip

WRONG_STUDENTS = [
    *(changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED),
    wrong("empty", "has no body yet", *NOTHING, f"{SIGNATURE}    return None\n"),
    wrong("not_written", "is still the stub", *NOTHING, f"{SIGNATURE}    raise NotImplementedError\n"),
    wrong("other_arguments", "has no argument `alpha`", *NOTHING, DISTILL.replace("alpha", "weight")),
]
