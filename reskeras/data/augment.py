"""Random changes to training images that leave their labels true."""

from typing import Any

from reskeras.spec import Augment


def augmented(dataset: Any, augment: Augment, seed: int) -> Any:
    """An unbatched `tf.data.Dataset` of (image, label or mask) with each image changed at random (see `changed`)."""
    if augment == "none":
        return dataset
    import tensorflow as tf

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip((dataset, numbers))
    return pairs.map(
        lambda example, number: changed(example[0], example[1], augment, number),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def changed(image: Any, label: Any, augment: Augment, number: Any) -> tuple[Any, Any]:
    """An image [H,W,C] with its label, or its mask [H,W], changed as a random number says.

    `shift` pads an eighth of each side with zeros on all edges and crops at random (4 pixels at 32x32: arXiv 1512.03385, Section
    4.2); `shift_flip` also mirrors half of the images. Masks are changed with their images.
    """
    if augment == "none":
        return image, label
    import tensorflow as tf

    both = image
    masked = label.shape.rank == 2
    if masked:
        both = tf.concat([image, tf.cast(label, image.dtype)[..., tf.newaxis]], axis=-1)
    height, width = image.shape[:2]
    padded = tf.pad(both, [[height // 8] * 2, [width // 8] * 2, [0, 0]])
    both = tf.image.stateless_random_crop(padded, both.shape, seed=[number, 0])
    if augment == "shift_flip":
        both = tf.image.stateless_random_flip_left_right(both, seed=[number, 1])
    if masked:
        return both[..., :-1], tf.cast(both[..., -1], label.dtype)
    return both, label
