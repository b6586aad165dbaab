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
# # Lab 2: Self-supervised learning
#
# *Advanced Machine Learning*
#
# Lab 1 went well because people had looked at 50,000 pictures, and had written down for each of them what it shows:
# this is what `net12` was pretrained on. What if nobody had? Pictures are cheap, labels are not. In this lab a
# network learns from 4,000 pictures without a single label. You take two random views of every picture and teach
# the network which two belong together. Then you measure what its features are worth to someone who has one label a
# class, or five, or fifty. And you break it in three ways, each of which *lowers* the loss.
#
# **After this lab you can**
#
# - explain how a network learns from images without labels, and what each part of contrastive learning is there
#   for;
# - write the NT-Xent loss: exact, and finite at small temperatures;
# - pretrain an encoder with SimCLR;
# - judge an encoder by a linear probe that leaves it as it was, bit for bit;
# - name the shortcuts that a network takes if the views allow it, and say why the loss does not show them;
# - say from measurements how many labels pretraining saves, and when it saves none.
#
# | part | what you do | points | difficulty | minutes |
# |---|---|---|---|---|
# | [Exercise 1](#exercise-1) | `nt_xent_loss` | 25 | ●●○ | 30 |
# | [Exercise 2](#exercise-2) | `pretrain` | 25 | ●●○ | 30 |
# | [Exercise 3](#exercise-3) | `linear_probe` | 20 | ●●○ | 25 |
# | [Exercise 4](#exercise-4) | all together (nothing to write) | 20 | ●○○ | 5 |
# | [Experiments](#experiments) | predict, run, compare | | ●●○ | 45 |
# | [Reflection](#reflection) | interpret *your* numbers | 10 | ●●○ | 30 |
#
# **How to work.** Fill in the three cells that say `# YOUR CODE HERE`; names and arguments of the functions must
# stay. How you implement them is free: any optimizer, any helper function, in your own cells where you like. The
# locked cell below each exercise checks it at once, as often as you want. Grading runs the same checks with other
# inputs, and further ones of the same contract. The experiments run *your* functions. They are not graded and not
# run again by the grader, but your reflection builds on them: submit the notebook with their outputs.
#
# Nothing of lab 1 is needed but what you learned there. No GPU is needed either: the network is small, and
# everything stays on the CPU. From top to bottom, all experiments included, the notebook takes less than ten
# minutes on two CPU cores. On a slower machine, `QUICK = True` [below](#the-data) makes all experiments small.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import math
import time

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from amllab import (
    DataUnavailable,
    Epochs,
    RandomViews,
    check,
    cifar10_photographs,
    draw_species,
    evaluate,
    extract_features,
    keep,
    knn_accuracy,
    linear_evaluation,
    load_backbone,
    plots,
)

# %% [markdown]
# ## Learning without labels
#
# A label says which pictures show the same thing. One thing is known without any label: **two views of one picture
# show the same thing.** Crop a picture at random, mirror it, change its colours; whatever it shows, it still does.
# A network that recognises the two views of a picture among the views of many others has to describe what is *in*
# the picture, since everything else was changed. This is *contrastive learning*; here is its simplest form, SimCLR
# (Chen et al. 2020), in four steps:
#
# 1. **Augment.** Make two random views of every image of a batch.
# 2. **Encode.** The encoder, one and the same network for all views, turns each view into *features*.
# 3. **Project.** A small network on top, the *projector*, turns the features into an *embedding* `z`.
# 4. **Contrast.** Pull the embeddings of two views of one image together (a *positive* pair), push those of
#    different images apart (*negative* pairs).
#
# ```text
#              ┌─ augment ─▶ view 1 ─▶ encoder ─▶ features ─▶ projector ─▶ z1 ─┐
#    image ────┤                        same        same                      ├─ pull together
#              └─ augment ─▶ view 2 ─▶ encoder ─▶ features ─▶ projector ─▶ z2 ─┘
#    other images  ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ▶ z ──── push apart
#
#    afterwards:  image ─▶ encoder ─▶ features ─▶ linear probe, nearest neighbours, fine-tuning
# ```
#
# After training, the projector is thrown away, and the encoder's features are what you keep. Every step hides a
# decision that can go wrong, and wrong in a way that no error message tells. Pulling alone is easy: give *all*
# images the same embedding. Recognising a view is easy, too, if the two views share something that has nothing to
# do with what the picture shows. You will see both happen.

# %% [markdown]
# <a id="the-data"></a>
# ## The data
#
# Ten species of animals, drawn by the library: 400 images of each to learn from, 100 others of each to test on;
# 32×32 pixels. Species differ in the shape of body, legs, tail and head, and in the pattern and colours of their
# coat. Individuals differ in pose, size and place, light and background.
#
# The images are drawn, so their species are known. Still, **pretraining never sees a label.** Labels are used to
# *measure*, and in one experiment a few of them are given out, to see how far they go.
#
# **A slow machine?** Set `QUICK = True`: the experiments then take a quarter of the images, and fewer epochs and
# runs. Every plot says so in its title, and your numbers will be rougher. The questions stay the same, and so do
# the points.

# %% tags=["experiment"]
QUICK = False

plots.note("quick run: a quarter of the images, few epochs" if QUICK else "")
N_SPECIES, PER_SPECIES, BATCH = 10, 100 if QUICK else 400, 64 if QUICK else 128
train = draw_species(N_SPECIES, PER_SPECIES, seed=2)
test = draw_species(N_SPECIES, 100, seed=2, individuals=1)  # the same species, other individuals
species = (train, test)

print(f"training: {len(train)} images {tuple(train.images.shape[1:])} {train.images.dtype}; testing: {len(test)}")
plots.gallery(train.images, train.labels, train.classes, n=12)

# %% [markdown]
# *Look at the rows before you go on:* by what would you tell two species apart: shape, pattern, colour? Which two
# are hardest? What changes within a row, and should not matter?
#
# ## Two views
#
# `RandomViews()` makes one random view of every image of a batch: a **crop** of 30 to 100 % of the area, scaled to
# the old size; a **flip** for half of the images; a **distortion of colours** (brightness, contrast, saturation,
# hue); and **grey** for one image in five. It takes the images as they are stored and returns them normalised,
# ready for a network. Each can be switched off: `RandomViews(crop=None, flip=0, colour=0, grey=0)` only normalises.

# %% tags=["experiment"]
AUGMENT = RandomViews()
NO_COLOUR = RandomViews(colour=0, grey=0)  # crop and flip only
PLAIN = RandomViews(crop=None, flip=0, colour=0, grey=0)  # only normalised

torch.manual_seed(0)
shown = train.images[::PER_SPECIES]  # one image of each species
plots.views(
    {
        "image": shown,
        "view 1": AUGMENT(shown),
        "view 2": AUGMENT(shown),
        "view 1, no colour": NO_COLOUR(shown),
        "view 2, no colour": NO_COLOUR(shown),
    },
    n=len(shown),
)

