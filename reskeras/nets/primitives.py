"""The layers that every architecture is made of, independent of any framework.

Families and blocks call a `Layers` and do not import Keras: `reskeras.models.keras_layers` turns
the calls into Keras layers, `reskeras.nets.graph` records a graph. So an architecture is written
once. tests/nets/test_cost.py checks on random specs that both make the same layers.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from reskeras.nets.orders import ORDERS
from reskeras.spec import (
    Activation,
    Init,
    NoNorm,
    Norm,
    ResidualScale,
    Shortcut,
    residual_scale,
)

Padding = Literal["same", "valid"]
PoolKind = Literal["max", "average"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """Settings of a convolution."""

    width: int
    kernel: int
    stride: int
    groups: int
    padding: Padding
    bias: bool
    zero: bool
    """Whether the kernel starts at zero."""
    activation: str | None
    bias_start: float
    float32: bool
    """Whether it computes in float32 under every precision policy."""
    init: Init | None
    """An initializer other than the network's."""


class Layers(Protocol):
    """One call makes one layer (or a padding and a layer). Tensors are the implementation's own.

    Sizes are spatial sides. A tensor of a fully connected network has none; there, a convolution is
    a dense layer. All implementations share `conv` and `pool` and provide `convolution` and
    `window`.
    """

    def input(self, shape: tuple[int, ...], *, name: str) -> Any:
        """The input tensor for images of this shape (channels last, without the batch)."""

    def size(self, x: Any) -> tuple[int, ...]:
        """The spatial sides of a tensor."""

    def channels(self, x: Any) -> int:
        """Its number of channels."""

    def conv(
        self,
        x: Any,
        width: int,
        kernel: int,
        *,
        name: str,
        bias: bool,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "same",
        zero: bool = False,
        activation: str | None = None,
        bias_start: float = 0.0,
        float32: bool = False,
        init: Init | None = None,
    ) -> Any:
        """A convolution; `same` pads both edges equally and makes sides ceil(side / stride)."""
        sides = len(self.size(x))
        if kernel > 1 and stride > 1 and padding == "same" and sides:
            # Keras' "same" pads strided convolutions only at the far edges. The papers' code pads
            # both edges equally.
            x = self.pad(x, [(kernel // 2, kernel // 2)] * sides, name=f"{name}_pad")
            padding = "valid"
        convolution = Convolution(
            width=width,
            kernel=kernel,
            stride=stride,
            groups=groups,
            padding=padding,
            bias=bias,
            zero=zero,
            activation=activation,
            bias_start=bias_start,
            float32=float32,
            init=init,
        )
        return self.convolution(x, convolution, name=name)

    def convolution(self, x: Any, conv: Convolution, *, name: str) -> Any:
        """One convolution; its padding is `same` only if Keras pads both edges equally."""

    def conv_transpose(self, x: Any, width: int, *, name: str) -> Any:
        """A 2x2 transposed convolution with stride 2 and a bias."""

    def dense(self, x: Any, width: int, *, name: str, activation: str | None) -> Any:
        """A dense layer in float32."""

    def norm(self, x: Any, spec: Norm, *, name: str, zero: bool = False) -> Any:
        """A norm other than `none`; `zero` initializes its gamma to zero."""

    def activation(self, x: Any, kind: Activation, *, name: str) -> Any:
        """The activation."""

    def add(self, xs: Sequence[Any], *, name: str, float32: bool = False) -> Any:
        """The sum; the first tensor is the shortcut."""

    def concat(self, xs: Sequence[Any], *, name: str) -> Any:
        """Concatenates channels."""

    def multiply(self, x: Any, gate: Any, *, name: str) -> Any:
        """X times its gate, which is broadcast."""

    def scale(self, x: Any, factor: float, *, offset: float = 0.0, name: str) -> Any:
        """X * factor + offset."""

    def rescale(
        self, x: Any, factors: Sequence[float], offsets: Sequence[float], *, name: str
    ) -> Any:
        """Each channel of a flat x times its factor plus its offset, in float32."""

    def learned_scale(self, x: Any, *, name: str) -> Any:
        """X times a scalar learned from zero."""

    def pool(
        self,
        x: Any,
        kind: PoolKind,
        size: int,
        stride: int,
        *,
        name: str,
        rim: int = 0,
        ceil: bool = False,
    ) -> Any:
        """Pooling after `rim` zeros on each edge; `ceil` keeps the remainder at the far edges."""
        if rim:
            x = self.pad(x, [(rim, rim)] * len(self.size(x)), name=f"{name}_pad")
        # Maps smaller than the window stay whole: a network for small images may halve them once
        # too often.
        padding: Padding = "same" if ceil or any(side < size for side in self.size(x)) else "valid"
        return self.window(x, kind, size, stride, padding, name=name)

    def window(
        self, x: Any, kind: PoolKind, size: int, stride: int, padding: Padding, *, name: str
    ) -> Any:
        """One pooling; sides become ceil(side / stride) with padding `same`."""

    def global_pool(self, x: Any, *, name: str, keep_sides: bool = False) -> Any:
        """The mean over the sides, which are dropped unless `keep_sides`."""

    def upsample(self, x: Any, *, name: str) -> Any:
        """Doubles every side by repeating."""

    def pad(self, x: Any, amounts: Sequence[tuple[int, int]], *, name: str) -> Any:
        """Zeros before and after each side."""

    def crop(self, x: Any, amounts: Sequence[tuple[int, int]], *, name: str) -> Any:
        """The inverse of `pad`."""

    def pad_channels(self, x: Any, width: int, *, name: str) -> Any:
        """Appends zero channels up to a width."""

    def dropout(self, x: Any, rate: float, *, name: str, whole: bool = False) -> Any:
        """Dropout; `whole` drops all of an image's values or none."""

    def endpoint(self, x: Any, *, name: str) -> Any:
        """X under another name."""


class Primitives:
    """A network's convolutions, norms and activations, made once from its spec and passed down.

    Args:
        layers: the implementation.
        options: the spec.
        padding: of convolutions.
        blocks: total number of residual blocks, for settings that depend on depth.
        prefix: start of every layer's name.
    """

    def __init__(
        self,
        layers: Layers,
        options: Any,
        *,
        padding: Padding = "same",
        blocks: int = 0,
        prefix: str = "",
    ) -> None:
        self.layers, self.options, self.padding = layers, options, padding
        self.order = ORDERS[options.norm_order]
        self.normed = not isinstance(options.norm, NoNorm)
        self.blocks = blocks
        self.prefix = prefix + options.layer_prefix
        self.endpoints: dict[str, Any] = {}
        self.last_at: dict[tuple[int, ...], Any] = {}
        """The last maps of each resolution, activated if the network activates them: the sources of
        a U-Net's skips."""
        self._number = itertools.count(1)

    def conv(
        self,
        x: Any,
        width: int,
        kernel: int,
        *,
        name: str,
        normed: bool,
        stride: int = 1,
        groups: int = 1,
        padding: Padding | None = None,
        zero: bool = False,
    ) -> Any:
        """A convolution; `normed` says whether a norm follows directly."""
        match self.options.conv_bias:
            case "without_norm":
                bias = not self.normed
            case "unless_normed":
                bias = not (normed and self.normed)
            case fixed:
                bias = fixed == "always"
        padding = padding or (self.padding if kernel > 1 else "same")
        return self.layers.conv(
            x,
            width,
            kernel,
            stride=stride,
            groups=groups,
            padding=padding,
            bias=bias,
            zero=zero,
            init=self.options.init,
            name=self.prefix + name,
        )

    def norm(self, x: Any, *, name: str, zero: bool = False) -> Any:
        """The spec's norm."""
        return (
            self.layers.norm(x, self.options.norm, name=self.prefix + name, zero=zero)
            if self.normed
            else x
        )

    def activate(self, x: Any, *, name: str, number: int | str = "") -> Any:
        """The spec's activation, named after its layer."""
        kind = self.options.activation
        return self.layers.activation(x, kind, name=f"{self.prefix}{name}_{kind}{number}")

    def dropout(self, x: Any, *, name: str) -> Any:
        """The spec's dropout, if any."""
        rate = self.options.dropout
        return self.layers.dropout(x, rate, name=self.prefix + name) if rate else x

    def after_stem(self, x: Any, *, name: str, activated: bool = False) -> Any:
        """The layers after the stem's convolution.

        None for `full_preact`, whose first block starts with norm and activation.
        """
        if activated or not self.order.norm_first:
            x = self.norm(x, name=f"{name}_norm")
        if activated or not self.order.activation_first:
            x = self.activate(x, name=name)
        return x

    def after_blocks(self, x: Any, *, name: str = "final") -> Any:
        """The final activation of a pre-activation network (arXiv 1603.05027, Appendix)."""
        if not self.order.activation_first:
            return x
        if self.order.norm_first:
            x = self.norm(x, name=f"{name}_norm")
        return self.endpoint(self.activate(x, name=name), name)

    def endpoint(self, x: Any, name: str) -> Any:
        """Makes x an endpoint: the output of the layer of this name, for a features head."""
        self.endpoints[name] = x = self.layers.endpoint(x, name=self.prefix + name)
        self.remember(x)
        return x

    def remember(self, x: Any) -> None:
        """Marks x as the last maps of its resolution."""
        self.last_at[self.layers.size(x)] = x

    def next_drop_path_rate(self) -> float:
        """The next residual block's drop probability; linear in depth (arXiv 1603.09382, Eq. 4)."""
        return (
            self.options.drop_path_rate * next(self._number) / self.blocks
            if self.options.drop_path_rate
            else 0.0
        )

    def residual_scale(self) -> float | None:
        """The factor of every branch; None if it is learned."""
        scale: ResidualScale = self.options.residual_scale
        return residual_scale(scale, self.blocks)

    @property
    def shortcut(self) -> Shortcut:
        """The kind of shortcut."""
        shortcut: Shortcut = self.options.shortcut
        return shortcut
