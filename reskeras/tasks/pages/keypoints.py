"""Keypoints: where each of several named points is, by a heatmap for each."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Heatmaps, Recipe, TrainSpec
from reskeras.tasks.baselines import always, mean_places, named
from reskeras.tasks.class_labels import ratio
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import LOSS, PIXEL_ERROR, SUPPORT, Metric, share
from reskeras.tasks.networks import map_space, takes_maps
from reskeras.tasks.task import Baseline, Facts, Output, Statistics, Task, name_of

_RADIUS = 0.05
"""Of a right answer, as a share of the image's longer side."""
_PCK = share("pck", f"Keypoints within {100 * _RADIUS:g} % of the longer side")


class Keypoints(Task):
    """Squared error of Gaussian maps, of all stacks, scored by points within a radius (PCK).

    The answer for a point is the pixel of its map's maximum, a quarter pixel toward the larger
    neighbor (arXiv 1603.06937, Section 3.3). A point that is not there has an empty map, and no
    score.
    """

    name = "keypoints"
    metrics = (_PCK, LOSS, PIXEL_ERROR)
    of_classes = (SUPPORT, _PCK, PIXEL_ERROR)
    losses = ("l2", "weighted_l2")
    labels = Labels.POINTS
    noun = "keypoints"
    answers = "the place of each keypoint"
    told = "keypoints"
    resize = "pad"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        takes_maps(spec, self.noun)
        if len(facts.image_shape) != 3:
            raise ValueError("keypoints are those of images: not of signals, nor of volumes")
        if getattr(spec, "padding", "same") == "valid":
            raise ValueError("keypoints need maps of the whole image: padding 'same', not 'valid'")
        return Heatmaps(keypoints=facts.classes)

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        recipe, ranges = map_space(facts, Heatmaps(keypoints=facts.classes))
        # In six epochs, plain squared errors hardly leave empty maps.
        train = dataclasses.replace(recipe.train, loss="weighted_l2")
        return dataclasses.replace(recipe, train=train), ranges

    def gives(self, output: Output) -> bool:
        return False  # maps of other tasks look the same

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        return {
            name: _maps(label, output.shape[1:-1], facts.image_shape[:-1])
            for name, output in outputs.items()
        }

    def loss(self, output: Output, facts: Facts) -> Any:
        import keras

        return keras.losses.MeanSquaredError(name="loss")

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        if train.loss == "weighted_l2":
            from reskeras.tasks.losses import WeightedSquares

            return WeightedSquares(name="loss")
        return self.loss(output, facts)

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        return []

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """The distance of each point [N,K] in pixels of the image, and whether it is there."""
        from keras import ops

        sides = facts.image_shape[:-1]
        wanted, found = _places(target, sides, exact=True), _places(output, sides)
        there = ops.cast(ops.max(target, axis=list(range(1, len(form.shape) - 1))) > 0, "float32")
        distance = ops.sqrt(ops.sum(ops.square(wanted - found), axis=-1))
        return {"distance": distance, "there": there}

    def summed(self, statistics: Statistics, facts: Facts, weights: Any = None) -> Statistics:
        from keras import ops

        distance, there = statistics["distance"], statistics["there"]
        near = ops.cast(distance <= _radius(facts), "float32")
        parts = {"there": there, "near": near * there, "distance": distance * there}
        return super().summed(parts, facts, weights)

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        from keras import ops

        count = ops.maximum(ops.sum(sums["there"]), 1e-9)
        return {
            _PCK.name: ops.sum(sums["near"]) / count,
            PIXEL_ERROR.name: ops.sum(sums["distance"]) / count,
        }

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        distance, there = statistics["distance"], statistics["there"] > 0
        count = there.sum(axis=0)
        return {
            SUPPORT: count,
            _PCK: ratio(((distance <= _radius(facts)) & there).sum(axis=0), count),
            PIXEL_ERROR: ratio(np.where(there, distance, 0).sum(axis=0), count),
        }

    def badness(self, statistics: Statistics, losses: Any, facts: Facts) -> Any:
        """The largest error of a point in pixels; 0 in an image without points."""
        there = statistics["there"] > 0
        return np.where(there, statistics["distance"], 0).max(axis=1)

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """The mean position of each point in the training images; its maps are no network's."""
        mean = mean_places(labels).astype("float32")
        maps = np.asarray(self.targets(mean, {"head": form}, facts)["head"])
        linear = Output(form.shape, "linear")
        name = named("mean position", labels, facts)
        return (Baseline(name, always(maps), linear, (_PCK, PIXEL_ERROR)),)

    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        """Places [N,K,2] in pixels of the image, and the height of each maximum: [N,K,3]."""
        import keras

        places = keras.ops.convert_to_numpy(_places(outputs, facts.image_shape[:-1]))
        heights = outputs.max(axis=tuple(range(1, outputs.ndim - 1)))
        return np.concatenate([places, heights[..., None]], axis=-1)

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        return [
            {
                "name": name_of(names, number, "point"),
                "x": float(x),
                "y": float(y),
                "height": float(height),
            }
            for number, (x, y, height) in enumerate(answer)
        ]

    def write(self, described: Any) -> str:
        return "  ".join(f"{each['name']} ({each['x']:.1f}, {each['y']:.1f})" for each in described)

    def cells(self, described: Any) -> dict[str, Any]:
        return {
            f"{each['name']} {what}": each[what]
            for each in described
            for what in ("x", "y", "height")
        }

    def picture(self, image: Any, answer: Any, described: Any) -> Any:
        from reskeras.tasks.pictures import Line, point_color, seen_well, with_lines, with_points

        shown, times = seen_well(image)
        lines = [Line(each["name"], point_color(k)) for k, each in enumerate(described)]
        return with_lines(with_points(shown, answer[:, :2], times), lines)


