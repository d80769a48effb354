"""What data are: classes and their balance, the range of pixels, copies and images like them."""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from reskeras.data.augment import augmented
from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData, as_floats
from reskeras.data.near import near_groups, small_versions
from reskeras.data.pixels import scaled
from reskeras.spec import Augment
from reskeras.tasks import IGNORED

_BATCH = 256
"""Images in memory at once, of data that do not stay there."""
_AUGMENT_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Facts about image data as they reach a network."""

    counts: Mapping[str, tuple[int, ...]]
    """For each split, the number of images of each class; of pixels that have one, if
    labels are masks."""
    largest_share: float
    """The share of the training images (or pixels) that the commonest class has."""
    smallest_share: float
    """That of the rarest class."""
    low: float
    """The smallest value of a training image."""
    high: float
    """The largest."""
    mean: tuple[float, ...]
    """The mean of each channel of the training images."""
    deviation: tuple[float, ...]
    """The standard deviation of each channel."""
    mask_values: tuple[int, int] | None
    """The smallest and the largest class in a mask; None if labels are no masks."""
    baseline: float
    """The accuracy on the validation split of the commonest class of the training split."""
    copies: tuple[tuple[str, ...], ...]
    """Names of images that are equal, pixel by pixel, a group each."""
    leaks: int
    """Images of the validation and test splits that are in the training split, too."""
    near: tuple[tuple[str, ...], ...]
    """Names of images that are nearly equal, a group each (see `reskeras.data.near`)."""
    near_leaks: int
    """Images of the validation and test splits that are not in the training split, but one that is
    nearly equal."""
    read_per_second: float
    """Images that were read, decoded and resized in a second."""


@naming_bad_images()
def survey(data: ImageData) -> Survey:
    """Reads every image once.

    Raises:
        RequestError: a file cannot be read.
    """
    counts, sums, squares, pixels = {}, 0.0, 0.0, 0
    low, high = np.inf, -np.inf
    span_low, span_high = np.inf, -np.inf
    reading, small = 0.0, []
    # The first image waits for TensorFlow to start.
    list(as_floats(data.reader.stored("train")).take(1).as_numpy_iterator())
    seen: dict[bytes, list[tuple[str, int]]] = {}
    for split in data.sizes:
        total, place, start = np.zeros(data.classes, np.int64), 0, time.perf_counter()
        for images, labels in _batches(data, split):
            reading += time.perf_counter() - start
            total += np.bincount(labels[labels > IGNORED], minlength=data.classes)
            new = np.zeros(len(images), bool)
            for number, image in enumerate(images):
                digest = hashlib.blake2b(image.tobytes()).digest()
                new[number] = digest not in seen
                seen.setdefault(digest, []).append((split, place + number))
            small.append(small_versions(images[new]))
            place += len(images)
            lowest, highest = images.min(), images.max()
            span_low, span_high = min(span_low, lowest), max(span_high, highest)
            if split == "train":
                sums = sums + images.sum((0, 1, 2), np.float64)
                squares = squares + np.square(images, dtype=np.float64).sum((0, 1, 2))
                pixels += images[..., 0].size
                low, high = min(low, lowest), max(high, highest)
            start = time.perf_counter()
        counts[split] = tuple(total.tolist())
    mean = np.asarray(sums) / pixels
    deviation = np.sqrt(np.maximum(0, np.asarray(squares) / pixels - mean**2))
    trained, held = counts["train"], counts["val"]
    present = np.flatnonzero(np.sum(list(counts.values()), axis=0))
    contents = list(seen.values())
    groups = [group for group in contents if len(group) > 1]
    near = [
        [contents[number] for number in group]
        for group in near_groups(np.concatenate(small), float(span_high - span_low))
    ]
    return Survey(
        counts=counts,
        largest_share=max(trained) / sum(trained),
        smallest_share=min(trained) / sum(trained),
        low=float(low),
        high=float(high),
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        mask_values=(int(present[0]), int(present[-1])) if data.task.label_follows_image else None,
        baseline=held[int(np.argmax(trained))] / sum(held),
        copies=tuple(tuple(data.reader.called(*one) for one in group) for group in groups),
        leaks=sum(len(_held(group)) for group in groups if _trained(group)),
        near=tuple(tuple(data.reader.called(*group[0]) for group in alike) for alike in near),
        near_leaks=sum(
            len(_held(group))
            for alike in near
            if any(map(_trained, alike))
            for group in alike
            if not _trained(group)
        ),
        read_per_second=sum(data.sizes.values()) / max(reading, 1e-9),
    )


def _batches(data: ImageData, split: str) -> Iterator[tuple[Any, Any]]:
    """A split in its stored order: images [N,H,W,C] with labels or masks, as arrays."""
    if data.in_memory:
        images, labels = (part.numpy() for part in data.tensors(split))
        for start in range(0, len(images), _BATCH):
            yield scaled(images[start : start + _BATCH]), labels[start : start + _BATCH]
    else:
        yield from as_floats(data.reader.stored(split)).batch(_BATCH).as_numpy_iterator()


def _trained(places: list[tuple[str, int]]) -> bool:
    return any(split == "train" for split, _ in places)


def _held(places: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [place for place in places if place[0] != "train"]


def examples(data: ImageData, count: int, augment: Augment = "none") -> list[tuple[Any, Any]]:
    """Random training images with their labels or masks, with each class's share if it is known.

    The same ones whatever `augment` is, which changes them as training does.
    """
    chosen = data.reader.chosen("train", data.sample(count))
    chosen = augmented(chosen, augment, _AUGMENT_SEED, data.task, data.border)
    with naming_bad_images():
        return list(chosen.as_numpy_iterator())
