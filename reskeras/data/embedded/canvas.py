"""Real digits drawn on a canvas: what the data sets made of them share."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds
from scipy import ndimage
from scipy.spatial import distance

from reskeras.data.embedded.real_digits import CITATION, HOMEPAGE, SPLITS, Digit, digits_by_split

Array = npt.NDArray[np.float64]
Random = np.random.RandomState
"""NumPy promises that its numbers stay the same in all versions; those of `Generator` may not."""

_PAPER = 2
"""Pixels of paper around a digit before it is turned: ink at its border fades out beyond it."""
_TRIES = 20
"""Random places that are tried for a digit."""


def random_of(seed: int, split: str, number: int) -> Random:
    """The random numbers of one example, which depend on no other example."""
    return Random([seed, SPLITS.index(split), number])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """How a digit is put on a canvas."""

    zoom: float
    """Pixels of the canvas for one pixel of the digit."""
    angle: float
    """Degrees, counterclockwise as seen."""
    center: tuple[float, float]
    """x (to the right) and y (down) of the digit's center on the canvas, in pixels. The center of
    the first pixel is (0, 0)."""

    @property
    def _matrix(self) -> Array:
        """From (y, x) of a digit to (y, x) of the canvas, around the centers."""
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        return self.zoom * np.array([[cos, -sin], [sin, cos]])

    def ink(self, digit: Digit, side: int) -> Array:
        """The ink of a digit on a canvas, [side, side], 0 to 1, by cubic splines."""
        inverse = np.linalg.inv(self._matrix)
        paper = np.pad(digit.ink, _PAPER)
        middle = (np.array(paper.shape) - 1) / 2
        offset = middle - inverse @ np.array(self.center[::-1])
        drawn = ndimage.affine_transform(paper, inverse, offset, (side, side), order=3)
        return np.asarray(drawn.clip(0, 1))

    def on_canvas(self, points: Array, digit: Digit) -> Array:
        """Where points [..., 2] of a digit, each x and y in its pixels, are on the canvas."""
        middle = (np.array(digit.ink.shape) - 1) / 2
        turned = (points[..., ::-1] - middle) @ self._matrix.T
        return np.asarray(turned[..., ::-1] + np.array(self.center))


def scattered(random: Random, count: int, side: int, margin: float, apart: float) -> Array:
    """Random places (x, y) on a canvas that keep a distance from each other: [up to count, 2].

    Args:
        random: random numbers.
        count: how many; a canvas too full for a further one has fewer.
        side: of the canvas.
        margin: the least distance to its border.
        apart: the least distance between two.
    """
    places = np.empty((0, 2))
    for _ in range(count):
        tried = random.uniform(margin, side - 1 - margin, (_TRIES, 2))
        free = (distance.cdist(tried, places) >= apart).all(1)
        places = np.concatenate([places, tried[free][:1]])
    return places


def texture(random: Random, side: int, strength: float) -> Array:
    """A cloudy gray background, [side, side], around 0.25.

    Args:
        random: random numbers.
        side: of the canvas.
        strength: its standard deviation.
    """
    clouds = ndimage.gaussian_filter(random.normal(size=(side, side)), 2, mode="wrap")
    return np.asarray(0.25 + strength * clouds / clouds.std())


def painted(random: Random, background: Array, inks: Sequence[Array], noise: float) -> Array:
    """An image [H, W] of digits on a background, in the order of `inks`, each of a gray of its own.

    Args:
        random: random numbers.
        background: [H, W].
        inks: of the digits, each [H, W].
        noise: the standard deviation of what is added to each pixel.
    """
    image = background
    for ink in inks:
        image = image + ink * (random.uniform(0.6, 1.0) - image)
    return np.asarray(image + noise * random.normal(size=image.shape))


def as_bytes(image: Array) -> npt.NDArray[np.uint8]:
    """An image [H, W] of 0 to 1 as TFDS takes it: bytes [H, W, 1]."""
    return np.round(image.clip(0, 1) * 255).astype(np.uint8)[..., np.newaxis]


class MadeOfDigits(tfds.core.GeneratorBasedBuilder, abc.ABC):  # type: ignore[misc]
    """A TFDS builder of images that are made of the real digits of `digits`.

    The images of a split are made of its digits alone, so no digit is in two splits. The feature
    `sources` says which ones: their places in scikit-learn's `load_digits`.
    """

    SIZES: ClassVar[Mapping[str, int]] = {"train": 2000, "validation": 500, "test": 500}
    SEED: ClassVar[int]
    """Another one gives other images, and needs another version."""
    ABOUT: ClassVar[str]
    """The description."""
    KEYS: ClassVar[tuple[str, str]]
    """Names of the features that are the image and its label."""
    METADATA: ClassVar[Mapping[str, Any]] = {}
    """What else `info.metadata` says."""

    @classmethod
    @abc.abstractmethod
    def features(cls) -> dict[str, Any]:
        """The features, without `sources`."""

    @classmethod
    @abc.abstractmethod
    def example(cls, random: Random, digits: Sequence[Digit]) -> dict[str, Any]:
        """One example, with its `sources`.

        Args:
            random: random numbers.
            digits: of the split.
        """

    def _info(self) -> Any:
        sources = tfds.features.Sequence(tfds.features.Scalar(np.int64))
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.ABOUT,
            features=tfds.features.FeaturesDict({**self.features(), "sources": sources}),
            supervised_keys=self.KEYS,
            metadata=tfds.core.MetadataDict(self.METADATA),
            citation=CITATION,
            homepage=HOMEPAGE,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self.SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(self.SIZES[split]):
            random = random_of(self.SEED, split, number)
            yield number, self.example(random, digits_by_split()[split])
