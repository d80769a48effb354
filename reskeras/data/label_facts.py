"""What the labels of each split hold, and what one answer to all images would score."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.data.pixels import scaled
from reskeras.tasks import IGNORED, Labels
from reskeras.tasks.baselines import mean_places
from reskeras.tasks.metrics import (
    ACCURACY,
    AVERAGE_PRECISION,
    MEAN_ABSOLUTE_ERROR,
    PIXEL_ERROR,
    PSNR,
)

Array = np.ndarray[Any, Any]
_LEAST_ERROR = 1e-10
"""The smallest squared error that counts: equal images have 100 dB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimpleScore:
    """What an answer that asks no image scores on the validation split, by counting alone.

    The answers are those of `Task.baselines`, which answer images and have all metrics.
    """

    metric: str
    """The name of a metric of a task with such labels."""
    score: float
    answer: str
    """In words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """Facts about labels of any kind."""

    baseline: SimpleScore | None
    """None if there is no answer without a network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFacts(LabelFacts):
    """Of `Labels.CLASS` and `Labels.MASK`."""

    counts: Mapping[str, tuple[int, ...]]
    """For each split, the images of each class; if labels are masks, the pixels."""
    largest_share: float
    """The share of the training images (or pixels) that the commonest class has."""
    smallest_share: float
    """That of the rarest class."""
    mask_values: tuple[int, int] | None
    """The smallest and the largest class in a mask; None if labels are no masks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetFacts(LabelFacts):
    """Of `Labels.CLASSES`."""

    counts: Mapping[str, tuple[int, ...]]
    """For each split, the images that show each class."""
    together: Mapping[str, tuple[int, ...]]
    """For each split, the images that show no class, one class, two ..."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberFacts(LabelFacts):
    """Of `Labels.NUMBERS`: for each split, of each number."""

    means: Mapping[str, tuple[float, ...]]
    deviations: Mapping[str, tuple[float, ...]]
    lowest: Mapping[str, tuple[float, ...]]
    highest: Mapping[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointFacts(LabelFacts):
    """Of `Labels.POINTS`: for each split, of each point."""

    there: Mapping[str, tuple[float, ...]]
    """The share of the images in which it is."""
    places: Mapping[str, tuple[tuple[float, float] | None, ...]]
    """The mean x and y in pixels; None if it is in no image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoredFacts(LabelFacts):
    """Of `Labels.IMAGE`: how near images are to what is to be made of them, in dB.

    PSNR = -10 log10(mean((label - image)^2)), of values in 0..1; None if images have fewer
    channels than labels, or more.
    """

    psnr: Mapping[str, float | None]
    """For each split, the mean of all images."""
    psnr_lowest: Mapping[str, float | None]
    psnr_highest: Mapping[str, float | None]


def kept_of(kind: Labels, images: Array, labels: Array, count: int) -> Array:
    """What `facts_of` needs of a batch, which is small: of masks and images, one number each.

    Args:
        kind: of the labels.
        images: float32 [N,*sides,C].
        labels: [N,...], as `ImageData` has them.
        count: how many classes, numbers, points or channels a label has.
    """
    match kind:
        case Labels.MASK:
            return np.bincount(labels[labels > IGNORED], minlength=count)[np.newaxis]
        case Labels.IMAGE if images.shape[-1] != count:
            return np.full(len(images), np.nan)
        case Labels.IMAGE:
            errors = np.square(scaled(labels) - images.clip(0, 1), dtype=np.float64)
            means = errors.mean(axis=tuple(range(1, errors.ndim)))
            return np.asarray(-10 * np.log10(np.maximum(means, _LEAST_ERROR)))
        case _:
            return labels


def facts_of(kind: Labels, kept: Mapping[str, Sequence[Array]], count: int) -> LabelFacts:
    """Facts about all labels.

    Args:
        kind: of the labels.
        kept: for each split, what `kept_of` returned for each batch.
        count: how many classes, numbers, points or channels a label has.
    """
    splits = {split: np.concatenate(parts) for split, parts in kept.items()}
    match kind:
        case Labels.CLASS:
            return _classes({s: np.bincount(y, minlength=count) for s, y in splits.items()}, kind)
        case Labels.MASK:
            return _classes({split: y.sum(axis=0) for split, y in splits.items()}, kind)
        case Labels.CLASSES:
            return _sets(splits)
        case Labels.NUMBERS:
            return _numbers({split: y.astype(np.float64) for split, y in splits.items()})
        case Labels.POINTS:
            return _points({split: y.astype(np.float64) for split, y in splits.items()})
        case Labels.IMAGE:
            return _restored(splits)


def _classes(counts: Mapping[str, Array], kind: Labels) -> ClassFacts:
    trained, held = counts["train"], counts["val"]
    present = np.flatnonzero(np.sum(list(counts.values()), axis=0))
    return ClassFacts(
        baseline=SimpleScore(
            metric=ACCURACY.name,
            score=float(held[trained.argmax()] / held.sum()),
            answer="always the commonest class",
        ),
        counts={split: tuple(found.tolist()) for split, found in counts.items()},
        largest_share=float(trained.max() / trained.sum()),
        smallest_share=float(trained.min() / trained.sum()),
        mask_values=(int(present[0]), int(present[-1])) if kind is Labels.MASK else None,
    )


def _sets(splits: Mapping[str, Array]) -> SetFacts:
    # Equal scores for all images: at each recall, the precision is how often the class is there.
    held = splits["val"].mean(axis=0)
    known = held[held > 0]
    most = max(int(y.sum(axis=1).max()) for y in splits.values())
    return SetFacts(
        baseline=SimpleScore(
            metric=AVERAGE_PRECISION.name,
            score=float(known.mean()) if len(known) else 0.0,
            answer="how often each class is there",
        ),
        counts={split: tuple(map(int, y.sum(axis=0))) for split, y in splits.items()},
        together={
            split: tuple(np.bincount(y.sum(axis=1).astype(int), minlength=most + 1).tolist())
            for split, y in splits.items()
        },
    )


def _numbers(splits: Mapping[str, Array]) -> NumberFacts:
    def each(of: Any) -> dict[str, tuple[float, ...]]:
        return {split: tuple(of(y, axis=0).tolist()) for split, y in splits.items()}

    mean = splits["train"].mean(axis=0)
    return NumberFacts(
        baseline=SimpleScore(
            metric=MEAN_ABSOLUTE_ERROR.name,
            score=float(np.abs(splits["val"] - mean).mean()),
            answer="always the mean",
        ),
        means=each(np.mean),
        deviations=each(np.std),
        lowest=each(np.min),
        highest=each(np.max),
    )


def _points(splits: Mapping[str, Array]) -> PointFacts:
    there = {split: np.asarray(np.isfinite(y).all(axis=-1)) for split, y in splits.items()}
    places = {
        split: tuple(_mean_place(y[:, k][there[split][:, k]]) for k in range(y.shape[1]))
        for split, y in splits.items()
    }
    away = splits["val"] - mean_places(splits["train"])
    apart = np.linalg.norm(away, axis=-1)[there["val"]]
    return PointFacts(
        baseline=SimpleScore(
            metric=PIXEL_ERROR.name,
            score=float(apart.mean()),
            answer="always the mean position",
        )
        if len(apart)
        else None,
        there={split: tuple(found.mean(axis=0).tolist()) for split, found in there.items()},
        places=places,
    )


def _mean_place(points: Array) -> tuple[float, float] | None:
    if not len(points):
        return None
    x, y = points.mean(axis=0).tolist()
    return x, y


def _restored(splits: Mapping[str, Array]) -> RestoredFacts:
    if np.isnan(splits["train"]).any():
        none = dict.fromkeys(splits)
        return RestoredFacts(baseline=None, psnr=none, psnr_lowest=none, psnr_highest=none)
    return RestoredFacts(
        baseline=SimpleScore(
            metric=PSNR.name, score=float(splits["val"].mean()), answer="the input as it is"
        ),
        psnr={split: float(found.mean()) for split, found in splits.items()},
        psnr_lowest={split: float(found.min()) for split, found in splits.items()},
        psnr_highest={split: float(found.max()) for split, found in splits.items()},
    )
