"""What mattered in a search: how much each factor did, whether the best point lies at an end of the space, the best of each kind.

After the tuning playbook (Godbole et al. 2023, github.com/google-research/tuning_playbook: isolation plots, "was the search space
large enough?"). Trials in, values out; nothing is trained but a small forest.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from reskeras.errors import RequestError
from reskeras.tasks import write_score
from tuning.record.journal import TrialRecord
from tuning.record.ranking import leaderboard
from tuning.settings import sign
from tuning.space import Range, Space
from tuning.space.titles import title

if TYPE_CHECKING:
    from rich.text import Text

Array = npt.NDArray[np.float64]

FEWEST = 8
"""Trials with a score, below which nothing is said about importance: a forest finds as much in five trials of pure noise."""

_ENOUGH = 20
_TREES, _FOLDS, _REPEATS, _DRAWS = 60, 5, 2, 10
_MOST = 1000
"""Trials that a forest learns from: more change a share by a tenth at most, and take their time."""
_STRIP = 8
"""So many whole numbers, or fewer, stand beside each other as words do."""
_NEAR = 0.05
"""How near an end of its range a value counts as at it, as a share of the range."""

_WIDTH, _BAR = 80, 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtEnd:
    """A value of the best trial at an end of what was searched, where the spec allows values beyond."""

    path: str
    end: Literal["lower", "upper"]
    value: float
    sentence: str
    """What to do about it, in a line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best trial that has a value."""

    value: Any
    record: TrialRecord | None
    """None where no trial with this value has a score."""
    trials: int
    """Trials with this value, failed ones too."""


def scored(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that have a score, oldest first; of those that were stopped early it is of fewer epochs."""
    with_score = (
        record for record in records if record.status != "failed" and record.score is not None
    )
    return sorted(
        (record for record in with_score if math.isfinite(record.score or 0.0)),
        key=lambda record: record.number,
    )


def searched(record: TrialRecord, space: Space) -> dict[str, Any]:
    """The values that made a trial, by path, as the spec has them."""
    return space.point(record.values)


def categories(space: Space, path: str) -> tuple[Any, ...] | None:
    """The values that can be had at a path where they have no order of their own; None for numbers."""
    item = space.vary[path]
    return None if isinstance(item, Range) or _numbers(item) else item


def strip(space: Space, path: str) -> list[Any] | None:
    """The values that stand beside each other, in their order; None for numbers on an axis."""
    if (words := categories(space, path)) is not None:
        return list(words)
    item = space.vary[path]
    if isinstance(item, tuple):
        return sorted(item)
    if item.log or not space.is_whole(path):
        return None
    numbers = range(int(item.low), int(item.high) + 1, int(item.step or 1))
    return list(numbers) if len(numbers) <= _STRIP else None


def importances(records: Sequence[TrialRecord], space: Space, objective: str) -> dict[str, float]:
    """Each factor's share in what makes one trial of this search rank before another, largest first.

    A forest (extremely randomised trees) learns the rank of a trial from its values; what it errs more on trials that it has not
    seen when the value of one factor is exchanged for another trial's is what that factor matters (permutation importance:
    Breiman 2001; Fisher et al. 2019), and the shares of all make 1. Where factors add up these are their shares of the variance; a
    factor that acts only together with another counts for each (as Sobol' total indices do). A factor of some kinds only is
    exchanged between trials of these kinds. Ranks, so that one diverged trial does not decide, and so that accuracies and
    their errors give the same.

    Not to be trusted with few trials (a large share moves from search to search by a third with 10 trials, a quarter with 20 and a
    tenth with 40, as a standard deviation), nor beyond the ranges searched: a learning rate that mattered little from 1e-3 to
    3e-3 may matter most from 1e-5 to 1. An oracle that learns tries little of what is bad, so a factor that it settled early
    looks smaller than it is; ask a random search for importance.

    Args:
        records: trials of one search; those without a score are left out. Of more than a thousand an even choice is asked.
        space: what was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.

    Returns:
        From each path of the space to its share. Empty where nothing can be said: with fewer than `FEWEST` scores, with no two that
        differ, and where the forest predicts trials it has not seen hardly better than their mean does (an R2 of 2/N at most;
        of 24 searches in which nothing matters 6 had more with 10 trials, 1 with 20).
    """
    trials = scored(records)
    if len(trials) > _MOST:
        trials = [trials[place] for place in np.linspace(0, len(trials) - 1, _MOST).astype(int)]
    ranks = _ranks(np.array([-sign(objective) * (record.score or 0.0) for record in trials]))
    if len(trials) < FEWEST or np.ptp(ranks) == 0:
        return {}
    lost, r2 = _losses(_Table([searched(record, space) for record in trials], space), ranks)
    total = sum(lost.values())
    if r2 <= 2 / len(trials) or total <= 0:
        return {}
    return dict(
        sorted(((path, loss / total) for path, loss in lost.items()), key=lambda item: -item[1])
    )


