"""What Keras' `fit` takes is read like the arrays it was made of."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import reskeras
from reskeras.data import from_arrays, load

X = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)
Y = np.arange(30) % 3
MASKS = np.random.default_rng(1).integers(0, 2, (30, 8, 6))


class Batches(keras.utils.PyDataset):
    """Batches of 4, as Keras' guides write them."""

    def __init__(self, x: Any, y: Any) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return (len(self.x) + 3) // 4

    def __getitem__(self, index: int) -> Any:
        part = slice(4 * index, 4 * index + 4)
        return self.x[part], self.y[part]


def one_by_one(x: Any, y: Any) -> Iterator[Any]:
    yield from zip(x, y, strict=True)


STREAMS: dict[str, Callable[[Any, Any], Any]] = {
    "arrays": lambda x, y: (x, y),
    "tensors": lambda x, y: (tf.constant(x), tf.constant(y)),
    "tf.data": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)),
    "batches": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(7),
    "dictionaries": lambda x, y: tf.data.Dataset.from_tensor_slices({"image": x, "label": y}),
    "PyDataset": Batches,
    "generator": one_by_one,
}


@pytest.mark.parametrize("labels", [Y, Y[:, None], np.eye(3)[Y], MASKS])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_read_like_its_arrays(kind: str, labels: np.ndarray) -> None:
    images = X[..., 0] if kind in ("generator", "PyDataset") else X  # gray ones, too
    make = STREAMS[kind]
    found = load({"train": make(images[:20], labels[:20]), "val": make(images[20:], labels[20:])})
    wanted = from_arrays(
        {
            "x_train": images[:20],
            "y_train": labels[:20],
            "x_val": images[20:],
            "y_val": labels[20:],
        }
    )
    assert (found.digest, found.task, found.sizes) == (wanted.digest, wanted.task, wanted.sizes)
    alone = load(make(images, labels))
    assert alone.sizes == {"train": 26, "val": 4}
    assert "for validation" in alone.notes[0]


def endless() -> Iterator[Any]:
    for number in itertools.count():
        yield X[number % 30], Y[number % 30]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).repeat(), r"without \.repeat\(\)"),
        (lambda: tf.data.Dataset.from_tensor_slices(X), "is ndarray, not a pair of images and"),
        (lambda: [(X[0], Y[0], 1.0)], "an element is 3 parts, not a pair"),
        (lambda: [(X[0], 0), (X[0, :4], 1)], r"shapes \(8, 6, 3\) and \(4, 6, 3\); give them"),
        (list, "holds no images"),
        (lambda: [(X[:4], Y[:3]), (X[4:8], Y[4:9])], "a batch of 4 images with labels of shape"),
        (lambda: [(X[:4], Y[:4]), (X[4:8] / 255, Y[4:8])], "images of uint8 and of float64"),
        (lambda: [(X[0].repeat(2, -1), np.eye(8)[0])], "could be one image with a one-hot label"),
        (lambda: 3, "int holds no pairs of images and labels"),
        (lambda: {"train": [], "val": []}, "data: train: holds no images"),
        (endless, "without an end; write them to a folder"),
    ],
)
def test_what_is_no_stream_of_images_is_refused(
    given: Callable[[], Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reskeras.data.streams._MOST_BYTES", 1 << 16)
    with pytest.raises(reskeras.RequestError, match=reason):
        load(given())


def test_words_for_splits_and_labels_in_batches() -> None:
    words = np.array(["cat", "dog", "eel"])[Y]
    batches = tf.data.Dataset.from_tensor_slices((X, words)).batch(7)
    data = load({"Training": batches, "validation": batches})
    assert (data.class_names, data.sizes) == (("cat", "dog", "eel"), {"train": 30, "val": 30})
    with pytest.raises(reskeras.RequestError, match=r"labels of shapes \(3,\) and \(4,\)"):
        load([(X[:4], np.eye(3)[Y[:4]]), (X[4:8], np.eye(4)[Y[4:8]])])
