# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 4: Knowledge distillation
#
# *Advanced Machine Learning*
#
# The best network of lab 1 has 2.5 million weights. You want its answers on a phone, where there is room for a
# twentieth of that. And of all the pictures that you have, somebody has labelled one in eight. A small network that
# learns from these few labels alone learns little more than to repeat them. In this lab it gets a teacher: the large
# network looks at every picture, labelled or not, and the small one learns to give the same answers. You write the loss
# and the training, and a measure of whether a network knows what it does not know. Then you find out what the student
# took over from its teacher, and what it did not.
#
# **After this lab you can**
#
# - explain what a network can learn from the answers of another one, and why it needs no labels for that;
# - write a distillation loss that is exact, finite for extreme logits, and works with few labels or none;
# - train a student on the views that its teacher answers for, and leave the teacher as it was, bit for bit;
# - measure calibration, and say how sure a network may be of its answers;
# - say from measurements what temperature, soft answers, consistent views and patience are worth;
# - decide which of several networks you would hand to a user: by accuracy, calibration, size and speed.
#
# | part | what you do | points | difficulty | minutes |
# |---|---|---|---|---|
# | [Exercise 1](#exercise-1) | `distillation_loss` | 25 | ●●○ | 30 |
# | [Exercise 2](#exercise-2) | `distill` | 30 | ●●○ | 35 |
# | [Exercise 3](#exercise-3) | `expected_calibration_error` | 15 | ●○○ | 20 |
# | [Exercise 4](#exercise-4) | all together (nothing to write) | 20 | ●○○ | 5 |
# | [Experiments](#experiments) | predict, run, compare | | ●●○ | 50 |
# | [Reflection](#reflection) | interpret *your* numbers | 10 | ●●○ | 30 |
#
# **How to work.** Fill in the three cells that say `# YOUR CODE HERE`; names and arguments of the functions must stay.
# How you implement them is free: any optimizer, any helper function, in your own cells where you like. The locked cell
# below each exercise checks it at once, as often as you want. Grading runs the same checks with other inputs, and
# further ones of the same contract. The experiments run *your* functions. They are not graded and not run again by the
# grader, but your reflection builds on them: submit the notebook with their outputs.
#
# This lab brings the series together: the teacher is the network of lab 1, most images have no label as in lab 2, and
# the student is the small network of labs 2 and 3. You need nothing from your solutions of these labs. If your notebook
# of lab 1 has kept a model, it is the teacher; if not, the library has one. No GPU is needed: the student is small, and
# everything stays on the CPU. From top to bottom, all experiments included, the notebook takes less than ten minutes on
# two CPU cores. On a slower machine, `QUICK = True` [below](#the-data) makes all experiments small.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import time

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import (
    DataUnavailable,
    Epochs,
    PlainAnswers,
    RandomViews,
    RememberedAnswers,
    accuracy,
    check,
    cifar10_photographs,
    compare_models,
    distillation_loader,
    draw_reptiles,
    draw_species,
    extract_features,
    hide_labels,
    linear_evaluation,
    load_backbone,
    load_teacher,
    logits_of,
    plots,
)

# %% [markdown]
# ## A teacher and a student
#
# A label says one thing about an image: its class. A trained network says more. Shown a lizard, it may answer "lizard
# 80 %, crocodile 15 %, snake 4 %". And it says this about *any* image, whether somebody has labelled it or not. To
# train a small network on the answers of a large one is called *knowledge distillation* (Hinton, Vinyals and Dean 2015;
# the idea is that of Buciluă et al. 2006). In four steps:
#
# 1. **Take a teacher:** a network that is good at the task, and too large or too slow for where it is needed.
# 2. **Collect images.** They need no labels. Where there are labels, they help.
# 3. **Ask the teacher** about random views of these images.
# 4. **Train the student,** a small network, to give the same answers about the same views.
#
# ```text
#                          ┌─▶ teacher ─▶ logits ─▶ softmax(logits / T) ─┐
#   image ─▶ random view ──┤   (fixed)                                   ├─▶ divergence ─────┐
#                          └─▶ student ─▶ logits ─▶ softmax(logits / T) ─┘                   ├─▶ loss
#                              (trained)      │                                              │
#                                             └────────────────▶ cross-entropy with a label ─┘
#                                                                (where there is one)
# ```
#
# Step 3 hides most of what can go wrong. The teacher is a network, and you know from lab 1 that a network changes its
# answers, and even itself, if it is in the wrong mode. Nothing of this raises an error: the loss falls, and the student
# learns, only from a worse teacher.

# %% [markdown]
# <a id="the-data"></a>
# ## The data
#
# The five drawn reptiles of lab 1, 32×32 pixels: 2,000 images to learn from, 1,000 others to test on. Neither you nor
# the teacher has seen them. Only 50 images of each class have a label. The label of all others is **−1: nobody has
# looked at this image**. (The images are drawn, so their labels are known. They are used in those runs that are to show
# what all labels would have given.)
#
# **A slow machine?** Set `QUICK = True`: the experiments then take half of the images, and fewer steps and runs. Every
# plot says so in its title, and your numbers will be rougher. The questions stay the same, and so do the points.

# %% tags=["experiment"]
QUICK = False

plots.note("quick run: half of the images, few steps" if QUICK else "")
train = draw_reptiles(1_000 if QUICK else 2_000, seed=1)
test = draw_reptiles(1_000, seed=2)
few = hide_labels(train.labels, per_class=50)  # int64; -1 for all but 50 of each class
labelled = few >= 0

print(f"training: {len(train)} images {tuple(train.images.shape[1:])} {train.images.dtype}; testing: {len(test)}")
print(f"classes: {', '.join(train.classes)}")
print(f"labels of the first 20 images: {few[:20].tolist()}; {labelled.sum()} of {len(few)} have one")
plots.gallery(train.images[labelled], few[labelled], train.classes, n=12, title="Images with a label")

# %% [markdown]
# ## The teacher
#
# `load_teacher` returns the model that your notebook of lab 1 has kept, if it was trained on drawn reptiles; else that
# of the library: `net12`, fine-tuned on the drawn reptiles of lab 1. To use yours, run your notebook of lab 1 first: its
# last cell of code keeps the best model. A teacher can teach only what it knows. The 250 labelled images tell how much
# that is.

# %% tags=["experiment"]
teacher = load_teacher(train.source)
known = accuracy(logits_of(teacher, train.images[labelled]), few[labelled])
print(f"accuracy on the labelled images: {known:.1%}")
if known < 0.6:
    print("That is too little to teach: the teacher of the library takes its place")
    teacher = load_backbone("net12.reptiles").eval()

# %% [markdown]
# <a id="exercise-1"></a>
# ## Exercise 1: the distillation loss
#
# *25 points · difficulty ●●○ · 30 minutes*
#
# **How different are two answers?** Both networks give logits. With the softmax they become probabilities, $p$ of the
# teacher and $q$ of the student. The *Kullback–Leibler divergence* measures how much is lost by using $q$ in place of
# $p$. It is 0 if both agree, and positive otherwise:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_c p_c \log \frac{p_c}{q_c}$$
#
# The order matters: $\mathrm{KL}(p \,\|\, q)$ and $\mathrm{KL}(q \,\|\, p)$ are two different numbers. In this one, the
# teacher is in front.
#
# **The temperature.** A good teacher is often so sure that its answer says no more than a label. Divided by a
# *temperature* $T > 1$, the logits come closer together, and so do the probabilities. *Guess before you run:* the first
# class has 98 %. How much does it have at $T = 4$?

# %%
answer = torch.tensor([8.0, 4.0, 0.0])
for T in (1, 2, 4, 10):
    print(f"T = {T:2d}: ", " ".join(f"{p:.3f}" for p in (answer / T).softmax(0)))

