"""Data sets by their TensorFlow Datasets name, including the embedded `digits`."""

import contextlib
import dataclasses
import io
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from reskeras.data.embedded import EMBEDDED, embedded
from reskeras.data.images import ImageData, Places, Reader
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.pixels import resized, scaled
from reskeras.errors import RequestError, did_you_mean, in_a_line
from reskeras.spec import ImageShape
from reskeras.tasks import CLASSIFICATION

_NETWORK_SECONDS = 5.0
_NAMES = {"val": ("validation", "val", "valid"), "test": ("test",)}
"""What TFDS calls our splits, besides `train`."""
_USED = {"train", *_NAMES["val"], *_NAMES["test"]}
_SPLIT_SEED = 20_151_210
"""Fixes which images of train are cut off for the other splits."""
_SHUFFLED_BYTES = 256 << 20
"""Size of the shuffle buffer, in bytes of stored records."""
_PROBE_URL = "https://storage.googleapis.com"
"""Where TFDS itself looks first for any data set."""


def from_tfds(name: str, image_shape: ImageShape, options: DataOptions = NO_OPTIONS) -> ImageData:
    """Opens a TFDS data set of images with class labels; downloads and prepares it if needed.

    Uses the splits `train`, `validation` and `test`. Missing ones are random images of train, a
    tenth each. A data set with only a train and a validation split uses the latter for the test. A
    split whose labels are hidden (-1) counts as missing.

    Args:
        name: with a version or a configuration, as TFDS writes it.
        image_shape: height and width for images without a common size.
        options: how they are read.

    Raises:
        RequestError: no such data set, not images with labels, or a download without a network.
    """
    # TFDS warns of every folder that it has yet to fill
    logging.getLogger("absl").setLevel(logging.ERROR)
    builder = _builder(name)
    if not builder.is_prepared():
        _prepare(builder, name)
    info = builder.info
    keys = _keys(info, name)
    image, label = (info.features[key] for key in keys)
    height, width, channels = (
        given if size is None else int(size)
        for size, given in zip(image.shape, image_shape, strict=True)
    )
    shape = height, width, channels
    used = sorted(_USED & set(info.splits))
    hidden = [split for split in used if _is_hidden(builder, split, keys[1])]
    notes = [
        f"the labels of the split {split!r} are hidden; it is not used" for split in sorted(hidden)
    ]
    parts = _parts(
        {split: info.splits[split].num_examples for split in info.splits if split not in hidden},
        name,
    )
    return ImageData(
        name=name,
        task=CLASSIFICATION,
        image_shape=shape,
        classes=int(label.num_classes),
        sizes={split: part.size for split, part in parts.items()},
        digest=" ".join([info.full_name, *(part.digest for part in parts.values())]),
        reader=_Records(name, parts, keys, shape),
        source=name,
        class_names=tuple(label.names or ()),
        notes=tuple(notes),
        options=options,
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """All records of a TFDS split, or some."""

    split: str
    places: Places | None
    """None: all."""
    size: int

    @property
    def digest(self) -> str:
        return self.split if self.places is None else f"{self.split}~{self.size}"


def _builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    if (builder := embedded(name)) is not None:
        return builder
    try:
        return tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = [*EMBEDDED, *tfds.list_builders(with_community_datasets=False)]
        near = (
            did_you_mean(name, known)
            or "; https://www.tensorflow.org/datasets/catalog/overview lists them;"
        )
        raise RequestError(
            f"unknown data set {name!r}{near} --data takes `digits`, a TFDS name, a folder of "
            "images or an .npz"
        ) from error
    except (
        ValueError,
        AssertionError,
        ImportError,
    ) as error:
        # An unknown config or version, or a missing extra
        raise RequestError(f"data set {name!r} cannot be opened: {in_a_line(error)}") from error


def _prepare(builder: Any, name: str) -> None:
    import tensorflow_datasets as tfds

    if name not in EMBEDDED and not _network_answers():
        raise RequestError(
            f"data set {name!r} is not on this machine and must be downloaded, but the network "
            "does not answer. Prepare it "
            'on a machine with a network by `python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{name}')"
            f'.download_and_prepare()"`, and copy ~/tensorflow_datasets/{builder.name} to '
            f"{builder.data_dir_root} here "
            "(or point TFDS_DATA_DIR at it). `--data digits` needs no download."
        )
    tfds.disable_progress_bar()
    try:
        # TFDS reports to standard output, which is for results. For the embedded digits, which it
        # calls a download, it reports nothing new.
        with contextlib.redirect_stdout(io.StringIO() if name in EMBEDDED else sys.stderr):
            builder.download_and_prepare()
    except OSError as error:
        raise RequestError(
            f"data set {name!r} cannot be prepared in {builder.data_dir_root}: {error}; "
            "set TFDS_DATA_DIR to use another folder"
        ) from error


def _network_answers() -> bool:
    # Looking up a host name has no time limit. A thread asks, and is abandoned if it does not
    # return.
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            requests.head(_PROBE_URL, timeout=_NETWORK_SECONDS)
        except requests.RequestException:
            return  # the event stays unset, which is the answer
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_NETWORK_SECONDS)
    return answered.is_set()


