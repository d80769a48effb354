"""Random changes to training images that leave their labels true."""

from typing import Any

from reskeras.spec import Augment


def augmented(dataset: Any, augment: Augment, seed: int) -> Any:
    """An unbatched `tf.data.Dataset` of (image, label or mask) with each image changed anew in every epoch.

    `shift` pads an eighth of each side with zeros on all edges and crops at random (4 pixels at 32x32: arXiv 1512.03385, Section
    4.2); `shift_flip` also mirrors half of the images. Masks are changed with their images.
    """
    if augment == "none":
        return dataset
    import tensorflow as tf

    def change(example: Any, number: Any) -> Any:
        image, label = example
        both = image
        masked = label.shape.rank == 2
        if masked:
            both = tf.concat([image, tf.cast(label, image.dtype)[..., tf.newaxis]], axis=-1)
        height, width = image.shape[:2]
        padded = tf.pad(both, [[height // 8] * 2, [width // 8] * 2, [0, 0]])
        random = [number, 0]
        both = tf.image.stateless_random_crop(padded, both.shape, seed=random)
        if augment == "shift_flip":
            both = tf.image.stateless_random_flip_left_right(both, seed=[number, 1])
        if masked:
            return both[..., :-1], tf.cast(both[..., -1], label.dtype)
        return both, label

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    return tf.data.Dataset.zip((dataset, numbers)).map(change, num_parallel_calls=tf.data.AUTOTUNE)
