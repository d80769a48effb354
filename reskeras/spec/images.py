"""The images that a network takes."""

import math

from reskeras.errors import RequestError
from reskeras.spec.families import AnySpec
from reskeras.spec.scalars import ImageShape


def image_shape(spec: AnySpec) -> ImageShape:
    """The sides and channels of the images (or signals, or volumes) that a network takes.

    A fully connected network takes square images of one channel.

    Raises:
        RequestError: the network does not take images.
    """
    match spec.input_shape:
        case (size,) if math.isqrt(size) ** 2 == size:
            return math.isqrt(size), math.isqrt(size), 1
        case (_, _, *_) as shape:
            return shape
        case shape:
            raise RequestError(
                f"{spec.name} takes inputs of shape {list(shape)}, which are not images"
            )
