"""Scores of a network with intervals, beside baselines or another network."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.data.decode import naming_bad_images
from reskeras.data.images import ImageData
from reskeras.data.pixels import scaled
from reskeras.evaluation.calibration import Bin, bins_of
from reskeras.evaluation.collect import Contestant, collect, estimates
from reskeras.evaluation.intervals import FEWEST, Estimate
from reskeras.models.predictor import Answerer
from reskeras.tasks import Baseline, Facts, Labels, Metric, Task
from reskeras.words import counted

_MOST_EXAMPLES, _MOST_NUMBERS = 5000, 1 << 24
"""Training images that baselines see, at most, and numbers in them: a nearest neighbor is looked
for among all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rival:
    """A baseline or another network on the same images."""

    name: str
    scores: Mapping[Metric, Estimate]
    less: Mapping[Metric, Estimate]
    """The network's scores less those of the rival, image by image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well a network does on the images of a split."""

    name: str
    """Of the network."""
    data: str
    """The name of the data."""
    split: str
    task: Task
    class_names: tuple[str, ...]
    """Of the classes, points or numbers; empty if they are not known."""
    scores: Mapping[Metric, Estimate]
    rivals: Sequence[Rival]
    """Another network, if there is one, and baselines, of which the last is the hardest to beat."""
    by_class: Mapping[Metric, Any]
    """As `Task.by_class` has it."""
    confusion: Any
    """As `Task.confusion` has it."""
    calibration: Sequence[Bin]
    """Empty if answers do not say how sure they are."""
    badness: Any
    """How wrong the answer to each image, or window of one, is [N], as `Task.badness` has it."""
    images: int
    """How many images the split has."""
    windows: int | None
    """In how many windows the network saw them; None if it saw each as a whole."""
    kind: str
    """What they are: as `ImageData.kind`."""
    shown: ImageData
    """What the network saw (see `scored`)."""

    @property
    def has_intervals(self) -> bool:
        """Whether the images are enough for intervals by resampling."""
        return self.images >= FEWEST

    @property
    def seen(self) -> str:
        """How many images the network saw, in words: `1,234 windows of 3 images`."""
        return counted(self.images, self.windows, self.kind)

    def worst(self, count: int) -> list[int]:
        """The places of the images with the worst answers in the split, the worst first."""
        order = np.argsort(-np.asarray(self.badness), kind="stable")
        return [int(place) for place in order[:count]]

    def class_name(self, number: int) -> str:
        """The name of a class, point or number, or its number."""
        return self.class_names[number] if self.class_names else str(number)

    def verdict(self, metric: Metric, rival: Rival) -> str:
        """What a difference says, in words."""
        less = rival.less[metric]
        if not self.has_intervals:
            return (
                f"{self.name} and {rival.name} cannot be told apart by {metric.name}: "
                f"{self.seen} are too few"
            )
        if not less.is_sure:
            return (
                f"{self.name} and {rival.name} cannot be told apart by {metric.name}: "
                f"{self.seen} all say the same"
            )
        gain = metric.write_gain(less.low, less.high)
        if less.is_zero:
            return (
                f"{self.name} and {rival.name} cannot be told apart by {metric.name} with "
                f"{self.seen}: the difference is {gain}"
            )
        word = "better" if metric.sign * less.value > 0 else "worse"
        return f"{self.name} is {word} than {rival.name} by {metric.name}: {gain}"

    def document(self) -> dict[str, Any]:
        """All of it as one JSON document; a number that there is not is None."""
        return {
            "model": self.name,
            "data": self.data,
            "split": self.split,
            "images": self.images,
            "windows": self.windows,
            "kind": self.kind,
            "task": self.task.name,
            **_in_json(self.scores),
            "rivals": [
                {
                    "name": rival.name,
                    **_in_json(rival.scores),
                    "differences": _in_json(rival.less),
                    "text": self.verdict(next(iter(rival.less)), rival),
                }
                for rival in self.rivals
            ],
            "classes": [
                {"name": self.class_name(number)}
                | {metric.name: _number(values[number]) for metric, values in self.by_class.items()}
                for number in range(len(next(iter(self.by_class.values()), ())))
            ],
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "calibration": [
                {
                    "count": each.size,
                    "confidence": each.confidence,
                    "right": each.right.value,
                    "interval": [each.right.low, each.right.high],
                }
                for each in self.calibration
            ],
        }


