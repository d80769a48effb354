"""Networks that several tasks start from."""

from typing import Any

from reskeras.errors import RequestError
from reskeras.spec import (
    AnySpec,
    BasicBlock,
    CifarStem,
    ImagenetStem,
    Level,
    PlainBlock,
    Recipe,
    ResNet,
    Stage,
    TrainSpec,
    UNet,
)
from reskeras.tasks.task import Facts

_EPOCHS = 6
_STEPS = 400
"""With fewer steps, networks for masks and points are hardly better than trivial answers."""

Start = tuple[Recipe, dict[str, Any]]
"""A base recipe and ranges by path, as `Task.default_space` returns them."""


def whole_image_space(facts: Facts, head: Any) -> Start:
    """A ResNet, for tasks with one answer for the whole image."""
    smaller = min(facts.image_shape[:-1])
    # Two stages for 8x8 digits, three for CIFAR, four after the 7x7 stem. More would pool small
    # images away.
    count = 2 if smaller < 16 else 3 if smaller < 64 else 4
    # ResNet-20's width between them. Smaller images cost little, so their networks may be wider.
    width = 32 if smaller < 16 else 16 if smaller < 64 else 64
    resnet = ResNet(
        input_shape=facts.image_shape,
        stem=CifarStem(width=width) if smaller < 64 else ImagenetStem(width=width),
        block=BasicBlock(),
        stages=tuple(
            Stage(blocks=1, width=width * 2**number, stride=2 if number else 1)
            for number in range(count)
        ),
        head=head,
    )
    recipe = Recipe(spec=resnet, train=_train(facts))
    return recipe, {"stages.*.blocks": {"low": 1, "high": 3}}


def _train(facts: Facts) -> TrainSpec:
    """How trials are trained: few images in smaller batches, which make more steps."""
    size, least = 64, 16
    # Images smaller than 16 pixels cost so little that steps are mostly overhead; 100 are enough.
    if facts.images is not None and min(facts.image_shape[:-1]) >= 16:
        while size > least and facts.images * _EPOCHS < _STEPS * size:
            size //= 2
    return TrainSpec(epochs=_EPOCHS, batch_size=size, learning_rate=5e-3)


def takes_whole_images(spec: AnySpec, noun: str) -> None:
    """Checks that a network has one answer for the whole image.

    Args:
        spec: the network.
        noun: what the data hold for each image, in the plural.

    Raises:
        ValueError: its head gives maps or features.
    """
    if spec.head.kind not in ("classifier", "numbers"):
        raise ValueError(
            f"the data have {noun}, one for each image, and need a head 'classifier' or 'numbers' "
            f"(the network is of the family {spec.family!r} with head {spec.head.kind!r})"
        )


def map_space(facts: Facts, head: Any, halvings: int = 3) -> Start:
    """A U-Net, for tasks with an answer for each pixel.

    Raises:
        RequestError: the images cannot be halved.
    """
    sides = facts.image_shape[:-1]
    possible = [n for n in range(halvings, 0, -1) if all(side % 2**n == 0 for side in sides)]
    if not possible:
        raise RequestError(
            f"images of {'x'.join(map(str, sides))} cannot be halved; a U-Net needs even sides"
        )
    unet = UNet(
        input_shape=facts.image_shape,
        block=PlainBlock(),
        stages=tuple(Level(width=16 * 2**number) for number in range(possible[0] + 1)),
        head=head,
    )
    recipe = Recipe(spec=unet, train=_train(facts))
    return recipe, {"stages.*.blocks": {"low": 1, "high": 2}}


def takes_maps(spec: AnySpec, noun: str) -> None:
    """Checks that a network can have a head with an answer for each pixel.

    Raises:
        ValueError: it cannot.
    """
    if spec.head.kind not in ("segmentation", "heatmap", "regression"):
        raise ValueError(
            f"the data have {noun} and need a network of the family 'unet' or 'hourglass', whose "
            f"head has an answer for each pixel (the network is of the family {spec.family!r} "
            f"with head {spec.head.kind!r})"
        )
    if spec.data_format == "channels_first":
        raise ValueError(f"{noun} are trained with data_format 'channels_last'")
