"""The interface of a task."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from reskeras.errors import RequestError, did_you_mean, mistakes_of
from reskeras.spec import AnySpec, Recipe, Resize, TrainSpec
from reskeras.tasks.labels import Labels
from reskeras.tasks.metrics import Metric
from reskeras.words import percent


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a task has to know of the data."""

    image_shape: tuple[int, ...]
    """As networks see images, channels last: [L,C], [H,W,C] or [D,H,W,C]."""
    classes: int
    """How many classes, numbers, points or channels a label has."""
    mean: tuple[float, ...] = ()
    """Of each of `Labels.NUMBERS` in the training split."""
    spread: tuple[float, ...] = ()
    """The standard deviation of each of `Labels.NUMBERS` in the training split."""
    ignores: bool = False
    """Whether masks have pixels without a class, whose number is `reskeras.tasks.IGNORED`."""
    images: int | None = None
    """How many images, or patches, an epoch has; None if that is not known."""


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a model, as its loss and its metrics see it."""

    shape: tuple[Any, ...]
    """Including the batch."""
    activation: str
    """Keras' name for it: `softmax`, `sigmoid` or `linear`."""
    middle: tuple[int, ...] | None = None
    """The sides of the middle of an image that maps are of, in its pixels, as networks without
    padding have them; None for all of it: maps with smaller sides are coarser then."""

    @property
    def binary(self) -> bool:
        """Whether each channel is a separate yes or no."""
        return self.activation == "sigmoid" or self.shape[-1] == 1


Statistics = Mapping[str, Any]
"""Arrays by name, from which scores follow."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A trivial answer to images, which a network has to beat."""

    name: str
    """What it answers: `the commonest class`."""
    outputs: Callable[[Any], Any]
    """From images [N,*sides,C] to outputs [N,...] of the form."""
    form: Output
    metrics: tuple[Metric, ...]
    """Those that mean something for it: an answer without shares of classes has no log loss."""


