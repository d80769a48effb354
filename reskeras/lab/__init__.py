"""The lab: claims about residual networks as experiments that measure them and can fail.

Each function does one experiment on a network and returns a `Result`. `reskeras lab` is its
command.

Imports: reskeras.lab.experiments, reskeras.models, reskeras.nets, reskeras.spec.
Imported by: reskeras.cli, reskeras.lab.experiments, tuning.tracking.
"""

import dataclasses
from collections.abc import Callable

from reskeras.lab.experiments.variance import variance
from reskeras.lab.result import Check, Result, Table, Verdict

__all__ = [
    "EXPERIMENTS",
    "Check",
    "Experiment",
    "Result",
    "Table",
    "Verdict",
    "variance",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as the command line offers it."""

    run: Callable[..., Result]
    """From a spec (or None), images, seeds and a seed."""
    measures: str
    """What it measures, in a line."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.run.__name__


EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            run=variance,
            measures="the scale of activations and gradients after each block, before training",
        ),
    )
}
"""All experiments by name."""
