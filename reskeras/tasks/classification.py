"""Classification: one class per image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from reskeras.spec import (
    AnySpec,
    BasicBlock,
    CifarStem,
    Classifier,
    ImagenetStem,
    ImageShape,
    Recipe,
    ResNet,
    Stage,
    TrainSpec,
)
from reskeras.tasks.class_labels import accuracy, cross_entropies, encoded
from reskeras.tasks.metrics import ACCURACY, LOSS
from reskeras.tasks.task import Output, Task, best_classes, write_classes


class Classification(Task):
    """Softmax (or sigmoid) cross-entropy over classes, scored by accuracy."""

    name = "classification"
    metrics = (ACCURACY, LOSS)
    labels = "labels"
    answers = "one class for each image"
    resize = "crop"
    label_follows_image = False

    def fit_head(self, spec: AnySpec, classes: int) -> Any:
        if not isinstance(spec.head, Classifier):
            raise ValueError(
                "the data have labels, not masks, and need a classifier (the network is of the "
                f"family {spec.family!r} with head {spec.head.kind!r})"
            )
        return dataclasses.replace(spec.head, classes=classes)

    def default_space(self, image_shape: ImageShape, classes: int) -> tuple[Recipe, dict[str, Any]]:
        smaller = min(image_shape[:2])
        # Two stages for 8x8 digits, three for CIFAR, four after the 7x7 stem. More would pool small
        # images away.
        count = 2 if smaller < 16 else 3 if smaller < 64 else 4
        width = 32 if smaller < 64 else 64
        resnet = ResNet(
            input_shape=image_shape,
            stem=CifarStem(width=width) if smaller < 64 else ImagenetStem(width=width),
            block=BasicBlock(),
            stages=tuple(
                Stage(blocks=1, width=width * 2**number, stride=2 if number else 1)
                for number in range(count)
            ),
            head=Classifier(classes=classes),
        )
        recipe = Recipe(spec=resnet, train=TrainSpec(epochs=6, learning_rate=5e-3))
        return recipe, {"stages.*.blocks": {"low": 1, "high": 3}}

    def label_shape(self, image_shape: ImageShape) -> tuple[int, ...]:
        return ()

    def gives(self, output_shape: Sequence[int | None]) -> bool:
        return len(output_shape) == 2

    def targets(self, label: Any, outputs: Mapping[str, Output]) -> dict[str, Any]:
        return {name: encoded(label, output) for name, output in outputs.items()}

    def losses(self, outputs: Mapping[str, Output]) -> dict[str, Any]:
        return cross_entropies(outputs)

    def keras_metrics(self, output: Output, classes: int) -> list[Any]:
        return [accuracy(output)]

    def describe(self, answer: Any, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        return best_classes(answer, names, "probability", top)

    def write(self, described: Sequence[Mapping[str, Any]]) -> str:
        return write_classes(described, "probability")
