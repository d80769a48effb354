"""How a model answers: its outputs by name."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError
from reskeras.models.inputs import Layout, input_form
from reskeras.tasks import Output, task_called


def outputs_of(model: keras.Model) -> dict[str, Any]:
    """A network's output tensors by name; the last head's is called `head` and comes first."""
    output = model.output
    outputs = dict(output) if isinstance(output, dict) else {"head": output}
    return {"head": outputs.pop("head")} | outputs if "head" in outputs else outputs


def outputs_by_name(model: keras.Model) -> dict[str, Output]:
    """The forms of a network's outputs, in the order of `outputs_of`."""
    made_by = {id(layer.output): layer for layer in model.layers}
    forms = {}
    for name, tensor in outputs_of(model).items():
        activation = getattr(made_by.get(id(tensor)), "activation", None)
        called = getattr(activation, "__name__", "linear")
        forms[name] = Output(tuple(tensor.shape), called, _middle(model, tensor))
    return forms


def check_record(model: keras.Model, record: Mapping[str, Any], called: str) -> None:
    """Checks that the record of a network's data can be its own, by the form of its outputs.

    Args:
        model: the network.
        record: the facts of its data, as `ImageData.about` has them; may be empty.
        called: how messages refer to the network.

    Raises:
        RequestError: the record is of a task, or of so many classes, that has other outputs.
    """
    # Whether a model has a form at all, others check.
    head: Any = outputs_of(model).get("head") if hasattr(model, "output") else None
    if "task" not in record or not hasattr(head, "shape"):
        return
    task = task_called(record["task"])
    classes = record.get("classes", head.shape[-1])
    if not task.suits(tuple(head.shape), classes):
        form = ", ".join(["N", *("?" if size is None else str(size) for size in head.shape[1:])])
        raise RequestError(
            f"{called}: the record of its data is of {task.name} {task.labels.told(classes)}, but "
            f"the model answers [{form}]: is the data.json or journal beside it another network's?"
        )


def head_layers(model: keras.Model) -> frozenset[str]:
    """The names of the layers of a network's heads: its outputs, and layers named after them.

    Intermediate heads are heads, too. Endpoints are none.
    """
    outputs = {id(tensor) for tensor in outputs_of(model).values()}
    heads = [
        layer.name
        for layer in model.layers
        if id(layer.output) in outputs and not isinstance(layer, keras.layers.Identity)
    ]
    return frozenset(
        layer.name
        for layer in model.layers
        for head in heads
        if layer.name == head or layer.name.startswith(f"{head}_")
    )


def _middle(model: keras.Model, output: Any) -> tuple[int, ...] | None:
    """`Output.middle` of an output.

    Shapes alone do not say it: 16x16 maps of 32x32 images are their middle, or all of them at half
    the resolution.
    """
    if len(model.inputs) > 1:
        return None
    form = input_form(model)
    sides, given = form.shape[:-1], tuple(output.shape[1:-1])
    same = not given or len(given) != len(sides) or given == sides
    if form.layout is not Layout.CHANNELS_LAST or same or None in (*sides, *given):
        return None
    pixels = np.rint(_pixels(output, len(given)) * given).astype(int)
    # What a "same" padding adds to odd sides is no part of the image.
    return None if (pixels >= sides).all() else tuple(np.minimum(pixels, sides).tolist())


def _pixels(tensor: Any, rank: int) -> Any:
    """How many pixels of the image one of a tensor is, along each side: layers halve and double."""
    size = np.ones(rank)
    while True:
        operation, number, place = tensor._keras_history
        node = operation._inbound_nodes[number]
        if node.is_input:
            return size
        if isinstance(operation, keras.Model):  # a network as a layer
            size = size * _pixels(operation.outputs[place], rank)
        elif "UpSampling" in type(operation).__name__:
            size = size / np.array(operation.size)
        elif (steps := getattr(operation, "strides", None)) is not None:
            finer = "Transpose" in type(operation).__name__
            size = size / np.array(steps) if finer else size * np.array(steps)
        # All ways from the image to a tensor halve and double alike, or they could not meet.
        tensor = node.input_tensors[0]
