"""Networks that experiments train."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras

from reskeras.data import ImageData, load
from reskeras.errors import RequestError
from reskeras.lab.probe import in_layout, training_images
from reskeras.spec import AnySpec, Recipe, TrainSpec
from reskeras.training.fitted import scores_of
from reskeras.training.state import Epoch
from reskeras.training.targets import Targets
from reskeras.training.train import Training, build_seeded, evaluate

_SCORED = 256
"""Images of a batch that is scored."""


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
    return train_on(build_seeded(Recipe(spec=spec, train=how)), data, how, programs=programs)


def train_on(
    model: Any,
    data: ImageData,
    how: TrainSpec,
    *,
    first_epoch: int = 0,
    last_epoch: int | None = None,
    programs: Any = None,
) -> Trained:
    """Trains a network that is built, in place.

    Args:
        model: the network.
        data: the splits `train` and `val` are used.
        how: how to train.
        first_epoch: epochs that it has been trained for.
        last_epoch: stops before `how.epochs`; the learning rate still spans all of them.
        programs: as for `Training`.
    """
    training = Training(model, data, how, first_epoch=first_epoch, programs=programs)
    diverged = False
    try:
        while training.epoch < (last_epoch or how.epochs) and not training.ended:
            training.run_epoch()
    except FloatingPointError:
        diverged = True
    else:
        training.finish()
    return Trained(model=model, epochs=training.epochs, diverged=diverged)


def images_of(spec: AnySpec, data: ImageData, count: int) -> Any:
    """Some training images as a network takes them: channels first if it has them there."""
    _, images = in_layout(spec, training_images(spec, data, count))
    return images.numpy()


class Scorer:
    """Scores a network on a split again and again while its weights are changed.

    Args:
        model: the network.
        data: the data.
        split: the split.
    """

    def __init__(self, model: Any, data: ImageData, split: str) -> None:
        targets = Targets(model, data)
        # Not the one that is given, which is compiled with stock metrics alone.
        self._model = keras.Model(model.input, model.output)
        self._model.compile(**targets.compile_options())
        self._batches = targets.prepared(data.split(split)).batch(_SCORED).cache()

    def scores(self) -> dict[str, float]:
        """Loss and metrics with the weights of now."""
        return scores_of(self._model.evaluate(self._batches, verbose=0, return_dict=True))
