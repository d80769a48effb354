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
# # Networks
#
# What a network costs, where weights come from, and how a trained network becomes a deeper one
# without losing what it learned.

# %%
import dataclasses

import keras
import numpy as np

import reskeras
from reskeras.data import load
from reskeras.spec import Stage, TrainSpec
from reskeras.training.train import evaluate, train

# %% [markdown]
# The cost of a network is arithmetic on its spec: no Keras model is built. The two forms of
# ResNet-50 have the same number of parameters but different numbers of multiply-adds.

# %%
for name in ("resnet50", "resnet50_v1_5", "preact1001", "unet"):
    cost = reskeras.cost(name)
    print(
        f"{name:14} {cost.trainable_params:>12,} parameters  {cost.macs / 1e9:7.2f} GMAC  "
        f"{cost.depth:5} layers deep"
    )

# %% [markdown]
# A picture of the network, in the style of a paper.

# %%
reskeras.plot("resnet20", "resnet20.svg")

# %% [markdown]
# keras.applications' weights fit, because the network is the same: the outputs are equal. (With
# access to the internet, use `weights="imagenet"`.)

# %%
theirs = keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3))
ours = reskeras.build(dataclasses.replace(reskeras.preset("resnet50v2"), input_shape=(64, 64, 3)))
reskeras.transfer_weights(theirs, ours)
image = np.random.default_rng(0).normal(size=(1, 64, 64, 3))
print(
    "largest difference:",
    np.abs(theirs.predict(image, verbose=0) - ours.predict(image, verbose=0)).max(),
)

# %% [markdown]
# **Growing.** A residual block whose branch returns zero is the identity, so a deeper network can
# start as the trained shallower one. Train one block per stage, grow to three, and the score is the
# same before any further training.

# %%
data = load("digits", (8, 8, 1))
spec = reskeras.preset("digits_basic")
shallow = dataclasses.replace(
    spec, stages=[Stage(blocks=1, width=16), Stage(blocks=1, width=32, stride=2)]
)
deep = dataclasses.replace(
    spec, stages=[Stage(blocks=3, width=16), Stage(blocks=3, width=32, stride=2)]
)
model = reskeras.build(shallow)
train(model, data, TrainSpec(epochs=3, learning_rate=1e-2))
before = evaluate(model, data, "val")
grown = reskeras.grow(model, deep)
grown.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
print("before:", before, "\ngrown: ", evaluate(grown, data, "val"))

# %%
for epoch in train(grown, data, TrainSpec(epochs=2, learning_rate=3e-3)):
    print(epoch.number, f"{epoch.metrics['val_accuracy']:.3f}")

# %% [markdown]
# If no weights make a new block the identity, the error says why.

# %%
other = dataclasses.replace(shallow, norm_order="norm_after_add")
try:
    reskeras.grow(reskeras.build(other), dataclasses.replace(deep, norm_order="norm_after_add"))
except reskeras.RequestError as error:
    print(error)

# %% [markdown]
# For inference, batch norm is folded into the convolutions before it, and the network is traced
# once.

# %%
answer = reskeras.predictor(grown)
images = np.random.default_rng(1).random((5, 8, 8, 1))
print(np.abs(answer(images) - grown.predict(images, verbose=0)).max())
