"""What a preset is."""

from collections.abc import Callable
from typing import NamedTuple

from reskeras.spec import AnySpec


class Named(NamedTuple):
    """A network of the literature."""

    make: Callable[[], AnySpec]
    """Returns its spec, not yet named."""
    source: str
    """Where it comes from, in a line."""
