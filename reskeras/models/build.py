"""From a spec to a Keras model.

This module lies in a room, not in `reskeras` itself, because `import reskeras.build` would shadow
the function of that name.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from reskeras.errors import RequestError
from reskeras.models.keras_layers import KerasLayers
from reskeras.models.transfer import load_pretrained
from reskeras.nets.assemble import as_spec, assemble
from reskeras.spec import AnySpec, Features


def build(
    spec: AnySpec | str, *, features: Sequence[str] | None = None, weights: str | None = None
) -> keras.Model:
    """Builds the network that a spec (or a preset's name) describes.

    Args:
        spec: the spec.
        features: names of endpoints (such as `["stem", "stage2"]`) to return, as a dict, instead of
            the head's output.
        weights: `imagenet` or a file, for networks of keras.applications (see
            `reskeras.models.transfer.load_pretrained`); None leaves them random.

    Returns:
        A Functional `keras.Model`, not compiled, from images [N,H,W,C] (float32) to the head's
        float32 output. All layers are stock Keras layers. Every endpoint is the output of the layer
        of that name.

    Raises:
        RequestError: no preset has this name, the parts of the spec do not fit each other, or the
            network has no such endpoint or no such weights.
        TypeError: not a spec.
    """
    spec = as_spec(spec)
    if features is not None:
        if isinstance(features, str) or not features:
            raise RequestError(
                f"features is a list of endpoints' names, such as ['stage1'] (got {features!r})"
            )
        spec = dataclasses.replace(spec, head=Features(endpoints=tuple(features)))
    inputs, outputs = assemble(
        spec, KerasLayers(len(spec.input_shape) - 1, spec.data_format, spec.init)
    )
    model: Any = keras.Model(inputs, outputs, name=spec.name)
    if weights is not None:
        load_pretrained(model, spec, weights)
    return model
