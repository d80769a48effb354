"""Small parts of a data set, and the same with labels or images that tell nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from reskeras.data.images import ImageData, RowReader
from reskeras.tasks.labels import Labels

Pair = tuple[Any, Any]
"""Images [N,*sides,C], bytes or float32 in 0..1, and their labels."""


class _Pairs(RowReader):
    """Reads pairs in memory, as the data's reader gave them."""

    def __init__(self, splits: Mapping[str, Pair], *, has_classes: bool) -> None:
        self._splits, self._has_classes = splits, has_classes
        self.dtype = splits["train"][0].dtype

    def size(self, split: str) -> int:
        return len(self._splits[split][1])

    def rows(self, split: str, places: Any) -> Pair:
        images, labels = self._splits[split]
        return images[places], labels[places]

    def classes_of(self, split: str) -> Any:
        return self._splits[split][1] if self._has_classes else None


def few(data: ImageData, train: int, val: int) -> dict[str, Pair]:
    """Random samples of the splits `train` and `val`."""
    return {"train": _few(data, "train", train), "val": _few(data, "val", val)}


def _few(data: ImageData, split: str, count: int) -> Pair:
    size = data.sizes[split]
    places = (
        data.sample(count)
        if split == "train"
        else np.random.default_rng(0).permutation(size)[:count]
    )
    chosen = data.reader.chosen(split, np.sort(places))
    images, labels = zip(*chosen.as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)


def blind(pair: Pair) -> Pair:
    """The same labels for images that are all black."""
    images, labels = pair
    return np.zeros_like(images), labels


def repeated(pair: Pair, count: int) -> Pair:
    """The pairs again and again, `count` in all."""
    places = np.arange(count) % len(pair[1])
    return pair[0][places], pair[1][places]


def shuffled(pair: Pair, seed: int) -> Pair:
    """Each image with the label of another one, at random."""
    images, labels = pair
    return images, labels[np.random.default_rng(seed).permutation(len(labels))]


def as_data(data: ImageData, splits: Mapping[str, Pair], called: str) -> ImageData:
    """The same kind of data with these splits.

    Args:
        data: whose facts hold.
        splits: `train` and `val`.
        called: what tells them apart from others of the same data.
    """
    reader = _Pairs(splits, has_classes=data.task.labels is Labels.CLASS)
    sizes = {split: len(labels) for split, (_, labels) in splits.items()}
    return dataclasses.replace(
        data, reader=reader, sizes=sizes, digest=f"{data.digest} {called}", notes=()
    )
