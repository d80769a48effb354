"""Trained networks as functions from arrays to arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reskeras.errors import RequestError
from reskeras.models.folding import fold_batch_norm
from reskeras.models.inputs import Layout, input_form
from reskeras.models.outputs import outputs_by_name
from reskeras.tasks import Facts, Output, Task, task_called, task_of_output


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


@dataclasses.dataclass(frozen=True)
class Answerer:
    """A trained network as a function from images to answers, by a `predictor`."""

    task: Task
    facts: Facts
    image_shape: tuple[int, ...]
    """Of the images that it takes; sides are None if any will do."""
    heads: Callable[[Any], Mapping[str, Any]]
    """From images [N,*sides,C] to the outputs [N,...] of all heads; the last is called `head`."""
    forms: Mapping[str, Output]
    """The forms of these outputs."""

    @property
    def form(self) -> Output:
        """The form of the last head's outputs."""
        return self.forms["head"]

    def outputs(self, images: Any) -> Any:
        """The outputs [N,...] of the last head."""
        return self.heads(images)["head"]

    def __call__(self, images: Any) -> Any:
        """The answers to images [N,*sides,C], as `Task.answer` has them."""
        return self.task.answer(self.outputs(images), self.form, self.facts)


def answerer(
    model: keras.Model, record: Mapping[str, Any] | None = None, batch_size: int = 32
) -> Answerer:
    """A trained network as a function from images to answers.

    Args:
        model: a Functional model. With several heads (deep supervision), the last one counts.
        record: the facts of its data, as `ImageData.about` has them; without them, the model's
            output says what its task is.
        batch_size: see `predictor`.

    Raises:
        RequestError: no task has such an output, or the model does not take images, or is not a
            Functional model.
    """
    record = record or {}
    form = input_form(model)
    flat = record.get("image_shape") if form.layout is Layout.FLAT else None
    shape = tuple(flat) if flat else form.image_shape(model.name)
    try:
        predict = predictor(model, batch_size)
    except TypeError as error:
        raise RequestError(str(error)) from error
    outputs = outputs_by_name(model)
    head = outputs.get("head")
    task = None
    if head is not None:
        task = task_called(record["task"]) if "task" in record else task_of_output(head)
    if head is None or task is None:
        told = {name: list(output.shape) for name, output in outputs.items()}
        raise RequestError(f"{model.name} returns {told}, which is no answer to any task")
    classes = record.get("classes") or (2 if head.shape[-1] == 1 else head.shape[-1])
    facts = Facts(shape, classes, tuple(record.get("mean", ())), tuple(record.get("spread", ())))

    def heads(images: Any) -> Mapping[str, Any]:
        array = form.arrange(np.asarray(images, "float32"))
        given = predict(keras.tree.pack_sequence_as(model.input, [array]))
        return given if isinstance(given, dict) else {"head": given}

    return Answerer(task, facts, shape, heads, outputs)
