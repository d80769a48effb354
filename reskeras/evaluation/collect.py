"""What scores need of each image of a split, for several networks and baselines at once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData
from reskeras.evaluation.intervals import Estimate, estimate, resampled, share_less, share_of
from reskeras.tasks import LOSS, Facts, Metric, Output, Statistics, Task, Unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """A network or a baseline: what answers images."""

    name: str
    outputs: Callable[[Any], Mapping[str, Any]]
    """From images [N,*sides,C] to its outputs by name; the last head's is called `head`."""
    forms: Mapping[str, Output]
    """The forms of these outputs."""
    metrics: Sequence[Metric]
    """Those that mean something for its answers."""


class Answers:
    """What scores need of a contestant's answers to all images of a split.

    Args:
        contestant: which answered.
        task: that of the data.
        facts: those of the data.
        statistics: of each image [N,...], in NumPy.
        losses: the loss of each image and head [N,H], summed over its pixels or numbers.
        counts: over how many each is a sum [N,H].
    """

    def __init__(
        self,
        contestant: Contestant,
        task: Task,
        facts: Facts,
        statistics: Statistics,
        losses: Any,
        counts: Any,
    ) -> None:
        self.contestant, self.statistics = contestant, statistics
        self.losses = losses.sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        """The loss of each image [N]."""
        self._task, self._facts = task, facts
        # Tensors, or the traced function would hold copies as constants.
        together = task.together(statistics)
        self._tensors = {name: tf.constant(value) for name, value in together.items()}
        self._losses, self._counts = tf.constant(losses), tf.constant(counts)
        self._each = tf.function(
            lambda weights: tf.map_fn(
                self._of,
                weights,
                fn_output_signature={metric.name: tf.float32 for metric in contestant.metrics},
            ),
            input_signature=[tf.TensorSpec([None, len(losses)])],
        ).get_concrete_function()  # traced here: TensorFlow warns of functions traced in calls

    def __len__(self) -> int:
        return len(self.losses)

    def scores(self) -> dict[str, float]:
        """The score of each metric over all images."""
        return {name: float(value) for name, value in self._of(tf.ones(len(self))).items()}

    def resampled(self, weights: Any) -> dict[str, Any]:
        """The scores [R] if images have other weights [R,N]."""
        return {name: value.numpy() for name, value in self._each(weights).items()}

    def influence(self) -> dict[str, Any]:
        """The derivative of each score by the weight of each image [N]."""
        weights = tf.ones(len(self))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(weights)
            scores = self._of(weights)
        return {
            name: tape.gradient(value, weights, unconnected_gradients="zero").numpy()
            for name, value in scores.items()
        }

    def _of(self, weights: Any) -> dict[str, Any]:
        sums = self._task.summed(self._tensors, self._facts, weights)
        lost, counted = (
            tf.linalg.matvec(part, weights, transpose_a=True)
            for part in (self._losses, self._counts)
        )
        loss = tf.reduce_mean(lost / tf.maximum(counted, 1e-9))
        scores = {LOSS.name: loss, **self._task.scores(sums, self._facts)}
        return {
            metric.name: tf.cast(scores[metric.name], "float32")
            for metric in self.contestant.metrics
        }


def collect(
    contestants: Sequence[Contestant],
    data: ImageData,
    split: str,
    facts: Facts,
    batch: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Answers]:
    """Runs contestants over all images of a split.

    Args:
        contestants: they all see the same images.
        data: image data.
        split: which of them.
        facts: as the contestants were made for.
        batch: how many images at once.
        advance: called with the number of images that are done.
    """
    task = data.task
    losses = [
        {name: task.loss(form, facts) for name, form in one.forms.items()} for one in contestants
    ]
    parts: list[list[Any]] = [[] for _ in contestants]
    shape, kind = [None, *data.label_shape], task.labels.dtype

    def targets_of(one: Contestant) -> Any:
        @tf.function(input_signature=[tf.TensorSpec(shape, kind)])  # type: ignore[untyped-decorator]
        def of(labels: Any) -> Any:
            return tf.vectorized_map(lambda label: task.targets(label, one.forms, facts), labels)

        return of.get_concrete_function()

    made = [targets_of(one) for one in contestants]
    with naming_bad_images():
        for images, labels in data.split(split).batch(batch).prefetch(2):
            labels = tf.cast(data.scaled_labels(labels), kind)  # noqa: PLW2901
            for one, loss, part, targets_for in zip(contestants, losses, parts, made, strict=True):
                targets = targets_for(labels)
                outputs = one.outputs(images.numpy())
                form = one.forms["head"]
                found = task.statistics(targets["head"], outputs["head"], form, facts)
                each = [
                    _losses(task, loss[name], targets[name], outputs[name], form)
                    for name, form in one.forms.items()
                ]
                part.append(
                    (keras.tree.map_structure(keras.ops.convert_to_numpy, dict(found)), each)
                )
            advance(len(images))
    return [
        Answers(one, task, facts, *_joined(part))
        for one, part in zip(contestants, parts, strict=True)
    ]


