"""Values of options."""

import re
from typing import TYPE_CHECKING, Any

import click

from reskeras.spec import Augmentation
from reskeras.spec.text import parse_augmentation

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


if TYPE_CHECKING:
    _WholeNumber = click.ParamType[int]
    _AnAugmentation = click.ParamType[Augmentation]
else:
    # Which takes an argument only since click 8.3.
    _WholeNumber = _AnAugmentation = click.ParamType


class _Count(_WholeNumber):
    """A whole number, also as 500k, 2M or 1.5G."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", str(value).strip().lower())
        if match is None or not (count := int(float(match[1]) * _UNITS[match[2]])):
            self.fail(
                f"{value!r} is not a count; give a number above 0, such as 300000, 500k, 2M, or "
                "1.5G",
                param,
                ctx,
            )
        return count


COUNT = _Count()


class _AugmentationType(_AnAugmentation):
    """What `train.augment` takes: a name, or a mapping on one line."""

    name = "augmentation"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Augmentation:
        if isinstance(value, Augmentation):
            return value
        return parse_augmentation(str(value), where="--augment")


AUGMENTATION = _AugmentationType()
