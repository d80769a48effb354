"""The few tensor-to-tensor primitives that every architecture is made of; layer names and initialisers live here.

All are stock Keras layers, so that a saved model reloads with plain Keras.
"""

import dataclasses
from typing import Any

import keras

from reskeras.spec import BatchNorm, NoNorm, Norm, NormOrder

PRE_ACTIVATION = frozenset({"relu_only_preact", "full_preact"})
"""Norm orders whose branch begins with ReLU; their stem stays linear and the last stage is followed by an activation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Primitives:
    """Convolution, normalisation and ReLU as one network uses them; made once from its spec and handed down."""

    norm_spec: Norm
    norm_order: NormOrder
    padding: str = "same"

    def conv(self, x: Any, width: int, kernel: int, *, name: str, stride: int = 1, groups: int = 1) -> Any:
        """A convolution [N,H,W,C] -> [N,H/stride,W/stride,width]; it has a bias only where no normalisation exists."""
        return keras.layers.Conv2D(
            width,
            kernel,
            strides=stride,
            groups=groups,
            padding=self.padding if kernel > 1 else "same",
            use_bias=isinstance(self.norm_spec, NoNorm),
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def norm(self, x: Any, *, name: str) -> Any:
        """The spec's normalisation of a tensor of any rank."""
        match self.norm_spec:
            case BatchNorm(momentum=momentum, epsilon=epsilon):
                return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)
            case NoNorm():
                return x

    def relu(self, x: Any, *, name: str) -> Any:
        """max(x, 0)."""
        return keras.layers.ReLU(name=name)(x)

    def after_stem(self, x: Any, *, name: str, activated: bool = False) -> Any:
        """What follows the stem's convolution: nothing for `full_preact`, whose first block begins with norm and ReLU itself."""
        if activated or self.norm_order != "full_preact":
            x = self.norm(x, name=f"{name}_norm")
        if activated or self.norm_order not in PRE_ACTIVATION:
            x = self.relu(x, name=f"{name}_relu")
        return x

    def after_blocks(self, x: Any, *, name: str) -> Any:
        """The activation that a pre-activation network still owes after its last block (arXiv 1603.05027, Section 4.1)."""
        if self.norm_order == "full_preact":
            x = self.norm(x, name=f"{name}_norm")
        if self.norm_order in PRE_ACTIVATION:
            x = self.relu(x, name=f"{name}_relu")
        return x


def pad_channels(x: Any, width: int, *, name: str) -> Any:
    """Zero channels appended to reach `width` (option A). Keras has no layer for it, so space and channels become an image."""
    *space, channels = x.shape[1:]
    flat = keras.layers.Reshape((space[0] * space[1], channels, 1), name=f"{name}_split")(x)
    flat = keras.layers.ZeroPadding2D(((0, 0), (0, width - channels)), name=name)(flat)
    return keras.layers.Reshape((*space, width), name=f"{name}_join")(flat)


def pool_to_classes(x: Any, classes: int, activation: str) -> Any:
    """Global average pooling and a dense layer, [N,H,W,C] -> [N,classes], in float32 under every precision policy."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.layers.Dense(classes, activation=_activation(activation), dtype="float32", name="head")(x)


def map_to_classes(x: Any, classes: int, activation: str) -> Any:
    """A 1x1 convolution, [N,H,W,C] -> [N,H,W,classes], in float32 under every precision policy."""
    return keras.layers.Conv2D(classes, 1, activation=_activation(activation), dtype="float32", name="head")(x)


def _activation(name: str) -> str | None:
    return None if name == "none" else name
