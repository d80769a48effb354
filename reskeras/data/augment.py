"""Random changes to training images that keep their labels true.

An image gets its changes from its own random number, so the same number gives the same picture,
whatever the batch, the process or the cache. Keras' layers draw from a state, which such a number
cannot set. Colors change first, then pixels move, then boxes are erased: what is moved in stays
black.
"""

import dataclasses
import enum
import functools
import math
from typing import Any

import numpy as np

from reskeras.data import colors
from reskeras.data.images import ImageData
from reskeras.data.motion import Motion, elastic_field, elastic_vectors, moved_whole, turn
from reskeras.data.pixels import scaled
from reskeras.errors import RequestError
from reskeras.spec import Augmentation, ColorJitter
from reskeras.tasks import Labels

_SAMPLED = 1024
"""Images from which the principal components of colors are computed."""
_ERASED_SHARE = (0.02, 0.4)
"""The smallest and the largest share of an image that is erased (arXiv 1708.04896, Table 1)."""
_ERASED_RATIO = 0.3
"""The smallest ratio of the sides of an erased box; the largest is its inverse."""

_STRONGEST = 10.0
"""RandAugment's largest magnitude. The strongest changes are those of AutoAugment (arXiv
1805.09501, Table 6)."""
_TURN, _SHEAR, _MOVE, _FACTOR, _BITS = 30.0, 0.3, 0.45, 0.9, 4


class _Die(enum.IntEnum):
    """Streams of random numbers: a new change does not change the others."""

    SHIFT = 0
    FLIP = 1
    TURN = 2
    ZOOM = 3
    ELASTIC = 4
    BRIGHTNESS = 5
    CONTRAST = 6
    SATURATION = 7
    HUE = 8
    COMPONENTS = 9
    ERASE = 10
    NOISE = 11
    MORE_FLIPS = 12
    RANDAUGMENT = 16


