"""A deeper network that starts as a trained one: the same function, then a better one."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reskeras.data import ImageData
from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.chance import margin
from reskeras.lab.networks import image_network
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.growth import why_not_grow
from reskeras.spec import AnySpec, Classifier, Hourglass, Recipe, TrainSpec
from reskeras.words import three_digits

_SOURCE = "Chen 2015, arXiv 1511.05641, Section 2.2; He 2015, arXiv 1512.03385, Section 1"
_HOW = TrainSpec(epochs=10)
_BLOCKS = 6
_IMAGES = 256
_DEEPER = "the deeper network from nothing"
_Grow = Callable[[Any, AnySpec], Any]


def nested(
    spec: AnySpec | None = None,
    *,
    data: ImageData | None = None,
    seeds: int = 6,
    seed: int = 0,
) -> Result:
    """Grows a trained network, trains it on, and compares it with the deeper one from nothing.

    The parent has half of the blocks of each stage and is trained for half of the epochs. Grown to
    all blocks, it is trained for the rest of them; so is the deeper network from nothing, for all
    epochs. Their learning rates are the same ones.

    * The deeper network's functions F' contain the parent's F: it computes the parent's function
      with new blocks that are the identity. The measured number is the largest difference of
      outputs. It is expected to be zero but for rounding. Let p be the parent's outputs in exact
      arithmetic, and e their largest error in float32. The grown network computes the same
      function with errors of the same size, so by the triangle inequality the two differ by at
      most 2 e. Here e is the parent's difference from itself in float64, whose own errors are
      5e8 times smaller. (Blocks whose sum is not activated, or whose input a ReLU has made
      positive, have x + 0 = x and relu(x) = x, which floating-point arithmetic computes exactly:
      then the difference is zero.)
    * So the lowest training loss over F' is not above that over F, and training starts at the
      parent's. The measured number is the grown network's training loss at the end, divided by the
      parent's when it grew: a geometric mean over seeds. It must be below 1 by more than chance
      explains: m + t s / sqrt(S) <= 0, where m and s are mean and standard deviation of the
      logarithm over S seeds, and t is Student's with S - 1 degrees of freedom, one-sided, 99 %.
    * Nested classes say what a network can reach, and nothing of how soon training reaches it: the
      comparison with the deeper network from nothing gets no verdict.

    Losses are those of the training split in inference mode, without dropout.

    Args:
        spec: the deeper network; without one, a small one of six blocks.
        data: what to train on; by default, `digits`.
        seeds: how many trainings of each network.
        seed: the first one's; each has the next number.

    Raises:
        RequestError: the network does not fit the data, has one block in each stage, or cannot
            grow from one with fewer.
    """
    from reskeras.lab.trained import default_data, fitted_to
    from reskeras.models.growth import grow
    from reskeras.training.compiled import Programs

    data = default_data() if data is None else data
    if spec is None:
        spec = image_network(data.image_shape, Classifier(classes=data.classes), blocks=_BLOCKS)
    spec = fitted_to(spec, data)
    programs = Programs()
    found = [
        measure(spec, data, dataclasses.replace(_HOW, seed=seed + number), grow, programs)
        for number in range(seeds)
    ]
    return Result(
        name="nested",
        network=spec.name,
        checks=checks(found),
        table=Table(
            columns=("seed", "network", "epochs", "training loss", "largest change by growing"),
            rows=tuple(row for number, one in enumerate(found) for row in one.rows(seed + number)),
        ),
        text=_text(found),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed, "data": data.name, "epochs": _HOW.epochs},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grown:
    """What one seed found."""

    change: float
    """The largest difference of outputs before and after growing."""
    rounding: float
    """The largest error of the parent's outputs in float32."""
    parent: float
    """The parent's training loss when it grew."""
    after: float
    """The grown network's at the end."""
    nothing: float
    """That of the deeper network from nothing."""
    epochs: dict[str, Any]
    """The trainings (`Trained`) by what was trained."""

    def rows(self, seed: int) -> list[tuple[Any, ...]]:
        """A row of the table for each training."""
        half, whole = _HOW.epochs // 2, _HOW.epochs
        return [
            (seed, "parent", half, self.parent, math.nan),
            (seed, "grown", whole - half, self.after, self.change),
            (seed, "from nothing", whole, self.nothing, math.nan),
        ]


