"""Transfers weights between models of the same structure, including keras.applications'."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError
from reskeras.nets.unet import encoder_of
from reskeras.spec import AnySpec, Classifier, UNet
from reskeras.spec.presets import preset

# From keras.applications' layer names (3.12 to 3.15) to ours. Stages count from 2 there, from 1
# here.
_STAGE = r"conv(?P<stage>\d+)_block(?P<block>\d+)_"
_SHARED = [
    (r"conv1_conv", "stem_conv"),
    (r"conv1_bn", "stem_norm"),
    (r"predictions", "head"),
    (_STAGE + r"0_conv", "{stage}_{block}_shortcut_conv"),
]
_RESNET = [
    *_SHARED,
    (_STAGE + r"0_bn", "{stage}_{block}_shortcut_norm"),
    (_STAGE + r"(?P<number>\d)_conv", "{stage}_{block}_conv{number}"),
    (_STAGE + r"(?P<number>\d)_bn", "{stage}_{block}_norm{number}"),
]
# In pre-activation networks, the norm after the n-th convolution precedes the next one.
_PRE_ACTIVATION = [
    *_SHARED,
    (_STAGE + r"preact_bn", "{stage}_{block}_norm1"),
    (_STAGE + r"(?P<number>\d)_conv", "{stage}_{block}_conv{number}"),
    (_STAGE + r"(?P<number>\d)_bn", "{stage}_{block}_norm{next}"),
    (r"post_bn", "final_norm"),
    (r"pool(?P<stage>\d)_bn", "{stage}_transition_norm1"),
    (r"pool(?P<stage>\d)_conv", "{stage}_transition_conv1"),
    (r"bn", "final_norm"),
]


def transfer_weights(
    source: keras.Model, target: keras.Model, *, prefix: str = "", head: bool = True
) -> None:
    """Copies all weights of one model to another of the same structure.

    Layers are matched by name; names of keras.applications' ResNets (V1, V2) and DenseNets are
    understood on both sides. A convolution bias that the target lacks goes into the moving mean of
    the batch norm that follows, and a different epsilon into a batch norm's moving variance (and
    gamma). Both are exact in inference mode. Names, types, shapes, strides and groups of the layers
    with weights are checked before anything is written. Layers without weights, such as activations
    and constant scales, are not compared.

    Args:
        source: a built model, such as `keras.applications.ResNet50()`.
        target: a built model, such as `reskeras.build("resnet50")`; changed in place.
        prefix: only target layers whose names start with it take part (`encoder_` in a U-Net); the
            source's names lack it. The target then needs no counterpart of the source's head.
        head: whether the head takes part. Without it, the numbers of classes may differ.

    Raises:
        RequestError: one line for every layer that one of the two lacks, and for every pair whose
            shapes or strides differ.
        TypeError: not models.
    """
    for model in (source, target):
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"transfer_weights takes built models, not a {type(model).__name__}; "
                "reskeras.build makes one"
            )
    there = layers_of(source)
    here = layers_of(target, prefix)
    if not head:
        here.pop("head", None)
    if not head or (prefix and "head" not in here):
        there.pop("head", None)
    problems = [
        f"the target has no {there[name].name}{_called(there[name], name)}"
        for name in there.keys() - here.keys()
    ]
    problems += [
        f"the source has no {name} ({_shapes(here[name])} in the target)"
        for name in here.keys() - there.keys()
    ]
    if not here:
        problems = [
            "the target has no layers with weights"
            f"{f' whose names begin with {prefix!r}' if prefix else ''}"
        ]
    moves: list[tuple[Any, np.ndarray[Any, Any]]] = []
    if not problems:
        means = norms_by_input(target)
        late = []
        for name, layer in here.items():
            try:
                moves += moves_of(there[name], layer)
                late += left_bias(there[name], layer, means)
            except ValueError as error:
                problems.append(f"{there[name].name}{_called(there[name], name)}: {error}")
        moves += with_biases(moves, late)
    if problems:
        shown = sorted(problems)[:8]
        more = [f"... and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise RequestError(
            "\n".join(
                [f"{source.name} does not fit {target.name}: {line}" for line in shown] + more
            )
        )
    for variable, value in moves:
        variable.assign(value)


_APPLICATIONS = {
    **{f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
    **{f"resnet{depth}v2": f"ResNet{depth}V2" for depth in (50, 101, 152)},
    **{f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201)},
}


_CLASSES = 1000
"""Classes of ImageNet, for which keras.applications has weights."""


def load_pretrained(model: keras.Model, spec: AnySpec, weights: str) -> None:
    """Loads keras.applications' weights into a model built from a spec.

    Loads the head only if it has ImageNet's 1000 classes. Of a U-Net, loads the encoder. The
    network then expects images preprocessed by keras.applications' `preprocess_input`.

    Args:
        model: the built model, changed in place.
        spec: its spec.
        weights: `imagenet` (downloaded and cached by Keras), or a file that keras.applications
            takes.

    Raises:
        RequestError: keras.applications has no such network, or there is no such file.
    """
    if weights != "imagenet" and not Path(weights).is_file():
        raise RequestError(f"weights {weights!r}: neither `imagenet` nor a file")
    prefix, body = _body(spec)
    source = application(spec, weights)
    # A source without its head was made so because the target has other classes.
    head = not prefix and any(layer.name == "predictions" for layer in source.layers)
    transfer_weights(source, model, prefix=prefix + body.layer_prefix, head=head)


def application(spec: AnySpec, weights: str | None) -> keras.Model:
    """The network of keras.applications that a spec (of a U-Net, the encoder) describes.

    Args:
        spec: the spec. Its images and classes may differ.
        weights: as keras.applications takes them.

    Returns:
        The network; without its head, unless the spec's has ImageNet's 1000 classes.

    Raises:
        RequestError: keras.applications has no such network.
    """
    prefix, body = _body(spec)
    for name in _APPLICATIONS:
        known = preset(name)
        own = {
            field: getattr(body, field)
            for field in ("name", "input_shape", "head", "data_format", "layer_prefix")
        }
        if dataclasses.replace(known, **own) == body:
            break
    else:
        raise RequestError(
            f"weights {weights!r}: there are none for {body.name!r}, only for networks that "
            f"differ from {', '.join(_APPLICATIONS)} "
            "only in images, classes and name"
        )
    head = not prefix and isinstance(body.head, Classifier) and body.head.classes == _CLASSES
    model: keras.Model = getattr(keras.applications, _APPLICATIONS[name])(
        include_top=head, weights=weights
    )
    return model


def _body(spec: AnySpec) -> tuple[str, Any]:
    """What keras.applications may know: a network, or a U-Net's encoder and its layers' prefix."""
    if isinstance(spec, UNet):
        return f"{spec.layer_prefix}encoder_", encoder_of(spec) or spec
    return "", spec


def layers_of(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """The layers with weights whose names start with a prefix, by reskeras' names without it."""
    layers = {
        layer.name.removeprefix(prefix): layer
        for layer in model.layers
        if layer.weights and layer.name.startswith(prefix)
    }
    if "conv1_conv" not in layers:
        return layers
    # The norm after the last block in V2 and DenseNet
    pre_activation = "post_bn" in layers or "bn" in layers
    rules = _PRE_ACTIVATION if pre_activation else _RESNET
    return {_our_name(name, rules): layer for name, layer in layers.items()}


