"""Costs of the networks of a space, by arithmetic."""

from collections.abc import Mapping
from typing import Any

from reskeras.errors import RequestError
from reskeras.nets.cost import cost
from tuning.space.space import Space


def depth_and_macs(space: Space, values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Depth and MACs of the network at a point; None if the values make no valid network."""
    try:
        found = cost(space.recipe(values).spec)
    except RequestError:  # the trial has failed, and says why
        return None
    return found.depth, found.macs
