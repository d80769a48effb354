"""Heads: from a network's last maps to its output, in float32 under every precision policy."""

from typing import Any

from reskeras.errors import RequestError
from reskeras.nets.primitives import Primitives
from reskeras.spec import (
    Classifier,
    Features,
    Heatmaps,
    MapHead,
    Numbers,
    Regressor,
    Segmenter,
)


def head(
    x: Any,
    spec: Classifier | Numbers | MapHead,
    *,
    inputs: Any,
    primitives: Primitives,
    name: str = "head",
) -> Any:
    """Classifier, numbers: [N,H,W,C] -> [N,K]; maps: -> [N,H,W,K]; features: a dict of endpoints.

    Raises:
        RequestError: a features head names an endpoint that the network does not have.
    """
    layers, prefixed = primitives.layers, primitives.prefix + name
    match spec:
        case Classifier():
            x = layers.global_pool(x, name=f"{prefixed}_pool")
            return layers.dense(
                x, spec.classes, activation=_activation(spec.activation), name=prefixed
            )
        case Numbers():
            x = layers.global_pool(x, name=f"{prefixed}_pool")
            if not (spec.mean or spec.spread):
                return layers.dense(x, spec.count, activation=None, name=prefixed)
            x = layers.dense(x, spec.count, activation=None, name=f"{prefixed}_standardized")
            mean, spread = spec.mean or (0.0,) * spec.count, spec.spread or (1.0,) * spec.count
            return layers.rescale(x, spread, mean, name=prefixed)
        case Segmenter():
            return layers.conv(
                x,
                spec.classes,
                1,
                bias=True,
                activation=_activation(spec.activation),
                float32=True,
                name=prefixed,
            )
        case Heatmaps():
            return layers.conv(x, spec.keypoints, 1, bias=True, float32=True, name=prefixed)
        case Regressor(add_input=False):
            return layers.conv(x, spec.channels, 1, bias=True, float32=True, name=prefixed)
        case Regressor():
            change = layers.conv(
                x, spec.channels, 1, bias=True, float32=True, name=f"{prefixed}_residual"
            )
            return layers.add([inputs, change], name=prefixed, float32=True)
        case Features():
            missing = [name for name in spec.endpoints if name not in primitives.endpoints]
            if missing:
                raise RequestError(
                    f"head.endpoints: no endpoint {missing[0]!r}; this network has "
                    f"{', '.join(primitives.endpoints)}"
                )
            return {name: primitives.endpoints[name] for name in spec.endpoints}


def _activation(name: str) -> str | None:
    return None if name == "none" else name
