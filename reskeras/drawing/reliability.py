"""A reliability diagram: how often answers are right, by how sure they are."""

from collections.abc import Sequence
from typing import Any

from reskeras.drawing.palette import BODY, FAINT, GRAY, HAIR, INK, RAMP, SMALL


def reliability(bins: Sequence[tuple[int, float, float, float, float]]) -> Any:
    """The share of right answers above their confidence, and how many answers there are below.

    Args:
        bins: for each, how many answers, their mean probability, the share that is right, and the
            interval of this share.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    counts, sure, right, low, high = zip(*bins, strict=True)
    figure = Figure(figsize=(4.4, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--", label="calibrated")
    errors = [
        [share - least for share, least in zip(right, low, strict=True)],
        [most - share for share, most in zip(right, high, strict=True)],
    ]
    above.errorbar(
        sure,
        right,
        yerr=errors,
        color=RAMP[1],
        ecolor=RAMP[0],
        marker="o",
        markersize=4,
        linewidth=1,
        elinewidth=1.5,
        label="these answers, 95 % intervals",
    )
    above.set_ylabel("share that is right", fontsize=BODY, color=INK)
    above.set_ylim(-0.02, 1.02)
    above.legend(loc="upper left", fontsize=SMALL, frameon=False, labelcolor=INK)
    below.bar(sure, counts, width=0.04, color=RAMP[0])
    below.set_yscale("log")
    below.set_ylim(0.5)
    below.set_ylabel("answers", fontsize=BODY, color=INK)
    below.set_xlabel("probability of the answer", fontsize=BODY, color=INK)
    for axis in (above, below):
        axis.set_xlim(-0.02, 1.02)
        axis.grid(color=HAIR, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(colors=GRAY, labelsize=SMALL, length=0)
        axis.spines[:].set_color(FAINT)
    return figure
