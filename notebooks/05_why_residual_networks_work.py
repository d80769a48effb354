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
# # Why residual networks work
#
# Each claim of the theory, measured: the number that theory expects beside the measured one, and a
# verdict that can fail. `reskeras lab` runs the same experiments; docs/lab.md tells where each
# expectation and each tolerance is from.

# %%
import dataclasses

from IPython.display import display

import reskeras
from reskeras import lab
from reskeras.lab.networks import image_network
from reskeras.spec import Classifier


def tell(result):
    """The claims of an experiment, its text and its figure."""
    for check in result.checks:
        expected = "-" if check.expected is None else f"{check.expected:.3g}"
        print(f"{check.verdict.value:>9}  {check.measured:.3g} (theory {expected}): {check.claim}")
    print(f"\n{result.text}")
    display(result.figure)


# %% [markdown]
# ## Sequential networks, and degradation
#
# A deeper network could do all that a shallower one does: its further blocks only have to be the
# identity. Plain networks do not find that. With depth, their *training* loss rises, so this is not
# overfitting. The same network with shortcuts gets better with depth.

# %%
deepest = image_network((8, 8, 1), Classifier(classes=10), blocks=20, width=8)
tell(lab.degradation(deepest, seeds=3))

# %% [markdown]
# ## Residual connections
#
# A block computes x + F(x), and the derivative of that is 1 + dF/dx. The 1 hands the gradient on
# unchanged, however deep the network is.

# %%
tell(lab.gradients(seeds=4))

# %% [markdown]
# ## Exploding variance
#
# The same sum has a price: each block adds what its branch puts out. Without a norm, the second
# moment doubles with every block. Multiplying sums by 1/sqrt(2) cures it, and so does a norm in the
# branch: then each block adds 1.

# %%
tell(lab.variance(seeds=4))

# %% [markdown]
# What grows by a factor leaves the range of floating point numbers at a depth that follows from it.

# %%
tell(lab.precision(seeds=2))

# %% [markdown]
# ## Batch norm
#
# Behind batch norm, the scale of the weights changes nothing; only their direction counts. The
# gradient shrinks as weights grow, so large weights take small steps. In exchange, each image's
# output depends on the others of its batch, and more so in small batches.

# %%
tell(lab.batchnorm(seeds=2))

# %% [markdown]
# ## Nested function classes
#
# Blocks that start as the identity make a network deeper without changing what it computes. So the
# deeper network can do all that the shallower one can. When training gets there is another
# question.

# %%
digits = dataclasses.replace(reskeras.preset("digits_basic"), norm_order="full_preact")
tell(lab.nested(digits, seeds=3))

# %% [markdown]
# ## The first block
#
# Blocks that begin with ReLU see nothing of what is negative in their input. That is why the images
# go through a linear layer, the stem, first.

# %%
tell(lab.start(seeds=2))
