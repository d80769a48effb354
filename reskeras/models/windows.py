"""Prediction by overlapping windows: a network of one size answers images of any size.

Needs NumPy alone, so functions of any framework can be used.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

Predict = Callable[[Any], Any]

_SIGMA = 1 / 8
"""Standard deviation of a window's weights, in windows."""


def windowed(
    predict: Predict,
    sides: Sequence[int],
    *,
    overlap: float = 0.5,
    margin: int = 0,
    border: int = 0,
    multiple: int = 1,
    flips: Sequence[int] = (),
    batch: int = 4,
) -> Predict:
    """A function from one image of any size to its answer, by windows with blended seams.

    As in nnU-Net (Isensee et al. 2021, Nature Methods 18, Methods: Inference), windows overlap by
    half, and the weight of an answer is a Gaussian around the center of its window, with a standard
    deviation of an eighth of its side. Windows are spread evenly; the first and the last are flush
    with the image, so it is padded only where it is smaller than a window: by mirroring, as in the
    U-Net paper (arXiv:1505.04597, Fig. 2). In memory are one batch of windows and the answer.

    Answers equal those of the same network for the whole image, up to float rounding, if no side is
    smaller than a window, `margin` covers half its receptive field, `multiple` is the product of
    its strides, and the image's sides are multiples of it.

    Args:
        predict: a function from windows [N,*sides,C] to answers [N,*sides',K], where sides' are the
            same multiple of all sides: 2 in super-resolution, 1/4 for heatmaps.
        sides: the sides of a window; one, two or three.
        overlap: the least share of a window's side that the next window repeats, in [0, 1).
        margin: pixels at the rim of a window without a weight where another window knows better.
        border: pixels that the network cuts off on each side, as one without padding does; the
            scale of answers is that of the rest. The image is mirrored by as much.
        multiple: windows begin at multiples of it, in pixels.
        flips: axes of the image along which windows are flipped (`with_flips`).
        batch: windows per call of `predict`.

    Returns:
        A function from an image [*any sides,C] to its answer [*scaled sides,K] in float32. Sides
        are rounded up where the scale is below 1. It raises ValueError for an image with another
        number of sides or an empty one, and for answers that do not fit their windows.

    Raises:
        ValueError: no such windows.
    """
    plain = [side - 2 * border for side in sides]
    margin = math.ceil(margin / multiple) * multiple
    steps = [
        min(int(side * (1 - overlap)), side - 2 * margin) // multiple * multiple for side in plain
    ]
    if not 0 <= overlap < 1 or min(margin, border) < 0 or batch < 1:
        raise ValueError(
            "overlap must be in [0, 1), margin and border at least 0, batch at least 1; not "
            f"{overlap}, {margin}, {border} and {batch}"
        )
    if min(plain) < 1 or any(side % multiple for side in plain):
        raise ValueError(
            f"windows of {_by(sides)} without a border of {border} must have sides that are "
            f"multiples of {multiple}"
        )
    if any(side <= 2 * margin for side in plain):
        raise ValueError(f"windows of {_by(plain)} have nothing inside a margin of {margin}")
    steps = [max(multiple, step) for step in steps]
    predict = with_flips(predict, flips) if flips else predict

    def whole(image: Any) -> Any:
        image = np.asarray(image)
        if image.ndim != len(sides) + 1 or 0 in image.shape:
            raise ValueError(
                f"an image of shape {image.shape}; windows of {_by(sides)} need {len(sides)} sides "
                "and channels"
            )
        known = image.shape[:-1]
        padded = [
            max(inner, math.ceil(side / multiple) * multiple)
            for side, inner in zip(known, plain, strict=True)
        ]
        starts = [
            window_starts(*given, multiple) for given in zip(padded, plain, steps, strict=True)
        ]
        blend: _Blend | None = None
        for corners in _chunks(itertools.product(*starts), batch):
            windows = [
                cut(image, [start - border for start in corner], sides) for corner in corners
            ]
            answers = np.asarray(predict(np.stack(windows)))
            if blend is None:
                scale = _scale(answers.shape[1:-1], plain, multiple)
                blend = _Blend(starts, plain, margin, scale, answers.shape[-1])
            for corner, answer in zip(corners, answers, strict=True):
                blend.add(corner, answer)
        assert blend is not None  # there is at least one window
        return blend.answer[tuple(slice(math.ceil(side * scale)) for side in known)]

    return whole


def with_flips(
    predict: Predict, axes: Sequence[int], back: Callable[[Any, Any], Any] = np.flip
) -> Predict:
    """The mean of the answers for an image and for its mirror images, each flipped back.

    Along n axes there are 2^n of them, as in nnU-Net. The network must give maps, and flipped
    images must look like images of their kind: not so for text, nor for left and right hands.

    Args:
        predict: a function from images [N,*sides,C] to maps [N,*sides',K].
        axes: of one image: 0 flips top and bottom, 1 left and right.
        back: flips answers back, along axes of a batch; for one answer for all of an image, it has
            nothing to do.
    """
    chosen = [
        tuple(axis + 1 for axis in some)  # after the batch
        for count in range(len(axes) + 1)
        for some in itertools.combinations(axes, count)
    ]

    def mean(images: Any) -> Any:
        total: Any = 0.0
        for flipped in chosen:
            total = total + back(np.asarray(predict(np.flip(images, flipped))), flipped)
        return total / len(chosen)

    return mean


