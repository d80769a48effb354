"""What a search may be told to do: its oracles by name."""

import enum

from reskeras.tasks import metric_of

ORACLES = ("asha", "tpe", "random", "bayesian", "hyperband", "grid", "nested")


def sign(objective: str) -> float:
    """What a score is multiplied by so that more is better: 1 or -1."""
    return metric_of(objective).sign


DEFAULT_ORACLE = "tpe"
"""The one that won benchmarks/search.py."""


class Strategy(enum.Enum):
    """How one trial uses several devices."""

    AUTO = "auto"
    """`tpu` where there is one, `mirrored` where there are several GPUs, else `none`."""
    NONE = "none"
    MIRRORED = "mirrored"
    """Each device takes a share of every batch, and gradients are averaged."""
    TPU = "tpu"