# %% [markdown]
# Two questions, to be asked of *any* augmentation, on any data:
#
# 1. **Does it keep what matters?** Cover the first row. Can you still tell the species from a single view? Where
#    you cannot, the network is asked to match two pictures that do not show the same thing any more.
# 2. **Does it take away what does not matter?** Look at the last two rows. By what could you match them, without
#    knowing a thing about animals?
#
# ## Before training
#
# The encoder is `net5`, a small network that a CPU trains in seconds. It has no classifier: its output is 96
# features. The projector is a network of two layers.

# %%
encoder = timm.create_model("net5", num_classes=0)
projector = nn.Sequential(nn.Linear(96, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))

views = torch.randn(8, 3, 32, 32)
print("views     ", tuple(views.shape))
print("features  ", tuple(encoder(views).shape), " <- what you keep")
print("embeddings", tuple(projector(encoder(views)).shape), " <- what the loss sees")
print(
    f"parameters {sum(p.numel() for p in encoder.parameters()):,} and {sum(p.numel() for p in projector.parameters()):,}"
)

# %% [markdown]
# All that the loss will see are **cosine similarities** of embeddings: 1 for the same direction, 0 for a right
# angle, −1 for opposite directions. The next cell makes two views of 200 images, and compares each view 1 with each
# view 2: 200 positive pairs, and 39,800 negative ones. It does so twice, with all augmentations and with crop and
# flip only.
#
# The weights are random. Only the running means and variances of BatchNorm are set: they are 0 and 1 in a new
# network, which fits no layer. So the network looks at the images once, in train mode, without loss or gradient;
# you know from lab 1 that no more is needed. It makes the untrained network a fair baseline for all that follows.

# %% [markdown] tags=["prediction"]
# *My prediction (where do the histograms lie, before any training: near 0, near 1; in which of the two plots do
# positives and negatives overlap more):*


# %% tags=["experiment"]
def unlabelled(images: Tensor, batch_size: int = BATCH) -> DataLoader:
    """Batches of images in random order. All labels are 0: nothing can be learned from them."""
    return DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size, shuffle=True)


