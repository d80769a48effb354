"""Segmentation: one class per pixel."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.errors import RequestError
from reskeras.spec import (
    AnySpec,
    ImageShape,
    Level,
    PlainBlock,
    Recipe,
    Segmenter,
    TrainSpec,
    UNet,
)
from reskeras.tasks.class_labels import accuracy, cross_entropies, encoded, threshold
from reskeras.tasks.metrics import ACCURACY, LOSS, MEAN_IOU
from reskeras.tasks.task import Output, Task, best_classes, write_classes


class Segmentation(Task):
    """Cross-entropy of each pixel, scored by pixel accuracy and mean intersection over union."""

    name = "segmentation"
    metrics = (ACCURACY, LOSS, MEAN_IOU)
    labels = "masks"
    answers = "one class for each pixel"
    gives_masks = True
    resize = "stretch"
    label_follows_image = True

    def fit_head(self, spec: AnySpec, classes: int) -> Any:
        if not isinstance(spec.head, Segmenter):
            raise ValueError(
                "masks need a segmentation head, which a network of the family 'unet' has (the "
                f"network is of the family {spec.family!r} with head {spec.head.kind!r})"
            )
        if spec.data_format == "channels_first":
            raise ValueError("masks are trained with data_format 'channels_last'")
        if spec.head.classes == 1 and classes == 2:
            return spec.head  # one map with a sigmoid separates two classes as well as two maps
        return dataclasses.replace(spec.head, classes=classes)

    def default_space(self, image_shape: ImageShape, classes: int) -> tuple[Recipe, dict[str, Any]]:
        sides = image_shape[:2]
        halvings = next((n for n in (3, 2, 1) if all(side % 2**n == 0 for side in sides)), 0)
        if not halvings:
            raise RequestError(
                f"images of {sides[0]}x{sides[1]} cannot be halved; a U-Net needs even sides"
            )
        unet = UNet(
            input_shape=image_shape,
            block=PlainBlock(),
            stages=tuple(Level(width=16 * 2**number) for number in range(halvings + 1)),
            head=Segmenter(classes=classes),
        )
        recipe = Recipe(spec=unet, train=TrainSpec(epochs=6, learning_rate=5e-3))
        return recipe, {"stages.*.blocks": {"low": 1, "high": 2}}

    def label_shape(self, image_shape: ImageShape) -> tuple[int, ...]:
        return image_shape[:2]

    def gives(self, output_shape: Sequence[int | None]) -> bool:
        return len(output_shape) == 4

    def targets(self, label: Any, outputs: Mapping[str, Output]) -> dict[str, Any]:
        whole = _cropped(label, outputs["head"].shape[1:3])
        return {
            name: encoded(
                whole if name == "head" else _coarser(whole, output.shape[1:3]),
                output,
            )
            for name, output in outputs.items()
        }

    def losses(self, outputs: Mapping[str, Output]) -> dict[str, Any]:
        return cross_entropies(outputs)

    def keras_metrics(self, output: Output, classes: int) -> list[Any]:
        import keras

        if output.shape[-1] == 1:
            iou = keras.metrics.BinaryIoU(name="mean_iou", threshold=threshold(output))
        else:
            iou = keras.metrics.MeanIoU(
                classes, sparse_y_true=not output.binary, sparse_y_pred=False, name="mean_iou"
            )
        return [accuracy(output), iou]

    def describe(self, answer: Any, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        mask = self.mask(answer)
        shares = np.bincount(mask.ravel(), minlength=answer.shape[-1]) / mask.size
        return best_classes(shares, names, "share", top)

    def write(self, described: Sequence[Mapping[str, Any]]) -> str:
        return write_classes(described, "share")

    def mask(self, answer: Any) -> Any:
        return answer.argmax(-1)


def _cropped(mask: Any, sides: tuple[int, int]) -> Any:
    """Crops a mask to its center, as valid padding crops the maps."""
    top, left = ((whole - part) // 2 for whole, part in zip(mask.shape, sides, strict=True))
    return mask[top : top + sides[0], left : left + sides[1]]


def _coarser(mask: Any, sides: tuple[int, int]) -> Any:
    """Takes every n-th pixel of a mask, for a head at 1/n of its resolution."""
    step = mask.shape[0] // sides[0]
    return mask[step // 2 :: step, step // 2 :: step]
