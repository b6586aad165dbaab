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
# # Lab 1: Transfer learning
#
# *Advanced Machine Learning*
#
# Two thousand pictures of reptiles are few: a network that starts from random weights learns them by heart before it
# learns what a turtle is. In this lab you take a network that has already seen 50,000 pictures of *other* things and
# adapt it. You decide how much of it may still change, you write the training loop that knows when to stop, and then
# you measure what was worth doing.
#
# **After this lab you can**
#
# - explain what a pretrained network brings to a new task, and what has to be thrown away;
# - freeze and thaw layers in PyTorch, and say what a frozen layer may still do behind your back;
# - replace the head of any [timm](https://huggingface.co/docs/timm) model and keep the rest;
# - write early stopping that gives back the best model, and not the last one;
# - choose the number of layers to fine-tune from measurements, and say how far these can be trusted.
#
# | part | what you do | points | difficulty | minutes |
# |---|---|---|---|---|
# | [Exercise 1](#exercise-1) | `freeze_layers` | 20 | ●○○ | 15 |
# | [Exercise 2](#exercise-2) | `build_transfer_model` | 20 | ●○○ | 10 |
# | [Exercise 3](#exercise-3) | `train_with_early_stopping` | 30 | ●●● | 60 |
# | [Exercise 4](#exercise-4) | all together (nothing to write) | 20 | ●○○ | 5 |
# | [Experiments](#experiments) | predict, run, compare | | ●●○ | 45 |
# | [Reflection](#reflection) | interpret *your* numbers | 10 | ●●○ | 30 |
#
# **How to work.** Fill in the three cells that say `# YOUR CODE HERE`; names and arguments of the functions must
# stay. How you implement them is free: any optimizer, any helper function, in your own cells where you like. The
# locked cell below each exercise checks it at once, as often as you want. Grading runs the same checks with other
# inputs, and further ones of the same contract. The experiments run *your* functions. They are not graded and not run
# again by the grader, but your reflection builds on them: submit the notebook with their outputs.
#
# No GPU is needed. From top to bottom, all experiments included, the notebook takes less than ten minutes on two CPU
# cores. On a slower machine, `QUICK = True` [below](#the-data) makes all experiments small.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import itertools
import math
import time

import matplotlib.pyplot as plt
import timm
import torch
from torch import nn
from torch.nn import functional as F

from amllab import (
    BackboneUnavailable,
    Epochs,
    best_device,
    check,
    evaluate,
    fast_math,
    layers_of,
    load_backbone,
    plots,
    predict,
    reptile_loaders,
)

# %% [markdown]
# ## Why transfer learning
#
# The first layers of a network that looks at photographs learn much the same whatever the photographs show: edges,
# colours, textures. The last layers are made for the classes at hand. So somewhere on the way from input to output
# features turn from *general* to *specific*, and everything before that point can be taken over (Yosinski et al.
# 2014). In four steps:
#
# 1. **Pretrain** a network on a large *source* task. Here: CIFAR-10, 50,000 images of 10 classes. This was done for
#    you.
# 2. **Copy** its weights, and put a new *head* with random weights on top, one output for each class of the *target*
#    task. Here: 5 reptiles.
# 3. **Freeze** the first layers. They keep what they know, and cost no gradient.
# 4. **Fine-tune** the last `n_trainable` layers on the target task, and stop before they learn it by heart.
#
# The picture shows step 3 with `n_trainable = 4`. The old head is the one thing that is not copied.

# %% tags=["experiment"]
plots.transfer(load_backbone("net12"), classes=5, n_trainable=4)

# %% [markdown]
# Step 3 has a price on both sides. Freeze too much, and features made for cats and trucks have to do for lizards.
# Freeze too little, and millions of weights learn two thousand images by heart. An earlier report on this task found
# 54 % accuracy from scratch and 68 % with transfer, about 66 % with 10 of 12 layers fine-tuned; it called 2 of 12
# layers too rigid, and saw overfitting with all 12. You will see how much of this your own numbers support.

# %% [markdown]
# <a id="the-data"></a>
# ## The data
#
# Five classes: crocodile, dinosaur, lizard, snake, turtle; 32×32 pixels; 2,000 images for training and 500 for
# validation. The training images are shifted, flipped and slightly recoloured at random each time they are drawn
# (*augmentation*), the validation images are not. There are test images too. They are out of reach here on purpose:
# every number that you choose a model by stops being an unbiased estimate of how good that model is.
#
# `reptile_loaders()` takes the photographs of CIFAR-100 where it finds or can download them. Where it cannot, it
# *draws* five reptile-like classes instead: another data set, the same lesson, other numbers. The line it prints says
# which data you have.
#
# **A slow machine?** Set `QUICK = True`: the experiments then take a quarter of the images, and fewer epochs and runs. Every
# plot says so in its title, and your numbers will be rougher: 125 validation images instead of 500. The questions stay the
# same, and so do the points.

# %% tags=["experiment"]
QUICK = False

plots.note("quick run: a quarter of the images, few epochs" if QUICK else "")
SHARE = 0.25 if QUICK else 1.0  # of the images of each class
train_loader, val_loader = reptile_loaders(batch_size=64, seed=0, share=SHARE)

