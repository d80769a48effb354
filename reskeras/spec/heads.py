"""Kinds of head."""

from typing import Annotated, Literal

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass

from reskeras.spec.scalars import CONFIG, Count, Finite, Flag, Name


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Classifier:
    """Global average pooling and a dense layer, in float32."""

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[int, Strict(), Field(ge=2)]
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """`none` returns logits."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Numbers:
    """Global average pooling and a dense layer to numbers such as an angle, in float32.

    The dense layer gives each in standard deviations from its mean; the output is in its own units.
    """

    kind: Literal["numbers"] = "numbers"
    count: Count = 1
    mean: tuple[Finite, ...] = ()
    """Of each number in the training data, which determine it; empty for 0."""
    spread: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """The standard deviation of each number in the training data; empty for 1."""

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("spread", self.spread)):
            if len(values) not in (0, self.count):
                raise ValueError(
                    f"{name} has {len(values)} values for {self.count} numbers; give each one, or "
                    "none"
                )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Segmenter:
    """A 1x1 convolution to one map per class, in float32."""

    kind: Literal["segmentation"] = "segmentation"
    classes: Count
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """`none` returns logits."""

    def __post_init__(self) -> None:
        if self.classes == 1 and self.activation == "softmax":
            raise ValueError(
                "softmax over one class is always 1; use activation 'sigmoid' or at least 2 classes"
            )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Heatmaps:
    """A 1x1 convolution to one linear map per keypoint, in float32 (pose: arXiv 1603.06937)."""

    kind: Literal["heatmap"] = "heatmap"
    keypoints: Count = 16


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Regressor:
    """A 1x1 convolution to linear maps, in float32, for super-resolution, denoising and others."""

    kind: Literal["regression"] = "regression"
    channels: Count
    add_input: Flag = True
    """Whether the network learns the residual to its input (arXiv 1511.04587); `channels` must then
    equal the input's."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Features:
    """No layers of its own: the model returns these endpoints by name."""

    kind: Literal["features"] = "features"
    endpoints: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Such as `stem` and `stage1`; in a U-Net `encoder1`, `bridge`, `decoder1`; in an hourglass
    network `stack1`."""


MapHead = Annotated[Segmenter | Heatmaps | Regressor | Features, Field(discriminator="kind")]
