"""Trained networks as functions from arrays to arrays."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.errors import RequestError
from reskeras.models.folding import fold_batch_norm
from reskeras.models.inputs import input_form
from reskeras.tasks import task_of_output


def predictor(model: keras.Model, batch_size: int = 32) -> Callable[[Any], Any]:
    """A fast alternative to `model.predict`: folds batch norms and traces once for all batch sizes.

    `model.predict` sets up a data pipeline and callbacks in each call. For small networks this
    takes longer than the network itself (`benchmarks/inference.py`). The weights are copied:
    training the model later does not change the predictor.

    Args:
        model: a Functional model, on the TensorFlow backend.
        batch_size: the most images per forward pass.

    Returns:
        A function from arrays [N,...], in the structure of the model's inputs, to NumPy arrays in
        the structure of its outputs. Its values are those of `model.predict` up to float rounding.
        It raises ValueError for no images or inputs of different lengths, and TypeError for shapes
        other than the model's.

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
            raise ValueError(
                "inputs must have the same length of at least 1, not "
                f"{[len(array) for array in arrays]}"
            )
        batches = [
            keras.tree.map_structure(
                lambda y: y.numpy(),
                traced(*(array[start : start + batch_size] for array in arrays)),
            )
            for start in range(0, count, batch_size)
        ]
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)

    return predict


def classifier(model: keras.Model, batch_size: int = 32) -> Callable[[Any], Any]:
    """A trained network as a function from images to class probabilities, by a `predictor`.

    Args:
        model: a Functional model with a classifier or segmentation head, with any activation. With
            several heads (deep supervision), the last one counts.
        batch_size: see `predictor`.

    Returns:
        A function from images [N,H,W,C] to probabilities [N,K], for masks [N,H',W',K]. A softmax's
        add up to 1, a sigmoid's do not. A single channel is the probability of class 1 of two.

    Raises:
        RequestError: the model has no such head, does not take images, or is not a Functional
            model.
    """
    form = input_form(model)
    form.image_shape(model.name)
    try:
        predict = predictor(model, batch_size)
    except TypeError as error:
        raise RequestError(str(error)) from error
    head: Any = model.output.get("head") if isinstance(model.output, dict) else model.output
    shape: tuple[int, ...] = getattr(head, "shape", ())
    if task_of_output(shape) is None:
        raise RequestError(
            f"{model.name} returns {keras.tree.map_structure(lambda x: x.shape, model.output)}, "
            "not classes or masks"
        )
    activation = getattr(head._keras_history.operation, "activation", None)

    def probabilities(images: Any) -> Any:
        array = form.arrange(np.asarray(images, "float32"))
        given = predict(keras.tree.pack_sequence_as(model.input, [array]))
        scores = given["head"] if isinstance(given, dict) else given
        single = shape[-1] == 1
        if activation is keras.activations.linear:
            scores = keras.ops.convert_to_numpy(
                (keras.ops.sigmoid if single else keras.ops.softmax)(scores)
            )
        return np.concatenate([1 - scores, scores], axis=-1) if single else scores

    return probabilities
