"""From a trial's values to its recipe: the network, its training, and the seed of both."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from reskeras.spec import Recipe
from tuning.space import Space


def trial_recipe(space: Space, values: Mapping[str, Any], *, number: int, seed: int) -> Recipe:
    """The recipe of a trial.

    Args:
        space: the space that is searched.
        values: Keras Tuner's, as in the journal: by path, with its own `tuner/epochs` if the oracle
            sets the number of epochs.
        number: the trial's number.
        seed: the search's seed.

    Raises:
        RequestError: the values do not make a valid spec together.
    """
    recipe = space.recipe(space.point(values))
    return _trained(
        recipe,
        epochs=values.get("tuner/epochs", recipe.train.epochs),
        seed=derive_seed(seed, "trial", number),
    )


def final_recipe(
    space: Space, values: Mapping[str, Any], *, number: int, seed: int, epochs: int, repeat: int
) -> Recipe:
    """The recipe of a final training of an earlier trial's network; see `trial_recipe`."""
    recipe = space.recipe(space.point(values))
    return _trained(recipe, epochs=epochs, seed=derive_seed(seed, "final", number, repeat))


def derive_seed(seed: int, *names: object) -> int:
    """A seed from 1 to 2^31 - 1, unrelated to those of other seeds and names.

    Keras Tuner takes 0 for no seed, and its neighboring seeds share most of their trials.
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % (2**31 - 1) + 1


def _trained(recipe: Recipe, *, epochs: int, seed: int) -> Recipe:
    return dataclasses.replace(
        recipe, train=dataclasses.replace(recipe.train, epochs=epochs, seed=seed)
    )
