"""What each output of a network is trained towards, and how images and labels take the form that the network wants."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from reskeras.data.images import ImageData


@dataclasses.dataclass(frozen=True)
class Targets:
    """A network's outputs as training sees them: the last of its heads, and in deep supervision those before it.

    Args:
        model: a built network with a classifier or segmentation head.
        data: what it is trained on.
    """

    model: keras.Model
    data: ImageData

    @property
    def outputs(self) -> dict[str, Any]:
        """The output tensors by name; that of the last head is called `head`."""
        output = self.model.output
        return output if isinstance(output, dict) else {"head": output}

    def prepared(self, dataset: Any) -> Any:
        """From images [H,W,C] with labels or masks to what the network takes and what its outputs are compared with."""
        return dataset.map(lambda image, label: (self.image(image), self._target(label)))

    def image(self, image: Any) -> Any:
        """One image [H,W,C], flat for a fully connected network, channels first for one that works so."""
        import tensorflow as tf

        shape = tuple(self.model.input.shape[1:])
        if len(shape) == 1:
            return tf.reshape(image, [math.prod(self.data.image_shape)])
        return image if shape == self.data.image_shape else tf.transpose(image, [2, 0, 1])

    @property
    def signature(self) -> Any:
        """Equal for networks and data whose images, labels and losses take the same forms."""
        heads = [(name, tuple(layer.output.shape), layer.activation.__name__) for name, layer in self._heads().items()]
        data = self.data
        return (data.task, data.image_shape, data.classes, tuple(self.model.input.shape), tuple(self.outputs), *heads)

    def losses(self) -> dict[str, Any]:
        """Cross-entropy, for each output; the loss is their mean."""
        losses = {}
        for name, layer in self._heads().items():
            logits = layer.activation is keras.activations.linear
            kind = keras.losses.BinaryCrossentropy if self._binary(layer) else keras.losses.SparseCategoricalCrossentropy
            losses[name] = kind(from_logits=logits, name="loss")
        return losses

    def metrics(self) -> list[Any]:
        """Accuracy, for masks also the mean intersection over union; of the last head alone."""
        head = self._heads()["head"]
        threshold = 0.5 if head.activation is keras.activations.sigmoid else 0.0
        single, binary = head.output.shape[-1] == 1, self._binary(head)
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
                else keras.metrics.MeanIoU(self.data.classes, sparse_y_true=not binary, sparse_y_pred=False, name="mean_iou")
            )
        return metrics

    def compile_options(self) -> dict[str, Any]:
        """Loss and metrics as `compile` takes them."""
        losses, metrics = self.losses(), self.metrics()
        if not isinstance(self.model.output, dict):
            return {"loss": losses["head"], "metrics": metrics}
        weights = {name: 1 / len(losses) for name in losses}
        return {"loss": losses, "loss_weights": weights, "metrics": {"head": metrics}}

    def example(self) -> tuple[Any, Any]:
        """Zeros in the form of one target and one output, for what has to be built before training."""
        label = np.zeros(self.data.image_shape[:2] if self.data.task == "segmentation" else (), "int32")
        target = keras.tree.map_structure(lambda tensor: keras.ops.convert_to_numpy(tensor)[None], self._target(label))
        output = keras.tree.map_structure(lambda tensor: np.zeros((1, *tensor.shape[1:]), "float32"), self.model.output)
        return target, output

    def _target(self, label: Any) -> Any:
        import tensorflow as tf

        targets: dict[str, Any] = {}
        for name, layer in self._heads().items():
            target = targets.get("head", label)
            if self.data.task == "segmentation":
                sides = layer.output.shape[1:3]
                target = _cropped(target, sides) if name == "head" else _coarser(target, sides)
            targets[name] = target
        for name, layer in self._heads().items():
            if self._binary(layer):
                classes = layer.output.shape[-1]
                one_hot = tf.one_hot(targets[name], classes) if classes > 1 else tf.cast(targets[name], "float32")[..., None]
                targets[name] = one_hot
        return targets if isinstance(self.model.output, dict) else targets["head"]

    def _heads(self) -> dict[str, Any]:
        made_by = {id(layer.output): layer for layer in self.model.layers}
        heads = {name: made_by[id(tensor)] for name, tensor in self.outputs.items()}
        return {"head": heads.pop("head")} | heads

    def _binary(self, layer: Any) -> bool:
        """Whether each channel of a head says yes or no for itself."""
        return bool(layer.activation is keras.activations.sigmoid or layer.output.shape[-1] == 1)


def _cropped(mask: Any, sides: tuple[int, int]) -> Any:
    """The middle of a mask, as valid padding crops the maps."""
    top, left = ((whole - part) // 2 for whole, part in zip(mask.shape, sides, strict=True))
    return mask[top : top + sides[0], left : left + sides[1]]


def _coarser(mask: Any, sides: tuple[int, int]) -> Any:
    """Every n-th pixel of a mask, for a head at 1/n of its resolution."""
    step = mask.shape[0] // sides[0]
    return mask[step // 2 :: step, step // 2 :: step]
