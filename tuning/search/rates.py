"""The learning rates of a search, from a range test of its base network."""

from pathlib import Path

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.training.rates import range_test
from tuning.record.journal import read_header
from tuning.search.fitting import fitted
from tuning.space import Space, parse_space
from tuning.space.limits import Limits


def measured_rates(space: Space, data: ImageData, limits: Limits) -> Space:
    """A space whose learning rates a range test of its base network suggests.

    They are rounded to three digits. A space that does not vary the learning rate gets one.

    Args:
        space: the space.
        data: as for `tuning.tune`.
        limits: as for `tuning.tune`.

    Raises:
        RequestError: the base network does not fit the data, or exceeds the limits.
        RuntimeError: its loss falls at no learning rate.
    """
    space = fitted(space, data)
    if (refusal := limits.refusal(space.base)) is not None:
        raise RequestError(f"the range test trains the space's own network, which has {refusal}")
    found = range_test(space.base, data)
    return space.with_rates(
        *(float(f"{rate:.3g}") for rate in (found.low, found.high, found.suggested))
    )


def recorded_rates(space: Space, directory: Path) -> Space | None:
    """The space with the learning rates of the search in a folder; None if there is no search."""
    header = read_header(directory / "journal.jsonl")
    if header is None:
        return None
    old = parse_space(dict(header["space"]), where=str(directory))
    return space.with_rates_of(old)
