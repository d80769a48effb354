"""Data sets by their TensorFlow Datasets name, including the embedded `digits`."""

import contextlib
import functools
import io
import logging
import os
import sys
import threading
from typing import Any

from reskeras.data.embedded import EMBEDDED, embedded
from reskeras.data.images import ImageData
from reskeras.data.pixels import resized, scaled
from reskeras.errors import RequestError, did_you_mean, in_a_line
from reskeras.spec import ImageShape
from reskeras.tasks import CLASSIFICATION

_NETWORK_SECONDS = 5.0
_PROBE_URL = "https://storage.googleapis.com"
"""Where TFDS itself looks first for any data set."""


def from_tfds(name: str, image_shape: ImageShape) -> ImageData:
    """Opens a TFDS data set of images with class labels; downloads and prepares it if needed.

    Uses the splits `train`, `validation` and `test`. Missing ones are cut from the end of train, a
    tenth each. A data set with only a train and a validation split uses the latter for the test.

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
    shape = image.shape if None not in image.shape else image_shape
    splits = _splits(info, name)
    return ImageData(
        name=name,
        task=CLASSIFICATION,
        image_shape=shape,
        classes=int(label.num_classes),
        sizes={
            split: info.splits[instruction].num_examples for split, instruction in splits.items()
        },
        digest=f"{info.full_name} {' '.join(splits.values())}",
        open_split=functools.partial(_open, name, splits, keys, shape),
        source=name,
        class_names=tuple(label.names or ()),
    )


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
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = (info.features[key] for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            return keys[0], keys[1]
    found = ", ".join(info.features) if hasattr(info.features, "keys") else str(info.features)
    raise RequestError(
        f"data set {name!r} does not hold images with one class label each (its features: {found})"
    )


def _splits(info: Any, name: str) -> dict[str, str]:
    have = set(info.splits)
    if "train" not in have:
        raise RequestError(
            f"data set {name!r} has no split 'train' (it has: {', '.join(sorted(have))})"
        )
    if {"validation", "test"} <= have:
        return {"train": "train", "val": "validation", "test": "test"}
    if held := have & {"validation", "test"}:
        return {"train": "train[:90%]", "val": "train[90%:]", "test": held.pop()}
    return {"train": "train[:80%]", "val": "train[80%:90%]", "test": "train[90%:]"}


def _open(
    name: str, splits: dict[str, str], keys: tuple[str, str], shape: ImageShape, split: str
) -> Any:
    import tensorflow as tf

    builder = _builder(name)

    def convert(example: Any) -> Any:
        image = resized(scaled(example[keys[0]]), shape[:2])
        return tf.ensure_shape(image, shape), example[keys[1]]

    return builder.as_dataset(split=splits[split], shuffle_files=False).map(
        convert, num_parallel_calls=os.cpu_count()
    )
