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
# # Lab 3: Meta-learning
#
# *Advanced Machine Learning*
#
# Someone shows you five pictures of an animal that you have never seen, and you recognise the sixth. In lab 1 a
# network needed 2,000 labelled pictures, after 50,000 others. In lab 2 it needed few labels, after thousands of
# pictures without any. Neither network was ever *trained to learn from five pictures*. In this lab one is: it
# practises on hundreds of small tasks, each with other species, and is tested on species that it has not seen. You
# write the two methods that most others are measured against. Then you compare them with something much more
# boring, and you find out which numbers in this field can be trusted, and why some of them cannot.
#
# **After this lab you can**
#
# - turn a labelled data set into episodes, and name the mistakes that make their accuracy too good;
# - write prototypical networks: a classifier whose weights are computed from a handful of images;
# - write the inner loop of MAML, and differentiate through the steps of an optimizer;
# - say what a first-order approximation leaves out, and measure what that costs;
# - report an accuracy over episodes with its interval, and say what the interval does *not* cover;
# - judge whether meta-learning was worth it, against baselines that got the same care.
#
# | part | what you do | points | difficulty | minutes |
# |---|---|---|---|---|
# | [Exercise 1](#exercise-1) | `sample_episode` | 15 | ●○○ | 25 |
# | [Exercise 2](#exercise-2) | `prototypical_loss` | 25 | ●●○ | 25 |
# | [Exercise 3](#exercise-3) | `maml_adapt` | 30 | ●●● | 50 |
# | [Exercise 4](#exercise-4) | all together (nothing to write) | 20 | ●○○ | 5 |
# | [Experiments](#experiments) | predict, run, compare | | ●●○ | 50 |
# | [Reflection](#reflection) | interpret *your* numbers | 10 | ●●○ | 30 |
#
# **How to work.** Fill in the three cells that say `# YOUR CODE HERE`; names and arguments of the functions must
# stay. How you implement them is free: loops or matrices, any helper function, in your own cells where you like. The
# locked cell below each exercise checks it at once, as often as you want. Grading runs the same checks with other
# inputs, and further ones of the same contract. The experiments run *your* functions. They are not graded and not
# run again by the grader, but your reflection builds on them: submit the notebook with their outputs.
#
# You need nothing from your solutions of labs 1 and 2. If you have run lab 2, the encoder that it kept is one of the
# baselines here; if not, the library has one. No GPU is needed: the networks are small, and everything stays on the
# CPU. From top to bottom, all experiments included, the notebook takes less than ten minutes on two CPU cores. On a
# slower machine, `QUICK = True` [below](#the-data) makes all experiments small.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import time

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from amllab import (
    DataUnavailable,
    Episode,
    Interval,
    RandomViews,
    accuracy,
    adaptation_curve,
    adapted_outputs,
    check,
    cifar10_photographs,
    cifar_fs,
    conv4,
    draw_species,
    episode_accuracy,
    episode_loss,
    episodes,
    extract_features,
    image_tasks,
    interval_of,
    kept,
    load_backbone,
    maml_loss,
    meta_train,
    plots,
    sine_net,
    sinusoids,
    split_classes,
)

# %% [markdown]
# ## Learning to learn
#
# So far a data set was a set of *images*. Here it is a set of *tasks*. A task, called an **episode**, has a few
# classes, and two sets of images of them:
#
# - the **support set**: a few labelled images of each class, to learn the task from;
# - the **query set**: other images of the same classes, to find out how well it was learned.
#
# With 5 classes and 1 support image of each, this is *5-way 1-shot* classification (Vinyals et al. 2016). A guess is
# right in 20 % of all cases.
#
# Learning now happens on two levels. *Within* an episode something is learned from the support set: this is the
# **inner** level. The query set says how well that went, and this is the loss of the **outer** level: the gradient
# of the query loss changes the network, such that the *next* episode is learned better. This is meta-training. What
# counts in the end is meta-testing: episodes of classes from which the network has never seen an image.
#
# ```text
#   meta-training: 64 species                                  meta-test: 20 other species
#
#   episode 1            episode 2            …  episode 600      episode
#   ┌─────────┐          ┌─────────┐             ┌─────────┐      ┌─────────┐
#   │ support │ learn    │ support │             │ support │      │ support │ learn
#   │    ▼    │          │    ▼    │             │    ▼    │      │    ▼    │
#   │  query  │ loss     │  query  │             │  query  │      │  query  │ accuracy
#   └────┼────┘          └────┼────┘             └────┼────┘      └─────────┘
#        ▼                    ▼                       ▼            nothing is changed any more
#   the network ───────▶ the network ──────▶ … ─▶ the network ─────────▶
# ```
#
# The two methods of this lab differ in what "learn" means on the inner level:
#
# | | the inner level learns by | the outer level learns |
# |---|---|---|
# | **prototypical networks** (Snell et al. 2017) | taking means: a class is the mean of its support features | features in which means are good |
# | **MAML** (Finn et al. 2017) | gradient descent: a few steps on the support set | weights from which a few steps go far |

# %% [markdown]
# <a id="the-data"></a>
# ## The data
#
# A hundred species of animals, drawn by the library, 40 images of each; 32×32 pixels. Lab 2 had animals of this kind;
# these are other species. They are split **by species**: 64 to meta-train on, 16 to validate on, 20 for the test.
# An image of a test species never reaches a network before the test, not even without its label.
#
# **A slow machine?** Set `QUICK = True`: the experiments then take half of the images, and fewer episodes and
# steps. Every plot says so in its title, and your numbers will be rougher. The questions stay the same, and so do
# the points.

# %% tags=["experiment"]
QUICK = False

plots.note("quick run: half of the images, few episodes" if QUICK else "")
PER_SPECIES = 20 if QUICK else 40
train, validation, test = split_classes(draw_species(100, PER_SPECIES, seed=3), 64, 16, 20)

for name, part in {"training": train, "validation": validation, "test": test}.items():
    print(f"{name:10s} {len(part.classes):3d} species, {len(part)} images {tuple(part.images.shape[1:])}")
few = test.labels < 8
plots.gallery(test.images[few], test.labels[few], n=12, title="8 of the 20 test species")

# %% [markdown]
# *Look at the rows before you go on:* which two species would you confuse if you had seen only the first image of
# each? What would a second image tell you that the first does not?
#
# <a id="exercise-1"></a>
# ## Exercise 1: an episode
#
# *15 points · difficulty ●○○ · 25 minutes*
#
# Everything in this lab is measured in episodes, so a mistake here is a mistake in every number that follows. And
# hardly any of these mistakes raises an error. Three of them are well known from public code:
#
# - **A support image is also a query image.** Then the answer is known, and the accuracy is too high. It
#   even grows when there are *fewer* images to choose from.
# - **Labels of the data set are kept,** or the first class always gets the first label. If species 17 has the same
#   label in every episode, a network can learn the label by heart and need not look at the support set. In an
#   episode, labels must say nothing by themselves: each time, **chance decides which class is 0**.
# - **Labels and images do not belong together.** *Guess before you run:* which of the two lines fits to images that
#   come class by class?

# %%
print("repeat:           ", torch.arange(3).repeat(2).tolist())
print("repeat_interleave:", torch.arange(3).repeat_interleave(2).tolist())

# %% [markdown]
# **Randomness that can be repeated.** To compare two encoders, both must get the same episodes, whatever else draws
# random numbers in between. So the function gets a generator of its own, and everything random has to come from it.
# A generator has a state: each call moves it on. *Guess:* which of the three lines are equal?

# %%
generator = torch.Generator().manual_seed(0)
print(torch.randperm(6, generator=generator).tolist())
print(torch.randperm(6, generator=generator).tolist())
print(torch.randperm(6, generator=torch.Generator().manual_seed(0)).tolist())

