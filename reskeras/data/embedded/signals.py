"""Short signals of ten shapes, by the recipe of MNIST-1D."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds
from scipy import ndimage

from reskeras.data.embedded.canvas import Random, random_of

Array = npt.NDArray[np.float64]

SHAPES = {
    "hill": (0, 4, 7, 9, 10, 10, 10, 10, 9, 7, 4, 0),
    "valley": (0, -4, -7, -9, -10, -10, -10, -10, -9, -7, -4, 0),
    "hill_valley": (0, 6, 9, 9, 6, 2, -2, -6, -9, -9, -6, 0),
    "valley_hill": (0, -6, -9, -9, -6, -2, 2, 6, 9, 9, 6, 0),
    "two_hills": (0, 7, 10, 7, 2, 0, 0, 2, 7, 10, 7, 0),
    "two_valleys": (0, -7, -10, -7, -2, 0, 0, -2, -7, -10, -7, 0),
    "ramp": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0),
    "saw": (0, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
    "step": (0, -8, -8, -8, -8, -8, 8, 8, 8, 8, 8, 0),
    "spike": (0, 0, 0, 0, 4, 10, 10, 4, 0, 0, 0, 0),
}
"""The classes: 12 points each, from 0 to 0. They are ours, not those of MNIST-1D."""

_PADDING = (36, 60)
_LONG = 12 + 60
_LENGTH = 40
_RESCALE = 0.4
_SHIFTS = 48
_SLOW_NOISE = 1.5
_NOISE = 0.12
_SHEAR = 4.5


def stretched(signal: Array, length: int) -> Array:
    """A signal at `length` evenly spaced points from its first to its last, by straight lines."""
    ends = 0, len(signal) - 1
    return np.asarray(np.interp(np.linspace(*ends, length), range(len(signal)), signal))


def signal_of(shape: str, random: Random) -> Array:
    """A signal [40] of a shape."""
    points = np.array(SHAPES[shape], float)
    points /= points.std()
    padded = np.pad(points, (0, random.randint(_PADDING[0], _PADDING[1] + 1)))
    there = np.pad(np.ones(len(points)), (0, len(padded) - len(points)))
    shift = random.randint(_SHIFTS)
    long = np.roll(stretched(padded, _LONG), shift)
    long *= 1 + _RESCALE * random.uniform(-0.5, 0.5)
    is_shape = np.roll(stretched(there, _LONG), shift) > 0
    slow = ndimage.gaussian_filter(_SLOW_NOISE * random.normal(size=_LONG), 2)
    noisy = np.where(is_shape, long, slow) + _NOISE * random.normal(size=_LONG)
    sheared = noisy - _SHEAR * random.uniform(-0.5, 0.5) * np.linspace(-0.5, 0.5, _LONG)
    return stretched(sheared, _LENGTH)


class Signals(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """1-D signals of 40 numbers and 10 classes: a small test of networks, as MNIST-1D is.

    The recipe and its numbers are those of S. Greydanus and D. Kobak, "Scaling Down Deep Learning
    with MNIST-1D", arXiv 2011.14439, in our own code; the ten shapes, and so the data, are ours:

    1. A shape of 12 points, of standard deviation 1, is padded with 36 to 60 zeros, stretched to 72
       points, multiplied by 0.8 to 1.2, and shifted around by 0 to 47 points.
    2. Smooth noise (normal, deviation 1.5, through a Gaussian of 2 points) is where the shape is
       not, and noise of deviation 0.12 everywhere.
    3. A line that rises or falls by up to 2.25 in all is added, and 40 points are taken.

    MNIST-1D's shapes have the deviation 1/6, and its noise and lines a sixth of ours; it brings all
    signals to the deviation 1 at the end.

    Classes are equally frequent. There are no source images: what splits share are the shapes.
    """

    VERSION = tfds.core.Version("1.0.0")
    SIZES: ClassVar = {"train": 4000, "validation": 1000, "test": 1000}
    SEED = 6

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict(
            {
                "signal": tfds.features.Tensor(shape=(_LENGTH, 1), dtype=np.float32),
                "label": tfds.features.ClassLabel(names=list(SHAPES)),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Signals of 40 numbers: ten shapes, shifted, scaled, sheared and noisy.",
            features=features,
            supervised_keys=("signal", "label"),
            homepage="https://arxiv.org/abs/2011.14439",
            citation="""@inproceedings{greydanus2024,
  author = {Greydanus, Sam and Kobak, Dmitry},
  title = {Scaling Down Deep Learning with {MNIST-1D}},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}""",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self.SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(self.SIZES[split]):
            shape = list(SHAPES)[number % len(SHAPES)]
            signal = signal_of(shape, random_of(self.SEED, split, number))
            yield number, {"signal": signal.astype(np.float32)[:, np.newaxis], "label": shape}
