# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One answer for each image
#
# A class, several classes, numbers: the task follows from the labels. The same residual network
# learns each, with another head. The data sets are embedded: real handwritten digits, on canvases
# and turned, and signals made by a recipe.

# %%
import dataclasses

import matplotlib.pyplot as plt

from reskeras.data import load
from reskeras.evaluation.evaluate import evaluate
from reskeras.models.predictor import answerer
from reskeras.training.train import build_seeded, train


def learn(data, epochs=2):
    """Trains the task's default network, and evaluates it on the test split."""
    recipe, _ = data.task.default_space(data.facts)
    model = build_seeded(recipe)
    train(model, data, dataclasses.replace(recipe.train, epochs=epochs))
    ask = answerer(model, data.about())
    return ask, evaluate(ask, data, "test", name="the network", batch=256)


def show(evaluation):
    """Prints each score with its 95 % interval, and what the best trivial answer reaches."""
    baseline = evaluation.rivals[-1]
    for metric, found in evaluation.scores.items():
        low, high = metric.write(found.low), metric.write(found.high)
        trivial = baseline.scores.get(metric)
        beside = f"   {baseline.name}: {metric.write(trivial.value)}" if trivial else ""
        print(f"{metric.label:<24} {metric.write(found.value)} ({low} to {high}){beside}")


# %% [markdown]
# ## Signals
#
# Signals [L, C] are classified like images, by a 1-D network. An interval says what other test
# signals would give; a baseline says what the score is worth.

# %%
signals = load("signals")
print(signals.describe())
ask, found = learn(signals)
show(found)

# %% [markdown]
# ## Several classes at once
#
# `digits_multilabel` asks which digits are on a canvas. Average precision is that of each class,
# averaged over the classes.

# %%
canvases = load("digits_multilabel")
print(canvases.describe())
ask, found = learn(canvases)
show(found)

# %% [markdown]
# Its worst answers, with the digits that it is surest of:

# %%
images = list(canvases.split("test").as_numpy_iterator())
figure, axes = plt.subplots(1, 5, figsize=(10, 2.6))
for axis, place in zip(axes, found.worst(5), strict=True):
    image, label = images[place]
    axis.imshow(image[..., 0], cmap="gray")
    there = " ".join(str(number) for number in label.nonzero()[0]) or "none"
    told = ask.task.describe(ask(image[None])[0], canvases.class_names, top=3)
    axis.set_title(f"{there}\n{' '.join(each['name'] for each in told)}?", fontsize=9)
    axis.axis("off")

# %% [markdown]
# ## A number
#
# `digits_angle` asks how far a digit is turned. The head works in standard deviations of the
# training angles, and answers in degrees.

# %%
turned = load("digits_angle")
print(turned.describe())
ask, found = learn(turned)
show(found)
image, angle = next(iter(turned.split("test").as_numpy_iterator()))
print(f"turned by {angle[0]:.1f} degrees; the network says {ask(image[None])[0, 0]:.1f}")
