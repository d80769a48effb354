"""What every task says of itself."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from reskeras.spec import AnySpec, ImageShape, Recipe
from reskeras.tasks.metrics import Metric


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a model, as its loss and its metrics see it."""

    shape: tuple[Any, ...]
    """With the batch."""
    activation: str
    """Its name in Keras: `softmax`, `sigmoid` or `linear`."""

    @property
    def binary(self) -> bool:
        """Whether each channel answers yes or no by itself."""
        return self.activation == "sigmoid" or self.shape[-1] == 1


class Task(abc.ABC):
    """A task: which models fit, what they are trained toward, and how they are judged.

    Tasks are singletons that can be pickled. They know no framework until a method that trains
    or scores is called.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """The objective of a search that names none comes first."""
    labels: ClassVar[str]
    """What the data hold for the images, in a word."""
    answers: ClassVar[str]
    """What a model answers for each image, in words: `one class for each image`."""
    gives_masks: ClassVar[bool] = False
    """Whether an answer is a map of classes, which `mask` gives."""
    label_follows_image: ClassVar[bool]
    """Whether a label has the image's sides, and is shifted and flipped with it."""

    def fit(self, spec: AnySpec, image_shape: tuple[int, ...], classes: int) -> AnySpec:
        """The same network for images of this shape and this many classes.

        A fully connected network takes them flat.

        Raises:
            ValueError: the network does not do this task, or cannot take such images (a U-Net
                that cannot halve them often enough).
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
            mistakes = (mistake["msg"].removeprefix("Value error, ") for mistake in error.errors())
            raise ValueError("; ".join(mistakes)) from error

    @abc.abstractmethod
    def fit_head(self, spec: AnySpec, classes: int) -> Any:
        """The spec's head for this many classes.

        Raises:
            ValueError: the network does not do this task.
        """

    @abc.abstractmethod
    def default_space(self, image_shape: ImageShape, classes: int) -> tuple[Recipe, dict[str, Any]]:
        """What a search varies when nobody says: a base recipe, and ranges by path.

        Raises:
            RequestError: no network for this task takes such images.
        """

    @abc.abstractmethod
    def label_shape(self, image_shape: ImageShape) -> tuple[int, ...]:
        """The shape of one image's label; `()` is a number."""

    @abc.abstractmethod
    def gives(self, output_shape: Sequence[int | None]) -> bool:
        """Whether an output of this shape, with its batch, can be an answer to this task."""

    @abc.abstractmethod
    def targets(self, label: Any, outputs: Mapping[str, Output]) -> dict[str, Any]:
        """What each output is trained toward for one label, as tensors; `head` is the main one."""

    @abc.abstractmethod
    def losses(self, outputs: Mapping[str, Output]) -> dict[str, Any]:
        """A Keras loss for each output; the loss of a model is their mean."""

    @abc.abstractmethod
    def keras_metrics(self, output: Output, classes: int) -> list[Any]:
        """Keras metrics of the main output, each called like one of `metrics`."""

    @abc.abstractmethod
    def describe(self, answer: Any, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """A model's answer for one image (probabilities, classes last) as a document.

        The `top` classes, best first, each with its `class`, its `name` (None where unknown) and a
        share of 1.
        """

    def mask(self, answer: Any) -> Any:
        """An answer as the class of each pixel; only for a task that `gives_masks`."""
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


def best_classes(
    values: Sequence[float], names: Sequence[str], what: str, top: int
) -> list[dict[str, Any]]:
    """The classes with the largest values, as `Task.describe` gives them."""
    best = sorted(enumerate(values), key=lambda item: -item[1])[:top]
    return [
        {
            "class": number,
            "name": names[number] if number < len(names) else None,
            what: float(value),
        }
        for number, value in best
    ]
