"""The records of a TFDS data set, and their images and labels as a network gets them."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from reskeras.data.decode import BadImageError, Facts
from reskeras.data.images import SAMPLE_SEED, Places, Reader
from reskeras.data.kinds import enlarged, points_outside
from reskeras.data.labels import numbered, without_a_class
from reskeras.data.pixels import moved_points, resized, resized_mask, scaled
from reskeras.data.restored import middle
from reskeras.data.tfds_features import Chosen, Field, Label
from reskeras.data.tfds_places import BLOCK, Serialized, cycle_of, streams
from reskeras.data.tfds_prepare import builder_of
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize

_SHUFFLED_BYTES = 256 << 20
"""Size of the shuffle buffer, in bytes of stored records."""
_SAMPLED_BYTES = 256 << 20
"""Files of about this size are read to learn the sizes of images."""
_SAMPLED = 1_000
"""Images whose sizes are looked at."""
WHITE_16 = 65535.0
"""The white of images of 16 bits."""
COLORS = 3
"""Channels of images to be made, if their feature does not say it."""
_BYTES = 256
"""The number of values of a byte."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Records of a TFDS split that follow one another."""

    split: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        return max(0, self.stop - self.start)

    def __and__(self, other: "Range") -> "Range":
        """The records of both; their size is 0 if there are none."""
        if self.split != other.split:
            return Range(self.split, 0, 0)
        return Range(self.split, max(self.start, other.start), min(self.stop, other.stop))


@dataclasses.dataclass(frozen=True)
class Part:
    """The records of one of our splits."""

    spec: str
    """Where they are, as TFDS writes it."""
    ranges: tuple[Range, ...]
    """The same."""
    places: Places | None = None
    """Which of these; None: all."""

    @property
    def whole(self) -> int:
        """The number of records at `ranges`."""
        return sum(some.size for some in self.ranges)

    @property
    def size(self) -> int:
        return self.whole if self.places is None else len(self.places)

    @property
    def digest(self) -> str:
        return self.spec if self.places is None else f"{self.spec}~{self.size}"


