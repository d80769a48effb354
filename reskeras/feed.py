"""Images on their way to a network: in the order of an epoch, changed, in batches; never later than the network wants them.

A data set that fits in memory (`ImageData.in_memory`) is decoded once and gathered batch by batch; a larger one is read, shuffled
and prefetched by `tf.data`. The order of an epoch follows from a seed and the epoch's number alone, so that a training that was
interrupted goes on with the images that it would have seen.
"""

import math
from typing import Any

import numpy as np
from keras import tree

from reskeras.data.augment import augmented, changed
from reskeras.recalibration import MOST_RECALIBRATED
from reskeras.spec import Augment
from reskeras.targets import Targets

_SHUFFLED = 50_000
"""Images that the shuffle buffer of a data set outside memory holds."""
_SCORED = 1024
"""Images that are scored together, at most."""


class Feed:
    """The batches of a data set as one kind of network takes them.

    Args:
        targets: of the network.
        batch_size: of training.
        augment: what is done to training images.
        distributed: whether several devices share each batch, which a pipeline that reads variables does not allow.
    """

    def __init__(self, targets: Targets, batch_size: int, augment: Augment, *, distributed: bool = False) -> None:
        self._distributed = distributed
        self._targets, self._batch_size, self._augment = targets, batch_size, augment
        self._size = targets.data.sizes["train"]
        self.steps = math.ceil(self._size / batch_size)
        """Batches of an epoch."""
        self._splits: dict[str, Any] = {}
        self._gathered: Any = None

    def training(self, seed: int, epoch: int) -> Any:
        """Batches (images, targets) of one epoch, the last one smaller; a `tf.data.Dataset`."""
        random = np.random.default_rng([seed, epoch])
        if self._distributed or not self._targets.data.in_memory:
            images = self._targets.data.split("train")
            shuffled = images.shuffle(min(self._size, _SHUFFLED), seed=int(random.integers(2**31)), reshuffle_each_iteration=False)
            return self._batched(augmented(shuffled, self._augment, int(random.integers(2**31))), self._batch_size)
        import tensorflow as tf

        if self._gathered is None:
            # The pipeline is made once, and reads the order and the random numbers of an epoch from these.
            self._order = tf.Variable(tf.zeros([self._size], tf.int64), trainable=False)
            self._numbers = tf.Variable(tf.zeros([self._size], tf.int64), trainable=False)
            self._gathered = self._gather(tf.data.Dataset.range(self.steps))
        self._order.assign(random.permutation(self._size))
        self._numbers.assign(random.integers(2**31, size=self._size))
        return self._gathered

    def images(self, size: int) -> Any:
        """The training images without their targets, in their own order, in batches of a size."""
        if self._targets.data.in_memory:
            whole = self._whole("train")[0][:MOST_RECALIBRATED]
            return [whole[start : start + size] for start in range(0, len(whole), size)]
        images = self._targets.data.split("train").take(MOST_RECALIBRATED)
        return images.map(lambda image, _: self._targets.image(image)).batch(size).prefetch(1)

    def split(self, name: str) -> Any:
        """Batches (images, targets) of a split, in its own order."""
        if self._targets.data.in_memory:
            images, targets = self._whole(name)
            starts = range(0, len(images), _SCORED)
            return [tree.map_structure(lambda part, at=at: part[at : at + _SCORED], (images, targets)) for at in starts]
        return self._batched(self._targets.data.split(name), 256)

    def _batched(self, examples: Any, size: int) -> Any:
        import tensorflow as tf

        return self._targets.prepared(examples).batch(size, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    def _gather(self, numbers: Any) -> Any:
        import tensorflow as tf

        if self._augment == "none":
            whole = self._whole("train")

            def batch(number: Any) -> Any:
                chosen = self._order[number * self._batch_size : (number + 1) * self._batch_size]
                return tf.nest.map_structure(lambda part: tf.gather(part, chosen), whole)

            return numbers.map(batch).prefetch(2)
        images, labels = self._targets.data.tensors("train")

        def example(place: Any) -> Any:
            chosen = self._order[place]
            return changed(images[chosen], labels[chosen], self._augment, self._numbers[place])

        examples = tf.data.Dataset.range(self._size).map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return self._batched(examples, self._batch_size)

    def _whole(self, split: str) -> Any:
        """A split as the network takes it, (images, targets), as tensors."""
        if split not in self._splits:
            import tensorflow as tf

            images, labels = self._targets.data.tensors(split)
            prepared = self._targets.prepared(tf.data.Dataset.from_tensor_slices((images, labels)))
            self._splits[split] = next(iter(prepared.batch(len(images))))
        return self._splits[split]