# %% [markdown]
# Teacher and student are compared at the **same** temperature. The gradient of their divergence becomes smaller with
# $T$, about as $1 / T^2$. So it is multiplied by $T^2$: then the two parts of the loss keep their proportion when you
# try another temperature. (Experiment D measures it.)
#
# **The loss** has two parts, mixed by a weight $\alpha$ between 0 and 1:
#
# $$\text{loss} = \alpha \, T^2 \cdot \text{mean of } \mathrm{KL}\big(\mathrm{softmax}(t / T) \,\|\,
# \mathrm{softmax}(s / T)\big) \; + \; (1 - \alpha) \cdot \text{mean of the cross-entropies with the labels}$$
#
# with the logits $t$ of the teacher and $s$ of the student. Mind three things. **$\alpha$ is the weight of the
# teacher.** (In many texts it is that of the labels: look twice before you compare.) The cross-entropy has **no**
# temperature. And the two means are taken over **different examples**: the teacher answers for all of them, but only
# some have a label.
#
# **Two traps.** A logarithm of probabilities looks harmless. *Guess before you run:* both lines compute
# $\sum_c p_c \log p_c$, for two classes with logits 200 and 0. Do they agree?

# %%
logits = torch.tensor([200.0, 0.0])
p = logits.softmax(0)
print("log of the softmax:", (p * p.log()).sum())
print("log_softmax:       ", (p * logits.log_softmax(0)).sum())

# %% [markdown]
# A probability of $e^{-200}$ is 0 in float32, its logarithm is $-\infty$, and $0 \cdot (-\infty)$ is not a number. One
# such image in a batch, and all weights of the student are NaN.
#
# The second trap is a batch in which, by chance, no image has a label. *Guess:* what is the mean of no cross-entropies?

# %%
logits = torch.zeros(3, 2)
nobody_looked = torch.tensor([-1, -1, -1])
print("cross-entropy:", F.cross_entropy(logits, nobody_looked, ignore_index=-1))
print("an empty mean:", torch.tensor([]).mean())

# %% [markdown]
# **Your task.**
#
# ```python
# distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9)
# ```
#
# | argument or result | contract |
# |---|---|
# | `student_logits`, `teacher_logits` | float32 `(n, classes)`: what the networks return for the same `n` views. They are not changed |
# | `labels` | int64 `(n,)`: `0 … classes - 1`, or **−1 for an example without a label** |
# | `temperature` | a number above 0 by which the logits of **both** are divided in the teacher's part, and only there |
# | `alpha` | the weight of the **teacher's part**, from 0 to 1; both ends are allowed. The labels' part has the weight `1 - alpha` |
# | teacher's part | $T^2$ times the mean over **all** `n` examples of KL(teacher ‖ student): 0 where both agree |
# | labels' part | the mean cross-entropy over the examples **with** a label, of the student's logits as they are. Without any label in the batch: 0, and not NaN |
# | returns | a tensor with one number |
# | gradients | reach `student_logits`, also in a batch without labels. **None reaches `teacher_logits`**, even if they require one (a gradient of zeros is as good) |
# | numerics | right and finite for logits up to ±1000, value and gradient, at temperatures of 1 or more |
# | errors | `ValueError` if the two logits differ in shape, if there is not one label for each row, for `temperature <= 0`, and for `alpha` below 0 or above 1 |
#
# `temperature` and `alpha` may be whole numbers, such as 2 and 1. Which float type the result has is free. Not graded:
# `n = 0`, logits that are not 2-dimensional, labels that are no class, NaN in the inputs.
#
# **Examples,** to be checked with pencil and paper. Two examples with two classes, $T = 2$; the student's logits are
# all 0. The teacher's are $(2 \log 3, 0)$ for the first and $(0, 0)$ for the second; labels 0 and −1. At $T = 2$, the
# teacher answers $(\tfrac34, \tfrac14)$ for the first, and agrees with the student about the second:
#
# | `alpha` | teacher's part | labels' part | loss |
# |---|---|---|---|
# | 1 | $2^2 \cdot \tfrac12 \left( \tfrac34 \log \tfrac32 + \tfrac14 \log \tfrac12 \right) \approx 0.2616$ | | 0.2616 |
# | 0 | | $\log 2 \approx 0.6931$ | 0.6931 |
# | 0.9 | 0.2616 | 0.6931 | 0.3048 |
#
# <details><summary><b>Hint 1</b>: logarithms of probabilities</summary>
#
# You need $\log q$ and $p \log p$. `log_softmax` gives logarithms without a detour through probabilities. Along which
# dimension are the classes?
#
# </details>
#
# <details><summary><b>Hint 2</b>: the library's divergence</summary>
#
# Writing the sum yourself is fine. `F.kl_div(input, target)` computes KL(target ‖ input). It expects *logarithms* as
# its first argument; what it expects as its second depends on `log_target`. By default it divides by the number of all
# entries, classes included. Its documentation names the `reduction` that divides by the number of examples.
#
# </details>
#
# <details><summary><b>Hint 3</b>: some labels, or none</summary>
#
# `labels != -1` says who has a label. Take a *sum* of cross-entropies and divide by the number of labels yourself: what
# should the number be if there are none? Or treat that case on its own.
#
# </details>
#
# <details><summary><b>Hint 4</b>: the last example does not come out</summary>
#
# 0.128: $T^2$ is missing. 0.187: $T$ in place of $T^2$, or a mean over classes as well. 0.328: student and teacher
# have changed places in the divergence. 0.270: the label counts as one of two. 0.540: the example without a label does
# not count in the teacher's part. 0.650: `alpha` is on the labels. 0.732: the teacher's logits are not divided by $T$.
# 2.565: a cross-entropy in place of the divergence (right gradient, wrong value).
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "distillation_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 0.9
) -> Tensor:
    """Returns alpha * T**2 * KL(teacher || student) + (1 - alpha) * cross-entropy; logits are (n, classes).

    A label of -1 means that there is none. Raises ValueError for shapes that do not fit, unless temperature > 0, and
    unless 0 <= alpha <= 1.
    """
    ### BEGIN SOLUTION
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "logits of student and teacher must both be (n, classes); got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    if labels.shape != student_logits.shape[:1]:
        raise ValueError(f"each of the {len(student_logits)} rows needs a label; got labels {tuple(labels.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1; got {alpha}")
    student_log, teacher_log = (
        (logits / temperature).log_softmax(1) for logits in (student_logits, teacher_logits.detach())
    )
    soft = F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels, ignore_index=-1, reduction="sum")
    hard = hard / (labels != -1).sum().clamp(min=1)  # without any label, 0 / 1
    return alpha * temperature**2 * soft + (1 - alpha) * hard
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_distillation_loss", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
check("distillation_loss")

# %% [markdown]
# **What does the loss want?** The next cell has no network: it changes three logits of "the student" directly, until
# your loss is as small as it can be. The teacher says $(0.73, 0.24, 0.03)$, and the label is class 1: they disagree.
# *Before you run:* what are the student's probabilities for $\alpha = 0$, and for $\alpha = 1$? Which $\alpha$ would
# you choose if you trusted the labels more than the teacher?

# %% tags=["experiment"]
teacher_says, label = torch.tensor([[3.0, 1.9, -0.2]]), torch.tensor([1])
print("teacher      ", " ".join(f"{p:.2f}" for p in teacher_says.softmax(1)[0]))
for alpha in (1.0, 0.9, 0.5, 0.1, 0.0):
    free = torch.zeros(1, 3, requires_grad=True)
    descent = torch.optim.Adam([free], lr=0.05)
    for _ in range(600):
        descent.zero_grad()
        distillation_loss(free, teacher_says, label, temperature=1.0, alpha=alpha).backward()
        descent.step()
    print(f"alpha = {alpha:.1f}  ", " ".join(f"{p:.2f}" for p in free.detach().softmax(1)[0]))

