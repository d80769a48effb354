"""The interface of a task."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from reskeras.errors import mistakes_of
from reskeras.spec import AnySpec, ImageShape, Recipe, Resize
from reskeras.tasks.metrics import Metric
from reskeras.words import percent


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a model, as its loss and its metrics see it."""

    shape: tuple[Any, ...]
    """Including the batch."""
    activation: str
    """Keras' name for it: `softmax`, `sigmoid` or `linear`."""

    @property
    def binary(self) -> bool:
        """Whether each channel is a separate yes or no."""
        return self.activation == "sigmoid" or self.shape[-1] == 1


class Task(abc.ABC):
    """A task: which models fit, what they are trained toward, and how they are scored.

    Tasks are singletons and can be pickled. They load no framework until a method that trains or
    scores is called.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """The metrics; the first is the default objective."""
    labels: ClassVar[str]
    """The word for what the data hold for each image."""
    answers: ClassVar[str]
    """What a model answers for each image, in words: `one class for each image`."""
    gives_masks: ClassVar[bool] = False
    """Whether an answer is a map of classes, returned by `mask`."""
    resize: ClassVar[Resize]
    """How images of other proportions get the network's sides, if a recipe does not say."""
    label_follows_image: ClassVar[bool]
    """Whether a label has the image's sides, and shifts and flips with it."""

    def fit(self, spec: AnySpec, image_shape: tuple[int, ...], classes: int) -> AnySpec:
        """The same network for images of this shape and this many classes.

        A fully connected network takes flat images.

        Raises:
            ValueError: the network does not do this task, or cannot take such images (a U-Net that
                cannot halve them often enough).
        """
        head = self.fit_head(spec, classes)
        shape = (math.prod(image_shape),) if len(spec.input_shape) == 1 else tuple(image_shape)
        if len(spec.input_shape) != len(shape):
            raise ValueError(
                f"the images have {len(shape) - 1} dimensions, but the network works in "
                f"{len(spec.input_shape) - 1}"
            )
        try:
            return dataclasses.replace(spec, input_shape=shape, head=head)
        except ValidationError as error:
            raise ValueError("; ".join(mistakes_of(error))) from error

    @abc.abstractmethod
    def fit_head(self, spec: AnySpec, classes: int) -> Any:
        """The spec's head for this many classes.

        Raises:
            ValueError: the network does not do this task.
        """

    @abc.abstractmethod
    def default_space(self, image_shape: ImageShape, classes: int) -> tuple[Recipe, dict[str, Any]]:
        """The default search space for images: a base recipe, and ranges by path.

        Raises:
            RequestError: no network for this task takes such images.
        """

    @abc.abstractmethod
    def label_shape(self, image_shape: ImageShape) -> tuple[int, ...]:
        """The shape of one image's label; `()` is a number."""

    @abc.abstractmethod
    def gives(self, output_shape: Sequence[int | None]) -> bool:
        """Whether an output of this shape (batch included) can be an answer to this task."""

    @abc.abstractmethod
    def targets(self, label: Any, outputs: Mapping[str, Output]) -> dict[str, Any]:
        """The target of each output for one label, as tensors; `head` is the main one."""

    @abc.abstractmethod
    def losses(self, outputs: Mapping[str, Output]) -> dict[str, Any]:
        """A Keras loss for each output; the model's loss is their mean."""

    @abc.abstractmethod
    def keras_metrics(self, output: Output, classes: int) -> list[Any]:
        """Keras metrics of the main output, named like `metrics`."""

    @abc.abstractmethod
    def describe(self, answer: Any, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """A model's answer for one image (probabilities, classes last) as a document.

        It holds the `top` classes, best first, each with its `class`, its `name` (None if unknown)
        and a share of 1.
        """

    @abc.abstractmethod
    def write(self, described: Sequence[Mapping[str, Any]]) -> str:
        """What `describe` returned, in a line for people."""

    def mask(self, answer: Any) -> Any:
        """An answer as the class of each pixel, if the task `gives_masks`."""
        raise TypeError(f"{self.name} gives {self.answers}, not masks: {answer!r}")

    def __reduce__(self) -> Any:
        return _again, (type(self),)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def _again(task: type[Task]) -> Task:
    return task()


def write_classes(classes: Sequence[Mapping[str, Any]], what: str) -> str:
    """What `best_classes` returned, in a line for people."""
    return "  ".join(
        f"{each['name'] or 'class ' + str(each['class'])} {percent(each[what])}" for each in classes
    )


def best_classes(
    values: Sequence[float], names: Sequence[str], what: str, top: int
) -> list[dict[str, Any]]:
    """The classes with the largest values, in the form of `Task.describe`."""
    best = sorted(enumerate(values), key=lambda item: -item[1])[:top]
    return [
        {
            "class": number,
            "name": names[number] if number < len(names) else None,
            what: float(value),
        }
        for number, value in best
    ]
