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
# # An answer for each pixel
#
# Masks, keypoints and sharper images: a U-Net learns each, with another head. All data are made of
# real handwritten digits.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

from reskeras.data import load
from reskeras.models.predictor import answerer
from reskeras.training.train import build_seeded, evaluate, train


def learn(data, epochs, **settings):
    """Trains the task's default U-Net at half its width."""
    recipe, _ = data.task.default_space(data.facts)
    stages = tuple(dataclasses.replace(s, width=s.width // 2) for s in recipe.spec.stages)
    recipe = dataclasses.replace(
        recipe,
        spec=dataclasses.replace(recipe.spec, stages=stages),
        train=dataclasses.replace(recipe.train, epochs=epochs, **settings),
    )
    model = build_seeded(recipe)
    train(model, data, recipe.train)
    scores = evaluate(model, data, "test")
    for metric in data.task.metrics:
        print(f"{metric.label:<42} {metric.write(scores[metric.name])}")
    return answerer(model, data.about())


def some(data, count=4):
    """A few test images with their labels."""
    pairs = list(data.split("test").take(count).as_numpy_iterator())
    return np.stack([image for image, _ in pairs]), [label for _, label in pairs]


# %% [markdown]
# ## Masks
#
# Most pixels are background, so accuracy is high for a network that finds nothing. Overlaps tell
# more, and losses of overlaps learn what is rare: cross-entropy plus Dice is nnU-Net's. Whatever is
# trained, the reported loss is the cross-entropy.

# %%
scenes = load("digits_segmentation")
print(scenes.describe())
ask = learn(scenes, epochs=2, loss="cross_entropy_dice")
images, masks = some(scenes)
figure, axes = plt.subplots(3, 4, figsize=(8, 6))
for column, (image, mask, answer) in enumerate(zip(images, masks, ask(images), strict=True)):
    for row, picture in enumerate((image[..., 0], mask, answer.argmax(-1))):
        style = {"cmap": "tab20", "vmin": 0, "vmax": 19} if row else {"cmap": "gray"}
        axes[row, column].imshow(picture, **style)
        axes[row, column].axis("off")
for row, name in enumerate(("image", "mask", "answer")):
    axes[row, 0].set_title(name, loc="left", fontsize=9)

# %% [markdown]
# ## Keypoints
#
# Each point has a map with a Gaussian around its place; the answer is the map's maximum.

# %%
points = load("digits_keypoints")
print(points.describe(), points.class_names)
ask = learn(points, epochs=2)
images, labels = some(points)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
for axis, image, label, answer in zip(axes, images, labels, ask(images), strict=True):
    axis.imshow(image[..., 0], cmap="gray")
    axis.scatter(*label.T, s=40, facecolors="none", edgecolors="tab:green", label="label")
    there = ~np.isnan(label[:, 0])
    axis.scatter(*answer[there, :2].T, s=12, color="tab:orange", label="answer")
    axis.axis("off")
axes[0].legend(fontsize=7)

# %% [markdown]
# ## Super-resolution
#
# The network sees the small image enlarged by bicubic interpolation, and learns what to add.

# %%
blurred = load("digits_superres")
print(blurred.describe())
ask = learn(blurred, epochs=2)
images, sharp = some(blurred)
figure, axes = plt.subplots(3, 4, figsize=(8, 6))
for column, (image, target, answer) in enumerate(zip(images, sharp, ask(images), strict=True)):
    for row, picture in enumerate((image, answer, target)):
        axes[row, column].imshow(np.squeeze(picture), cmap="gray")
        axes[row, column].axis("off")
for row, name in enumerate(("enlarged", "answer", "target")):
    axes[row, 0].set_title(name, loc="left", fontsize=9)