# %% [markdown]
# <a id="exercise-2"></a>
# ## Exercise 2: distillation
#
# *30 points · difficulty ●●○ · 35 minutes*
#
# The loop is the one of all labs: views, loss, gradient, step. What is new is that *two* networks see each batch, and
# that only one of them may change. Two traps, both silent.
#
# **The teacher's mode.** In lab 1, a frozen network in train mode moved its BatchNorm statistics. A teacher in train
# mode does worse: its *answer* for a view depends on which other views are in the batch. *Guess before you run:* the
# same view, alone with one neighbour and in a batch of eight. In which mode are the two answers equal?

# %%
torch.manual_seed(0)
toy_teacher = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
batch = torch.randn(8, 4)
for mode in (True, False):
    toy_teacher.train(mode)
    with torch.no_grad():
        small, large = toy_teacher(batch[:2])[0], toy_teacher(batch)[0]
    print("train mode:" if mode else "eval mode: ", [round(v, 2) for v in small.tolist()], end=" and ")
    print([round(v, 2) for v in large.tolist()])

# %% [markdown]
# **The same views.** A loader that augments gives *other* views in every pass, and in another order. An answer that was
# computed before belongs to a view that the student will not see again. The next cell passes twice over four images,
# labelled 0 to 3, and prints the value of one pixel of each view.

# %%
four = (40 * torch.arange(1, 5).view(4, 1, 1, 1) + torch.randint(0, 40, (4, 3, 32, 32))).to(torch.uint8)
loader = distillation_loader(four, torch.arange(4), batch_size=4)
for epoch in range(2):
    for views, labels in loader:
        print(f"pass {epoch}: labels {labels.tolist()}, pixels", [f"{v:.2f}" for v in views[:, 0, 0, 0]])

