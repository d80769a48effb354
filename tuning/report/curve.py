"""The learning curve of one trial as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reskeras.drawing.palette import BLUE, FAINT, FONT, GRAY, INK, ROSE, SMALL
from reskeras.drawing.plot import save
from reskeras.tasks import LOSS, metric_of
from tuning.record.entries import EpochRecord


def curve_plot(epochs: Sequence[EpochRecord], objective: str, path: Path) -> Path:
    """Draws loss and objective over epochs into an .svg or .png file.

    Raises:
        RequestError: another suffix, or a file that cannot be written.
    """
    return save(path, lambda: _figure(epochs, objective))


def _figure(epochs: Sequence[EpochRecord], objective: str) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [
        (name, f"val_{name}") for name in dict.fromkeys((LOSS.name, metric_of(objective).name))
    ]
    page = Figure(figsize=(3.6 * len(panels), 2.6), dpi=100)
    page.subplots_adjust(left=0.17 / len(panels), right=0.98, top=0.96, bottom=0.19, wspace=0.24)
    numbers = [record.epoch for record in epochs]
    for axes, names in zip(page.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, color in zip(names, (ROSE.edge, BLUE.edge), strict=True):
            values = [record.metrics.get(name, float("nan")) for record in epochs]
            axes.plot(
                numbers, values, color=color, marker="o", markersize=3, linewidth=1.4, label=name
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epochs", fontsize=SMALL, color=GRAY, fontfamily=list(FONT))
        axes.tick_params(
            colors=FAINT, labelcolor=INK, labelsize=SMALL, length=3, labelfontfamily=FONT[0]
        )
        axes.legend(frameon=False, prop={"family": list(FONT), "size": SMALL}, labelcolor=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(FAINT)
    return page
