"""What a search found out in a few lines: important factors, the best of each kind, ends of ranges.

After the isolation plots of the tuning playbook (Godbole et al. 2023,
github.com/google-research/tuning_playbook).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reskeras.errors import RequestError
from reskeras.tasks import write_score
from tuning.insight.boundary import boundary
from tuning.insight.importance import FEWEST, categories, importances, scored, searched
from tuning.record.entries import TrialRecord
from tuning.record.ranking import by_rank
from tuning.space import Space
from tuning.space.titles import title

if TYPE_CHECKING:
    from rich.text import Text

_ENOUGH = 20
_WIDTH, _BAR = 80, 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best trial that has one value."""

    value: Any
    record: TrialRecord | None
    """None if no trial with this value has a score."""
    trials: int
    """Number of trials with this value, including failed ones."""


def best_of_each(
    records: Sequence[TrialRecord], space: Space, objective: str, path: str | None = None
) -> list[Best]:
    """The best trial for each value at a path, best first; values without a score come last.

    Args:
        records: trials of one search.
        space: the space that was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        path: of words or booleans; None is that of `first_choice` (no path, no list).

    Raises:
        RequestError: the path is not in the space, or its values are numbers.
    """
    path = path or first_choice(space)
    if path is None:
        return []
    if path not in space.vary or (values := categories(space, path)) is None:
        words = [known for known in space.vary if categories(space, known)]
        raise RequestError(
            f"{path}: not a list of words in this space; these are: {', '.join(words) or 'none'}"
        )
    found = []
    for value in values:
        having = [
            record for record in records if str(searched(record, space).get(path)) == str(value)
        ]
        ranked = by_rank(scored(having), objective)
        found.append(Best(value=value, record=ranked[0] if ranked else None, trials=len(having)))
    order = [
        record.number
        for record in by_rank([best.record for best in found if best.record is not None], objective)
    ]
    return sorted(
        found, key=lambda best: order.index(best.record.number) if best.record else len(order)
    )


def first_choice(space: Space) -> str | None:
    """The path that is compared by default: `block.kind`, or the first whose values are words."""
    words = [path for path in space.vary if categories(space, path)]
    return "block.kind" if "block.kind" in words else next(iter(words), None)


def what_mattered(
    records: Sequence[TrialRecord],
    space: Space,
    objective: str,
    known: Mapping[str, float] | None = None,
) -> "list[Text]":
    """What a search found out, for a terminal: at most 12 lines of at most 80 columns.

    Empty if no trial has a score.

    Args:
        records: trials of one search.
        space: the space that was searched.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        known: the importances of these trials; None computes them.
    """
    from rich.text import Text

    trials = scored(records)
    if not trials:
        return []
    if known is None:
        known = importances(records, space, objective)
    count = f"{len(trials)} trial{'s' if len(trials) > 1 else ''}"
    if known and len(trials) < _ENOUGH:
        count += ", a rough estimate"
    lines = [Text(f"what mattered for {objective} ({count})", style="bold")]
    if not known:
        reason = (
            f"too few trials to estimate importance; it takes at least {FEWEST}"
            if len(trials) < FEWEST
            else "no factor stands out: the values of these trials do not predict their scores"
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
        boundary(by_rank(trials, objective)[0], space),
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
            fate = f"{best.trials} failed, none has a score" if best.trials else "not tried"
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


def _bar(part: float) -> str:
    eighths = round(part * _BAR * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