# %% [markdown]
# **Your task.**
#
# ```python
# sample_episode(labels, n_way, k_shot, n_query, generator)
# ```
#
# | argument or result | contract |
# |---|---|
# | `labels` | labels of the whole data set, int64 `(n,)`, whole numbers from 0 on. In any order; numbers may be left out (3, 7, 40); classes may differ in size. They are not changed |
# | `n_way`, `k_shot`, `n_query` | number of classes; of support images *of each class*; of query images *of each class* |
# | `generator` | a `torch.Generator`. **All randomness comes from it**: the same state gives the same episode, and a call moves it on, so that the next episode is another one. The global random state is neither used nor changed |
# | classes | chosen at random, without repetition, among those with at least `k_shot + n_query` images: each of these is equally likely, however many images it has |
# | images | chosen at random among all images of the class; no image occurs twice in an episode, be it in support or query |
# | new labels | `0 … n_way - 1`, the same for support and query. Every assignment of classes to labels is equally likely |
# | returns | a tuple of four int64 vectors: `support_index`, `support_labels` (`n_way * k_shot` each), `query_index`, `query_labels` (`n_way * n_query` each). An index is a position in `labels`; entry `i` of index and of new labels belong together. The order of the entries is free |
# | errors | `ValueError` if a number is below 1, and if fewer than `n_way` classes are large enough |
#
# Labels and generator are on the CPU.
#
# **Example.** `labels = [7, 2, 7, 7, 5, 2, 2, 2]` and `sample_episode(labels, 2, 1, 2, generator)`. Class 5 has one
# image and is too small; 2 and 7 are left. One of many possible results:
#
# | | index | class | new label |
# |---|---|---|---|
# | support | 3, 6 | 7, 2 | 0, 1 |
# | query | 0, 2, 7, 1 | 7, 7, 2, 2 | 0, 0, 1, 1 |
#
# <details><summary><b>Hint 1</b>: which classes are large enough?</summary>
#
# `labels.unique(return_counts=True)` gives the classes that occur, and how many images each of them has.
#
# </details>
#
# <details><summary><b>Hint 2</b>: random order, random choice</summary>
#
# The first `k` entries of a random order are a random choice without repetition. `torch.randperm(n,
# generator=generator)` is a random order of `0 … n-1`. It gives *positions*: positions of what?
#
# </details>
#
# <details><summary><b>Hint 3</b>: no overlap</summary>
#
# Put the images of a class into random order **once**. The first `k_shot` of them are support, the next `n_query` are
# query. Two separate draws overlap sooner or later.
#
# </details>
#
# <details><summary><b>Hint 4</b>: which class gets which label?</summary>
#
# If you choose the classes in random order and number them in that order, the assignment is random. If you sort them
# afterwards, it is not.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "sample_episode", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sample_episode(
    labels: Tensor, n_way: int, k_shot: int, n_query: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns support_index, support_labels, query_index, query_labels of a random episode; labels are 0 ... n_way - 1.

    Raises ValueError for numbers below 1, and if fewer than n_way classes have k_shot + n_query images.
    """
    ### BEGIN SOLUTION
    if min(n_way, k_shot, n_query) < 1:
        raise ValueError(f"n_way, k_shot and n_query must be at least 1; got {n_way}, {k_shot} and {n_query}")
    classes, sizes = labels.unique(return_counts=True)
    large_enough = classes[sizes >= k_shot + n_query]
    if len(large_enough) < n_way:
        raise ValueError(f"{n_way} classes with {k_shot + n_query} images are needed; there are {len(large_enough)}")

    def shuffled(values: Tensor) -> Tensor:
        order = torch.randperm(len(values), generator=generator, device=generator.device)
        return values[order.to(values.device)]

    chosen = shuffled(large_enough)[:n_way]
    images = torch.stack([shuffled((labels == c).nonzero().squeeze(1))[: k_shot + n_query] for c in chosen])
    new_labels = torch.arange(n_way, device=labels.device)
    return (
        images[:, :k_shot].flatten(),
        new_labels.repeat_interleave(k_shot),
        images[:, k_shot:].flatten(),
        new_labels.repeat_interleave(n_query),
    )
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_sample_episode", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
check("sample_episode")

# %% [markdown]
# **See what you did.** `episodes(images, labels, sample_episode, ...)` draws one episode after the other with your
# function, without end. Rows are classes, under their new labels. *Run the cell twice, with another seed:* do the
# same species keep the same label?

# %% tags=["experiment"]
episode = next(episodes(train.images, train.labels, sample_episode, n_way=5, k_shot=5, n_query=5, seed=0))
plots.episode(episode, title="a 5-way 5-shot episode")

# %% [markdown]
# <a id="exercise-2"></a>
# ## Exercise 2: prototypical networks
#
# *25 points · difficulty ●●○ · 25 minutes*
#
# An encoder turns images into features, as in lab 2. What is the simplest way to learn five classes from 25 feature
# vectors? Represent each class $c$ by the mean of its support features, its **prototype** $p_c$, and let a query $q$
# belong to the nearest one. To train this, make it soft: minus the squared Euclidean distances are the logits.
#
# $$p_c = \frac{1}{|S_c|} \sum_{i \in S_c} z_i \qquad\qquad
# \text{logit}_c(q) = -\lVert q - p_c \rVert^2 \qquad\qquad
# \text{loss} = \text{mean cross-entropy over the queries}$$
#
# **A linear layer that nobody trained.** Multiply out: $-\lVert q - p_c \rVert^2 = 2 p_c \cdot q - \lVert p_c \rVert^2
# - \lVert q \rVert^2$. The last term is the same for all classes, and a softmax does not see it. What is left is a
# linear classifier with the weights $2 p_c$ and the biases $-\lVert p_c \rVert^2$. In lab 2 such a layer was trained
# for 50 epochs on a frozen encoder. Here it is *computed* from the support set, in a way that has a gradient. So the
# loss can ask the encoder for features on which this works.
#
# **Two axes, and no error.** Support features of three classes with two images each are a `(6, d)` matrix. *Guess
# before you run:* in which of the two is a row one class?

# %%
rows = torch.arange(6)  # class by class: 0 0 1 1 2 2
print("view(3, 2):", rows.view(3, 2).tolist())
print("view(2, 3):", rows.view(2, 3).tolist())

# %% [markdown]
# With the wrong one, each prototype is a mean over different species. Training still runs, and the loss stays near
# that of guessing. Worse, both are wrong as soon as the images do not come class by class. So rely on the *labels*,
# not on the order.
#
# **Your task.**
#
# ```python
# prototypical_loss(support, support_labels, query, query_labels)
# ```
#
# | argument or result | contract |
# |---|---|
# | `support`, `query` | features, float32 or float64, `(s, d)` and `(q, d)`. They are not changed |
# | `support_labels`, `query_labels` | int64 `(s,)` and `(q,)`: `0 … n_way - 1`, **in any order**. Each class has at least one support image; their numbers may differ. A class may be without queries |
# | returns | a tuple `(loss, logits)` |
# | `logits` | `(q, n_way)`; column `c` is minus the **squared** Euclidean distance to the mean of the support features of class `c`: no root, no division, no softmax |
# | `loss` | a tensor with one value: the mean cross-entropy over all queries |
# | gradients | of the loss reach both `support` and `query`. They are finite, also where a query lies exactly on a prototype, and where distances are large |
# | errors | `ValueError` if a query has a label of which there is no support image |
#
# **Example,** to be checked with pencil and paper. Support features $(0, 0)$, $(2, 0)$, $(4, 0)$ with labels 0, 0, 1;
# one query $(2, 0)$ with label 0:
#
# | | class 0 | class 1 |
# |---|---|---|
# | prototype | $(1, 0)$ | $(4, 0)$ |
# | logit | $-1$ | $-4$ |
#
# The loss is $\log(1 + e^{-3}) \approx 0.0486$.
#
# <details><summary><b>Hint 1</b>: means by label</summary>
#
# A loop over the classes with a mask is fine: `support[support_labels == c]`. Without a loop: a matrix of zeros and
# ones that says who belongs to whom (`F.one_hot`) turns the sums into one matrix product.
#
# </details>
#
# <details><summary><b>Hint 2</b>: all distances at once</summary>
#
# `query[:, None]` is `(q, 1, d)`. Minus `(n_way, d)` it becomes `(q, n_way, d)`. Which dimension do you sum over?
# (`torch.cdist` takes a root that you would have to undo, and the root has no gradient at 0.)
#
# </details>
#
# <details><summary><b>Hint 3</b>: the example does not come out</summary>
#
# $\log(1 + e^{-1}) \approx 0.313$: the distance is not squared. 3.05: the sign is missing. 0.340: there is a softmax
# before `F.cross_entropy`, which takes logits.
#
# </details>
#
# <details><summary><b>Hint 4</b>: which labels have no support?</summary>
#
# `torch.isin(query_labels, support_labels)` answers for each query. Comparing the largest labels is not enough: a
# label can be missing in the middle.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "prototypical_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def prototypical_loss(
    support: Tensor, support_labels: Tensor, query: Tensor, query_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the mean cross-entropy of the queries, and their logits: minus squared distances to the class means.

    Features are (s, d) and (q, d). Raises ValueError for a query label without support.
    """
    ### BEGIN SOLUTION
    if not torch.isin(query_labels, support_labels).all():
        raise ValueError("each query needs a label that is among the support labels")
    members = F.one_hot(support_labels).to(support.dtype)  # (s, n_way)
    prototypes = members.T @ support / members.sum(0)[:, None]
    logits = -(query[:, None] - prototypes).square().sum(2)
    return F.cross_entropy(logits, query_labels), logits
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_prototypical_loss", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
check("prototypical_loss")