CLASSES = train_loader.dataset.classes
images, labels = next(iter(train_loader))
print(f"classes:      {', '.join(CLASSES)}")
print(f"training:     {len(train_loader.dataset)} images in {len(train_loader)} batches")
print(f"validation:   {len(val_loader.dataset)} images")
print(f"one batch:    images {tuple(images.shape)} {images.dtype}, labels {tuple(labels.shape)} {labels.dtype}")

# %% [markdown]
# Pictures in this notebook show *drawn* reptiles, so that the notebook can be passed on freely: CIFAR's photographs
# are not ours to give away. To look at your own data, leave out `source="drawn"`.

# %% tags=["experiment"]
drawn_train, drawn_val = reptile_loaders(batch_size=64, seed=0, source="drawn", share=SHARE)

images, labels = next(iter(drawn_train))
plots.images(images, labels, drawn_train.dataset.classes)

# %% [markdown]
# ## A pretrained model
#
# `load_backbone("net12")` gives you a convolutional network of 12 layers with the weights it learned on CIFAR-10. It
# is an ordinary timm model. `layers_of(model)` lists its layers **from input to output; the head is the last**.
# Everything in this lab that counts layers counts entries of this list. An entry has a `name`, and the methods of a
# module that you may need: `parameters()`, `modules()`, `requires_grad_()`, `train()`, `eval()`.

# %%
backbone = load_backbone("net12")

for i, layer in enumerate(layers_of(backbone)):
    print(f"{i:2d}  {layer.name:16s} {sum(p.numel() for p in layer.parameters()):>9,} parameters")

with torch.no_grad():
    images = torch.randn(2, 3, 32, 32)
    print("\nimages  ", tuple(images.shape))
    print("features", tuple(backbone.forward_features(images).shape))
    print("logits  ", tuple(backbone(images).shape), " <- the 10 classes of CIFAR-10")

# %% [markdown]
# *Look at the list before you go on:* in which layers do most of the parameters sit? If only the last 2 of 12 layers
# are trainable, which share of all parameters is that? You will need this in experiment C.

# %% [markdown]
# <a id="exercise-1"></a>
# ## Exercise 1: freeze layers
#
# *20 points · difficulty ●○○ · 15 minutes*
#
# **The mechanism.** PyTorch computes gradients only for tensors that ask for one. A parameter that does not ask gets
# none, and an optimizer leaves it alone. Three lines show it:

# %%
body, head = nn.Linear(4, 3), nn.Linear(3, 2)
body.weight.requires_grad = False
head(body(torch.randn(5, 4))).sum().backward()

print("gradient of the body's weight:", body.weight.grad)
print("gradient of the head's weight: shape", tuple(head.weight.grad.shape))

# %% [markdown]
# **Your task.** Leave the last `n_trainable` layers of a model trainable, and freeze all others.
#
# ```python
# freeze_layers(model, n_trainable)
# ```
#
# | argument or result | contract |
# |---|---|
# | `model` | any timm model |
# | a layer | an entry of `layers_of(model)`: a group of parameters, with `parameters()` and `requires_grad_()` as a module has them |
# | `n_trainable` | how many entries of `layers_of(model)`, counted **from the end**, are trainable afterwards |
# | returns | the same object: the model is changed in place |
# | afterwards | parameters of the last `n_trainable` layers require gradients, all others do not. Called again with another number, the function **thaws** layers as well |
# | values | no weight changes its value |
# | errors | `ValueError` unless `0 <= n_trainable <= len(layers_of(model))` |
#
# **Example.** `net12` has 12 layers, numbered 0 to 11:
#
# | call | frozen | trainable |
# |---|---|---|
# | `freeze_layers(model, 0)` | 0 … 11 | none |
# | `freeze_layers(model, 1)` | 0 … 10 | 11, the head: a *linear probe* |
# | `freeze_layers(model, 4)` | 0 … 7 | 8, 9, 10, 11 |
# | `freeze_layers(model, 12)` | none | 0 … 11: full fine-tuning |
#
# <details><summary><b>Hint 1</b>: what a layer offers</summary>
#
# `layer.parameters()` gives the parameters of one entry of `layers_of(model)`. Every parameter of the model belongs
# to exactly one layer.
#
# </details>
#
# <details><summary><b>Hint 2</b>: a slice that bites</summary>
#
# `layers[-n_trainable:]` looks right. Try it on a list with `n_trainable = 0`.
#
# </details>
#
# <details><summary><b>Hint 3</b>: thawing</summary>
#
# Decide for *every* layer whether it is trainable, and set `requires_grad` to the answer, `True` or `False`. A
# function that only ever sets `False` cannot be called twice.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "freeze_layers", "locked": false, "schema_version": 3, "solution": true, "task": false}
def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    """Leaves the last ``n_trainable`` layers of ``model`` trainable and freezes all others, in place.

    Returns the same model. Raises ValueError unless 0 <= n_trainable <= len(layers_of(model)).
    """
    ### BEGIN SOLUTION
    layers = layers_of(model)
    if not 0 <= n_trainable <= len(layers):
        raise ValueError(f"n_trainable must be between 0 and {len(layers)}, the number of layers; got {n_trainable}")
    first_trainable = len(layers) - n_trainable
    for i, layer in enumerate(layers):
        for parameter in layer.parameters():
            parameter.requires_grad = i >= first_trainable
    return model
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_freeze_layers", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("freeze_layers")

