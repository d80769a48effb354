"""Whole images of a TFDS data set, of any sizes, with their masks or their targets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.decode import BadImageError
from reskeras.data.kinds import enlarged
from reskeras.data.options import DataOptions
from reskeras.data.patches import WholeImages
from reskeras.data.pixels import scaled
from reskeras.data.restored import check_resize, restored_shape, times_of
from reskeras.data.tfds_features import Chosen, Field, Label
from reskeras.data.tfds_records import (
    COLORS,
    WHITE_16,
    Records,
    dtype_of,
    facts_of,
    numbers_of_mask,
)
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize


class Sizes(NamedTuple):
    """Height and width of the images of a split and of their labels, in the stored order."""

    images: Any
    """[N,2]."""
    labels: Any
    """[N,2]."""
    gray: bool
    """Whether all images are."""


def has_sizes(chosen: Chosen) -> bool:
    """Whether the features say the height and width of images and labels."""
    fields = chosen.image, chosen.label
    return not any(None in tuple(field.feature.shape)[:2] for field in fields)


def sizes_of(records: Records, split: str, count: int) -> Sizes:
    """The sizes of all images of a split, and of their labels, which are images, too.

    They are read once, if the features do not say the sizes, and not decoded.

    Args:
        records: of a data set with masks, or with images to restore.
        split: ours.
        count: the number of its records.

    Raises:
        RequestError: one is damaged.
    """
    fields = records.chosen.image, records.chosen.label
    if has_sizes(records.chosen):
        known = [tuple(field.feature.shape) for field in fields]
        images, labels = (np.tile(np.array(shape[:2], np.int64), (count, 1)) for shape in known)
        return Sizes(images, labels, known[0][2] == 1)
    sizes: list[tuple[Any, ...]] = []
    gray = True
    for place, record in enumerate(records.stored(split).as_numpy_iterator()):
        facts = []
        for field in fields:
            try:
                facts.append(facts_of(field.of(record), field))
            except BadImageError as error:
                raise RequestError(
                    f"data set {records.name!r}: {field.path} of {records.called(split, place)} is "
                    f"{error}"
                ) from error
        gray = gray and facts[0].gray
        sizes.append(tuple(fact.size for fact in facts))
    found = np.array(sizes, np.int64)
    return Sizes(found[:, 0], found[:, 1], gray)


def enlarges(records: Records) -> bool:
    """Whether the label of the first training image is twice, three times ... as large an image.

    Such a label is no mask. False if the features say the sizes, which tell it themselves.
    """
    chosen = records.chosen
    fields = chosen.image, chosen.label
    if has_sizes(chosen):
        return False
    first = next(records.stored("train").take(1).as_numpy_iterator())
    try:
        image, label = (facts_of(field.of(first), field).size for field in fields)
    except BadImageError:
        return False  # whoever reads all of them names it
    times = label[0] // image[0]
    return times > 1 and label == (times * image[0], times * image[1])


def times_fitting(
    records: Records, sizes: Mapping[str, Sizes], options: DataOptions, where: str
) -> int:
    """How many times larger labels are than images, which are not resized.

    Raises:
        RequestError: a mask has another size than its image, or a target does not fit its own.
    """
    pairs = [
        (split, place, tuple(image), tuple(label))
        for split, some in sizes.items()
        for place, (image, label) in enumerate(
            zip(some.images.tolist(), some.labels.tolist(), strict=True)
        )
    ]

    def called(number: int) -> str:
        split, place, _, _ = pairs[number]
        return f"{where}: {records.chosen.label.path} of {records.called(split, place)}"

    if records.chosen.kind is Label.IMAGE:
        check_resize(options, where)
        return times_of([(image, label) for _, _, image, label in pairs], called)
    for number, (_, _, image, mask) in enumerate(pairs):
        if image != mask:
            told = " and ".join("x".join(map(str, size)) for size in (mask, image))
            raise RequestError(
                f"{called(number)}: the mask has another size than its image ({told})"
            )
    return 1


def shape_of_wholes(
    records: Records,
    sizes: Mapping[str, Sizes],
    wanted: ImageShape | None,
    resize: Resize,
    notes: list[str],
) -> ImageShape:
    """The shape of patches, or of the middle of images."""
    channels = records.chosen.image.feature.shape[-1]
    gray = all(some.gray for some in sizes.values())
    places = [(split, place) for split, some in sizes.items() for place in range(len(some.labels))]
    where = f"data set {records.name!r}: {records.chosen.label.path}"
    shape = restored_shape(
        [tuple(size) for some in sizes.values() for size in some.labels.tolist()],
        wanted if wanted is not None and len(wanted) == 3 else None,
        notes,
        channels=1 if gray else 3,
        patches=resize == "patch",
        called=lambda number: f"{where} of {records.called(*places[number])}",
        folder=where,
    )
    return (*shape[:-1], int(channels or shape[-1]))


class WholeRecords(WholeImages):
    """Images of records in their own sizes, with their masks; or enlarged, with their targets.

    Records are read and decoded one by one, at any place. JPEG is decoded as files are, exactly.

    Args:
        records: with masks or targets.
        sizes: of the images and labels of each split.
        channels: of images, if their feature does not say it.
        values: the value of each class of masks, in order.
        ignore: the value of pixels of masks that have no class, if there is one.
        enlarge: as `ImageData.enlarge`.
    """

    def __init__(
        self,
        records: Records,
        sizes: Mapping[str, Sizes],
        channels: int,
        values: Sequence[int],
        ignore: int | None,
        enlarge: int,
    ) -> None:
        self._records, self._channels = records, channels
        self._values, self._ignore, self._enlarge = np.array(values, np.int64), ignore, enlarge
        self._sides = {split: some.labels for split, some in sizes.items()}
        self.sizes = {split: len(some.images) for split, some in sizes.items()}
        self.dtype = dtype_of(records.chosen)
        # The smallest that holds all classes, for masks that stay in memory.
        self._small = np.min_scalar_type(-len(values))

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        chosen, record = self._records.chosen, self._records.at(split, place)
        image = self._pixels(chosen.image, record, split, place)
        if chosen.kind is Label.MASK:
            return self._floats(image, chosen.image), self._mask(record, split, place)
        target = self._pixels(chosen.label, record, split, place)
        image, target = self._floats(image, chosen.image), self._floats(target, chosen.label)
        return enlarged(image[np.newaxis], self._enlarge)[0], target

    def label(self, split: str, place: int) -> Any:
        label = self._records.chosen.label
        record = self._records.at(split, place, label)
        if self._records.chosen.kind is Label.MASK:
            return self._mask(record, split, place)
        return self._floats(self._pixels(label, record, split, place), label)

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        return tuple(self._sides[split][place].tolist())

    def called(self, split: str, place: int) -> str:
        return self._records.called(split, place)

    def _mask(self, record: Any, split: str, place: int) -> Any:
        mask = self._pixels(self._records.chosen.label, record, split, place)[..., 0]
        called = f"the mask of {self.called(split, place)}"
        found = numbers_of_mask(self._records, mask, self._values, self._ignore, called)
        return found.astype(self._small)

    def _floats(self, image: Any, field: Field) -> Any:
        """An image with the dtype of all."""
        if self.dtype == np.uint8:
            return image
        return scaled(image, WHITE_16 if field.feature.np_dtype == np.uint16 else None)

    def _pixels(self, field: Field, record: Any, split: str, place: int) -> Any:
        """A decoded image [H,W,C]."""
        import tensorflow as tf

        value, feature = field.of(record), field.feature
        if not field.is_encoded:
            return np.asarray(value)
        is_mask = self._records.chosen.kind is Label.MASK and field is self._records.chosen.label
        missing = self._channels if field is self._records.chosen.image else COLORS
        channels, kind = feature.shape[2] or missing, feature.np_dtype
        with tf.device("CPU"):
            try:
                if kind == np.uint8 and not is_mask and value.startswith(b"\xff\xd8"):
                    # TFDS asks for the fast method, whose values differ by up to 12.
                    found = tf.io.decode_jpeg(
                        value, channels=channels, dct_method="INTEGER_ACCURATE"
                    )
                elif feature.shape[2] is None:
                    found = tf.io.decode_image(
                        value,
                        channels=channels,
                        dtype=tf.as_dtype(kind),
                        expand_animations=False,
                    )
                else:
                    found = feature.decode_example(value)
            except tf.errors.InvalidArgumentError as error:
                raise BadImageError(
                    f"data set {self._records.name!r}: {field.path} of "
                    f"{self.called(split, place)} is damaged, or no image"
                ) from error
        return found.numpy()
