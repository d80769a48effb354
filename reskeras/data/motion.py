"""Images, masks and points moved alike: shifts, mirrors, turns, zooms, elastic deformation.

All are joined to one map from each place of the new image to a place of the old one, so pixels are
interpolated once. Signals [L,C], images [H,W,C] and volumes [D,H,W,C] take the same way. Keras'
layers have other maps for images and for boxes, none for points, volumes and signals, and blur an
image again in each layer.

Places are in pixels, in the order of the sides; the center of the first pixel is 0.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_CONTROL = 3
"""Random vectors of an elastic deformation along each side (arXiv 1505.04597, Section 3.1)."""
_STEPS = 12
"""Steps that find where an elastic deformation takes a point. Each divides the error by four at
least at the paper's strength."""


@dataclasses.dataclass(frozen=True)
class Motion:
    """A map from places of the new image to places of the old.

    old = center + matrix (new - center) + offset + field(new)
    """

    sides: tuple[int, ...]
    matrix: Any
    """[n,n], for n sides."""
    offset: Any
    """[n]"""
    field: Any = None
    """[*sides, n], or None."""

    def images(self, values: Any, *, fill: float = 0.0, nearest: bool = False) -> Any:
        """The values [*sides, C] of the old image at each place of the new one."""
        import tensorflow as tf

        if len(self.sides) == 2 and self.field is None:
            return self._projected(values, fill, nearest)
        grid = _grid(self.sides) - self._center
        moved = tf.reshape(grid, [-1, len(self.sides)]) @ tf.transpose(self.matrix)
        places = tf.reshape(moved, grid.shape) + (self._center + self.offset)
        if self.field is not None:
            places += self.field
        return sampled(values, places, fill=fill, nearest=nearest)

    def _projected(self, values: Any, fill: float, nearest: bool) -> Any:
        """By the op that Keras' layers use for 2-D images: twice as fast as `sampled`."""
        import tensorflow as tf

        at_zero = self._center + self.offset - tf.linalg.matvec(self.matrix, self._center)
        rows = tf.concat([self.matrix, at_zero[:, tf.newaxis]], 1)
        # It takes x before y, and a row of a projection that is 0 here.
        rows = tf.reshape(tf.gather(rows[::-1], [1, 0, 2], axis=1), [-1])
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=values[tf.newaxis],
            transforms=tf.concat([rows, [0.0, 0.0]], 0)[tf.newaxis],
            output_shape=self.sides,
            fill_value=float(fill),
            interpolation="NEAREST" if nearest else "BILINEAR",
            fill_mode="CONSTANT",
        )[0]

    def points(self, points: Any) -> Any:
        """Where points [K,n] go, in the order (x, y); those that leave the image become NaN."""
        import tensorflow as tf

        old = tf.reverse(points, [-1])
        missing = tf.reduce_any(tf.math.is_nan(old), -1, keepdims=True)
        old = tf.where(missing, self._center, old)
        back = tf.transpose(tf.linalg.inv(self.matrix))
        rest = old - self._center - self.offset
        new = rest @ back + self._center
        if self.field is not None:
            # The field is given at new places, so these solve new = map(old - field(new)).
            last = np.asarray(self.sides, np.float32) - 1
            for _ in range(_STEPS):
                there = tf.clip_by_value(new, 0.0, last)
                new = (rest - sampled(self.field, there)) @ back + self._center
        high = np.asarray(self.sides, np.float32) - 0.5
        outside = tf.reduce_any((new < -0.5) | (new >= high), -1, keepdims=True)
        return tf.reverse(tf.where(missing | outside, math.nan, new), [-1])

    @property
    def _center(self) -> Any:
        return (np.asarray(self.sides, np.float32) - 1) / 2