# %% [markdown]
# **See what you did.** A row for each layer, and a bar for its parameters.

# %% [markdown] tags=["prediction"]
# *My prediction (which bars will be longest, those of the frozen layers or those of the trainable ones):*

# %% tags=["experiment"]
plots.frozen(freeze_layers(load_backbone("net12"), 4))

# %% [markdown]
# <a id="exercise-2"></a>
# ## Exercise 2: build the transfer model
#
# *20 points · difficulty ●○○ · 10 minutes*
#
# The head of the pretrained network answers "cat or truck?". Nobody asks that any more: its 10 outputs are replaced
# by 5 new ones, with random weights. All other weights are what you came for, and must arrive unharmed.
#
# **Why the order matters.** A new layer asks for gradients, whatever was decided about the layer that it replaces. So
# ask yourself which layers of the *finished* model are trainable, for every `n_trainable` from 0 on.
#
# ```python
# build_transfer_model(backbone, num_classes, n_trainable)
# ```
#
# | argument or result | contract |
# |---|---|
# | `backbone` | a name: `"net12"`, or any timm model; loaded by `load_backbone` |
# | `num_classes` | outputs of the fresh head |
# | `n_trainable` | layers that stay trainable, as in exercise 1; the head counts as the last layer |
# | returns | a new model: images `(batch, 3, height, width)` to logits `(batch, num_classes)` |
# | weights | the head is fresh, **every other pretrained weight is kept**. Two calls share no tensors |
# | errors | `ValueError` for `num_classes < 2` |
#
# Return the timm model itself, not wrapped in another module: every tensor but the head's keeps its own name. What the
# head is made of is free, one layer or several, as long as `model.get_classifier()` gives it.
#
# **Example.**
#
# ```python
# model = build_transfer_model("net12", num_classes=5, n_trainable=4)
# model(torch.randn(8, 3, 32, 32)).shape     # torch.Size([8, 5])
# ```
#
# <details><summary><b>Hint 1</b>: the head of any architecture</summary>
#
# Each timm model calls its head by another name (`fc`, `head.fc`, `classifier`), and each knows how to replace it:
# `model.reset_classifier(num_classes)`.
#
# </details>
#
# <details><summary><b>Hint 2</b>: do not repeat yourself</summary>
#
# You have written the rest in exercise 1.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "build_transfer_model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def build_transfer_model(backbone: str, num_classes: int, n_trainable: int) -> nn.Module:
    """A pretrained backbone with a fresh head of ``num_classes`` outputs, all but its last ``n_trainable`` layers frozen.

    Takes images (batch, 3, height, width), gives logits (batch, num_classes). Raises ValueError for num_classes < 2.
    """
    ### BEGIN SOLUTION
    if num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes; got num_classes={num_classes}")
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_build_transfer_model", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("build_transfer_model")

# %% [markdown]
# <a id="exercise-3"></a>
# ## Exercise 3: train with early stopping
#
# *30 points · difficulty ●●● · 60 minutes*
#
# Two ideas come first, each with a trap.
#
# ### Idea 1: stop when validation no longer improves
#
# The training loss falls as long as you train; the validation loss falls, and at some point rises again: from there
# on the network learns its training images by heart. **Early stopping** (Prechelt 1998) ends the training there. But
# validation losses are noisy, and one bad epoch proves nothing. So one waits: training stops after `patience` epochs
# **in a row** without improvement. An epoch improves when its validation loss is below that of the best epoch so far by
# more than `min_delta`; it is the best epoch from then on. A loss that is lower by less changes nothing.
#
# With `patience=2` and `min_delta=0`:
#
# | epoch | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | validation loss | 0.90 | 0.80 | 0.82 | **0.79** | 0.81 | 0.80 |
# | best so far | 0.90 | 0.80 | 0.80 | 0.79 | 0.79 | 0.79 |
# | epochs without improvement | 0 | 0 | 1 | 0 | 1 | 2, stop |
#
# Six epochs were run, `best_epoch` is 3, and **the model goes back to what it was at the end of epoch 3**. Which
# brings the first trap: what does `best = model.state_dict()` keep? Guess, then run.

# %%
layer = nn.Linear(2, 1)
best = layer.state_dict()
print("kept:                     ", best["weight"])
with torch.no_grad():
    layer.weight += 1
print("kept, after one more step:", best["weight"])

# %% [markdown]
# ### Idea 2: a frozen layer must come out as it went in
#
# Frozen parameters get no gradient. But *parameters* are not all that a layer holds. **BatchNorm** normalises each
# channel (Ioffe and Szegedy 2015), and keeps running averages of mean and variance for evaluation. These are
# *buffers*, and they move with every batch that passes in train mode: no gradient is needed for that, and
# `requires_grad=False` does not stop it.
#
# The next cell freezes **everything**, then only looks at training images: there is no loss, no gradient, no
# optimizer. It takes about ten seconds.

# %% [markdown] tags=["prediction"]
# *My prediction (will the running means move; if so, by which share of a channel's standard deviation in one epoch: 1 %,
# 10 %, 100 %):*

# %% tags=["experiment"]
model = load_backbone("net12").requires_grad_(False)
norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
start = {name: (norm.running_mean.clone(), norm.running_var.sqrt()) for name, norm in norms.items()}
shifts = {name: [0.0] for name in norms}