# %% [markdown]
# **Where does training start?** A classifier that gives all `n_way` answers the same probability has a loss of
# $\log(\text{n\_way})$. The encoder is `net5`, the small network of lab 2, with random weights; only the running means
# and variances of BatchNorm have been set, by looking at the training images once, without loss or gradient. *Before
# you run:* is its loss higher or lower than that? And what does the table say about comparing losses of episodes with
# different numbers of classes?


# %% tags=["experiment"]
PLAIN = RandomViews(crop=None, flip=0, colour=0, grey=0)  # only normalises


def new_encoder(seed: int = 0) -> nn.Module:
    """An encoder with random weights, whose BatchNorm has seen the training images once."""
    torch.manual_seed(seed)
    encoder = timm.create_model("net5", num_classes=0).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for batch in train.images[torch.randperm(len(train))].split(100):
            encoder(PLAIN(batch))
    return encoder


fresh = new_encoder()
loss_of = episode_loss(prototypical_loss)  # embeds support and query as one batch, then calls your function

print("n_way   guessing   untrained encoder")
for n_way in (2, 5, 10, 20):
    sampled = episodes(train.images, train.labels, sample_episode, n_way=n_way, k_shot=5, n_query=5)
    with torch.no_grad():
        losses = [loss_of(fresh, next(sampled)).item() for _ in range(10)]
    print(f"{n_way:5d}   {math.log(n_way):8.3f}   {sum(losses) / len(losses):17.3f}")

# %% [markdown]
# Higher: worse than not knowing anything. A wrong answer costs little if the network is unsure. But squared distances in
# 96 dimensions are large numbers, so the softmax is *sure*, and sure at random. The scale of the features belongs to
# what is learned.

# %% [markdown]
# <a id="exercise-3"></a>
# ## Exercise 3: MAML
#
# *30 points · difficulty ●●● · 50 minutes*
#
# Prototypes need classes. *Model-agnostic meta-learning* needs only what every network has: parameters, and a loss
# with a gradient. The inner level is plain gradient descent on the support set, a few steps from the weights
# $\theta$:
#
# $$\theta_0 = \theta \qquad\qquad \theta_{k+1} = \theta_k - \alpha \, \nabla_{\!\theta_k}\,
# \text{loss}_\text{support}(\theta_k)$$
#
# The outer level asks: how should $\theta$ change, so that the loss **after** these steps, on the query set, becomes
# smaller? It needs the gradient of $\text{loss}_\text{query}(\theta_K)$ with respect to $\theta$, *through all the
# steps*. The result is not a network that is good at any one task, but one that is good *after one step*.
#
# Two ideas come first, each with a trap.
#
# ### Idea 1: other parameters, same network
#
# `optimizer.step()` overwrites parameters in place. Then the start is gone, and no gradient leads back to it. So the
# adapted parameters have to be *new* tensors, next to the old ones. `functional_call(model, parameters, (inputs,))`
# runs a module with the parameters of a dict in place of its own. *Guess:* which two of the three lines are equal?

# %%
layer = nn.Linear(2, 1)
x = torch.ones(1, 2)
zeros = {name: torch.zeros_like(parameter) for name, parameter in layer.named_parameters()}
print("its own parameters:", layer(x).item())
print("zeros:             ", functional_call(layer, zeros, (x,)).item())
print("its own parameters:", layer(x).item())

# %% [markdown]
# ### Idea 2: a gradient that has a gradient
#
# One weight $w = 1$, support loss $(w - 3)^2$, query loss $(w' - 4)^2$, learning rate 0.25. By hand: the step gives
# $w' = w - 0.25 \cdot 2 (w - 3) = 0.5\,w + 1.5$, which is 2. The query loss is $(0.5\,w - 2.5)^2 = 4$, and its
# derivative with respect to $w$ is $2 \cdot (-2) \cdot 0.5 = -2$. *Before you run:* does PyTorch agree?

# %%
w = torch.tensor(1.0, requires_grad=True)
(slope,) = torch.autograd.grad((w - 3) ** 2, [w])
adapted = w - 0.25 * slope
((adapted - 4) ** 2).backward()
print("adapted:", adapted.item(), " gradient that reaches w:", w.grad.item())

# %% [markdown]
# The adapted weight is right. The gradient is twice what it should be: the factor 0.5 is missing. It comes from the
# fact that `slope` itself depends on `w`, and PyTorch does not know that. For PyTorch, `slope` is a constant, unless
# you say that you want to differentiate it again.
#
# This is the best-known mistake in code for MAML, and popular implementations have had it for years. Nothing looks
# wrong: the adapted parameters are exactly right, and the outer loss falls. What it computes has a name of its own:
# **first-order MAML** (FOMAML) treats every inner gradient as a constant *on purpose*, because second derivatives cost
# time and memory. It is a useful approximation, if you know that you are using it. Your function does both, and you
# will measure the difference.
#
# **Your task.**
#
# ```python
# maml_adapt(model, inputs, targets, *, steps=1, lr=0.01, loss_fn=F.cross_entropy, first_order=False)
# ```
#
# | argument or result | contract |
# |---|---|
# | `model` | any module with one input, float32 or float64. Its parameters are where the steps start |
# | `inputs`, `targets` | the support set; not changed |
# | each step | plain gradient descent with learning rate `lr` on `loss_fn(predictions, targets)` for all `inputs`: **all** parameters, no momentum, no clipping, no batches. Its gradient is taken where the step before ended |
# | `loss_fn` | any function `(predictions, targets)` that returns one number, such as `F.cross_entropy` or `F.mse_loss` |
# | returns | a dict: for every name of `model.named_parameters()` the adapted tensor, of the same shape, dtype and device. `functional_call(model, adapted, (x,))` uses it. Order and further entries are free |
# | gradients | a loss of `functional_call(model, adapted, (x,))` can be differentiated with respect to **the model's own parameters** |
# | `first_order=False` | … exactly, through all steps |
# | `first_order=True` | … with every inner gradient taken as a constant. A parameter of the model then gets the gradient of its adapted tensor |
# | `steps=0` | the parameters themselves, or equal tensors through which gradients reach them |
# | the model | is left alone: its parameters, their `.grad` (also one that is there already), every `requires_grad`, the mode of every module. It runs in the mode that it is in |
# | errors | `ValueError` for `steps < 0` |
#
# Not graded, because no model here has it: running statistics of BatchNorm (experiment H says what takes their
# place), dropout, and parameters that are frozen, shared or not used. Public implementations of MAML disagree about
# them.
#
# **Example.** The weight from above, as `nn.Linear(1, 1, bias=False)` with weight 1, input 1, support target 3, query
# target 4, `lr=0.25`, `loss_fn=F.mse_loss`:
#
# | `steps` | adapted weight | query loss | its gradient | with `first_order=True` |
# |---|---|---|---|---|
# | 0 | 1 | 9 | −6 | −6 |
# | 1 | 2 | 4 | −2 | −4 |
# | 2 | 2.5 | 2.25 | −0.75 | −3 |
#
# <details><summary><b>Hint 1</b>: one step</summary>
#
# Start with `dict(model.named_parameters())`. In each step: predictions through `functional_call`, the loss, its
# gradients with respect to the *current* dict's tensors, a new dict. Ask yourself in the second step: are these the
# tensors of the model, or those of the step before?
#
# </details>
#
# <details><summary><b>Hint 2</b>: a gradient that can be differentiated</summary>
#
# `torch.autograd.grad` has an argument for it: `create_graph`. When do you want it, and when not?
#
# </details>
#
# <details><summary><b>Hint 3</b>: or with functions</summary>
#
# `torch.func.grad(f)` turns a function of a dict of tensors into a function that returns a dict of gradients, which
# can always be differentiated again. Written in this way, your function also runs for many tasks at once
# (`torch.func.vmap`). Where it can, the library makes use of this, and experiment F takes less than half the time.
#
# </details>
#
# <details><summary><b>Hint 4</b>: adapted is right, the gradient is not</summary>
#
# None at all: somewhere on the way there is `.data`, `.detach()`, `torch.no_grad()`, a copy of the model or an
# optimizer. Right for one step, wrong for two: the graph is cut between the steps. Always that of the last column:
# second derivatives are missing. First order also −2: the gradients have to be constants there, and *only* they.
#
# </details>