def boundary(best: TrialRecord, space: Space) -> list[AtEnd]:
    """Where the best trial lies at an end of what was searched, so that better ones may lie beyond.

    A number is at an end within 5 % of its range (of its logarithm in a range with `log`), a whole number and a number of a list
    only on it. Ends beyond which the spec has nothing valid (no stage has 0 blocks) are left out.
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
                where = f"at the {end} end of its range ({_number(item.low)} to {_number(item.high)}): widen it"
            else:
                known = ", ".join(_number(_as_number(number)) for number in item)
                extreme, more = ("lowest", "lower") if end == "lower" else ("highest", "higher")
                where = f"the {extreme} of its values ({known}): add {more} ones"
            found.append(
                AtEnd(
                    path=path,
                    end=end,
                    value=value,
                    sentence=f"{short[path]} {_number(value)} is {where}",
                )
            )
    return found


def best_of_each(
    records: Sequence[TrialRecord], space: Space, objective: str, path: str | None = None
) -> list[Best]:
    """The best trial of each value at a path, best first; values without a score come last.

    Args:
        records: trials of one search.
        space: what was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        path: one whose values are words or booleans; None for that of `first_choice`, without which there is nothing to list.

    Raises:
        RequestError: the path is not in the space, or its values are numbers.
    """
    path = path or first_choice(space)
    if path is None:
        return []
    if path not in space.vary or (values := categories(space, path)) is None:
        words = [known for known in space.vary if categories(space, known)]
        raise RequestError(
            f"{path}: no list of words in this space; those are: {', '.join(words) or 'none'}"
        )
    found = []
    for value in values:
        having = [
            record for record in records if str(searched(record, space).get(path)) == str(value)
        ]
        ranked = leaderboard(scored(having), objective)
        found.append(Best(value=value, record=ranked[0] if ranked else None, trials=len(having)))
    order = [
        record.number
        for record in leaderboard(
            [best.record for best in found if best.record is not None], objective
        )
    ]
    return sorted(
        found, key=lambda best: order.index(best.record.number) if best.record else len(order)
    )


def first_choice(space: Space) -> str | None:
    """The path whose values are compared when none is named: `block.kind`, or else the first whose values are words."""
    words = [path for path in space.vary if categories(space, path)]
    return "block.kind" if "block.kind" in words else next(iter(words), None)


def what_mattered(
    records: Sequence[TrialRecord],
    space: Space,
    objective: str,
    known: Mapping[str, float] | None = None,
) -> "list[Text]":
    """What a search taught, for a terminal: at most 12 lines of at most 80 columns; none where no trial has a score.

    Args:
        records: trials of one search.
        space: what was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        known: the importances of these trials; None computes them.
    """
    from rich.text import Text

    trials = scored(records)
    if not trials:
        return []
    lines = [Text(f"what mattered for {objective}, by {len(trials)} trials", style="bold")]
    if known is None:
        known = importances(records, space, objective)
    if known and len(trials) < _ENOUGH:
        lines[0].append(", few, so roughly", style="dim")
    if not known:
        reason = (
            f"too few trials to tell what mattered; it takes {FEWEST}"
            if len(trials) < FEWEST
            else "these trials do not tell the factors apart"
        )
        lines.append(Text(f"  {reason}", style="dim"))
    short = space.short_names()
    shown = list(known.items())[:4]
    wide = max((len(short[path]) for path, _ in shown), default=0)
    for path, importance in shown:
        line = Text(f"  {short[path]:<{wide}}  ")
        line.append(f"{_bar(importance / shown[0][1]):<{_BAR}}", style="cyan").append(
            f" {100 * importance:3.0f} %", style="bold"
        )
        lines.append(line)
    if len(known) > len(shown):
        rest = sum(importance for _, importance in list(known.items())[len(shown) :])
        lines[-1].append(f"  and {len(known) - len(shown)} more, {100 * rest:.0f} %", style="dim")
    if (choice := first_choice(space)) is not None:
        lines += [
            Text(f"best of each {short[choice]}", style="bold"),
            *_kinds(records, space, objective, choice),
        ]
    ends = sorted(
        boundary(leaderboard(trials, objective)[0], space),
        key=lambda end: -known.get(end.path, 0.0),
    )
    lines += [Text(f"! {end.sentence}", style="yellow") for end in ends[: 12 - len(lines)]]
    for line in lines:
        line.truncate(_WIDTH, overflow="ellipsis")
    return lines


def _kinds(records: Sequence[TrialRecord], space: Space, objective: str, path: str) -> "list[Text]":
    from rich.text import Text

    kinds = best_of_each(records, space, objective, path)
    shown = kinds[:4]
    wide, digits = (
        max(len(str(best.value)) for best in shown),
        max(len(str(best.trials)) for best in shown),
    )
    lines = []
    for best in shown:
        if best.record is None:
            fate = f"all {best.trials} failed" if best.trials else "not tried"
            lines.append(Text(f"  {best.value!s:<{wide}}  {fate}", style="dim"))
            continue
        point = {
            other: value for other, value in searched(best.record, space).items() if other != path
        }
        lines.append(
            Text.assemble(
                f"  {best.value!s:<{wide}}  ",
                (f"{write_score(objective, best.record.score):>7}", "bold"),
            )
        )
        lines[-1].append(f"  best of {best.trials:>{digits}}: {title(point, space)}", style="dim")
    if len(kinds) > len(shown):
        lines[-1].append(f"  and {len(kinds) - len(shown)} more", style="dim")
    return lines


class _Table:
    """Trials as numbers: of each path its columns (one for a number, one for each word) and in which trials it is."""

    def __init__(self, points: Sequence[Mapping[str, Any]], space: Space) -> None:
        self.present = {path: np.array([path in point for point in points]) for path in space.vary}
        blocks = {
            path: _columns([point.get(path) for point in points], space, path)
            for path in space.vary
        }
        self.x = np.hstack(list(blocks.values()))
        ends = np.cumsum([block.shape[1] for block in blocks.values()])
        self.columns = {
            path: np.arange(end - block.shape[1], end)
            for (path, block), end in zip(blocks.items(), ends, strict=True)
        }

    def exchanged(
        self, path: str, rows: npt.NDArray[np.intp], random: np.random.Generator
    ) -> Array:
        """The rows with the value of one path from other rows, drawn at random among those that have it."""
        mixed = self.x[rows]
        here = np.flatnonzero(self.present[path][rows])
        if not len(here):
            return mixed
        donors = random.choice(np.flatnonzero(self.present[path]), size=len(here))
        mixed[np.ix_(here, self.columns[path])] = self.x[np.ix_(donors, self.columns[path])]
        return mixed


def _losses(table: _Table, ranks: Array) -> tuple[dict[str, float], float]:
    """What is lost on held-out trials when each path is exchanged, and the forest's R2 on them."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import RepeatedKFold

    random = np.random.default_rng(0)
    lost = dict.fromkeys(table.columns, 0.0)
    error = spread = 0.0
    folds = RepeatedKFold(n_splits=min(_FOLDS, len(ranks)), n_repeats=_REPEATS, random_state=0)
    for known, held in folds.split(ranks):
        forest = ExtraTreesRegressor(_TREES, random_state=0).fit(table.x[known], ranks[known])
        rows = np.tile(held, _DRAWS)
        told = forest.predict(
            np.vstack([table.x[rows], *(table.exchanged(path, rows, random) for path in lost)])
        )
        right, *wrong = ((told.reshape(-1, len(rows)) - ranks[rows]) ** 2).sum(axis=1) / _DRAWS
        error, spread = error + right, spread + ((ranks[known].mean() - ranks[held]) ** 2).sum()
        lost = {
            path: loss + float(without - right)
            for (path, loss), without in zip(lost.items(), wrong, strict=True)
        }
    return {path: max(0.0, loss) for path, loss in lost.items()}, 1 - float(error / spread)


def _columns(values: Sequence[Any], space: Space, path: str) -> Array:
    if (words := categories(space, path)) is not None:
        return np.array(
            [[str(value) == str(word) for word in words] for value in values], dtype=float
        )
    # Ranks again, for which it is all one whether differences count or factors; what is absent stands in the middle.
    here = np.array([value is not None for value in values])
    column = np.full(len(values), (here.sum() + 1) / 2)
    column[here] = _ranks(np.array([value for value in values if value is not None], dtype=float))
    return column[:, None]


def _ranks(values: Array) -> Array:
    """From 1 up; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Array = np.cumsum(counts) - (counts - 1) / 2
    return means[which]


def _ends(space: Space, path: str, value: float) -> tuple[tuple[bool, float], tuple[bool, float]]:
    """For the lower and the upper end, whether the value is at it and the next value beyond."""
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
    """How a list of numbers goes on: by factors above 0, else by differences; where it need not be whole, a little way."""
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


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _as_number(value: Any) -> float:
    assert isinstance(value, int | float)
    return value


def _number(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) and not value.is_integer() else f"{value:.0f}"


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
