"""What each output of a network is trained toward, and the form of its images and labels."""

from typing import Any

import keras
import numpy as np

from reskeras.data.images import ImageData
from reskeras.models.inputs import input_form
from reskeras.tasks import Output
from reskeras.tasks.counting import CountedLoss, CountedMetric, MeanLoss, counted


class Targets:
    """A network's outputs as training sees them: the last head, and any deep supervision.

    Holds no reference to the network, so a feed that is kept for the next network (see
    `reskeras.training.feed`) does not keep this one's weights alive.

    Args:
        model: a built network with a classifier or segmentation head.
        data: the training data.
        class_weights: what the trained loss of each class is multiplied by; empty for 1.

    Attributes:
        data: as given.
        class_weights: as given.
        heads: the outputs by name; the last head's is called `head` and comes first.
    """

    def __init__(
        self, model: keras.Model, data: ImageData, class_weights: tuple[float, ...] = ()
    ) -> None:
        self.data, self.class_weights = data, class_weights
        self._form = input_form(model)
        self._named = isinstance(model.output, dict)
        made_by = {id(layer.output): layer for layer in model.layers}
        layers = {name: made_by[id(tensor)] for name, tensor in outputs_of(model).items()}
        self.heads = {
            name: Output(tuple(layer.output.shape), layer.activation.__name__)
            for name, layer in layers.items()
        }

    def prepared(self, dataset: Any) -> Any:
        """Maps images [H,W,C] with labels or masks to the network's inputs and targets."""
        return dataset.map(lambda image, label: (self.image(image), self.target(label)))

    def image(self, image: Any) -> Any:
        """One image [H,W,C] in the form the network takes."""
        return self._form.arrange(image)

    @property
    def signature(self) -> Any:
        """Equal for networks and data that share the forms of images and labels."""
        data = self.data
        return (
            data.task,
            data.image_shape,
            data.classes,
            data.ignores,
            self._form,
            self._named,
            *self.heads.items(),
        )

    def losses(self) -> dict[str, Any]:
        """A loss for each output; the trained loss of the model is their mean."""
        losses = self._stock_losses()
        if not self._counts:
            return losses
        return {
            name: CountedLoss(loss, self.heads[name], self.class_weights)
            for name, loss in losses.items()
        }

    def metrics(self) -> dict[str, list[Any]]:
        """Keras metrics of each output that has some.

        Where not all counts alike, the loss of each output is one of them: without class weights,
        and over all that counts. `scores_of` returns their mean.
        """
        metrics = self._stock_metrics()
        if not self._counts:
            return {"head": metrics}
        found: dict[str, list[Any]] = {
            name: [MeanLoss(loss, self.heads[name])] for name, loss in self._stock_losses().items()
        }
        found["head"] = [CountedMetric(m, self.heads["head"]) for m in metrics] + found["head"]
        return found

    def compile_options(self) -> dict[str, Any]:
        """Arguments of `compile` to train and to score: loss and metrics."""
        return self._options(self.losses(), "metrics", self.metrics())

    def stock_options(self) -> dict[str, Any]:
        """Arguments of `compile` that only name classes of Keras, for a model that is saved.

        If some pixels are ignored, the caller of `evaluate` gives these the sample weight 0, and
        another class than -1.
        """
        kind = "weighted_metrics" if self.data.ignores else "metrics"
        return self._options(self._stock_losses(), kind, {"head": self._stock_metrics()})

    def counted(self, target: Any) -> Any:
        """How many pixels of a batch of targets have a class, in the structure of the targets."""
        if not self._named:
            return counted(target, self.heads["head"])
        return {name: counted(target[name], head) for name, head in self.heads.items()}

    @property
    def _counts(self) -> bool:
        """Whether some images or pixels count more than others."""
        return self.data.ignores or bool(self.class_weights)

    def _stock_losses(self) -> dict[str, Any]:
        return self.data.task.losses(self.heads)

    def _stock_metrics(self) -> list[Any]:
        return self.data.task.keras_metrics(self.heads["head"], self.data.classes)

    def _options(
        self, losses: dict[str, Any], kind: str, metrics: dict[str, list[Any]]
    ) -> dict[str, Any]:
        if not self._named:
            return {"loss": losses["head"], kind: metrics["head"]}
        weights = {name: 1 / len(losses) for name in losses}
        return {"loss": losses, "loss_weights": weights, kind: metrics}

    def example(self) -> tuple[Any, Any]:
        """One target and one output, all zeros, for building losses and metrics before training."""
        label = np.zeros(self.data.task.label_shape(self.data.image_shape), "int32")
        target = keras.tree.map_structure(
            lambda tensor: keras.ops.convert_to_numpy(tensor)[None], self.target(label)
        )
        outputs = {
            name: np.zeros((1, *head.shape[1:]), "float32") for name, head in self.heads.items()
        }
        return target, outputs if self._named else outputs["head"]

    def target(self, label: Any) -> Any:
        """The target of one label or mask, as tensors: of the only output, or of each by name."""
        targets = self.data.task.targets(label, self.heads)
        return targets if self._named else targets["head"]


def outputs_of(model: keras.Model) -> dict[str, Any]:
    """A network's output tensors by name; the last head's is called `head` and comes first."""
    output = model.output
    outputs = dict(output) if isinstance(output, dict) else {"head": output}
    return {"head": outputs.pop("head")} | outputs
