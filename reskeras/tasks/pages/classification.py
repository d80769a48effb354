"""Classification: one class for each image, signal or volume."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Classifier, Recipe
from reskeras.tasks import class_labels
from reskeras.tasks.baselines import always, class_shares, named, nearest
from reskeras.tasks.class_task import ClassTask
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import (
    ACCURACY,
    F1,
    LOSS,
    MACRO_F1,
    PRECISION,
    RECALL,
    SUPPORT,
    Better,
    Metric,
    share,
)
from reskeras.tasks.networks import takes_whole_images, whole_image_space
from reskeras.tasks.task import (
    Baseline,
    Facts,
    Output,
    Statistics,
    best_classes,
    class_cells,
    class_name,
    write_classes,
)

_BALANCED = share("balanced_accuracy", "Balanced accuracy")
_TOP = 5
_TOP_5 = share("top_5_accuracy", "Top-5 accuracy")
_CALIBRATION = share("calibration_error", "Calibration error", Better.LOWER)
_BINS = class_labels.CALIBRATION_BINS


class Classification(ClassTask):
    """Cross-entropy over classes, scored by accuracy."""

    name = "classification"
    metrics = (ACCURACY, LOSS, _BALANCED, MACRO_F1, _TOP_5, _CALIBRATION)
    of_images = (ACCURACY, _TOP_5)
    of_classes = (SUPPORT, PRECISION, RECALL, F1)
    losses = ("cross_entropy", "focal")
    labels = Labels.CLASS
    noun = "labels"
    answers = "one class for each image"
    resize = "crop"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        takes_whole_images(spec, self.noun)
        if isinstance(spec.head, Classifier):
            return dataclasses.replace(spec.head, classes=facts.classes)
        return Classifier(classes=facts.classes)

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        return whole_image_space(facts, Classifier(classes=facts.classes))

    def gives(self, output: Output) -> bool:
        return len(output.shape) == 2

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        return {name: class_labels.encoded(label, output) for name, output in outputs.items()}

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        return [class_labels.stock_accuracy(output)]

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """The label, the answer, the share of the answer and of the label, and the label's rank."""
        from keras import ops

        label, _ = class_labels.classes_in(target, form)
        shares = class_labels.shares(output, form)
        of_label = ops.take_along_axis(shares, label[:, None], axis=-1)
        # Of classes with equal shares, the last one ranks first, as in scikit-learn's top-k score.
        later = ops.arange(facts.classes) > label[:, None]
        before = (shares > of_label) | ((shares == of_label) & later)
        return {
            "label": label,
            "answer": ops.cast(class_labels.chosen(output, form), "int32"),
            "share": ops.max(shares, axis=-1),
            "of_label": of_label[:, 0],
            "rank": ops.sum(ops.cast(before, "int32"), axis=-1),
        }

    def summed(self, statistics: Statistics, facts: Facts, weights: Any = None) -> Statistics:
        from keras import ops

        label, answer, share = (statistics[name] for name in ("label", "answer", "share"))
        counts = ops.ones_like(share) if weights is None else ops.cast(weights, "float32")
        bins = ops.cast(ops.clip(share * _BINS, 0, _BINS - 1), "int32")
        right = ops.cast(label == answer, "float32")

        def in_bins(values: Any) -> Any:
            return ops.segment_sum(values, bins, num_segments=_BINS)

        return {
            "confusion": class_labels.confusion(label, answer, facts.classes, counts),
            "top": ops.sum(counts * ops.cast(statistics["rank"] < _TOP, "float32")),
            "overconfidence": in_bins(counts * (share - right)),
        }

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        from keras import ops

        matrix = sums["confusion"]
        total = ops.maximum(ops.sum(matrix), 1e-9)
        right, labeled, _ = class_labels.overlaps(matrix)
        recall = right / ops.maximum(labeled, 1e-9)
        return {
            ACCURACY.name: class_labels.accuracy_of(matrix),
            _BALANCED.name: class_labels.mean_where(recall, labeled > 0),
            MACRO_F1.name: class_labels.f1_of(matrix),
            _TOP_5.name: sums["top"] / total,
            _CALIBRATION.name: ops.sum(ops.abs(sums["overconfidence"])) / total,
        }

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        matrix = self.confusion(statistics, facts)
        return class_labels.scores_by_class(matrix) | {F1: class_labels.f1_by_class(matrix)}

    def confusion(self, statistics: Statistics, facts: Facts) -> Any:
        matrix = np.zeros((facts.classes, facts.classes), int)
        np.add.at(matrix, (statistics["label"], statistics["answer"]), 1)
        return matrix

    def confidence(self, statistics: Statistics) -> tuple[Any, Any] | None:
        return statistics["share"], statistics["label"] == statistics["answer"]

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """The majority class, and 1-nearest-neighbor on pixels."""
        shares = Output((None, facts.classes), "softmax")
        frequent = always(class_shares(labels, facts.classes))
        near = nearest(images, labels[: len(images)], facts.classes)
        return (
            Baseline(named("majority class", labels, facts), frequent, shares, self.metrics),
            Baseline(
                named("nearest neighbor", images, facts),
                near,
                shares,
                (ACCURACY, _BALANCED, MACRO_F1),
            ),
        )

    def label_in_words(self, label: Any, names: Sequence[str]) -> str:
        return class_name(names, int(label))

    def answer_in_words(self, answer: Any, names: Sequence[str]) -> str:
        return self.write(self.describe(answer, names, 1))

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        return best_classes(answer, names, "probability", top)

    def write(self, described: Any) -> str:
        return write_classes(described, "probability")

    def cells(self, described: Any) -> dict[str, Any]:
        return class_cells(described, "probability")


TASK = Classification()
ORDER = 0
