"""The value that every source returns: splits of (image, label) pairs, and facts about them."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.data.decode import naming_bad_images
from reskeras.data.options import NO_OPTIONS, Cache, DataOptions
from reskeras.data.pixels import scaled
from reskeras.spec import ImageShape, Pixels, Resize
from reskeras.tasks import IGNORED, Facts, Labels, Task
from reskeras.words import percent

CACHE_BYTES = 1 << 30
"""Splits of up to this size stay in memory."""
_BLOCK_BYTES = 4 << 20
"""Rows that are read at once."""
SAMPLE_SEED = 20_170_806
"""Fixes which images `ImageData.sample` takes, so all trainings on the same data take the same."""

HELD = 0.15
"""The share of images for validation, and for the test, where a source has no such split."""
_COUNTED = 1024
"""Masks in which classes are counted, at most."""
_COMMON = 0.6
"""A class with this share of the training images is worth a note."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilesFound:
    """What a look at the files of a source said."""

    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """Height and width of the smallest image, of the median one and of the largest, by pixels."""
    different: int
    """How many sizes there are."""
    unreadable: Mapping[str, str]
    """Files that are left out, each with the reason."""


Places = np.ndarray[Any, np.dtype[np.int64]]
"""Numbers of images in a split, in its stored order."""


class Reader(abc.ABC):
    """Opens the splits of a source as unbatched `tf.data.Dataset`s.

    Elements are an image [*sides,C], bytes or float32, and its label, as
    `reskeras.tasks.labels.Labels` has it. A reader can be pickled, so other processes can open the
    splits too.
    """

    dtype: Any
    """The NumPy dtype of images: bytes, or float32."""
    encoded_bytes = 0
    """The size of the files that are decoded; 0 if none are."""
    renews = False
    """Whether each epoch has training images of its own, which no memory can keep."""

    @abc.abstractmethod
    def stored(self, split: str) -> Any:
        """A split in its stored order, which never changes."""

    @abc.abstractmethod
    def shuffled(self, split: str, seed: int) -> Any:
        """A split in a random order that follows from the seed."""

    @abc.abstractmethod
    def chosen(self, split: str, places: Places) -> Any:
        """The images at these places: in the stored order, if there is no other way to read."""

    def classes_of(self, split: str) -> Any:
        """The class of each image of a split [N], if it is known without reading images."""
        del split
        return None

    def labels_of(self, split: str) -> Any:
        """The labels of a split [N,...], if they are known without reading images, and small."""
        return self.classes_of(split)

    def wholes(self, split: str) -> Any:
        """The number of the image that each one is a part of [N]; None if they are no parts."""
        del split
        return None

    def unbiased(self) -> "Reader":
        """The same, without training images that were chosen for what they show."""
        return self

    def for_middle(self, sides: Sequence[int]) -> "Reader":
        """The same for a network whose masks are of the middle of its images, of these sides."""
        del sides
        return self

    def in_windows(self) -> "Reader":
        """The same, with all pixels of training images in a fixed order, as in other splits."""
        return self

    def called(self, split: str, place: int) -> str:
        """What people call an image: its file, or its place in the split."""
        return f"{split}[{place}]"

    def whole(self, split: str) -> tuple[Any, Any]:
        """All images [N,H,W,C] and labels of a split in its stored order, as tensors."""
        stored = self.stored(split)
        images, labels = next(iter(stored.batch(int(stored.cardinality()))))
        return images, labels


