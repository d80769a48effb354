"""How images are flipped: without Keras, for the command line."""

import enum


class Flips(enum.Enum):
    """How images are flipped, whose answers are averaged."""

    HORIZONTAL = "horizontal"
    """Left and right change places."""
    VERTICAL = "vertical"
    """Top and bottom change places."""
    ALL = "all"
    """Along every side, and along all of them together."""

    def axes(self, rank: int) -> tuple[int, ...]:
        """The sides of an image with so many of them, of which the last runs to the right."""
        match self:
            case Flips.HORIZONTAL:
                return (rank - 1,)
            case Flips.VERTICAL:
                return (rank - 2,) if rank > 1 else ()
            case Flips.ALL:
                return tuple(range(rank))
