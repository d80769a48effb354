"""The best accuracy so far against the time, as a picture."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from search_rivals.runs import Run

PANELS = {
    "recalibrated": "Validation accuracy on recalibrated statistics",
    "user": "Validation accuracy as the tool's user sees it",
}
_PLAIN = {
    "kt-random": {"color": "0.35", "linestyle": "--"},
    "kt-hyperband": {"color": "0.35", "linestyle": ":"},
    "kt-bayesian": {"color": "0.35", "linestyle": "-."},
    "optuna-tpe-halving": {"color": "#9c7a3c", "linestyle": "--"},
    "one-epoch-then-best": {"color": "#9c7a3c", "linestyle": ":"},
}
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's, for reskeras' oracles in their order."""
_LEAST_ERROR = 1 / 720
"""Half of a validation image: where no error at all is drawn."""
_TICKS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1 - _LEAST_ERROR)


def plot(rivals: dict[str, list[Run]], folder: Path) -> None:
    """Writes `search.svg` and `search.png`: the median over seeds per rival, in its range."""
    budget = next(iter(rivals.values()))[0].facts["budget"]
    times = np.geomspace(0.5, budget, 400)
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    styles = _styles(list(rivals))
    for axis, (scores, title) in zip(axes, PANELS.items(), strict=True):
        for rival, runs in rivals.items():
            curves = np.array([run.best_after(times, scores) for run in runs])
            errors = np.maximum(1 - curves, _LEAST_ERROR)
            started = np.median(curves, axis=0) > 0
            low, high = errors.min(axis=0), errors.max(axis=0)
            axis.fill_between(
                times,
                low,
                high,
                where=started,
                color=styles[rival]["color"],
                alpha=0.08,
                linewidth=0,
                step="post",
            )
            axis.step(
                times[started],
                np.median(errors, axis=0)[started],
                where="post",
                label=rival,
                **styles[rival],
            )
        _scales(axis, budget)
        axis.set_title(title, fontsize=11)
    axes[0].set_ylabel("best so far, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    for kind in ("svg", "png"):
        figure.savefig(folder / f"search.{kind}", dpi=110)


def _styles(rivals: list[str]) -> dict[str, dict[str, Any]]:
    styles: dict[str, dict[str, Any]] = {
        rival: style | {"linewidth": 1.4} for rival, style in _PLAIN.items()
    }
    names = dict.fromkeys(rival.partition("@")[0] for rival in rivals if rival not in _PLAIN)
    for color, name in zip(cycle(_COLORS), names, strict=False):
        styles[name] = {"color": color, "linewidth": 1.8}
        styles[f"{name}@2"] = {"color": color, "linewidth": 2.6, "linestyle": (0, (4, 1))}
    return styles


def _scales(axis: Any, budget: float) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(1, budget)
    axis.set_ylim(0.95, _LEAST_ERROR * 0.9)
    seconds = [
        second for second in (1, 2, 5, 10, 20, 50, 100, 200, 500) if second < budget / 1.15
    ] + [budget]
    axis.xaxis.set_major_locator(FixedLocator(seconds))
    axis.set_xticklabels([f"{second:g}" for second in seconds])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(FixedLocator([1 - tick for tick in _TICKS]))
    axis.set_yticklabels([f"{100 * tick:.3g}" for tick in _TICKS[:-1]] + ["100"])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.25)
    axis.set_xlabel("seconds since the search began")