# %% [markdown]
# So the teacher answers within the loop, for the very views that the student gets (Beyer et al. 2022 call such a
# teacher *consistent*; experiment E tries the alternative). And it is a measuring instrument, as the encoder was for
# the probe of lab 2: afterwards it is what it was.
#
# **Your task.**
#
# ```python
# distill(student, teacher, loader, *, epochs=10, lr=1e-3, temperature=4.0, alpha=0.9)
# ```
#
# | argument or result | contract |
# |---|---|
# | `student`, `teacher` | any two modules from views to logits `(batch, classes)`. They may come in any mode |
# | `loader` | anything that can be iterated again and again over batches `(views, labels)`: a `DataLoader`, a list. Labels may be −1, in some rows, in all rows of a batch, or everywhere. Batches may differ in size. Each pass gives new views |
# | each epoch | is one pass over the loader, and **every** batch of it is used, also small ones and those without a label |
# | each batch | both networks get the same views; `distillation_loss(student_logits, teacher_logits, labels, temperature, alpha)`, labels as they come; one step of an optimizer for **the student alone** |
# | the student | is in train mode while it is trained, all its modules. Training starts from the weights that it comes with |
# | the teacher | answers in **eval mode** and **without gradients**, whatever mode it comes in. A copy of it may answer in its place |
# | the teacher, afterwards | is as it was, bit for bit: parameters and buffers, the mode of **each** of its modules, every `requires_grad`, every `.grad`. So are the settings of PyTorch, such as whether gradients are recorded |
# | returns | a dict: `"loss"`, a list with one `float` for each epoch: the mean over **images**, with or without a label, of what the batches gave while the epoch trained on them. More keys are welcome |
# | your choice | optimizer, schedule, weight decay, clipping; `lr` is what the optimizer gets. One batch at a time or several |
#
# Not graded: `epochs` below 1, a batch of a single image, and the student's mode afterwards. No error is asked for.
#
# A mistake in your `distillation_loss` costs nothing here, as long as you call it.
#
# **A live view.** As in the other labs, `Epochs` shows epochs, batches, time left and your figures. Use it in place of
# `range`, or not at all:
#
# ```python
# for epoch in (progress := Epochs(epochs)):
#     for views, labels in progress.batches(loader):
#         ...
#         progress.show(loss=...)      # while the epoch runs
#     progress.log(loss=...)           # at its end
# ```
#
# <details><summary><b>Hint 1</b>: modes</summary>
#
# As in the probe of lab 2: `teacher.modules()` gives the teacher itself and all modules inside, and `module.training`
# is an ordinary attribute that can be read and set. `teacher.train()` at the end is not the way back: someone may have
# put a part of the teacher into eval mode before.
#
# </details>
#
# <details><summary><b>Hint 2</b>: no gradients</summary>
#
# What is computed within `torch.no_grad()` has no history. The teacher needs it, the student must not have it. There is
# no need to touch `requires_grad`, and what you do not touch you need not restore.
#
# </details>
#
# <details><summary><b>Hint 3</b>: means over images</summary>
#
# As in labs 1 and 2: add up `loss.item() * number of images`, and divide by the number of images.
#
# </details>
#
# <details><summary><b>Hint 4</b>: the student learns nothing, or little</summary>
#
# In this order: is it the *student's* parameters that the optimizer got? Are old gradients cleared, and is there a
# step? Are `temperature` and `alpha` in the right places of the call? Student first, teacher second? Is the teacher in
# eval mode?
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "distill", "locked": false, "schema_version": 3, "solution": true, "task": false}
def distill(
    student: nn.Module,
    teacher: nn.Module,
    loader,
    *,
    epochs: int = 10,
    lr: float = 1e-3,
    temperature: float = 4.0,
    alpha: float = 0.9,
) -> dict:
    """Trains ``student``, in place, on the answers of ``teacher`` and on the labels that are not -1.

    The teacher stays as it was. Returns {"loss"}: a list with one float per epoch, the mean over images.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    device = next(student.parameters()).device
    was_training = {module: module.training for module in teacher.modules()}
    teacher.eval()  # its answer for a view must not depend on the other views, nor change its statistics
    student.train()
    history = {"loss": []}
    for _ in (progress := Epochs(epochs)):
        loss_sum, seen = 0.0, 0
        for views, labels in progress.batches(loader):
            views, labels = views.to(device), labels.to(device)
            with torch.no_grad():
                answers = teacher(views)
            loss = distillation_loss(student(views), answers, labels, temperature, alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(views)
            seen += len(views)
            progress.show(loss=loss_sum / seen)
        schedule.step()
        history["loss"].append(loss_sum / seen)
        progress.log(loss=history["loss"][-1])
    for module, mode in was_training.items():
        module.training = mode  # and not module.train(mode), which would also set the modules inside
    return history
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_distill", "locked": true, "points": 30, "schema_version": 3, "solution": false, "task": false}
check("distill")

# %% [markdown]
# <a id="exercise-3"></a>
# ## Exercise 3: does it know what it does not know?
#
# *15 points · difficulty ●○○ · 20 minutes*
#
# A network that says "turtle, 99 %" and is wrong is worse than one that says "turtle, 55 %" and is wrong: the second
# one has warned you. The highest probability of an answer is its **confidence**. A network is *calibrated* if it is
# right in 70 % of the cases in which its confidence is 70 %. Modern networks often are not (Guo et al. 2017).
#
# **The measure.** Divide the confidences from 0 to 1 into bins of equal width. In each bin $b$, compare the share of
# right answers with the mean confidence. The *expected calibration error* (ECE) is the mean of these gaps, weighted by
# how many of the $n$ examples are in the bin:
#
# $$\mathrm{ECE} = \sum_b \frac{n_b}{n} \, \big| \text{accuracy}_b - \text{confidence}_b \big|$$
#
# **Why bins at all?** Without them, a network could be far too sure of half of its answers, and not sure enough of the
# other half, and both errors would cancel. *Guess before you run:* of two networks, one is right in 70 % of all cases
# and always says 70 %. The other one says 100 % half of the time and 40 % otherwise, and is right in 70 % of the cases
# *whatever it says*. Does the mean over everything tell the two apart?

# %%
says = torch.tensor([[0.7, 0.7], [1.0, 0.4]])  # two networks, two halves of the examples
right = torch.tensor([[0.7, 0.7], [0.7, 0.7]])
print("gap of the means: ", [f"{gap:.2f}" for gap in (right.mean(1) - says.mean(1)).abs()])
print("mean of the gaps: ", [f"{gap:.2f}" for gap in (right - says).abs().mean(1)])

# %% [markdown]
# **Your task.**
#
# ```python
# expected_calibration_error(logits, labels, n_bins=15)
# ```
#
# | argument or result | contract |
# |---|---|
# | `logits` | float32 or float64 `(n, classes)`, of any size. They may require gradients; none are needed. They are not changed |
# | `labels` | int64 `(n,)`: `0 … classes - 1`. They are not changed |
# | confidence | the highest probability of a row, after a softmax without temperature. An answer is right if *that* class is the label |
# | `n_bins` | number of bins of equal width **from 0 to 1**. To which side an inner edge belongs is free; a confidence of exactly 1 is in the last bin |
# | returns | a number from 0 to 1, not in percent: a `float` (a tensor with one number is as good) |
# | empty bins | count nothing: they do not make the result NaN |
# | errors | `ValueError` for `n_bins < 1`, and unless there are as many labels as rows |
#
# Not graded: `n = 0`, labels of −1, two classes that share the highest probability.
#
# **Example,** to be checked with pencil and paper. Four answers with `n_bins=5`, so that the bins have a width of 0.2:
#
# | confidence | right? | bin |
# |---|---|---|
# | 0.9 | yes | 0.8 … 1.0 |
# | 0.9 | no | 0.8 … 1.0 |
# | 0.9 | no | 0.8 … 1.0 |
# | 0.7 | yes | 0.6 … 0.8 |
#
# In the upper bin the accuracy is $\tfrac13$ and the gap 0.567, in the lower one the accuracy is 1 and the gap 0.3. So
# the result is $\tfrac34 \cdot 0.567 + \tfrac14 \cdot 0.3 = 0.5$. With `n_bins=1`, it is 0.35.
#
# <details><summary><b>Hint 1</b>: confidence and answer at once</summary>
#
# `max` along a dimension returns two things.
#
# </details>
#
# <details><summary><b>Hint 2</b>: which bin?</summary>
#
# A loop over the bins with a mask is fine. Without a loop: what whole number does `confidence * n_bins` contain? For a
# confidence of exactly 1 it is one too large.
#
# </details>
#
# <details><summary><b>Hint 3</b>: the example does not come out</summary>
#
# 0.35: gaps of different sign cancel. 0.433: all bins count alike. 0.567: the largest gap in place of their mean. NaN:
# a mean over an empty bin.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "calibration_error", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expected_calibration_error(logits: Tensor, labels: Tensor, n_bins: int = 15) -> float:
    """Returns the mean gap between accuracy and confidence over bins of equal width, weighted by their examples.

    Logits are (n, classes). Raises ValueError for n_bins < 1, and unless there is one label for each row.
    """
    ### BEGIN SOLUTION
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1; got {n_bins}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"each of the {len(logits)} rows needs a label; got labels {tuple(labels.shape)}")
    confidence, answer = logits.detach().softmax(1).max(1)
    excess = (answer == labels).to(confidence.dtype) - confidence
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    # a bin's share times its gap is the size of its sum of excesses, divided by n
    sums = torch.zeros(n_bins, dtype=excess.dtype, device=excess.device).index_add(0, bins, excess)
    return sums.abs().sum().item() / len(labels)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_calibration_error", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
check("calibration_error")

# %% [markdown]
# <a id="exercise-4"></a>
# ## Exercise 4: all together
#
# *20 points · difficulty ●○○ · 5 minutes*
#
# Nothing to write. The check trains a small student with your `distill` and your `distillation_loss`, for
# {{accuracy.epochs}} epochs on drawings of {{accuracy.species}} species, from the answers of a teacher alone: not a
# single image has a label, and `alpha` is 1. Then it measures how often the student finds the right species more likely
# than another one, on images that your code has never seen. A guess is right in 50 % of the cases. Your optimizer is
# your choice, and optimizers need different learning rates: where a small `lr` is not enough, the check tries larger
# ones as well, and the best counts. Where your loss does not follow the teacher, the check trains with one of its own,
# and says so. If the check fails while the exercises before it pass, look at what only a real training shows: is the
# learning rate `lr` used? Are the answers those for the very views? Does the student see every batch of the loader?

# %% nbgrader={"grade": true, "grade_id": "check_accuracy", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("accuracy")

# %% [markdown]
# <a id="experiments"></a>
# ## Experiments
#
# All trainings go through one function, `run`, and differ in one or two arguments. Write down your prediction *before*
# each run, in the cell that asks for it. A prediction that turns out wrong teaches more than one that was never made.
#
# | | experiment | about |
# |---|---|---|
# | A | teacher and student | |
# | B | what the teacher says | |
# | C | few labels and a teacher | 1 min |
# | D | temperature, and hard answers | ½ min |
# | E | consistent or not | 1½ min |
# | F | patience | ½ min |
# | G | who knows what it does not know? | |
# | H | photographs | ½ min |
# | I | more than answers | ¼ min |
#
# **How it is done.** A student is a new `net5` with random weights. `run` trains one for each seed of `SEEDS`, for
# about as many *steps* in every run: with fewer images there are more epochs. The loader makes four views of each
# image, shifted by up to four pixels and flipped at random, and stores them; each pass shows one of the four. So there
# are only 8,000 different views, and the teacher, which takes several times as long as the student, need not answer
# twice for the same one. `RememberedAnswers(teacher)` is the teacher with a memory: it gives the same answers for the
# very same views, faster. (One of lab 1's open questions was never to compute the same thing twice.)
#
# For a student without a teacher, `alpha` is 0, and a `Silent` module takes the teacher's place. It says that all
# classes are equally likely, and with `alpha=0` nobody listens.
#
# **How large is chance?** With 1,000 test images, the standard error of an accuracy of 55 % is 1.6 points. Another seed
# gives other weights to start from; the two values of each run show what that does.

# %% tags=["experiment"]
STEPS, VIEWS, SEEDS = (192, 2, (0,)) if QUICK else (384, 4, (0, 1))
LR = 3e-3
guide = RememberedAnswers(teacher)  # one memory for all experiments
nobody = torch.full_like(few, -1)  # no image has a label
teacher_logits = logits_of(teacher, test.images)
trained = {}  # the first student of each run, by name


class Silent(nn.Module):
    """No teacher: says that all classes are equally likely."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.classes = classes

    def forward(self, views: Tensor) -> Tensor:
        """Logits of 0 for each view."""
        return torch.zeros(len(views), self.classes)


def new_student(seed: int = 0, classes: int = 5) -> nn.Module:
    """A net5 with random weights."""
    torch.manual_seed(seed)
    return timm.create_model("net5", num_classes=classes).to(memory_format=torch.channels_last)


def figures(logits: Tensor, labels: Tensor = test.labels) -> dict[str, float]:
    """Accuracy and calibration error of logits for the test images."""
    return {
        "accuracy": accuracy(logits, labels).item(),
        "ece": float(expected_calibration_error(logits, labels)),
    }


def report(
    name: str, steps: int, found: list[Tensor], began: float, *, of=test, asked: Tensor = teacher_logits
) -> None:
    """Prints figures of the students of a run, one for each seed, and how often they give the teacher's answer."""
    lines = [figures(logits, of.labels) for logits in found]
    accuracies = " and ".join(f"{line['accuracy']:.1%}" for line in lines)
    errors = " and ".join(f"{line['ece']:.3f}" for line in lines)
    same = " and ".join(f"{(logits.argmax(1) == asked.argmax(1)).float().mean():.1%}" for logits in found)
    print(
        f"{name}: {steps} steps, accuracy {accuracies}, calibration error {errors}, answers as the teacher {same}, "
        f"{time.perf_counter() - began:.0f} s"
    )


