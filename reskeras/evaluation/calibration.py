"""Whether answers are as often right as they are sure."""

from typing import Any, NamedTuple

import numpy as np

from reskeras.evaluation.intervals import Estimate, share_of
from reskeras.tasks.class_labels import CALIBRATION_BINS


class Bin(NamedTuple):
    """Answers that are about as sure as each other."""

    size: int
    """How many they are."""
    confidence: float
    """The mean probability that they give themselves."""
    right: Estimate
    """The share of them that is right."""


def bins_of(confidence: Any, right: Any) -> list[Bin]:
    """The bins of a reliability diagram (arXiv 1706.04599, Section 2), without empty ones.

    Args:
        confidence: of each answer [M], in 0..1.
        right: whether each is right [M].
    """
    number = np.clip((confidence * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    bins = []
    for each in np.unique(number):
        here = number == each
        count, hits = int(here.sum()), int(right[here].sum())
        share = Estimate(hits / count, *share_of(hits, count))
        bins.append(Bin(count, float(confidence[here].mean()), share))
    return bins