def estimates(
    answers: Sequence[Answers], of_images: Sequence[Metric], wholes: Any = None
) -> tuple[list[dict[Metric, Estimate]], list[dict[Metric, Estimate]]]:
    """The scores of all contestants, and the first one's less those of each other.

    Args:
        answers: to the same images.
        of_images: metrics that are shares of images (see `Task.of_images`).
        wholes: as `reskeras.evaluation.intervals.resampled` has it.

    Returns:
        For each contestant, estimates of its scores; for each but the first, of the first one's
        scores less its own, of metrics that both have.
    """
    count = len(answers[0])
    scores = [one.scores() for one in answers]
    influences = [
        {name: _of_wholes(value, wholes) for name, value in one.influence().items()}
        for one in answers
    ]
    draws = resampled(count, wholes=wholes)
    parts = [[one.resampled(weights) for one in answers] for weights in draws]
    samples = [
        {name: np.concatenate([part[number][name] for part in parts]) for name in found}
        for number, found in enumerate(scores)
    ]

    def of(number: int, metric: Metric) -> Estimate:
        value = scores[number][metric.name]
        if metric in of_images:
            return Estimate(value, *share_of(round(value * count), count))
        limits = (0.0, 1.0) if metric.unit is Unit.SHARE else None
        name = metric.name
        return estimate(value, samples[number][name], influences[number][name], limits)

    def right(number: int, name: str) -> Any:
        # The derivative of a mean by the weight of a number is the number less the mean, by N.
        return np.rint(scores[number][name] + count * influences[number][name]).astype(bool)

    def less(number: int, metric: Metric) -> Estimate:
        name = metric.name
        if metric in of_images:
            return share_less(right(0, name), right(number, name))
        return estimate(
            scores[0][name] - scores[number][name],
            samples[0][name] - samples[number][name],
            influences[0][name] - influences[number][name],
            (-1.0, 1.0) if metric.unit is Unit.SHARE else None,
        )

    theirs = [one.contestant.metrics for one in answers]
    own = [{metric: of(number, metric) for metric in each} for number, each in enumerate(theirs)]
    differences = [
        {metric: less(number, metric) for metric in each if metric in theirs[0]}
        for number, each in enumerate(theirs)
    ]
    return own, differences[1:]


def _of_wholes(influence: Any, wholes: Any) -> Any:
    """The influence of each whole image, of which images are patches."""
    return influence if wholes is None else np.bincount(wholes, weights=influence)


def _losses(task: Task, loss: Any, target: Any, output: Any, form: Output) -> tuple[Any, Any]:
    """The reported loss of each image [N], summed, and over how many pixels or numbers."""
    counts = task.counts(target, form)
    if counts is None:
        values = keras.ops.convert_to_numpy(loss.call(target, output))
        there = np.ones_like(values)
    else:  # a loss takes no class number -1
        values = keras.ops.convert_to_numpy(loss.call(keras.ops.maximum(target, 0), output))
        there = keras.ops.convert_to_numpy(counts).astype("float32")
    axes = tuple(range(1, values.ndim))
    return (values * there).sum(axis=axes), there.sum(axis=axes)


def _joined(parts: Sequence[Any]) -> tuple[Any, Any, Any]:
    """The statistics of all images [N,...], and their losses and counts [N,H]."""
    names = parts[0][0]
    statistics = {name: np.concatenate([found[name] for found, _ in parts]) for name in names}
    losses, counts = (
        np.concatenate([np.stack([head[which] for head in each], axis=1) for _, each in parts])
        for which in (0, 1)
    )
    return statistics, losses.astype("float32"), counts.astype("float32")
