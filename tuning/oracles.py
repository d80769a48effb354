"""Keras Tuner's oracles, with what would hurt a search mended by subclassing (keras-tuner 1.4.8)."""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import keras_tuner
from keras_tuner import oracles as kt
from sklearn.exceptions import ConvergenceWarning

from reskeras.errors import RequestError, did_you_mean
from tuning.settings import OBJECTIVES, ORACLES
from tuning.space import Space, sample


class _Journaled:
    """What all our oracles share: state lives in the search's journal, which rebuilds an oracle by replaying its trials.

    Keras Tuner's own state files are written without atomic replacement, miss the first trial, and cannot bring back a grid.
    """

    trials: dict[str, Any]
    get_space: Callable[[], Any]

    def save(self) -> None:
        """Nothing: the journal is the state."""

    def _save_trial(self, trial: Any) -> None:
        """Nothing: the journal is the state."""


class _BaseFirst(_Journaled):
    """The first trial is the space's base as its file has it: a known-good point, and a yardstick for the others."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Keras Tuner's hook: the values of the next trial."""
        if self.trials:
            return super().populate_space(trial_id)  # type: ignore[misc, no-any-return]
        hyperparameters = self.get_space()
        values = {hp.name: hp.default for hp in hyperparameters.space if hyperparameters.is_active(hp)}
        return {"status": "RUNNING", "values": values}


class RandomOracle(_BaseFirst, kt.RandomSearchOracle):  # type: ignore[misc]
    """Independent draws."""


class GridOracle(_Journaled, kt.GridSearchOracle):  # type: ignore[misc]
    """Every combination, ranges of floats in ten steps."""


class BayesianOracle(_BaseFirst, kt.BayesianOptimizationOracle):  # type: ignore[misc]
    """A Gaussian process over the trials so far; seconds of computing for each suggestion."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Keras Tuner's hook: the values of the next trial."""
        with warnings.catch_warnings():
            # A length scale at its bound says that a dimension does not matter yet: usual after a handful of trials.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)


class HyperbandOracle(_Journaled, kt.HyperbandOracle):  # type: ignore[misc]
    """Many short trials, of which the best are trained on (arXiv 1603.06560)."""


def make_oracle(name: str, space: Space, *, objective: str, seed: int, epochs: int) -> Any:
    """A Keras Tuner oracle over a space.

    Args:
        name: one of `ORACLES`.
        space: what it draws from.
        objective: one of `OBJECTIVES`.
        seed: of its draws.
        epochs: most epochs of one trial (hyperband's budget).

    Raises:
        RequestError: no oracle has this name.
    """
    hyperparameters = keras_tuner.HyperParameters()
    sample(hyperparameters, space)
    shared = {
        "objective": keras_tuner.Objective(objective, OBJECTIVES[objective]),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": derive_seed(seed, "oracle"),
        # A search decides by itself what it does about failures; Keras Tuner would raise and leave its lock held.
        "max_consecutive_failed_trials": 10**9,
    }
    match name:
        case "random":
            oracle: Any = RandomOracle(**shared)
        case "grid":
            oracle = GridOracle(**shared)
        case "bayesian":
            # Keras Tuner would first draw three points per dimension at random, which is all of a short search.
            oracle = BayesianOracle(num_initial_points=5, **shared)
        case "hyperband":
            oracle = HyperbandOracle(max_epochs=epochs, factor=3, hyperband_iterations=10**9, **shared)
        case _:
            raise RequestError(f"unknown oracle {name!r}{did_you_mean(name, ORACLES)} known: {', '.join(ORACLES)}")
    oracle.verbose = 0
    return oracle


def derive_seed(seed: int, *names: object) -> int:
    """A seed from 1 to 2^31 - 1 that is unrelated to those of other seeds and names.

    Keras Tuner takes 0 for no seed at all, and its neighbouring seeds share most of their trials.
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % (2**31 - 1) + 1
