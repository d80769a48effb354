"""Metrics: a score's name, its better direction, and its format."""

import dataclasses
import enum
import math

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
    while_training: bool = False
    """Whether its value over a training epoch, during which the model changes, is reported."""

    @property
    def sign(self) -> float:
        """Factor that makes larger values better: 1 or -1."""
        return 1.0 if self.better is Better.HIGHER else -1.0

    def write(self, value: float | None) -> str:
        """Formats a value for people; None and NaN are a dash."""
        if value is None or math.isnan(value):
            return "-"
        return percent(value) if self.unit is Unit.SHARE else f"{value:z.{self.decimals}f}"

    def write_difference(self, value: float) -> str:
        """Formats a difference: `1.2 points` between fractions, otherwise a number."""
        return f"{100 * value:.2g} points" if self.unit is Unit.SHARE else f"{value:.2g}"

    def write_interval(self, low: float | None, high: float | None) -> str:
        """Formats an interval: `96.1 to 99.1 %`; one that is not known is a dash."""
        if low is None or high is None or math.isnan(low):
            return "-"
        if self.unit is Unit.SHARE:
            return f"{100 * low:.1f} to {100 * high:.1f} %"
        return f"{low:z.{self.decimals}f} to {high:z.{self.decimals}f}"

    def write_gain(self, low: float, high: float) -> str:
        """Formats an interval of a difference: `-0.3 to +1.4 points`."""
        if self.unit is Unit.SHARE:
            return f"{100 * low:+.1f} to {100 * high:+.1f} points"
        return f"{low:+.{self.decimals}f} to {high:+.{self.decimals}f}"


def share(name: str, label: str, better: Better = Better.HIGHER, **rest: bool) -> Metric:
    """A metric that is a fraction."""
    return Metric(name=name, label=label, better=better, unit=Unit.SHARE, **rest)


LOSS = Metric(name="loss", label="Loss", better=Better.LOWER, unit=Unit.NUMBER, while_training=True)
ACCURACY = share("accuracy", "Accuracy", while_training=True)
MACRO_F1 = share("macro_f1", "Macro F1")

SUPPORT = Metric(
    name="support", label="Support", better=Better.HIGHER, unit=Unit.NUMBER, decimals=0
)
"""How many images or pixels a class has."""
PRECISION, RECALL, F1 = (
    share(name, label)
    for name, label in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))
)
PIXEL_ERROR = Metric(
    name="pixel_error",
    label="Mean error in pixels of the input",
    better=Better.LOWER,
    unit=Unit.NUMBER,
    decimals=2,
)
PSNR = Metric(name="psnr", label="PSNR in dB", better=Better.HIGHER, unit=Unit.NUMBER, decimals=2)
AVERAGE_PRECISION = share("average_precision", "Macro average precision")
MEAN_ABSOLUTE_ERROR = Metric(
    name="mean_absolute_error",
    label="Mean absolute error",
    better=Better.LOWER,
    unit=Unit.NUMBER,
    decimals=3,
)
