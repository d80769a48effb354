"""How layers of a DenseNet use the features of those before them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from reskeras.data import ImageData
from reskeras.drawing.heat import Map, heat_figure
from reskeras.errors import RequestError
from reskeras.lab.chance import margin, too_few
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.lab.reuse import sources_of, targets_of
from reskeras.nets.graph import Node, record
from reskeras.spec import (
    AnySpec,
    CifarStem,
    Classifier,
    DenseBlock,
    DenseNet,
    DenseStage,
    Recipe,
    TrainSpec,
)
from reskeras.words import three_digits

_SOURCE = "Huang 2017, arXiv 1608.06993, Section 5 and Fig. 5"
_HOW = TrainSpec(epochs=10)
_FEWEST = 3
"""Sources that a layer needs to prefer some."""
_ROUNDING = 1e-6
"""Of a mean loss in float32: nothing below it is a cost."""


def dense(
    spec: AnySpec | None = None,
    *,
    data: ImageData | None = None,
    seeds: int = 8,
    seed: int = 0,
) -> Result:
    """How much of each earlier layer's output the layers of a trained DenseNet use.

    For each layer and each source of its input, an earlier layer or what the stage takes: the mean
    absolute weight, divided by the one before training; and what it costs to cut this connection:
    how much the training loss rises if these weights are zero. Cuts are made where a source skips
    at least one layer: they are what a DenseNet has and a chain has not.

    The paper describes a heat map of one network. Of what it describes, three claims can be tested.

    * Layers use the features of all earlier layers directly: to cut its skipping connections, one
      by one, costs something for each source. The number is the mean cost of a source's cuts, that
      of the source where it is least. It must be above zero, and above the rounding of a loss.
    * The layers of later stages give the least weight to what the transition puts out: the
      logarithm of its weight over the mean of the others, a mean over layers.
    * The classifier leans on late features: Spearman's rho of a source's place and its weight. Its
      weights are independent and of one distribution at first, so rho is zero without training.

    Weights are divided by those before training, because training changes most of them by a few
    percent, which is less than chance makes means of few weights differ. Each number is a mean over
    S trainings, and must be beyond 0 by more than chance explains: t s / sqrt(S), where s is the
    standard deviation of the S numbers and t is Student's with S - 1 degrees of freedom, one-sided,
    99 % (see `reskeras.lab.chance.margin`).

    Args:
        spec: the network; without one, a small DenseNet-BC of two stages of five layers.
        data: what to train on; by default, `digits`.
        seeds: how many trainings.
        seed: the first one's; each has the next number.

    Raises:
        RequestError: the network does not fit the data, or no layer takes the outputs of three
            earlier ones.
    """
    from reskeras.lab.trained import default_data, fitted_to
    from reskeras.training.compiled import Programs

    data = default_data() if data is None else data
    spec = fitted_to(_network(data) if spec is None else spec, data)
    connections = connections_of(spec)
    programs = Programs()
    found = [
        measure(spec, data, dataclasses.replace(_HOW, seed=seed + number), programs)
        for number in range(seeds)
    ]
    made = checks(connections, found)
    weights = np.mean([one.weights for one in found], axis=0)
    costs = np.mean([one.costs for one in found], axis=0)
    return Result(
        name="dense",
        network=spec.name,
        checks=made,
        table=Table(
            columns=("layer", "source", "weight by that before training", "cost of the cut"),
            rows=tuple(
                (each.target.name, each.source.name, float(weight), float(cost))
                for each, weight, cost in zip(connections, weights, costs, strict=True)
            ),
        ),
        text=(
            f"Of all sources, the least used one is worth {three_digits(made[0].measured)} of "
            "training loss per connection. Most weights stay near what they were before training, "
            f"{three_digits(float(np.median(weights)))} of it in the median, so a map of weights "
            "shows little of what is used; what a cut costs does."
        ),
        draw=lambda: _figure(connections, weights, costs),
        settings={"seeds": seeds, "seed": seed, "data": data.name, "epochs": _HOW.epochs},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """A source of a layer's input."""

    stage: int
    target: Node
    column: int
    """The place of the layer among those of its stage that take several sources."""
    source: Node
    row: int
    """The place of the source in the layer's input."""
    channels: slice
    skips: bool
    """Whether a layer lies between the two."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
    """What one training made of the connections [C]."""

    weights: Any
    """Mean absolute weights, divided by those before training."""
    costs: Any
    """How much the training loss rises if one is cut; NaN where it skips no layer."""


def connections_of(spec: AnySpec) -> list[Connection]:
    """The sources of all layers that take several, in execution order.

    Raises:
        RequestError: none takes three.
    """
    found = [
        Connection(
            stage=stage,
            target=target,
            column=column,
            source=source.node,
            row=row,
            channels=source.channels,
            skips=row < len(sources) - 1,
        )
        for stage, targets in enumerate(targets_of(record(spec)).values())
        for column, target in enumerate(targets)
        for sources in [sources_of(target)]
        for row, source in enumerate(sources)
    ]
    if not any(each.row >= _FEWEST - 1 for each in found):
        raise RequestError(
            f"{spec.name}: no layer takes the outputs of {_FEWEST} earlier ones; this needs dense "
            "blocks, two or more in a stage"
        )
    return found


def measure(spec: AnySpec, data: ImageData, how: TrainSpec, programs: Any = None) -> Use:
    """Trains a network, and weighs and cuts its connections; see `dense`."""
    from reskeras.lab.trained import train_on
    from reskeras.training.train import build_seeded

    connections = connections_of(spec)
    model = build_seeded(Recipe(spec=spec, train=how))
    before = weights(model, connections)
    trained = train_on(model, data, how, programs=programs).model
    return Use(
        weights=weights(trained, connections) / before,
        costs=costs(trained, connections, data),
    )


def weights(model: Any, connections: Sequence[Connection]) -> Any:
    """The mean absolute weight of each connection [C]."""
    kernels = {each.target.name: model.get_layer(each.target.name).kernel for each in connections}
    arrays = {name: np.abs(kernel.numpy()) for name, kernel in kernels.items()}
    return np.array(
        [arrays[each.target.name][..., each.channels, :].mean() for each in connections]
    )


def costs(model: Any, connections: Sequence[Connection], data: ImageData) -> Any:
    """How much the training loss rises without each connection that skips a layer [C]; or NaN."""
    from reskeras.lab.trained import Scorer

    scorer = Scorer(model, data, "train")
    whole, found = scorer.scores()["loss"], []
    for each in connections:
        if not each.skips:
            found.append(np.nan)
            continue
        kernel = model.get_layer(each.target.name).kernel
        value = kernel.numpy()
        cut = value.copy()
        cut[..., each.channels, :] = 0
        kernel.assign(cut)
        found.append(scorer.scores()["loss"] - whole)
        kernel.assign(value)
    return np.array(found)


def checks(connections: Sequence[Connection], found: Sequence[Use]) -> list[Check]:
    """The claims of `dense` over seeds."""
    least = [_least_cost(connections, one.costs) for one in found]
    transition = [_transition(connections, one.weights) for one in found]
    late = [_late(connections, one.weights) for one in found]
    return [
        Check(
            claim="what cutting a skipping connection costs, for the source that is used least",
            source=_SOURCE,
            measured=float(np.mean(least)),
            expected=0.0,
            bound=Bound.AT_LEAST,
            tolerance=-max(margin(least), _ROUNDING),
        ),
        _check(
            "log of the weight of a transition's output over that of dense layers'",
            transition,
            Bound.AT_MOST,
            "" if np.isfinite(transition).all() else "no dense stage follows a transition",
        ),
        _check(
            "rho of a source's place and its weight in the classifier",
            late,
            Bound.AT_LEAST,
            too_few(late)
            if np.isfinite(late).all()
            else f"no dense layer of {_FEWEST} sources classifies",
        ),
    ]


def _check(claim: str, values: Sequence[float], bound: Bound, why_not: str) -> Check:
    known = not why_not
    return Check(
        claim=claim,
        source=_SOURCE,
        measured=float(np.mean(values)),
        expected=0.0 if known else None,
        bound=bound,
        tolerance=-margin(values) if known else 0.0,
        why_not=why_not,
    )


def _least_cost(connections: Sequence[Connection], cost: Any) -> float:
    """The mean cost of a source's cuts, that of the source where it is least."""
    by_source: dict[str, list[float]] = {}
    for each, value in zip(connections, cost, strict=True):
        if each.skips:
            by_source.setdefault(each.source.name, []).append(value)
    return min(float(np.mean(values)) for values in by_source.values())


