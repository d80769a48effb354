"""How a network is trained."""

from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.families import Spec
from reskeras.spec.scalars import CONFIG, Count, Flag, Whole

Augment = Literal["none", "shift", "shift_flip"]
"""Random changes to training images: shifts of up to an eighth of each side, and horizontal
flips."""


Resize = Literal["stretch", "crop", "pad"]
"""How images get the sides of the network's input."""

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TrainSpec:
    """How a network is trained."""

    epochs: Count = 10
    batch_size: Count = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` has Nesterov momentum 0.9."""
    learning_rate: Annotated[float, Field(gt=0, lt=100)] = 3e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` decays the learning rate to zero over the run (arXiv 1608.03983, without
    restarts)."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decoupled (arXiv 1711.05101), applied only to kernels."""
    augment: Augment = "none"
    """`shift_flip` is the usual choice for photographs, `shift` for images with a left and a right,
    such as digits."""
    resize: Resize | None = None
    """How images of other proportions get the sides of the network's input. `stretch` changes their
    proportions. `crop` cuts the longer sides off around the center, as published recipes for labels
    do (arXiv 1512.03385, Section 3.4); `pad` adds black on both sides. None is `crop` for labels
    and `stretch` for masks, whose every pixel counts."""
    class_weight: Literal["none", "balanced"] = "none"
    """`balanced` multiplies the trained loss of a class with n of N training images (or pixels, of
    1,024 masks at most) by N/(Kn), for K classes. The losses that are reported have no weights."""
    precision: Precision = "float32"
    """Precision of the layers' computations; weights and heads stay float32 (arXiv 1710.03740).
    `mixed_float16` is for GPUs, `mixed_bfloat16` for TPUs and newer GPUs. Both are slower on CPUs.
    """
    recompute: Flag = False
    """Whether the backward pass recomputes activations instead of keeping them: less than half the
    memory for a DenseNet, up to 40 % more time (arXiv 1604.06174; benchmarks/memory.py)."""
    seed: Whole = 0
    """Seed of the initial weights and the data order."""

    def __post_init__(self) -> None:
        if self.recompute and self.precision == "mixed_float16":
            raise ValueError(
                "recompute needs precision 'float32' or 'mixed_bfloat16' (got 'mixed_float16')"
            )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Recipe:
    """A network and how to train it: what a spec file with a `train:` section holds."""

    spec: Spec
    train: TrainSpec = TrainSpec()
