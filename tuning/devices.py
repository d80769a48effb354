"""The devices of one trial."""

import contextlib
from typing import Any

import keras

from reskeras.errors import RequestError
from tuning.settings import Strategy


def strategy_scope(strategy: Strategy) -> Any:
    """The scope in which a network is built to be trained under a strategy.

    Raises:
        RequestError: there are no such devices.
    """
    match strategy:
        case Strategy.NONE | Strategy.AUTO:
            return contextlib.nullcontext()
        case _:
            raise RequestError(f"--strategy {strategy.value} is not there yet on {keras.backend.backend()}")
