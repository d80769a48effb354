"""Losses over the images and pixels that have a class, of classes with weights.

Keras has the values; these say which of them count. A network that needs none of them trains with
Keras' own objects. They are for training alone: a saved model names only classes of Keras.
"""

import dataclasses
import enum
from typing import Any

import keras
import numpy as np
from keras import ops

from reskeras.errors import RequestError
from reskeras.spec import TrainSpec
from reskeras.tasks.border_weights import border_weights
from reskeras.tasks.class_labels import IGNORED, classes_in, dense, shares
from reskeras.tasks.task import Facts, Output

_SMOOTHING = 1e-5
"""Of the Dice coefficient 2 right / (labeled + answered), above and below."""


class ClassLoss(enum.Enum):
    """The losses of classes, by their words in `train.loss`."""

    CROSS_ENTROPY = "cross_entropy"
    FOCAL = "focal"
    """Cross-entropy times (1 - p)^2 (arXiv 1708.02002)."""
    DICE = "dice"
    """1 - the Dice coefficient, mean over the classes (arXiv 1606.04797), over a whole batch."""
    CROSS_ENTROPY_DICE = "cross_entropy_dice"
    """The sum of both, as in nnU-Net (arXiv 1809.10486)."""
    TVERSKY = "tversky"
    """Dice with 0.3 for pixels answered wrongly and 0.7 for those missed (arXiv 1706.05721)."""


def cross_entropy(output: Output, smoothing: float = 0.0) -> Any:
    """Keras' cross-entropy of an output; smoothed, it takes dense targets."""
    options: dict[str, Any] = {"from_logits": output.activation == "linear", "name": "loss"}
    if output.binary:
        return keras.losses.BinaryCrossentropy(label_smoothing=smoothing, **options)
    if smoothing:
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing, **options)
    return keras.losses.SparseCategoricalCrossentropy(**options)


def trained(output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...]) -> Any:
    """The loss of classes that `train` names.

    Args:
        output: the output that it is a loss of.
        facts: those of the data.
        train: how the network is trained; mixed targets are dense.
        weights: what the loss of each class is multiplied by; empty for 1.
    """
    kind = ClassLoss(train.loss or ClassLoss.CROSS_ENTROPY.value)
    logits = output.activation == "linear"
    border = Border.of(output, facts, train.border_weight) if train.border_weight else None

    def counted(loss: Any) -> Counted:
        return Counted(loss, output, weights, border)

    match kind:
        case ClassLoss.CROSS_ENTROPY:
            stock = cross_entropy(output, train.label_smoothing)
            changed = weights or border or facts.ignores or train.label_smoothing
            plain = not (changed or train.augment.mixes)
            return stock if plain else counted(for_dense(stock, output))
        case ClassLoss.FOCAL:
            options = {"label_smoothing": train.label_smoothing, "name": "loss"}
            if output.binary:
                return counted(keras.losses.BinaryFocalCrossentropy(from_logits=logits, **options))
            # Keras' alpha, a weight of all classes alike, is 0.25 by default.
            return counted(
                keras.losses.CategoricalFocalCrossentropy(1.0, from_logits=logits, **options)
            )
        case ClassLoss.DICE:
            return Region(output)
        case ClassLoss.TVERSKY:
            return Region(output, wrong=0.3, missed=0.7)
        case ClassLoss.CROSS_ENTROPY_DICE:
            stock = cross_entropy(output, train.label_smoothing)
            entropy = counted(for_dense(stock, output))
            return Sum(entropy, Region(output))


def for_dense(stock: Any, output: Output) -> Any:
    """A stock loss of an output for targets with a share for each class."""
    if isinstance(stock, keras.losses.SparseCategoricalCrossentropy):
        logits = output.activation == "linear"
        return keras.losses.CategoricalCrossentropy(from_logits=logits, name="loss")
    return stock


class Counted(keras.losses.Loss):  # type: ignore[misc]
    """The mean of a stock loss over the images or pixels of a batch that have a class.

    It is 0 if none has.

    Args:
        loss: a stock loss of dense targets, with a value for each image or pixel.
        output: the output that it is a loss of.
        weights: what the loss of each class is multiplied by; empty for 1.
        border: what is added to these weights; None for nothing.
    """

    def __init__(
        self,
        loss: Any,
        output: Output,
        weights: tuple[float, ...] = (),
        border: "Border | None" = None,
    ) -> None:
        super().__init__(name=loss.name)
        self._loss, self._output, self._weights, self._border = loss, output, weights, border

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        label, has_class = classes_in(y_true, self._output)
        target = ops.maximum(dense(y_true, self._output), 0)
        counts = ops.cast(has_class, "float32")
        # The stock loss divides by all of them.
        size = ops.cast(ops.size(counts), "float32")
        weights = counts * (size / ops.maximum(ops.sum(counts), 1))
        of_pixels: Any = self._of_classes(target) if self._weights else 1.0
        if self._border is not None:
            of_pixels += self._border.weights(ops.where(has_class, label, IGNORED))
        weights *= of_pixels
        if sample_weight is not None:
            weights *= sample_weight
        return self._loss(target, y_pred, weights)

    def _of_classes(self, target: Any) -> Any:
        weights = ops.convert_to_tensor(self._weights, "float32")
        if self._output.shape[-1] == 1:
            return weights[0] + (weights[1] - weights[0]) * target[..., 0]
        return ops.sum(weights * target, axis=-1)