class _Change(enum.IntEnum):
    """The changes that RandAugment draws from."""

    IDENTITY = 0
    STRETCH = 1
    EQUALIZE = 2
    SOLARIZE = 3
    POSTERIZE = 4
    SATURATION = 5
    CONTRAST = 6
    BRIGHTNESS = 7
    SHARPNESS = 8
    TURN = 9
    SHEAR_X = 10
    SHEAR_Y = 11
    MOVE_X = 12
    MOVE_Y = 13


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmenter:
    """Changes one training image, and its label where it must follow (see `Augmentation`).

    Images are float32 [*sides, C], most in 0..1: what is in this range stays there. Masks move with
    the image, each pixel has the number of the nearest. An image as a label moves as its image
    does. Points move too; those that leave the image become NaN, and pairs change places in an
    image that is mirrored. Other labels stay.
    """

    augmentation: Augmentation
    labels: Labels
    border: int = 0
    """The number of the pixels that are added to a mask."""
    components: Any = None
    """The principal components of the colors [C,C], each times its eigenvalue; for `pca_noise`."""

    def __call__(self, image: Any, label: Any, number: Any) -> tuple[Any, Any]:
        """Changes an image and its label by a random number from 0 to 2^31 - 1."""
        import tensorflow as tf

        if not self.augmentation.changes_images:
            return image, label
        # AutoGraph would take seconds to rewrite what needs no rewriting.
        changed = tf.autograph.experimental.do_not_convert(self._changed)
        return changed(image, label, tf.cast(number, tf.int64))  # type: ignore[no-any-return]

    def _changed(self, image: Any, label: Any, number: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        how = self.augmentation
        span = None
        if how.color != ColorJitter() or how.pca_noise or how.erase or how.randaugment.number:
            # Standardized images are not in 0..1, which changes of color need.
            low = tf.minimum(tf.reduce_min(image), 0.0)
            span = low, tf.maximum(tf.reduce_max(image), 1.0) - low
        sides = tuple(image.shape[:-1])
        extra = None
        if span is not None:
            unit = self._recolored((image - span[0]) / span[1], number, span[1])
            if how.randaugment.number:
                unit, *extra = self._randomly(unit, number)
            image = unit * span[1] + span[0]
        if how.moves or how.shift or how.flip != "none":
            image, label = self._moved(image, label, number, sides, extra)
        if how.erase:
            image = self._erased(image, number, span)
        return image, label

    def _recolored(self, unit: Any, number: Any, width: Any) -> Any:
        import tensorflow as tf

        color, plane = self.augmentation.color, colors.as_plane(unit)
        if self.augmentation.pca_noise:
            sizes = tf.random.stateless_normal(
                [unit.shape[-1], 1], [number, _Die.COMPONENTS], stddev=self.augmentation.pca_noise
            )
            plane += tf.reshape(tf.constant(self.components, tf.float32) @ sizes, [-1]) / width
            plane = tf.clip_by_value(plane, 0.0, 1.0)
        if color.brightness:
            plane = tf.image.stateless_random_brightness(
                plane, color.brightness, [number, _Die.BRIGHTNESS]
            )
        if color.contrast:
            ends = 1 - color.contrast, 1 + color.contrast
            plane = tf.image.stateless_random_contrast(plane, *ends, [number, _Die.CONTRAST])
        plane = tf.clip_by_value(plane, 0.0, 1.0)
        if color.saturation:
            ends = 1 - color.saturation, 1 + color.saturation
            plane = tf.image.stateless_random_saturation(plane, *ends, [number, _Die.SATURATION])
        if color.hue:
            plane = tf.image.stateless_random_hue(plane, color.hue, [number, _Die.HUE])
        return tf.reshape(plane, unit.shape)

    def _randomly(self, unit: Any, number: Any) -> tuple[Any, Any, Any]:
        """RandAugment: the image with other colors, and the matrix and offset that move it."""
        import tensorflow as tf

        how = self.augmentation.randaugment
        strength = how.magnitude / _STRONGEST
        matrix, offset = tf.eye(2), tf.zeros([2])
        sides = np.asarray(unit.shape[:2], np.float32)
        for place in range(how.number):
            seed = [number, _Die.RANDAUGMENT + place]
            drawn = tf.random.stateless_uniform([2], seed)
            change = tf.minimum(tf.cast(drawn[0] * len(_Change), tf.int32), len(_Change) - 1)
            signed = tf.where(drawn[1] < 0.5, -strength, strength)
            unit = _recolored_by(unit, change, strength, 1 + _FACTOR * signed)

            def only(which: _Change, change: Any = change, signed: Any = signed) -> Any:
                return tf.where(change == which, signed, 0.0)

            x, y = _SHEAR * only(_Change.SHEAR_X), _SHEAR * only(_Change.SHEAR_Y)
            shear = tf.stack([tf.stack([1.0, y]), tf.stack([x, 1.0])])
            moves = tf.stack([only(_Change.MOVE_Y), only(_Change.MOVE_X)]) * _MOVE * sides
            offset += tf.linalg.matvec(matrix, moves)
            matrix = matrix @ shear @ turn(_TURN * only(_Change.TURN), 2)
        return unit, matrix, offset

    def _moved(
        self, image: Any, label: Any, number: Any, sides: tuple[int, ...], extra: Any
    ) -> tuple[Any, Any]:
        import tensorflow as tf

        how, count = self.augmentation, len(sides)
        # The smallest addition keeps 0.29 * 100 from being 28.
        margins = [int(how.shift * side + 1e-9) for side in sides]
        shift = tf.zeros([count], tf.int32)
        if how.shift:
            draws = tf.random.stateless_uniform(
                [count + 1], [number, _Die.SHIFT], maxval=tf.int32.max, dtype=tf.int32
            )
            shift = draws[:-1] % (2 * np.asarray(margins, np.int32) + 1) - margins
        mirrored = self._mirrors(number, count)
        if not how.moves:
            motion = None
            image = moved_whole(image, margins, shift, mirrored, 0)
            if self.labels.has_sides:
                fill = self.border if self.labels is Labels.MASK else 0
                label = moved_whole(label, margins, shift, mirrored, fill)
        else:
            motion = self._motion(number, sides, tf.cast(shift, tf.float32), mirrored, extra)
            image = motion.images(image)
            if self.labels is Labels.MASK:
                numbers = motion.images(label[..., tf.newaxis], fill=self.border, nearest=True)
                label = numbers[..., 0]
            elif self.labels is Labels.IMAGE:
                moved = motion.images(tf.cast(label, tf.float32))
                moved = tf.round(moved) if label.dtype.is_integer else moved
                label = tf.cast(moved, label.dtype)
        if self.labels is Labels.POINTS:
            if motion is None:
                motion = Motion(sides, _diagonal(mirrored), tf.cast(shift, tf.float32))
            label = _exchanged(motion.points(label), how.pairs, mirrored)
        return image, label

    def _mirrors(self, number: Any, count: int) -> list[Any]:
        """Whether each side is mirrored; None for sides that never are."""
        import tensorflow as tf

        def coin(die: int) -> Any:
            return tf.random.stateless_uniform([], [number, die]) < 0.5

        # The last side has the stream that it had when there was no other.
        match self.augmentation.flip:
            case "none":
                return [None] * count
            case "horizontal":
                return [None] * (count - 1) + [coin(_Die.FLIP)]
            case "vertical":
                return [None] * (count - 2) + [coin(_Die.MORE_FLIPS), None]
            case "both":
                others = [coin(_Die.MORE_FLIPS + place) for place in range(count - 1)]
                return [*reversed(others), coin(_Die.FLIP)]

    def _motion(
        self, number: Any, sides: tuple[int, ...], shift: Any, mirrored: Any, extra: Any
    ) -> Motion:
        import tensorflow as tf

        how, count = self.augmentation, len(sides)
        factors = [] if all(mirror is None for mirror in mirrored) else [_diagonal(mirrored)]
        if how.rotate:
            ends = {"minval": -how.rotate, "maxval": how.rotate}
            angle = tf.random.stateless_uniform([], [number, _Die.TURN], **ends)
            factors.append(turn(angle, count))
        matrix = functools.reduce(tf.matmul, factors) if factors else tf.eye(count)
        if how.scale:
            most = math.log1p(how.scale)
            zoom = tf.random.stateless_uniform([], [number, _Die.ZOOM], minval=-most, maxval=most)
            matrix /= tf.exp(zoom)
        if extra is not None:
            shift += tf.linalg.matvec(matrix, extra[1])
            matrix @= extra[0]
        field = None
        if how.elastic:
            vectors = elastic_vectors(how.elastic, sides, [number, _Die.ELASTIC])
            field = elastic_field(vectors, sides)
        return Motion(sides, matrix, shift, field)

    def _erased(self, image: Any, number: Any, span: Any) -> Any:
        import tensorflow as tf

        sides = tuple(image.shape[:-1])
        drawn = tf.random.stateless_uniform([3 + len(sides)], [number, _Die.ERASE])
        low, high = _ERASED_SHARE
        share = low + drawn[1] * (high - low)
        # The sides of a signal, an image or a volume whose last two have a random ratio.
        ratio = (1 - 2 * drawn[2]) * math.log(_ERASED_RATIO) / 2
        stretch = {1: [0.0], 2: [ratio, -ratio], 3: [0.0, ratio, -ratio]}[len(sides)]
        shape = np.asarray(sides, np.float32)
        size = tf.minimum(share ** (1 / len(sides)) * tf.exp(tf.stack(stretch)), 1.0) * shape
        start = drawn[3:] * (shape - size)
        inside = drawn[0] < self.augmentation.erase
        for axis, side in enumerate(sides):
            # A box has the pixels whose centers it holds.
            places = np.arange(side, dtype=np.float32) + 0.5 - start[axis]
            form = [-1 if axis == other else 1 for other in range(len(sides) + 1)]
            inside &= tf.reshape((places >= 0) & (places < size[axis]), form)
        noise = tf.random.stateless_uniform(image.shape, [number, _Die.NOISE])
        noise = noise * span[1] + span[0]
        return tf.where(inside, noise, image)


def augmenter_of(augmentation: Augmentation, data: ImageData) -> Augmenter:
    """The augmenter of training images.

    Raises:
        RequestError: such images or labels have no such change.
    """
    labels = data.task.labels
    check_augmentation(augmentation, labels, data.image_shape, data.classes)
    components = color_components(data) if augmentation.pca_noise else None
    return Augmenter(
        augmentation=augmentation, labels=labels, border=data.border, components=components
    )


def augmented(dataset: Any, augmenter: Augmenter, seed: int) -> Any:
    """Changes each (image, label) of an unbatched `tf.data.Dataset` at random."""
    if not augmenter.augmentation.changes_images:
        return dataset
    import tensorflow as tf

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip((dataset, numbers))
    return pairs.map(
        lambda example, number: augmenter(example[0], example[1], number),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def check_augmentation(
    augmentation: Augmentation, labels: Labels, image_shape: tuple[int, ...], classes: int
) -> None:
    """Checks that images and labels have the changes of an augmentation.

    Args:
        augmentation: the changes.
        labels: the kind of label.
        image_shape: [*sides,C].
        classes: how many classes, or points, a label has.

    Raises:
        RequestError: they have not: a line for each.
    """
    sides, shape = len(image_shape) - 1, "x".join(map(str, image_shape))
    how, color = augmentation, augmentation.color
    rgb = sides == 2 and image_shape[-1] == 3
    recolors = {
        "color": color != ColorJitter(),
        "pca_noise": how.pca_noise > 0,
        "erase": how.erase > 0,
        "randaugment": how.randaugment.number > 0,
    }
    wrong = []
    if sides == 1:
        if how.rotate:
            wrong.append(("rotate", f"a signal cannot be turned (the data are {shape})"))
        if how.flip == "vertical":
            wrong.append(
                (
                    "flip",
                    "a signal has no top and bottom; it takes 'horizontal', which "
                    f"is time (the data are {shape})",
                )
            )
    if sides != 2 and how.randaugment.number:
        wrong.append(
            ("randaugment", f"its changes are those of images [H,W,C] (the data are {shape})")
        )
    wrong += [
        (f"color.{name}", f"only images with three channels have one (the data are {shape})")
        for name in ("saturation", "hue")
        if getattr(color, name) and not rgb
    ]
    if labels is Labels.IMAGE:
        wrong += [
            (name, "labels that are images keep their colors; move, mirror or turn both instead")
            for name, on in recolors.items()
            if on
        ]
    if how.pairs and labels is not Labels.POINTS:
        wrong.append(
            ("pairs", f"only points have pairs (the labels are of the kind {labels.value!r})")
        )
    if labels is Labels.POINTS:
        wrong += [
            (name, "points cannot be mixed")
            for name, on in (("mixup", how.mixup), ("cutmix", how.cutmix))
            if on
        ]
        wrong += [
            ("pairs", f"there is no point {point}: the data have {classes}, counted from 0")
            for point in sorted({each for pair in how.pairs for each in pair})
            if point >= classes
        ]
    if wrong:
        raise RequestError("\n".join(f"train.augment.{field}: {why}" for field, why in wrong))


def color_components(data: ImageData) -> Any:
    """The principal components of the colors of training images [C,C], for `pca_noise`.

    Columns are eigenvectors of the covariance of pixels, each times its eigenvalue (Krizhevsky et
    al. 2012, Section 4.1), of images in 0..1 from a random sample that is always the same.
    """
    pixels = scaled(data.sampled(_SAMPLED)).reshape(-1, data.image_shape[-1])
    covariance = np.cov(pixels, rowvar=False, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return (vectors * values).astype(np.float32)


def _recolored_by(unit: Any, change: Any, strength: float, factor: Any) -> Any:
    """An image after the change of color with this number, if it is one."""
    import tensorflow as tf

    branches = {
        _Change.IDENTITY: lambda: unit,
        _Change.STRETCH: lambda: colors.stretched(unit),
        _Change.EQUALIZE: lambda: colors.equalized(unit),
        _Change.SOLARIZE: lambda: colors.solarized(unit, (1 - strength) * 256 / 255),
        _Change.POSTERIZE: lambda: colors.posterized(unit, 8 - round(_BITS * strength)),
        _Change.SATURATION: lambda: colors.saturated(unit, factor),
        _Change.CONTRAST: lambda: colors.contrasted(unit, factor),
        _Change.BRIGHTNESS: lambda: unit * factor,
        _Change.SHARPNESS: lambda: colors.sharpened(unit, factor),
    }
    named = {int(which): branch for which, branch in branches.items()}
    return tf.clip_by_value(tf.switch_case(change, named, default=lambda: unit), 0.0, 1.0)


def _diagonal(mirrored: list[Any]) -> Any:
    """The matrix [n,n] that mirrors sides."""
    import tensorflow as tf

    ends = [1.0 if mirror is None else tf.where(mirror, -1.0, 1.0) for mirror in mirrored]
    return tf.linalg.diag(tf.stack(ends))


def _exchanged(points: Any, pairs: tuple[tuple[int, int], ...], mirrored: list[Any]) -> Any:
    """Exchanges the points of each pair in an image that is mirrored: an odd number of times."""
    import tensorflow as tf

    flips = [tf.cast(mirror, tf.int32) for mirror in mirrored if mirror is not None]
    if not pairs or not flips:
        return points
    order = list(range(points.shape[0]))
    for left, right in pairs:
        order[left], order[right] = right, left
    return tf.where(tf.add_n(flips) % 2 == 1, tf.gather(points, order), points)
