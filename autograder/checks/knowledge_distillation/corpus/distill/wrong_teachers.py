"""Wrong distillations: how the teacher is asked, and how it comes back."""

from __future__ import annotations

from typing import Any

from autograder.checks.knowledge_distillation.corpus.distill.parts import (
    ASK,
    EPOCHS,
    EVAL,
    HISTORY,
    LOOP,
    LOSS,
    MEAN,
    MODES,
    OPTIMIZER,
    RESTORE,
    RETURN,
    STEP,
    SUMS,
    TRAIN,
    changed,
)

# what a mistake should cost, of 30 points, and the checks that it fails
TRAIN_MODE = (4, 4), "teacher_in_eval_mode teacher_bit_for_bit"
AT_TIMES = (2, 2), "teacher_in_eval_mode"
BIT = (2, 2), "teacher_bit_for_bit"
SETTING = (1, 1), "teacher_bit_for_bit"
LEFT = (2, 2), "teacher_modes_come_back"
IN_PART = (1, 1), "teacher_modes_come_back"
FLAGS = (1, 1), "teacher_flags_and_gradients"
ATTACHED = (1, 1), "teacher_without_gradients"
VIEWS = (4, 4), "same_views_for_teacher"
# what the student learns is not what the teacher says
NOT_THE_TEACHER = (8, 8), "same_views_for_teacher losses_of_epochs gradient_of_the_loss"

_ATTACHED = "            teacher_logits = teacher(images)\n"
_DROPOUT = "    for m in teacher.modules():\n        if isinstance(m, nn.Dropout):\n            "
_NORM = "    for m in teacher.modules():\n        if isinstance(m, nn.BatchNorm1d):\n            "

