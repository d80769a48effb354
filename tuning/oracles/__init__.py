"""Oracles, which suggest the trials of a search: Keras Tuner's, with fixes, and our own.

Written for keras-tuner 1.4.8. A new oracle takes a class here, a case in `make_oracle` and a row in
`tuning.settings.ORACLES`.

Imports: reskeras.nets, reskeras.spec, reskeras.tasks, tuning.space.
Imported by: tuning.search.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner

from reskeras.errors import RequestError, did_you_mean
from reskeras.tasks import metric_of
from tuning.oracles.base import SharedSpace, Values, fill
from tuning.oracles.nested import NestedOracle
from tuning.oracles.rules import HalvingRule, MedianRule
from tuning.oracles.stock import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle
from tuning.oracles.tpe import AshaOracle, TpeOracle
from tuning.settings import ORACLES
from tuning.space import Range, Space, label, sample

__all__ = ["make_oracle"]


def make_oracle(
    name: str,
    space: Space,
    *,
    objective: str,
    seed: int,
    epochs: int,
    start: Sequence[Mapping[str, Any]] = (),
) -> Any:
    """Makes a Keras Tuner oracle over a space.

    It can `recall` the suggestions of earlier sessions.

    All start with the base as its file has it: a known good point, and a reference for the others.
    `random`, `bayesian` and `tpe` stop trials by the median of earlier ones, `asha` by halving:
    report every epoch with `update_trial`, which says when to stop. `hyperband` and `nested`
    promote trials: a new trial starts with the weights of trial `tuner/trial_id`, trained for
    `tuner/initial_epoch` epochs, and trains up to epoch `tuner/epochs`.

    Args:
        name: one of `ORACLES`.
        space: the space to draw from.
        objective: one of `reskeras.tasks.OBJECTIVES`.
        seed: the seed of its draws.
        epochs: the most epochs of one trial.
        start: points to try right after the base: values by path; missing paths take the base's
            value. Not for `grid`, which reaches all points.

    Raises:
        RequestError: no oracle has this name, a start point is not in the space, or there are no
            depths to nest.
    """
    hyperparameters = SharedSpace()
    sample(hyperparameters, space)
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, metric_of(objective).better.value),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed,
    }
    first = [_point(hyperparameters, space, values) for values in ({}, *start)]
    match name:
        case "random":
            return RandomOracle(start=first, rule=MedianRule(), max_trials=None, **shared)
        case "bayesian":
            # By default, Keras Tuner first draws three random points per dimension, which is all of
            # a short search.
            return BayesianOracle(
                start=first, rule=MedianRule(), max_trials=None, num_initial_points=5, **shared
            )
        case "hyperband":
            return HyperbandOracle(start=first, epochs=epochs, **shared)
        case "grid":
            return GridOracle(**shared)
        case "asha":
            return AshaOracle(start=first, halving=HalvingRule(epochs), **shared)
        case "tpe":
            return TpeOracle(start=first, rule=MedianRule(), **shared)
        case "nested":
            return NestedOracle(start=first, space=space, epochs=epochs, **shared)
        case _:
            raise RequestError(
                f"unknown oracle {name!r}{did_you_mean(name, ORACLES) or ';'} "
                f"known: {', '.join(ORACLES)}"
            )


def _point(hyperparameters: Any, space: Space, given: Mapping[str, Any]) -> Values:
    """A start point as Keras Tuner's values of all active hyperparameters."""
    for path, value in given.items():
        match space.vary.get(path):
            case None:
                raise RequestError(
                    f"start: {path}: the space does not vary it"
                    f"{did_you_mean(path, list(space.vary))}"
                )
            case Range(low=low, high=high):
                if (
                    isinstance(value, str | bool)
                    or not low <= value <= high
                    or (space.is_whole(path) and value != int(value))
                ):
                    raise RequestError(
                        f"start: {path}: {value!r} is not in the range {low:g} to {high:g}"
                    )
            case values if label(value) not in map(label, values):
                raise RequestError(
                    f"start: {path}: {value!r} is not one of {', '.join(map(label, values))}"
                )

    def value_of(hp: Any) -> Any:
        value = given.get(hp.name, hp.default)
        return label(value) if isinstance(hp.default, str) else value

    return fill(hyperparameters.space, value_of)