def _keys(info: Any, name: str) -> tuple[str, str]:
    """The features that are the image and its class."""
    import tensorflow_datasets as tfds

    features = info.features if hasattr(info.features, "keys") else {}
    keys = info.supervised_keys
    if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        candidates = [[keys[0]], [keys[1]]]
    else:
        candidates = [list(features), list(features)]
    wanted = (tfds.features.Image, tfds.features.ClassLabel)
    found = [
        [key for key in some if type(features[key]) is kind]
        for some, kind in zip(candidates, wanted, strict=True)
    ]
    if [len(some) for some in found] == [1, 1]:
        return found[0][0], found[1][0]
    raise RequestError(
        f"data set {name!r} does not hold one image and one class label each (its features: "
        f"{', '.join(f'{key}: {type(feature).__name__}' for key, feature in features.items())})"
    )


def _is_hidden(builder: Any, split: str, label: str) -> bool:
    """Whether a split has no labels: TFDS then has -1 for all."""
    (first,) = builder.as_dataset(split=f"{split}[:1]", decoders=_undecoded(builder)).take(1)
    return int(first[label]) < 0


def _undecoded(builder: Any) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    return {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }


def _parts(sizes: Mapping[str, int], name: str) -> dict[str, _Part]:
    """The records of each of our splits."""
    if "train" not in sizes:
        raise RequestError(
            f"data set {name!r} has no split 'train' with labels (it has: "
            f"{', '.join(sorted(sizes))})"
        )
    held = {ours: theirs for ours, names in _NAMES.items() for theirs in names if theirs in sizes}
    whole = {ours: _Part(theirs, None, sizes[theirs]) for ours, theirs in held.items()}
    if len(whole) == 2:
        return {"train": _Part("train", None, sizes["train"]), **whole}
    size = sizes["train"]
    places, tenth = np.random.default_rng(_SPLIT_SEED).permutation(size), max(1, size // 10)
    if whole:
        (tested,) = whole.values()
        cut = {"train": places[tenth:], "val": places[:tenth]}
        return {ours: _Part("train", some, len(some)) for ours, some in cut.items()} | {
            "test": tested
        }
    cut = {
        "train": places[2 * tenth :],
        "val": places[:tenth],
        "test": places[tenth : 2 * tenth],
    }
    return {ours: _Part("train", some, len(some)) for ours, some in cut.items()}


class _Records(Reader):
    """Reads the records of a TFDS data set, one after another; TFDS has no random access.

    Images are decoded after shuffling and choosing, so a buffer holds records as they are stored.
    """

    def __init__(
        self, name: str, parts: Mapping[str, _Part], keys: tuple[str, str], shape: ImageShape
    ) -> None:
        self._name, self._parts, self._keys, self._shape = name, parts, keys, shape
        info = _builder(name).info
        feature = info.features[keys[0]]
        unchanged = feature.shape[:2] == shape[:2] and feature.dtype == np.uint8
        self.dtype = np.uint8 if unchanged else np.float32
        self.encoded_bytes = sum(info.splits[part.split].num_bytes for part in parts.values())

    def stored(self, split: str) -> Any:
        return self._decoded(self._records(split))

    def shuffled(self, split: str, seed: int) -> Any:
        part = self._parts[split]
        whole = _builder(self._name).info.splits[part.split]
        mean = max(1, whole.num_bytes // max(1, whole.num_examples))
        records = self._records(split, seed)
        return self._decoded(
            records.shuffle(
                min(part.size, max(1_000, _SHUFFLED_BYTES // mean)),
                seed=seed,
                reshuffle_each_iteration=False,
            )
        )

    def chosen(self, split: str, places: Places) -> Any:
        return self._decoded(_at(self._records(split), places))

    def _records(self, split: str, seed: int | None = None) -> Any:
        """A split undecoded: in its stored order or, with a seed, its files in a random one."""
        import tensorflow_datasets as tfds

        part, builder = self._parts[split], _builder(self._name)
        records = builder.as_dataset(
            split=part.split,
            # The places of records are those of the stored order.
            shuffle_files=seed is not None and part.places is None,
            # Shuffled files are meant, even if the records are in an order.
            read_config=tfds.ReadConfig(shuffle_seed=seed, enable_ordering_guard=False),
            decoders=_undecoded(builder),
        )
        return records if part.places is None else _at(records, part.places)

    def _decoded(self, records: Any) -> Any:
        import tensorflow as tf

        feature = _builder(self._name).info.features[self._keys[0]]

        def decoded(record: Any) -> Any:
            image = feature.decode_example(record[self._keys[0]])
            if image.dtype == tf.uint16:
                image = scaled(image, 65535)
            if tuple(image.shape[:2]) != self._shape[:2]:
                image = resized(scaled(image), self._shape[:2])
            return tf.ensure_shape(image, self._shape), record[self._keys[1]]

        return records.map(decoded, num_parallel_calls=os.cpu_count())


def _at(records: Any, places: Places) -> Any:
    """The records at these places, in the order of `records`."""
    import tensorflow as tf

    wanted = tf.constant(np.isin(np.arange(int(places.max()) + 1), places))
    numbered = records.take(len(wanted)).enumerate()
    return numbered.filter(lambda number, _: wanted[number]).map(lambda _, record: record)
