"""Metrics: a score's name, its better direction, and its format."""

import dataclasses
import enum

from reskeras.words import percent


class Better(enum.Enum):
    """Which of two values is better, in Keras Tuner's words."""

    HIGHER = "max"
    LOWER = "min"


class Unit(enum.Enum):
    """How to format a value."""

    SHARE = "share"
    """A fraction, formatted in percent."""
    NUMBER = "number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a model is judged by."""

    name: str
    """Its name in training; as an objective, with the prefix `val_`."""
    label: str
    """For headings."""
    better: Better
    unit: Unit
    decimals: int = 4
    """Digits after the point of a `Unit.NUMBER`."""
    while_training: bool = True
    """Whether its value over a training epoch, during which the model changes, is meaningful."""

    @property
    def sign(self) -> float:
        """Factor that makes larger values better: 1 or -1."""
        return 1.0 if self.better is Better.HIGHER else -1.0

    def write(self, value: float | None) -> str:
        """Formats a value for people; None is a dash."""
        if value is None:
            return "-"
        return percent(value) if self.unit is Unit.SHARE else f"{value:.{self.decimals}f}"

    def write_difference(self, value: float) -> str:
        """Formats a difference: `1.2 points` between fractions, otherwise a number."""
        return f"{100 * value:.2g} points" if self.unit is Unit.SHARE else f"{value:.2g}"


LOSS = Metric(name="loss", label="Loss", better=Better.LOWER, unit=Unit.NUMBER)
ACCURACY = Metric(name="accuracy", label="Accuracy", better=Better.HIGHER, unit=Unit.SHARE)
MEAN_IOU = Metric(
    name="mean_iou",
    label="Mean IoU",
    better=Better.HIGHER,
    unit=Unit.SHARE,
    while_training=False,  # it accumulates a confusion matrix over models that no longer exist
)