# %% nbgrader={"grade": false, "grade_id": "maml_adapt", "locked": false, "schema_version": 3, "solution": true, "task": false}
def maml_adapt(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int = 1,
    lr: float = 0.01,
    loss_fn=F.cross_entropy,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """Returns the parameters, by name, after ``steps`` of gradient descent; gradients reach those of the model.

    The model stays as it is. Raises ValueError for steps < 0.
    """
    ### BEGIN SOLUTION
    if steps < 0:
        raise ValueError(f"steps must be at least 0; got {steps}")

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return loss_fn(functional_call(model, parameters, (inputs,)), targets)

    parameters = dict(model.named_parameters())
    for _ in range(steps):
        gradients = torch.func.grad(loss)(parameters)  # with their graph, also under vmap
        if first_order:
            gradients = {name: gradient.detach() for name, gradient in gradients.items()}
        parameters = {name: value - lr * gradients[name] for name, value in parameters.items()}
    return parameters
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_maml_adapt", "locked": true, "points": 30, "schema_version": 3, "solution": false, "task": false}
check("maml_adapt")

# %% [markdown]
# **Trust, but measure.** A gradient can be checked without knowing how it was computed: move the weights a little
# in some direction, forwards and backwards, and look how much the loss changes. This works for *your* function, too.
# It needs float64: in float32 the difference of two losses is mostly rounding.
#
# *Before you run:* which column agrees with the measured slope, and does the first-order column get better or worse
# with more steps?


# %% tags=["experiment"]
def after_adapting(model: nn.Module, task: Episode, **how) -> Tensor:
    """The query loss of one task after adapting to its support set."""
    adapted = maml_adapt(model, task.support, task.support_labels, loss_fn=F.mse_loss, **how)
    return F.mse_loss(functional_call(model, adapted, (task.query,)), task.query_labels)


torch.manual_seed(0)
net = sine_net().double()
task = Episode(*(part[0].double() for part in sinusoids(1, 10, 10, torch.Generator().manual_seed(0))))
direction = [torch.randn_like(parameter) for parameter in net.parameters()]


def along(scale: float, **how) -> float:
    """The query loss with all weights moved along the direction; they are moved back afterwards."""
    with torch.no_grad():
        for parameter, d in zip(net.parameters(), direction, strict=True):
            parameter += scale * d
    loss = after_adapting(net, task, **how).item()
    with torch.no_grad():
        for parameter, d in zip(net.parameters(), direction, strict=True):
            parameter -= scale * d
    return loss


print("steps   measured slope   your gradient   first order")
for steps in (0, 1, 2, 5):
    how = {"steps": steps, "lr": 0.05}
    measured = (along(1e-6, **how) - along(-1e-6, **how)) / 2e-6
    slopes = []
    for first_order in (False, True):
        loss = after_adapting(net, task, first_order=first_order, **how)
        gradients = torch.autograd.grad(loss, tuple(net.parameters()))
        slopes.append(sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True)))
    print(f"{steps:5d}   {measured:14.5f}   {slopes[0]:13.5f}   {slopes[1]:11.5f}")

# %% [markdown]
# <a id="exercise-4"></a>
# ## Exercise 4: all together
#
# *20 points · difficulty ●○○ · 5 minutes*
#
# Nothing to write. The check has two parts. In the first, a small encoder is meta-trained with your `sample_episode`
# and your `prototypical_loss` on drawn species; what counts is how much better it tells *other* species apart than the
# same network before training. In the second, a network is meta-trained through your `maml_adapt` on sinusoids, as in
# experiment F; what counts is its error on new sinusoids after one step. If the check fails while the exercises before
# it pass, look at what only a training shows: is every episode another one? Do gradients of the loss arrive at the
# encoder? Is `lr` used?

# %% nbgrader={"grade": true, "grade_id": "check_accuracy", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
check("accuracy")

# %% [markdown]
# <a id="experiments"></a>
# ## Experiments
#
# Write down your prediction *before* each run, in the cell that asks for it. A prediction that turns out wrong teaches
# more than one that was never made.
#
# | | experiment | about |
# |---|---|---|
# | A | an episode for you | |
# | B | baselines without training | |
# | C | prototypical networks | ½ min |
# | D | the boring baseline | 1 min |
# | E | how many species? | 1 min |
# | F | sinusoids | ¼ min |
# | G | MAML on images | 1 min |
# | H | the query set knows too much | ¼ min |
# | I | another world: photographs | ½ min |
#
# **How all of it is measured.** An encoder turns the test images into features, once. Then your `sample_episode`
# draws 400 episodes of 5 species with 15 queries each, and your `prototypical_loss` classifies them: the largest
# logit counts. The same seed gives every encoder the same episodes. The result is the mean accuracy of the episodes
# with its **95 % interval**, 1.96 standard errors on each side: if you drew another 400 episodes *of these species*,
# the mean would hardly leave it.

# %% tags=["experiment"]
EPISODES = 100 if QUICK else 400
SHOTS = (1, 5)


def of_features(features: Tensor, data=test) -> tuple[Interval, ...]:
    """Accuracies of stored features in 5-way episodes with 1 and with 5 shots."""
    return tuple(
        episode_accuracy(features, data.labels, sample_episode, prototypical_loss, k_shot=k, episodes=EPISODES)
        for k in SHOTS
    )


def measured(encoder: nn.Module, data=test, *, unit_length: bool = False) -> tuple[Interval, ...]:
    """Accuracies of an encoder in 5-way episodes with 1 and with 5 shots."""
    features = extract_features(encoder, data.images)
    return of_features(F.normalize(features, dim=1) if unit_length else features, data)


def table(results: dict[str, tuple[Interval, ...]], title: str) -> None:
    """Prints accuracies, a line for each encoder."""
    print(f"{title:45s} {'1-shot':>14s} {'5-shot':>14s}")
    for name, pair in results.items():
        print(f"{name:45s} {pair[0]!s:>14s} {pair[1]!s:>14s}")


# %% [markdown]
# ### A. An episode for you
#
# How good are *you*? Below is a 5-way 1-shot episode of test species. The first row is the support set, with the labels
# 0 to 4 from left to right. The other two rows are ten queries, two of each species, in random order.

# %% tags=["experiment"]
yours = next(episodes(test.images, test.labels, sample_episode, n_way=5, k_shot=1, n_query=2, seed=12))
order = torch.randperm(10, generator=torch.Generator().manual_seed(12))
queries, answers = yours.query[order], yours.query_labels[order]
plots.views(
    {
        "support: 0 to 4": yours.support[yours.support_labels.argsort()],
        "queries 1 to 5": queries[:5],
        "queries 6 to 10": queries[5:],
    },
    title="Which label has each query?",
)

# %% [markdown]
# *My ten labels:*

# %% tags=["experiment"]
print("queries 1 to 5: ", answers[:5].tolist())
print("queries 6 to 10:", answers[5:].tolist())

# %% [markdown]
# *To think about:* what did you base your decision on? You have seen animals before, and know that a pose changes and a pattern
# does not. Where has a network learned such a thing, before its first episode?
#
# ### B. Baselines without training
#
# Before anything is meta-trained: what do features give that are there already? All are used in the same way, by the
# nearest mean.
#
# | features | what they were trained on |
# |---|---|
# | pixels | nothing: the normalised image is the feature vector |
# | random `net5` | nothing: random weights |
# | `net6` of lab 1's world | 50,000 labelled photographs of CIFAR-10 |
# | the encoder of lab 2 | drawings of other species, without labels: the one that your notebook kept, else the library's |
#
# The last line repeats the first with a mistake: the support images are among the queries.

# %% [markdown] tags=["prediction"]
# *My prediction (order of the four with 5 shots, and the accuracy of the best; how much does the mistake add to the
# pixels):*


# %% tags=["experiment"]
def with_leak(labels: Tensor, n_way: int, k_shot: int, n_query: int, generator: torch.Generator):
    """A mistake on purpose: the first k_shot queries of each class are its support images."""
    support, support_labels, query, query_labels = sample_episode(labels, n_way, k_shot, n_query, generator)
    query, query_labels = query.clone(), query_labels.clone()
    for c in range(n_way):
        replaced = (query_labels == c).nonzero().squeeze(1)[:k_shot]
        query[replaced] = support[support_labels == c][: len(replaced)]
    return support, support_labels, query, query_labels


untrained = new_encoder()
net6 = load_backbone("net6")
net6.reset_classifier(0)
lab2_encoder = kept("species-encoder")

pixels = PLAIN(test.images).flatten(1)
leaked = tuple(
    episode_accuracy(pixels, test.labels, with_leak, prototypical_loss, k_shot=k, episodes=EPISODES) for k in SHOTS
)
baselines = {
    "pixels": of_features(pixels),
    "random net5": measured(untrained),
    "net6, photographs with labels": measured(net6),
    "encoder of lab 2, without labels": measured(lab2_encoder),
}
plots.intervals({**baselines, "pixels, support among queries": leaked}, chance=0.2, title="20 test species, 5-way")

# %% [markdown]
# *To think about:* the leak adds a lot to pixels. Why would it add hardly anything to a very good encoder? And: which
# of these encoders has seen drawings, which has seen labels, and what mattered more?
#
# ### C. Prototypical networks
#
# Now the encoder is trained for its job: 600 episodes with 10 species, 5 support and 5 query images each. Training
# episodes have more classes than test episodes: a harder question teaches more (Snell et al. 2017). Every 100 episodes,
# the accuracy on the *validation* species is measured.