def window_starts(side: int, window: int, step: int, multiple: int = 1) -> list[int]:
    """Where the fewest windows begin that cover a side at steps up to `step`, evenly spread.

    Args:
        side: not less than the window.
        window: the window's side.
        step: the most from one window to the next; a multiple of `multiple`.
        multiple: windows begin at multiples of it. Side and window are multiples of it, too.
    """
    last = (side - window) // multiple
    gaps = max(1, math.ceil(last * multiple / step))
    # Rounded down, steps differ by one at most, and none is longer than their mean rounded up.
    return sorted({number * last // gaps * multiple for number in range(gaps + 1)})


def cut(image: Any, corner: Sequence[int], sides: Sequence[int]) -> Any:
    """A part of an image [*any sides,...], which is mirrored at its rims as often as needed.

    The outermost pixel is repeated: "symmetric" in NumPy, "reflect" in SciPy.

    Args:
        image: an array; of one that is mapped into memory, only the part is read.
        corner: the first pixel of the part on each axis; it may lie outside.
        sides: of the part.
    """
    known = image.shape[: len(sides)]
    ends = [start + side for start, side in zip(corner, sides, strict=True)]
    if min(corner) >= 0 and all(end <= side for end, side in zip(ends, known, strict=True)):
        return np.asarray(image[tuple(map(slice, corner, ends))])
    folded = [
        np.arange(start, end) % (2 * side)
        for start, end, side in zip(corner, ends, known, strict=True)
    ]
    places = [
        np.minimum(place, 2 * side - 1 - place) for place, side in zip(folded, known, strict=True)
    ]
    return np.asarray(image[np.ix_(*places)])


class _Axis(NamedTuple):
    """The windows of one axis in the answer: for each start, its slice and its weights.

    The weights of all windows add up to 1 at each pixel. Windows form a grid, so products of the
    axes' weights add up to 1, too, and no map of weights is needed.
    """

    side: int
    windows: dict[int, tuple[slice, Any]]

    @classmethod
    def of(cls, starts: Sequence[int], window: int, margin: int, scale: Fraction) -> "_Axis":
        size, rim = int(window * scale), int(margin * scale)
        weights = []
        for start in starts:
            # SciPy's function of it is in `scipy.signal`, which takes a second to import.
            weight = np.exp(-(((np.arange(size) - (size - 1) / 2) / (size * _SIGMA)) ** 2) / 2)
            # Nothing else knows what is at the rim of the image.
            weight[: 0 if start == starts[0] else rim] = 0
            weight[size if start == starts[-1] else size - rim :] = 0
            weights.append(weight)
        places = [slice(int(start * scale), int(start * scale) + size) for start in starts]
        total = np.zeros(places[-1].stop)
        for place, weight in zip(places, weights, strict=True):
            total[place] += weight
        return cls(
            len(total),
            {
                start: (place, (weight / total[place]).astype(np.float32))
                for start, place, weight in zip(starts, places, weights, strict=True)
            },
        )


class _Blend:
    """The answer for a whole image, to which those of windows are added."""

    def __init__(
        self,
        starts: Sequence[Sequence[int]],
        sides: Sequence[int],
        margin: int,
        scale: Fraction,
        channels: int,
    ) -> None:
        self._axes = [
            _Axis.of(some, side, margin, scale) for some, side in zip(starts, sides, strict=True)
        ]
        self.answer = np.zeros((*(axis.side for axis in self._axes), channels), np.float32)

    def add(self, corner: Sequence[int], answer: Any) -> None:
        found = [axis.windows[start] for axis, start in zip(self._axes, corner, strict=True)]
        weights = np.ones(1, np.float32)  # of the channels
        for _, axis_weights in reversed(found):
            weights = np.multiply.outer(axis_weights, weights)
        self.answer[tuple(place for place, _ in found)] += weights * answer


def _scale(given: Sequence[int], sides: Sequence[int], multiple: int) -> Fraction:
    """The sides of answers over those of their windows."""
    scales = {Fraction(part, side) for part, side in zip(given, sides, strict=False)}
    if len(given) != len(sides) or len(scales) != 1:
        raise ValueError(
            f"answers of {_by(given) or 'no sides'} for windows of {_by(sides)}; all sides must "
            "be the same multiple"
        )
    (scale,) = scales
    if (scale * multiple).denominator != 1:
        raise ValueError(
            f"answers are {scale} as large as windows, so windows must begin at multiples of "
            f"{scale.denominator}, not of {multiple}"
        )
    return scale


def _chunks(corners: Iterator[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    while some := list(itertools.islice(corners, size)):
        yield some


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
