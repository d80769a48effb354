"""Folds batch norms into neighboring linear layers (arXiv 1712.05877, Section 3.2)."""

import dataclasses
from collections import Counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_layers = keras.layers
_CONVS = (_layers.Conv1D, _layers.Conv2D, _layers.Conv3D)
_TRANSPOSED = (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose)
_LINEAR = (*_CONVS, *_TRANSPOSED, _layers.Dense)


@dataclasses.dataclass(kw_only=True)
class _Fold:
    """A linear layer and the batch norms folded into it; either norm may be None."""

    layer: Any
    before: Any = None
    after: Any = None


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Copies a model for inference: the same outputs up to float rounding, fewer batch norms.

    A batch norm in inference mode is x * scale + shift per channel. It is folded

    - backward, into the convolution (also transposed) or dense layer before it, if that layer is
      linear (it has no activation of its own) and nothing else uses its output;
    - otherwise forward, into the convolution or dense layer after it, if nothing else uses the
      batch norm's output and the layer does not pad: padded zeros stand for themselves, not for the
      batch norm's shift.

    That layer then has a bias. A batch norm stays where neither holds, as in pre-activation and
    densely connected networks, where it stands between an addition or concatenation and a ReLU. So
    does one that is called with `training=True` or a mask, and one beside a layer of another kind
    (depthwise convolutions, subclasses), a layer that is called more than once, or a layer with
    another compute dtype or channel axis.

    Args:
        model: a Functional model of plain layers.

    Returns:
        A new model with its own weights, not for further training: the batch statistics are gone.
        Names of model and layers, dtype policies, `trainable`, compilation, and the structure of
        inputs and outputs are the original's. If a folded batch norm's output is an output of the
        model, an Identity layer keeps its name. The original is left as it was.

    Raises:
        TypeError: not a Functional model, or a layer of it is a model, quantized or has LoRA
            weights.
    """
    if not _is_functional(model):
        hint = (
            "; keras.Model(model.inputs, model.outputs) makes one of a built Sequential"
            * isinstance(model, keras.Sequential)
        )
        raise TypeError(
            f"fold_batch_norm takes a Functional model, not {type(model).__name__}{hint}"
        )
    for layer in model.layers:
        if (
            isinstance(layer, keras.Model)
            or getattr(layer, "quantization_mode", None)
            or getattr(layer, "lora_enabled", False)
        ):
            raise TypeError(
                "fold_batch_norm takes plain layers, not nested models, quantized layers or LoRA "
                f"weights: {layer.name} ({type(layer).__name__})"
            )
    folds = _find(model)
    folded = {
        norm.name
        for fold in folds.values()
        for norm in (fold.before, fold.after)
        if norm is not None
    }
    outputs = {tensor._keras_history.operation.name for tensor in model.outputs}

    def clone(layer: Any) -> Any:
        if layer.name in folded:
            return _layers.Identity(name=layer.name, dtype=layer.dtype_policy)
        changes = {"use_bias": True} if layer.name in folds else {}
        return type(layer).from_config(layer.get_config() | changes)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name not in folded:
            return layer(*args, **kwargs)
        x = keras.tree.flatten((args, kwargs))[0]
        return layer(x) if layer.name in outputs else x

    # By default, clone_model names the input layers after their tensors.
    inputs = keras.tree.map_structure(
        lambda x: clone(x._keras_history.operation).output, model.input
    )
    copy = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=clone, call_function=call
    )
    for layer in copy.layers:
        original = model.get_layer(layer.name)
        if layer.name in folds:
            layer.set_weights(_weights(folds[layer.name]))
        elif layer.weights:
            layer.set_weights(original.get_weights())
            if isinstance(layer, _layers.Normalization):
                layer.finalize_state()  # it computes with values derived from its weights
    return copy


def _is_functional(model: Any) -> bool:
    # Keras does not export the class Functional; it is a Model that is also a Function.
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def _find(model: keras.Model) -> dict[str, _Fold]:
    """Finds what can be folded, by the name of the layer that absorbs it."""
    nodes = [
        node for level in model._nodes_by_depth.values() for node in level if not node.is_input
    ]
    calls = Counter(id(node.operation) for node in nodes)
    # None stands for the caller of the model
    used_by: dict[int, list[Any]] = {id(tensor): [None] for tensor in model.outputs}
    for node in nodes:
        for tensor in node.input_tensors:
            used_by.setdefault(id(tensor), []).append(node)
    folds: dict[str, _Fold] = {}

    def only_user(node: Any) -> Any:
        users = used_by.get(id(node.outputs[0]), [])
        return users[0] if len(users) == 1 and users[0] is not None else None

    norms = [node for node in nodes if _is_plain_norm(node) and calls[id(node.operation)] == 1]
    for node in norms:
        source = node.input_tensors[0]._keras_history
        before = source.operation
        if (
            calls[id(before)] == 1
            and _fits(before, node)
            and before.activation is keras.activations.linear
        ):
            made_by = before._inbound_nodes[source.node_index]
            if only_user(made_by) is node:
                folds[before.name] = _Fold(layer=before, after=node.operation)
    backwards = {id(fold.after) for fold in folds.values()}
    for node in norms:
        user = only_user(node)
        if id(node.operation) in backwards or user is None or calls[id(user.operation)] > 1:
            continue
        if _fits(user.operation, node) and _pads_nothing(user.operation):
            folds.setdefault(
                user.operation.name, _Fold(layer=user.operation)
            ).before = node.operation
    return folds


def _is_plain_norm(node: Any) -> bool:
    if type(node.operation) is not _layers.BatchNormalization or len(node.input_tensors) != 1:
        return False
    asked = [*node.arguments.args, *node.arguments.kwargs.values()]  # its input, `training`, `mask`
    return all(value is None or value is False or value is node.input_tensors[0] for value in asked)


def _fits(layer: Any, node: Any) -> bool:
    """Whether layer and norm share compute dtype and channel axis, and the kernel is plain."""
    norm, rank = node.operation, len(node.input_tensors[0].shape)
    if type(layer) not in _LINEAR or layer.compute_dtype != norm.compute_dtype:
        return False
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return bool(norm.axis % rank == (1 if channels_first else rank - 1))


def _pads_nothing(layer: Any) -> bool:
    if isinstance(layer, _layers.Dense):
        return True
    # At its edges, a transposed convolution sums fewer products than elsewhere, whatever its
    # padding.
    return not isinstance(layer, _TRANSPOSED) and (
        layer.padding == "valid" or set(layer.kernel_size) == {1}
    )


def _weights(fold: _Fold) -> list[Any]:
    """Kernel and bias of the layer including its batch norms, computed in float64."""
    layer = fold.layer
    kernel = _numbers(layer.kernel)
    # A kernel is [*space, in / groups, out], a transposed one [*space, out, in].
    outs = (-1, 1) if isinstance(layer, _TRANSPOSED) else (-1,)
    bias = _numbers(layer.bias) if layer.use_bias else 0.0
    if fold.before is not None:
        scale, shift = (
            _per_input(vector, layer, kernel.shape[-1]) for vector in _scale_and_shift(fold.before)
        )
        bias = bias + (kernel * shift).sum(tuple(range(kernel.ndim - len(outs)))).reshape(-1)
        kernel = kernel * scale
    if fold.after is not None:
        scale, shift = _scale_and_shift(fold.after)
        bias = bias * scale + shift
        kernel = kernel * scale.reshape(outs)
    return [kernel, bias]


def _per_input(vector: Vector, layer: Any, width: int) -> Vector:
    """Shapes values per input channel as [in / groups, out or 1], which multiplies a kernel."""
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        return vector[:, None]
    return np.repeat(vector.reshape(groups, -1), width // groups, axis=0).T


def _scale_and_shift(norm: Any) -> tuple[Vector, Vector]:
    scale = 1 / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * _numbers(norm.gamma)
    shift = -_numbers(norm.moving_mean) * scale
    return scale, shift + _numbers(norm.beta) if norm.center else shift


def _numbers(variable: Any) -> Vector:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
