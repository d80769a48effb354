"""The input pipeline: shuffles, augments, batches and prefetches images.

A data set that fits in memory (`ImageData.in_memory`) is decoded once and gathered batch by batch;
a larger one is read in a random order and prefetched by `tf.data`. Images stay as they are stored,
mostly bytes, until they are in a batch or augmented.

The order of an epoch depends only on the seed and the number of the epoch, so an interrupted
training resumes with the images it would have seen, and images in memory, on disk and in files give
the same batches. (TFDS records that are not kept come in an order of their own, into which
`tf.data` also mixes the seed passed to `tf.random.set_seed`; the command line sets none.)
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from reskeras.data.augment import Augmenter, augmented, augmenter_of
from reskeras.data.images import RowReader, as_floats
from reskeras.data.mix import mixed
from reskeras.data.pixels import scaled
from reskeras.spec import Augmentation, TrainSpec
from reskeras.training.targets import Targets

_MIXES = 1
"""A stream of random numbers besides those of order and augmentation."""


class Feed:
    """Batches of a data set in the form one kind of network takes. Not thread-safe.

    Args:
        targets: the network's targets.
        shared: whether several devices share each batch, which rules out a pipeline that reads
            variables.
    """

    def __init__(self, targets: Targets, *, shared: bool = False) -> None:
        self._targets, self._data = targets, targets.data
        self._size = self._data.sizes["train"]
        self._shared = shared
        self._made: dict[Any, Any] = {}
        """Cache: splits as tensors, and pipelines."""

    def training(self, spec: TrainSpec, epoch: int) -> Any:
        """Batches (images, targets) of one epoch as a `tf.data.Dataset`; the last may be smaller.

        For data in memory, an iterator uses the order most recently requested when it yields its
        first batch.

        Raises:
            RequestError: images or labels do not have what `spec.augment` changes.
        """
        if not spec.augment.mixes:
            return self._unmixed(spec, epoch)
        import tensorflow as tf

        batches = self._unmixed(spec, epoch)
        random = np.random.default_rng([spec.seed, epoch, _MIXES])
        numbers = random.integers(2**31, size=math.ceil(self._size / spec.batch_size))
        pairs = tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensor_slices(numbers)))
        return pairs.map(
            lambda batch, number: mixed(
                batch[0],
                self._targets.dense(batch[1]),
                spec.augment,
                number,
                self._targets.crop,
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).prefetch(2)

    def _unmixed(self, spec: TrainSpec, epoch: int) -> Any:
        """As `training`, before images are mixed."""
        random, reader = np.random.default_rng([spec.seed, epoch]), self._data.reader
        if not self._data.in_memory and not isinstance(reader, RowReader):
            shuffled = self._data.shuffled("train", int(random.integers(2**31)))
            number = int(random.integers(2**31))
            images = augmented(shuffled, self._augmenter(spec.augment), number)
            return self._batched(self._counted(images, self._size), spec.batch_size)
        order, numbers = random.permutation(self._size), random.integers(2**31, size=self._size)
        if isinstance(reader, RowReader) and not self._data.in_memory:
            order = reader.epoch(epoch)[order]
            if not spec.augment.changes_images:
                return self._read(reader, "train", order, spec.batch_size)
            return self._augmented(reader, spec, order, numbers)
        if self._shared or spec.augment.mixes:
            return self._gathered(spec, lambda: (order, numbers))
        variables = self._once("order", self._order)
        for variable, value in zip(variables, (order, numbers), strict=True):
            variable.assign(value)
        read = lambda: [variable.read_value() for variable in variables]  # noqa: E731
        return self._once(
            ("training", spec.batch_size, spec.augment), lambda: self._gathered(spec, read)
        )

    def images(self, count: int, size: int) -> Iterator[Any]:
        """A random sample of training images without targets (`ImageData.sample`).

        Args:
            count: the number of images; all if there are fewer.
            size: images per batch.
        """
        import tensorflow as tf

        data = self._data
        if not data.in_memory and isinstance(data.reader, RowReader):
            read = data.reader.batches("train", data.sample(count), size)
            batches = read.map(lambda images, _: images).prefetch(1).as_numpy_iterator()
        else:
            images = data.sampled(count)
            batches = (images[start : start + size] for start in range(0, len(images), size))
        for batch in batches:
            yield self._targets.image(tf.convert_to_tensor(scaled(batch)))

    def split(self, name: str, size: int) -> Any:
        """Batches (images, targets) of a split in the order of the data, as a `tf.data.Dataset`."""
        reader, count = self._data.reader, self._data.sizes[name]
        if not self._data.in_memory:
            if isinstance(reader, RowReader):
                return self._read(reader, name, np.arange(count), size)
            return self._batched(self._counted(self._data.split(name), count), size)
        import tensorflow as tf

        def sliced() -> Any:
            whole = self._whole(name)
            numbers = tf.data.Dataset.range(math.ceil(count / size))
            return numbers.map(
                lambda n: self._scaled(
                    tf.nest.map_structure(lambda part: part[n * size : (n + 1) * size], whole)
                )
            ).prefetch(1)

        return self._once((name, size), sliced)

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _augmenter(self, augmentation: Augmentation) -> Augmenter:
        """Cached: colors are looked at once."""
        return self._once(  # type: ignore[no-any-return]
            ("augmenter", augmentation), lambda: augmenter_of(augmentation, self._data)
        )

    def _batched(self, examples: Any, size: int) -> Any:
        import tensorflow as tf

        return (
            self._targets.prepared(examples)
            .batch(size, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(2)
        )

    def _order(self) -> tuple[Any, Any]:
        """Host variables for an epoch's order and random numbers; the pipeline reads them."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            zeros = tf.zeros([self._size], tf.int64)
            return tf.Variable(zeros, trainable=False), tf.Variable(zeros, trainable=False)

    def _gathered(self, spec: TrainSpec, read: Callable[[], Any]) -> Any:
        """Reads order and numbers when an iterator yields its first batch.

        An iterator that is abandoned early therefore does not affect later ones.
        """
        import tensorflow as tf

        begin = tf.data.Dataset.range(1)
        if not spec.augment.changes_images:
            whole = self._whole("train")

            def batches(_: Any) -> Any:
                order = tf.convert_to_tensor(read()[0])
                starts = tf.data.Dataset.range(0, self._size, spec.batch_size)
                chosen = starts.map(lambda start: order[start : start + spec.batch_size])
                return chosen.map(
                    lambda places: self._scaled(
                        tf.nest.map_structure(lambda part: tf.gather(part, places), whole)
                    )
                )

            return self._counted(
                begin.flat_map(batches), math.ceil(self._size / spec.batch_size)
            ).prefetch(2)
        images, labels = self._data.tensors("train")
        augmenter = self._augmenter(spec.augment)

        def examples(_: Any) -> Any:
            def example(place: Any, number: Any) -> Any:
                return augmenter(scaled(tf.gather(images, place)), tf.gather(labels, place), number)

            return tf.data.Dataset.from_tensor_slices(tuple(read())).map(
                example, num_parallel_calls=tf.data.AUTOTUNE
            )

        return self._batched(self._counted(begin.flat_map(examples), self._size), spec.batch_size)

    def _read(self, reader: RowReader, split: str, order: Any, size: int) -> Any:
        """Reads batches of images of a source in an order."""
        import tensorflow as tf

        labels = reader.classes_of(split)
        if labels is None and self._targets.per_batch:
            pairs = reader.batches(split, order, size)
            return pairs.map(lambda *batch: self._scaled(batch)).prefetch(2)
        if labels is None:
            images = as_floats(reader.at(split, order))
            return self._batched(self._counted(images, len(order)), size)
        # Whole batches: images one by one take twice the time.
        targets = self._once(("targets", split), lambda: self._prepared(labels))
        wanted = tf.data.Dataset.from_tensor_slices(order).batch(size)
        pairs = tf.data.Dataset.zip((reader.batches(split, order, size), wanted))
        return pairs.map(
            lambda batch, places: self._scaled(
                (
                    batch[0],
                    tf.nest.map_structure(lambda part: tf.gather(part, places), targets),
                )
            )
        ).prefetch(2)

    def _augmented(self, reader: RowReader, spec: TrainSpec, order: Any, numbers: Any) -> Any:
        """Reads images of a source in an order, and augments each by its random number."""
        import tensorflow as tf

        images, augmenter = as_floats(reader.at("train", order)), self._augmenter(spec.augment)
        pairs = tf.data.Dataset.zip((images, tf.data.Dataset.from_tensor_slices(numbers)))
        changed_pairs = pairs.map(
            lambda example, number: augmenter(example[0], example[1], number),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return self._batched(self._counted(changed_pairs, self._size), spec.batch_size)

    def _prepared(self, labels: Any) -> Any:
        """The targets of all labels of a split, as tensors."""
        import tensorflow as tf

        targets = tf.data.Dataset.from_tensor_slices(labels).map(self._targets.target)
        return next(iter(targets.batch(len(labels))))

    def _scaled(self, batch: Any) -> Any:
        """A batch of stored images and targets in the form the network takes."""
        images, targets = batch
        if self._targets.per_batch:
            targets = self._targets.of_batch(targets)
        return self._targets.image(scaled(images)), targets

    def _counted(self, dataset: Any, size: int) -> Any:
        """Declares the cardinality: Keras' `fit` warns about a data set that ends unexpectedly."""
        import tensorflow as tf

        return dataset.apply(tf.data.experimental.assert_cardinality(size))

    def _whole(self, split: str) -> Any:
        """A whole split as tensors: images as they are stored, and targets."""

        def whole() -> Any:
            images, labels = self._data.tensors(split)
            return images, labels if self._targets.per_batch else self._prepared(labels)

        return self._once(("whole", split), whole)
