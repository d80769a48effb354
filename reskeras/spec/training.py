"""How a network is trained."""

from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from reskeras.spec.augment import NO_AUGMENTATION, AugmentField
from reskeras.spec.families import Spec
from reskeras.spec.scalars import CONFIG, Count, Flag, Name, Whole

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "lion"]

Schedule = Literal["constant", "cosine", "linear", "step", "one_cycle"]

Resize = Literal["stretch", "crop", "pad", "patch"]
"""How images get the sides of the network's input; `patch` cuts them out of images that keep their
own size."""

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

SCRATCH, IMAGENET = "none", "imagenet"
"""The words of `train.init` that are no path."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class StopEarly:
    """When a training ends before its last epoch."""

    metric: Annotated[str, Field(min_length=1)] = "val_loss"
    """By the name under which training reports it, such as `val_accuracy` or `loss`."""
    patience: Count = 10
    """The training ends after this many epochs without a better value. A promoted trial counts from
    its own first epoch."""
    keep_best: Flag = True
    """Whether the weights of the epoch with the best value are kept, instead of the last epoch's,
    also if the training runs to its end. Its scores are then chosen on the validation split, so
    they are slightly better than on new images."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TrainSpec:
    """How a network is trained."""

    epochs: Count = 10
    batch_size: Count = 64
    optimizer: Optimizer = "adam"
    """`adam` (arXiv 1412.6980), `adamw` (Adam whose weight decay is always decoupled, arXiv
    1711.05101), `sgd`, `rmsprop`, `lion` (arXiv 2302.06675)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of `sgd`."""
    nesterov: Flag = True
    """Whether the momentum of `sgd` is Nesterov's; the plain one otherwise."""
    learning_rate: Annotated[float, Field(gt=0, lt=100)] = 3e-3
    """The highest of the schedule. `lion` needs about a tenth of Adam's (its paper, Section 5)."""
    schedule: Schedule = "cosine"
    """How the learning rate changes over the epochs. `cosine` (arXiv 1608.03983, without restarts)
    and `linear` fall to zero. `step` falls at each of `milestones`. `one_cycle` (arXiv 1803.09820)
    rises from a tenth over 45 % of the steps, falls back over 45 %, and then to a thousandth."""
    milestones: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1, max_length=100)
    ] = (0.5, 0.75)
    """Where `step` lowers the learning rate, in ascending shares of all epochs; the default is that
    of arXiv 1512.03385, Section 4.2."""
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What `step` multiplies the learning rate by at each milestone."""
    warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Epochs, also a fraction, in which the learning rate first rises linearly to where the
    schedule starts (arXiv 1706.02677, Section 2.2); the schedule takes the rest of the epochs."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Applied only to kernels, not to biases and normalization."""
    weight_decay_kind: Literal["decoupled", "l2"] = "decoupled"
    """`decoupled`: each step shrinks weights by rate times decay (arXiv 1711.05101). `l2`: a
    penalty of decay/2 times the squared weights, whose gradient passes through clipping and
    momentum, as in the papers of residual networks. The loss that is reported is without it."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per batch of an exponential moving average of the weights, such as 0.999; 0 is none.
    The average is what is validated and kept. It starts as the weights after the first step."""
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Largest norm of all gradients together; longer ones are scaled down (arXiv 1211.5063). 0 is
    no limit."""
    accumulate: Count = 1
    """Batches whose mean gradient makes one step of the optimizer, across the ends of epochs. The
    last steps of a training are lost if they do not fill one."""
    stop_early: StopEarly | None = None
    """Ends a training that no longer improves; None never does."""
    init: Annotated[str, Field(min_length=1)] = SCRATCH
    """Where the weights come from. `none` is random, `imagenet` is keras.applications' network of
    this structure, anything else is a `.keras` file; on the command line, also a folder with one or
    the id of a run. Layers of the same name and shape are taken, with their batch-norm statistics;
    the first adapts to the number of channels, and a head of other classes starts anew."""
    freeze: Whole = 0
    """Epochs at the start in which only what was not taken from `init`, and the head, learns."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What the learning rate is multiplied by per block from the head down (arXiv 1801.06146,
    Section 3.2; arXiv 2106.08254). Has no effect without `init`; 1 is one rate for all."""
    loss: Name | None = None
    """A loss of the task, by its name in docs/tasks.md; None is the task's first. Whatever is
    trained, the first one is reported."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each target that is spread over all classes (arXiv 1512.00567, Section 7)."""
    augment: AugmentField = NO_AUGMENTATION
    """Random changes to training images, or the name of some: `shift_flip` (an eighth of each side,
    horizontal flips) is the usual choice for photographs, `shift` for images with a left and a
    right, such as digits."""
    resize: Resize | None = None
    """How images of other proportions get the sides of the network's input. `stretch` changes their
    proportions. `crop` cuts the longer sides off around the center, as published recipes for labels
    do (arXiv 1512.03385, Section 3.4); `pad` adds black on both sides. None is `crop` for
    files of one class each and for images to restore, `pad` for keypoints, and `stretch` for all
    others. `patch` is for masks and for images to restore, of any size: the network learns from
    patches of them, and answers by windows."""
    class_weight: Literal["none", "balanced"] = "none"
    """`balanced` multiplies the trained loss of a class with n of N training images (or pixels, of
    1,024 masks or patches at most) by N/(Kn), for K classes. The losses that are reported have no
    weights."""
    border_weight: Annotated[float, Field(ge=0, lt=1000)] = 0.0
    """w0 of the U-Net paper (arXiv 1505.04597, Section 3, which trains with 10): what the trained
    loss of a background pixel between two touching objects weighs more, so the network learns to
    keep them apart. For masks, with `cross_entropy`, `cross_entropy_dice` or `focal`."""
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
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones ascend (got {', '.join(map(str, self.milestones))})")
        if self.recompute and self.precision == "mixed_float16":
            raise ValueError(
                "recompute needs precision 'float32' or 'mixed_bfloat16' (got 'mixed_float16')"
            )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Recipe:
    """A network and how to train it: what a spec file with a `train:` section holds."""

    spec: Spec
    train: TrainSpec = TrainSpec()