def _transition(connections: Sequence[Connection], weight: Any) -> float:
    """Log of the first source's weight over the mean of the others, a mean over layers; or NaN."""
    found = []
    for target in dict.fromkeys(each.target for each in connections):
        mine = [place for place, each in enumerate(connections) if each.target is target]
        if "_transition_" in connections[mine[0]].source.name:
            found.append(np.log(weight[mine[0]] / weight[mine[1:]].mean()))
    return float(np.mean(found)) if found else float("nan")


def _late(connections: Sequence[Connection], weight: Any) -> float:
    """Spearman's rho of a source's place and its weight in the last layer; NaN if it is no head."""
    from scipy.stats import spearmanr

    last = connections[-1].target
    mine = [place for place, each in enumerate(connections) if each.target is last]
    if last.kind != "Dense" or len(mine) < _FEWEST:
        return float("nan")
    return float(spearmanr(range(len(mine)), weight[mine]).statistic)


def _network(data: ImageData) -> AnySpec:
    return DenseNet(
        name="densenet",
        input_shape=tuple(data.image_shape),
        stem=CifarStem(width=16),
        block=DenseBlock(growth_rate=8, compression=0.5),
        stages=(DenseStage(blocks=5), DenseStage(blocks=5)),
        head=Classifier(classes=data.classes),
    )


def _figure(connections: Sequence[Connection], weight: Any, cost: Any) -> Any:
    maps = []
    for title, values, log in (
        ("weight by that before training", weight, False),
        ("cost of a cut", cost, True),
    ):
        for stage in dict.fromkeys(each.stage for each in connections):
            mine = [place for place, each in enumerate(connections) if each.stage == stage]
            last = connections[mine[-1]]
            shown = np.full((last.row + 1, last.column + 1), np.nan)
            for place in mine:
                shown[connections[place].row, connections[place].column] = values[place]
            maps.append(
                Map(
                    title=f"stage {stage + 1}: {title}",
                    x="layer",
                    y="source",
                    values=shown,
                    rows=["in", *map(str, range(1, last.row + 1))],
                    columns=[*map(str, range(2, last.column + 2)), "out"],
                    log=log,
                )
            )
    return heat_figure(maps)