def new_networks(images: Tensor) -> tuple[nn.Module, nn.Module]:
    """An encoder and a projector with random weights, whose BatchNorm has seen the images once."""
    encoder = timm.create_model("net5", num_classes=0).to(memory_format=torch.channels_last)
    projector = nn.Sequential(nn.Linear(96, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    with torch.no_grad():
        for batch, _ in unlabelled(images, batch_size=len(images) // 32):
            projector(encoder(AUGMENT(batch)))
    return encoder, projector


def pair_similarities(encoder, projector, augment=AUGMENT) -> tuple[Tensor, Tensor]:
    """Cosine similarities of two views of one image, and of views of different images."""
    torch.manual_seed(0)
    images = test.images[torch.randperm(len(test))[:200]]
    model = nn.Sequential(encoder, projector)
    z1, z2 = (F.normalize(extract_features(model, augment(images)), dim=1) for _ in range(2))
    similarity = z1 @ z2.T
    same_image = torch.eye(len(images), dtype=torch.bool)
    return similarity[same_image], similarity[~same_image]


torch.manual_seed(0)
untrained_encoder, untrained_projector = new_networks(train.images)
before = pair_similarities(untrained_encoder, untrained_projector)
plots.similarities(
    {
        "untrained, all augmentations": before,
        "untrained, crop and flip only": pair_similarities(untrained_encoder, untrained_projector, NO_COLOUR),
    }
)

# %% [markdown]
# On the left, two views of one image are hardly more similar than views of two different images. Training has to
# pull the two histograms apart. What measures how far apart they are? (On the right, positive pairs stand out
# already, and nothing has been learned. Experiment D comes back to this.)
#
# <a id="exercise-1"></a>
# ## Exercise 1: the contrastive loss
#
# *25 points · difficulty ●●○ · 30 minutes*
#
# **A question with $2n - 1$ answers.** A batch of $n$ images gives $2n$ embeddings. Take one of them, the *anchor*.
# Of the $2n - 1$ others, exactly one comes from the same image. Which? This is classification, with the
# similarities to the others as logits, so the loss is a cross-entropy. With the cosine similarity $s_{ik}$ of
# embeddings $i$ and $k$, the *temperature* $\tau$, and $p(i)$ for the other view of the same image:
#
# $$\ell_i = -\log \frac{\exp(s_{i\,p(i)} / \tau)}{\sum_{k \neq i} \exp(s_{ik} / \tau)}
# \qquad\qquad \text{loss} = \frac{1}{2n} \sum_{i=1}^{2n} \ell_i$$
#
# It is called *NT-Xent*: normalised, temperature-scaled cross-entropy. For $n = 3$, with a row for each anchor:
#
# ```text
#            z1[0]  z1[1]  z1[2]  z2[0]  z2[1]  z2[2]
#    z1[0]     –      ·      ·      ✓      ·      ·        ✓  the positive: the right answer
#    z1[1]     ·      –      ·      ·      ✓      ·        ·  a negative
#    z1[2]     ·      ·      –      ·      ·      ✓        –  the anchor itself: no answer at all
#    z2[0]     ✓      ·      ·      –      ·      ·
#    z2[1]     ·      ✓      ·      ·      –      ·
#    z2[2]     ·      ·      ✓      ·      ·      –
# ```
#
# **Two things to get right, and no accuracy that would tell you.** An anchor is more similar to itself than to
# anything else. If it stays among the answers, training still works, and the features are about as good; but the
# loss is another one, and no number can be compared with anybody else's. And the exponentials grow: a cosine of 1
# at a temperature of 0.01 is a logit of 100. The next cell computes the same two log-probabilities twice. *Guess
# before you run:* do they agree?

# %%
logits = torch.tensor([1.0, 0.9]) / 0.01
print("exp, sum, log:", (logits.exp() / logits.exp().sum()).log())
print("log_softmax:  ", logits.log_softmax(0))

# %% [markdown]
# float32 ends near $e^{88}$. `log_softmax`, `logsumexp` and `cross_entropy` subtract the largest logit first.
#
# **Your task.**
#
# ```python
# nt_xent_loss(z1, z2, temperature=0.5)
# ```
#
# | argument or result | contract |
# |---|---|
# | `z1`, `z2` | embeddings, float `(n, d)`; row `i` of both comes from the same image. They are not changed |
# | `temperature` | a number above 0 by which all similarities are divided |
# | returns | the loss, a tensor with one value: the mean of the $2n$ cross-entropies. Each anchor tells its other view from the $2n - 2$ views of other images; itself is left out |
# | similarity | the cosine: how long a row is does not matter |
# | gradients | reach both `z1` and `z2` |
# | numerics | finite in float32 down to a temperature of 0.01 |
# | errors | `ValueError` if the shapes differ or are not 2-dimensional, for `n < 2`, and for `temperature <= 0` |
#
# **Examples,** to be checked with pencil and paper:
#
# | call | what is similar | loss |
# |---|---|---|
# | `nt_xent_loss(torch.ones(4, 8), torch.ones(4, 8))` | all the same: a guess among 7 | $\log 7 \approx 1.946$ |
# | `nt_xent_loss(torch.eye(2), torch.eye(2))` | the positive 1, two negatives 0 | $\log(1 + 2 e^{-2}) \approx 0.2395$ |
#
# <details><summary><b>Hint 1</b>: one matrix for everything</summary>
#
# Put all $2n$ rows below each other (`torch.cat`), bring each to length 1 (`F.normalize`; along which dimension?).
# One matrix product then gives all similarities, `(2n, 2n)`.
#
# </details>
#
# <details><summary><b>Hint 2</b>: where is the right answer?</summary>
#
# With `z1` above `z2`, the other view of row `i` is `n` rows further down, or up. Write the $2n$ right answers down
# for $n = 3$, from the picture above. `torch.arange` and one more call make them.
#
# </details>
#
# <details><summary><b>Hint 3</b>: leaving the anchor out</summary>
#
# A logit of 0 is not "no answer": $e^0 = 1$ stays in the sum. Which logit has a probability of exactly 0?
# `masked_fill` gives a changed copy of a matrix.
#
# </details>
#
# <details><summary><b>Hint 4</b>: the first example does not come out</summary>
#
# $\log 8$: the anchor is among the answers. $2 \log 7$ or $8 \log 7$: a sum in place of a mean. $\log 4$: view 1 is
# only compared with view 2, but the other rows of `z1` are answers, too.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "nt_xent_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nt_xent_loss(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Returns the mean contrastive loss of embeddings ``(n, d)``, of which row i of both is from the same image.

    Raises ValueError if the shapes differ or are not (n, d) with n >= 2, and unless temperature > 0.
    """
    ### BEGIN SOLUTION
    if z1.ndim != 2 or z1.shape != z2.shape or len(z1) < 2:
        raise ValueError(f"z1 and z2 must both be (n, d) with n >= 2; got {tuple(z1.shape)} and {tuple(z2.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    anchors = torch.arange(len(z), device=z.device)
    logits = (z @ z.T / temperature).masked_fill(anchors[:, None] == anchors, -math.inf)  # never an answer itself
    return F.cross_entropy(logits, anchors.roll(len(z1)))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_nt_xent_loss", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
check("nt_xent_loss")

# %% [markdown]
# **Where does training start?** An encoder that has no idea guesses among $2n - 1$ answers, which costs
# $\log(2n-1)$. *Before you run:* how far from that is the untrained encoder? And what does the table say about
# comparing losses of batches of different size?

# %% tags=["experiment"]
torch.manual_seed(0)
model = nn.Sequential(untrained_encoder, untrained_projector)
print("   n   guessing   untrained encoder")
for n in (2, 8, 32, 128):
    images = train.images[torch.randperm(len(train))[:n]]
    z1, z2 = (extract_features(model, AUGMENT(images)) for _ in range(2))
    print(f"{n:4d}   {math.log(2 * n - 1):8.3f}   {nt_xent_loss(z1, z2):17.3f}")

# %% [markdown]
# <a id="exercise-2"></a>
# ## Exercise 2: pretraining
#
# *25 points · difficulty ●●○ · 30 minutes*
#
# The loop is one that you know: views, loss, gradient, step. What is new is where the "label" comes from: each
# image is its own class for one batch, and only its *two views* make a question out of it. So almost everything
# that can go wrong here goes wrong with the views:
#
# - the two views must be **two draws**. The same view twice has a similarity of 1 whatever the encoder does;
# - both must be drawn from **the same images in the same order**: row `i` with row `i`;
# - both must be drawn **from the batch itself**, new ones in every epoch: a view of a view is cropped twice, and a
#   view that is drawn once and stored becomes a picture like any other.
#
# **How hard is the question?** As you have just seen, that depends on the batch. 4,000 images in batches of 128
# make 31 full batches and one of 32, and the last one has fewer wrong answers to choose from. It counts by its
# images, and not as much as a full one. A batch of a single image has no negative at all and is left out. And there
# is a second reason to leave it out:

# %%
try:
    projector.train()(encoder(torch.randn(1, 3, 32, 32)))
except ValueError as error:
    print("a batch of one image:", error)

# %% [markdown]
# BatchNorm in train mode cannot estimate a variance from one value.
#
# **Your task.**
#
# ```python
# pretrain(encoder, projector, loader, augment, *, epochs=10, lr=1e-3, temperature=0.5)
# ```
#
# | argument or result | contract |
# |---|---|
# | `encoder` | any module from views to features `(batch, d)` |
# | `projector` | any module from features to embeddings |
# | `loader` | anything that can be iterated again and again over batches `(images, labels)`: a `DataLoader`, a list. Batches may differ in size. **The labels are never looked at** |
# | `augment` | a function from a batch of images to one view of each; every call draws new views |
# | each batch | two views of every image, both drawn from the batch itself; `nt_xent_loss` of their embeddings at this `temperature`; one step of an optimizer for **encoder and projector together** |
# | each epoch | is one pass over the loader; encoder and projector are in train mode. Every image counts, those of the last, smaller batch too; only a batch of one image is left out |
# | afterwards | encoder and projector are trained, in place |
# | returns | a dict: `"loss"`, a list with one `float` for each epoch: the mean over **images** of what the batches gave while the epoch trained on them. More keys are welcome |
# | your choice | optimizer, schedule, weight decay, clipping; whether the two views pass through the network one after the other or as one batch of twice the size |
# | errors | `ValueError` for `epochs < 1` |
#
# **A live view.** As in lab 1, `Epochs` shows epochs, batches, time left and your figures. Use it in place of
# `range`, or not at all:
#
# ```python
# for epoch in (progress := Epochs(epochs)):
#     for images, _ in progress.batches(loader):
#         ...
#         progress.show(loss=...)      # while the epoch runs
#     progress.log(loss=...)           # at its end
# ```
#
# <details><summary><b>Hint 1</b>: the optimizer</summary>
#
# It takes one list of parameters. Those of the encoder *and* of the projector have to be in it: `[*a, *b]`.
#
# </details>
#
# <details><summary><b>Hint 2</b>: means over images</summary>
#
# As in lab 1: add up `loss.item() * number of images`, and divide by the number of images that took part.
#
# </details>
#
# <details><summary><b>Hint 3</b>: the loss does not fall</summary>
#
# In this order: is it your `nt_xent_loss` that is called, with the *embeddings*, and not with the features? Does
# the `temperature` arrive there? Are old gradients cleared, and is there a step? Do the rows of the two views
# belong together?
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "pretrain", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pretrain(
    encoder: nn.Module,
    projector: nn.Module,
    loader,
    augment,
    *,
    epochs: int = 10,
    lr: float = 1e-3,
    temperature: float = 0.5,
) -> dict:
    """Trains ``encoder`` and ``projector`` together, in place, to recognise two views of an image; needs no labels.

    Returns {"loss"}: a list with one float per epoch, the mean over images. Raises ValueError for epochs < 1.
    """
    ### BEGIN SOLUTION
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1; got {epochs}")
    optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=lr)
    encoder.train()
    projector.train()
    history = {"loss": []}
    for _ in (progress := Epochs(epochs)):
        loss_sum, seen = 0.0, 0
        for images, _ in progress.batches(loader):
            if len(images) < 2:
                continue  # nothing to tell it from
            views = torch.cat([augment(images), augment(images)])  # one batch: BatchNorm sees both views alike
            z1, z2 = projector(encoder(views)).chunk(2)
            loss = nt_xent_loss(z1, z2, temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(images)
            seen += len(images)
            progress.show(loss=loss_sum / seen)
        history["loss"].append(loss_sum / seen)
        progress.log(loss=history["loss"][-1])
    return history
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_pretrain", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
check("pretrain")

# %% [markdown]
# <a id="exercise-3"></a>
# ## Exercise 3: the linear probe
#
# *20 points · difficulty ●●○ · 25 minutes*
#
# Are the features good? The loss cannot say: it knows no classes. So one takes a few labels and the simplest
# classifier there is, a single linear layer, and trains it on the features **as they are**. If classes lie apart in
# them, a line is enough. You know this *linear probe* from lab 1, where it was `n_trainable = 1`.
#
# A probe is a measurement, and a measurement must not change what it measures. You know from lab 1 what changes a
# network although nobody trains it: BatchNorm in train mode. Eval mode avoids this. But then the encoder comes back
# in another mode than it was in, and the obvious way back has a trap of its own. *Guess before you run:* which
# modes are printed in the last line?

# %%
toy = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
toy[1].eval()  # someone has frozen this BatchNorm, as in lab 1
print("before:", [module.training for module in toy])
toy.eval()  # measure here
toy.train()
print("after: ", [module.training for module in toy])

# %% [markdown]
# `train()` and `eval()` set the mode of *every* module inside. A mode that only one of them had is lost.
#
# **Your task.**
#
# ```python
# linear_probe(encoder, loader, num_classes, *, epochs=50, lr=1e-2)
# ```
#
# | argument or result | contract |
# |---|---|
# | `encoder` | any module from images to features `(batch, d)`. The projector is not asked |
# | `loader` | anything that can be iterated again and again over batches `(images, labels)`; images are ready for the encoder. Batches may differ in size, and there may be a single one |
# | `num_classes` | outputs of the layer |
# | returns | `nn.Linear(d, num_classes)`, trained with cross-entropy on the features and labels of **every** image |
# | features | computed in eval mode, without gradients |
# | afterwards | the encoder is as it was, bit for bit: parameters and buffers, the mode (train or eval) of **each** of its modules, every `requires_grad`; no parameter has a `.grad` that it did not have before |
# | your choice | optimizer, schedule, batches; whether features are computed in every epoch or once |
# | errors | `ValueError` for `num_classes < 2` |
#
# **Once is enough.** The encoder is frozen, and the images of a probe are not augmented: their features are the
# same in every epoch. This was one of lab 1's open questions. *How many times faster is a probe of 50 epochs that
# computes them once?*
#
# <details><summary><b>Hint 1</b>: modes</summary>
#
# `encoder.modules()` gives the encoder itself and all modules inside, and `module.training` is an ordinary
# attribute: it can be read, and set.
#
# </details>
#
# <details><summary><b>Hint 2</b>: no gradient reaches the encoder</summary>
#
# Features that were computed within `torch.no_grad()` have no history: a loss on them cannot change the encoder.
# There is no need to touch `requires_grad`, and what you do not touch you need not restore. The layer itself does
# need gradients: train it *outside* of that block.
#
# </details>
#
# <details><summary><b>Hint 3</b>: logits, not probabilities</summary>
#
# `F.cross_entropy` takes what the linear layer returns. With a softmax in between, the layer hardly learns.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "linear_probe", "locked": false, "schema_version": 3, "solution": true, "task": false}
def linear_probe(encoder: nn.Module, loader, num_classes: int, *, epochs: int = 50, lr: float = 1e-2) -> nn.Linear:
    """Returns a linear layer from the encoder's features to ``num_classes`` logits; the encoder stays as it was.

    Raises ValueError for num_classes < 2.
    """
    ### BEGIN SOLUTION
    if num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes; got num_classes={num_classes}")
    was_training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    with torch.no_grad():  # once: a frozen encoder gives the same features in every epoch
        features, labels = (torch.cat(parts) for parts in zip(*((encoder(x), y) for x, y in loader), strict=True))
    for module, mode in was_training.items():
        module.training = mode  # and not module.train(mode), which would also set the modules inside

    probe = nn.Linear(features.shape[1], num_classes, device=features.device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=lr)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), device=labels.device).split(64):
            loss = F.cross_entropy(probe(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return probe
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_linear_probe", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("linear_probe")

# %% [markdown]
# <a id="exercise-4"></a>
# ## Exercise 4: all together
#
# *20 points · difficulty ●○○ · 5 minutes*
#
# Nothing to write. The check pretrains a small encoder with your `pretrain` and your `nt_xent_loss` on drawn
# species, for a few epochs, and measures its features on images that your code has never seen. What counts is how
# much better they are than those of the *same network before training*. If the check fails while the exercises
# before it pass, look at what only a real training shows: is the learning rate `lr` used? Are the two views two
# draws? Are encoder *and* projector trained?

# %% nbgrader={"grade": true, "grade_id": "check_accuracy", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("accuracy")

# %% [markdown]
# <a id="experiments"></a>
# ## Experiments
#
# All trainings without labels go through one function, `run`, and differ in one argument. Write down your
# prediction *before* each run, in the cell that asks for it. A prediction that turns out wrong teaches more than
# one that was never made.
#
# | | experiment | about |
# |---|---|---|
# | A | pretraining without a label | ½ min |
# | B | how many labels does it save? | 1½ min |
# | C | nearest neighbours | |
# | D | the colour shortcut | ½ min |
# | E | the lowest loss of all | ¼ min |
# | F | collapse | ¼ min |
# | G | temperature | ½ min |
# | H | encoder or projector? | |
# | I | cropping, drawings and photographs | 1 min |
# | J | a long run | ¼ min |
#
# **How the features are measured.** `knn_accuracy` lets the 10 nearest training images vote on the species of each
# test image (Wu et al. 2018). Nothing is trained for it, so it can be asked after every epoch. It uses the labels
# of *all* training images, for measuring alone. A wrapper around the loader calls it: the line after `yield from`
# runs when your `pretrain` asks for another batch and there is none left, at the end of each epoch. Your function
# does not notice.

# %% tags=["experiment"]
EPOCHS, SHORT = (10, 5) if QUICK else (12, 6)  # of the main run, and of those that are compared with each other


def knn(model: nn.Module, data=species) -> float:
    """Accuracy of the nearest neighbours of the test images among the training images."""
    features = [(extract_features(model, part.images), part.labels) for part in data]
    return knn_accuracy(*features[0], *features[1])


class Measured:
    """A loader that measures an encoder's features at the start, and after each pass over its batches."""

    def __init__(self, loader, encoder, data):
        self.loader, self.encoder, self.data = loader, encoder, data
        self.knn = [knn(encoder, data)]

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        yield from self.loader
        self.knn.append(knn(self.encoder, self.data))


def run(name, augment=AUGMENT, *, data=species, epochs=SHORT, temperature=0.5, seed=0):
    """Pretrains new networks with your function; returns encoder, projector, and losses with kNN accuracies."""
    torch.manual_seed(seed)
    encoder, projector = new_networks(data[0].images)
    loader = Measured(unlabelled(data[0].images), encoder, data)
    began = time.perf_counter()
    history = pretrain(encoder, projector, loader, augment, epochs=epochs, temperature=temperature)
    history["knn"] = loader.knn
    print(
        f"{name}: {epochs} epochs, last loss {history['loss'][-1]:.2f}, kNN accuracy {loader.knn[0]:.1%} before and "
        f"{loader.knn[-1]:.1%} after, {time.perf_counter() - began:.0f} s"
    )
    return encoder, projector, history


# %% [markdown]
# ### A. Pretraining without a label
#
# 4,000 images in batches of 128. The line in the left plot is what guessing costs, $\log 255 \approx 5.54$.
#
# *Watch for:* do loss and accuracy get better in the same epochs?

# %% [markdown] tags=["prediction"]
# *My prediction (loss at the end; kNN accuracy before and after, where guessing gives 10 %):*

# %% tags=["experiment"]
main_encoder, main_projector, main_history = run("main run", epochs=EPOCHS)
plots.pretraining({"main run": main_history}, baseline=math.log(2 * BATCH - 1), title="SimCLR without a label")

# %% [markdown]
# What has become of the histograms?

# %% tags=["experiment"]
plots.similarities({"untrained": before, "pretrained": pair_similarities(main_encoder, main_projector)})

# %% [markdown]
# *To think about:* some negative pairs are very similar, and training has not pushed them apart. A batch holds 128
# images of ten species, so about one negative in ten shows *the same species* as its anchor. What would it mean for
# the features if the loss could reach 0?
#
# ### B. How many labels does it save?
#
# This is the question that all of it is for. Someone gives you 1, 2, 5, 15 or 50 labels a species. What do you do with them?
#
# | | encoder starts | what is trained with the labels |
# |---|---|---|
# | random, probe | untrained | your `linear_probe` |
# | pretrained, probe | pretrained without labels | your `linear_probe` |
# | from scratch | untrained | everything, on images augmented as in lab 1: shifted, flipped, slightly recoloured |
# | scratch, strong views | untrained | everything, on the views of `RandomViews()` |
# | fine-tuned | pretrained without labels | everything, augmented as in lab 1; the layer starts as that of the probe |
#
# The fourth row is there to be fair. Pretraining was told something that a small labelled set does not contain:
# which changes of a picture do not matter. Training from scratch can be told the same.
#
# *Watch for:* which curves cross, and where? The bars are standard deviations over draws of the labels: with one
# label a species, much depends on which image it is.

# %% [markdown] tags=["prediction"]
# *My prediction (which of the five is best with 1 label, which with 50; where do the best two cross):*

# %% tags=["experiment"]
LABELS, DRAWS, STEPS = ((1, 5, 50), 1, 60) if QUICK else ((1, 2, 5, 15, 50), 3, 200)
MILD = RandomViews(crop=(0.6, 1.0), colour=0.3, grey=0)
test_batches = [(PLAIN(test.images), test.labels)]


def few_labels(per_species: int, draw: int) -> tuple[Tensor, Tensor]:
    """Training images with labels, chosen at random, equally many of each species."""
    chosen = torch.randperm(PER_SPECIES, generator=torch.Generator().manual_seed(draw))[:per_species]
    return tuple(t.unflatten(0, (N_SPECIES, -1))[:, chosen].flatten(0, 1) for t in (train.images, train.labels))


def probed(encoder, images, labels) -> nn.Module:
    """The frozen encoder with the layer that your function trains on a few labelled images."""
    loader = DataLoader(TensorDataset(PLAIN(images), labels), batch_size=64)
    return nn.Sequential(encoder, linear_probe(encoder, loader, N_SPECIES))


def fine_tuned(model, images, labels, augment) -> nn.Module:
    """A copy of a model, trained on a few labelled images with the same number of steps for any number of images."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randperm(len(labels))[:32]
        loss = F.cross_entropy(model(augment(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def new_model() -> nn.Module:
    """The untrained encoder with a new linear layer."""
    return nn.Sequential(untrained_encoder, nn.Linear(96, N_SPECIES))


WAYS = {
    "random, probe": lambda x, y: probed(untrained_encoder, x, y),
    "pretrained, probe": lambda x, y: probed(main_encoder, x, y),
    "from scratch": lambda x, y: fine_tuned(new_model(), x, y, MILD),
    "scratch, strong views": lambda x, y: fine_tuned(new_model(), x, y, AUGMENT),
    "fine-tuned": lambda x, y: fine_tuned(probed(main_encoder, x, y), x, y, MILD),
}


def label_curve(way) -> dict[int, list[float]]:
    """Test accuracies of a way to use labels, by their number, one for each draw."""
    accuracies = {n: [] for n in LABELS}
    for n in LABELS:
        for draw in range(DRAWS):
            torch.manual_seed(draw)
            accuracies[n].append(evaluate(way(*few_labels(n, draw)), test_batches)["accuracy"])
    return accuracies


curves = {name: label_curve(way) for name, way in WAYS.items()}

print(f"{'test accuracy with ... labels a species':40s}" + "".join(f"{n:>8}" for n in LABELS))
for name, curve in curves.items():
    print(f"{name:40s}" + "".join(f"{sum(values) / DRAWS:8.1%}" for values in curve.values()))
plots.label_efficiency(curves, title=f"10 species, {DRAWS} draws of the labels, {len(test)} test images")

# %% [markdown]
# <details><summary><b>What results should you get?</b></summary>
#
# On the left, with one label: what starts from the pretrained encoder is above what does not, and training from
# scratch with weak augmentation is little better than guessing. On the right, with 50 labels: what trains the
# *whole* network is clearly above both probes, and where it started hardly matters. So the curves cross, and where
# they cross depends on how long was pretrained, and on how well the training from scratch is done. If your
# pretrained probe is no better than the random one, look at experiment A first. (A quick run trains too briefly for
# the right half of this.)
#
# </details>
#
# *To think about:* how much of the advantage is left when training from scratch gets the strong views? Pretraining
# put knowledge into the encoder. Did it come from the 4,000 images, or from the person who chose the views?
#
# ### C. Nearest neighbours
#
# Ten test images, one of each species, and their five nearest training images: in the features of the untrained
# encoder, and in those of the pretrained one. A frame says whether the species is the same. No label was used to
# find them.

# %% [markdown] tags=["prediction"]
# *My prediction (what the neighbours in the features of the untrained encoder have in common):*


# %% tags=["experiment"]
def nearest(encoder, images: Tensor, k: int = 5) -> Tensor:
    """Indices ``(images, k)`` of the training images with the most similar features."""
    known, asked = (extract_features(encoder, x) for x in (train.images, images))
    known, asked = (F.normalize(x - known.mean(0), dim=1) for x in (known, asked))
    return (asked @ known.T).topk(k).indices


one_each = torch.arange(0, len(test), len(test) // N_SPECIES)
found = {
    name: nearest(encoder, test.images[one_each])
    for name, encoder in {"untrained": untrained_encoder, "pretrained": main_encoder}.items()
}
plots.neighbours(
    test.images[one_each],
    {name: train.images[index] for name, index in found.items()},
    {name: train.labels[index] == test.labels[one_each][:, None] for name, index in found.items()},
    title="Nearest neighbours",
)

# %% [markdown]
# *To think about:* look at the wrong neighbours of the pretrained encoder. Would you have made the same mistake?
# What do they share with the image: body, coat, or still the background?
#
# ### D. The colour shortcut
#
# Why distort colours at all? Animals have colours, and they help to tell species apart. The answer lies in what the
# network is asked. Take two crops of one image: the background is the same, the light is the same. Six numbers may
# be enough to match them, the mean and the spread of red, green and blue. No animal is needed. Count how often they
# are enough:

# %% [markdown] tags=["prediction"]
# *My prediction (share of 128 views whose partner these six numbers find among 128 candidates; guessing finds
# one):*


# %% tags=["experiment"]
def partner_found(augment, images: Tensor) -> float:
    """Share of views whose nearest other view, by mean and spread of its colours, is one of the same image."""
    first, second = (torch.cat([v.mean((2, 3)), v.std((2, 3))], dim=1) for v in (augment(images), augment(images)))
    return (torch.cdist(first, second).argmin(1) == torch.arange(len(images))).float().mean().item()


torch.manual_seed(0)
images = train.images[torch.randperm(len(train))[:128]]
print(f"crop, flip and colour distortion: {partner_found(AUGMENT, images):.0%}")
print(f"crop and flip only:               {partner_found(NO_COLOUR, images):.0%}")

# %% [markdown]
# Now train both. One argument differs.

# %% [markdown] tags=["prediction"]
# *My prediction (without colour distortion: is the loss higher or lower, and are the features better or worse):*

# %% tags=["experiment"]
full_encoder, full_projector, full_history = run("crop, flip, colour")
shortcut_encoder, shortcut_projector, shortcut_history = run("crop and flip only", NO_COLOUR)
plots.pretraining(
    {"crop, flip, colour": full_history, "crop and flip only": shortcut_history},
    baseline=math.log(2 * BATCH - 1),
    title="With and without colour distortion",
)

# %% [markdown]
# *To think about:* the training without colour distortion solves *its* task better. What has it learned, and why
# does that not help to tell species apart? Is colour a bad feature, or one that was found too easily?
#
# ### E. The lowest loss of all
#
# One step further: both views are the image itself, only normalised. The positive similarity is 1 from the start,
# whatever the encoder does, and all that is left to do is to push images apart.

# %% [markdown] tags=["prediction"]
# *My prediction (order of the three runs by loss; order by kNN accuracy):*

# %% tags=["experiment"]
_, _, same_history = run("both views the same", PLAIN)

results = {
    "crop, flip, colour": full_history,
    "crop and flip only": shortcut_history,
    "both views the same": same_history,
}
plots.ablation(
    {name: (history["loss"][-1], history["knn"][-1]) for name, history in results.items()},
    baseline=full_history["knn"][0],
    title="The lower the loss, the better the features?",
)

# %% [markdown]
# *To think about:* these losses are answers to different questions, and an easy question has a low loss. Within one
# run the loss still says something: what? You have no labels. How would you notice that your views are too easy?
#
# ### F. Collapse
#
# Why push at all, if one only wants positive pairs to be similar? Leave the negatives out and see. The loss below
# is the distance of the two views, $1 - \cos$, and nothing else. Your `pretrain` calls `nt_xent_loss` by its name,
# so for this one training, the name refers to another function. (If your `pretrain` computes the loss itself, there
# is no collapse.)

# %% [markdown] tags=["prediction"]
# *My prediction (the loss after three epochs; what the embeddings of two different images have in common):*


# %% tags=["experiment"]
def alignment_loss(z1: Tensor, z2: Tensor, temperature: float = 0.5) -> Tensor:
    """Pulls the two views of an image together; nothing pushes."""
    return 1 - F.cosine_similarity(z1, z2).mean()


contrastive_loss, nt_xent_loss = nt_xent_loss, alignment_loss
try:
    collapsed_encoder, collapsed_projector, _ = run("no negatives", epochs=min(SHORT, 3))
finally:
    nt_xent_loss = contrastive_loss

plots.similarities(
    {
        "contrastive": pair_similarities(full_encoder, full_projector),
        "no negatives": pair_similarities(collapsed_encoder, collapsed_projector),
    }
)

# %% [markdown]
# A perfect loss, and all images have the same embedding. This can be seen *without labels*: in a good
# representation images differ, and they differ in many directions. Two measures, of embeddings of length 1: their
# standard deviation, scaled so that 1 is an even spread over the sphere and 0 is collapse; and their singular
# values, the spread along each direction. *Before you run:* would they have warned you of the colour shortcut, too?

# %% tags=["experiment"]
pairs = {
    "contrastive": (full_encoder, full_projector),
    "no negatives": (collapsed_encoder, collapsed_projector),
    "crop and flip only": (shortcut_encoder, shortcut_projector),
    "untrained": (untrained_encoder, untrained_projector),
}
embeddings = {name: extract_features(nn.Sequential(*pair), test.images) for name, pair in pairs.items()}
for name, z in embeddings.items():
    print(f"{name:18s}  standard deviation {F.normalize(z, dim=1).std(0).mean() * math.sqrt(z.shape[1]):.3f}")
plots.spectrum(embeddings, title="Embeddings")

# %% [markdown]
# *To think about:* which part of NT-Xent forbids this solution, the numerator or the denominator? (Some methods
# have no negatives and do not collapse, such as BYOL, SimSiam and VICReg. Each has another guard against it.) And
# the *effective rank* in the legend says over how many directions the spread is distributed (Roy and Vetterli
# 2007). It is not low for the collapsed embeddings. Why is this no contradiction: what does it compare, and what
# can it not see?
#
# ### G. Temperature
#
# The temperature decides which negatives count. With a small one, only the most similar negatives appear in the
# sum, and they are pushed hard; with a large one, all are pushed nearly alike.

# %% [markdown] tags=["prediction"]
# *My prediction (at which temperature are the fewest negatives left that are as similar as positives; by how many
# points does the kNN accuracy change):*

# %% tags=["experiment"]
cold_encoder, cold_projector, cold_history = run("temperature 0.1", temperature=0.1)
warm_encoder, warm_projector, warm_history = run("temperature 1", temperature=1.0)
plots.similarities(
    {
        f"t = 0.1, kNN {cold_history['knn'][-1]:.1%}": pair_similarities(cold_encoder, cold_projector),
        f"t = 0.5, kNN {full_history['knn'][-1]:.1%}": pair_similarities(full_encoder, full_projector),
        f"t = 1, kNN {warm_history['knn'][-1]:.1%}": pair_similarities(warm_encoder, warm_projector),
    },
    title="Temperature",
)

# %% [markdown]
# *To think about:* the three last losses are far apart. Why do they say nothing about which run is best? And how
# large must a difference of two kNN accuracies be before you believe it? (1,000 test images: the standard error of
# an accuracy of 60 % is 1.5 points. Another `seed` of `run` shows the rest.)
#
# ### H. Encoder or projector?
#
# The loss sees the embeddings, so the embeddings are what it makes good. Yet they are thrown away. Are they worse?
# Measure both networks of the main run, with all labels and with ten a species. `linear_evaluation` is the
# library's linear probe, solved to its optimum (logistic regression).

# %% [markdown] tags=["prediction"]
# *My prediction (which is better for telling species apart, by how much):*

# %% tags=["experiment"]
outputs = {"encoder": main_encoder, "projector": nn.Sequential(main_encoder, main_projector)}
print("output      dimensions    kNN   linear, 10 labels   linear, all labels")
for name, model in outputs.items():
    features = [(extract_features(model, part.images), part.labels) for part in species]
    known, asked = features
    print(
        f"{name:10s}  {known[0].shape[1]:10d}  {knn_accuracy(*known, *asked):5.1%}  "
        f"{linear_evaluation(*known, *asked, per_class=10):18.1%}  {linear_evaluation(*known, *asked):19.1%}"
    )

# %% [markdown]
# *To think about:* the loss wants embeddings that do not change with the colours, the size and the direction of an
# animal. To which of your later questions would that be a loss of information? What does the projector protect?
#
# ### I. Cropping, drawings and photographs
#
# You have switched colour distortion off. Now switch *cropping* off, and keep the rest: first on the drawings, then
# on photographs, 5,000 of CIFAR-10, which lab 1's `net12` was pretrained on *with* labels. A drawn animal fills the
# middle of its image. A photograph may show the head of a cat, or a whole one.
#
# The photographs are downloaded once (170 MB). Where this is not possible, the cell says so, and you go on without
# them.

# %% [markdown] tags=["prediction"]
# *My prediction (gain in kNN accuracy over the untrained encoder, with and without cropping: on drawings, on
# photographs):*

# %% tags=["experiment"]
NO_CROP = RandomViews(crop=None)

_, _, uncropped_history = run("drawings, no crop", NO_CROP)
gains = {"drawings": (full_history, uncropped_history)}
try:
    photographs = cifar10_photographs(1_000 if QUICK else 5_000, 1_000)
except DataUnavailable as error:
    photographs = None
    print(error)
else:
    _, _, photo_history = run("photographs, all views", data=photographs)
    _, _, photo_uncropped_history = run("photographs, no crop", NO_CROP, data=photographs)
    gains["photographs"] = (photo_history, photo_uncropped_history)

print("\nkNN accuracy   untrained   all views   no crop")
for name, (all_views, no_crop) in gains.items():
    print(f"{name:12s}   {all_views['knn'][0]:9.1%}   {all_views['knn'][-1]:9.1%}   {no_crop['knn'][-1]:7.1%}")

plots.pretraining(
    {
        f"{name}, {what}": h
        for name, pair in gains.items()
        for what, h in zip(("all views", "no crop"), pair, strict=True)
    },
    baseline=math.log(2 * BATCH - 1),
    title="With and without cropping",
)

# %% [markdown]
# *To think about:* which share of the gain is lost without cropping, on drawings and on photographs? Each
# augmentation says "this does not matter here", so the right set is a statement about the *data*, and not about the
# method. Name a data set on which a flip would be wrong, and one on which the distortion of colours would.
#
# ### J. A long run
#
# A few thousand images and a few epochs are what fits into a notebook. The library comes with two encoders of the
# same architecture that were pretrained for two hours each: `net5.ssl_species` on 40,000 drawings of 200 species,
# `net5.ssl_cifar10` on the 50,000 photographs of CIFAR-10. Neither has seen a label, and the 200 species are *not*
# yours. (Both were trained with VICReg, a loss without negatives: Bardes et al. 2022.)
# Their accuracies, measured by nearest neighbours:
#
# | weights | measured on | untrained | after the long run |
# |---|---|---|---|
# | `net5.ssl_species` | 20 other species | 18.3 % | 61.0 % |
# | `net5.ssl_cifar10` | the 10,000 test images of CIFAR-10 | 38.4 % | 66.0 % |
#
# How do they do on *your* ten species, and with your few labels?

# %% [markdown] tags=["prediction"]
# *My prediction (kNN accuracy of both on your species; is an encoder that has seen only photographs of any use for
# drawings):*

# %% tags=["experiment"]
long_runs = {name: load_backbone(name).eval() for name in ("net5.ssl_species", "net5.ssl_cifar10")}

print("kNN accuracy on              your species" + ("   photographs" if photographs else ""))
for name, encoder in {"untrained": untrained_encoder, "your main run": main_encoder, **long_runs}.items():
    shown = [knn(encoder, data) for data in (species, photographs) if data]
    print(f"{name:28s} {shown[0]:12.1%}" + "".join(f"   {value:11.1%}" for value in shown[1:]))

compared = {"your probe": curves["pretrained, probe"]}
for name, encoder in long_runs.items():
    compared[name] = label_curve(lambda x, y, encoder=encoder: probed(encoder, x, y))
compared |= {"scratch": curves["from scratch"], "scratch, strong": curves["scratch, strong views"]}
plots.label_efficiency(compared, title="Probes on three encoders, and training from scratch")

# %% [markdown]
# *To think about:* up to how many labels a species does a frozen encoder beat a network that was trained for the
# task? And what would you rather have: ten times as many pictures without labels, or ten times as many labels?
#
# ## For the next lab
#
# Lab 3 asks what a network can learn from five images. Your encoder is one of its answers: this cell keeps it.

# %% nbgrader={"grade": false, "grade_id": "keep_encoder", "locked": true, "schema_version": 3, "solution": false, "task": false} tags=["experiment"]
keep("species-encoder", main_encoder)

# %% [markdown]
# <a id="reflection"></a>
# ## Reflection
#
# *10 points, read and graded by a person · 30 minutes · about five sentences for each question*
#
# Answer with **your** numbers: state them, and say which cell they come from. An answer that would fit any notebook
# earns no points. Results that contradict the text are as welcome as those that agree, if you can say why.
#
# 1. **What did pretraining give?** Describe the curves of experiment B: where does the pretrained encoder win,
#    where does it not, and by how much? Say how large a difference would have to be before you believe it. What is
#    left of the advantage when training from scratch gets the strong views, and what does that say about where the
#    knowledge came from? *(4 points)*
# 2. **The loss is not the goal.** Take two runs of D, E and F, of which the one with the lower loss has the worse
#    features. Explain for each what the network has learned instead. Which measurement would have warned you
#    *without a single label*, and which would not? *(3 points)*
# 3. **Views are a statement about the data.** Compare, with your numbers, what colour distortion and cropping are
#    worth (D and I). Then choose a data set of your own with a question to answer about it, and decide for each of
#    crop, flip and colour distortion whether you would use it. *(3 points)*

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **1. What did pretraining give?**
#
# <!-- BEGIN SOLUTION -->
# *(Model answer; the numbers are those of the writer's own run, found in the outputs above.)* With one label a
# species, the probe on the pretrained encoder is above everything that starts from random weights, by more than the
# bars (first column of the table in experiment B). The same probe on random features stays far below at every
# number of labels, so it is the training that made the features, not the architecture. From 15 labels on the order
# is reversed: a frozen encoder has a ceiling, and what trains the whole network passes it. With 50 labels
# fine-tuning and training from scratch end close together: where they started hardly matters any more. The standard
# error of one accuracy is about 1.5 points with 1,000 test images, but with few labels the draw of the labels is
# the larger part: the bars at 1 label are several points high. I would believe differences that are larger than the
# bars of both curves together. When training from scratch gets the strong views, its curve rises most on the left:
# at 5 labels nothing is left of the advantage that I would believe, and at 1 label a part of it. So a good part of
# what pretraining put into the encoder is what a person said by choosing the views. What the images add is needed
# where labels are so few that they do not show in which ways animals of one species differ.
# <!-- END SOLUTION -->
#
# **2. The loss is not the goal.**
#
# <!-- BEGIN SOLUTION -->
# Without colour distortion (D) the last loss is lower than with it, and the kNN accuracy is far lower, below that
# of the untrained encoder. Two crops of one image share background and light, so mean and spread of the colours
# find the partner most of the time; the features describe colours of the whole image, which say little about the
# species. Without negatives (F) the loss is almost 0: all images have the same embedding, so the two views of an
# image agree perfectly, and so do any two images. Of the collapse one is warned without labels: by the histogram of
# negative similarities, which lies at 1, or by the size of the singular values (the effective rank alone would not
# do: it only compares them with each other). The shortcut gives no such warning: its features are spread, and its
# positives and negatives are well apart. There one has to ask whether something trivial solves the task, as the six
# numbers do, or measure with a few labels. The loss itself warns of neither, since it is lower in both.
# <!-- END SOLUTION -->
#
# **3. Views are a statement about the data.**
#
# <!-- BEGIN SOLUTION -->
# Without colour distortion the whole gain over the untrained encoder is lost on the drawings (D). Without cropping
# hardly any of it is lost there, while on the photographs a large part is (I). Drawn animals all fill the middle of
# the image at a similar size, so a crop shows the network little that it needs for the test images. In photographs
# the same thing appears at all sizes and cut off by the frame, and recognising a part as the same thing is much of
# what there is to learn. My own data: photographs of skin, with the question whether a mole is malignant. Flips and
# also rotations: yes, there is no up or down. Crops: only mild ones, since the border of a mole and its size count.
# Distortion of colours: no, or only of brightness, since colour and its irregularity are among the signs that
# doctors look for; an encoder that was taught to ignore them could not learn them back with a linear probe.
#
# === BEGIN MARK SCHEME ===
#
# Award points for reasoning from the student's own numbers, whatever these numbers are. No number of their own in
# an answer: at most 1 point for that question.
#
# **Question 1 (4).** 1: says where the pretrained encoder is ahead and where it is not, with numbers that agree
# with the outputs. 1: tells probe from fine-tuning (a frozen encoder has a ceiling; with many labels the whole
# network should be trained). 1: gives a size of difference to believe in, from the bars over draws or the number of
# test images (1,000: about 1.5 points standard error; 2 to 3 for a difference are fine), and applies it; a quick
# run has one draw, and the answer must say that it shows no spread. 1: compares with the strong views and concludes
# that part of the knowledge lies in the choice of views (or argues soundly for the opposite from their curves).
#
# **Question 2 (3).** 1: names two runs with losses and accuracies, and says that losses of different tasks cannot
# be compared. 1: explains the shortcut or the identical views (what was enough to solve the task) and, if chosen,
# the collapse (constant embeddings). 1: names a label-free measurement that shows the collapse (negative
# similarities, standard deviation, size of the singular values), and sees that it does not show a shortcut.
#
# **Question 3 (3).** 1: compares colour and crop with numbers, as shares of the gain over the untrained encoder,
# and not only as accuracies; without photographs, on the drawings alone. 1: explains a difference by a property of
# the data. 1: an own data set with a decision and a reason for each of the three, of which at least one is "no" or
# "only mild" because it would remove what the question is about.
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
# - **False negatives.** One negative in ten shows the species of its anchor. Cheat: use the labels to leave these
#   pairs out of the denominator. How much better do the features become? Then take them as positives (Khosla et al.
#   2020). What is this method now?
# - **No negatives, no collapse.** Stop the gradient at one of the two views and put one more small network on the
#   other (Chen and He 2021). Your experiment F does not collapse any more. Why not?
# - **Judging without labels.** Experiment E showed that the loss is no guide. Is the effective rank? Compare it
#   with the kNN accuracy over all your runs (Garrido et al. 2023).
# - **Does the batch have to be large?** More negatives make a harder question. Halve and double the batch at the
#   same number of images seen.
# - **Colour as a label.** Pretrain on grey images alone: the shortcut is gone, and so is every colour of a coat.
#   Where does it end up between the runs of D, and which species suffer?
# - **Two starts for lab 1.** `net12` learned from 50,000 labels. Fine-tune `net5.ssl_cifar10` and a `net5` from
#   scratch on the five reptiles. Which part of what the labels gave does the encoder without labels give?
#
# ## Sources
#
# - T. Chen, S. Kornblith, M. Norouzi, G. Hinton: *A Simple Framework for Contrastive Learning of Visual
#   Representations.* ICML 2020 (SimCLR).
# - A. van den Oord, Y. Li, O. Vinyals: *Representation Learning with Contrastive Predictive Coding.* 2018
#   ([arXiv:1807.03748](https://arxiv.org/abs/1807.03748)).
# - Z. Wu, Y. Xiong, S. X. Yu, D. Lin: *Unsupervised Feature Learning via Non-Parametric Instance Discrimination.*
#   CVPR 2018.
# - T. Wang, P. Isola: *Understanding Contrastive Representation Learning through Alignment and Uniformity on the
#   Hypersphere.* ICML 2020.
# - A. Bardes, J. Ponce, Y. LeCun: *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
#   Learning.* ICLR 2022.
# - X. Chen, K. He: *Exploring Simple Siamese Representation Learning.* CVPR 2021.
# - P. Khosla et al.: *Supervised Contrastive Learning.* NeurIPS 2020.
# - Q. Garrido, R. Balestriero, L. Najman, Y. LeCun: *RankMe: Assessing the Downstream Performance of Pretrained
#   Self-Supervised Representations by Their Rank.* ICML 2023.
# - O. Roy, M. Vetterli: *The Effective Rank: A Measure of Effective Dimensionality.* EUSIPCO 2007.
# - A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images.* Technical report, 2009 (CIFAR-10).
