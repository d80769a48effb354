"""Where the norms and activations of a block are, for each norm order."""

import dataclasses

from reskeras.spec import NormOrder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """The norms and activations around a branch's convolutions (arXiv 1603.05027, Fig. 4).

    There is an activation between two convolutions in every order: after the first one, or before
    the second.
    """

    norm_first: bool = False
    """A norm before each convolution, in front of its activation."""
    activation_first: bool = False
    """An activation before each convolution: a pre-activation network, whose stem stays linear, and
    whose last stage is followed by an activation."""
    norm: bool = False
    """A norm after each convolution but the last."""
    last_norm: bool = False
    """A norm after the last convolution."""
    last_activation: bool = False
    """An activation after the last convolution."""
    sum_norm: bool = False
    """A norm after the addition."""
    sum_activation: bool = False
    """An activation after the addition."""


ORDERS: dict[NormOrder, Order] = {
    "original": Order(norm=True, last_norm=True, sum_activation=True),
    "norm_after_add": Order(norm=True, sum_norm=True, sum_activation=True),
    "relu_before_add": Order(norm=True, last_norm=True, last_activation=True),
    "relu_only_preact": Order(activation_first=True, norm=True, last_norm=True),
    "full_preact": Order(norm_first=True, activation_first=True),
}