# %% [markdown] tags=["prediction"]
# *My prediction (validation accuracy, 5-way 5-shot, at the start and after 600 episodes):*

# %% tags=["experiment"]
STEPS = 150 if QUICK else 600
EVERY = 50 if QUICK else 100


def validation_accuracy(encoder: nn.Module, data=validation) -> Interval:
    """Accuracy in 100 episodes of validation species, 5-way 5-shot."""
    features = extract_features(encoder, data.images)
    return episode_accuracy(features, data.labels, sample_episode, prototypical_loss, episodes=100)


def prototypical(name, *, data=train, held_out=validation, steps=STEPS, n_way=10, augment=None, seed=0):
    """Meta-trains a new encoder with your functions; returns it with losses and validation accuracies."""
    began = time.perf_counter()
    encoder = new_encoder(seed)
    tasks = episodes(
        data.images, data.labels, sample_episode, n_way=n_way, k_shot=5, n_query=5, seed=seed, augment=augment
    )
    history = meta_train(
        encoder,
        episode_loss(prototypical_loss),
        tasks,
        steps=steps,
        evaluate=lambda model: validation_accuracy(model, held_out),
        every=EVERY,
    )
    accuracies = history["evaluation"]
    print(
        f"{name}: {steps} episodes, last loss {history['loss'][-1]:.3f}, validation accuracy "
        f"{accuracies[0]:.1%} before and {accuracies[-1]:.1%} after, {time.perf_counter() - began:.0f} s"
    )
    return encoder, history


encoder, encoder_history = prototypical("prototypical network")
plots.meta_training({"prototypical network": encoder_history}, chance=0.2, title="600 episodes" if not QUICK else "")

# %% [markdown]
# Now, and only now, the test species:

# %% tags=["experiment"]
results = {**baselines, "prototypical network": measured(encoder)}
plots.intervals(results, chance=0.2, title="20 test species, 5-way")

# %% [markdown]
# **What the interval leaves out.** It says how far the mean of another 400 episodes might be from this one. But these
# would be episodes of the *same 20 species*. A claim about meta-learning is a claim about *new* species, and of these
# you have seen 20. The next cell draws four other sets of 20 test species and measures the same encoders on them.

# %% [markdown] tags=["prediction"]
# *My prediction (do the five accuracies of one encoder lie within each other's intervals; does the order of the
# encoders change from set to set):*

# %% tags=["experiment"]
other_sets = [draw_species(20, 20, seed=30 + number) for number in range(2 if QUICK else 4)]
compared = {"encoder of lab 2": lab2_encoder, "net6": net6, "prototypical network": encoder}

names = ["test", *(f"set {number + 1}" for number in range(len(other_sets)))]
print(f"{'5-way 5-shot':23s}" + "".join(f"{name:>15s}" for name in names))
for name, model in compared.items():
    on_sets = [measured(model, data)[1] for data in (test, *other_sets)]
    means = torch.tensor([value.mean for value in on_sets])
    print(f"{name:23s}" + "".join(f"{value!s:>15s}" for value in on_sets))
    print(f"{'':23s}  standard deviation between the sets {100 * means.std():.1f} points")

# %% [markdown]
# *To think about:* how large is the spread between the sets, compared with the half-width of one interval? Papers
# report intervals over 600 or 10,000 episodes of 20 test classes. What happens to such an interval with ten times as
# many episodes, and what does not become more certain by it? When you compare two encoders, both are measured in the
# *same* episodes of the *same* species. Look down the columns of the table: how much does that help?
#
# ### D. The boring baseline
#
# No episodes, no meta-learning: train `net5` as an ordinary classifier of the 64 training species, throw its last layer
# away, and use the features in the same way as all the others, by the nearest mean. It sees as many images as the
# prototypical network: 600 batches of 100, where an episode has 100 images.
#
# A baseline deserves the same care as the method that you favour. So both are trained twice: on the images as they are,
# and on images that are augmented a little (cropped, flipped, slightly recoloured).

# %% [markdown] tags=["prediction"]
# *My prediction (which of the four is best on the test species, and by how much; whom does augmentation help more):*

# %% tags=["experiment"]
MILD = RandomViews(crop=(0.6, 1.0), colour=0.3, grey=0)


def batches(data, augment, seed: int, size: int = 100):
    """Ordinary batches of images with their labels, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        chosen = torch.randint(len(data), (size,), generator=generator)
        yield augment(data.images[chosen]), data.labels[chosen]


def classification_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Ordinary cross-entropy over all training species."""
    return F.cross_entropy(model(batch[0]), batch[1])


def classifier(name, *, data=train, held_out=validation, steps=STEPS, augment=PLAIN, seed=0):
    """Trains a new encoder with a linear layer as a classifier of all species; returns it without the layer."""
    began = time.perf_counter()
    encoder = new_encoder(seed)
    model = nn.Sequential(encoder, nn.Linear(96, len(data.classes)))
    history = meta_train(
        model,
        classification_loss,
        batches(data, augment, seed),
        steps=steps,
        evaluate=lambda model: validation_accuracy(model[0], held_out),
        every=EVERY,
    )
    accuracies = history["evaluation"]
    print(
        f"{name}: {steps} batches, last loss {history['loss'][-1]:.3f}, validation accuracy "
        f"{accuracies[0]:.1%} before and {accuracies[-1]:.1%} after, {time.perf_counter() - began:.0f} s"
    )
    return encoder, history


augmented, augmented_history = prototypical("prototypical network, augmented", augment=MILD)
classified, classified_history = classifier("classifier")
classified_augmented, classified_augmented_history = classifier("classifier, augmented", augment=MILD)

plots.meta_training(
    {
        "prototypical": encoder_history,
        "prototypical, augmented": augmented_history,
        "classifier": classified_history,
        "classifier, augmented": classified_augmented_history,
    },
    chance=0.2,
    title="Episodes, or an ordinary classifier?",
)

# %% [markdown]
# One more thing is free: bring all features to length 1 before they are used, so that only their direction counts. The
# squared distance of two vectors of length 1 is $2 - 2 \cos$. (Which of the encoders were trained with *lengths* that
# mean something?)

# %% [markdown] tags=["prediction"]
# *My prediction (which encoders gain most by it):*

# %% tags=["experiment"]
trained = {
    "prototypical": encoder,
    "prototypical, augmented": augmented,
    "classifier": classified,
    "classifier, augmented": classified_augmented,
}
as_they_are = {name: measured(model) for name, model in trained.items()}
of_length_1 = {f"{name}, length 1": measured(model, unit_length=True) for name, model in trained.items()}
table({**as_they_are, **of_length_1}, "20 test species, 5-way")
plots.intervals({**as_they_are, **of_length_1}, chance=0.2, title="20 test species, 5-way")

# %% [markdown]
# **More shots than in training.** The prototypical network practised with 5 support images. What does each encoder do
# with 1, 2, 10 or 20?

# %% tags=["experiment"]
MORE_SHOTS = (1, 2, 5) if QUICK else (1, 2, 5, 10, 20)


def over_shots(features: Tensor) -> dict[int, list[float]]:
    """Accuracies in 5-way episodes, by the number of support images of each class."""
    how = {"n_query": 15, "episodes": EPISODES}
    return {
        k: [episode_accuracy(features, test.labels, sample_episode, prototypical_loss, k_shot=k, **how).mean]
        for k in MORE_SHOTS
    }


shown = {"encoder of lab 2": lab2_encoder, "prototypical": encoder, "classifier, augmented": classified_augmented}
curves = {name: over_shots(extract_features(model, test.images)) for name, model in shown.items()}
plots.label_efficiency({"pixels": over_shots(pixels), **curves}, title="5-way, by the number of support images")

# %% [markdown]
# <details><summary><b>What results should you get?</b></summary>
#
# All four are far above everything that was not trained on drawings with labels. As it is, the classifier is behind
# the prototypical network, most clearly with 1 shot. Augmentation and length 1 help the classifier more than the
# prototypical network, and with both it is level or a little ahead. So on *this* data, at *this* budget, episodes were
# not needed. How much of the last difference is chance, one training of each cannot tell: another `seed` moves both.
# This is not specific to drawings: Chen et al. (2019) and Tian et al. (2020) found the same on photographs, after years
# in which baselines had got less care than the methods that beat them. (A quick run trains too briefly for these
# differences.)
#
# </details>
#
# *To think about:* the classifier compares all 64 species with each other in every batch, an episode only ten. Which
# of the two questions is harder, and what does that do to the features? In which situation could you train with
# episodes, but not train a classifier? And which of the four runs would you have chosen by the validation species
# alone?
#
# ### E. How many species?
#
# A task is one example for a meta-learner. 40 images of each of 8 species make billions of different episodes. Are
# these billions of examples? The number of training species changes, everything else stays: 8-way episodes, the same
# number of them. Two more runs: 64 species with only 10 images of each, which are 640 images, as many as in the run
# with 16 species (in a quick run, with 32); and the 8 species with augmentation.