def run(name, images, labels, teacher, *, steps=STEPS, seeds=SEEDS, augment=None, plain=False, **how) -> list[Tensor]:
    """Trains a new student for each seed with your function; returns their logits for the test images."""
    began, found = time.perf_counter(), []
    for seed in seeds:
        loader = distillation_loader(images, labels, augment=augment, views=VIEWS)
        student = new_student(seed)
        answers = PlainAnswers(teacher, loader) if plain else teacher
        epochs = max(1, round(steps / len(loader)))
        distill(student, answers, loader, epochs=epochs, lr=LR, **how)
        found.append(logits_of(student, test.images))
        if seed == seeds[0] and steps == STEPS:
            trained[name] = student
    report(name, epochs * len(loader), found, began)
    return found


def mean_figures(found: list[Tensor]) -> dict[str, float]:
    """Means of the figures over the seeds of a run."""
    lines = [figures(logits) for logits in found]
    return {key: sum(line[key] for line in lines) / len(lines) for key in lines[0]}


# %% [markdown]
# ### A. Teacher and student
#
# What does the teacher cost, and what is it worth? The table counts weights and measures how many images each network
# classifies in a second, on your machine. The student has not learned anything yet.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of the teacher; how many times smaller and faster is the student):*

# %% tags=["experiment"]
print(compare_models({"net12, the teacher": teacher, "net5, the student": new_student()}, test.images))
print(f"\nteacher: accuracy {accuracy(teacher_logits, test.labels):.1%}")

# %% [markdown]
# *To think about:* the student has about a twentieth of the weights. Is it also twenty times as fast? What else does
# the time for an image depend on?
#
# ### B. What the teacher says
#
# Two test images: one about which the teacher is unsure, and one about which it is as sure as it gets. Below each is
# its answer at four temperatures.

# %% [markdown] tags=["prediction"]
# *My prediction (its answer about a clear picture: how much is left for the other four classes together, at T = 1 and
# at T = 10):*

# %% tags=["experiment"]
probabilities = teacher_logits.softmax(1)
confidence = probabilities.max(1).values
is_right = probabilities.argmax(1) == test.labels
unsure = (confidence - 0.5 + 10 * ~is_right).abs().argmin()


def shown(index: Tensor, title: str):
    """The teacher's answer for one test image at several temperatures."""
    answers = {T: (teacher_logits[index] / T).softmax(0) for T in (1, 2, 4, 10)}
    return plots.soft_labels(test.images[index], answers, test.classes, label=int(test.labels[index]), title=title)


shown(unsure, "An image about which the teacher is unsure")

# %% tags=["experiment"]
shown(confidence.argmax(), "An image about which it is sure")

# %% [markdown]
# And on average: the mean answer at $T = 4$ for the test images of each class.

# %% tags=["experiment"]
soft = (teacher_logits / 4).softmax(1)
print(f"{'mean answer, T = 4':20s}" + "".join(f"{name:>11s}" for name in test.classes))
for number, name in enumerate(test.classes):
    print(f"{name:20s}" + "".join(f"{p:11.1%}" for p in soft[test.labels == number].mean(0)))
print("\nmean confidence at T = 1, 2, 4, 10: ", end="")
print(", ".join(f"{(teacher_logits / T).softmax(1).max(1).values.mean():.1%}" for T in (1, 2, 4, 10)))

# %% [markdown]
# *To think about:* nobody has ever told the teacher which reptiles are similar. Where does it know this from? Hinton
# called what is in the small probabilities *dark knowledge*. Whether your student has any use for it, experiment D will
# show.
#
# ### C. Few labels and a teacher
#
# The question that all of it is for. There are 2,000 images, and the student is always the same:
#
# | | images | labels | teacher |
# |---|---|---|---|
# | 250 labels | those with a label | 250 | – |
# | all labels | all | 2,000 (or 1,000 in a quick run): what one would like to have | – |
# | 250 labels + teacher | all | 250 | answers for all |
# | teacher alone | all | none, `alpha=1` | answers for all |
# | all labels + teacher | all | all | answers for all |
#
# *Watch for:* which differences are larger than those between two seeds?

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of the five, where guessing gives 20 %; how many of the teacher's answers does the student
# share):*

# %% tags=["experiment"]
students = {
    "250 labels": run("250 labels", train.images[labelled], few[labelled], Silent(), alpha=0),
    "all labels": run("all labels", train.images, train.labels, Silent(), alpha=0),
    "250 labels + teacher": run("250 labels + teacher", train.images, few, guide),
    "teacher alone": run("teacher alone", train.images, nobody, guide, alpha=1),
    "all labels + teacher": run("all labels + teacher", train.images, train.labels, guide),
}
plots.students(
    {name: mean_figures(found) for name, found in students.items()},
    teacher=figures(teacher_logits),
    title=f"net5 after {STEPS} steps, {'mean of 2 seeds' if len(SEEDS) > 1 else 'one seed'}",
)

# %% [markdown]
# <details><summary><b>What results should you get?</b></summary>
#
# With 250 labels alone, the student is far behind all the others, and its calibration error is by far the largest. With
# a teacher it is about where all labels would have brought it, or above; and it hardly matters whether the 250 labels
# take part. All of them stay far below the teacher. If your student with a teacher is no better than the one with 250
# labels, look at hint 4 of exercise 2. (A quick run trains so briefly that the differences are smaller.)
#
# </details>
#
# *To think about:* "teacher alone" has seen no label. Where does its knowledge of the classes come from: which labels,
# of which images? The student shares fewer answers with its teacher than one would expect from something that was
# trained on nothing else. Is it too small, was it trained too briefly, or has it seen too few images? Which experiment
# would tell these apart? (Stanton et al. 2021 ask this of networks that are large enough.)
#
# ### D. Temperature, and hard answers
#
# **What is $T^2$ for?** Before the runs: the size of the gradient that the teacher's part sends to a student's logits,
# for one batch and an untrained student. Once as your loss has it, and once without the factor. For comparison, the
# gradient of the labels' part, which has no temperature.

# %% [markdown] tags=["prediction"]
# *My prediction (how many times smaller is the gradient without the factor at T = 8 than at T = 1; and with it):*

# %% tags=["experiment"]
views, labels = next(iter(distillation_loader(train.images, train.labels, batch_size=256)))
with torch.no_grad():
    answers, untrained = teacher(views), new_student().train()(views)
untrained.requires_grad_()


def gradient_size(temperature: float, alpha: float) -> float:
    """Mean length of the gradient of the loss at the logits of a view."""
    loss = distillation_loss(untrained, answers, labels, temperature, alpha)
    return torch.autograd.grad(loss, untrained)[0].norm(dim=1).mean().item() * len(views)


print("T     with T²   without")
for T in (1, 2, 4, 8, 16):
    print(f"{T:2d}   {gradient_size(T, 1):8.3f}  {gradient_size(T, 1) / T**2:8.3f}")
print(f"labels' part: {gradient_size(4, 0):.3f}")

# %% [markdown]
# *To think about:* what would `alpha = 0.9` mean at $T = 8$ without the factor? With it, the gradient changes little
# from $T = 2$ on. What does it become for very large $T$? (A hint: the softmax of small numbers is nearly linear. Then
# the student is simply asked to have the same *logits* as the teacher, up to a constant; Ba and Caruana 2014 trained
# students in this way.)
#
# **Now the runs.** Three temperatures. And *hard* answers: of what the teacher says, only its first choice is left, as
# if it were a label (Lee 2013: *pseudo-labels*). The same function trains on them: logits of 1,000 and 0 are a
# probability of 1 at every temperature, and with $T = 1$ the divergence is the ordinary cross-entropy.

