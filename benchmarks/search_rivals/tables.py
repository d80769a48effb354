"""The kept runs as Markdown."""

import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from search_rivals.plot import plot
from search_rivals.runs import Run, read_runs

LEVELS = (0.97, 0.98, 0.99)
SCORES = {"recalibrated": "on recalibrated statistics", "user": "as each tool's user sees it"}
FIRST_TRIAL_LEVEL = 0.98
YARDSTICK = "kt-random"

Rivals = dict[str, list[Run]]
"""The runs of each rival, one per seed."""

_SECTIONS = {
    "search": "The search",
    "equal": "Trials of one architecture",
    "different": "Trials that each train a new architecture",
    "workers": "Workers",
}
_NOTES = """\
Median over the seeds, the seeds' own values in parentheses; `-` was not reached in time, and a
ratio that needs it is a bound. The clock starts with the search, after imports and data, and stands
still while the recalibrated accuracy of a rival is computed. `@2` is two worker processes on the
same two CPUs; their start is part of their time.

`later` leaves out what came before the first trial's end. Overhead is what a trial takes beyond its
epochs at their steady pace: (wall - sum over epochs of the trial's steady epoch) / trials. The
steady epoch is the median over the second and later epochs of the trial; where it has one epoch
alone, of trials of its architecture, or of the run. A promotion of hyperband counts as a trial.
Keras Tuner and reskeras write states as they do by default; Optuna and one-epoch-then-best
write none. Keras' users train at a constant learning rate, reskeras by its default schedule, the
cosine."""
_FIRST_TRIAL_NOTE = """\
Most of reskeras' oracles begin with the space's base, a point known to be good, which Keras
Tuner cannot; the last column leaves out the scores of the first trial, though not its time."""


def report(folder: Path) -> str:
    """Tables of all that a folder keeps; writes them to `search.md`, and the plots beside it."""
    by_section: dict[str, Rivals] = {}
    for run in read_runs(folder):
        by_section.setdefault(run.section, {}).setdefault(run.rival, []).append(run)
    parts = [_NOTES]
    for section, rivals in by_section.items():
        parts += [f"## {_SECTIONS[section]}", _conditions(rivals)]
        if section == "search":
            parts += [_times(rivals, scores) for scores in SCORES]
            parts += [_FIRST_TRIAL_NOTE, _curve(rivals)]
            plot(rivals, folder)
        parts += [_throughput(rivals)]
        if section == "search":
            parts += [_losses(rivals)]
    text = "\n\n".join(parts) + "\n"
    (folder / "search.md").write_text(text, encoding="utf-8")
    return text


def _conditions(rivals: Rivals) -> str:
    runs = [run for found in rivals.values() for run in found]
    budget, loads = runs[0].facts["budget"], [run.facts["load"] for run in runs]
    seeds = ", ".join(f"{seed:.0f}" for seed in sorted({run.seed for run in runs}))
    before = statistics.median(run.facts["before"] for run in runs)
    return (
        f"{budget:g} s per run, seeds {seeds}, {runs[0].facts['versions']}; the machine's load "
        f"before a run was {min(loads):g} to "
        f"{max(loads):g}; imports and data took {before:.0f} s (median)."
    )


def _times(rivals: Rivals, scores: str) -> str:
    rows = []
    for rival, runs in rivals.items():
        times = [[run.seconds_to(level, scores) for run in runs] for level in LEVELS]
        budget = runs[0].facts["budget"]
        ratios = [
            _ratio(_best_keras_tuner(rivals, level, scores), statistics.median(found), budget)
            for level, found in zip(LEVELS, times, strict=True)
        ]
        later = [run.seconds_to(FIRST_TRIAL_LEVEL, scores, but_trial=1) for run in runs]
        rows.append([rival, *map(_spread, times), *ratios, _spread(later) if _ours(rival) else ""])
    percent = [f"{100 * level:g} %" for level in LEVELS]
    head = [
        "",
        *percent,
        *(f"{level}: times sooner" for level in percent),
        f"{100 * FIRST_TRIAL_LEVEL:g} %, without trial 1",
    ]
    title = (
        f"Seconds to a validation accuracy, {SCORES[scores]}; and how many times sooner than the "
        "best Keras Tuner oracle"
    )
    return f"### {title}\n\n{_markdown(head, rows)}"


def _curve(rivals: Rivals) -> str:
    budget = next(iter(rivals.values()))[0].facts["budget"]
    times = np.array([share * budget for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1)])
    rows = []
    for rival, runs in rivals.items():
        median = np.median([run.best_after(times, "recalibrated") for run in runs], axis=0)
        area = _spread([100 * run.mean_best("recalibrated") for run in runs], digits=1)
        seen = _spread([100 * run.mean_best("user") for run in runs], digits=1)
        rows.append([rival, *(f"{100 * value:.1f}" for value in median), area, seen])
    head = [
        "",
        *(f"{time:g} s" for time in times),
        "mean over the time",
        "the same as the user sees it",
    ]
    heading = "### Best validation accuracy so far, %, on recalibrated statistics"
    return f"{heading}\n\n{_markdown(head, rows)}"


