"""What chance explains: how far the mean of a few seeds may be from the true one."""

import math
from collections.abc import Sequence

import numpy as np

_CERTAIN = 0.99
"""How often a right claim passes, one-sided."""


def margin(values: Sequence[float]) -> float:
    """How far the mean of S values may lie on one side of the true mean, in 99 % of all cases.

    Student's t with S - 1 degrees of freedom (Student, Biometrika 6, 1908), times the standard
    error of the mean. It assumes that means of S values are nearly normal.
    """
    from scipy.stats import t

    found = np.asarray(values, "float64")
    error = found.std(ddof=1) / math.sqrt(len(found))
    return float(t.ppf(_CERTAIN, len(found) - 1) * error)


def too_few(ranks: Sequence[float]) -> str:
    """Why so few rank correlations prove nothing; empty if they can: none is beyond 1."""
    return "chance explains any rank of so few trainings" if margin(ranks) >= 1 else ""
