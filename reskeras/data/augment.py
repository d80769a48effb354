"""Random changes to training images that keep their labels true."""

from typing import Any

from reskeras.spec import Augment
from reskeras.tasks import Task


def augmented(dataset: Any, augment: Augment, seed: int, task: Task, border: int = 0) -> Any:
    """Augments each (image, label) of an unbatched `tf.data.Dataset` at random (see `changed`)."""
    if augment == "none":
        return dataset
    import tensorflow as tf

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip((dataset, numbers))
    return pairs.map(
        lambda example, number: changed(example[0], example[1], augment, number, task, border),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def changed(
    image: Any, label: Any, augment: Augment, number: Any, task: Task, border: int = 0
) -> tuple[Any, Any]:
    """Augments an image [H,W,C] and its label by the given random numbers.

    `shift` pads an eighth of each side with zeros on all edges and crops at random (4 pixels at
    32x32: arXiv 1512.03385, Section 4.2). `shift_flip` also mirrors half of the images. If the task
    says so, a label with the sides of its image, [H,W] or [H,W,K], changes with it, and has the
    number `border` where the image is padded.
    """
    if augment == "none":
        return image, label
    import tensorflow as tf

    channels, both = image.shape[-1], image
    if task.label_follows_image:
        maps = label if label.shape.rank == 3 else label[..., tf.newaxis]
        maps = maps - border if border else maps  # and back below: all is padded with zeros
        both = tf.concat([image, tf.cast(maps, image.dtype)], axis=-1)
    height, width = image.shape[:2]
    padded = tf.pad(both, [[height // 8] * 2, [width // 8] * 2, [0, 0]])
    both = tf.image.stateless_random_crop(padded, both.shape, seed=[number, 0])
    if augment == "shift_flip":
        both = tf.image.stateless_random_flip_left_right(both, seed=[number, 1])
    if not task.label_follows_image:
        return both, label
    maps = tf.cast(tf.reshape(both[..., channels:], label.shape), label.dtype)
    return both[..., :channels], maps + border if border else maps
