"""Batches whose images and targets are mixed: mixup and cutmix.

Keras' layers of these names draw from a state, and only mix targets [N,K]; these take a number, and
dense targets of any form.
"""

import enum
from typing import Any

import numpy as np

from reskeras.spec import Augmentation

_TINY = 1e-300


class _Die(enum.IntEnum):
    """Streams of random numbers."""

    PARTNER = 0
    WHICH = 1
    SHARE = 2
    OTHER_SHARE = 3
    PLACE = 4


def mixed(
    images: Any,
    targets: Any,
    augmentation: Augmentation,
    number: Any,
    crop: tuple[int, ...] | None = None,
) -> tuple[Any, Any]:
    """Mixes each image of a batch, and its targets, with another one's.

    `mixup` (arXiv 1710.09412) takes a mean of both, weighted by a share from Beta(mixup, mixup).
    `cutmix` (arXiv 1905.04899, Algorithm 1) takes a box from the other image, around a random
    place and cut off at the edges, which leaves a share from Beta(cutmix, cutmix) or more. Each
    image has a share of its own, as in Keras. If both are on, each batch gets one of both.

    Args:
        images: [N, *sides, C], float32.
        targets: a tensor, or a structure of them, float32: [N, K], mixed by the share; or
            [N, *sides, K], mixed as the image is, where each side is the image's, or a part of it
            (each n-th pixel, as for heads at a part of the resolution).
        augmentation: what is on.
        number: a random number from 0 to 2^31 - 1; the same batch and number give the same result.
        crop: the sides of the middle of the images that targets are of (a U-Net with valid
            padding); None for all of them.

    Raises:
        ValueError: the sides of a target are no part of the image's.
    """
    if not augmentation.mixes:
        return images, targets
    import tensorflow as tf

    number, count = tf.cast(number, tf.int64), tf.shape(images)[0]
    partner = tf.random.experimental.stateless_shuffle(tf.range(count), [number, _Die.PARTNER])
    sides = tuple(images.shape[1:-1])
    kept = _kept(augmentation, number, count, sides)
    seen = kept if crop is None else _middle(kept, crop)
    mean = tf.reduce_mean(kept, list(range(1, len(sides) + 1)))

    def mix(values: Any, share: Any) -> Any:
        share = tf.reshape(
            share, tf.concat([tf.shape(share), [1] * (values.shape.rank - share.shape.rank)], 0)
        )
        return share * values + (1 - share) * tf.gather(values, partner)

    def target(values: Any) -> Any:
        if values.shape.rank != images.shape.rank:
            return mix(values, mean)
        return mix(values, _thinned(seen, tuple(values.shape[1:-1])))

    return mix(images, kept), tf.nest.map_structure(target, targets)


def _kept(augmentation: Augmentation, number: Any, count: Any, sides: tuple[int, ...]) -> Any:
    """How much each pixel keeps of its own image [N, *sides]."""
    import tensorflow as tf

    shape = tf.concat([[count], sides], 0)
    pixels = [1] * len(sides)

    def mixup() -> Any:
        share = _beta(augmentation.mixup, number, count)
        return tf.broadcast_to(tf.reshape(share, [-1, *pixels]), shape)

    def cutmix() -> Any:
        share = _beta(augmentation.cutmix, number, count)
        half = 0.5 * (1 - share) ** (1 / len(sides))
        middle = tf.random.stateless_uniform([count, len(sides)], [number, _Die.PLACE])
        inside = tf.fill(shape, True)
        for axis, side in enumerate(sides):
            # A box has the pixels whose centers it holds, in shares of the side.
            places = (np.arange(side, dtype=np.float32) + 0.5) / side
            near = tf.abs(places - middle[:, axis : axis + 1]) < half[:, tf.newaxis]
            form = [-1 if other == axis else 1 for other in range(len(sides))]
            inside &= tf.reshape(near, [count, *(side if f < 0 else 1 for f in form)])
        return 1 - tf.cast(inside, tf.float32)

    if not augmentation.cutmix:
        return mixup()
    if not augmentation.mixup:
        return cutmix()
    kept = tf.cond(tf.random.stateless_uniform([], [number, _Die.WHICH]) < 0.5, mixup, cutmix)
    return tf.ensure_shape(kept, [None, *sides])  # which tf.cond forgets in a graph


def _beta(alpha: float, number: Any, count: Any) -> Any:
    """Numbers [N] from Beta(alpha, alpha): of two gamma numbers, the part of one."""
    import tensorflow as tf

    precise = tf.constant(alpha, tf.float64)
    one, other = (
        tf.random.stateless_gamma([count], [number, die], precise, dtype=tf.float64)
        for die in (_Die.SHARE, _Die.OTHER_SHARE)
    )
    # Where alpha is tiny, both are too small for a float64: then nothing is mixed.
    share = tf.where(one + other > _TINY, one / (one + other), 1.0)
    return tf.cast(share, tf.float32)


def _middle(kept: Any, sides: tuple[int, ...]) -> Any:
    for axis, (whole, part) in enumerate(zip(kept.shape[1:], sides, strict=True)):
        start = (whole - part) // 2
        kept = kept[(*[slice(None)] * (axis + 1), slice(start, start + part))]
    return kept


def _thinned(kept: Any, sides: tuple[int, ...]) -> Any:
    """Each n-th pixel, from the middle of the first n."""
    for axis, (whole, part) in enumerate(zip(kept.shape[1:], sides, strict=True)):
        if whole % part:
            raise ValueError(f"targets of side {part} are no part of images of side {whole}")
        step = whole // part
        kept = kept[(*[slice(None)] * (axis + 1), slice(step // 2, None, step))]
    return kept