class Records:
    """Opens the records of a data set with two features, undecoded.

    One after another, as `tf.data` reads fastest; `at` takes any place.
    """

    def __init__(
        self, name: str, data_dir: str | None, parts: Mapping[str, Part], chosen: Chosen
    ) -> None:
        self.name, self.chosen = name, chosen
        self._data_dir, self._parts = data_dir, parts
        self._serialized = Serialized(name, data_dir)
        self._orders: dict[str, Places] = {}
        self._partials: dict[tuple[str, ...], tuple[Any, Any]] = {}

    def of(self, chosen: Chosen) -> "Records":
        """The same records, with other features."""
        return Records(self.name, self._data_dir, self._parts, chosen)

    def stored(self, split: str, *fields: Field, seed: int | None = None) -> Any:
        """A split in its stored order or, with a seed, its files in a random one.

        Args:
            split: ours.
            fields: features that are read; by default, the image and its label.
            seed: for the order of files.
        """
        part = self._parts[split]
        # The places of records are those of the stored order.
        records = self._read(part.spec, fields, seed if part.places is None else None)
        return records if part.places is None else at(records, part.places)

    def shuffled(self, split: str, seed: int) -> Any:
        """A split in a random order that follows from the seed."""
        buffer = max(1_000, _SHUFFLED_BYTES // self._mean(split))
        return self.stored(split, seed=seed).shuffle(
            min(self._parts[split].size, buffer), seed=seed, reshuffle_each_iteration=False
        )

    def check_random_access(self) -> None:
        """Raises RequestError unless `at` can read all records."""
        for part in self._parts.values():
            self._serialized.check(part.spec)

    def at(self, split: str, place: int, *fields: Field) -> Any:
        """A record at a place of the stored order, as NumPy has it.

        Args:
            split: ours.
            place: counted from 0.
            fields: as in `stored`.

        Raises:
            RequestError: the files have no random access, or are damaged.
        """
        partial, features = self._partial(fields)
        where = int(self._order(split)[place])
        record = self._serialized.read(self._parts[split].spec, where)
        return features.deserialize_example_np(record, decoders=partial.decoders)

    def called(self, split: str, place: int) -> str:
        """What TFDS calls a record of the stored order: `train[17]`."""
        where = int(self._order(split)[place])
        for some in self._parts[split].ranges:
            if where < some.size:
                return f"{some.split}[{some.start + where}]"
            where -= some.size
        raise IndexError(f"{split}[{place}]")

    def _order(self, split: str) -> Places:
        """Where the records of the stored order are, in the order of the files."""
        if split not in self._orders:
            part = self._parts[split]
            order = self._serialized.order(part.spec)
            self._orders[split] = order if part.places is None else order[np.sort(part.places)]
        return self._orders[split]

    def some(self, split: str, *fields: Field) -> Any:
        """Random records from where a split is, from a few random files if these are large."""
        random = np.random.default_rng(SAMPLE_SEED)
        files = self._files(split)
        chosen: list[Range] = []
        most = _SAMPLED_BYTES // self._mean(split)
        for number in random.permutation(len(files)):
            if sum(some.size for some in chosen) < most:
                chosen.append(files[number])
        size = sum(some.size for some in chosen)
        spec = "+".join(f"{some.split}[{some.start}:{some.stop}]" for some in chosen)
        return at(self._read(spec, fields, None), random.permutation(size)[:_SAMPLED])

    @property
    def size_on_disk(self) -> int:
        """The number of bytes of all records, about."""
        return sum(self._mean(split) * part.size for split, part in self._parts.items())

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the data set says of itself besides its features."""
        return builder_of(self.name, self._data_dir).info.metadata or {}

    @property
    def digest(self) -> str:
        """Differs for other records under the same name: of their sizes, and of the first ones."""
        digest = hashlib.sha256()
        splits = builder_of(self.name, self._data_dir).info.splits
        for name, split in sorted(splits.items()):
            digest.update(f"{name} {split.num_bytes} {split.shard_lengths} ".encode())
        for split in self._parts:
            for record in self._read(self._parts[split].spec, (), None).take(1).as_numpy_iterator():
                for field in (self.chosen.image, self.chosen.label):
                    digest.update(np.asarray(field.of(record)).tobytes())
        return digest.hexdigest()[:16]

    def _files(self, split: str) -> list[Range]:
        """The ranges of a split, cut where files end."""
        splits, found = builder_of(self.name, self._data_dir).info.splits, []
        for some in self._parts[split].ranges:
            stop = 0
            for length in splits[some.split].shard_lengths:
                start, stop = stop, stop + length
                found.append(Range(some.split, start, stop) & some)
        return [some for some in found if some.size]

    def _mean(self, split: str) -> int:
        """The mean number of bytes of a record."""
        splits = builder_of(self.name, self._data_dir).info.splits
        theirs = splits[self._parts[split].ranges[0].split]
        return max(1, int(theirs.num_bytes) // max(1, int(theirs.num_examples)))

    def _read(self, spec: str, fields: Sequence[Field], seed: int | None) -> Any:
        import tensorflow as tf
        import tensorflow_datasets as tfds

        partial, features = self._partial(fields)
        builder = builder_of(self.name, self._data_dir)
        if streams(builder):
            return builder.as_dataset(
                split=spec,
                shuffle_files=seed is not None,
                read_config=tfds.ReadConfig(
                    shuffle_seed=seed,
                    # Shuffled files are meant, even if the records are in an order.
                    enable_ordering_guard=False,
                    interleave_cycle_length=cycle_of(builder),
                    interleave_block_length=BLOCK,
                ),
                decoders=partial,
            )
        places = self._serialized.order(spec)
        if seed is not None:
            places = np.random.default_rng(seed).permutation(places)

        def record(place: Any) -> Any:
            read = lambda place: self._serialized.read(spec, int(place))  # noqa: E731
            found = tf.ensure_shape(tf.numpy_function(read, [place], tf.string), [])
            return features.deserialize_example(found, decoders=partial.decoders)

        return tf.data.Dataset.from_tensor_slices(places).map(
            record, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _partial(self, fields: Sequence[Field]) -> tuple[Any, Any]:
        """How TFDS is told to read these features alone, and these features.

        By default, of the image and its label. Images are not decoded.
        """
        import tensorflow_datasets as tfds

        key = tuple(field.path for field in fields)
        if key not in self._partials:
            fields = fields or (self.chosen.image, self.chosen.label)
            encoded = [field for field in fields if field.is_encoded]
            partial = tfds.decode.PartialDecoding(
                _merged(field.spec(True) for field in fields),
                decoders=_merged(field.spec(tfds.decode.SkipDecoding()) for field in encoded),
            )
            features = builder_of(self.name, self._data_dir).info.features
            self._partials[key] = partial, partial.extract_features(features)
        return self._partials[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_orders": {}, "_partials": {}}


def _merged(specs: Any) -> dict[str, Any]:
    """Nested dictionaries as one."""
    merged: dict[str, Any] = {}
    for spec in specs:
        for key, value in spec.items():
            below = isinstance(value, dict) and key in merged
            merged[key] = _merged([merged[key], value]) if below else value
    return merged


def at(records: Any, places: Places) -> Any:
    """The records at these places, in the order of `records`."""
    import tensorflow as tf

    wanted = tf.constant(np.isin(np.arange(int(places.max()) + 1), places))
    numbered = records.take(len(wanted)).enumerate()
    found = numbered.filter(lambda number, _: wanted[number]).map(lambda _, record: record)
    return found.apply(tf.data.experimental.assert_cardinality(len(places)))


def looked_at(records: Records) -> list[Facts]:
    """Facts about a random sample of the training images, which are not decoded."""
    image = records.chosen.image
    try:
        return [
            facts_of(image.of(record), image)
            for record in records.some("train", image).as_numpy_iterator()
        ]
    except BadImageError as error:
        raise RequestError(f"data set {records.name!r} holds a damaged image") from error


def facts_of(value: Any, field: Field) -> Facts:
    """Facts about an image that is not decoded.

    Raises:
        BadImageError: it is none.
    """
    if field.is_encoded:
        try:
            with Image.open(io.BytesIO(value)) as opened:
                size, gray = opened.size[::-1], opened.mode in ("1", "L", "LA", "I", "I;16")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise BadImageError("damaged, or no image") from error
    else:
        size, gray = value.shape[:2], value.shape[2] == 1
    return Facts(digest="", size=size, gray=gray, deep=None, frames=1)


def numbers_of(records: Records, split: str) -> np.ndarray[Any, Any]:
    """The labels of a split [N] that are whole numbers."""
    label = records.chosen.label
    values = records.stored(split, label).map(label.of).batch(4096).as_numpy_iterator()
    return np.concatenate([np.asarray(some).astype(np.int64) for some in values])


def floats_of(records: Records) -> np.ndarray[Any, Any]:
    """The training labels [N,K] that are numbers."""
    label = records.chosen.label
    values = records.stored("train", label).map(label.of).batch(4096).as_numpy_iterator()
    found = np.concatenate([np.asarray(some, np.float64) for some in values])
    return found.reshape(len(found), -1)


def mask_values(records: Records) -> list[int]:
    """The values of the training masks, in order.

    Raises:
        RequestError: they are in colors.
    """
    import tensorflow as tf

    label = records.chosen.label

    def one(record: Any) -> Any:
        mask = label.feature.decode_example(label.of(record))
        values = tf.reshape(tf.cast(mask[..., 0], tf.int32), [-1])
        counts = tf.math.bincount(values, minlength=_BYTES, maxlength=_BYTES)
        return counts > 0, tf.reduce_any(mask != mask[..., :1])

    found, colored = np.zeros(_BYTES, bool), False
    masks = records.stored("train", label).map(one, num_parallel_calls=os.cpu_count())
    for seen, in_colors in masks.batch(256).as_numpy_iterator():
        found, colored = found | seen.any(axis=0), colored or bool(in_colors.any())
    if colored:
        raise RequestError(
            f"data set {records.name!r}: {label.path} holds colors; a mask has a number for each "
            f"class; --task restoration makes such images of {records.chosen.image.path}"
        )
    return [int(value) for value in np.flatnonzero(found)]


class RecordReader(Reader):
    """Reads records as images and labels.

    Images are decoded after shuffling and choosing, so a buffer holds records as they are stored.
    """

    def __init__(
        self,
        records: Records,
        shape: ImageShape,
        resize: Resize,
        values: Sequence[int],
        ignore: int | None = None,
        enlarge: int = 1,
    ) -> None:
        """Reads `records`.

        Args:
            records: undecoded.
            shape: of the images.
            resize: how images of other sizes get it.
            values: the value of each class, in order.
            ignore: the value of pixels of masks that have no class, if there is one.
            enlarge: as `ImageData.enlarge`.
        """
        self._records, self._shape, self._resize = records, shape, resize
        self._values, self._ignore = np.array(values, np.int64), ignore
        self._enlarge = enlarge
        self.dtype = dtype_of(records.chosen)
        self.encoded_bytes = records.size_on_disk if records.chosen.image.is_encoded else 0

    def stored(self, split: str) -> Any:
        return self._decoded(self._records.stored(split))

    def shuffled(self, split: str, seed: int) -> Any:
        return self._decoded(self._records.shuffled(split, seed))

    def chosen(self, split: str, places: Places) -> Any:
        return self._decoded(at(self._records.stored(split), places))

    def _decoded(self, records: Any) -> Any:
        import tensorflow as tf

        image_field, label_field = self._records.chosen.image, self._records.chosen.label

        def decoded(record: Any) -> Any:
            image, label = self._image(image_field, record), label_field.of(record)
            sides = tf.shape(image)[:2]
            if tuple(image.shape[:-1]) != self._shape[:-1]:
                image = tf.numpy_function(self._sized, [image], image.dtype)
            match self._records.chosen.kind:
                case Label.MASK:
                    mask = label_field.feature.decode_example(label)
                    label = tf.numpy_function(self._mask, [mask, sides], tf.int32)
                    label = tf.ensure_shape(label, self._shape[:2])
                case Label.NUMBER:
                    value = tf.cast(label, tf.int64)[tf.newaxis]
                    label = tf.searchsorted(self._values, value)[0]
                case Label.CLASSES:
                    label = self._several(label_field.feature, label)
                case Label.NUMBERS:
                    label = tf.reshape(tf.cast(label, tf.float32), [-1])
                case Label.POINTS:
                    points = tf.cast(label, tf.float32)
                    label = tf.numpy_function(self._points, [points, sides], tf.float32)
                    label = tf.ensure_shape(label, points.shape)
                case Label.IMAGE:
                    target = label_field.feature.decode_example(label)
                    if image.dtype != tf.uint8 or target.dtype != tf.uint8:
                        image = scaled(image)
                        target = scaled(target, WHITE_16 if target.dtype == tf.uint16 else None)
                    channels = target.shape[-1]
                    label = tf.numpy_function(self._target, [target, sides], target.dtype)
                    label = tf.ensure_shape(label, (*self._shape[:-1], channels))
            return tf.ensure_shape(image, self._shape), label

        # AutoGraph does not know `match`, and warns.
        plain = tf.autograph.experimental.do_not_convert(decoded)
        return records.map(plain, num_parallel_calls=os.cpu_count())

    def _sized(self, image: Any) -> Any:
        """An image with the sides of the network's input."""
        if self._records.chosen.kind is Label.IMAGE:  # enlarged first: the middle has no rim
            return middle(enlarged(image[np.newaxis], self._enlarge)[0], self._shape[:2])
        return resized(image, self._shape[:2], self._resize)

    def _several(self, feature: Any, label: Any) -> Any:
        """For each class, whether it is there: float32 [K]."""
        import tensorflow as tf

        if not hasattr(feature, "feature"):
            return tf.cast(tf.cast(label, tf.bool), tf.float32)
        count = feature.feature.num_classes
        return tf.reduce_max(
            tf.concat([tf.one_hot(label, count), tf.zeros([1, count])], axis=0), axis=0
        )

    def _points(self, points: Any, sides: Any) -> Any:
        """Points where they are in the resized image; NaN outside of it."""
        points = points.copy()
        points[points_outside(points, tuple(sides))] = np.nan
        return moved_points(points, tuple(sides), self._shape[:2], self._resize)

    def _target(self, target: Any, sides: Any) -> Any:
        """The image that is to be restored, with the sides of the network's input."""
        wanted = tuple(self._enlarge * int(side) for side in sides)
        if tuple(target.shape[:2]) != wanted:
            sizes = ("x".join(map(str, size)) for size in (target.shape[:2], wanted))
            raise BadImageError(
                f"data set {self._records.name!r}: {self._records.chosen.label.path} has sides "
                "that do not fit its image's ({}, not {})".format(*sizes)
            )
        return middle(target, self._shape[:2])

    def _image(self, field: Field, record: Any) -> Any:
        """A decoded image: bytes, or float32."""
        import tensorflow as tf

        image = field.of(record)
        if field.is_encoded and field.feature.shape[2] is None:
            image = tf.io.decode_image(
                image,
                channels=self._shape[2],
                dtype=tf.as_dtype(field.feature.np_dtype),
                expand_animations=False,
            )
        elif field.is_encoded:
            image = field.feature.decode_example(image)
        if image.dtype == tf.uint16:
            return scaled(image, WHITE_16)
        return image if image.dtype == tf.uint8 else scaled(image)

    def _mask(self, mask: Any, sides: Any) -> Any:
        """A mask [H,W,C] as classes [H,W], resized to the nearest pixel.

        Args:
            mask: bytes.
            sides: of its image.
        """
        if tuple(mask.shape[:2]) != tuple(sides):
            sizes = ("x".join(map(str, size)) for size in (mask.shape[:2], sides))
            raise BadImageError(
                f"data set {self._records.name!r}: a mask has another size than its image "
                f"({' and '.join(sizes)})"
            )
        pixels = resized_mask(
            mask[..., 0], self._shape[:2], self._resize, self._values, self._ignore
        )
        return numbers_of_mask(self._records, pixels, self._values, self._ignore)


def dtype_of(chosen: Chosen) -> Any:
    """The NumPy dtype of images: bytes, or float32 if they or their targets are no bytes."""
    fields = [chosen.image, chosen.label] if chosen.kind is Label.IMAGE else [chosen.image]
    are_bytes = all(field.feature.np_dtype == np.uint8 for field in fields)
    return np.uint8 if are_bytes else np.float32


def numbers_of_mask(
    records: Records, mask: Any, values: Any, ignore: int | None, called: str = "a mask"
) -> Any:
    """The classes [H,W] of the values of a mask.

    Args:
        records: of the mask.
        mask: its values [H,W].
        values: the value of each class, in order.
        ignore: the value of pixels without a class, if there is one.
        called: what a message calls the mask.

    Raises:
        BadImageError: it holds another value.
    """
    strange = np.setdiff1d(mask[~without_a_class(mask, ignore)], values)
    if strange.size:
        raise BadImageError(
            f"data set {records.name!r}: {called} holds the value {strange[0]}, which no training "
            "mask holds"
        )
    return numbered(mask, values, ignore)