@dataclasses.dataclass(frozen=True)
class Border:
    """The second term of the U-Net paper's weights, of masks as the network sees them.

    It is computed in each step: masks that are shifted, turned or cut have other borders.
    """

    weight: float
    """w0."""
    spacing: tuple[int, ...]
    """How many pixels of the image are one of the mask, for coarser outputs."""

    @classmethod
    def of(cls, output: Output, facts: Facts, weight: float) -> "Border":
        """That of an output.

        Raises:
            RequestError: Keras does not run on TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise RequestError(
                f"train.border_weight needs Keras on TensorFlow, not on {keras.backend.backend()}"
            )
        pairs = zip(output.middle or facts.image_shape[:-1], output.shape[1:-1], strict=True)
        return cls(weight, tuple(max(1, round(whole / side)) for whole, side in pairs))

    def weights(self, masks: Any) -> Any:
        """For masks [N,*sides], float32 [N,*sides]."""
        import tensorflow as tf

        found = tf.numpy_function(self._of_masks, [masks], tf.float32)
        return tf.ensure_shape(found, masks.shape)

    def _of_masks(self, masks: Any) -> Any:
        none = [0.0] * (1 + max(0, int(masks.max())))
        return np.stack(
            [border_weights(mask, none, weight=self.weight, spacing=self.spacing) for mask in masks]
        )


class Region(keras.losses.Loss):  # type: ignore[misc]
    """1 - the overlap of answer and mask, over the pixels that have a class, mean over the classes.

    The overlap is right / (right + wrong + missed), each over a whole batch; with halves of wrong
    and missed, it is the Dice coefficient. As in nnU-Net, a hundred-thousandth of a pixel is added
    above and below: a class that a batch does not have, and the network does not answer, has a loss
    of 0. Without it the class would have 1; without the class, the weights of the others would
    differ from batch to batch.

    Args:
        output: the output that it is a loss of.
        wrong: what a pixel that is answered wrongly weighs in the class that is answered.
        missed: what it weighs in the class that it has.
    """

    def __init__(self, output: Output, *, wrong: float = 0.5, missed: float = 0.5) -> None:
        super().__init__(name="loss")
        self._output, self._wrong, self._missed = output, wrong, missed

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """`sample_weight` is one number: how much this replica's part weighs. 0 is of no part."""
        if sample_weight is not None:
            y_true = ops.where(ops.any(sample_weight > 0), y_true, IGNORED)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        _, has_class = classes_in(y_true, self._output)
        there = ops.cast(has_class, "float32")[..., None]
        target = ops.maximum(dense(y_true, self._output), 0)
        if self._output.shape[-1] == 1:
            target = ops.concatenate([1 - target, target], axis=-1)
        answer = shares(y_pred, self._output)
        axes = tuple(range(len(self._output.shape) - 1))
        parts = (target * answer, (1 - target) * answer, target * (1 - answer))
        sums = [ops.sum(part * there, axis=axes) for part in parts]
        right, wrong, missed = _of_all_replicas(sums)
        right += _SMOOTHING / 2
        return 1 - right / (right + self._wrong * wrong + self._missed * missed)


def _of_all_replicas(sums: list[Any]) -> list[Any]:
    """The sums over all replicas of a `tf.distribute.Strategy`, within one of them.

    JAX computes them itself: there, every device sees the whole batch.
    """
    if keras.backend.backend() != "tensorflow":
        return sums
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return sums
    whole: list[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    return whole


class Sum(keras.losses.Loss):  # type: ignore[misc]
    """The sum of losses."""

    def __init__(self, *losses: Any) -> None:
        super().__init__(name="loss")
        self._losses = losses

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return sum(loss(y_true, y_pred, sample_weight) for loss in self._losses)


class Charbonnier(keras.losses.Loss):  # type: ignore[misc]
    """The mean of sqrt(d^2 + 0.001^2), a smooth L1 (arXiv 1710.01992, Section 3.3)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        difference = ops.cast(y_true, y_pred.dtype) - y_pred
        return ops.mean(ops.sqrt(ops.square(difference) + 1e-6), axis=-1)


class WeightedSquares(keras.losses.Loss):  # type: ignore[misc]
    """Squared errors of heatmaps, weighted by 1 + 10 times the target.

    Almost all pixels of a map are empty; this lets those around a point count as much as they do
    together (the idea of the weighted loss map of arXiv 1904.07399, Section 4.4, with its weight of
    10, on the target itself).
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true = ops.cast(y_true, y_pred.dtype)
        return ops.mean(ops.square(y_true - y_pred) * (1 + 10 * y_true), axis=-1)


class Asymmetric(keras.losses.Loss):  # type: ignore[misc]
    """Binary cross-entropy that forgives easy negatives (arXiv 2009.14119).

    -(1 - p)^g+ log p for a class that is there, -q^g- log(1 - q) for another, where q is p less a
    margin of 0.05, at least 0; g+ is 0 (as the paper trains) and g- is 4.
    """

    def __init__(self, output: Output, **options: Any) -> None:
        super().__init__(name="loss", **options)
        self._output = output

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true = ops.cast(y_true, y_pred.dtype)
        p = y_pred if self._output.activation == "sigmoid" else ops.sigmoid(y_pred)
        q = ops.maximum(p - 0.05, 0)
        there = y_true * ops.log(ops.maximum(p, 1e-7))
        absent = (1 - y_true) * ops.power(q, 4) * ops.log(ops.maximum(1 - q, 1e-7))
        return -ops.mean(there + absent, axis=-1)


class Standardized(keras.losses.Loss):  # type: ignore[misc]
    """A stock loss of numbers in units of their standard deviations."""

    def __init__(self, loss: Any, spread: tuple[float, ...]) -> None:
        super().__init__(name="loss")
        self._loss, self._spread = loss, spread

    def call(self, y_true: Any, y_pred: Any) -> Any:
        spread = ops.convert_to_tensor(self._spread, "float32")
        return self._loss.call(ops.cast(y_true, "float32") / spread, y_pred / spread)