# %% [markdown] tags=["prediction"]
# *My prediction (test accuracy with 8 and with 64 species; which loss will be lower; which is better, 16 species with
# 40 images or 64 with 10):*

# %% tags=["experiment"]
SHORT = 150 if QUICK else 400


def only(data, classes: int, each: int):
    """The first classes, and the first images of each of them."""
    (part,) = split_classes(data, classes)
    return part.subset(torch.cat([(part.labels == c).nonzero().squeeze(1)[:each] for c in range(classes)]))


by_species, losses = {}, {}
for species in (8, 16, 32, 64):
    model, history = prototypical(f"{species} species", data=only(train, species, PER_SPECIES), steps=SHORT, n_way=8)
    by_species[species], losses[species] = measured(model), history["loss"][-1]

spread_model, _ = prototypical("64 species, 10 images", data=only(train, 64, 10), steps=SHORT, n_way=8)
helped_model, _ = prototypical(
    "8 species, augmented", data=only(train, 8, PER_SPECIES), steps=SHORT, n_way=8, augment=MILD
)

table(
    {
        **{f"{n} species, last loss {losses[n]:.3f}": pair for n, pair in by_species.items()},
        "64 species, 10 images of each": measured(spread_model),
        "8 species, augmented": measured(helped_model),
    },
    "20 test species, 5-way",
)
plots.class_numbers(
    {n: {"1-shot": pair[0], "5-shot": pair[1]} for n, pair in by_species.items()},
    title="By the number of training species",
)

# %% [markdown]
# *To think about:* with 8 species the loss of meta-training becomes tiny. Compare the test accuracy with that of
# lab 2's encoder (B), which has not seen a single label. What has been overfitted here: images, or tasks? You are given
# money for 640 labelled images. Which ones do you order? And does augmentation make new images for the 8 species, or
# something like new species?
#
# ### F. Sinusoids
#
# MAML needs no classes. The task that Finn et al. (2017) chose to explain it is a regression,
# $y = A \sin(x - \varphi)$. The amplitude $A \in [0.1, 5]$ and the phase $\varphi \in [0, \pi]$ belong to the task, and
# ten points are the support set. Three ways to train the same small network on the same tasks:
#
# | | minimises |
# |---|---|
# | joint training | the error on all points of all tasks, as if they were one task |
# | first-order MAML | the query error after one step, inner gradients taken as constants |
# | MAML | the query error after one step |
#
# Then each gets 100 new sinusoids, ten points of each, and takes 0, 1, 5 and 10 steps of gradient descent.

# %% [markdown] tags=["prediction"]
# *My prediction (error of the three after 0 steps, and after 1; what does the jointly trained network look like before
# its first step):*

# %% tags=["experiment"]
SINE_STEPS = 500 if QUICK else 1_000
INNER = 0.01  # learning rate of the inner steps
sine_tests = sinusoids(100, 10, 100, torch.Generator().manual_seed(9))


