"""What each variable's learning rate is multiplied by: frozen layers, and rates layer by layer."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from reskeras.models.outputs import head_layers
from reskeras.spec import TrainSpec
from reskeras.spec.training import SCRATCH

_BLOCK = re.compile(r"(?:.*?_)?(?:block\d+|transition)(?=_|$)")
_JOIN = re.compile(r"((?:.*?_)?(?:decoder\d+|nest\d+_\d+))_(?:up|gate\d*)(?=_|$)")
"""What brings a U-Net's maps from below, and its skips, to a level."""
_HEAD = "head"
"""The block of all heads."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRates:
    """Factors of the learning rate, one for each trainable variable of a model, in its order.

    They multiply the update, not the gradient: Adam's update hardly changes with the gradient's
    scale. Decoupled weight decay, which is proportional to the rate, changes with it.
    """

    factors: tuple[float, ...]
    frozen: tuple[bool, ...]
    """Which are 0 until `steps`. Moments of the optimizer follow the gradients all the time."""
    steps: int
    """The step of the whole training at which everything learns."""

    @property
    def first(self) -> tuple[float, ...]:
        """The factors before `steps`."""
        pairs = zip(self.factors, self.frozen, strict=True)
        return tuple(0.0 if frozen else factor for factor, frozen in pairs)


def layer_rates(
    model: Any, spec: TrainSpec, taken: Collection[str], steps: int
) -> LayerRates | None:
    """The factors of a training; None if all are 1.

    Args:
        model: a built network.
        spec: how it is trained.
        taken: its layers that start from other weights; these are frozen for `spec.freeze` epochs,
            except those of its heads.
        steps: steps per epoch.
    """
    if spec.init == SCRATCH or (spec.layer_decay == 1 and not spec.freeze):
        return None
    heads = head_layers(model)
    block = {layer.name: block_of(layer.name, heads) for layer in model.layers if layer.weights}
    # Intermediate heads come before the last blocks, but learn as fast as the last head.
    blocks = sorted(dict.fromkeys(block.values()), key=lambda name: name == _HEAD)
    depth = {name: len(blocks) - 1 - number for number, name in enumerate(blocks)}
    layers = {id(v): layer.name for layer in model.layers for v in layer.trainable_variables}
    names = [layers[id(variable)] for variable in model.trainable_variables]
    return LayerRates(
        factors=tuple(spec.layer_decay ** depth[block[name]] for name in names),
        frozen=tuple(name in taken and name not in heads for name in names),
        steps=spec.freeze * steps,
    )


def block_of(name: str, heads: Collection[str]) -> str:
    """The block that a layer belongs to, by its name: the stem, a block, a transition, the head.

    What leads to a level of a decoder belongs to the level's first block.

    Args:
        name: of the layer.
        heads: the names of the layers of heads.
    """
    if name in heads:
        return _HEAD
    if found := _BLOCK.match(name):
        return found[0]
    if found := _JOIN.match(name):
        return f"{found[1]}_block1"
    # The last norm goes with the head, as in BEiT.
    if name.startswith("final"):
        return _HEAD
    return name.rpartition("_")[0] or name