model.train()
with torch.no_grad(), fast_math(torch.device("cpu")):
    for _ in (progress := Epochs(1)):
        for images, _ in progress.batches(train_loader):
            model(images)
            for name, norm in norms.items():
                mean, deviation = start[name]
                shifts[name].append(((norm.running_mean - mean).abs() / deviation).mean().item())

plots.drift(shifts, title="Frozen, in train mode: running means move")

# %% [markdown]
# So a "frozen" body is not the pretrained body any more as soon as someone calls `model.train()`, and nothing says
# so. Two heads trained on "the same" frozen body would sit on two different bodies. It can even help, now and then,
# that the statistics follow the new data; then it should be a decision, and not an accident. In this lab, **a frozen
# layer comes out of training bit for bit as it went in**.
#
# ### Your task
#
# ```python
# train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3)
# ```
#
# | argument or result | contract |
# |---|---|
# | `model` | any module from images to logits `(batch, classes)`; `layers_of` may not know it. Some parameters may be frozen. It stays on its device |
# | `train_loader`, `val_loader` | anything that can be iterated again and again over batches `(images, labels)`: a `DataLoader`, a list (which has no `.dataset`). Batches may differ in size |
# | each epoch | trains in train mode (frozen BatchNorm apart), then validates on `val_loader`, in eval mode, without gradients |
# | each batch | the model's logits of the images as they come, plain cross-entropy (no smoothed labels, class weights or mixtures), one step of an optimizer over the **trainable parameters only** |
# | frozen layers | parameters and BatchNorm running mean and variance are unchanged, bit for bit |
# | stops | after `patience` epochs in a row without improvement (a loss that is NaN is none), at the latest after `max_epochs` |
# | afterwards | the model has the **weights and buffers of the best epoch**, as they were validated. Where no loss is a number, `best_epoch` is 0 and the model is as it was after epoch 0 |
# | returns | a dict: `"train_loss"`, `"train_acc"`, `"val_loss"`, `"val_acc"`, each a list with one `float` for each epoch run; `"best_epoch"`, an `int` counted from 0. More keys are welcome |
# | the figures | means over **examples**, accuracies between 0 and 1. Training figures: what the batches gave while the epoch trained on them, not another pass behind it |
# | your choice | optimizer, schedule, weight decay, clipping, averages of weights: the weights that you validate are the ones that count |
# | errors | `ValueError` for `max_epochs < 1` or `patience < 1` |
#
# **Example.** The table above, with `max_epochs=30`: each list has 6 entries, and `history["best_epoch"]` is 3.
#
# **A live view.** `Epochs` shows epochs, batches, time left, your current figures and how they went. Use it in place of
# `range`, or not at all; `Epochs(max_epochs, patience)` also shows what is left of your patience.
#
# ```python
# for epoch in (progress := Epochs(max_epochs)):
#     for images, labels in progress.batches(train_loader):
#         ...
#         progress.show(loss=...)                    # while the epoch runs
#     progress.log(train_loss=..., val_loss=...)     # at its end
# ```
#
# Too slow? Jupyter's stop button (■) makes the running epoch the last one: your function goes on behind the loop and returns
# what it has. Pressed twice, it ends everything at once.
#
# `evaluate(model, loader)` returns `{"loss": ..., "accuracy": ...}`: means over examples, in eval mode, without
# gradients.
#
# <details><summary><b>Hint 1</b>: the order of an epoch</summary>
#
# Set train mode (a validation of your own has left the model in eval mode) · for each batch: forward, loss, clear the old
# gradients, backward, step · validate · write down four figures · improved? then remember · not improved? then count,
# and maybe stop.
#
# </details>
#
# <details><summary><b>Hint 2</b>: means over examples</summary>
#
# 2,000 images in batches of 64 make 31 full batches and one of 16. In a mean over *batches* each image of the last
# one counts four times. Add up `loss * batch size` and divide by the number of images. Keep plain numbers
# (`loss.item()`): a tensor with history keeps the graph of its batch in memory.
#
# </details>
#
# <details><summary><b>Hint 3</b>: remembering the best epoch</summary>
#
# You have seen above that `state_dict()` hands out references. You want a copy: `copy.deepcopy`, or `.clone()` of
# every tensor. A `state_dict` holds parameters *and* buffers, `model.parameters()` does not.
#
# </details>
#
# <details><summary><b>Hint 4</b>: BatchNorm of frozen layers</summary>
#
# `model.train()` switches *every* module to train mode. Right after it, walk over `model.modules()` and send some of
# them back to `eval()`. Which, can be seen from their parameters. In eval mode, BatchNorm normalises with its running
# statistics, and leaves them alone.
#
# </details>
#
# <details><summary><b>Hint 5</b>: NaN</summary>
#
# Every comparison with NaN is false. So `loss < best` is false for a loss that is NaN, as it should be. But what
# happens in all later epochs once `best` itself is NaN? Start from `math.inf`.
#
# </details>
#
# <details><summary><b>Hint 6</b>: the device</summary>
#
# `next(model.parameters()).device` says where the model is. Move each batch there: `images.to(device)`.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "train_with_early_stopping", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_with_early_stopping(
    model: nn.Module,
    train_loader,
    val_loader,
    *,
    max_epochs: int = 30,
    patience: int = 5,
    min_delta: float = 0.0,
    lr: float = 1e-3,
) -> dict:
    """Trains ``model`` until its validation loss has not improved for ``patience`` epochs; leaves it at its best epoch.

    Returns {"train_loss", "train_acc", "val_loss", "val_acc"}: lists with one float per epoch run, and "best_epoch".
    Raises ValueError for max_epochs < 1 or patience < 1.
    """
    ### BEGIN SOLUTION
    if max_epochs < 1 or patience < 1:
        raise ValueError(f"max_epochs and patience must be at least 1; got {max_epochs} and {patience}")
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) and m.affine]
    frozen_norms = [norm for norm in norms if not norm.weight.requires_grad]
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    best_loss, best_epoch, waited = math.inf, 0, 0

    for epoch in (progress := Epochs(max_epochs)):
        model.train()
        for norm in frozen_norms:
            norm.eval()  # in train mode its running statistics would move, gradient or not
        loss_sum, correct, examples = 0.0, 0, 0
        for images, labels in progress.batches(train_loader):
            images, labels = images.to(device), labels.to(device)
            logits = model(images).float()  # may come in bfloat16, which is too coarse for a loss
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            examples += len(labels)
            progress.show(loss=loss_sum / examples, acc=correct / examples)

        validation = evaluate(model, val_loader)
        figures = {
            "train_loss": loss_sum / examples,
            "train_acc": correct / examples,
            "val_loss": validation["loss"],
            "val_acc": validation["accuracy"],
        }
        for name, value in figures.items():
            history[name].append(value)
        progress.log(**figures)

        improved = figures["val_loss"] < best_loss - min_delta  # False for NaN
        if improved or epoch == 0:
            best_epoch, best_state = epoch, copy.deepcopy(model.state_dict())
        if improved:
            best_loss, waited = figures["val_loss"], 0
        else:
            waited += 1
        if waited == patience:
            break

    model.load_state_dict(best_state)
    model.eval()
    return {**history, "best_epoch": best_epoch}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_train_with_early_stopping", "locked": true, "points": 30, "schema_version": 3, "solution": false, "task": false}
