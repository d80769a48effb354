"""Many labels: for each class, whether it is in the image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Classifier, Recipe, TrainSpec
from reskeras.tasks.baselines import always, named
from reskeras.tasks.class_labels import ratio
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import (
    AVERAGE_PRECISION,
    F1,
    LOSS,
    MACRO_F1,
    PRECISION,
    RECALL,
    SUPPORT,
    Metric,
    share,
)
from reskeras.tasks.networks import takes_whole_images, whole_image_space
from reskeras.tasks.task import (
    Baseline,
    Facts,
    Output,
    Statistics,
    Task,
    best_classes,
    class_cells,
    class_name,
    write_classes,
)

_PRECISION_OF_CLASS = share("class_average_precision", "Average precision")
_EXACT = share("exact_match", "Exactly right")
_HALF = 0.5
"""A class with a larger probability is answered; its logit is above 0."""
_LEVELS, _HALF_OF_LEVELS, _REACH, _NEAR = 4096, 2048, 16.0, 1e-3
"""Average precision ranks logits from -16 to 16 in so many steps, the upper half above 0. Nearer
ones count as equal, which lets sums of batches replace the scores of all images. Steps are smaller
near 0, as the logits of a network that has learned little are."""


class Multilabel(Task):
    """Binary cross-entropy of each class, scored by macro average precision."""

    name = "multilabel"
    metrics = (AVERAGE_PRECISION, LOSS, MACRO_F1, _EXACT)
    of_images = (_EXACT,)
    of_classes = (SUPPORT, PRECISION, RECALL, F1, _PRECISION_OF_CLASS)
    losses = ("binary_cross_entropy", "asymmetric")
    smooths = True
    labels = Labels.CLASSES
    noun = "sets of labels"
    answers = "the classes that are in each image"
    told = "classes"
    resize = "stretch"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        takes_whole_images(spec, self.noun)
        if isinstance(spec.head, Classifier) and spec.head.activation != "softmax":
            return dataclasses.replace(spec.head, classes=facts.classes)
        return Classifier(classes=facts.classes, activation="sigmoid")

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        return whole_image_space(facts, Classifier(classes=facts.classes, activation="sigmoid"))

    def gives(self, output: Output) -> bool:
        return False  # a classifier with sigmoids looks the same

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        return dict.fromkeys(outputs, label)

    def loss(self, output: Output, facts: Facts) -> Any:
        import keras

        return keras.losses.BinaryCrossentropy(
            from_logits=output.activation == "linear", name="loss"
        )

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        import keras

        from reskeras.tasks.losses import Asymmetric

        if train.loss == "asymmetric":
            return Asymmetric(output)
        return keras.losses.BinaryCrossentropy(
            from_logits=output.activation == "linear",
            label_smoothing=train.label_smoothing,
            name="loss",
        )

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        import keras

        return [
            keras.metrics.AUC(
                curve="PR",
                multi_label=True,
                num_labels=facts.classes,
                from_logits=output.activation == "linear",
                name=AVERAGE_PRECISION.name,
            )
        ]

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """Which classes are there [N,K], the logit of each, and its step."""
        from keras import ops

        output = ops.cast(output, "float32")
        if form.activation != "linear":
            p = ops.clip(output, 1e-7, 1 - 6e-8)
            output = ops.log(p) - ops.log1p(-p)
        half = _HALF_OF_LEVELS
        most = _REACH + np.arcsinh(_REACH / _NEAR)
        level = half + ops.floor((output + ops.arcsinh(output / _NEAR)) * (half / most))
        level = ops.where(
            output > 0, ops.clip(level, half, _LEVELS - 1), ops.clip(level, 0, half - 1)
        )
        there = ops.cast(target, "float32")
        return {"there": there, "logit": output, "level": ops.cast(level, "int32")}

    def together(self, statistics: Statistics) -> Statistics:
        """Logits that differ have steps that do, up to 2,048 of either sign."""
        level = np.zeros(statistics["level"].shape, "int32")
        # Equal answers differ by rounding: to 20 of float32's 24 bits, and to 6 digits near 0.
        mantissa, exponent = np.frexp(statistics["logit"])
        rounded = np.round(np.ldexp(np.round(mantissa * 2**20), exponent - 20), 6)
        for k, logit in enumerate(rounded.T):
            for side, first in ((logit <= 0, 0), (logit > 0, _HALF_OF_LEVELS)):
                values, places = np.unique(logit[side], return_inverse=True)
                level[side, k] = first + places * _HALF_OF_LEVELS // max(1, len(values))
        return {**statistics, "level": level}

    def summed(self, statistics: Statistics, facts: Facts, weights: Any = None) -> Statistics:
        from keras import ops

        there, logit = statistics["there"], statistics["logit"]
        counts = ops.ones_like(logit[:, 0]) if weights is None else ops.cast(weights, "float32")
        numbers = ops.reshape(statistics["level"] + ops.arange(facts.classes) * _LEVELS, [-1])

        def in_levels(values: Any) -> Any:
            flat = ops.reshape(values * counts[:, None], [-1])
            sums = ops.segment_sum(flat, numbers, num_segments=facts.classes * _LEVELS)
            return ops.reshape(sums, (facts.classes, _LEVELS))

        answer = ops.cast(logit > 0, "float32")
        exact = ops.cast(ops.all(answer == there, axis=-1), "float32")
        return {
            "there": in_levels(there),
            "all": in_levels(ops.ones_like(there)),
            "exact": ops.sum(exact * counts),
            "images": ops.sum(counts),
        }

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        from keras import ops

        from reskeras.tasks.class_labels import mean_where

        # From the highest level down: what is answered if the threshold is there.
        hits = ops.cumsum(ops.flip(sums["there"], axis=1), axis=1)
        answered = ops.cumsum(ops.flip(sums["all"], axis=1), axis=1)
        precision = hits / ops.maximum(answered, 1e-9)
        positives = hits[:, -1]
        gained = ops.flip(sums["there"], axis=1) / ops.maximum(positives, 1e-9)[:, None]
        half = _HALF_OF_LEVELS
        right, wrong = (
            ops.sum(part[:, half:], axis=1) for part in (sums["there"], sums["all"] - sums["there"])
        )
        there_or_answered = right + wrong + positives
        f1 = 2 * right / ops.maximum(there_or_answered, 1e-9)
        average = mean_where(ops.sum(precision * gained, axis=1), positives > 0)
        return {
            AVERAGE_PRECISION.name: average,
            MACRO_F1.name: mean_where(f1, there_or_answered > 0),
            _EXACT.name: sums["exact"] / ops.maximum(sums["images"], 1e-9),
        }

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        from sklearn.metrics import average_precision_score

        there, logit = statistics["there"] > 0, statistics["logit"]
        answered, right = (logit > 0).sum(axis=0), (there & (logit > 0)).sum(axis=0)
        positives = there.sum(axis=0)
        return {
            SUPPORT: positives,
            PRECISION: ratio(right, answered),
            RECALL: ratio(right, positives),
            F1: ratio(2 * right, answered + positives),
            _PRECISION_OF_CLASS: np.array(
                [
                    average_precision_score(there[:, k], logit[:, k]) if count else np.nan
                    for k, count in enumerate(positives)
                ]
            ),
        }

    def confidence(self, statistics: Statistics) -> tuple[Any, Any] | None:
        """The probability of each class in each image, and whether it is there."""
        from scipy.special import expit

        return expit(statistics["logit"].ravel()), statistics["there"].ravel() > 0

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """How often each class is there in the training images."""
        prior = always(np.mean(labels, axis=0, dtype="float32"))
        sigmoids = Output((None, facts.classes), "sigmoid")
        name = named("how often each class is there", labels, facts)
        return (Baseline(name, prior, sigmoids, self.metrics),)

    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        import keras

        if form.activation == "linear":
            return keras.ops.convert_to_numpy(keras.ops.sigmoid(outputs))
        return outputs

    def settled(self, answer: Any) -> Any:
        """Whether each class is there [K]."""
        return answer > _HALF

    def label_in_words(self, label: Any, names: Sequence[str]) -> str:
        return ", ".join(class_name(names, int(k)) for k in np.flatnonzero(label)) or "none"

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        return best_classes(answer, names, "probability", top)

    def write(self, described: Any) -> str:
        return write_classes(described, "probability")

    def cells(self, described: Any) -> dict[str, Any]:
        found = class_cells(described, "probability")
        # Which classes are there, not which is the likeliest.
        del found["class"], found["name"]
        return found


TASK = Multilabel()
ORDER = 20
