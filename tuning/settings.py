"""Settings of a search: its oracles and their traits, its objective, its devices."""

import dataclasses
import enum
from collections.abc import Mapping

from reskeras.tasks import metric_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class OracleTraits:
    """Traits of an oracle that reports need."""

    unbiased: bool = False
    """Whether it tries bad points as often as good ones."""


ORACLES: Mapping[str, OracleTraits] = {
    "asha": OracleTraits(),
    "tpe": OracleTraits(),
    "random": OracleTraits(unbiased=True),
    "bayesian": OracleTraits(),
    "hyperband": OracleTraits(),
    "grid": OracleTraits(unbiased=True),
    "nested": OracleTraits(),
}
"""The oracles by name; `tuning.oracles.make_oracle` has their classes."""


def sign(objective: str) -> float:
    """Factor of a score that makes larger values better: 1 or -1."""
    return metric_of(objective).sign


DEFAULT_ORACLE = "tpe"
"""The winner of benchmarks/search.py."""


class Strategy(enum.Enum):
    """How one trial uses several devices."""

    AUTO = "auto"
    """`tpu` on a TPU, `mirrored` with several GPUs, otherwise `none`."""
    NONE = "none"
    MIRRORED = "mirrored"
    """Each device takes a share of every batch, and gradients are averaged."""
    TPU = "tpu"
