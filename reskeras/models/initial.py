"""Initial weights from another network, as far as the two agree: `train.init` of a recipe.

`reskeras.models.transfer` copies all weights or none. Here, layers of the same name and shape are
taken and all others stay random; the first layer adapts to the number of channels.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras.errors import RequestError
from reskeras.models.outputs import head_layers
from reskeras.models.saved import load_saved
from reskeras.models.transfer import (
    application,
    layers_of,
    left_bias,
    moves_of,
    norms_by_input,
    with_biases,
)
from reskeras.spec import Recipe
from reskeras.spec.training import IMAGENET, SCRATCH

_ENCODER = "encoder_"
"""What the layers of a separate encoder start with in a U-Net."""
_SHOWN = 6
"""Names in a line about what was taken."""

Moves = list[tuple[Any, np.ndarray[Any, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """Which layers of a network start from another one's weights."""

    origin: str
    """`train.init` of the recipe."""
    layers: tuple[str, ...] = ()
    """Those that were taken, adapted ones too."""
    adapted: tuple[str, ...] = ()
    """Those whose kernels were changed to take another number of channels."""
    new: tuple[str, ...] = ()
    """Those with weights that start from random ones."""
    unused: tuple[str, ...] = ()
    """The other network's layers that have no twin here."""

    def told(self) -> str:
        """One line for people; layers by name."""
        parts = [
            f"{len(self.layers)} of {len(self.layers) + len(self.new)} layers start from "
            f"{self.origin}"
        ]
        for what, names in (
            ("adapted to the channels", self.adapted),
            ("new", self.new),
            ("not taken from there", self.unused),
        ):
            if names:
                parts.append(f"{what}: {_listed(names)}")
        return "; ".join(parts)


def initialize(model: keras.Model, recipe: Recipe) -> Taken:
    """Gives a model the initial weights of `recipe.train.init`.

    A layer is taken if the other network has one of its name, type, shapes and strides; names of
    keras.applications are understood, and an encoder's layers fit a U-Net's and the other way
    round. The sizes of images may differ. Batch-norm statistics come along. Where the first layer
    sees another number of channels, each of its m channels gets the sum of the old ones over m: on
    gray images repeated over all channels, the two compute the same.

    ImageNet's weights expect other values than 0 to 1; the first layer absorbs the difference. It
    is exact except at the border, where zeros pad the image.

    Args:
        model: the network of the recipe, changed in place.
        recipe: the recipe.

    Returns:
        What was taken; empty for `none`.

    Raises:
        RequestError: there is no such file or network, or it shares no layer with this one.
    """
    init = recipe.train.init
    if init == SCRATCH:
        return Taken(origin=init)
    if init == IMAGENET:
        source = application(recipe.spec, IMAGENET)
        _absorb_preprocessing(source)
    else:
        source = _read(Path(init))
    there, here = layers_of(source), layers_of(model)
    pairs = max(
        (_pairs(there, here, rename) for rename in _RENAMES),
        key=lambda pairs: sum(_matches(*pair) for pair in pairs.values()),
    )
    return _take(init, model, there, here, pairs)


_RENAMES: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: _ENCODER + name,
    lambda name: name.removeprefix(_ENCODER),
)
"""From the other network's names to this one's."""


def _pairs(
    there: Mapping[str, Any], here: Mapping[str, Any], rename: Callable[[str], str]
) -> dict[str, tuple[Any, Any]]:
    renamed = {rename(name): layer for name, layer in there.items()}
    return {name: (renamed[name], layer) for name, layer in here.items() if name in renamed}


def _matches(source: Any, target: Any) -> bool:
    try:
        moves_of(source, target)
    except ValueError:
        return False
    return True


