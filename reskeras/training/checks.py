"""Whether data can be trained on as a training says, before anything is computed."""

import math

from reskeras.data.augment import check_augmentation
from reskeras.data.images import ImageData
from reskeras.errors import RequestError
from reskeras.models.inputs import Layout
from reskeras.spec import Augmentation, TrainSpec
from reskeras.training.stopping import Stopping


def check_training(train: TrainSpec, data: ImageData) -> None:
    """Checks all of a training that does not depend on its network.

    Raises:
        RequestError: the data were resized in another way, have no such augmentation or too few
            batches for one step, or their task has no such loss, weights or metric to stop by.
    """
    if train.resize not in (None, data.resize):
        raise RequestError(
            f"train.resize is {train.resize!r}, but the data were opened with {data.resize!r}; "
            f"open them with DataOptions(resize={train.resize!r})"
        )
    batches = train.epochs * math.ceil(data.sizes["train"] / train.batch_size)
    if train.accumulate > batches:
        raise RequestError(
            f"train.accumulate: a step takes {train.accumulate:,} batches, but the training has "
            f"{batches:,}"
        )
    data.task.check(train)
    check_augmentation(train.augment, data.task.labels, data.image_shape, data.classes)
    if train.stop_early is not None:
        Stopping(train.stop_early, data.task)


def check_mixes(
    augmentation: Augmentation, *, layout: Layout, channels: int, ignores: bool
) -> None:
    """Checks that a network can train on images that are mixed, if they are.

    Args:
        augmentation: what may mix them.
        layout: in which the network takes images.
        channels: of the network's last head.
        ignores: whether labels are masks with pixels without a class.

    Raises:
        RequestError: it cannot.
    """
    if augmentation.mixes and ignores and channels == 1:
        raise RequestError(
            "train.augment: mixup and cutmix: pixels without a class need a head of at least two "
            "channels"
        )
    if augmentation.cutmix and layout is not Layout.CHANNELS_LAST:
        raise RequestError(
            "train.augment.cutmix: boxes are cut from images with channels last, and the network "
            f"takes them {layout.value.replace('_', ' ')}"
        )