def _throughput(rivals: Rivals) -> str:
    rows = []
    for rival, runs in rivals.items():
        own, base = (
            _median(runs, Run.trials_per_minute.fget),
            _median(rivals.get(YARDSTICK, []), Run.trials_per_minute.fget),
        )
        rows.append(
            [
                rival,
                _spread([run.trials_per_minute for run in runs], digits=1),
                f"{own / base:.1f}" if base else "",
                _spread([run.later_trials_per_minute for run in runs], digits=1),
                _spread([run.epochs_per_minute for run in runs], digits=0),
                _spread([run.overhead for run in runs], digits=2),
                " ".join(f"{run.architectures}/{len(run.ended)}" for run in runs),
                " ".join(str(run.failed) for run in runs),
                _spread([100 * run.best("recalibrated") for run in runs], digits=1),
            ]
        )
    head = [
        "",
        "trials/min",
        f"x {YARDSTICK}",
        "later",
        "epochs/min",
        "overhead, s/trial",
        "architectures/trials",
        "failed",
        "best, %",
    ]
    return f"### Throughput\n\n{_markdown(head, rows)}"


def _losses(rivals: Rivals) -> str:
    """Every measure in which a reskeras oracle is behind the best of the others."""
    others = {rival: runs for rival, runs in rivals.items() if not _ours(rival)}
    lines = []
    for rival, runs in rivals.items():
        if not _ours(rival) or not others:
            continue
        for scores, how in SCORES.items():
            for level in LEVELS:
                name, best = _least(others, lambda run: run.seconds_to(level, scores))  # noqa: B023  called at once
                own = _median(runs, lambda run: run.seconds_to(level, scores))  # noqa: B023
                if best < own:
                    reached = f"takes {own:.1f} s to" if math.isfinite(own) else "does not reach"
                    lines.append(
                        f"{rival} {reached} {100 * level:g} % {how}; {name} takes {best:.1f} s"
                    )
        name, worst = _least(others, lambda run: -run.best("recalibrated"))
        if (own := _median(runs, lambda run: run.best("recalibrated"))) < -worst:
            lines.append(f"{rival} ends at {100 * own:.1f} %, {name} at {-100 * worst:.1f} %")
        namesake = "kt-" + rival.removeprefix("reskeras-").partition("@")[0]
        namesake = namesake if namesake in rivals else YARDSTICK
        if namesake not in rivals:
            continue
        own, other = (
            _median(found, Run.trials_per_minute.fget) for found in (runs, rivals[namesake])
        )
        if own < other:
            lines.append(f"{rival} ends {own:.1f} trials a minute, {namesake} {other:.1f}")
        own, other = (_median(found, Run.overhead.fget) for found in (runs, rivals[namesake]))
        if own > other:
            lines.append(f"{rival} has {own:.2f} s of overhead per trial, {namesake} {other:.2f} s")
    return "### Where reskeras loses\n\n" + (
        "\n".join(f"- {line}" for line in lines) or "Nowhere in these measures."
    )


def _ours(rival: str) -> bool:
    return rival.startswith("reskeras-")


def _best_keras_tuner(rivals: Rivals, level: float, scores: str) -> float:
    tuners = {rival: runs for rival, runs in rivals.items() if rival.startswith("kt-")}
    return _least(tuners, lambda run: run.seconds_to(level, scores))[1] if tuners else math.nan


def _least(rivals: Rivals, measure: Callable[[Run], float]) -> tuple[str, float]:
    medians = {rival: _median(runs, measure) for rival, runs in rivals.items()}
    name = min(medians, key=lambda rival: medians[rival])
    return name, medians[name]


def _median(runs: Iterable[Run], measure: Callable[[Run], float]) -> float:
    values = [measure(run) for run in runs]
    return statistics.median(values) if values else 0.0


def _ratio(base: float, own: float, budget: float) -> str:
    match math.isfinite(base), math.isfinite(own):
        case True, True:
            return f"{base / own:.1f}"
        case False, True:
            return "" if math.isnan(base) else f">= {budget / own:.1f}"
        case True, False:
            return f"<= {base / budget:.1f}"
    return ""


def _spread(values: list[float], digits: int = 1) -> str:
    """`median (each)`."""
    each = " ".join(_number(value, digits) for value in values)
    return f"{_number(statistics.median(values), digits)} ({each})" if len(values) > 1 else each


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