def _our_name(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, ours in rules:
        if match := re.fullmatch(pattern, name):
            found = match.groupdict()
            numbers = {key: int(value) for key, value in found.items()}
            return ours.format(
                stage=f"stage{numbers.get('stage', 0) - 1}",
                block=f"block{numbers.get('block')}",
                number=numbers.get("number"),
                next=numbers.get("number", 0) + 1,
            )
    return name


def norms_by_input(model: keras.Model) -> dict[int, Any]:
    """The batch norms of a model by the ids of their inputs."""
    return {
        id(layer.input): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def moves_of(source: Any, target: Any) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """What to assign to the target's variables, except a bias that only one side has.

    Raises:
        ValueError: the layers differ in type, shapes or strides.
    """
    if type(source) is not type(target):
        raise ValueError(f"a {type(source).__name__} there, a {type(target).__name__} here")
    batch_norm = isinstance(source, keras.layers.BatchNormalization)
    for setting in ("strides", "groups", "dilation_rate", *(() if batch_norm else ("epsilon",))):
        theirs, ours = (getattr(layer, setting, None) for layer in (source, target))
        if theirs != ours:
            raise ValueError(f"{setting} {theirs} there, {ours} here")
    theirs, ours = ({weight.name: weight for weight in layer.weights} for layer in (source, target))
    moves = []
    for name, variable in ours.items():
        if name not in theirs:
            if name != "bias":
                raise ValueError(f"no {name} there")
            value = np.zeros(variable.shape, "float32")
        else:
            value = keras.ops.convert_to_numpy(theirs[name])
        if value.shape != tuple(variable.shape):
            raise ValueError(f"{name} {list(value.shape)} there, {list(variable.shape)} here")
        if batch_norm and name in ("gamma", "moving_variance"):
            variance = keras.ops.convert_to_numpy(source.moving_variance)
            shifted = np.maximum(variance + (source.epsilon - target.epsilon), 0.0)
            # If the variance cannot absorb the difference because it would become negative, gamma
            # absorbs the rest.
            rest = np.sqrt((shifted + target.epsilon) / (variance + source.epsilon))
            value = shifted if name == "moving_variance" else value * rest
        moves.append((variable, value))
    if unknown := theirs.keys() - ours.keys() - {"bias"}:
        raise ValueError(f"no {min(unknown)} here")
    return moves


def left_bias(
    source: Any, target: Any, norms: dict[int, Any]
) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """The bias that the target lacks, and the moving mean that absorbs it.

    Raises:
        ValueError: no batch norm follows.
    """
    if getattr(source, "bias", None) is None or getattr(target, "bias", None) is not None:
        return []
    bias = keras.ops.convert_to_numpy(source.bias)
    norm = norms.get(id(target.output))
    if norm is None:
        if bias.any():
            raise ValueError("a bias there, none here, and no batch norm follows to absorb it")
        return []
    return [(norm.moving_mean, bias)]


def with_biases(
    moves: list[tuple[Any, np.ndarray[Any, Any]]], late: list[tuple[Any, np.ndarray[Any, Any]]]
) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """The moving means that absorb biases, to assign after the other moves."""
    means = {id(variable): value for variable, value in moves}
    return [(mean, means[id(mean)] - bias) for mean, bias in late]


def _called(layer: Any, name: str) -> str:
    return f" ({name} here)" if layer.name != name else f" ({_shapes(layer)})"


def _shapes(layer: Any) -> str:
    return ", ".join(f"{weight.name} {list(weight.shape)}" for weight in layer.weights)
