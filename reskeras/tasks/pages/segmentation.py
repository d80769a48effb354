"""Segmentation: one class for each pixel or voxel."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.spec import AnySpec, Recipe, Segmenter
from reskeras.tasks import class_labels
from reskeras.tasks.baselines import always, class_shares, named
from reskeras.tasks.class_task import ClassTask
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import ACCURACY, LOSS, PRECISION, RECALL, SUPPORT, Metric, share
from reskeras.tasks.networks import map_space, takes_maps
from reskeras.tasks.task import (
    Baseline,
    Facts,
    Output,
    Statistics,
    best_classes,
    class_cells,
    write_classes,
)
from reskeras.words import percent

_DICE = share("mean_dice", "Mean Dice")
_IOU = share("mean_iou", "Mean IoU")
_DICE_OF_CLASS, _IOU_OF_CLASS = share("dice", "Dice"), share("iou", "IoU")
_DICE_FOREGROUND = share("foreground_dice", "Mean Dice without class 0")
_IOU_FOREGROUND = share("foreground_iou", "Mean IoU without class 0")


class Segmentation(ClassTask):
    """Cross-entropy of each pixel, scored by the overlap of each class.

    Overlaps are those of all images together: each pixel counts the same. A class that neither
    masks nor answers have does not count. With `foreground`, class 0 does not count either.
    """

    name = "segmentation"
    metrics = (_DICE, LOSS, _IOU, _DICE_FOREGROUND, _IOU_FOREGROUND, ACCURACY)
    of_classes = (SUPPORT, PRECISION, RECALL, _DICE_OF_CLASS, _IOU_OF_CLASS)
    losses = ("cross_entropy", "cross_entropy_dice", "dice", "focal", "tversky")
    border_losses = ("cross_entropy", "cross_entropy_dice", "focal")
    labels = Labels.MASK
    noun = "masks"
    answers = "one class for each pixel"
    resize = "stretch"

    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        takes_maps(spec, self.noun)
        if not isinstance(spec.head, Segmenter):
            return Segmenter(classes=facts.classes)
        if spec.head.classes == 1 and facts.classes == 2:
            return spec.head  # one map with a sigmoid separates two classes as well as two maps
        return dataclasses.replace(spec.head, classes=facts.classes)

    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        return map_space(facts, Segmenter(classes=facts.classes))

    def gives(self, output: Output) -> bool:
        return len(output.shape) > 2 and output.activation != "linear"

    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        """The mask, or its middle, at the resolution of each output."""
        return {
            name: class_labels.encoded(
                _coarser(_cropped(label, output.middle or label.shape), output.shape[1:-1]), output
            )
            for name, output in outputs.items()
        }

    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        import keras

        if output.shape[-1] == 1:
            limit = class_labels.threshold(output)
            iou = keras.metrics.BinaryIoU(name=_IOU.name, threshold=limit)
        else:
            iou = keras.metrics.MeanIoU(
                facts.classes,
                sparse_y_true=not output.binary,
                sparse_y_pred=False,
                name=_IOU.name,
            )
        return [class_labels.stock_accuracy(output), iou]

    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """The confusion matrix [N,K,K] of each image."""
        from keras import ops

        label, there = class_labels.classes_in(target, form)
        answer = ops.cast(class_labels.chosen(output, form), "int32")
        count = ops.shape(label)[0]
        images = ops.reshape(ops.arange(count), (-1,) + (1,) * (len(label.shape) - 1))
        k, size = facts.classes, facts.classes**2
        numbers = ops.reshape(images * size + label * k + answer, [-1])
        known = ops.reshape(ops.cast(there, "float32"), [-1])
        found = ops.segment_sum(known, numbers, num_segments=count * size)
        return {"confusion": ops.reshape(found, (-1, k, k))}

    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        matrix = sums["confusion"]
        return {
            _DICE.name: class_labels.f1_of(matrix),
            _IOU.name: class_labels.iou_of(matrix),
            _DICE_FOREGROUND.name: class_labels.f1_of(matrix, first=1),
            _IOU_FOREGROUND.name: class_labels.iou_of(matrix, first=1),
            ACCURACY.name: class_labels.accuracy_of(matrix),
        }

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        matrix = self.confusion(statistics, facts)
        right, labeled, answered = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        return class_labels.scores_by_class(matrix) | {
            _DICE_OF_CLASS: class_labels.f1_by_class(matrix),
            _IOU_OF_CLASS: class_labels.ratio(right, labeled + answered - right),
        }

    def confusion(self, statistics: Statistics, facts: Facts) -> Any:
        # float32 counts pixels of an image exactly, but not those of many.
        return statistics["confusion"].sum(axis=0, dtype="float64").astype(int)

    def badness(self, statistics: Statistics, losses: Any, facts: Facts) -> Any:
        """1 - the mean Dice coefficient of the classes that are in the image or its answer."""
        each = [class_labels.f1_by_class(matrix) for matrix in statistics["confusion"]]
        there = np.isfinite(each)
        found = np.where(there, each, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        return np.where(there.any(axis=1), 1 - found, 0)

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """The class of most pixels, by the share of each class in the training masks."""
        sides = form.shape[1:-1]
        shares = np.broadcast_to(class_shares(labels, facts.classes), (*sides, facts.classes))
        softmax = Output((None, *sides, facts.classes), "softmax", form.middle)
        name = named("commonest class", labels, facts)
        return (Baseline(name, always(shares), softmax, self.metrics),)

    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        mask = answer.argmax(-1)
        shares = np.bincount(mask.ravel(), minlength=answer.shape[-1]) / mask.size
        return best_classes(shares, names, "share", top)

    def write(self, described: Any) -> str:
        return write_classes(described, "share")

    def cells(self, described: Any) -> dict[str, Any]:
        return class_cells(described, "share")

    def settled(self, answer: Any) -> Any:
        return answer.argmax(-1)

    def in_file(self, answer: Any, stored: Any) -> Any:
        return stored.mask(answer)

    def picture(self, image: Any, answer: Any, described: Any) -> Any:
        from reskeras.tasks.pictures import PAPER, Line, blended, color_of, seen_well, with_lines

        lines = [
            Line(
                f"{each['name'] or 'class ' + str(each['class'])}: {percent(each['share'])}",
                color_of(each["class"]) if each["class"] else PAPER,
            )
            for each in described
            if each["share"]
        ]
        return with_lines(seen_well(blended(image, answer))[0], lines)


def _cropped(mask: Any, sides: Sequence[int]) -> Any:
    """Crops a mask to its center, as valid padding crops the maps."""
    starts = [(whole - part) // 2 for whole, part in zip(mask.shape, sides, strict=True)]
    return mask[tuple(slice(s, s + part) for s, part in zip(starts, sides, strict=True))]


def _coarser(mask: Any, sides: Sequence[int]) -> Any:
    """Takes the nearest pixels of a mask: every n-th one, for a head at 1/n of its resolution."""
    import tensorflow as tf

    for axis, (whole, part) in enumerate(zip(mask.shape, sides, strict=True)):
        if part != whole:
            mask = tf.gather(mask, (2 * np.arange(part) + 1) * whole // (2 * part), axis=axis)
    return mask


TASK = Segmentation()
ORDER = 10