check("train_with_early_stopping")

# %% [markdown]
# <a id="exercise-4"></a>
# ## Exercise 4: all together
#
# *20 points · difficulty ●○○ · 5 minutes*
#
# Nothing to write. The check builds a model with your `build_transfer_model`, trains its last layers with your
# `train_with_early_stopping` for {{accuracy.max_epochs}} epochs on drawn reptiles, and measures its accuracy on images that your code
# has never seen. Guessing gives 20 %. Grading may use other images and another backbone: your functions take any. Your optimizer is your choice, and optimizers need different learning rates: where
# `lr=0.001` is not enough, the check tries larger ones as well, and the best counts. If it fails while the exercises before
# it pass, look at what only a real training shows: is the learning rate `lr` used? Are the model's logits, without softmax,
# what goes into the cross-entropy? Did the pretrained weights arrive?

# %% nbgrader={"grade": true, "grade_id": "check_accuracy", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("accuracy")

# %% [markdown]
# <a id="experiments"></a>
# ## Experiments
#
# Now the questions that this was made for. All experiments go through one function, `run`, and differ in one
# argument, so that what differs in the result is due to that argument, or to chance. How large chance is you will
# find out, too.
#
# Write down your prediction *before* each run, in the cell that asks for it. A prediction that turns out wrong teaches
# more than one that was never made.
#
# | | experiment | about |
# |---|---|---|
# | A | from scratch | 1 min |
# | B | transfer | ½ min |
# | C | how many layers? | 4 min |
# | D | curves, overfitting and the generalisation gap | |
# | E | very few images | ½ min |
# | F | what is confused with what | ½ min |
# | G | any timm model | ½ min |

# %% tags=["experiment"]
# short, to fit into ten minutes
MAX_EPOCHS, PATIENCE = (6, 2) if QUICK else (15, 3)
SEEDS = (0,)  # (0, 1, 2) takes three times as long, and shows the spread
N_TRAINABLE = (0, 1, 2, 4, 8, 12) if QUICK else range(13)


def from_scratch() -> nn.Module:
    """The same network with random weights, all layers trainable."""
    return timm.create_model("net12", num_classes=len(CLASSES)).to(memory_format=torch.channels_last)


def transfer(n_trainable: int) -> nn.Module:
    """The pretrained network, its last ``n_trainable`` layers trainable."""
    return build_transfer_model("net12", len(CLASSES), n_trainable)


def run(build, *arguments, loaders=(train_loader, val_loader), seed=0, max_epochs=MAX_EPOCHS, patience=PATIENCE):
    """Builds a model and trains it with your function; returns both, the model and its history."""
    torch.manual_seed(seed)
    model = build(*arguments).to(best_device())
    began = time.perf_counter()
    with fast_math():
        history = train_with_early_stopping(model, *loaders, max_epochs=max_epochs, patience=patience)
    best, epochs = history["best_epoch"], len(history["val_acc"])
    print(
        f"{build.__name__}({', '.join(map(str, arguments))}): "
        f"validation accuracy {history['val_acc'][best]:.1%} at epoch {best}, "
        f"{epochs} epochs run, {time.perf_counter() - began:.0f} s"
    )
    return model, history


def best_accuracy(history) -> float:
    """Validation accuracy of the epoch that the model was set back to."""
    return history["val_acc"][history["best_epoch"]]


