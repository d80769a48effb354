"""The real digits that embedded data sets are made of, and their split."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "validation", "test")
CITATION = """@misc{alpaydin1998,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49}
}"""
HOMEPAGE = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"

_WHITE = 16
"""A pixel counts the inked dots of a 4x4 patch."""
_SPLIT_SEED = 20_151_210
"""Fixes the split for good, so scores of different searches stay comparable."""


@dataclasses.dataclass(frozen=True, eq=False)  # each is itself, so it can be a key
class Digit:
    """A real digit."""

    source: int
    """Its place in scikit-learn's `load_digits`."""
    label: int
    ink: npt.NDArray[np.float64]
    """[8, 8], 0 (paper) to 1 (ink)."""


@functools.cache
def digits_by_split() -> Mapping[str, tuple[Digit, ...]]:
    """All 1,797 digits, split by class: 1,077 train, 360 validation, 360 test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits().images / _WHITE, load_digits().target
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=_SPLIT_SEED
    )
    train, validation = train_test_split(
        rest, test_size=360, stratify=labels[rest], random_state=_SPLIT_SEED
    )
    return {
        split: tuple(Digit(int(place), int(labels[place]), images[place]) for place in places)
        for split, places in zip(SPLITS, (train, validation, test), strict=True)
    }
