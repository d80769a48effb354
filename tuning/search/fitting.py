"""A space whose network fits the data."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from reskeras.data import ImageData
from reskeras.data.augment import check_augmentation
from reskeras.errors import RequestError, mistakes_of
from reskeras.models.inputs import Layout
from reskeras.spec import Segmenter, TrainSpec
from reskeras.training.checks import check_mixes, check_training
from tuning.space import Range, Space

_ALONE = ("label_smoothing", "class_weight", "stop_early.metric")
"""Searched settings that only some tasks have."""
_TOGETHER = ("loss", "border_weight", "augment", "augment.mixup", "augment.cutmix")
"""Those that do not all go together."""


def fitted(space: Space, data: ImageData) -> Space:
    """The space around its network with the data's image shape and head.

    Raises:
        RequestError: the network does not fit the data, or they cannot be trained on as some trial
            would (see `reskeras.training.checks`).
    """
    for values, train in _trainings(space):
        try:
            check_training(train, data)
        except RequestError as error:
            if len(values) < 2:
                raise
            told = " and ".join(f"{path} {value}" for path, value in values.items())
            raise RequestError(f"{error} (a trial may have {told})") from error
    for augmentation in space.augmentations():
        check_augmentation(augmentation, data.task.labels, data.image_shape, data.classes)
    try:
        found = space.fit_to(data.task.fit(space.base.spec, data.facts))
    except ValueError as error:
        reason = mistakes_of(error)[0] if isinstance(error, ValidationError) else error
        raise RequestError(f"the space does not fit the data {data.name!r}: {reason}") from error
    spec = found.base.spec
    for augmentation in space.augmentations():
        check_mixes(
            augmentation,
            layout=Layout.FLAT if len(spec.input_shape) == 1 else Layout.CHANNELS_LAST,
            channels=spec.head.classes if isinstance(spec.head, Segmenter) else data.classes,
            ignores=data.ignores,
        )
    return found


def _trainings(space: Space) -> Iterator[tuple[Mapping[str, Any], TrainSpec]]:
    """The base's training, and those with searched values that not all tasks have, by path."""
    yield {}, space.base.train
    for field in _ALONE:
        for value in _ends(space, path := f"train.{field}"):
            yield {path: value}, space.recipe({path: value}).train
    paths = [path for field in _TOGETHER if (path := f"train.{field}") in space.vary]
    for chosen in itertools.product(*(_ends(space, path) for path in paths)):
        values = dict(zip(paths, chosen, strict=True))
        yield values, space.recipe(values).train


def _ends(space: Space, path: str) -> tuple[Any, ...]:
    """The values of a path, or the ends of its range; none if it does not vary."""
    item = space.vary.get(path, ())
    return (item.low, item.high) if isinstance(item, Range) else item