# %% [markdown]
# ### A. From scratch
#
# The baseline: the same network and the same training, without a single pretrained weight. Any gain that you claim
# for transfer is measured against this, so it gets the same care and the same budget.
#
# *Watch for:* does the validation loss still fall when the training ends? Then the budget stopped it, and not early
# stopping.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy from scratch, where guessing gives 20 %):*

# %% tags=["experiment"]
scratch_model, scratch_history = run(from_scratch)
plots.curves(scratch_history, title="net12 from scratch")

# %% [markdown]
# ### B. Transfer
#
# One thing changes: the weights that training starts from. All 12 layers are trainable.
#
# *Watch for:* the very first epoch, and how soon the two curves of training and validation part.

# %% [markdown] tags=["prediction"]
# *My prediction (how many points better than A; after how many epochs does it pass the final accuracy of A):*

# %% tags=["experiment"]
transfer_model, transfer_history = run(transfer, 12)
plots.curves(
    {"from scratch": scratch_history, "transfer, 12 of 12": transfer_history}, title="net12: random or pretrained"
)

# %% [markdown]
# <details><summary><b>Surprised that the validation accuracy starts out above the training accuracy?</b></summary>
#
# Two reasons, none of them a bug. Training figures are collected *while* the epoch trains, so their first batches
# come from a worse network than the one that is validated at the end. And training images are augmented, which makes
# them harder.
#
# </details>
#
# ### C. How many layers?
#
# The heart of the lab. For every `n_trainable` from 0 to 12, a new model is built and trained. With 0 nothing can be
# trained: the fresh head is only evaluated.
#
# Draw the curve of accuracy over `n_trainable` on paper, before you see it. At 1, the *linear probe*, the features of
# CIFAR-10 have to do as they are. At 2, you know from the list of layers how many parameters can learn.
#
# *Watch for:* the difference between neighbours. 500 validation images allow for an accuracy of, say, 70 % a standard
# error of $\sqrt{0.7 \cdot 0.3 / 500} \approx 2$ points (125 images, of a quick run: 4), and another order of the batches
# moves the result as well. The run with 12 repeats experiment B, with nothing changed but that order: what differs is
# chance. A step of one point between two values of one seed is not a finding.

# %% [markdown] tags=["prediction"]
# *My prediction (the accuracy at 0, 1, 2 and 12; where is the maximum):*

# %% tags=["experiment"]
sweep_histories, sweep_models, accuracies = {}, {}, {}

for n in N_TRAINABLE:
    for seed in SEEDS:
        if n == 0:
            torch.manual_seed(seed)
            with fast_math():
                accuracies.setdefault(n, []).append(evaluate(transfer(0).to(best_device()), val_loader)["accuracy"])
            continue
        sweep_models[n], sweep_histories[n] = run(transfer, n, seed=seed)
        accuracies.setdefault(n, []).append(best_accuracy(sweep_histories[n]))

plots.sweep(
    accuracies,
    baseline=[best_accuracy(scratch_history)],
    title=f"net12, validation accuracy, {len(SEEDS)} seed{'s' if len(SEEDS) > 1 else ''}, at most {MAX_EPOCHS} epochs",
)

# %% [markdown]
# <details><summary><b>What results should you get?</b></summary>
#
# Single values differ from machine to machine and from seed to seed, the shape should not: near 20 % at 0 (an
# untrained head guesses); a large step from 0 to 1, and another from 1 to 2; then a plateau, on which one seed cannot
# tell neighbours apart; and all of it, from some small number of layers on, above the baseline. If your value at 1 is
# near 20 %, your head does not learn. If the plateau is no higher than the baseline, the pretrained weights did not
# arrive.
#
# </details>
#
# ### D. Curves, overfitting and the generalisation gap
#
# The gap between training and validation accuracy says how much of what was learned holds for training images only.
# The cell takes it from the **last** epoch that was run, where it is largest, and compares with the epoch that early
# stopping went back to.

# %% [markdown] tags=["prediction"]
# *My prediction (with which `n_trainable` is the gap largest; does the largest gap come with the worst validation
# accuracy):*

# %% tags=["experiment"]
print("n_trainable   train acc   val acc    gap      val acc      val loss   val loss")
print("              last epoch  last epoch          best epoch   last       best")
for n, history in {**sweep_histories, "scratch": scratch_history}.items():
    best = history["best_epoch"]
    gap = history["train_acc"][-1] - history["val_acc"][-1]
    print(
        f"{n!s:>11}   {history['train_acc'][-1]:9.1%}  {history['val_acc'][-1]:9.1%}  {100 * gap:+5.1f}  "
        f"{history['val_acc'][best]:12.1%}  {history['val_loss'][-1]:11.3f}  {history['val_loss'][best]:9.3f}"
    )

shown = [n for n in (1, 4, 12) if n in sweep_histories]
plots.curves({f"{n} of 12 trainable": sweep_histories[n] for n in shown}, title="rigid, in between, free")

# %% [markdown]
# ### E. Very few images
#
# Four batches, 256 images, each seen in one and the same version in every epoch: there is no fresh augmentation,
# because a *list* of batches takes the place of the loader. And no early stopping: `patience` is as large as
# `max_epochs`.
#
# *Watch for:* the validation **loss** rises while the validation **accuracy** hardly falls. How can that be?

