"""Answers of trained networks to images of any size, and to their mirror images."""

from typing import Any

import numpy as np

from reskeras.errors import RequestError
from reskeras.models.flips import Flips
from reskeras.models.predictor import Answerer
from reskeras.models.windows import Predict, windowed, with_flips
from reskeras.tasks import Labels

_WINDOWS = 8
"""How many go through the network at once."""


def flipping(ask: Answerer, flips: Flips, called: str) -> Predict:
    """The mean of a network's answers for images [N,*sides,C] and for their mirror images.

    Args:
        ask: the network.
        flips: how images are flipped. Maps are flipped back.
        called: how messages refer to the network.

    Raises:
        RequestError: the answers would mean something else, or there is nothing to flip.
    """
    axes = flips.axes(len(ask.image_shape) - 1)
    if ask.task.labels is Labels.POINTS:
        raise RequestError(
            f"--flips {flips.value}: {called} gives {ask.task.answers}, and in a mirror image left "
            "and right points change places"
        )
    if not axes:
        raise RequestError(f"--flips {flips.value}: {called} takes signals, which have one side")
    if ask.task.labels.has_sides:
        return with_flips(ask, axes)
    return with_flips(ask, axes, back=lambda answers, _: answers)


def by_windows(ask: Answerer, predict: Predict, called: str) -> Predict:
    """A function from one image [*any sides,C] to its answer [*sides,K], by windows.

    Args:
        ask: the network, which gives maps.
        predict: its answers to windows [N,*sides,C].
        called: how messages refer to the network.

    Raises:
        RequestError: it gives no maps of its images.
    """
    if not ask.task.labels.has_sides:
        raise RequestError(
            f"--windows: {called} gives {ask.task.answers}; windows are for masks and for images "
            "that are restored"
        )
    sides, given = ask.image_shape[:-1], ask.form.shape[1:-1]
    if None in sides:
        return lambda image: np.asarray(predict(image[np.newaxis]))[0]
    if ask.task.labels is Labels.MASK:
        return windowed(_in_pixels(ask, predict), sides, border=border_of(ask), batch=_WINDOWS)
    # Coarser maps need windows that begin where their pixels do.
    return windowed(predict, sides, multiple=max(1, sides[0] // given[0]), batch=_WINDOWS)


def _in_pixels(ask: Answerer, predict: Predict) -> Predict:
    """Masks [N,*sides,K] in pixels of the image: those of coarser ones are repeated."""
    parts = ask.form.middle or ask.image_shape[:-1]
    times = [side // known for side, known in zip(parts, ask.form.shape[1:-1], strict=True)]

    def finer(images: Any) -> Any:
        answers = np.asarray(predict(images))
        for axis, count in enumerate(times, start=1):
            answers = answers if count == 1 else answers.repeat(count, axis)
        return answers

    return finer


def border_of(ask: Answerer) -> int:
    """How many pixels at each side of its input have no place in a network's masks.

    A network without padding has such a border, and its masks are those of the center.
    """
    if ask.task.labels is not Labels.MASK:
        return 0
    sides = ask.image_shape[:-1]
    middle = ask.form.middle or sides
    return max((side - part) // 2 for side, part in zip(sides, middle, strict=True))