class Task(abc.ABC):
    """A task: which models fit, what they are trained toward, and how they are scored.

    Tasks are singletons and can be pickled. They load no framework until a method that trains or
    scores is called.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """The metrics; the first is the default objective, and `LOSS` is one of them."""
    of_images: ClassVar[tuple[Metric, ...]] = ()
    """Those that are the share of images with a property, as right answers are: counts of images
    have better intervals than scores in general."""
    of_classes: ClassVar[tuple[Metric, ...]] = ()
    """Those of `by_class`."""
    losses: ClassVar[tuple[str, ...]]
    """The words of `train.loss`; the first is the default, and the loss that is reported."""
    smooths: ClassVar[bool] = False
    """Whether `train.label_smoothing` applies."""
    weighs: ClassVar[bool] = False
    """Whether `train.class_weight` applies."""
    border_losses: ClassVar[tuple[str, ...]] = ()
    """The losses that `train.border_weight` applies to."""
    labels: ClassVar[Labels]
    """What the data hold for each image."""
    noun: ClassVar[str]
    """The word for it, in the plural."""
    answers: ClassVar[str]
    """What a model answers for each image, in words: `one class for each image`."""
    told: ClassVar[str] = "answer"
    """The word for what `describe` returns, in a document."""
    resize: ClassVar[Resize]
    """How images of other proportions get the network's sides, if a recipe does not say."""

    def fit(self, spec: AnySpec, facts: Facts) -> AnySpec:
        """The same network for these data.

        A fully connected network takes flat images.

        Raises:
            ValueError: the network does not do this task, or cannot take such images (a U-Net that
                cannot halve them often enough).
        """
        head, whole = self.fit_head(spec, facts), tuple(facts.image_shape)
        shape = (math.prod(whole),) if len(spec.input_shape) == 1 else whole
        if len(spec.input_shape) != len(shape):
            raise ValueError(
                f"the images have {len(shape) - 1} dimensions, but the network works in "
                f"{len(spec.input_shape) - 1}"
            )
        try:
            return dataclasses.replace(spec, input_shape=shape, head=head)
        except ValidationError as error:
            raise ValueError("; ".join(mistakes_of(error))) from error

    def check(self, train: TrainSpec) -> None:
        """Checks that a network can be trained like this for the task.

        Raises:
            RequestError: one line for each setting that is for other tasks.
        """
        problems = []
        if train.loss is not None and train.loss not in self.losses:
            problems.append(
                f"train.loss: {train.loss!r} is no loss of {self.name}"
                f"{did_you_mean(train.loss, list(self.losses))}; it has {', '.join(self.losses)}"
            )
        if train.label_smoothing and not self.smooths:
            problems.append(
                f"train.label_smoothing: there are no classes to smooth over in {self.name}"
            )
        if train.class_weight != "none" and not self.weighs:
            problems.append(f"train.class_weight: {self.name} does not weigh classes")
        if train.border_weight:
            problems += self._border_problems(train)
        if problems:
            raise RequestError("\n".join(problems))

    def _border_problems(self, train: TrainSpec) -> list[str]:
        if not self.border_losses:
            return [f"train.border_weight: there are no pixels of classes in {self.name}"]
        if (train.loss or self.losses[0]) not in self.border_losses:
            return [
                f"train.border_weight: {train.loss} does not weigh pixels; "
                f"{', '.join(self.border_losses)} do"
            ]
        if train.augment.mixes:
            return ["train.border_weight: masks that are mixed have no borders: no mixup, cutmix"]
        return []

    @abc.abstractmethod
    def fit_head(self, spec: AnySpec, facts: Facts) -> Any:
        """The spec's head for these data.

        Raises:
            ValueError: the network does not do this task.
        """

    @abc.abstractmethod
    def default_space(self, facts: Facts) -> tuple[Recipe, dict[str, Any]]:
        """The default search space: a base recipe, and ranges by path.

        Raises:
            RequestError: no network for this task takes such images.
        """

    @abc.abstractmethod
    def gives(self, output: Output) -> bool:
        """Whether a model of unknown origin with this output was made for the task."""

    def suits(self, shape: tuple[Any, ...], classes: int) -> bool:
        """Whether outputs of this shape can be of a model for so many classes or numbers."""
        return (len(shape) > 2) == self.labels.follows_image and shape[-1] == classes

    @abc.abstractmethod
    def targets(self, label: Any, outputs: Mapping[str, Output], facts: Facts) -> dict[str, Any]:
        """The target of each output for one label, as tensors; `head` is the main one."""

    def dense(self, target: Any, output: Output) -> Any:
        """A batch of targets as shares of 1 of each class, which can be mixed."""
        del output
        return target

    @abc.abstractmethod
    def loss(self, output: Output, facts: Facts) -> Any:
        """The Keras loss that is reported, and trained by default.

        Its `call` gives a value for each image, pixel or number.
        """

    def trained_loss(
        self, output: Output, facts: Facts, train: TrainSpec, weights: tuple[float, ...] = ()
    ) -> Any:
        """The Keras loss that `train` names.

        Args:
            output: the output that it is a loss of.
            facts: those of the data.
            train: how the network is trained.
            weights: what the loss of each class is multiplied by; empty for 1.
        """
        del train, weights
        return self.loss(output, facts)

    def counts(self, target: Any, output: Output) -> Any:
        """1 for each value of a batch of targets that has a loss, else 0; None if all have one."""
        del target, output

    @abc.abstractmethod
    def keras_metrics(self, output: Output, facts: Facts) -> list[Any]:
        """Stock Keras metrics of the main output, for a model that is saved."""

    def keras_loss(self, output: Output, facts: Facts) -> Any:
        """The stock Keras loss for a model that is saved: nearest to `loss`."""
        return self.loss(output, facts)

    @abc.abstractmethod
    def statistics(self, target: Any, output: Any, form: Output, facts: Facts) -> Statistics:
        """What scores need of each image of a batch: tensors [N,...] by name."""

    def together(self, statistics: Statistics) -> Statistics:
        """The statistics of all images, in NumPy, made exact where sums of batches cannot be."""
        return statistics

    def summed(self, statistics: Statistics, facts: Facts, weights: Any = None) -> Statistics:
        """The statistics of a batch, summed over its images, each with its weight.

        Sums of several batches add up.
        """
        from keras import ops

        del facts

        def total(value: Any) -> Any:
            if weights is None:
                return ops.sum(value, axis=0)
            return ops.tensordot(ops.cast(weights, value.dtype), value, axes=1)

        return {name: total(value) for name, value in statistics.items()}

    @abc.abstractmethod
    def scores(self, sums: Statistics, facts: Facts) -> dict[str, Any]:
        """The value of each metric but the loss, from `summed` statistics of all images."""

    def by_class(self, statistics: Statistics, facts: Facts) -> dict[Metric, Any]:
        """Scores of each class, number or point [K], from the statistics of all images in NumPy.

        NaN where there is none, such as the recall of a class without images. Empty if labels have
        no parts with names.
        """
        del statistics, facts
        return {}

    def confusion(self, statistics: Statistics, facts: Facts) -> Any:
        """How often each class (rows) got each answer (columns) [K,K]; None without classes."""
        del statistics, facts

    def confidence(self, statistics: Statistics) -> tuple[Any, Any] | None:
        """How sure answers are, as probabilities [M], and whether each is right [M].

        None if the statistics do not say it.
        """
        del statistics
        return None

    def badness(self, statistics: Statistics, losses: Any, facts: Facts) -> Any:
        """How wrong the answer to each image is [N], the larger, the worse.

        Args:
            statistics: of all images, in NumPy.
            losses: the loss of each image [N].
            facts: those of the data.
        """
        del statistics, facts
        return losses

    def baselines(
        self, images: Any, labels: Any, form: Output, facts: Facts
    ) -> tuple[Baseline, ...]:
        """Trivial answers; the last one is the hardest to beat.

        Args:
            images: training images [M,*sides,C].
            labels: their labels [N,...]; if N is more than M, other images' follow.
            form: of the network's output, whose sides a baseline's answers have.
            facts: those of the data.
        """
        del images, labels, form, facts
        return ()

    @abc.abstractmethod
    def answer(self, outputs: Any, form: Output, facts: Facts) -> Any:
        """Outputs of a model [N,...] as answers, in NumPy: such as probabilities of classes."""

    @abc.abstractmethod
    def describe(self, answer: Any, names: Sequence[str], top: int) -> Any:
        """An answer for one image as a document.

        Args:
            answer: one of `answer`.
            names: of the classes, points or numbers; may be empty.
            top: how many classes to name.
        """

    @abc.abstractmethod
    def write(self, described: Any) -> str:
        """What `describe` returned, in a line for people."""

    def cells(self, described: Any) -> dict[str, Any]:
        """What `describe` returned, of all classes, as cells of a table by their columns."""
        return {"answer": self.write(described)}

    def settled(self, answer: Any) -> Any:
        """One of `answer`, decided: a mask [*sides] of numbers of classes, not of probabilities."""
        return answer

    def label_in_words(self, label: Any, names: Sequence[str]) -> str:
        """A label, or a settled answer, in a few words; empty if a picture shows it.

        Args:
            label: as data have it (see `Labels`).
            names: of the classes, points or numbers; may be empty.
        """
        del label, names
        return ""

    def answer_in_words(self, answer: Any, names: Sequence[str]) -> str:
        """One of `answer` beside its label in words; empty if a picture shows it."""
        return self.label_in_words(self.settled(answer), names)

    def in_file(self, answer: Any, stored: Any) -> Any:
        """A settled answer as the numbers of an image file; None if words tell it better.

        Args:
            answer: with the sides of the image in its file.
            stored: a `reskeras.tasks.pictures.Stored`.

        Returns:
            Whole numbers [*sides] or [*sides,K].
        """
        del answer, stored

    def picture(self, image: Any, answer: Any, described: Any) -> Any:
        """A settled answer drawn on its image, for people, as a Pillow image.

        Args:
            image: a Pillow image in colors, with the sides of its file.
            answer: with the sides of the image in its file.
            described: what `describe` returned.
        """
        from reskeras.tasks.pictures import Line, seen_well, with_lines

        del answer
        lines = [Line(line) for line in self.write(described).split("  ")]
        return with_lines(seen_well(image)[0], lines)

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
    """The classes with the largest values, as documents: `class`, `name` and the value."""
    best = sorted(enumerate(values), key=lambda item: -item[1])[:top]
    return [
        {
            "class": number,
            "name": names[number] if number < len(names) else None,
            what: float(value),
        }
        for number, value in best
    ]


def class_cells(classes: Sequence[Mapping[str, Any]], what: str) -> dict[str, Any]:
    """What `best_classes` returned of all classes, as cells: the best one, and each one's value."""
    by_number = sorted(classes, key=lambda each: each["class"])
    # A class may be called `image` or `mask`, as other columns are.
    values = {f"{what} {each['name'] or each['class']}": each[what] for each in by_number}
    best = classes[0]
    return {"class": best["class"], "name": best["name"], **values}


def class_name(names: Sequence[str], number: int) -> str:
    """The name of a class, or its number."""
    return names[number] if names else str(number)


def name_of(names: Sequence[str], number: int, word: str) -> str:
    """The name of a point or a number, or the word for it with its number."""
    return names[number] if number < len(names) else f"{word} {number}"
