"""Whether data are what a network was made for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reskeras.data.images import ImageData
from reskeras.errors import RequestError, did_you_mean
from reskeras.models.predictor import Answerer
from reskeras.tasks import Labels, Task

_NAMED = 12
"""Names of classes that a message lists."""
_WHOLE = re.compile(r"-?\d+")
"""The name of a class that is the value of its labels."""


def check(ask: Answerer, record: Mapping[str, Any], data: ImageData, split: str, name: str) -> None:
    """Checks that a network's answers can be compared with the labels of a split.

    Args:
        ask: the network.
        record: the facts of its data, as `ImageData.about` has them; empty if they are not known.
        data: image data.
        split: the name of a split.
        name: what to call the network.

    Raises:
        RequestError: there is no such split, or labels or images are not what the network was
            trained on.
    """
    where = f"the data {data.name!r}"
    if split not in data.sizes:
        raise RequestError(
            f"--split {split}: {where} have no such split{did_you_mean(split, data.sizes)}; they "
            f"have {', '.join(data.sizes)}"
        )
    if data.task.labels is not ask.task.labels:
        raise RequestError(f"{where} have {data.task.noun}, but {name} gives {ask.task.answers}")
    names, own = tuple(record.get("class_names", ())), data.class_names
    if data.classes != ask.facts.classes or (names and own and names != own):
        raise RequestError(
            f"{where} have {data.task.noun} {_told(data.task, data.classes, own)}, but {name} was "
            f"trained on those {_told(data.task, ask.facts.classes, names)}"
        )
    if data.task.labels in (Labels.CLASS, Labels.MASK) and "class_names" in record:
        held = _held(own, data.values, data.classes)
        learned = _held(names, record.get("values", ()), data.classes)
        if not (names and own) and held and learned and held != learned:
            raise RequestError(
                f"{where} have {data.task.noun} with the values {_few(held)}, but {name} was "
                f"trained on {_few(learned)}; save them with the values of training"
            )
    if len(ask.image_shape) != len(data.image_shape) or any(
        wanted not in (None, found)
        for wanted, found in zip(ask.image_shape, data.image_shape, strict=True)
    ):
        raise RequestError(
            f"{where} have images of {_times(data.image_shape)}, but {name} takes "
            f"{_times(ask.image_shape)}"
        )
    if (spacing := record.get("spacing")) is not None and tuple(spacing) != data.spacing:
        raise RequestError(
            f"{where} have {_spaced(data.spacing)}, but {name} was trained on {_spaced(spacing)}"
        )
    if record.get("enlarge", data.enlarge) != data.enlarge:
        raise RequestError(
            f"{where} have targets {_larger(data.enlarge)}, but {name} was trained on those "
            f"{_larger(record['enlarge'])}"
        )
    if record and record.get("peak") != data.peak:
        raise RequestError(
            f"{where}: the pixel value that becomes 1 is {_peak(data.peak)}, but it was "
            f"{_peak(record.get('peak'))} where {name} was trained"
        )


def _held(names: Sequence[str], values: Sequence[int], classes: int) -> tuple[str, ...]:
    """What labels hold for each class, in words; empty if names do not tell."""
    if values:
        return tuple(map(str, values))
    if not names:
        return tuple(map(str, range(classes)))
    return tuple(names) if all(_WHOLE.fullmatch(name) for name in names) else ()


def _told(task: Task, classes: int, names: tuple[str, ...]) -> str:
    """How many, and the first names: `in 10 classes (cat, dog, ...)`."""
    listed = f" ({_few(names)})" if names else ""
    return task.labels.told(classes) + listed


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])


def _spaced(spacing: Sequence[float]) -> str:
    if not spacing:
        return "volumes that are used as they are"
    return f"volumes that are resampled to {'x'.join(f'{size:g}' for size in spacing)} mm"


def _larger(times: int) -> str:
    return "of the size of their images" if times == 1 else f"{times} times as large"


def _peak(value: float | None) -> str:
    return "that of the files" if value is None else f"{value:g}"


def _times(shape: Any) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)
