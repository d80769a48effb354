"""Networks whose residual blocks can be switched off, one by one."""

from collections.abc import Collection
from typing import Any

import keras

from reskeras.data import ImageData
from reskeras.lab.residual import ADD
from reskeras.lab.trained import Scorer
from reskeras.models.keras_layers import KerasLayers
from reskeras.nets.assemble import assemble
from reskeras.spec import AnySpec


class Switched:
    """A network with the weights of another, whose blocks' branches can be switched off.

    Args:
        spec: the spec of both.
        model: the network whose weights it takes.
        data: what it is scored on.
    """

    def __init__(self, spec: AnySpec, model: Any, data: ImageData) -> None:
        layers = _SwitchedLayers(len(spec.input_shape) - 1, spec.data_format, spec.init)
        self._model: Any = keras.Model(*assemble(spec, layers))
        self._switches = layers.switches
        for layer in model.layers:
            self._model.get_layer(layer.name).set_weights(layer.get_weights())
        self._scorer = Scorer(self._model, data, "val")

    def scores(self, off: Collection[str] = ()) -> dict[str, float]:
        """Loss and metrics on the validation split while the branches of some blocks are zero."""
        for name, switch in self._switches.items():
            switch.on.assign(0.0 if name in off else 1.0)
        return self._scorer.scores()


class _Switch(keras.layers.Layer):  # type: ignore[misc]
    """Multiplies by a number."""

    def build(self, input_shape: Any) -> None:
        del input_shape
        self.on = self.add_weight(shape=(), initializer="ones", trainable=False, name="on")

    def call(self, inputs: Any) -> Any:
        return inputs * self.on


class _SwitchedLayers(KerasLayers):
    """Layers with a switch at the end of each branch."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.switches: dict[str, _Switch] = {}
        """By block."""

    def add(self, xs: Any, *, name: str, float32: bool = False) -> Any:
        block = name.removesuffix(ADD)
        if block != name and "_block" in block:
            side, branch = xs
            switch = self.switches[block] = _Switch(name=f"{block}_switch")
            xs = side, switch(branch)
        return super().add(xs, name=name, float32=float32)
