"""What data are: their labels, the range of pixels, copies and images like them."""

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from reskeras.data.augment import augmented, augmenter_of
from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData, as_floats
from reskeras.data.label_facts import LabelFacts, facts_of, kept_of
from reskeras.data.near import near_groups, small_versions
from reskeras.data.pixels import scaled
from reskeras.spec import NO_AUGMENTATION, Augmentation

_BATCH = 256
"""Images in memory at once, of data that do not stay there."""
_AUGMENT_SEED = 0
_IMAGE_RANK = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Facts about image data as they reach a network."""

    labels: LabelFacts
    """What labels hold."""
    low: float
    """The smallest value of a training image."""
    high: float
    """The largest."""
    mean: tuple[float, ...]
    """The mean of each channel of the training images."""
    deviation: tuple[float, ...]
    """The standard deviation of each channel."""
    copies: tuple[tuple[str, ...], ...] | None
    """Names of images that are equal, pixel by pixel, a group each; None for patches, where none
    are looked for."""
    leaks: int
    """Images of the validation and test splits that are in the training split, too."""
    near: tuple[tuple[str, ...], ...] | None
    """Names of images that are nearly equal, a group each (see `reskeras.data.near`); None for
    signals, volumes and patches, where none are looked for."""
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
    data = data.unbiased()
    sums, squares, pixels = 0.0, 0.0, 0
    low, high = np.inf, -np.inf
    span_low, span_high = np.inf, -np.inf
    reading, small = 0.0, []
    kind, kept = data.task.labels, {}
    # Patches of one image overlap, and those of plain backgrounds are equal.
    whole = not data.reader.renews
    # Photos are saved again, brighter or smaller. Signals and volumes are not.
    flat = whole and len(data.image_shape) == _IMAGE_RANK
    # The first image waits for TensorFlow to start.
    list(as_floats(data.reader.stored("train")).take(1).as_numpy_iterator())
    seen: dict[bytes, list[tuple[str, int]]] = {}
    for split in data.sizes:
        parts, place, start = [], 0, time.perf_counter()
        for images, labels in _batches(data, split):
            reading += time.perf_counter() - start
            parts.append(kept_of(kind, images, labels, data.classes))
            new = np.zeros(len(images), bool)
            for number, image in enumerate(images if whole else ()):
                digest = hashlib.blake2b(image.tobytes()).digest()
                new[number] = digest not in seen
                seen.setdefault(digest, []).append((split, place + number))
            if flat:
                small.append(small_versions(images[new]))
            place += len(images)
            lowest, highest = images.min(), images.max()
            span_low, span_high = min(span_low, lowest), max(span_high, highest)
            if split == "train":
                axes = tuple(range(images.ndim - 1))
                sums = sums + images.sum(axes, np.float64)
                squares = squares + np.square(images, dtype=np.float64).sum(axes)
                pixels += images[..., 0].size
                low, high = min(low, lowest), max(high, highest)
            start = time.perf_counter()
        kept[split] = parts
    mean = np.asarray(sums) / pixels
    deviation = np.sqrt(np.maximum(0, np.asarray(squares) / pixels - mean**2))
    contents = list(seen.values())
    groups = [group for group in contents if len(group) > 1]
    alike = near_groups(np.concatenate(small), float(span_high - span_low)) if flat else []
    near = [[contents[number] for number in group] for group in alike]
    return Survey(
        labels=facts_of(kind, kept, data.classes),
        low=float(low),
        high=float(high),
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        copies=tuple(tuple(data.reader.called(*one) for one in group) for group in groups)
        if whole
        else None,
        leaks=sum(len(_held(group)) for group in groups if _trained(group)),
        near=tuple(tuple(data.reader.called(*group[0]) for group in some) for some in near)
        if flat
        else None,
        near_leaks=sum(
            len(_held(group))
            for some in near
            if any(map(_trained, some))
            for group in some
            if not _trained(group)
        ),
        read_per_second=sum(data.sizes.values()) / max(reading, 1e-9),
    )


def _batches(data: ImageData, split: str) -> Iterator[tuple[Any, Any]]:
    """A split in its stored order: images [N,*sides,C] with labels, as arrays."""
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


def examples(
    data: ImageData, count: int, augmentation: Augmentation = NO_AUGMENTATION
) -> list[tuple[Any, Any]]:
    """Random training images with their labels or masks, with each class's share if it is known.

    The same ones whatever `augmentation` is, which changes them as training does.
    """
    chosen = data.reader.chosen("train", data.sample(count))
    if augmentation.changes_images:
        chosen = as_floats(chosen)
    chosen = augmented(chosen, augmenter_of(augmentation, data), _AUGMENT_SEED)
    with naming_bad_images():
        found = list(chosen.as_numpy_iterator())
    if not augmentation.changes_images or data.reader.dtype != np.uint8:
        return found
    return [(np.rint(255 * image).astype(np.uint8), label) for image, label in found]