def _radius(facts: Facts) -> float:
    """Of a right answer, in pixels."""
    return _RADIUS * max(facts.image_shape[:-1])


def _sigma(sides: Sequence[int]) -> float:
    """The standard deviation of a point's Gaussian, in pixels of the map.

    2 pixels in maps of 64x64 and 3 in those of 96x96, as in HRNet (arXiv 1902.09212), and 2 in
    smaller ones: with narrower ones, short trainings end at empty maps. Maps of less than 16 pixels
    have an eighth of their side.
    """
    side = max(sides)
    return max(side / 32, min(2.0, side / 8))


def _maps(points: Any, sides: Sequence[int], image: Sequence[int]) -> Any:
    """Gaussian maps [*sides, K] around points [K,2] in an image of other sides.

    A point that is NaN has an empty map.
    """
    import tensorflow as tf

    height, width = sides
    scale = tf.constant([width / image[1], height / image[0]], tf.float32)
    x, y = tf.unstack((points + 0.5) * scale - 0.5, axis=-1)
    rows, columns = tf.range(height, dtype="float32"), tf.range(width, dtype="float32")
    squares = (rows[:, None, None] - y) ** 2 + (columns[:, None] - x) ** 2
    maps = tf.exp(-squares / (2 * _sigma(sides) ** 2))
    return tf.where(tf.math.is_nan(maps), 0.0, maps)


def _places(maps: Any, image: Sequence[int], *, exact: bool = False) -> Any:
    """The points [N,K,2] that maps [N,H,W,K] show, in pixels of an image of these sides.

    Args:
        maps: what a network answers, or targets.
        image: height and width.
        exact: whether the maps are Gaussians, whose neighbors tell the place exactly.
    """
    from keras import ops

    maps = ops.convert_to_tensor(maps, "float32")
    _, height, width, count = maps.shape
    flat = ops.reshape(maps, (-1, height * width, count))
    best = ops.argmax(flat, axis=1)

    def at(place: Any) -> Any:
        index = ops.clip(place, 0, height * width - 1)
        return ops.take_along_axis(flat, index[:, None, :], axis=1)[:, 0]

    def offset(place: Any, size: int, step: int) -> Any:
        """From the pixel of the maximum to the point, along one axis."""
        last, first = place == size - 1, place == 0
        if not exact:  # a quarter pixel toward the larger neighbor
            after = ops.where(last, -1e9, at(best + step))
            before = ops.where(first, -1e9, at(best - step))
            return 0.25 * ops.sign(after - before)
        # ln(g(0) / g(o)) = (1 - 2 o e) / (2 sigma^2) for the offset e, and o = 1 or -1.
        toward = ops.where(last, -1, 1)
        logs = [ops.log(ops.maximum(at(where), 1e-30)) for where in (best, best + toward * step)]
        squares = 2 * _sigma((height, width)) ** 2
        return ops.cast(toward, "float32") * (1 - squares * (logs[0] - logs[1])) / 2

    row, column = best // width, best % width
    x = ops.cast(column, "float32") + offset(column, width, 1)
    y = ops.cast(row, "float32") + offset(row, height, width)
    scale = np.array([image[1] / width, image[0] / height], "float32")
    return (ops.stack([x, y], axis=-1) + 0.5) * scale - 0.5


TASK = Keypoints()
ORDER = 40
