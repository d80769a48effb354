"""Grows a trained network into a deeper or wider one with the same function (arXiv 1511.05641).

New blocks start as the identity. New channels start with zero outgoing weights. What no weights can
make the identity, in training and inference, is refused.
"""

import re
from typing import Any

import keras
import numpy as np

from reskeras.models.build import build
from reskeras.nets.assemble import as_spec
from reskeras.nets.graph import Graph, Node
from reskeras.nets.growth import Channels, Plan, scaled_by
from reskeras.spec import AnySpec

Array = np.ndarray[Any, Any]


def grow(model: keras.Model, spec: AnySpec | str) -> keras.Model:
    """Builds a deeper or wider network that computes the same function as a trained one.

    Blocks are added at the end of a stage, or before its last block if that block has the stride.
    The outputs are equal up to float rounding, in inference mode and in training mode (except for
    dropout and drop path, which are random), and the new weights receive gradients. Widths can grow
    if channels stay separate: not under layer or group norm, in grouped convolutions, or past a
    shortcut that pads channels.

    Args:
        model: a network built by `reskeras.build` from a spec like this one, with fewer blocks or
            smaller widths.
        spec: the larger network (or a preset's name).

    Returns:
        A new model, not compiled. The trained one is unchanged.

    Raises:
        RequestError: the network cannot grow like this. One line says where and why.
        TypeError: not a model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"grow takes a built model, not a {type(model).__name__}; reskeras.build makes one"
        )
    spec = as_spec(spec)
    target = build(spec)
    _Growth(model, target, spec).run()
    return target


class _Growth:
    """Sets the weights of a new network according to its plan."""

    def __init__(self, source: keras.Model, target: keras.Model, spec: AnySpec) -> None:
        self.target = target
        self.trained = {layer.name: layer for layer in source.layers}
        graph = graph_of(target, spec)
        self.plan = Plan(graph_of(source, spec), graph, spec)
        self.nodes = {node.name: node for node in graph.nodes}

    def run(self) -> None:
        """Sets all weights of the target."""
        for layer in self.target.layers:
            twin = self.plan.twin(layer.name)
            if twin in self.trained:
                layer.trainable = self.trained[twin].trainable
                self._take(layer, self.trained[twin])
        for block, names in self.plan.new_blocks.items():
            layers = {part: self.target.get_layer(name) for part, name in names.items()}
            _make_identity(layers, self.plan.options(block))

    def _take(self, layer: Any, twin: Any) -> None:
        """Sets a layer that the trained network has too: old weights, surrounded by new ones."""
        before = self.nodes[layer.name].inputs
        match layer:
            case keras.layers.BatchNormalization():
                channels = self.plan.channels[before[0].name]
                old = channels >= 0
                for ours, theirs in zip(layer.weights, twin.weights, strict=True):
                    value = _numpy(ours)
                    value[old] = _numpy(theirs)[channels[old]]
                    ours.assign(value)
            case keras.layers.Rescaling() if layer.scale != twin.scale:
                for weight in self.target.get_layer(scaled_by(self.nodes[layer.name]).name).weights:
                    if weight.name in ("gamma", "beta", "kernel", "bias"):
                        weight.assign(_numpy(weight) * (twin.scale / layer.scale))
            case keras.layers.Dense(units=1) if layer.name.endswith("_scale"):
                layer.set_weights(twin.get_weights())  # of all channels alike
            case keras.layers.Layer(kernel=_):
                _widen(layer, twin, self.plan.channels[before[0].name])
            case _:
                layer.set_weights(twin.get_weights())


def graph_of(model: keras.Model, spec: AnySpec) -> Graph:
    """The graph of a built model."""
    axis = 0 if spec.data_format == "channels_first" else -1
    made: dict[int, Node] = {}
    for layer in model.layers:
        sides = list(layer.output.shape[1:])
        channels = sides.pop(axis)
        made[id(layer.output)] = Node(
            name=layer.name,
            kind=type(layer).__name__,
            settings=layer.get_config(),
            inputs=()
            if isinstance(layer, keras.layers.InputLayer)
            else tuple(made[id(tensor)] for tensor in _list(layer.input)),
            sides=tuple(sides),
            channels=channels,
            kernel=tuple(layer.kernel.shape) if hasattr(layer, "kernel") else None,
        )
    return Graph(list(made.values()), [made[id(tensor)] for tensor in _list(model.output)])


def _make_identity(layers: dict[str, Any], options: Any) -> None:
    if "concat" in layers:
        return  # new inputs have channels of their own
    convs = [layers[part] for part in sorted(layers) if re.fullmatch(r"conv\d", part)]
    if "add" not in layers:
        for conv in convs:
            _set_identity(conv)
        return
    if "shortcut_conv" in layers:
        _set_identity(layers["shortcut_conv"])
    if isinstance(layers.get("scale"), keras.layers.Dense):
        return  # learned from zero
    last = layers.get(f"norm{len(convs)}") if options.norm_order != "full_preact" else None
    for weight in (last.gamma, last.beta) if last else convs[-1].weights:
        weight.assign(np.zeros(weight.shape))


def _widen(layer: Any, twin: Any, old: Channels) -> None:
    """A larger kernel around a trained one: its outputs come first and ignore the new inputs."""
    ours, theirs = _numpy(layer.kernel), _numpy(twin.kernel)
    transposed = "Transpose" in type(layer).__name__
    if transposed:
        ours, theirs = np.swapaxes(ours, -1, -2), np.swapaxes(theirs, -1, -2)
    outputs, here = theirs.shape[-1], np.flatnonzero(old >= 0)
    if getattr(layer, "groups", 1) > 1:
        ours[...] = theirs
    else:
        ours[..., :outputs] = 0
        ours[..., here, :outputs] = theirs[..., old[here], :]
    layer.kernel.assign(np.swapaxes(ours, -1, -2) if transposed else ours)
    if getattr(layer, "bias", None) is not None:
        bias = _numpy(layer.bias)
        bias[:outputs] = _numpy(twin.bias)
        layer.bias.assign(bias)


def _set_identity(layer: Any) -> None:
    kernel = np.zeros(layer.kernel.shape)
    kernel[(*(side // 2 for side in kernel.shape[:-2]), slice(None), slice(None))] = np.eye(
        *kernel.shape[-2:]
    )
    layer.kernel.assign(kernel)
    if layer.bias is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))


def _numpy(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


def _list(tensors: Any) -> list[Any]:
    if isinstance(tensors, dict):
        return list(tensors.values())
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
