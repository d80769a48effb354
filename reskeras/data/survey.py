"""What data are: classes and their balance, the range of pixels, and images that are copies."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Facts about image data as they reach a network."""

    counts: Mapping[str, tuple[int, ...]]
    """For each split, the number of images of each class; of pixels, if labels are masks."""
    low: float
    """The smallest value of a training image."""
    high: float
    """The largest."""
    mean: tuple[float, ...]
    """The mean of each channel of the training images."""
    deviation: tuple[float, ...]
    """The standard deviation of each channel."""
    baseline: float
    """The accuracy on the validation split of the commonest class of the training split."""
    copies: tuple[tuple[str, ...], ...]
    """Names of images that are equal, pixel by pixel, a group each."""
    leaks: int
    """Images of the validation and test splits that are in the training split, too."""


@naming_bad_images()
def survey(data: ImageData) -> Survey:
    """Reads every image once.

    Raises:
        RequestError: a file cannot be read.
    """
    counts, sums, squares, pixels = {}, 0.0, 0.0, 0
    low, high = np.inf, -np.inf
    seen: dict[bytes, list[tuple[str, int]]] = {}
    for split in data.sizes:
        total = np.zeros(data.classes, np.int64)
        for place, (image, label) in enumerate(data.split(split).as_numpy_iterator()):
            total += np.bincount(np.ravel(label), minlength=data.classes)
            seen.setdefault(hashlib.blake2b(image.tobytes()).digest(), []).append((split, place))
            if split == "train":
                values = image.astype(np.float64)
                sums, squares = sums + values.sum((0, 1)), squares + (values**2).sum((0, 1))
                pixels += values[..., 0].size
                low, high = min(low, values.min()), max(high, values.max())
        counts[split] = tuple(total.tolist())
    mean = np.asarray(sums) / pixels
    deviation = np.sqrt(np.maximum(0, np.asarray(squares) / pixels - mean**2))
    common, held = int(np.argmax(counts["train"])), counts["val"]
    groups = [group for group in seen.values() if len(group) > 1]
    return Survey(
        counts=counts,
        low=float(low),
        high=float(high),
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        baseline=held[common] / sum(held),
        copies=tuple(tuple(data.reader.called(*one) for one in group) for group in groups),
        leaks=sum(
            split != "train"
            for group in groups
            if any(split == "train" for split, _ in group)
            for split, _ in group
        ),
    )


def examples(data: ImageData, count: int) -> list[tuple[Any, Any]]:
    """Random training images with their labels or masks, with each class's share if it is known."""
    chosen = data.reader.chosen("train", data.sample(count))
    with naming_bad_images():
        return list(chosen.as_numpy_iterator())
