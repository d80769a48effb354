"""Every layer of every network in Keras: where layers are made, named and initialized.

All are stock Keras layers, so a saved model loads with plain Keras.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras

from reskeras.nets.primitives import Convolution, Layers, Padding, PoolKind
from reskeras.spec import Activation, BatchNorm, GroupNorm, Init, LayerNorm, Norm

_NORMAL = {
    "he_normal": (2.0, "fan_in"),
    "glorot_normal": (1.0, "fan_avg"),
    "lecun_normal": (1.0, "fan_in"),
}
"""Scale and mode of the normal initializers; the variance is scale / fan."""


class KerasLayers(Layers):
    """`reskeras.nets.primitives.Layers` on the Keras functional API.

    Args:
        dims: number of spatial sides of a tensor: 0 (fully connected) to 3.
        data_format: of every tensor except pooled ones.
        init: initializer of kernels.
    """

    def __init__(
        self, dims: int, data_format: Literal["channels_last", "channels_first"], init: Init
    ) -> None:
        self.dims, self.init = dims, init
        self.first = data_format == "channels_first" and dims > 0
        self.format = {"data_format": data_format} if dims else {}
        self.axis = 1 if self.first else -1

    def input(self, shape: tuple[int, ...], *, name: str) -> Any:
        *sides, channels = shape
        return keras.Input((channels, *sides) if self.first else shape, name=name)

    def size(self, x: Any) -> tuple[int, ...]:
        return tuple(x.shape[2:]) if self.first else tuple(x.shape[1:-1])

    def channels(self, x: Any) -> int:
        return int(x.shape[self.axis])

    def convolution(self, x: Any, conv: Convolution, *, name: str) -> Any:
        options = {
            "use_bias": conv.bias,
            "kernel_initializer": "zeros"
            if conv.zero
            else self._initializer(conv.init or self.init),
            "bias_initializer": keras.initializers.Constant(conv.bias_start)
            if conv.bias_start
            else "zeros",
            "activation": conv.activation,
            "dtype": "float32" if conv.float32 else None,
            "name": name,
        }
        if self.dims == 0:
            return keras.layers.Dense(conv.width, **options)(x)
        shape = {"strides": conv.stride, "groups": conv.groups, "padding": conv.padding}
        return self._layer("Conv{}D")(conv.width, conv.kernel, **shape, **options, **self.format)(x)

    def conv_transpose(self, x: Any, width: int, *, name: str) -> Any:
        layer = self._layer("Conv{}DTranspose")
        return layer(
            width,
            2,
            strides=2,
            kernel_initializer=self._initializer(self.init),
            name=name,
            **self.format,
        )(x)

    def dense(self, x: Any, width: int, *, name: str, activation: str | None) -> Any:
        return keras.layers.Dense(width, activation=activation, dtype="float32", name=name)(x)

    def norm(self, x: Any, spec: Norm, *, name: str, zero: bool = False) -> Any:
        options = {
            "axis": self.axis,
            "name": name,
            "gamma_initializer": "zeros" if zero else "ones",
        }
        match spec:
            case BatchNorm():
                return keras.layers.BatchNormalization(
                    momentum=spec.momentum, epsilon=spec.epsilon, **options
                )(x)
            case LayerNorm():
                return keras.layers.LayerNormalization(epsilon=spec.epsilon, **options)(x)
            case GroupNorm():
                groups = math.gcd(spec.groups, self.channels(x))
                return keras.layers.GroupNormalization(groups, epsilon=spec.epsilon, **options)(x)
            case _:
                raise TypeError(f"not a norm: {spec!r}")

    def activation(self, x: Any, kind: Activation, *, name: str) -> Any:
        return (
            keras.layers.ReLU(name=name)(x)
            if kind == "relu"
            else keras.layers.Activation(kind, name=name)(x)
        )

    def add(self, xs: Sequence[Any], *, name: str, float32: bool = False) -> Any:
        return keras.layers.Add(name=name, dtype="float32" if float32 else None)(list(xs))

    def concat(self, xs: Sequence[Any], *, name: str) -> Any:
        return keras.layers.Concatenate(axis=self.axis, name=name)(list(xs))

    def multiply(self, x: Any, gate: Any, *, name: str) -> Any:
        return keras.layers.Multiply(name=name)([x, gate])

    def scale(self, x: Any, factor: float, *, offset: float = 0.0, name: str) -> Any:
        return keras.layers.Rescaling(factor, offset, name=name)(x)

    def rescale(
        self, x: Any, factors: Sequence[float], offsets: Sequence[float], *, name: str
    ) -> Any:
        layer = keras.layers.Rescaling(list(factors), list(offsets), dtype="float32", name=name)
        return layer(x)

    def learned_scale(self, x: Any, *, name: str) -> Any:
        # A dense layer from one number to one multiplies by a scalar, and is a stock layer.
        shape = tuple(x.shape[1:])
        x = keras.layers.Reshape((math.prod(shape), 1), name=f"{name}_split")(x)
        x = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name=name)(x)
        return keras.layers.Reshape(shape, name=f"{name}_join")(x)

    def window(
        self, x: Any, kind: PoolKind, size: int, stride: int, padding: Padding, *, name: str
    ) -> Any:
        layer = self._layer("MaxPooling{}D" if kind == "max" else "AveragePooling{}D")
        return layer(size, strides=stride, padding=padding, name=name, **self.format)(x)

    def global_pool(self, x: Any, *, name: str, keep_sides: bool = False) -> Any:
        if self.dims == 0:
            return x
        return self._layer("GlobalAveragePooling{}D")(
            keepdims=keep_sides, name=name, **self.format
        )(x)

    def upsample(self, x: Any, *, name: str) -> Any:
        return self._layer("UpSampling{}D")(2, name=name, **(self.format if self.dims > 1 else {}))(
            x
        )

    def pad(self, x: Any, amounts: Sequence[tuple[int, int]], *, name: str) -> Any:
        return self._layer("ZeroPadding{}D")(self._amounts(amounts), name=name, **self.format)(x)

    def crop(self, x: Any, amounts: Sequence[tuple[int, int]], *, name: str) -> Any:
        return self._layer("Cropping{}D")(
            self._amounts(amounts), name=name, **(self.format if self.dims > 1 else {})
        )(x)

    def pad_channels(self, x: Any, width: int, *, name: str) -> Any:
        # Keras has no layer for this. Space and channels become the sides of an image whose far
        # edge is padded.
        channels, sides = self.channels(x), self.size(x)
        more, area = width - channels, math.prod(sides)
        flat = (channels, area, 1) if self.first else (area, channels, 1)
        edges = ((0, more), (0, 0)) if self.first else ((0, 0), (0, more))
        x = keras.layers.Reshape(flat, name=f"{name}_split")(x)
        x = keras.layers.ZeroPadding2D(edges, data_format="channels_last", name=name)(x)
        return keras.layers.Reshape(
            (width, *sides) if self.first else (*sides, width), name=f"{name}_join"
        )(x)

    def dropout(self, x: Any, rate: float, *, name: str, whole: bool = False) -> Any:
        shape = (None, *(1,) * (self.dims + 1)) if whole else None
        return keras.layers.Dropout(rate, noise_shape=shape, name=name)(x)

    def endpoint(self, x: Any, *, name: str) -> Any:
        return keras.layers.Identity(name=name)(x)

    def _initializer(self, init: Init) -> Any:
        # Keras' normal initializers are truncated. The papers' are not, and truncation takes a
        # third of the time to build ResNet-50. Every layer needs an initializer of its own: a
        # shared one would give equal layers equal weights.
        if init not in _NORMAL:
            return init
        scale, mode = _NORMAL[init]
        return keras.initializers.VarianceScaling(scale, mode, "untruncated_normal")

    def _layer(self, pattern: str) -> Any:
        return getattr(keras.layers, pattern.format(self.dims))

    def _amounts(self, amounts: Sequence[tuple[int, int]]) -> Any:
        return tuple(amounts[0]) if self.dims == 1 else tuple(tuple(pair) for pair in amounts)
