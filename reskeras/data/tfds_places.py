"""The serialized records of a TFDS data set, at any place.

ArrayRecord files have an index. TFRecord files have none, but each record begins with its length:
reading these alone finds all records, so nothing is copied.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.data.images import Places
from reskeras.data.tfds_prepare import builder_of
from reskeras.errors import RequestError
from reskeras.words import printable

CYCLE = 16
"""Files that TFDS reads in turn, unless the records are in an order."""
BLOCK = 16
"""Records of a file that it reads in each turn."""
_HEAD, _FOOT = 12, 4
"""Bytes around a record in a TFRecord file: its length and a checksum, and one of the record."""


class Serialized:
    """Reads serialized records of a prepared data set, one by one, in any order.

    Can be pickled: another process opens the files again. Several threads may read.

    Args:
        name: of the data set.
        data_dir: the folder of TFDS data sets; None: TFDS' own.
    """

    def __init__(self, name: str, data_dir: str | None) -> None:
        self._name, self._data_dir = name, data_dir
        self._opened: dict[str, _Files] = {}
        self._offsets: dict[str, Places] = {}

    def check(self, spec: str) -> None:
        """Raises RequestError if the files have a format without random access, or are damaged."""
        self._files(spec)

    def read(self, spec: str, place: int) -> bytes:
        """The record at a place of `spec`, in the order of the files.

        Args:
            spec: in TFDS' words, such as `train[:80%]+test`.
            place: counted from 0.

        Raises:
            RequestError: the files have a format without random access, or are damaged.
        """
        found: bytes = self._files(spec).read(place)
        return found

    def order(self, spec: str) -> Places:
        """The places of the records of `spec` in the order in which `as_dataset` gives them."""
        builder = builder_of(self._name, self._data_dir)
        takes = np.array([one.take for one in builder.info.splits[spec].file_instructions])
        if not streams(builder):
            return np.arange(takes.sum())
        return _interleaved(takes, cycle_of(builder))

    def _files(self, spec: str) -> "_Files":
        if spec not in self._opened:
            self._opened[spec] = self._open(spec)
        return self._opened[spec]

    def _open(self, spec: str) -> "_Files":
        import tensorflow_datasets as tfds

        builder = builder_of(self._name, self._data_dir)
        form, known = builder.info.file_format, tfds.core.FileFormat
        if form is known.ARRAY_RECORD:
            return _Files(_source(builder, spec, self._name))
        if form is not known.TFRECORD:
            raise RequestError(
                f"data set {self._name!r} is stored as {form.value if form else 'no known format'},"
                " whose records are not read at any place, as patches need it; prepare it as "
                "tfrecord or array_record (file_format of download_and_prepare) in another "
                "--data-dir"
            )
        instructions = builder.info.splits[spec].file_instructions
        for one in instructions:
            if (path := str(one.filename)) not in self._offsets:  # splits share files
                self._offsets[path] = _offsets(path, one.examples_in_shard)
        return _TFRecords(instructions, self._offsets)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}, "_offsets": {}}


class _Files:
    """The records of a spec in ArrayRecord files."""

    def __init__(self, source: Sequence[bytes]) -> None:
        self._source = source

    def read(self, place: int) -> bytes:
        return self._source[place]


class _TFRecords(_Files):
    """The records of a spec in TFRecord files."""

    def __init__(self, instructions: Sequence[Any], offsets: Mapping[str, Places]) -> None:
        paths = [str(one.filename) for one in instructions]
        self._files = [
            (path, int(one.skip), offsets[path])
            for path, one in zip(paths, instructions, strict=True)
        ]
        self._takes = np.array([one.take for one in instructions], np.int64)
        self._ends = self._takes.cumsum()

    def read(self, place: int) -> bytes:
        import tensorflow as tf

        number = int(np.searchsorted(self._ends, place, side="right"))
        path, skipped, offsets = self._files[number]
        inside = skipped + place - int(self._ends[number] - self._takes[number])
        start, stop = int(offsets[inside]) + _HEAD, int(offsets[inside + 1]) - _FOOT
        # Opened each time: threads that read would move each other's place in it.
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(start)
            found: bytes = file.read(stop - start)
        return found


def streams(builder: Any) -> bool:
    """Whether TFDS can give the records one after another, as a `tf.data.Dataset`."""
    import tensorflow_datasets as tfds

    form = builder.info.file_format
    return form is None or form is not tfds.core.FileFormat.ARRAY_RECORD


def cycle_of(builder: Any) -> int:
    """How many files TFDS reads in turn."""
    return 1 if builder.info.disable_shuffling else CYCLE


def _source(builder: Any, spec: str, name: str) -> Sequence[bytes]:
    """The serialized records of a spec in ArrayRecord files."""
    import tensorflow_datasets as tfds

    try:
        found: Sequence[bytes] = builder.as_data_source(
            spec, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except ImportError as error:
        raise RequestError(
            f"data set {name!r} is stored as array_record, which needs the Python package "
            "array_record; install it"
        ) from error
    return found


def _interleaved(takes: Any, cycle: int) -> Places:
    """The numbers of the records of files, of which `takes` are read, in TFDS' order.

    `tf.data` itself puts the numbers in the order in which TFDS lets it put the records.
    """
    import tensorflow as tf

    ends = takes.astype(np.int64).cumsum()
    places = tf.data.Dataset.from_tensor_slices((ends - takes, ends)).interleave(
        tf.data.Dataset.range, cycle_length=cycle, block_length=BLOCK
    )
    return np.concatenate(list(places.batch(4096).as_numpy_iterator()))


def _offsets(path: str, count: int) -> Places:
    """Where each record of a TFRecord file begins, and the end of the file [count+1].

    Raises:
        RequestError: the file does not hold as many whole records.
    """
    import tensorflow as tf

    found = [0]
    with tf.io.gfile.GFile(path, "rb") as file:
        size = file.size()
        while found[-1] < size:
            file.seek(found[-1])
            found.append(found[-1] + _HEAD + int.from_bytes(file.read(8), "little") + _FOOT)
    if found[-1] != size or len(found) != count + 1:
        whole = len(found) - 1 - (found[-1] != size)
        raise RequestError(
            f"{printable(path)}: damaged: {whole:,} whole records, not {count:,}; delete the data "
            "set's folder, and TFDS prepares it again"
        )
    return np.array(found, np.int64)
