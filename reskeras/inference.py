"""A trained network as a function from arrays to arrays."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.folding import fold_batch_norm


def predictor(model: keras.Model, batch_size: int = 32) -> Callable[[Any], Any]:
    """A fast stand-in for `model.predict`: batch norms folded (see `fold_batch_norm`), traced once for batches of every size.

    `model.predict` sets up a data pipeline and callbacks in each call, which for small nets takes longer than the net itself
    (`benchmarks/inference.py`). The weights are those of now: training the model later does not change the predictor.

    Args:
        model: a Functional model, on the TensorFlow backend.
        batch_size: no more than so many images pass at once.

    Returns:
        A function of arrays [N,...] in the structure of the model's inputs, to NumPy arrays in that of its outputs. Its values are
        those of `model.predict` up to float rounding. It raises ValueError for no images or inputs of different lengths, and
        TypeError for any other shape than the model's.

    Raises:
        TypeError: not a Functional model.
        ValueError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    network = fold_batch_norm(model)
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in network.inputs]

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator]
    def traced(*inputs: Any) -> Any:
        return network(keras.tree.pack_sequence_as(network.input, inputs), training=False)

    def predict(inputs: Any) -> Any:
        pairs = zip(keras.tree.flatten(inputs), specs, strict=True)
        arrays = [np.asarray(array, spec.dtype.as_numpy_dtype) for array, spec in pairs]
        count = len(arrays[0])
        if count == 0 or any(len(array) != count for array in arrays):
            raise ValueError(f"inputs must be of one length of at least 1, not of {[len(array) for array in arrays]}")
        batches = [
            keras.tree.map_structure(lambda y: y.numpy(), traced(*(array[start : start + batch_size] for array in arrays)))
            for start in range(0, count, batch_size)
        ]
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)

    return predict
