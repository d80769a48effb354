"""Whether the best trial is at an end of the space, so that a larger space may be better."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from reskeras.errors import RequestError
from reskeras.words import three_digits
from tuning.insight.importance import categories, searched
from tuning.record.entries import TrialRecord
from tuning.space import Range, Space

_NEAR = 0.05
"""How close to an end a value counts as at it, as a fraction of the range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtEnd:
    """A value of the best trial at an end of what was searched, where values beyond are valid."""

    path: str
    end: Literal["lower", "upper"]
    value: float
    sentence: str
    """What to do about it, in one line."""


def boundary(best: TrialRecord, space: Space) -> list[AtEnd]:
    """Which values of the best trial are at an end of what was searched.

    After the tuning playbook (Godbole et al. 2023, github.com/google-research/tuning_playbook: "was
    the search space large enough?"). A number is at an end if it is within 5 % of the range (of its
    logarithm if the range is `log`); an integer or a number of a list only if it is the end. Ends
    beyond which no value is valid are left out (no stage has 0 blocks).
    """
    values = searched(best, space)
    short = space.short_names()
    found = []
    for path, value in values.items():
        item = space.vary[path]
        if categories(space, path) is not None or (isinstance(item, tuple) and len(item) < 2):
            continue
        ends: tuple[Literal["lower", "upper"], ...] = ("lower", "upper")
        for end, (there, beyond) in zip(ends, _ends(space, path, value), strict=True):
            if not there or not _valid(space, {**values, path: beyond}):
                continue
            if isinstance(item, Range):
                ends_of = f"{three_digits(item.low)} to {three_digits(item.high)}"
                where = f"at the {end} end of its range ({ends_of}): widen it"
            else:
                known = ", ".join(three_digits(number) for number in item)
                extreme, more = ("lowest", "lower") if end == "lower" else ("highest", "higher")
                where = f"the {extreme} of its values ({known}): add {more} values"
            found.append(
                AtEnd(
                    path=path,
                    end=end,
                    value=value,
                    sentence=f"{short[path]} {three_digits(value)} is {where}",
                )
            )
    return found


def _ends(space: Space, path: str, value: float) -> tuple[tuple[bool, float], tuple[bool, float]]:
    """For the lower and the upper end: whether the value is at it, and the next value beyond."""
    item = space.vary[path]
    if isinstance(item, tuple):
        known = sorted(map(_as_number, item))
        return (value <= known[0], _next(known[1], known[0])), (
            value >= known[-1],
            _next(known[-2], known[-1]),
        )
    if space.is_whole(path):
        step = int(item.step or 1)
        last = item.low + (item.high - item.low) // step * step
        return (value <= item.low, int(item.low) - step), (value >= last, int(last) + step)
    last = (
        item.low + math.floor((item.high - item.low) / item.step + 1e-9) * item.step
        if item.step
        else item.high
    )
    if item.log:
        length = math.log(last / item.low)
        place, beyond = (
            math.log(value / item.low) / length,
            (item.low * math.exp(-0.01 * length), last * math.exp(0.01 * length)),
        )
    else:
        length = last - item.low
        place, beyond = (
            (value - item.low) / length,
            (item.low - 0.01 * length, last + 0.01 * length),
        )
    return (place <= _NEAR, beyond[0]), (place >= 1 - _NEAR, beyond[1])


def _next(before: float, last: float) -> float:
    """The next number of a list, by ratio if positive; a small step unless it is an integer."""
    if isinstance(last, int):
        beyond = round(last * last / before) if min(before, last) > 0 else 2 * last - before
        return beyond if beyond != last else last + (1 if last > before else -1)
    return last * (last / before) ** 0.1 if min(before, last) > 0 else last + 0.1 * (last - before)


def _valid(space: Space, values: Mapping[str, Any]) -> bool:
    try:
        space.recipe(values)
    except RequestError:
        return False
    return True


def _as_number(value: Any) -> float:
    assert isinstance(value, int | float)
    return value