# %% [markdown] tags=["prediction"]
# *My prediction (order of T = 1, 4, 8 and hard answers; are the differences larger than those between two seeds):*


# %% tags=["experiment"]
class FirstChoice(nn.Module):
    """A teacher that says only which class it finds most likely."""

    def __init__(self, teacher: nn.Module):
        super().__init__()
        self.teacher = teacher

    def forward(self, views: Tensor) -> Tensor:
        """Logits of 1,000 for the most likely class of each view, and 0 for the others."""
        logits = self.teacher(views)
        return 1000.0 * F.one_hot(logits.argmax(1), logits.shape[1])


students["T = 1"] = run("T = 1", train.images, few, guide, temperature=1)
students["T = 8"] = run("T = 8", train.images, few, guide, temperature=8)
students["hard answers"] = run("hard answers", train.images, few, FirstChoice(guide), temperature=1)

of_temperature = {"T = 1": "T = 1", "T = 4": "250 labels + teacher", "T = 8": "T = 8", "hard": "hard answers"}
plots.students(
    {name: mean_figures(students[key]) for name, key in of_temperature.items()},
    teacher=figures(teacher_logits),
    title="250 labels + teacher: how it answers",
)

# %% [markdown]
# *To think about:* look at the two values of each run first, and then at the differences between the runs. Do soft
# answers teach more than hard ones *here*? If they do: is it because of what they say about similar classes, or because
# they say when the teacher is unsure? If they end alike: what would have to be different, the number of classes, the
# number of images, the budget? How would you find out?
#
# ### E. Consistent or not
#
# The teacher answers for the very view that the student sees. One could save all this work: ask the teacher once about
# each plain image, store the answer, and use it for every view. Many early implementations did so. `PlainAnswers` is
# such a teacher. How wrong its answers are depends on the views, so there are two kinds: the shifted ones of C, and
# *crops* of 40 % of the area or more.

# %% [markdown] tags=["prediction"]
# *My prediction (what do stored answers cost, on shifted views and on crops: in accuracy, in calibration):*

# %% tags=["experiment"]
CROPS = RandomViews(crop=(0.4, 1.0), colour=0, grey=0)

students["stored answers"] = run("shifts, stored answers", train.images, few, guide, plain=True)
students["crops"] = run("crops, same view", train.images, few, guide, augment=CROPS)
students["crops, stored answers"] = run("crops, stored answers", train.images, few, guide, augment=CROPS, plain=True)
plots.students(
    {
        "shifts, same view": mean_figures(students["250 labels + teacher"]),
        "shifts, stored answers": mean_figures(students["stored answers"]),
        "crops, same view": mean_figures(students["crops"]),
        "crops, stored answers": mean_figures(students["crops, stored answers"]),
    },
    teacher=figures(teacher_logits),
    title="What the teacher is asked about",
)

# %% [markdown]
# **Mixtures.** The other way round: if only the teacher's answers count, the images need not be images of anything. A
# *mixture* of two pictures (mixup, Zhang et al. 2018) has no label that one would defend. But the teacher has an
# opinion about it, and the student can learn to share it. Beyer et al. (2022) call this *function matching*. Compare
# with "teacher alone" of C.

# %% [markdown] tags=["prediction"]
# *My prediction (better or worse than "teacher alone", and by how much):*


# %% tags=["experiment"]
def mixtures(images: Tensor) -> Tensor:
    """Views of images, shifted and flipped as those of the loader, each mixed with the view of another image."""
    views = RandomViews(crop=None, shift=4, colour=0, grey=0)(images)
    share = torch.rand(len(views), 1, 1, 1)
    return share * views + (1 - share) * views[torch.randperm(len(views))]


students["mixtures"] = run("mixtures", train.images, nobody, guide, augment=mixtures, seeds=(0,), alpha=1)
torch.manual_seed(0)
plots.views({"image": train.images[:8], "mixture": mixtures(train.images[:8])}, n=8)

# %% [markdown]
# **No reptile at all.** One step further: the teacher is asked about lab 2's species, which are not reptiles, and the
# student sees nothing else. Not one image of a crocodile, and no label. Then it is tested on reptiles.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy; guessing gives 20 %):*

# %% tags=["experiment"]
strangers = draw_species(10, len(train) // 10, seed=2).images
students["no reptiles"] = run("no reptiles", strangers, nobody, guide, seeds=(0,), alpha=1)

# %% [markdown]
# *To think about:* what is wrong with an answer for the plain image if the view shows only a part of it? For which
# views are stored answers good enough? An answer for the plain image is surer than one for a part of it would be: which
# of the two axes shows that? And what has the last student learned, if it has never seen a reptile? Think of the
# teacher as a *function* of images: where does the student know its values?
#
# ### F. Patience
#
# A few hundred steps are few. Beyer et al. (2022) found that distillation keeps getting better where ordinary training
# has long stopped. Three times as many steps, with all labels and with 250 labels and a teacher.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of both after three times as many steps; which of them gains more):*

# %% tags=["experiment"]
longer = {"steps": 3 * STEPS, "seeds": (0,)}
patient = {
    "all labels": run("all labels", train.images, train.labels, Silent(), alpha=0, **longer),
    "250 labels + teacher": run("250 labels + teacher", train.images, few, guide, **longer),
}
plots.patience(
    {
        name: {STEPS: figures(students[name][0])["accuracy"], 3 * STEPS: figures(found[0])["accuracy"]}
        for name, found in patient.items()
    },
    teacher=figures(teacher_logits)["accuracy"],
    title="One seed",
)

# %% [markdown]
# *To think about:* the student with all labels sees the same four views of each image again and again, and knows the
# right answer. What happens to its *training* loss, and what to its calibration? Why is this less of a danger with a
# teacher's soft answers? How much of the distance to the teacher is left?
#
# ### G. Who knows what it does not know?
#
# The second axis of all these plots was the calibration error. A *reliability diagram* shows where it comes from: for
# answers of similar confidence, how many of them are right? On the diagonal, a network is calibrated; below it, it is
# too sure. (The points of this plot stand for equally many images, those of your function for intervals of equal
# width.)

# %% [markdown] tags=["prediction"]
# *My prediction (which of the three is too sure, and at which confidences; is anyone not sure enough):*

# %% tags=["experiment"]
plots.reliability(
    {
        "250 labels": (students["250 labels"][0], test.labels),
        "250 labels + teacher": (students["250 labels + teacher"][0], test.labels),
        "teacher": (teacher_logits, test.labels),
    },
    ece=expected_calibration_error,
    title="Confidence and accuracy",
)

# %% tags=["experiment"]
print(f"{'mean over the seeds':28s} {'accuracy':>9s} {'confidence':>11s} {'calibration error':>18s}")
for name, found in {"teacher": [teacher_logits], **students}.items():
    sure = sum(logits.softmax(1).max(1).values.mean().item() for logits in found) / len(found)
    means = mean_figures(found)
    print(f"{name:28s} {means['accuracy']:9.1%} {sure:11.1%} {means['ece']:18.3f}")

# %% [markdown]
# *To think about:* the student with 250 labels is far surer than it should be. Which images was it trained on, and what
# did certainty do for the loss there? The student with a teacher learned from answers such as those in B. What did they
# tell it that a label never does? And: a student with a small calibration error and a low accuracy is possible. What
# does it say most of the time?
#
# ### H. Photographs
#
# All of this with drawings. Now with photographs: CIFAR-10, ten classes, 50 labels of each among 2,000 images. The
# teacher is `net12` as it was before lab 1 adapted it, trained on CIFAR-10. (It has seen these very images, with their
# labels: a teacher often has.)
#
# The photographs are downloaded once (170 MB). Where this is not possible, the cell says so, and you continue without
# them.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy with 500 labels, with all labels, with 500 labels and a teacher):*

# %% tags=["experiment"]
photo_students = {}
try:
    photographs, photo_test = cifar10_photographs(len(train), 1_000)
except DataUnavailable as error:
    print(error)
else:
    net12 = load_backbone("net12").eval()
    photo_guide = RememberedAnswers(net12)
    photo_few = hide_labels(photographs.labels, per_class=50)
    photo_logits = logits_of(net12, photo_test.images)
    choices = {
        "500 labels": (photographs.images[photo_few >= 0], photo_few[photo_few >= 0], Silent(10), {"alpha": 0}),
        "all labels": (photographs.images, photographs.labels, Silent(10), {"alpha": 0}),
        "500 labels + teacher": (photographs.images, photo_few, photo_guide, {}),
    }
    for name, (images, labels, answers, how) in choices.items():
        began = time.perf_counter()
        loader = distillation_loader(images, labels, views=VIEWS)
        student = new_student(classes=10)
        epochs = max(1, round(STEPS / len(loader)))
        distill(student, answers, loader, epochs=epochs, lr=LR, **how)
        logits = logits_of(student, photo_test.images)
        report(name, epochs * len(loader), [logits], began, of=photo_test, asked=photo_logits)
        photo_students[name] = figures(logits, photo_test.labels)

# %% tags=["experiment"]
plots.students(
    photo_students, teacher=figures(photo_logits, photo_test.labels), title="CIFAR-10, net5, one seed"
) if photo_students else None

# %% [markdown]
# *To think about:* is the order that of the drawings? The teacher is right about nearly all of these training images,
# since it learned them by heart. What does it still say about them that their labels do not? What would you change in
# this experiment to find out whether the teacher's own training images make it a worse teacher?
#
# ### I. More than answers
#
# An answer is the last thing that a network computes. Before it there are *features*: 256 numbers in the teacher, 96 in
# the student. Why not learn those (Romero et al. 2015)? They differ in number, so a linear layer maps the student's to
# the teacher's, and the loss asks for the same *direction*: $1 - \cos$. The layer is thrown away afterwards, as the
# projector of lab 2 was. No label and no answer takes part in this. Then comes the linear probe of lab 2, on the 250
# labelled images: `linear_evaluation` solves it to its optimum. The same probe on the teacher's own features shows what
# could be reached, and on those of the student of C what its training on answers has made of its features.
#
# Your `distill` does not ask what the outputs of its two networks mean. So the student is the encoder with the layer,
# the teacher is `net12` without its classifier, and their outputs are 256 numbers each. It calls `distillation_loss` by
# its name; for this one training, the name refers to another function. (If your `distill` computes the loss itself, the
# probe will not find better features.)

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of the probe on features learned from features, on features learned from answers, and on the
# teacher's own):*


# %% tags=["experiment"]
def direction_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9) -> Tensor:
    """How far the directions of features are apart, which come in place of logits; nothing else is used."""
    return 1 - F.cosine_similarity(student_logits, teacher_logits).mean()