class RowReader(Reader):
    """A reader of a source whose images can be read in any order, many at once."""

    @abc.abstractmethod
    def size(self, split: str) -> int:
        """The number of images of a split."""

    @abc.abstractmethod
    def rows(self, split: str, places: Places) -> tuple[Any, Any]:
        """Images [N,*sides,C] and labels at these places, as arrays."""

    def epoch(self, number: int) -> Places:
        """The places of the training images of an epoch, counted from 1."""
        del number
        return np.arange(self.size("train"))

    def stored(self, split: str) -> Any:
        return self.at(split, np.arange(self.size(split)))

    def shuffled(self, split: str, seed: int) -> Any:
        # Places are shuffled, never images: all of them, whatever their number.
        return self.at(split, np.random.default_rng(seed).permutation(self.size(split)))

    def chosen(self, split: str, places: Places) -> Any:
        return self.at(split, places)

    def at(self, split: str, places: Places) -> Any:
        """The images at these places, in this order."""
        import tensorflow as tf

        images, _ = self.rows(split, np.arange(1))
        size = min(256, max(1, _BLOCK_BYTES // max(1, images.nbytes)))
        return (
            self.batches(split, places, size)
            .unbatch()
            .apply(tf.data.experimental.assert_cardinality(len(places)))
        )

    def batches(self, split: str, places: Places, size: int) -> Any:
        """Batches of images and labels at these places, in this order; the last may be smaller."""
        import tensorflow as tf

        images, labels = self.rows(split, np.arange(1))

        def block(chosen: Any) -> Any:
            found = tf.numpy_function(
                lambda chosen: self.rows(split, chosen), [chosen], [images.dtype, labels.dtype]
            )
            return tuple(
                tf.ensure_shape(part, [None, *example.shape[1:]])
                for part, example in zip(found, (images, labels), strict=True)
            )

        batches = tf.data.Dataset.from_tensor_slices(places).batch(size)
        return batches.map(block, num_parallel_calls=2)

    def whole(self, split: str) -> tuple[Any, Any]:
        import tensorflow as tf

        images, labels = self.rows(split, np.arange(self.size(split)))
        return tf.convert_to_tensor(images), tf.convert_to_tensor(labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData:
    """Images with labels, in splits `train`, `val` and, if there is one, `test`."""

    name: str
    """Their name in reports."""
    task: Task
    image_shape: ImageShape
    """As networks see images: [L,C], [H,W,C] or [D,H,W,C]."""
    classes: int
    """How many classes, numbers, points or channels a label has."""
    sizes: Mapping[str, int]
    """Number of images of each split."""
    digest: str
    """Changes when the data do: a search cannot resume on other data."""
    reader: Reader
    source: str = ""
    """The value of `--data` that opens them again, from any folder; empty for arrays in memory."""
    class_names: tuple[str, ...] = ()
    """Of the classes, numbers or points; empty unless the source names them."""
    resize: Resize = "stretch"
    """How images of other sizes get the sides of `image_shape`. With `patch`, "images" are patches
    of them; see `reskeras.data.patches`."""
    peak: float | None = None
    """The value that becomes 1 in images that are not bytes; None: they are in 0..1 already, or
    used as they are."""
    pixels: Pixels = "bytes"
    """What raw images hold, before they are resized and scaled."""
    notes: tuple[str, ...] = ()
    """What a person should know of these data, a sentence each."""
    options: DataOptions = NO_OPTIONS
    """The options that `source` was opened with."""
    files: FilesFound | None = None
    """None unless the source is a folder of image files."""
    values: tuple[int, ...] = ()
    """What files or arrays of masks hold for each class; empty if labels are no masks, or if the
    source does not tell."""
    ignores: bool = False
    """Whether masks have pixels without a class, whose number is `reskeras.tasks.IGNORED`."""
    mean: tuple[float, ...] = ()
    """Of each of `Labels.NUMBERS`, over the training split."""
    spread: tuple[float, ...] = ()
    """The standard deviation of each of `Labels.NUMBERS`, over the training split."""
    spacing: tuple[float, ...] = ()
    """Of volumes, which are resampled to it and standardized: millimeters between voxels along each
    axis. Empty for those that are used as they are."""
    enlarge: int = 1
    """How many times larger the sides of the labels (`Labels.IMAGE`) are than those of raw images,
    which are enlarged to them."""
    _tensors: dict[str, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _counts: list[int] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )
    _sampled: dict[int, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def facts(self) -> Facts:
        """What a task has to know."""
        return Facts(
            self.image_shape,
            self.classes,
            self.mean,
            self.spread,
            self.ignores,
            images=self.sizes.get("train"),
        )

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label."""
        return self.task.labels.shape(self.image_shape, self.classes)

    def about(self) -> dict[str, Any]:
        """The facts that travel with a network that was trained on the data, as a document."""
        return {
            "name": self.name,
            "source": self.source,
            "task": self.task.name,
            "class_names": list(self.class_names),
            "values": list(self.values),
            "options": self.options.document(),
            "words": self.options.words(),
            "peak": self.peak,
            "resize": self.resize,
            "pixels": self.pixels,
            "image_shape": list(self.image_shape),
            "classes": self.classes,
            "mean": list(self.mean),
            "spread": list(self.spread),
            "spacing": list(self.spacing),
            "enlarge": self.enlarge,
            "sizes": dict(self.sizes),
        }

    def split(self, name: str) -> Any:
        """A split in its stored order, as an unbatched `tf.data.Dataset` of float images in 0..1.

        It is cached in memory if it is small enough.
        """
        dataset = as_floats(self.reader.stored(name))
        return dataset.cache() if self.in_memory else dataset

    def scaled_labels(self, labels: Any) -> Any:
        """Labels of `split` as losses and scores take them: those that are images in 0..1."""
        return scaled(labels) if self.task.labels is Labels.IMAGE else labels

    def shuffled(self, name: str, seed: int) -> Any:
        """Like `split`, in a random order that follows from the seed."""
        return as_floats(self.reader.shuffled(name, seed))

    @property
    def border(self) -> int:
        """The number of the pixels that augmentation adds to a mask."""
        return IGNORED if self.ignores else 0

    @property
    def in_memory(self) -> bool:
        """Whether every split stays in memory: by choice, or because it is small enough."""
        if self.reader.renews:
            return False
        match self.options.cache:
            case Cache.AUTO:
                return bool(self.image_bytes * max(self.sizes.values()) <= CACHE_BYTES)
            case cache:
                return cache is Cache.MEMORY

    @property
    def image_bytes(self) -> int:
        """The size of one decoded image."""
        return math.prod(self.image_shape) * int(np.dtype(self.reader.dtype).itemsize)

    def tensors(self, name: str) -> tuple[Any, Any]:
        """A split of data `in_memory`, decoded once: images [N,*sides,C], and labels.

        Images are bytes or float32, as the source has them.
        """
        if name not in self._tensors:
            with naming_bad_images():
                self._tensors[name] = self.reader.whole(name)
        images, labels = self._tensors[name]
        return images, labels

    def sample(self, count: int) -> Places:
        """Places of a random sample of the training images, in random order.

        Each class has its share, if classes are known without reading images. The sample is always
        the same for the same data.
        """
        classes = self.reader.classes_of("train")
        if classes is None and self.in_memory and self.task.labels is Labels.CLASS:
            classes = self.tensors("train")[1].numpy()
        return sample(self.sizes["train"], count, classes)

    def sampled(self, count: int) -> Any:
        """The images of `sample` [<=count,H,W,C], bytes or float32, in its order.

        Those of a source that is read one after another are kept.
        """
        places = self.sample(count)
        if self.in_memory:
            import tensorflow as tf

            # Not from `.numpy()`, which copies all images.
            return tf.gather(self.tensors("train")[0], places).numpy()
        if isinstance(self.reader, RowReader):
            return self.reader.rows("train", places)[0]
        if count not in self._sampled:
            images = self.reader.chosen("train", places).map(lambda image, _: image)
            with naming_bad_images():
                found = next(iter(images.batch(len(places)))).numpy()
            self._sampled[count] = found[np.argsort(np.argsort(places))]
        return self._sampled[count]

    def unbiased(self) -> "ImageData":
        """The same data, whose training images tell the share of each class.

        A third of the patches that are trained on are chosen for their classes (see
        `reskeras.data.patches`); others take their places.
        """
        return self._read_by(self.reader.unbiased())

    def scored_by(self, middle: tuple[int, ...] | None) -> "ImageData":
        """The same data, each pixel of whose masks a network is scored on once.

        Args:
            middle: the sides of the middle of images that its masks are of; None for all of them.
        """
        return self._read_by(self.reader.for_middle(middle or self.image_shape[:-1]))

    def in_windows(self) -> "ImageData":
        """The same data, whose training images are windows that hold each pixel, as other splits.

        Training itself sees random patches instead (see `reskeras.data.patches`).
        """
        return self._read_by(self.reader.in_windows())

    def _read_by(self, reader: Reader) -> "ImageData":
        if reader is self.reader:
            return self
        sizes = (
            {split: reader.size(split) for split in self.sizes}
            if isinstance(reader, RowReader)
            else self.sizes
        )
        return dataclasses.replace(self, reader=reader, sizes=sizes)

    def class_counts(self) -> tuple[int, ...]:
        """The number of training images of each class, as training sees them.

        If labels are masks, of pixels that have one, in a random sample of the images, or patches.

        Raises:
            TypeError: the labels are no class numbers.
        """
        if self.task.labels not in (Labels.CLASS, Labels.MASK):
            raise TypeError(f"{self.task.noun} are not classes that can be counted")
        if not self._counts:
            labels = self.reader.classes_of("train")
            if labels is None:
                masks = self.task.labels is Labels.MASK
                labels = self._labels(min(_COUNTED, self.sizes["train"]) if masks else None)
            counts = np.bincount(labels[labels > IGNORED], minlength=self.classes)
            self._counts.extend(counts.tolist())
        return tuple(self._counts)

    def _labels(self, count: int | None) -> Any:
        """The labels or masks of a sample of the training images; of all if `count` is None."""
        import tensorflow as tf

        size = self.sizes["train"]
        places = np.arange(size) if count is None else self.sample(count)
        if self.in_memory:
            return tf.gather(self.tensors("train")[1], places).numpy()
        chosen = self.reader.chosen("train", places).map(lambda _, label: label)
        with naming_bad_images():
            return np.stack(list(chosen.as_numpy_iterator()))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tensors": {}, "_sampled": {}}  # another process decodes its own

    @property
    def kind(self) -> str:
        """The word for images of so many sides: signals, images or volumes."""
        return {2: "signals", 4: "volumes"}.get(len(self.image_shape), "images")

    def describe(self) -> str:
        """One line for people: `digits: 1,077 train, 360 val images of 8x8x1 in 10 classes`."""
        sizes = ", ".join(f"{size:,} {split}" for split, size in self.sizes.items())
        shape = "x".join(map(str, self.image_shape))
        what = "patches" if self.resize == "patch" else self.kind
        return f"{self.name}: {sizes} {what} of {shape} {self.task.labels.told(self.classes)}"


def sample(size: int, count: int, classes: Any) -> Places:
    """A random sample of `count` of `size` places, in random order; always the same.

    Args:
        size: the number of places.
        count: how many to take; all if there are fewer.
        classes: the class of each place [size]; each has its share. None if they are not known.
    """
    random = np.random.default_rng(SAMPLE_SEED)
    places = random.permutation(size)
    if count >= size or classes is None:
        return places[:count]
    # Sorted by class, and in random order within each: every n-th is a stratified sample.
    places = places[np.argsort(classes[places], kind="stable")]
    steps = (np.arange(count) + random.random()) * (size / count)
    return random.permutation(places[steps.astype(np.int64)])


def balance_notes(labels: Any, names: Sequence[Any]) -> list[str]:
    """A note if most training images (or pixels of masks) are of one class."""
    labels = np.asarray(labels)
    counts = np.bincount(labels[labels > IGNORED], minlength=len(names))
    share, of = counts.max() / counts.sum(), "pixels" if np.ndim(labels) > 1 else "images"
    if share < max(_COMMON, 1.5 / len(names)):
        return []
    common = names[int(counts.argmax())]
    return [
        f"{percent(share)} of the training {of} are of the class {common}: the same answer to all "
        "has this accuracy"
    ]


def as_floats(dataset: Any) -> Any:
    """Images of an unbatched data set as float32: bytes in 0..1, and floats as they are."""
    return dataset.map(lambda image, label: (scaled(image), label))
