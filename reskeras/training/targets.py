"""What each output of a network is trained towards, and how images and labels take the form that the network wants."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from reskeras.data.images import ImageData


@dataclasses.dataclass(frozen=True)
class Head:
    """One output of a network."""

    shape: tuple[Any, ...]
    """Of the output, with its batch."""
    activation: Any
    """A function of `keras.activations`."""

    @property
    def binary(self) -> bool:
        """Whether each channel says yes or no for itself."""
        return bool(self.activation is keras.activations.sigmoid or self.shape[-1] == 1)


class Targets:
    """A network's outputs as training sees them: the last of its heads, and in deep supervision those before it.

    Holds no part of the network, so that what is kept for the next one (see
    `reskeras.training.feed`) does not keep this one's weights.

    Args:
        model: a built network with a classifier or segmentation head.
        data: what it is trained on.

    Attributes:
        data: as given.
        heads: the outputs by name; that of the last head is called `head` and comes first.
    """

    def __init__(self, model: keras.Model, data: ImageData) -> None:
        self.data = data
        self._input_shape = tuple(model.input.shape)
        self._named = isinstance(model.output, dict)
        made_by = {id(layer.output): layer for layer in model.layers}
        layers = {name: made_by[id(tensor)] for name, tensor in outputs_of(model).items()}
        self.heads = {
            name: Head(tuple(layer.output.shape), layer.activation)
            for name, layer in layers.items()
        }

    def prepared(self, dataset: Any) -> Any:
        """From images [H,W,C] with labels or masks to what the network takes and what its outputs are compared with."""
        return dataset.map(lambda image, label: (self.image(image), self._target(label)))

    def image(self, image: Any) -> Any:
        """One image [H,W,C], flat for a fully connected network, channels first for one that works so."""
        import tensorflow as tf

        shape = self._input_shape[1:]
        if len(shape) == 1:
            return tf.reshape(image, [math.prod(self.data.image_shape)])
        return image if shape == self.data.image_shape else tf.transpose(image, [2, 0, 1])

    @property
    def signature(self) -> Any:
        """Equal for networks and data whose images, labels and losses take the same forms."""
        data = self.data
        return (
            data.task,
            data.image_shape,
            data.classes,
            self._input_shape,
            self._named,
            *self.heads.items(),
        )

    def losses(self) -> dict[str, Any]:
        """Cross-entropy, for each output; the loss is their mean."""
        losses = {}
        for name, head in self.heads.items():
            logits = head.activation is keras.activations.linear
            kind = (
                keras.losses.BinaryCrossentropy
                if head.binary
                else keras.losses.SparseCategoricalCrossentropy
            )
            losses[name] = kind(from_logits=logits, name="loss")
        return losses

    def metrics(self) -> list[Any]:
        """Accuracy, for masks also the mean intersection over union; of the last head alone."""
        head = self.heads["head"]
        threshold = 0.5 if head.activation is keras.activations.sigmoid else 0.0
        single, binary = head.shape[-1] == 1, head.binary
        if single:
            metrics = [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
        elif binary:
            metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
        else:
            metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if self.data.task == "segmentation":
            metrics.append(
                keras.metrics.BinaryIoU(name="mean_iou", threshold=threshold)
                if single
                else keras.metrics.MeanIoU(
                    self.data.classes,
                    sparse_y_true=not binary,
                    sparse_y_pred=False,
                    name="mean_iou",
                )
            )
        return metrics

    def compile_options(self) -> dict[str, Any]:
        """Loss and metrics as `compile` takes them."""
        losses, metrics = self.losses(), self.metrics()
        if not self._named:
            return {"loss": losses["head"], "metrics": metrics}
        weights = {name: 1 / len(losses) for name in losses}
        return {"loss": losses, "loss_weights": weights, "metrics": {"head": metrics}}

    def example(self) -> tuple[Any, Any]:
        """Zeros in the form of one target and one output, for what has to be built before training."""
        label = np.zeros(
            self.data.image_shape[:2] if self.data.task == "segmentation" else (), "int32"
        )
        target = keras.tree.map_structure(
            lambda tensor: keras.ops.convert_to_numpy(tensor)[None], self._target(label)
        )
        outputs = {
            name: np.zeros((1, *head.shape[1:]), "float32") for name, head in self.heads.items()
        }
        return target, outputs if self._named else outputs["head"]

    def _target(self, label: Any) -> Any:
        import tensorflow as tf

        targets: dict[str, Any] = {}
        for name, head in self.heads.items():
            target = targets.get("head", label)
            if self.data.task == "segmentation":
                sides = head.shape[1:3]
                target = _cropped(target, sides) if name == "head" else _coarser(target, sides)
            targets[name] = target
        for name, head in self.heads.items():
            if head.binary:
                classes = head.shape[-1]
                one_hot = (
                    tf.one_hot(targets[name], classes)
                    if classes > 1
                    else tf.cast(targets[name], "float32")[..., None]
                )
                targets[name] = one_hot
        return targets if self._named else targets["head"]


def outputs_of(model: keras.Model) -> dict[str, Any]:
    """A network's output tensors by name; that of the last head is called `head` and comes first."""
    output = model.output
    outputs = dict(output) if isinstance(output, dict) else {"head": output}
    return {"head": outputs.pop("head")} | outputs


def _cropped(mask: Any, sides: tuple[int, int]) -> Any:
    """The middle of a mask, as valid padding crops the maps."""
    top, left = ((whole - part) // 2 for whole, part in zip(mask.shape, sides, strict=True))
    return mask[top : top + sides[0], left : left + sides[1]]


def _coarser(mask: Any, sides: tuple[int, int]) -> Any:
    """Every n-th pixel of a mask, for a head at 1/n of its resolution."""
    step = mask.shape[0] // sides[0]
    return mask[step // 2 :: step, step // 2 :: step]