def sampled(values: Any, places: Any, *, fill: float = 0.0, nearest: bool = False) -> Any:
    """Values between pixels: n-linear interpolation (`mode="grid-constant"` of scipy.ndimage).

    Written out because TensorFlow only samples 2-D images, and only along projective maps.

    Args:
        values: [*sides, C].
        places: [..., n], in pixels.
        fill: the value outside of the image.
        nearest: whether to take the value of the nearest pixel instead.

    Returns:
        [..., C]
    """
    import tensorflow as tf

    sides = np.asarray(values.shape[:-1], np.float32)
    values = tf.pad(values, [[1, 1]] * len(sides) + [[0, 0]], constant_values=fill)
    strides = np.cumprod([1, *(int(side) + 2 for side in sides[:0:-1])])[::-1].astype(np.int32)
    flat = tf.reshape(values, [-1, values.shape[-1]])
    at = tf.clip_by_value(places + 1.0, 0.0, sides + 1)
    if nearest:
        return tf.gather(flat, tf.reduce_sum(tf.cast(at + 0.5, tf.int32) * strides, -1))
    low = tf.minimum(tf.floor(at), sides)
    first = tf.reduce_sum(tf.cast(low, tf.int32) * strides, -1, keepdims=True)
    corners = np.array(list(itertools.product((0, 1), repeat=len(sides))), np.int32) @ strides
    pixels = tf.gather(flat, first + corners)  # [..., 2^n, C]
    weights = tf.ones_like(at[..., :1])
    for part in tf.unstack(at - low, axis=-1):
        ends = tf.stack([1 - part, part], -1)[..., tf.newaxis, :]
        shape = tf.concat([tf.shape(part), [2 * weights.shape[-1]]], 0)
        weights = tf.reshape(weights[..., tf.newaxis] * ends, shape)
        weights = tf.ensure_shape(weights, [*part.shape, None])
    return tf.reduce_sum(pixels * weights[..., tf.newaxis], -2)


def moved_whole(values: Any, margins: Sequence[int], offset: Any, mirrored: Any, fill: Any) -> Any:
    """Values [*sides, ...] moved by whole pixels and mirrored, which needs no interpolation.

    Args:
        values: of any type.
        margins: the most that each side moves.
        offset: how far each side moves [n], in -margin..margin.
        mirrored: for each side, whether it is mirrored; None if it never is.
        fill: the value of the border.
    """
    import tensorflow as tf

    shape, rest = values.shape, values.shape.rank - len(margins)
    padding = [[margin, margin] for margin in margins] + [[0, 0]] * rest
    values = tf.pad(values, padding, constant_values=tf.cast(fill, values.dtype))
    start = tf.concat([offset + np.asarray(margins, np.int32), [0] * rest], 0)
    values = tf.ensure_shape(tf.slice(values, start, shape), shape)
    for axis, mirror in enumerate(mirrored):
        if mirror is not None:
            turned = functools.partial(tf.reverse, values, [axis])
            values = tf.cond(mirror, turned, functools.partial(tf.identity, values))
    return values


def turn(degrees: Any, sides: int) -> Any:
    """The matrix [n,n] that turns the last two sides."""
    import tensorflow as tf

    radians = degrees * (math.pi / 180)
    sin, cos = tf.sin(radians), tf.cos(radians)
    plane = tf.stack([tf.stack([cos, -sin]), tf.stack([sin, cos])])
    rest = sides - 2
    return tf.pad(plane, [[rest, 0], [rest, 0]]) + np.diag([1.0] * rest + [0, 0]).astype("f4")


def elastic_field(vectors: Any, sides: tuple[int, ...]) -> Any:
    """The field [*sides, n] between vectors [3, ..., 3, n]: bicubic, as `tf.image.resize` does.

    Bicubic interpolation is a product of one matrix for each side, so it needs no image.
    """
    import tensorflow as tf

    ends = np.eye(_CONTROL, dtype=np.float32)[..., np.newaxis]
    weights = [tf.image.resize(ends, (side, _CONTROL), "bicubic")[..., 0] for side in sides]
    rule = {1: "ia,an->in", 2: "ia,jb,abn->ijn", 3: "ia,jb,kc,abcn->ijkn"}[len(sides)]
    return tf.einsum(rule, *weights, vectors)


def elastic_vectors(deviation: float, sides: tuple[int, ...], seed: Any) -> Any:
    """Random vectors [3, ..., 3, n] for `elastic_field`, in pixels."""
    import tensorflow as tf

    count = len(sides)
    normal = tf.random.stateless_normal([_CONTROL] * count + [count], seed)
    return normal * (deviation * np.asarray(sides, np.float32))


def _grid(sides: tuple[int, ...]) -> Any:
    """The places [*sides, n] of all pixels."""
    return np.moveaxis(np.indices(sides), 0, -1).astype(np.float32)
