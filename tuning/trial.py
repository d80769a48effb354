"""One trial: a recipe is built and trained; what comes back is a value, also when it fails."""

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from reskeras.builder import build
from reskeras.data import ImageData
from reskeras.spec import Recipe
from reskeras.train import Epoch, train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished trial left."""

    epochs: tuple[Epoch, ...]
    params: int
    seconds: float

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of the last epoch: those of the weights that were kept."""
        return self.epochs[-1].metrics


def run_trial(
    recipe: Recipe,
    data: ImageData,
    *,
    first_epoch: int = 0,
    weights: Path | None = None,
    on_epoch: Callable[[Epoch], None],
) -> tuple[keras.Model, Outcome]:
    """Builds and trains one network.

    Args:
        recipe: the network, how to train it, and the seed of both.
        data: what it is trained and validated on.
        first_epoch: epochs that `weights` have been trained for already.
        weights: a `.weights.h5` to start from.
        on_epoch: called after each epoch.
    """
    start = time.perf_counter()
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(recipe.train.seed)
    model: Any = build(recipe.model)
    if weights is not None:
        model.load_weights(weights)
    epochs = train(model, data, recipe.train, first_epoch=first_epoch, on_epoch=on_epoch)
    seconds = time.perf_counter() - start
    return model, Outcome(epochs=tuple(epochs), params=model.count_params(), seconds=seconds)
