"""What each output of a network is trained toward, and the form of its images and labels."""

from typing import Any

import keras
import numpy as np

from reskeras.data.images import ImageData
from reskeras.models.inputs import input_form
from reskeras.models.outputs import outputs_by_name
from reskeras.spec import Augmentation, TrainSpec
from reskeras.tasks import Labels
from reskeras.tasks.tally import MeanLoss, Tally, counted
from reskeras.training.checks import check_mixes


class Targets:
    """A network's outputs as training sees them: the last head, and any deep supervision.

    Holds no reference to the network, so a feed that is kept for the next network (see
    `reskeras.training.feed`) does not keep this one's weights alive.

    Args:
        model: a built network with a head for the task of the data.
        data: the training data.
        train: how it is trained: its losses.
        class_weights: what the trained loss of each class is multiplied by; empty for 1.

    Attributes:
        data: as given, in windows that fit the network's masks.
        heads: the outputs by name; the last head's is called `head` and comes first.
    """

    def __init__(
        self,
        model: keras.Model,
        data: ImageData,
        train: TrainSpec = TrainSpec(),  # noqa: B008  a frozen value
        class_weights: tuple[float, ...] = (),
    ) -> None:
        self._train, self._weights = train, class_weights
        self._task, self._facts = data.task, data.facts
        self._form = input_form(model)
        self._named = isinstance(model.output, dict)
        self.heads = outputs_by_name(model)
        self.data = data.scored_by(self.crop)

    def prepared(self, dataset: Any) -> Any:
        """Maps images [*sides,C] with their labels to the network's inputs and targets."""
        return dataset.map(lambda image, label: (self.image(image), self.target(label)))

    def image(self, image: Any) -> Any:
        """One image [*sides,C] in the form the network takes."""
        return self._form.arrange(image)

    @property
    def signature(self) -> Any:
        """Equal for networks and data that share the forms of images and labels."""
        return (self._task, self._facts, self._form, self._named, *self.heads.items())

    @property
    def loss_signature(self) -> Any:
        """Equal for trainings with the same losses."""
        train = self._train
        mixes = train.augment.mixes
        return train.loss, train.label_smoothing, mixes, train.border_weight, self._weights

    def losses(self) -> dict[str, Any]:
        """A loss for each output; the trained loss of the model is their mean."""
        return {
            name: self._task.trained_loss(head, self._facts, self._train, self._weights)
            for name, head in self.heads.items()
        }

    def metrics(self) -> dict[str, list[Any]]:
        """Keras metrics of each output that has some.

        If another loss than the task's first is trained, or not all pixels count alike, the
        reported loss of each output is one of them. `scores_of` returns their mean.
        """
        found: dict[str, list[Any]] = {"head": [Tally(self._task, self.heads["head"], self._facts)]}
        if not self.trains_as_reported:
            for name, head in self.heads.items():
                mean = MeanLoss(self._task, head, self._facts)
                found[name] = [*found.get(name, []), mean]
        return found

    def compile_options(self) -> dict[str, Any]:
        """Arguments of `compile` to train and to score: loss and metrics."""
        return self._options(self.losses(), "metrics", self.metrics())

    def stock_options(self) -> dict[str, Any]:
        """Arguments of `compile` that only name classes of Keras, for a model that is saved.

        If some pixels are ignored, the caller of `evaluate` gives these the sample weight 0, and
        another class than -1.
        """
        kind = "weighted_metrics" if self._facts.ignores else "metrics"
        losses = {
            name: self._task.keras_loss(head, self._facts) for name, head in self.heads.items()
        }
        metrics = self._task.keras_metrics(self.heads["head"], self._facts)
        return self._options(losses, kind, {"head": metrics})

    def dense(self, targets: Any) -> Any:
        """A batch of targets in the form that can be mixed."""
        if not self._named:
            return self._task.dense(targets, self.heads["head"])
        return {name: self._task.dense(targets[name], head) for name, head in self.heads.items()}

    @property
    def crop(self) -> tuple[int, ...] | None:
        """The sides of the middle of the images that targets are of; None for all of them."""
        return self.heads["head"].middle if self._task.labels is Labels.MASK else None

    def check_mixes(self, augmentation: Augmentation) -> None:
        """Raises RequestError if the network cannot train on images that are mixed like this."""
        check_mixes(
            augmentation,
            layout=self._form.layout,
            channels=self.heads["head"].shape[-1],
            ignores=self._facts.ignores,
        )

    def counted(self, target: Any) -> Any:
        """How many pixels of a batch of targets have a class, in the structure of the targets."""
        if not self._named:
            return counted(self._task, target, self.heads["head"])
        return {name: counted(self._task, target[name], head) for name, head in self.heads.items()}

    @property
    def trains_as_reported(self) -> bool:
        """Whether the trained loss is the task's first, in which every image or pixel counts."""
        train, first = self._train, self._task.losses[0]
        return (
            train.loss in (None, first)
            and not train.label_smoothing
            and not train.border_weight
            and not self._weights
            and not self._facts.ignores
        )

    def _options(
        self, losses: dict[str, Any], kind: str, metrics: dict[str, list[Any]]
    ) -> dict[str, Any]:
        if not self._named:
            return {"loss": losses["head"], kind: metrics["head"]}
        weights = {name: 1 / len(losses) for name in losses}
        return {"loss": losses, "loss_weights": weights, kind: metrics}

    def example(self) -> tuple[Any, Any]:
        """One target and one output, all zeros, for building losses and metrics before training."""
        label = np.zeros(self.data.label_shape, self._task.labels.dtype)
        target = keras.tree.map_structure(
            lambda tensor: keras.ops.convert_to_numpy(tensor)[None], self.target(label)
        )
        outputs = {
            name: np.zeros((1, *head.shape[1:]), "float32") for name, head in self.heads.items()
        }
        return target, outputs if self._named else outputs["head"]

    @property
    def per_batch(self) -> bool:
        """Whether targets are much larger than labels, so they are made batch by batch."""
        return self._task.labels in (Labels.POINTS, Labels.IMAGE)

    def of_batch(self, labels: Any) -> Any:
        """The targets of a batch of labels."""
        import tensorflow as tf

        return tf.vectorized_map(self.target, labels)

    def target(self, label: Any) -> Any:
        """The target of one label, as tensors: of the only output, or of each by name."""
        targets = self._task.targets(self.data.scaled_labels(label), self.heads, self._facts)
        return targets if self._named else targets["head"]