def sine_tasks(seed: int):
    """Ten new sinusoids at a time, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield sinusoids(10, 10, 10, generator)


def joint_loss(model: nn.Module, tasks: Episode) -> Tensor:
    """The error on all points of all tasks."""
    predictions = model(torch.cat([tasks.support, tasks.query], dim=1))
    return F.mse_loss(predictions, torch.cat([tasks.support_labels, tasks.query_labels], dim=1))


def maml(name, loss=None, *, lr=INNER, first_order=False, seed=0):
    """Meta-trains a new network on sinusoids through your function (or with another loss); returns it."""
    began = time.perf_counter()
    torch.manual_seed(seed)
    net = sine_net()
    loss = loss or maml_loss(maml_adapt, steps=1, lr=lr, loss_fn=F.mse_loss, first_order=first_order)
    history = meta_train(net, loss, sine_tasks(seed), steps=SINE_STEPS, lr=5e-3, every=SINE_STEPS // 10)
    print(f"{name}: last loss {history['loss'][-1]:.2f}, {time.perf_counter() - began:.0f} s")
    return net


sine_nets = {
    "joint training": maml("joint training", joint_loss),
    "first-order MAML": maml("first-order MAML", first_order=True),
    "MAML": maml("MAML"),
}
sine_curves = {
    name: adaptation_curve(net, maml_adapt, sine_tests, steps=(0, 1, 5, 10), lr=INNER, loss_fn=F.mse_loss)
    for name, net in sine_nets.items()
}
print(f"\n{'error after ... steps':22s}" + "".join(f"{steps:>15d}" for steps in (0, 1, 5, 10)))
for name, curve in sine_curves.items():
    print(f"{name:22s}" + "".join(f"{f'{value:.2f}':>15s}" for value in curve.values()))
plots.adaptation(sine_curves, title="100 new sinusoids, 10 points each")

# %% tags=["experiment"]
high = sine_tests.query_labels.abs().amax((1, 2)).argmax()  # the task with the largest amplitude
task = Episode(*(part[high] for part in sine_tests))
fits = {
    name: adapted_outputs(net, maml_adapt, task, steps=(0, 1, 10), lr=INNER, loss_fn=F.mse_loss)
    for name, net in sine_nets.items()
}
plots.sinusoid_fits(task, fits, title="One new sinusoid, before and after adapting")

# %% [markdown]
# *To think about:* before the first step, the three networks are about equally wrong. Why can no network be right
# there? What is *in* the weights of MAML that is not in those of joint training, if it is not a better prediction?
# MAML was trained for one step and gets better with ten, at points where it has no support. How does it know the
# shape?
#
# **A start belongs to its learning rate.** Now MAML with other inner learning rates. Each network is then adapted with
# each rate: rows are the rate in meta-training, columns the one at the test. The jointly trained network gets the same
# choice; perhaps 0.01 was only unlucky for it.

# %% [markdown] tags=["prediction"]
# *My prediction (which entries of the table are worst; does another rate save joint training):*

# %% tags=["experiment"]
RATES = (0.001, 0.01, 0.03)
by_rate = {
    f"MAML, rate {rate}": sine_nets["MAML"] if rate == INNER else maml(f"rate {rate}", lr=rate) for rate in RATES
}
by_rate["joint training"] = sine_nets["joint training"]

print(f"\n{'error after 5 steps of rate ...':35s}" + "".join(f"{rate:>18}" for rate in RATES))
for name, net in by_rate.items():
    cells = []
    for rate in RATES:
        error = adaptation_curve(net, maml_adapt, sine_tests, steps=(5,), lr=rate, loss_fn=F.mse_loss)[5]
        cells.append(f"{error:.2f}" if error.mean < 100 else "more than 100")
    print(f"{name:35s}" + "".join(f"{cell:>18s}" for cell in cells))

# %% [markdown]
# *To think about:* why does the same network become useless with steps three times as large? The learning rate of the
# inner steps is a number that could be meta-learned as well, one for all parameters or one for each (Li et al. 2017).
# Which of your functions would have to change for that?
#
# ### G. MAML on images
#
# Back to the species: 5-way 5-shot, with `conv4`, four convolutions of 16 channels. It is one network for every
# episode, and its last layer has five outputs. Before adapting it *cannot* be right: an output that means "label 0"
# says nothing about a species when chance decides which species is 0. What meta-training can find is a start from which
# one step with 25 images is enough.
#
# Three times the same network and as many training episodes: first-order MAML, MAML, and a prototypical network.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of the two MAMLs after 0, 1 and 10 steps; where is the prototypical network, and which of the
# three takes longest):*

# %% tags=["experiment"]
TASKS, MAML_STEPS = 4, 50 if QUICK else 150
IMAGE_RATE = 0.1
image_tests = next(image_tasks(test.images, test.labels, sample_episode, tasks=20 if QUICK else 60, n_query=10, seed=7))


def maml_images(name: str, *, first_order: bool) -> nn.Module:
    """Meta-trains a new conv4 through your function, with one inner step; returns it."""
    began = time.perf_counter()
    torch.manual_seed(0)
    net = conv4(5)
    loss = maml_loss(maml_adapt, steps=1, lr=IMAGE_RATE, first_order=first_order)
    tasks = image_tasks(train.images, train.labels, sample_episode, tasks=TASKS, n_query=10)
    history = meta_train(net, loss, tasks, steps=MAML_STEPS, every=MAML_STEPS // 5)
    print(f"{name}: last loss {history['loss'][-1]:.2f}, {time.perf_counter() - began:.0f} s")
    return net


first_order_net = maml_images("first-order MAML", first_order=True)
maml_net = maml_images("MAML", first_order=False)

began = time.perf_counter()
torch.manual_seed(0)
prototype_net = conv4(64)  # 64 features
meta_train(
    prototype_net,
    episode_loss(prototypical_loss),
    episodes(train.images, train.labels, sample_episode, n_query=10),
    steps=TASKS * MAML_STEPS,
    every=TASKS * MAML_STEPS // 5,
)
print(f"prototypical network: {time.perf_counter() - began:.0f} s")

torch.manual_seed(0)
image_nets = {"random start": conv4(5), "first-order MAML": first_order_net, "MAML": maml_net}
image_curves = {
    name: adaptation_curve(net, maml_adapt, image_tests, steps=(0, 1, 5, 10), lr=IMAGE_RATE, measure=accuracy)
    for name, net in image_nets.items()
}

# %% tags=["experiment"]
found = []
for one in zip(*image_tests, strict=True):
    one = Episode(*one)
    with torch.no_grad():
        features = prototype_net(torch.cat([one.support, one.query]))
        n = len(one.support)
        _, logits = prototypical_loss(features[:n], one.support_labels, features[n:], one.query_labels)
    found.append(accuracy(logits, one.query_labels))
prototype_accuracy = interval_of(torch.stack(found))

print(f"{'accuracy after ... steps':22s}" + "".join(f"{steps:>16d}" for steps in (0, 1, 5, 10)))
for name, curve in image_curves.items():
    print(f"{name:22s}" + "".join(f"{value!s:>16s}" for value in curve.values()))
print(f"{'prototypical network':22s}{prototype_accuracy!s:>16s}  (there are no steps)")
plots.adaptation(image_curves, ylabel="accuracy", percent=True, title="conv4 on test species, 5-way 5-shot")

# %% [markdown]
# *To think about:* on sinusoids, first-order MAML lost a part of the gain. How much does it lose here, compared with a
# random start? If you had only this approximation, what would you have concluded about MAML? And what does the
# prototypical network *know* about the task that MAML has to find out?
#
# ### H. The query set knows too much
#
# `conv4` has BatchNorm without running statistics: mean and variance always come from the batch at hand. In the usual
# evaluation of MAML, all queries of an episode form one batch. Then the prediction for one query depends on *the other
# queries*: on images that someone who asks about a single animal does not have, and on the fact that they are spread
# evenly over the five classes. Such a method is called *transductive* (Bronskill et al. 2020). Same networks, same
# weights, same queries; only the way they are put into batches changes:
#
# | queries come | what the statistics know |
# |---|---|
# | all at once | an even mixture of the five species |
# | one species at a time | a mixture of one |
# | one at a time | this image alone |
# | one at a time, with the support set in the batch | the support set, which one may use |

# %% [markdown] tags=["prediction"]
# *My prediction (order of the four ways; how many points lie between the best and the worst):*

# %% tags=["experiment"]
GROUPS = {
    "all at once": lambda labels: [torch.arange(len(labels))],
    "one species at a time": lambda labels: [(labels == c).nonzero().squeeze(1) for c in labels.unique()],
    "one at a time": lambda labels: torch.arange(len(labels)).split(1),
}


def by_maml(task: Episode):
    """A function from queries to logits: the adapted network."""
    adapted = maml_adapt(maml_net, task.support, task.support_labels, steps=5, lr=IMAGE_RATE)
    return lambda queries: functional_call(maml_net, adapted, (queries,))


def by_maml_together(task: Episode):
    """The same, but the queries go through the network together with the support set."""
    logits = by_maml(task)
    return lambda queries: logits(torch.cat([task.support, queries]))[len(task.support) :]


def by_prototypes(task: Episode):
    """A function from queries to logits: prototypes of the support set alone; the queries are a batch of their own."""
    support = prototype_net(task.support)

    def logits(queries: Tensor) -> Tensor:
        unknown = torch.zeros(len(queries), dtype=torch.int64)  # labels, for the loss, which nobody asks for
        return prototypical_loss(support, task.support_labels, prototype_net(queries), unknown)[1]

    return logits


def by_prototypes_together(task: Episode):
    """The same, but the queries go through the network together with the support set."""

    def logits(queries: Tensor) -> Tensor:
        unknown = torch.zeros(len(queries), dtype=torch.int64)
        features = prototype_net(torch.cat([task.support, queries]))
        n = len(task.support)
        return prototypical_loss(features[:n], task.support_labels, features[n:], unknown)[1]

    return logits


def in_groups(classify, groups) -> Interval:
    """Accuracy over the test episodes, if the queries reach the network in groups."""
    found = []
    for one in zip(*(part[: 20 if QUICK else 40] for part in image_tests), strict=True):
        task = Episode(*one)
        answer = classify(task)
        with torch.no_grad():
            right = [
                answer(task.query[chosen]).argmax(1) == task.query_labels[chosen]
                for chosen in groups(task.query_labels)
            ]
        found.append(torch.cat(right).float().mean())
    return interval_of(torch.stack(found))


ways = {
    "MAML, 5 steps": by_maml,
    "MAML, with support": by_maml_together,
    "prototypical": by_prototypes,
    "prototypical, with support": by_prototypes_together,
}
in_batches = {
    name: {how: in_groups(classify, groups) for how, groups in GROUPS.items()} for name, classify in ways.items()
}
plots.intervals(in_batches, chance=0.2, title="Same weights, same queries, other batches")

# %% [markdown]
# *To think about:* which of these numbers would you promise to someone who photographs one animal and wants to know
# what it is? A paper says "BatchNorm without running statistics, as in the official code". Which number does it report?
# The encoders of experiments B to E use running statistics, which come from the training species. Why do their
# accuracies not depend on the batches at all?
#
# ### I. Another world: photographs
#
# New species, but drawn by the same hand: how well does that transfer? First the encoders from above in episodes of
# photographs, 5 of the 10 classes of CIFAR-10. (`net6` was trained *on these classes*, with labels. For it this is not a
# few-shot task: it shows what could be reached.) The photographs are downloaded once (170 MB). Where this is not
# possible, the cell says so, and you continue without them.

# %% [markdown] tags=["prediction"]
# *My prediction (accuracy of the prototypical network on photographs, next to that of pixels and of lab 2's encoder):*

# %% tags=["experiment"]
try:
    photographs, _ = cifar10_photographs(1_000, 100)
except DataUnavailable as error:
    print(error)
else:
    abroad = {
        "pixels": of_features(PLAIN(photographs.images).flatten(1), photographs),
        "random net5": measured(untrained, photographs),
        "encoder of lab 2 (drawings)": measured(lab2_encoder, photographs),
        "prototypical network (drawings)": measured(encoder, photographs),
        "classifier, augmented (drawings)": measured(classified_augmented, photographs),
        "net5.ssl_cifar10 (no labels)": measured(load_backbone("net5.ssl_cifar10"), photographs),
        "net6 (knows the classes)": measured(net6, photographs),
    }
    table(abroad, "CIFAR-10, 5-way")

# %% [markdown]
# Now meta-train on photographs. CIFAR-FS (Bertinetto et al. 2019) is CIFAR-100 with its classes split as our species
# are: 64 for training, 16 for validation, 20 for the test; 600 images of each. Again a download of 170 MB. The number of
# episodes is that of experiment C.

# %% [markdown] tags=["prediction"]
# *My prediction (will the accuracy be higher or lower than on the drawings; which of the two ways to train wins):*

# %% tags=["experiment"]
try:
    parts = cifar_fs()
except DataUnavailable as error:
    print(error)
else:
    # 100 images of each class are enough to measure with
    source = {"data": parts["train"], "held_out": only(parts["validation"], 16, 100), "augment": MILD}
    new_classes = only(parts["test"], 20, 100)
    photo_encoder, _ = prototypical("CIFAR-FS, prototypical network", **source)
    photo_classified, _ = classifier("CIFAR-FS, classifier", **source)
    table(
        {
            "pixels": of_features(PLAIN(new_classes.images).flatten(1), new_classes),
            "prototypical network (drawings)": measured(encoder, new_classes),
            "prototypical network (CIFAR-FS)": measured(photo_encoder, new_classes),
            "classifier (CIFAR-FS)": measured(photo_classified, new_classes),
            "classifier (CIFAR-FS), length 1": measured(photo_classified, new_classes, unit_length=True),
        },
        "20 test classes of CIFAR-FS, 5-way",
    )

# %% [markdown]
# *To think about:* episodes of new species ask what happens if *classes* are new. What else was new in the episodes of
# photographs, and why has meta-training not prepared for that? On new drawn species (C), lab 2's encoder was far behind
# the prototypical network. Where is it on photographs? What may an encoder throw away that only has to tell drawn
# species apart? And if you had to recognise photographs of rare animals from five images each: where would you take
# your training tasks from?

# %% [markdown]
# <a id="reflection"></a>
# ## Reflection
#
# *10 points, read and graded by a person · 30 minutes · about five sentences for each question*
#
# Answer with **your** numbers: state them, and say which cell they come from. An answer that would fit any notebook
# earns no points. Results that contradict the text are as welcome as those that agree, if you can say why.
#
# 1. **Was it worth it?** Compare what needed no training (B), the prototypical network (C) and the ordinary classifier
#    (D). Which differences do you believe, and by which of the two uncertainties of experiment C do you judge them?
#    What did care, such as augmentation and features of length 1, do to the order? Say in which situation you would
#    still train with episodes. *(4 points)*
# 2. **A good start.** What is in the weights that MAML found? Argue with the errors after 0, 1 and 10 steps, in F and
#    in G. What did the first-order approximation cost in each, and what belongs to the start besides the weights?
#    *(3 points)*
# 3. **Reading a number.** You read: "75.0 ± 0.4 %, 5-way 5-shot, 600 episodes". Ask three questions about how this was
#    measured or compared, whose answers could move it by more than 0.4 points. Show for each, with a number of your
#    own, how much it can matter. *(3 points)*

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflection", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **1. Was it worth it?**
#
# <!-- BEGIN SOLUTION -->
# *(Model answer; the numbers are those of the writer's own run, found in the outputs above.)* The best features that
# were there without training on labelled drawings, those of lab 2's encoder, lie far below the prototypical network.
# The accuracy of one encoder differs between the five sets of species by several times its interval (table in
# experiment C), so that the interval says little about new species; but in every one of the five sets the prototypical
# network is ahead by more than this spread. This difference I believe. In experiment D the classifier, as it is, is
# behind the prototypical network, with 1 shot by more than both intervals together. With augmentation the two are
# level, and with features of length 1 the classifier is ahead by about one interval. I do not believe this last
# difference: both are *one* training, and another seed or another set of species moves them as much. What I do believe
# is that the order depends on how much care the baseline gets. I would still train with episodes where there is no
# fixed set of classes: if each task has its own kind of labels, if there are so many classes with so few images that a
# last layer for all of them makes no sense, or if tasks are regressions.
# <!-- END SOLUTION -->
#
# **2. A good start.**
#
# <!-- BEGIN SOLUTION -->
# On the sinusoids all three networks have nearly the same error before the first step, that of predicting about the
# mean of all tasks (first column in F). After one step MAML's error is less than half of that of joint training. So
# what it learned is not a better prediction but a place: weights at which the gradient of ten points changes the whole
# curve, also where there are no points. In G it is guessing at 0 steps, as it must be when chance decides which species
# is label 0, and far above the random start after one. The first-order version loses part of the gain on sinusoids; on
# images it is only a little better than a random start after as many tasks, so there the second derivatives carried
# nearly everything at this budget. The learning rate belongs to the start: in the table of rates each network is best
# with the rate that it was trained for, and MAML adapted with steps three times as large is useless.
# <!-- END SOLUTION -->
#
# **3. Reading a number.**
#
# <!-- BEGIN SOLUTION -->
# First: how do the queries reach the network? In H the same MAML network loses many times the ±0.4 when queries come
# one at a time instead of all at once. Second: which test classes, and how many? In C the accuracy of one encoder
# differs between sets of 20 species by several times its interval, which knows only about episodes; 600 episodes make
# the 0.4 small without making the choice of classes any better. Third: what did the baseline get? In D augmentation and
# length 1 moved the classifier from behind to level, so "better than the baseline" depends on them. (I would also ask
# whether support and query are disjoint, after what the leak did to pixels in B, and on how many classes the method was
# trained, after E.)
#
# === BEGIN MARK SCHEME ===
#
# Award points for reasoning from the student's own numbers, whatever these numbers are. No number of their own in
# an answer: at most 1 point for that question.
#
# **Question 1 (4).** 1: states accuracies of the three with intervals, in agreement with the outputs. 1: tells the
# interval over episodes from the spread between sets of species (or between seeds), and says which of them limits the
# claim. 1: applies it: names one difference to believe and one not to believe, and describes what augmentation or
# length 1 did to the order. 1: a situation in which episodes are needed or more natural (changing or very many classes,
# regression, tasks with their own labels), with a reason.
#
# **Question 2 (3).** 1: uses the errors at 0 steps to argue that the gain is in the start and not in the prediction
# (or that guessing is unavoidable at 0 steps). 1: states the cost of first order in F and in G, and compares the two.
# 1: the inner learning rate (or the number of steps) belongs to the start, with numbers of the table of rates.
#
# **Question 3 (3).** 1 for each question with a number of their own that shows an effect of more than 0.4 points: leak
# (B), choice of species (C), care for the baseline, length or shots (D), number of training species or images (E),
# batches of queries (H), other kind of images (I), steps or learning rate of adaptation (F, G). A question without a
# number: no point. A number that does not belong to the question: no point. In a quick run the effects are rougher,
# and the points are the same.
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
# - **Omniglot.** 1,623 letters of 50 alphabets, 20 drawings of each (`torchvision.datasets.Omniglot`): the data set
#   that few-shot learning began with (Lake et al. 2015). Measure pixels and a random network first. How much is left
#   to learn? And are new letters of a known alphabet as hard as letters of a new one?
# - **Prototypes as a start.** Exercise 2 says that prototypes *are* a linear layer. Take its weights and biases as the
#   last layer of a network, and go on with `maml_adapt` from there (Proto-MAML, Triantafillou et al. 2020). What
#   becomes of the accuracy after 0 steps?
# - **Which layers adapt?** Take MAML's network from G and let only its last layer change, or all but its last
#   (Raghu et al. 2020). Does MAML learn quickly, or has it only found good features?
# - **A learned learning rate.** Make the inner rate a parameter of the outer level, one for all layers, then one for
#   each (Li et al. 2017). Which layers get large ones?
# - **Training as in the test?** Train prototypical networks with 1 shot and with 5, with 5 classes and with 20, at the
#   same number of images. Which ones are best at 1 shot?
# - **Labels that say something.** Write a `sample_episode` that gives each species always the same label, if it is in
#   the episode. Train MAML with it. What happens to the accuracy after 0 steps, and on the test species (Yin et al.
#   2020)?
# - **An honest interval.** How would you compute one that covers the choice of species? Try to draw *species* with
#   replacement from the 20, many times.
# - **Labels and none.** Start meta-training from lab 2's encoder in place of random weights. How many of the 64 species
#   does that save?
#
# ## Where to go on
#
# Two courses treat the same methods with other aims.
# [Tutorial 16](https://uvadlc-notebooks.readthedocs.io/en/latest/tutorial_notebooks/tutorial16/Meta_Learning.html) of
# the UvA Deep Learning course trains prototypical networks and Proto-MAML on the photographs of CIFAR-100, and asks how
# they do with more shots and on street numbers. Homework 2 of Stanford's [CS330](https://cs330.stanford.edu) builds MAML
# and prototypical networks for Omniglot, varies the inner learning rate, and learns it. Both train for longer, on a
# GPU. This notebook spends its minutes on other questions: an ordinary classifier as a baseline (D), what an interval
# does not cover (C), the number of training classes (E), what second derivatives are worth (F and G), and what
# BatchNorm learns from the queries (H).
#
# ## Sources
#
# - J. Snell, K. Swersky, R. Zemel: *Prototypical Networks for Few-shot Learning.* NeurIPS 2017.
# - C. Finn, P. Abbeel, S. Levine: *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks.* ICML 2017.
# - O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: *Matching Networks for One Shot Learning.*
#   NeurIPS 2016.
# - W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang, J.-B. Huang: *A Closer Look at Few-shot Classification.* ICLR 2019.
# - Y. Tian, Y. Wang, D. Krishnan, J. B. Tenenbaum, P. Isola: *Rethinking Few-Shot Image Classification: a Good
#   Embedding Is All You Need?* ECCV 2020.
# - L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi: *Meta-learning with differentiable closed-form solvers.*
#   ICLR 2019 (CIFAR-FS).
# - E. Triantafillou et al.: *Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples.* ICLR 2020.
# - J. Bronskill, J. Gordon, J. Requeima, S. Nowozin, R. E. Turner: *TaskNorm: Rethinking Batch Normalization for
#   Meta-Learning.* ICML 2020.
# - A. Raghu, M. Raghu, S. Bengio, O. Vinyals: *Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
#   of MAML.* ICLR 2020.
# - M. Yin, G. Tucker, M. Zhou, S. Levine, C. Finn: *Meta-Learning without Memorization.* ICLR 2020.
# - Z. Li, F. Zhou, F. Chen, H. Li: *Meta-SGD: Learning to Learn Quickly for Few-Shot Learning.* 2017
#   ([arXiv:1707.09835](https://arxiv.org/abs/1707.09835)).
# - B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum: *Human-level concept learning through probabilistic program
#   induction.* Science 350, 2015 (Omniglot).
# - A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images.* Technical report, 2009 (CIFAR-10 and
#   CIFAR-100).
