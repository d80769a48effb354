"""The kinds of label: what data can hold for each image. A task takes one of them."""

import enum
from collections.abc import Sequence


class Labels(enum.Enum):
    """What data hold for each image [*sides, C], and the array that it is."""

    CLASS = "class"
    """The number of its class: int32, []."""
    CLASSES = "classes"
    """For each class, whether it is there: float32 [K] of 0 and 1."""
    NUMBERS = "numbers"
    """Numbers: float32 [K]."""
    POINTS = "points"
    """Points: float32 [K, 2], each x (to the right) and y (down) in pixels of the image. The center
    of the first pixel is (0, 0). A point that is not there is NaN."""
    MASK = "mask"
    """The number of the class of each pixel: int32 [*sides]."""
    IMAGE = "image"
    """Another image of the same sides, with K channels: bytes or float32 [*sides, K]."""

    def shape(self, image_shape: Sequence[int], count: int) -> tuple[int, ...]:
        """The shape of one label.

        Args:
            image_shape: of the image as the network sees it, channels last.
            count: how many classes, numbers, points or channels (K).
        """
        sides = tuple(image_shape[:-1])
        match self:
            case Labels.CLASS:
                return ()
            case Labels.CLASSES | Labels.NUMBERS:
                return (count,)
            case Labels.POINTS:
                return (count, 2)
            case Labels.MASK:
                return sides
            case Labels.IMAGE:
                return (*sides, count)

    def told(self, count: int) -> str:
        """How many, in words that end a sentence: `in 10 classes`."""
        match self:
            case Labels.CLASS | Labels.MASK:
                return f"in {count} classes"
            case Labels.CLASSES:
                return f"with any of {count} classes"
            case Labels.NUMBERS:
                return "with a number" if count == 1 else f"with {count} numbers"
            case Labels.POINTS:
                return "with a point" if count == 1 else f"with {count} points"
            case Labels.IMAGE:
                return f"with images of {count} channel{'' if count == 1 else 's'}"

    @property
    def dtype(self) -> str:
        """The NumPy type that a network is trained on."""
        return "int32" if self in (Labels.CLASS, Labels.MASK) else "float32"

    @property
    def has_sides(self) -> bool:
        """Whether a label has the sides of its image, and is cut, shifted and turned with it."""
        return self in (Labels.MASK, Labels.IMAGE)

    @property
    def follows_image(self) -> bool:
        """Whether a label changes when its image is cut, shifted or turned."""
        return self.has_sides or self is Labels.POINTS