def evaluate(
    ask: Answerer,
    data: ImageData,
    split: str,
    *,
    name: str,
    batch: int,
    class_names: tuple[str, ...] = (),
    against: tuple[str, Answerer] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Evaluates a network on all images of a split.

    The same answers have the same intervals: resamples are drawn with a fixed seed.

    Args:
        ask: the network.
        data: image data of the network's task (see `reskeras.evaluation.fitting`).
        split: which of them.
        name: what to call the network.
        batch: how many images at once.
        class_names: of the classes, points or numbers.
        against: another network for the same images, with its name; None for baselines, which
            learn from the training split.
        advance: called with the number of images that are done.
    """
    task, facts = data.task, _facts(ask, data)
    first = _network(name, ask, task)
    if against is None:
        examples = _examples(data)
        rivals = [_baseline(each) for each in task.baselines(*examples, first.forms["head"], facts)]
    else:
        rivals = [_network(*against, task)]
    shown = scored(data, ask, *([] if against is None else [against[1]]))
    answers = collect([first, *rivals], shown, split, facts, batch, advance)
    wholes = shown.reader.wholes(split)
    scores, less = estimates(answers, task.of_images, wholes)
    found = answers[0]
    confidence = task.confidence(found.statistics)
    return Evaluation(
        name=name,
        data=data.name,
        split=split,
        task=task,
        class_names=class_names,
        scores=scores[0],
        rivals=[
            Rival(name=rival.name, scores=own, less=difference)
            for rival, own, difference in zip(rivals, scores[1:], less, strict=True)
        ],
        by_class=task.by_class(found.statistics, facts),
        confusion=task.confusion(found.statistics, facts),
        calibration=[] if confidence is None else bins_of(*confidence),
        badness=task.badness(found.statistics, found.losses, facts),
        images=len(found) if wholes is None else int(wholes.max()) + 1,
        windows=None if wholes is None else len(found),
        kind=data.kind,
        shown=shown,
    )


def scored(data: ImageData, *asks: Answerer) -> ImageData:
    """The data as networks are scored on them: all pixels once, of patches and training, too.

    Where networks answer other middles of their images, these are the smallest ones.
    """
    if data.task.labels is not Labels.MASK:
        return data.in_windows()
    sides = data.image_shape[:-1]
    middles = zip(*(ask.form.middle or sides for ask in asks), strict=True)
    return data.in_windows().scored_by(tuple(map(min, middles)))


def images_at(data: ImageData, split: str, places: Any) -> tuple[Any, Any]:
    """Images [N,*sides,C] of a split, as a network sees them, and their labels, at these places."""
    wanted = np.asarray(places, np.int64)
    order = np.argsort(wanted)
    with naming_bad_images():
        chosen = data.reader.chosen(split, wanted[order]).batch(len(wanted))
        images, labels = next(iter(chosen.as_numpy_iterator()))
    again = np.argsort(order)
    return scaled(images)[again], data.scaled_labels(labels)[again]


def _facts(ask: Answerer, data: ImageData) -> Facts:
    """Those of the data, in the units that the network was trained in."""
    return dataclasses.replace(
        data.facts,
        mean=ask.facts.mean or data.facts.mean,
        spread=ask.facts.spread or data.facts.spread,
    )


def _network(name: str, ask: Answerer, task: Task) -> Contestant:
    return Contestant(name=name, outputs=ask.heads, forms=ask.forms, metrics=task.metrics)


def _baseline(each: Baseline) -> Contestant:
    return Contestant(
        name=each.name,
        outputs=lambda images: {"head": each.outputs(images)},
        forms={"head": each.form},
        metrics=each.metrics,
    )


def _examples(data: ImageData) -> tuple[Any, Any]:
    """Training images and labels for baselines; always the same ones.

    Labels that need no images are those of all training images.
    """
    most = max(1, _MOST_NUMBERS // math.prod(data.image_shape))
    places = data.sample(min(_MOST_EXAMPLES, most))
    images, labels = images_at(data.unbiased(), "train", places)
    known = data.reader.labels_of("train")
    if known is None:
        return images, labels
    return images, np.concatenate([labels, np.delete(known, places, axis=0)])


def _in_json(scores: Mapping[Metric, Estimate]) -> dict[str, Any]:
    return {
        "metrics": {metric.name: _number(found.value) for metric, found in scores.items()},
        "intervals": {
            metric.name: [_number(found.low), _number(found.high)]
            for metric, found in scores.items()
        },
    }


def _number(value: Any) -> float | int | None:
    """As JSON has it: whole numbers stay whole, and what is no number is None."""
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None
