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
# # Quickstart
#
# From a spec to a trained network, and from a spec with ranges to the best of several networks.
# Open this file as a notebook with [jupytext](https://jupytext.readthedocs.io), or run it as a
# script.

# %%
import dataclasses

import keras

import reskeras
from reskeras.data import load
from reskeras.spec import TrainSpec
from reskeras.training.train import evaluate, train
from tuning import Range, Space, tune

# %% [markdown]
# A network is a value. It prints as YAML, and a changed copy is another network.

# %%
spec = reskeras.preset("digits_basic")
print(reskeras.dump_spec(spec))
plain_twin = dataclasses.replace(spec, block={"kind": "plain"}, name="plain_twin")

# %% [markdown]
# `build` returns a Keras model. The plain twin has the same layers without the shortcuts.

# %%
model, twin = reskeras.build(spec), reskeras.build(plain_twin)
print(f"{model.count_params():,} parameters, the twin {twin.count_params():,}")

# %% [markdown]
# The data are 1,797 real digits with a fixed split. Batch-norm statistics are recomputed after each
# epoch, so even a short training gets a fair score.

# %%
data = load("digits", spec.input_shape)
print(data.describe())
epochs = train(model, data, TrainSpec(epochs=2, learning_rate=1e-2))
for epoch in epochs:
    print(epoch.number, {name: round(value, 3) for name, value in epoch.metrics.items()})

# %% [markdown]
# A search space is a spec with ranges, by path.

# %%
space = Space(
    dataclasses.replace(spec, stages=spec.stages[:2]),
    {
        "stages.*.blocks": [1, 2],
        "block.kind": ["plain", "basic", "dense"],
        "train.learning_rate": Range(low=1e-3, high=3e-2, log=True),
    },
)
result = tune(space, data, directory="searches/quickstart", trials=3, epochs=1)
for record in result.trials:
    print(f"{record.score:.3f}", dict(record.values))

# %% [markdown]
# The winner is a file that Keras alone can load.

# %%
best = keras.saving.load_model("searches/quickstart/best.keras")
print(evaluate(best, data, "val"))