# %% [markdown] tags=["prediction"]
# *My prediction (how high does the training accuracy go, with and without pretrained weights; is the advantage of
# transfer larger or smaller than with 2,000 images):*

# %% tags=["experiment"]
few = (list(itertools.islice(train_loader, 4)), val_loader)

epochs = 10 if QUICK else 20
_, few_scratch = run(from_scratch, loaders=few, max_epochs=epochs, patience=epochs)
_, few_transfer = run(transfer, 12, loaders=few, max_epochs=epochs, patience=epochs)
plots.curves({"from scratch": few_scratch, "transfer, 12 of 12": few_transfer}, title="256 images, no early stopping")

# %% [markdown]
# <details><summary><b>How can it be?</b></summary>
#
# Accuracy counts only which class is first. Cross-entropy also asks how sure the network was: an image that it gets
# wrong costs more and more the surer the network becomes. An overfitted network is not much worse at choosing, it is
# overconfident. This is why the *loss* is what early stopping looks at.
#
# </details>
#
# ### F. What is confused with what
#
# An accuracy is one number; a confusion matrix has twenty-five. The model with the best validation accuracy of the
# sweep is taken. Mind that it was *chosen* by these images: what they say about it is a little too good.

# %% [markdown] tags=["prediction"]
# *My prediction (which two classes are confused most often):*

# %% tags=["experiment"]
best_n = max(sweep_histories, key=lambda n: best_accuracy(sweep_histories[n]))
with fast_math():
    probabilities, labels, _ = predict(sweep_models[best_n], val_loader)

print(f"n_trainable = {best_n}")
plots.confusion(labels, probabilities.argmax(1), CLASSES)

# %% [markdown]
# Now the mistakes themselves, those first of which the model was most certain. As said above, pictures show drawn
# reptiles: so the same three functions learn the drawings first. Nothing but the loaders changes, which is the point
# of functions. (For your own data: `predict(sweep_models[best_n], val_loader)`.)

# %% tags=["experiment"]
drawn_model, _ = run(transfer, 4, loaders=(drawn_train, drawn_val), max_epochs=min(MAX_EPOCHS, 8))
with fast_math():
    probabilities, labels, images = predict(drawn_model, drawn_val)

plots.mistakes(images, labels, probabilities, drawn_val.dataset.classes)

# %% [markdown]
# ### G. Any timm model
#
# Your functions know nothing of net12: they take any of timm's more than a thousand models, most of them pretrained
# on ImageNet, 1.3 million images of 1,000 classes. Such a model expects its own normalisation (mean and deviation of
# each channel), which timm knows. It also expects images of 224×224 pixels; a ResNet takes other sizes as well, and
# 64×64 spares your CPU.
#
# The weights are downloaded once. Where this is not possible, the cell says so, and you go on without it.
#
# ImageNet has many reptiles among its classes, CIFAR-10 has none (a frog is no reptile). But its images are larger.

# %% [markdown] tags=["prediction"]
# *My prediction (which pretraining wins on images of 32×32 pixels that are scaled up, and by how much):*

# %% tags=["experiment"]
try:
    resnet = load_backbone("resnet18")  # or another name of timm.list_models(pretrained=True)
except BackboneUnavailable as error:
    print(error)
else:
    expected = timm.data.resolve_model_data_config(resnet)
    print(f"resnet18: {len(layers_of(resnet))} layers, pretrained at {expected['input_size']}")
    imagenet_loaders = reptile_loaders(image_size=64, mean=expected["mean"], std=expected["std"], share=SHARE)

    def imagenet(name, n_trainable):
        return build_transfer_model(name, len(CLASSES), n_trainable)

    run(imagenet, "resnet18", 3, loaders=imagenet_loaders, max_epochs=2 if QUICK else 4)

# %% [markdown]
# ## For lab 4
#
# In lab 4, a small network learns from a large one. Your best model can be the large one: this cell keeps it. A head of
# several layers cannot be kept. The cell then says so, and lab 4 takes a model of the library.

# %% nbgrader={"grade": false, "grade_id": "keep_teacher", "locked": true, "schema_version": 3, "solution": false, "task": false} tags=["experiment"]
from amllab import keep

try:
    keep("reptile-teacher", sweep_models[best_n], data=train_loader.dataset.source)
except (ValueError, OSError) as error:
    print(f"Not kept: {error}")