def shallower(spec: AnySpec) -> AnySpec:
    """The network with half of the blocks of each stage.

    Raises:
        RequestError: it has one block in each stage, or cannot grow back.
    """
    if isinstance(spec, Hourglass):
        found: AnySpec = dataclasses.replace(spec, blocks=max(1, spec.blocks // 2))
    else:
        stages: Any = tuple(
            dataclasses.replace(stage, blocks=max(1, stage.blocks // 2)) for stage in spec.stages
        )
        found = dataclasses.replace(spec, stages=stages)
    if found == spec:
        raise RequestError(
            f"{spec.name}: has one block in each stage; to grow, it needs two or more in one"
        )
    if reason := why_not_grow(found, spec):
        raise RequestError(f"{spec.name}: cannot grow from half of its blocks: {reason}")
    return found


def measure(
    spec: AnySpec, data: ImageData, how: TrainSpec, grow: _Grow, programs: Any = None
) -> Grown:
    """Trains, grows and trains on, and trains the deeper network from nothing; see `nested`.

    Args:
        spec: the deeper network, fitted to the data.
        data: what to train on.
        how: how to train.
        grow: makes the grown network of the parent and the spec: `reskeras.grow`.
        programs: as for `train_on`.
    """
    from reskeras.lab.trained import images_of, train_on
    from reskeras.training.train import build_seeded

    small, half = shallower(spec), how.epochs // 2
    parent = train_on(
        build_seeded(Recipe(spec=small, train=how)),
        data,
        how,
        last_epoch=half,
        programs=programs,
    )
    images = images_of(spec, data, _IMAGES)
    before = _outputs(parent.model, images)
    exact = _outputs(_in_float64(parent.model), images)
    model = grow(parent.model, spec)
    change = _largest(_outputs(model, images), before)
    grown = train_on(model, data, how, first_epoch=half, programs=programs)
    deep = train_on(build_seeded(Recipe(spec=spec, train=how)), data, how, programs=programs)
    return Grown(
        change=change,
        rounding=_largest(before, exact),
        parent=_loss(parent, data),
        after=_loss(grown, data),
        nothing=_loss(deep, data),
        epochs={"parent": parent, "grown": grown, _DEEPER: deep},
    )


def checks(found: list[Grown]) -> list[Check]:
    """The claims of `nested` over seeds."""
    gains = [math.log(one.after / one.parent) for one in found]
    rivals = [math.log(one.after / one.nothing) for one in found]
    return [
        Check(
            claim="growing changes no output",
            source=_SOURCE,
            measured=max(one.change for one in found),
            expected=0.0,
            tolerance=2 * max(one.rounding for one in found),
        ),
        Check(
            claim="training on, the loss falls below the parent's by this factor",
            source=_SOURCE,
            measured=math.exp(np.mean(gains)),
            expected=1.0,
            bound=Bound.AT_MOST,
            tolerance=math.expm1(-margin(gains)),
        ),
        Check(
            claim=f"the grown network's loss divided by that of {_DEEPER}",
            source=_SOURCE,
            measured=math.exp(np.mean(rivals)),
            why_not="nested classes do not say how soon training reaches what they contain",
        ),
    ]


def _loss(trained: Any, data: ImageData) -> float:
    return math.nan if trained.diverged else trained.scores(data, "train")["loss"]


def _outputs(model: Any, images: Any) -> list[Any]:
    import keras

    found = keras.tree.flatten(model(images, training=False))
    return [keras.ops.convert_to_numpy(each) for each in found]


def _in_float64(model: Any) -> Any:
    import keras

    def copied(layer: Any) -> Any:
        return type(layer).from_config(layer.get_config() | {"dtype": "float64"})

    exact = keras.models.clone_model(model, clone_function=copied)
    exact.set_weights(model.get_weights())
    return exact


def _largest(ours: list[Any], theirs: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def _text(found: list[Grown]) -> str:
    change, gain, rival = (check.measured for check in checks(found))
    ratios = [one.after / one.nothing for one in found]
    return (
        f"Growing changes outputs by {three_digits(change)} at most. Trained on, the grown "
        f"network's training loss falls to {three_digits(gain)} of its parent's. It is "
        f"{three_digits(rival)} times that of {_DEEPER} after as many epochs "
        f"({three_digits(min(ratios))} to {three_digits(max(ratios))} over seeds)."
    )


def _figure(found: list[Grown]) -> Any:
    lines = []
    for label in found[0].epochs:
        losses = np.array(
            [[epoch.metrics["loss"] for epoch in one.epochs[label].epochs] for one in found]
        )
        places = [epoch.number for epoch in found[0].epochs[label].epochs]
        lines.append(
            Line(
                label=label,
                x=places,
                y=list(np.exp(np.log(losses).mean(axis=0))),
                low=list(losses.min(axis=0)),
                high=list(losses.max(axis=0)),
            )
        )
    panel = Panel(title="a network that grows", x="epoch", y="training loss", lines=lines, log=True)
    return lines_figure([panel])