def headless(model: nn.Module) -> nn.Module:
    """A copy of a model without its classifier: its outputs are features."""
    body = copy.deepcopy(model)
    body.reset_classifier(0)
    return body.eval()


def probe(encoder: nn.Module) -> float:
    """Accuracy on the test images of a linear layer on an encoder's features, fitted to the 250 labelled images."""
    known, asked = (extract_features(encoder, images) for images in (train.images[labelled], test.images))
    return linear_evaluation(known, few[labelled], asked, test.labels)


body, encoder = headless(teacher), headless(new_student())
mapping = nn.Linear(encoder.num_features, body.num_features)
print(f"probe on the student's features before: {probe(encoder):.1%}")

of_answers, distillation_loss = distillation_loss, direction_loss
try:
    loader = distillation_loader(train.images, nobody, views=VIEWS)
    distill(nn.Sequential(encoder, mapping), body, loader, epochs=max(1, round(STEPS / len(loader))), lr=LR)
finally:
    distillation_loss = of_answers

from_answers = probe(headless(trained["250 labels + teacher"]))
print(f"probe on features learned from features: {probe(encoder):.1%}")
print(f"probe on features learned from answers: {from_answers:.1%}")
print(f"probe on the teacher's own features: {probe(body):.1%}")

# %% [markdown]
# *To think about:* features are more numbers than answers. Do they contain more? Think of what the teacher's last layer
# throws away, and whether the student needs it. And if the teacher were a network whose answers are not about your
# classes, such as an encoder of lab 2: which of the two ways would still be open?
#
# ## The series
#
# This was the last of four labs. Each of them had one question, and handed something on:
#
# | lab | question | what this lab took from it |
# |---|---|---|
# | [1: transfer learning](../transfer-learning/transfer_learning.ipynb) | what does a network bring along that has seen other images, with labels? | the teacher; and that a network in train mode changes, even if it is frozen |
# | [2: self-supervised learning](../self-supervised-learning/self_supervised_learning.ipynb) | and if nobody had labelled those? | images without labels, random views, `net5`, a measurement that leaves the measured network as it was |
# | [3: meta-learning](../meta-learning/meta_learning.ipynb) | what can be learned from five images? | chance is a result, too: seeds and intervals before conclusions; the same care for the baseline |
# | 4: knowledge distillation | how much of that fits into a network of a twentieth of the size? | |
#
# The four have one thing in common: labels are expensive, and each lab takes knowledge from where it is cheaper. From
# another data set, from the images themselves, from other tasks, from another network. In each, the gain was real, and
# in each a simpler baseline got closer than one expects. Which of the four would you try first on a task of your own?
#
# <a id="reflection"></a>
# ## Reflection
#
# *10 points, read and graded by a person · 30 minutes · about five sentences for each question*
#
# Answer with **your** numbers: state them, and say which cell they come from. An answer that would fit any notebook
# earns no points. Results that contradict the text are as welcome as those that agree, if you can say why.
#
# 1. **What did the teacher give?** Compare the five students of experiment C. Which differences do you believe, judged
#    by the number of test images and by the two seeds? What was worth more, 1,750 labels or a teacher? How often does
#    the student give its teacher's answer, and what does that say about the word "distillation"? *(4 points)*
# 2. **What in its answers?** Soft or hard, one temperature or another (D), the same view or the plain image, mixtures
#    (E), more steps (F): name one difference that you believe and one that you do not, with the numbers that decide it.
#    What is $T^2$ for, and what would have gone wrong in D without it? *(3 points)*
# 3. **Which one do you ship?** A toy for children is to recognise drawn reptiles, and it should say "I don't know" when
#    it does not. Choose among the networks that you have trained and the teacher, by accuracy, calibration, size and
#    speed (A, C, G). What would make you choose another one? *(3 points)*

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **1. What did the teacher give?**
#
# <!-- BEGIN SOLUTION -->
# *(Model answer; the numbers are those of the writer's own run, found in the outputs above.)* With 250 labels alone,
# the student is only a few points above guessing (C, first bar): it knows its 250 images by heart, as its calibration
# error says. With all labels it is about twice as good, and with 250 labels and a teacher it is there, too, or a little
# above. The teacher alone, without a single label, does the same. The standard error of one accuracy is about 1.6
# points, and the two seeds of one run differ by up to 6, so I believe differences from about 6 points on. The distance
# between 250 labels and all the others is several times that; the differences among the other four are not. So a
# teacher was worth about as much as 1,750 labels. Whether it was worth more, these runs cannot tell. The student gives
# its teacher's answer in little more than half of the cases, hardly more often than it is right, although it was
# trained on nothing but these answers. So it is no copy in small: it took over what so small a network learns in so few
# steps. "Distillation" sounds as if the essence were kept; here most of the difference between the two networks is
# still there.
# <!-- END SOLUTION -->
#
# **2. What in its answers?**
#
# <!-- BEGIN SOLUTION -->
# I believe in patience (F): after three times as many steps, the student with a teacher is more than ten points better,
# many times the standard error, though it is one seed. I do not believe that stored answers cost accuracy (E): on
# shifted views the means are within a point, on crops within three, and the seeds overlap. But they cost calibration:
# with crops the calibration error is about twice as high, with both seeds. A stored answer is as sure as
# the plain image allows, and the view shows less. In D, $T = 1$ is below $T = 4$ with both seeds. That points the way
# of Hinton et al., but hard answers are not below $T = 1$, and I would want more seeds before I said so. The factor
# $T^2$ keeps the gradient of the teacher's part at one size: without it, it falls at $T = 8$ to a fortieth of what it
# is at $T = 1$ (table in D), with it to no less than it was. Without the factor, the labels' part would have had most
# of the say at $T = 8$ in spite of `alpha = 0.9`, and the runs of D would have differed in two things, in the softness
# of the answers and in their weight.
# <!-- END SOLUTION -->
#
# **3. Which one do you ship?**
#
# <!-- BEGIN SOLUTION -->
# I ship the student with 250 labels and a teacher, after the long training (F). The teacher is more than twenty points
# better, but it has 18 times as many weights and is more than ten times slower on my machine (A); a toy has a small
# processor. The student with all labels, trained for as long, is a few points worse, and its calibration error is about
# twice as large: it has begun to be sure of everything. "I don't know" needs a threshold on the confidence, for
# instance 60 %, and that only works if 60 % means something. For the student with 250 labels it does not: where it says
# 95 %, it is right in a third of the cases (reliability diagram in G), so it would never keep silent. I would ship the
# teacher if there were room for 10 MB and a processor that is fast enough. And I would train for longer first: at the
# end of F both curves still rise.
#
# === BEGIN MARK SCHEME ===
#
# Award points for reasoning from the student's own numbers, whatever these numbers are. No number of their own in an
# answer: at most 1 point for that question.
#
# **Question 1 (4).** 1: states accuracies of 250 labels, all labels and 250 labels + teacher, in agreement with the
# outputs. 1: gives a size of difference to believe in, from the number of test images (1,000: about 1.6 points standard
# error; 2 to 3 for a difference are fine) or from the two seeds, and applies it; a quick run has one seed, and the
# answer must say that it shows no spread. 1: compares 1,750 more labels with a teacher and concludes from their values
# (level, or one ahead). 1: states the agreement with the teacher, and sees that the student is not a copy: it gives the
# teacher's answer far less often than always, although it was trained on nothing else.
#
# **Question 2 (3).** 1: a difference to believe, with the two seeds of both runs. 1: a difference not to believe, or a
# tie, with the numbers. 1: the gradient of the teacher's part falls about as 1/T² and the factor undoes this; without
# it, at a large T the labels' part would have dominated whatever alpha says, and the runs of D would have differed in
# two things.
#
# **Question 3 (3).** 1: a choice with accuracy and calibration error of at least two networks. 1: size or speed with
# their own figures of A. 1: what calibration is needed for here (a threshold on the confidence means something only if
# confidences do), and a condition under which the choice would change (a larger device, more training, labels, another
# threshold).
#
# === END MARK SCHEME ===
# <!-- END SOLUTION -->