def _take(
    init: str,
    model: keras.Model,
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    pairs: Mapping[str, tuple[Any, Any]],
) -> Taken:
    first, norms = _first_layers(model), norms_by_input(model)
    moves: Moves = []
    late: Moves = []
    taken: list[str] = []
    adapted: list[str] = []
    for name, (source, target) in pairs.items():
        adapts = name in first and _channels(source) != _channels(target)
        try:
            own = _adapted(source, target) if adapts else moves_of(source, target)
            own_late = left_bias(source, target, norms)
        except ValueError:
            continue  # all of it stays random, and it is named as new
        moves += own
        late += own_late
        taken.append(name)
        if adapts:
            adapted.append(name)
    heads = head_layers(model)
    if not any(hasattr(here[name], "kernel") and name not in heads for name in taken):
        raise RequestError(
            f"train.init: {init} shares no layers with {model.name}: it has "
            f"{_listed(tuple(there))}; here are {_listed(tuple(here))}"
        )
    held = {id(variable) for variable, _ in moves}
    # A norm that is not taken has no mean to correct.
    moves += with_biases(moves, [(mean, bias) for mean, bias in late if id(mean) in held])
    for variable, value in moves:
        variable.assign(value)
    used = {id(pairs[name][0]) for name in taken}
    return Taken(
        origin=init,
        layers=tuple(taken),
        adapted=tuple(adapted),
        new=tuple(name for name in here if name not in taken),
        unused=tuple(layer.name for layer in there.values() if id(layer) not in used),
    )


def _first_layers(model: keras.Model) -> set[str]:
    """The names of the layers that see the image: only layers without weights precede them."""
    raw = {id(tensor) for tensor in model.inputs}
    names = set()
    for layer in model.layers:
        if id(getattr(layer, "input", None)) not in raw:
            continue
        if layer.weights:
            names.add(layer.name)
        else:
            raw.add(id(layer.output))
    return names


def _channels(layer: Any) -> int | None:
    """The channels that a kernel sees; None for a layer without one."""
    kernel = getattr(layer, "kernel", None)
    return None if kernel is None else int(kernel.shape[-2])


def _adapted(source: Any, target: Any) -> Moves:
    """The moves of a first layer that sees another number of channels.

    Raises:
        ValueError: it differs in more than that.
    """
    count = _channels(target)
    if count is None or "Transpose" in type(target).__name__ or getattr(target, "groups", 1) > 1:
        raise ValueError("no kernel over all channels")
    twin = type(source).from_config(source.get_config())
    twin.build((*source.input.shape[:-1], count))
    kernel = keras.ops.convert_to_numpy(source.kernel)
    twin.kernel.assign(np.repeat(kernel.sum(-2, keepdims=True) / count, count, axis=-2))
    if source.bias is not None:
        twin.bias.assign(source.bias)
    return moves_of(twin, target)


def _absorb_preprocessing(model: keras.Model) -> None:
    """Makes a network of keras.applications take colors from 0 to 1."""
    applications = keras.applications
    first = model.get_layer("conv1_conv")
    names = {layer.name for layer in model.layers}
    if "bn" in names:
        preprocess = applications.densenet.preprocess_input
    elif "post_bn" in names:
        preprocess = applications.resnet_v2.preprocess_input
    else:
        preprocess = applications.resnet.preprocess_input
    # It is affine in the colors: black gives the shift, and each color a row of the matrix.
    shift = preprocess(np.zeros((1, 1, 3), "float32"), data_format="channels_last")[0, 0]
    matrix = (
        preprocess(255 * np.eye(3, dtype="float32")[None], data_format="channels_last")[0] - shift
    )
    kernel = keras.ops.convert_to_numpy(first.kernel)
    first.kernel.assign(np.einsum("rc,hwco->hwro", matrix, kernel))
    bias = np.einsum("c,hwco->o", shift, kernel)
    if first.bias is not None:
        first.bias.assign(first.bias + bias)
    else:
        norm = model.get_layer("conv1_bn")
        norm.moving_mean.assign(norm.moving_mean - bias)


def _read(path: Path) -> keras.Model:
    if path.suffix != ".keras" or not path.is_file():
        raise RequestError(
            f"train.init: {path}: no such .keras file; or give {SCRATCH}, {IMAGENET}"
        )
    return load_saved(path, f"train.init: {path}")


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
