"""What a preset is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Named(NamedTuple):
    """A network of the literature."""

    make: Callable[[], Any]
    """Returns its spec, not yet named."""
    source: str
    """Where it comes from, in a line."""
