"""Random changes to training images, as values."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from reskeras.errors import did_you_mean
from reskeras.spec.scalars import CONFIG, Whole

AugmentWord = Literal["none", "shift", "shift_flip"]
"""Names of common augmentations."""

Flip = Literal["none", "horizontal", "vertical", "both"]

_Share = Annotated[float, Field(ge=0, le=1)]
_Alpha = Annotated[float, Field(ge=0, le=10)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ColorJitter:
    """Random changes of color, each uniform in its range and the same for a whole image."""

    brightness: _Share = 0.0
    """Adds up to this share of the range from black to white, or subtracts it."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Multiplies the distance from the mean of each channel by 1 - contrast to 1 + contrast."""
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Multiplies the saturation (of HSV) by 1 - saturation to 1 + saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Turns the hue by up to this share of the color circle."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class RandAugment:
    """A few changes, drawn for each image from fourteen (arXiv 1909.13719, Section 3)."""

    number: Annotated[Whole, Field(le=14)] = 0
    """How many changes an image gets: the paper's N."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """Their strength: the paper's M. 10 turns by 30 degrees."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Augmentation:
    """Random changes to training images that keep their labels true; by default there are none."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Moves by up to this share of each side, in whole pixels; zeros fill the border. An eighth is
    4 pixels at 32x32 (arXiv 1512.03385, Section 4.2)."""
    flip: Flip = "none"
    """Mirrors half of the images: left and right, top and bottom, or each side by a coin of its
    own (`both`). Of volumes [D,H,W,C], `horizontal` is W, `vertical` is H, `both` is all three."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Turns by up to this many degrees around the center; volumes in each plane of H and W."""
    scale: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Zooms by a factor from 1 / (1 + scale) to 1 + scale, uniform in its logarithm."""
    elastic: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Moves pixels by a smooth random field: bicubic between 3 random vectors along each side,
    whose components have this standard deviation, as a share of the side (arXiv 1505.04597, Section
    3.1: 10 of 512 pixels, 0.02)."""
    color: ColorJitter = ColorJitter()
    pca_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Adds multiples of the principal components of the training images' colors: of each, its
    eigenvalue times a normal number of this standard deviation (Krizhevsky et al. 2012, Section
    4.1: 0.1)."""
    erase: _Share = 0.0
    """The probability that a random box of an image becomes noise (arXiv 1708.04896)."""
    randaugment: RandAugment = RandAugment()
    mixup: _Alpha = 0.0
    """Replaces each image and target by a mean with another of the batch, weighted by Beta(mixup,
    mixup) (arXiv 1710.09412)."""
    cutmix: _Alpha = 0.0
    """Replaces a box of each image by that of another one of the batch, and mixes the targets by
    its share, which is drawn from Beta(cutmix, cutmix) (arXiv 1905.04899). With mixup, each batch
    gets one of both."""
    pairs: tuple[tuple[Whole, Whole], ...] = ()
    """Numbers of points that a mirror exchanges, such as the left and the right hand."""

    def __post_init__(self) -> None:
        numbers = [number for pair in self.pairs for number in pair]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"pairs: each point is in one pair only (got {self.pairs})")

    @property
    def moves(self) -> bool:
        """Whether it moves pixels by more than whole numbers."""
        return bool(self.rotate or self.scale or self.elastic or self.randaugment.number)

    @property
    def changes_images(self) -> bool:
        """Whether it changes images one by one, before they are in a batch."""
        shifts = self.shift or self.flip != "none" or self.moves
        return bool(shifts or self.color != ColorJitter() or self.pca_noise or self.erase)

    @property
    def mixes(self) -> bool:
        """Whether it mixes the images of a batch."""
        return bool(self.mixup or self.cutmix)


NO_AUGMENTATION = Augmentation()
AUGMENTATIONS: dict[AugmentWord, Augmentation] = {
    "none": NO_AUGMENTATION,
    "shift": Augmentation(shift=0.125),
    "shift_flip": Augmentation(shift=0.125, flip="horizontal"),
}


def word_of(augmentation: Augmentation) -> AugmentWord | None:
    """The name of an augmentation, if it has one."""
    return next((word for word, named in AUGMENTATIONS.items() if named == augmentation), None)


def _named(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    known = get_args(AugmentWord)
    if value not in known:
        raise ValueError(
            f"unknown value{did_you_mean(value, known)} (got {value!r}); known: "
            f"{', '.join(known)}, or a mapping such as {{shift: 0.1, rotate: 15}}"
        )
    return AUGMENTATIONS[value]  # type: ignore[index]


AugmentField = Annotated[
    Augmentation, BeforeValidator(_named, json_schema_input_type=AugmentWord | Augmentation)
]
"""An augmentation, or the name of one."""
