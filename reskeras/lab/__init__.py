"""The lab: claims about residual networks as experiments that measure them and can fail.

Each function does one experiment on a network and returns a `Result`. `reskeras lab` is its
command.

Imports: reskeras.data, reskeras.lab.experiments, reskeras.models, reskeras.nets, reskeras.spec,
reskeras.training.
Imported by: reskeras.cli, reskeras.lab.doctor, reskeras.lab.experiments, tuning.tracking.
"""

import dataclasses
import enum
from collections.abc import Callable

from reskeras.lab.experiments.batchnorm import batchnorm
from reskeras.lab.experiments.degradation import degradation
from reskeras.lab.experiments.dense import dense
from reskeras.lab.experiments.gradients import gradients
from reskeras.lab.experiments.identity import identity
from reskeras.lab.experiments.nested import nested
from reskeras.lab.experiments.precision import precision
from reskeras.lab.experiments.shattered import shattered
from reskeras.lab.experiments.shortcuts import shortcuts
from reskeras.lab.experiments.start import start
from reskeras.lab.experiments.variance import variance
from reskeras.lab.result import Bound, Check, Result, Table, Verdict

__all__ = [
    "EXPERIMENTS",
    "Bound",
    "Check",
    "Experiment",
    "Input",
    "Result",
    "Table",
    "Verdict",
    "batchnorm",
    "degradation",
    "dense",
    "gradients",
    "identity",
    "nested",
    "precision",
    "shattered",
    "shortcuts",
    "start",
    "variance",
]


class Input(enum.Enum):
    """What an experiment does with data; the name of the argument that it takes them in."""

    IMAGES = "images"
    """It looks at a sample of training images [N,*sides,C], and trains nothing."""
    DATA = "data"
    """It trains networks on an `ImageData`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as the command line offers it."""

    run: Callable[..., Result]
    """From a spec (or None), `images` or `data` (or None), `seeds` and a `seed`."""
    takes: Input
    measures: str
    """What it measures, in a line."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.run.__name__

    @property
    def default_data(self) -> str:
        """What it takes if it is given no data, in words."""
        return "normal numbers" if self.takes is Input.IMAGES else "digits"


EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            run=variance,
            takes=Input.IMAGES,
            measures="the scale of activations and gradients after each block, before training",
        ),
        Experiment(
            run=gradients,
            takes=Input.IMAGES,
            measures="the gradient by depth: through the identity path alone, and the whole",
        ),
        Experiment(
            run=shattered,
            takes=Input.IMAGES,
            measures="the correlation of gradients of different images, by depth",
        ),
        Experiment(
            run=identity,
            takes=Input.DATA,
            measures="what each block of a trained network does, and the cost of removing it",
        ),
        Experiment(
            run=degradation,
            takes=Input.DATA,
            measures="the training loss of plain and of residual networks over depth",
        ),
        Experiment(
            run=shortcuts,
            takes=Input.DATA,
            measures="what kinds of shortcut leave of the gradient, and how well they train",
        ),
        Experiment(
            run=batchnorm,
            takes=Input.IMAGES,
            measures="what batch norm does to the scale of weights, and with how few images",
        ),
        Experiment(
            run=nested,
            takes=Input.DATA,
            measures="a trained network that grows: its outputs, then its training loss",
        ),
        Experiment(
            run=start,
            takes=Input.IMAGES,
            measures="what is negative in the input, behind a first block that begins with ReLU",
        ),
        Experiment(
            run=dense,
            takes=Input.DATA,
            measures="which earlier layers the layers of a DenseNet use",
        ),
        Experiment(
            run=precision,
            takes=Input.IMAGES,
            measures="the depth at which float16, bfloat16 and float32 overflow or lose the branch",
        ),
    )
}
"""All experiments by name."""