# %% [markdown]
# ## Hand in
#
# Save the notebook (Ctrl+S, or ⌘S on a Mac). Then run `import amllab; amllab.preflight()` in a new cell. It runs the
# saved file as grading does, without the experiments, and says what is missing: an answer, an experiment that was not
# run, a cell that works only in your open notebook. Then submit the notebook under its own name. The deadline is in
# `START.md`, next to this notebook.
#
# ## Open questions
#
# Not graded, and not all of them have a known answer.
#
# - **A better start.** The student starts from random weights. `kept("species-encoder")` is the encoder of lab 2, a
#   `net5` that has seen many drawings; `reset_classifier(5)` gives it five outputs. How many steps does that save, with
#   a teacher and without?
# - **More images.** Unlabelled ones cost nothing: `draw_reptiles(8_000, seed=3)`. At the same number of steps, is the
#   student better? And at ten times as many?
# - **Calibrate afterwards.** One number, a temperature by which all logits of the finished student are divided, can
#   repair much of its calibration (Guo et al. 2017). Choose it on images that took no part in anything else. What is
#   left of the teacher's second advantage?
# - **A teacher of its own size.** Distill one `net5` into another (Furlanello et al. 2018). Is the pupil better than
#   its teacher? And the pupil's pupil?
# - **Teachers.** Train three teachers from other seeds and let the student learn from the mean of their answers. Mean
#   of logits, or of probabilities?
# - **A better teacher, a worse one.** Stop the fine-tuning of the teacher early, or train it twice as long. Does the
#   best teacher have the best student (Cho and Hariharan 2019)? Does a network in between help (Mirzadeh et al. 2020)?
# - **Smooth labels.** Give each label 90 %, and the rest to the other classes, the same for every image. How much of
#   the calibration, and how much of the accuracy, does this alone explain (Müller et al. 2019)?
# - **Your own teacher, on photographs.** If your lab 1 ran on CIFAR-100's reptiles, it has kept a model that knows
#   them. `train_loader, val_loader = reptile_loaders()` gives the images (`train_loader.dataset.data`), and
#   `load_teacher(train_loader.dataset.source)` the model.
#
# ## Where to go on
#
# Two sources treat the same method. PyTorch's [tutorial on knowledge
# distillation](https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html) trains two networks on
# all labels of CIFAR-10, and adds to the cross-entropy of the smaller one three terms in turn: soft answers, the
# direction of hidden features, and hidden features through a trained layer. Experiments C and I have these in small. It
# gives the *labels* the larger weight and prints accuracies of one seed, and it takes the logarithm of a softmax: try
# its formula with the logits of exercise 1, 200 and 0.
#
# Beyer et al. (2022) take the teacher's part alone, as "teacher alone" does, with the same views for both, with
# mixtures, and with very many epochs: on ImageNet, until a ResNet-50 has nearly the accuracy of its much larger
# teacher. Experiments E and F have their three arguments, consistency, a wider support and patience, at a budget of
# minutes. What this lab adds to both are few labels, images without any, and calibration.
#
# ## Sources
#
# - G. Hinton, O. Vinyals, J. Dean: *Distilling the Knowledge in a Neural Network.* 2015
#   ([arXiv:1503.02531](https://arxiv.org/abs/1503.02531)).
# - C. Buciluă, R. Caruana, A. Niculescu-Mizil: *Model Compression.* KDD 2006.
# - J. Ba, R. Caruana: *Do Deep Nets Really Need to be Deep?* NeurIPS 2014.
# - L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil, A. Kolesnikov: *Knowledge Distillation: A Good Teacher Is Patient
#   and Consistent.* CVPR 2022.
# - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: *On Calibration of Modern Neural Networks.* ICML 2017.
# - D.-H. Lee: *Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks.* ICML
#   Workshop on Challenges in Representation Learning, 2013.
# - S. Stanton, P. Izmailov, P. Kirichenko, A. A. Alemi, A. G. Wilson: *Does Knowledge Distillation Really Work?*
#   NeurIPS 2021.
# - A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta, Y. Bengio: *FitNets: Hints for Thin Deep Nets.* ICLR 2015.
# - H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz: *mixup: Beyond Empirical Risk Minimization.* ICLR 2018.
# - T. Furlanello, Z. C. Lipton, M. Tschannen, L. Itti, A. Anandkumar: *Born-Again Neural Networks.* ICML 2018.
# - J. H. Cho, B. Hariharan: *On the Efficacy of Knowledge Distillation.* ICCV 2019.
# - S. I. Mirzadeh et al.: *Improved Knowledge Distillation via Teacher Assistant.* AAAI 2020.
# - R. Müller, S. Kornblith, G. Hinton: *When Does Label Smoothing Help?* NeurIPS 2019.
# - A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images.* Technical report, 2009 (CIFAR-10 and
#   CIFAR-100).
