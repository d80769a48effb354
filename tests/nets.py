"""Small networks and random weights that several tests share."""

import dataclasses
from typing import Any

import keras
import numpy as np

from reskeras.spec import (
    UNIONS,
    BasicBlock,
    BottleneckBlock,
    CifarStem,
    Classifier,
    DenseBlock,
    GroupNorm,
    ResNet,
    Stage,
)


def small(**changes: Any) -> ResNet:
    """Two stages on 8x8 images of one channel: two blocks of width 8, one of width 16."""
    spec = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=8),
        block=BasicBlock(),
        stages=(Stage(blocks=2, width=8), Stage(blocks=1, width=16, stride=2)),
        head=Classifier(classes=3),
    )
    return dataclasses.replace(spec, **changes)


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Random weights and statistics, so that a norm in the wrong place shows; signals keep their
    size over any depth."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                weight.assign(
                    random.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
                )
            elif weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            else:
                weight.assign(random.uniform(-0.3, 0.3, weight.shape))


def images(*shape: int, n: int = 4) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n, *(shape or (8, 8, 1)))).astype("float32")


def numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


# What a value of each kind is given in tests, beyond its defaults.
_SETTINGS: dict[type, dict[str, Any]] = {
    BottleneckBlock: {"bottleneck_ratio": 0.5},
    DenseBlock: {"growth_rate": 4},
    GroupNorm: {"groups": 4},
}


def kinds(field: str) -> list[Any]:
    """A small value of every kind of `block`, `norm` or `stem`: tests cover a new kind by
    itself."""
    width = {"width": 8} if field == "stem" else {}
    return [kind(**width, **_SETTINGS.get(kind, {})) for kind in UNIONS[field]]
