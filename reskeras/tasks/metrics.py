"""Metrics: what a score is called, which way is better, and how people read it."""

import dataclasses
import enum

from reskeras.words import percent


class Better(enum.Enum):
    """Which of two values of a metric is better; the values are Keras Tuner's words."""

    HIGHER = "max"
    LOWER = "min"


class Unit(enum.Enum):
    """How a value is written."""

    SHARE = "share"
    """Of 1; in percent."""
    NUMBER = "number"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a model is judged by."""

    name: str
    """As training reports it; with `val_` before it as an objective."""
    label: str
    """For headings."""
    better: Better
    unit: Unit
    decimals: int = 4
    """Digits after the point of a `Unit.NUMBER`."""
    while_training: bool = True
    """Whether its value over a training epoch, during which the model changes, means anything."""

    @property
    def sign(self) -> float:
        """Factor that makes more better: 1 or -1."""
        return 1.0 if self.better is Better.HIGHER else -1.0

    def write(self, value: float | None) -> str:
        """A value as people read it; a dash for none."""
        if value is None:
            return "-"
        return percent(value) if self.unit is Unit.SHARE else f"{value:.{self.decimals}f}"

    def write_difference(self, value: float) -> str:
        """How far two values are apart: `1.2 points` between shares, else a number."""
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