# %% [markdown]
# <a id="reflection"></a>
# ## Reflection
#
# *10 points, read and graded by a person · 30 minutes · about five sentences for each question*
#
# Answer with **your** numbers: state them, and say which cell they come from. An answer that would fit any notebook
# earns no points. Results that contradict the earlier report are as welcome as those that agree, if you can say why.
#
# 1. **What did transfer give?** Compare your baseline with your best transfer model: in accuracy, and in epochs until
#    that accuracy was reached. Which of the two comparisons depends more on the budget (`MAX_EPOCHS`), and why? *(3
#    points)*
# 2. **How many layers?** Describe your sweep from 0 to 12: where does it rise, where is it flat? The earlier report
#    calls 2 of 12 "too rigid", and has 10 of 12 a little below its best. Do your numbers support this? Say how large a
#    difference would have to be before you believe it, with your number of validation images and of seeds. *(4 points)*
# 3. **Overfitting.** Point to where it shows in your curves. What did early stopping do about it, and what did it not
#    do? Your best model was chosen by its validation accuracy: is that accuracy an honest estimate for new images?
#    *(3 points)*

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **1. What did transfer give?**
#
# <!-- BEGIN SOLUTION -->
# *(Model answer; the numbers are those of the writer's own run, found in the outputs above.)* The baseline
# (experiment A) ends below the best transfer model (experiment C) by the distance between the band and the highest
# point of the sweep plot. Transfer also passes the baseline's final accuracy within its very first epochs. The
# comparison of accuracies depends more on the budget: the baseline's validation accuracy was still creeping up when
# training ended, so more epochs, or more patience, would narrow the distance, whereas transfer had its best epoch
# early and would not gain from a larger budget. The speed of transfer is there whatever the budget.
# <!-- END SOLUTION -->
#
# **2. How many layers?**
#
# <!-- BEGIN SOLUTION -->
# At 0 the accuracy is that of guessing, since the head is random. The linear probe makes the largest step: features
# of CIFAR-10 already separate the reptiles to a good part. A second trainable layer adds another clear step, because
# features specific to the old classes can now be bent to the new ones. From there on the curve is flat within its
# noise. The standard error of one accuracy is about 2 points with 500 images, and that of a difference of two
# somewhat less than $\sqrt 2$ times this, as both are measured on the same images; the seed comes on top. With one
# seed I would believe differences from 5 or 6 points on. So 0 → 1 → 2 is a finding, and "10 is better than 12" is
# not. That 2 of 12 is too rigid I can support only if my value at 2 lies below the plateau by more than that.
# <!-- END SOLUTION -->
#
# **3. Overfitting.**
#
# <!-- BEGIN SOLUTION -->
# In experiment D the training accuracy with 12 trainable layers is far above the validation accuracy in the last
# epoch, and the validation loss is above its minimum; in experiment E it is extreme. Early stopping went back to the
# minimum of the validation loss, so the overconfident last epochs are gone, and time was saved. It did not close the
# gap: at the best epoch training accuracy is above validation accuracy already. It only picks a point on the path;
# less capacity, more images or stronger augmentation would change the path. The validation accuracy is a little too
# good: best epoch and `n_trainable` were chosen by the same 500 images, a maximum over 13 noisy values. An honest
# estimate needs images that took no part in any choice: the test part.
#
# === BEGIN MARK SCHEME ===
#
# Award points for reasoning from the student's own numbers, whatever these numbers are. No number of their own in an
# answer: at most 1 point for that question.
#
# **Question 1 (3).** 1: both accuracies and epochs stated, in agreement with the outputs. 1: says whether the
# baseline was stopped by the budget or by early stopping. 1: concludes that the gain in accuracy depends on the
# budget more than the gain in speed (or argues soundly for the opposite from their curves).
#
# **Question 2 (4).** 1: describes rise and plateau with numbers, 0 and 1 explained (random head; linear probe). 1:
# judges "2 of 12 is too rigid" and "10 of 12" by their own values. 1: gives a size of difference to believe in,
# derived from the number of images (500: about 2 points standard error; 4 to 6 for a difference are all fine; 125, of a quick
# run: twice as much). 1: applies it, and does not over-interpret neighbours on the plateau.
#
# **Question 3 (3).** 1: points to a place (gap at the last epoch, or validation loss above its minimum) with numbers.
# 1: early stopping picks the best epoch but does not remove the cause or the gap. 1: selection makes the validation
# accuracy optimistic; names the test images (or a third split, or cross-validation) as the way out.
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
# - **A better start for the head.** CIFAR-10 knows frogs. Copy the frog's row of the old head into the row of the
#   lizard: does it help, and for how many epochs?
# - **One learning rate for all?** The last layers are new, the first ones are good already. Give the optimizer
#   parameter groups with learning rates that fall towards the input (`layers_of` gives you the groups). Then raise
#   the learning rate of full fine-tuning until it breaks. What breaks first?
# - **Which end to freeze?** You froze the first layers. Freeze the *last* ones instead and train the first. Predict,
#   then explain.
# - **Frozen, but adapting.** Let *only* the BatchNorm statistics follow the new data. Is that a cheap form of
#   transfer, or a way to lose one?
# - **Never compute the same thing twice.** With a frozen body, the features of an image are the same in every epoch,
#   if it were not for the augmentation. How much faster is a linear probe on stored features, and what does it lose?
# - **Do better ImageNet models transfer better?** Kornblith et al. (2019) say yes, mostly. Check with three timm
#   models of different accuracy.
#
# ## Sources
#
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson: *How transferable are features in deep neural networks?*
#   NeurIPS 2014.
# - L. Prechelt: *Early Stopping – But When?* In: Neural Networks: Tricks of the Trade, Springer 1998.
# - S. Ioffe, C. Szegedy: *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
#   Shift.* ICML 2015.
# - S. Kornblith, J. Shlens, Q. V. Le: *Do Better ImageNet Models Transfer Better?* CVPR 2019.
# - A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images.* Technical report, 2009 (CIFAR-10 and
#   CIFAR-100).
# - R. Wightman: *PyTorch Image Models* (timm),
#   [github.com/huggingface/pytorch-image-models](https://github.com/huggingface/pytorch-image-models).
