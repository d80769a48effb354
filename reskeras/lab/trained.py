"""Networks that experiments train."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from reskeras.data import ImageData, load
from reskeras.errors import RequestError
from reskeras.spec import AnySpec, Recipe, TrainSpec
from reskeras.training.state import Epoch
from reskeras.training.train import Training, build_seeded, evaluate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A network after its training."""

    model: Any
    epochs: Sequence[Epoch]
    diverged: bool
    """Whether its loss stopped being finite, which ended the training."""

    def scores(self, data: ImageData, split: str) -> dict[str, float]:
        """Its loss and metrics on a split, as it is now."""
        return evaluate(self.model, data, split)


@functools.cache
def default_data() -> ImageData:
    """What experiments train on if they are given nothing."""
    return load("digits")


def fitted_to(spec: AnySpec, data: ImageData) -> AnySpec:
    """A network with the input and the head that data need.

    Raises:
        RequestError: it does not fit them.
    """
    try:
        return data.task.fit(spec, data.facts)
    except ValueError as error:
        message = f"the network does not fit the data {data.name!r}: {error}"
        raise RequestError(message) from error


def train_network(
    spec: AnySpec, data: ImageData, how: TrainSpec, *, programs: Any = None
) -> Trained:
    """Builds a network with the weights of the training's seed, and trains it.

    Args:
        spec: the network, fitted to the data.
        data: the splits `train` and `val` are used.
        how: how to train; its seed decides everything random.
        programs: as for `Training`: shares what is compiled between trainings.
    """
    model = build_seeded(Recipe(spec=spec, train=how))
    training = Training(model, data, how, programs=programs)
    diverged = False
    try:
        while training.epoch < how.epochs and not training.ended:
            training.run_epoch()
    except FloatingPointError:
        diverged = True
    else:
        training.finish()
    return Trained(model=model, epochs=training.epochs, diverged=diverged)