# name, mistake, cost, checks that fail, and texts of the plain function that are replaced
_CHANGED: list[tuple[Any, ...]] = [
    # train mode
    ("teacher_as_it_comes", "never sends the teacher to eval mode", *TRAIN_MODE, EVAL, ""),
    ("teacher_in_train_mode", "sends the teacher to train mode", *TRAIN_MODE, EVAL, "    teacher.train()\n"),
    ("both_in_train_mode", "sends both networks to train mode", *TRAIN_MODE, TRAIN, "    nn.ModuleList([teacher, student]).train()\n"),
    ("flag_of_the_teacher", "sets the flag of the teacher alone, and none of its layers", *TRAIN_MODE, EVAL, "    teacher.training = False\n"),
    ("eval_of_children_alone", "sends the teacher's direct layers to eval mode by their flag", *TRAIN_MODE,
     EVAL, "    for child in teacher.children():\n        child.training = False\n"),
    ("dropout_in_train_mode", "sends the teacher's BatchNorm to eval mode, and not its dropout", *AT_TIMES, EVAL, _NORM + "m.eval()\n"),
    ("statistics_put_back", "asks in train mode, and puts the state back afterwards", *AT_TIMES,
     EVAL, "    state = copy.deepcopy(teacher.state_dict())\n", RETURN, "    teacher.load_state_dict(state)\n" + RETURN),
    ("copy_in_train_mode", "asks a copy in train mode", *AT_TIMES, MODES + EVAL, "    teacher = copy.deepcopy(teacher)\n", RESTORE, ""),
    ("train_mode_after_an_epoch", "sends the teacher to train mode after each epoch", *TRAIN_MODE, MEAN, MEAN + "        teacher.train()\n"),
    ("statistics_of_the_loader", "computes BatchNorm's statistics of the loader's images first", *TRAIN_MODE,
     EVAL, "    teacher.train()\n    with torch.no_grad():\n        for images, _ in loader:\n            teacher(images)\n" + EVAL),
    # modes afterwards
    ("modes_not_restored", "leaves the teacher in eval mode", *LEFT, MODES, "", RESTORE, ""),
    ("train_mode_afterwards", "sends the teacher to train mode at the end", *LEFT, MODES, "", RESTORE, "    teacher.train()\n"),
    ("modes_read_too_late", "reads the modes after eval mode was set", *LEFT, MODES + EVAL, EVAL + MODES),
    ("modes_restored_in_the_loop", "puts the modes back after the first epoch, and asks again in eval mode", *LEFT,
     RESTORE, "", MEAN, MEAN + "        for module, training in modes:\n            module.training = training\n        teacher.eval()\n"),
    ("one_mode_for_all", "gives all layers the mode of the teacher", *IN_PART, MODES, "    came = teacher.training\n", RESTORE, "    teacher.train(came)\n"),
    ("train_if_it_was", "sends the teacher to train mode if it was there", *IN_PART, MODES, "    came = teacher.training\n", RESTORE, "    if came:\n        teacher.train()\n"),
    ("modes_of_children", "puts back the modes of direct layers, each with all that is in it", *IN_PART,
     MODES, "    modes = [(teacher, teacher.training), *((m, m.training) for m in teacher.children())]\n", "module.training = training", "module.train(training)"),
    ("modes_inside_out", "puts modes back from the last layer to the teacher, with all that is in each", *IN_PART,
     RESTORE, "    for module, training in reversed(modes):\n        module.train(training)\n"),
    # gradients
    ("with_gradients", "gives the loss answers that require a gradient", *ATTACHED, ASK, _ATTACHED),
    ("gradients_wanted", "asks for gradients of the teacher's answers", *ATTACHED, ASK, ASK + "            teacher_logits.requires_grad_()\n"),
    ("frozen_for_good", "freezes the teacher, and leaves it so", *FLAGS, EVAL, EVAL + "    teacher.requires_grad_(False)\n"),
    ("all_thawed", "makes all parameters of the teacher trainable afterwards", *FLAGS,
     EVAL, EVAL + "    teacher.requires_grad_(False)\n", RESTORE, RESTORE + "    teacher.requires_grad_(True)\n"),
    ("first_flag_for_all", "gives all parameters the flag of the first", *FLAGS, EVAL, EVAL + "    flag = next(teacher.parameters()).requires_grad\n"
     "    teacher.requires_grad_(False)\n", RESTORE, RESTORE + "    teacher.requires_grad_(flag)\n"),
    ("in_the_optimizer", "gives the optimizer the teacher's parameters as well", *FLAGS, "student.parameters()", "[*student.parameters(), *teacher.parameters()]"),
    ("in_the_optimizer_cleared_later", "gives the optimizer the teacher's parameters as well, and clears gradients after the step", (2, 3), "",
     OPTIMIZER, OPTIMIZER.replace("student.parameters()", "[*student.parameters(), *teacher.parameters()]"),
     "            optimizer.zero_grad()\n", "", STEP, STEP + "            optimizer.zero_grad()\n"),
    ("clears_gradients", "clears the teacher's gradients", *FLAGS, EVAL, EVAL + "    teacher.zero_grad()\n"),
    ("gradients_off", "leaves gradients switched off", *FLAGS, RETURN, "    torch.set_grad_enabled(False)\n" + RETURN),
    ("default_dtype", "changes the default dtype", *FLAGS, RETURN, "    torch.set_default_dtype(torch.float64)\n" + RETURN),
    # state and settings
    ("sent_through_half", "sends the teacher through half precision", (2, 3), "teacher_bit_for_bit teacher_flags_and_gradients", EVAL, EVAL + "    teacher.half().float()\n"),
    ("double_for_good", "leaves the teacher in double precision", *BIT, EVAL, EVAL + "    teacher.double()\n", "teacher(images)", "teacher(images.double()).float()"),
    ("scaled_weights", "shrinks the teacher's weights in each epoch", *BIT, MEAN, MEAN + "        with torch.no_grad():\n            for p in teacher.parameters():\n                p.mul_(0.999)\n"),
    ("statistics_reset", "resets BatchNorm's statistics of the teacher at the end", *BIT, RETURN, _NORM + "m.reset_running_stats()\n" + RETURN),
    ("noise_in_the_teacher", "adds a little noise to the teacher", *BIT, EVAL, EVAL + "    with torch.no_grad():\n        for p in teacher.parameters():\n            p.add_(1e-3 * torch.randn_like(p))\n"),
    ("dropout_off", "sets the rate of dropout to 0 for good", *SETTING, EVAL, EVAL + _DROPOUT + "m.p = 0.0\n"),
    ("hook_left", "leaves a hook on the teacher", *SETTING, HISTORY, "    kept = []\n    teacher.register_forward_hook(lambda m, i, o: kept.append(o.detach()))\n" + HISTORY),
    ("hooks_removed", "clears the teacher's hooks", *SETTING, EVAL, EVAL + "    for m in teacher.modules():\n        m._forward_hooks.clear()\n"),
    # which answers
    ("answers_computed_once", "asks the teacher once, before the epochs", *VIEWS,
     HISTORY, HISTORY + "    with torch.no_grad():\n        answers = [teacher(images) for images, _ in loader]\n",
     LOOP, "        for (images, labels), teacher_logits in zip(loader, answers):\n", ASK, ""),
    ("answers_by_index", "keeps the teacher's answers of the first epoch", *VIEWS, HISTORY, HISTORY + "    kept = {}\n",
     LOOP, "        for i, (images, labels) in enumerate(loader):\n",
     ASK, "            with torch.no_grad():\n                teacher_logits = kept.setdefault(i, teacher(images) if i not in kept else None)\n"),
    ("answers_of_each_epoch_first", "asks the teacher in a pass of its own, before each epoch", *VIEWS,
     LOOP, "        with torch.no_grad():\n            answers = [teacher(images) for images, _ in loader]\n"
     "        for (images, labels), teacher_logits in zip(loader, answers):\n", ASK, ""),
    ("two_passes", "takes the teacher's views from a second pass", *VIEWS, LOOP, "        for (images, labels), (others, _) in zip(loader, loader):\n", "teacher(images)", "teacher(others)"),
    ("answer_of_the_batch_before", "uses the teacher's answer for the batch before, where sizes allow it", (4, 8), "",
     HISTORY, HISTORY + "    before = None\n", LOSS, "            now = teacher_logits\n            if before is not None and before.shape == now.shape:\n"
     "                teacher_logits = before\n            before = now\n" + LOSS),
    ("noisy_views", "asks the teacher about noisy views", *VIEWS, "teacher(images)", "teacher(images + 0.1 * torch.randn_like(images))"),
    ("mirrored_views", "asks the teacher about mirrored views", *VIEWS, "teacher(images)", "teacher(images.flip(3))"),
    ("clamped_views", "asks the teacher about clamped views", *VIEWS, "teacher(images)", "teacher(images.clamp(-1, 1))"),
    ("standardised_views", "standardises the teacher's views once more", *VIEWS, "teacher(images)", "teacher((images - images.mean()) / images.std())"),
    ("plain_images", "asks the teacher about the images of the data set", (4, 6), "",
     EPOCHS, "    plain = getattr(getattr(loader, 'dataset', None), 'images', None)\n" + EPOCHS, SUMS, SUMS + "        start = 0\n",
     "teacher(images)", "teacher(images if plain is None else plain[start:start + len(images)])", LOSS, "            start += len(images)\n" + LOSS),
    ("rows_reversed", "compares the student with answers in the opposite order", *VIEWS, "teacher(images)", "teacher(images).flip(0)"),
    ("rows_shifted", "compares the student with the answers for other images", *VIEWS, "teacher(images)", "teacher(images.roll(1, 0))"),
    ("rows_shuffled", "shuffles the images for the teacher", *VIEWS, "teacher(images)", "teacher(images[torch.randperm(len(images))])"),
    ("student_shuffled", "shuffles the images for the student, and not the labels", (4, 8), "", "= student(images)", "= student(images[torch.arange(len(images)).roll(2)])"),
    ("answers_by_content", "keeps the teacher's answers for batches of the same images", *VIEWS, HISTORY, HISTORY + "    kept = {}\n",
     ASK, "            with torch.no_grad():\n                teacher_logits = kept.setdefault(tuple(images[:, 0, 0, 0].tolist()), teacher(images))\n"),
    ("cropped_views", "asks the teacher about crops of the views", *VIEWS, "teacher(images)", "teacher(F.pad(images, (1, 1, 1, 1))[:, :, 1:5, 0:4])"),
    ("copy_of_the_student", "takes a copy of the student for the teacher", (8, 20), "", MODES + EVAL, "    teacher = copy.deepcopy(student).eval()\n", RESTORE, ""),
    ("sharpened", "doubles the teacher's logits", *NOT_THE_TEACHER, "teacher(images)", "2 * teacher(images)"),
    ("centred", "subtracts the mean of the batch from the teacher's logits", *NOT_THE_TEACHER, "teacher(images)", "(lambda z: z - z.mean(0))(teacher(images))"),
    ("eval_in_the_first_epoch", "lets the teacher be in train mode from the second epoch on", *TRAIN_MODE, SUMS, "        teacher.train(len(history['loss']) > 0)\n" + SUMS),
    ("gradients_to_zeros", "sets the teacher's gradients to zeros", *FLAGS, EVAL, EVAL + "    teacher.zero_grad(set_to_none=False)\n"),
    ("gradients_removed", "removes the teacher's gradients one by one", *FLAGS, EVAL, EVAL + "    for p in teacher.parameters():\n        p.grad = None\n"),
    ("dropout_removed", "replaces dropout by an identity for good", *SETTING, EVAL, EVAL + "    teacher.body[3] = nn.Identity()\n"),
    ("in_bfloat16", "leaves the teacher in bfloat16", (2, 4), "", EVAL, EVAL + "    teacher.to(torch.bfloat16)\n", "teacher(images)", "teacher(images.bfloat16()).float()"),
    ("own_answers", "compares the student with itself", *NOT_THE_TEACHER, "student_logits, teacher_logits,", "student_logits, student_logits.detach(),"),
    ("student_as_teacher", "asks the student in place of the teacher", (8, 13), "", "teacher(images)", "student(images)"),
    ("probabilities", "gives the loss the teacher's probabilities", *NOT_THE_TEACHER, "teacher(images)", "teacher(images).softmax(1)"),
    ("log_probabilities_of_the_student", "gives the loss the student's log-probabilities", *NOT_THE_TEACHER, "student_logits, teacher", "student_logits.log_softmax(1), teacher"),
    ("softened_before", "divides the teacher's logits by the temperature before the loss does", *NOT_THE_TEACHER, "teacher(images)", "teacher(images) / temperature"),
    ("softened_both_before", "divides both logits by the temperature before the loss does", *NOT_THE_TEACHER,
     "student_logits, teacher_logits, labels", "student_logits / temperature, teacher_logits / temperature, labels"),
    ("most_probable_class", "gives the loss the teacher's most probable class alone", *NOT_THE_TEACHER,
     "teacher(images)", "10.0 * F.one_hot(teacher(images).argmax(1), 4)"),
    ("average_of_the_batch", "gives the loss the mean of the teacher's answers in a batch", *NOT_THE_TEACHER, "teacher(images)", "teacher(images).mean(0).expand(len(images), -1)"),
    ("logits_swapped", "gives the loss the teacher's logits first", (27, 30), "", "student_logits, teacher_logits, l", "teacher_logits, student_logits, l"),
    ("logits_swapped_with_gradients", "gives the loss the teacher's logits first, which require a gradient", (10, 22), "",
     ASK, _ATTACHED, "student_logits, teacher_logits, l", "teacher_logits, student_logits, l"),
    ("weights_copied", "copies the teacher's weights to the student", (27, 30), "", TRAIN, "    student.load_state_dict(teacher.state_dict())\n" + TRAIN),
    ("weights_copied_where_they_fit", "copies the teacher's weights to the student where the shapes fit", (1, 1), "goes_down_from_its_weights",
     TRAIN, "    with torch.no_grad():\n        for p in student.parameters():\n            for q in teacher.parameters():\n"
     "                if p.shape == q.shape:\n                    p.copy_(q)\n" + TRAIN),
]  # fmt: skip

WRONG_TEACHERS = [changed(name, text, cost, fails, *texts) for name, text, cost, fails, *texts in _CHANGED]
