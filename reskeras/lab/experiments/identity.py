"""What each block of a trained network learns, and what it is worth."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reskeras.data import ImageData
from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.chance import margin, too_few
from reskeras.lab.moments import Block
from reskeras.lab.networks import image_network
from reskeras.lab.residual import ADD, changes_shape, residual_blocks
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.orders import ORDERS
from reskeras.spec import AnySpec, Classifier, DenseNet, NoNorm, Recipe, Stage, TrainSpec
from reskeras.words import three_digits

_ITERATIVE = "Jastrzebski 2018, arXiv 1710.04773, Section 4"
_LESIONS = "Veit 2016, arXiv 1605.06431, Section 4.1 and Fig. 3"
_HOW = TrainSpec(epochs=8)
_STAGES = (Stage(blocks=6, width=16), Stage(blocks=6, width=32, stride=2))
_IMAGES = 256
_RANKED = 3
"""Fewest blocks of a stage that have an order."""


def identity(
    spec: AnySpec | None = None,
    *,
    data: ImageData | None = None,
    seeds: int = 5,
    seed: int = 0,
) -> Result:
    """What each residual block of a trained network does to its input, and what it is worth.

    For each block x + F(x), over training images in inference mode: the norm of F(x) divided by
    that of x (root mean squares over images, positions and channels), before and after training;
    the share of zeros behind its ReLUs; and the cost of removing it: how much worse the task's
    first metric on the validation split gets if F(x) is 0 and the shortcut stays.

    * The ratio falls with depth within a stage: Spearman's rho of place and ratio is negative.
      With batch norm, F has about the same norm in each block and x grows, so it falls as
      1/sqrt(l) before any training. This needs sums that grow: no norm after the addition, no
      factors on shortcut or sum, and norms in the branch.
    * Training makes late blocks still more like the identity: rho of place and of the ratio's
      change by training is negative. This needs a norm at the end of the branch. It holds the
      branch's norm near gamma, which starts at 1, while sums grow. Without one, the branch's norm
      is that of its last kernel, which training is free to let grow, and does in late blocks.
    * The nearer a block is to the identity, the less it costs to remove: rho of ratio and cost is
      positive.
    * To remove a block that changes the shape, at the start of a stage, costs more than the mean
      of the others of its stage.

    The first block of a stage is left out of ranks within it if it changes the shape. Each number
    is a mean over S trainings, and must be beyond 0 by more than chance explains: t s / sqrt(S),
    where s is the standard deviation of the S numbers and t is Student's with S - 1 degrees of
    freedom, one-sided, 99 % (see `reskeras.lab.chance.margin`).

    Args:
        spec: the network; without one, two small ones of twelve blocks, which differ in norm order.
        data: what to train on; by default, `digits`.
        seeds: how many trainings.
        seed: the first one's; each has the next number.

    Raises:
        RequestError: the network does not fit the data, or no stage has three residual blocks that
            keep the shape.
    """
    from reskeras.lab.trained import default_data, fitted_to
    from reskeras.training.compiled import Programs

    data = default_data() if data is None else data
    specs = [fitted_to(one, data) for one in ([spec] if spec is not None else _networks(data))]
    for one in specs:
        check_blocks(one)
    programs = Programs()
    found = {
        one.name: [
            measure(one, data, dataclasses.replace(_HOW, seed=seed + number), programs)
            for number in range(seeds)
        ]
        for one in specs
    }
    return Result(
        name="identity",
        network=", ".join(found),
        checks=[
            check for one in specs for check in checks(one, found[one.name], alone=spec is not None)
        ],
        table=Table(
            columns=(
                "network",
                "block",
                "changes shape",
                "ratio before training",
                "ratio",
                "zeros",
                "cost of removal",
            ),
            rows=tuple(row for one in specs for row in _rows(one, found[one.name])),
        ),
        text=_text(specs, found, data.task.metrics[0].name),
        draw=lambda: _figure(found, data.task.metrics[0].name),
        settings={"seeds": seeds, "seed": seed, "data": data.name, "epochs": _HOW.epochs},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """What one training's residual blocks [B] do."""

    before: Any
    """||F|| / ||x|| before training."""
    ratio: Any
    """||F|| / ||x||."""
    zeros: Any
    """The share of zeros behind ReLUs; NaN if there are none."""
    cost: Any
    """What removing it costs."""


def check_blocks(spec: AnySpec) -> None:
    """Raises RequestError if no stage has blocks to rank."""
    if not _stages(residual_blocks(spec)):
        raise RequestError(
            f"{spec.name}: no stage has {_RANKED} residual blocks that keep the shape of their "
            "input; with fewer there is no order by depth"
        )


def measure(spec: AnySpec, data: ImageData, how: TrainSpec, programs: Any = None) -> Blocks:
    """Trains a network and measures its blocks; see `identity`."""
    from reskeras.lab.trained import images_of, train_on
    from reskeras.models.recalibration import recalibrate
    from reskeras.training.train import build_seeded

    images = images_of(spec, data, _IMAGES)
    model = build_seeded(Recipe(spec=spec, train=how))
    recalibrate(model, images)
    before = ratios(spec, model, images)
    trained = train_on(model, data, how, programs=programs).model
    return Blocks(
        before=before,
        ratio=ratios(spec, trained, images),
        zeros=_zeros(spec, trained, images),
        cost=costs(spec, trained, data),
    )


def ratios(spec: AnySpec, model: Any, images: Any) -> Any:
    """||F(x)|| / ||x|| of each residual block [B]."""
    import keras

    sums = [model.get_layer(block.name + ADD).input for block in residual_blocks(spec)]
    values = keras.Model(model.input, sums)(images, training=False)
    return np.array([_norm(branch) / _norm(side) for side, branch in values])


def costs(spec: AnySpec, model: Any, data: ImageData) -> Any:
    """How much worse the task's first metric gets without each residual block [B]."""
    from reskeras.lab.switches import Switched

    network, metric = Switched(spec, model, data), data.task.metrics[0]
    whole = network.scores()[metric.name]
    return np.array(
        [
            metric.sign * (whole - network.scores([block.name])[metric.name])
            for block in residual_blocks(spec)
        ]
    )


def checks(spec: AnySpec, found: Sequence[Blocks], *, alone: bool) -> list[Check]:
    """The claims of `identity` over seeds; `alone` if no other network needs to be told apart."""
    blocks = residual_blocks(spec)
    where = "" if alone else f" in {spec.name}"
    grows = why_sums_do_not_grow(spec)
    held = grows or why_branches_are_free(spec)
    falls = [_rank_by_depth(blocks, one.ratio) for one in found]
    worth = [_rank(one.ratio, one.cost) for one in found]
    # Branches that start at zero have no ratio to compare with.
    learnt = [_rank_by_depth(blocks, one.ratio / one.before) for one in found if one.before.all()]
    shapes = [_more_by_shape(blocks, one.cost) for one in found]
    one_shape = "" if np.isfinite(shapes).all() else "no block changes the shape"
    below, above = Bound.AT_MOST, Bound.AT_LEAST
    return [
        _check(
            f"rho of a block's place in its stage and ||F||/||x||{where}",
            _ITERATIVE, falls, below, grows or too_few(falls),
        ),
        _check(
            f"rho of a block's place and what training does to ||F||/||x||{where}",
            _ITERATIVE, learnt, below, held or too_few(learnt),
        ),
        _check(
            f"rho of ||F||/||x|| and the cost of removing the block{where}",
            _LESIONS, worth, above, grows or too_few(worth),
        ),
        _check(
            f"what removing a block that changes the shape costs more{where}",
            _LESIONS, shapes, above, one_shape,
        ),
    ]  # fmt: skip


def why_sums_do_not_grow(spec: AnySpec) -> str:
    """Why x need not grow with depth while F does not; empty if it has to."""
    assert not isinstance(spec, DenseNet)
    if isinstance(spec.norm, NoNorm):
        return "without a norm, a branch grows with its input"
    if ORDERS[spec.norm_order].sum_norm:
        return "a norm after each addition keeps sums from growing"
    if spec.sum_scale != 1 or not isinstance(spec.shortcut, str):
        return "a factor on what passes keeps sums from growing"
    if spec.shortcut in ("project_always", "conv1x1"):
        return "a projection in each block keeps sums from growing"
    if spec.residual_scale == "learned" or spec.zero_init_last:
        return "branches start at zero"
    return ""


def why_branches_are_free(spec: AnySpec) -> str:
    """Why the scale of a branch is not held by a norm at its end; empty if it is."""
    order = ORDERS[spec.norm_order]
    if not order.last_norm or order.last_activation:
        return "no norm ends the branch, so training sets its scale"
    return ""


def _networks(data: ImageData) -> list[AnySpec]:
    head = Classifier(classes=data.classes)
    return [
        dataclasses.replace(
            image_network(data.image_shape, head, blocks=1, name=name, norm_order=order),
            stages=_STAGES,
        )
        for name, order in (("original", "original"), ("full_preact", "full_preact"))
    ]


def _stages(blocks: Sequence[Block]) -> list[list[int]]:
    """By stage, the places of its blocks that keep the shape, of stages that have enough."""
    stages: dict[str, list[int]] = {}
    for place, block in enumerate(blocks):
        if not changes_shape(block):
            stages.setdefault(block.name.rpartition("_block")[0], []).append(place)
    return [places for places in stages.values() if len(places) >= _RANKED]


def _more_by_shape(blocks: Sequence[Block], cost: Any) -> float:
    """How much more blocks cost that change the shape than the others of their stages; or NaN."""
    more = [
        cost[places[0] - 1] - cost[places].mean()
        for places in _stages(blocks)
        if places[0] and changes_shape(blocks[places[0] - 1])
    ]
    return float(np.mean(more)) if more else float("nan")


def _rank_by_depth(blocks: Sequence[Block], values: Any) -> float:
    """Spearman's rho of depth and values, a mean over stages."""
    found = [_rank(range(len(places)), values[places]) for places in _stages(blocks)]
    return float(np.mean(found))


def _rank(ours: Sequence[float], theirs: Any) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(ours, theirs).statistic)


def _check(claim: str, source: str, values: Sequence[float], bound: Bound, why_not: str) -> Check:
    return Check(
        claim=claim,
        source=source,
        measured=float(np.mean(values)) if values else float("nan"),
        expected=None if why_not else 0.0,
        bound=bound,
        tolerance=0.0 if why_not else -margin(values),
        why_not=why_not,
    )


def _norm(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype="float64"))))


def _zeros(spec: AnySpec, model: Any, images: Any) -> Any:
    """The share of zeros behind the ReLUs of each block [B]."""
    import keras

    blocks = residual_blocks(spec)
    names = [[node.name for node in block.nodes if node.kind == "ReLU"] for block in blocks]
    if not any(names):
        return np.full(len(blocks), np.nan)
    outputs = [[model.get_layer(name).output for name in within] for within in names]
    values = keras.Model(model.input, outputs)(images, training=False)
    return np.array(
        [
            np.concatenate([np.ravel(value) == 0 for value in within]).mean() if within else np.nan
            for within in values
        ]
    )


def _rows(spec: AnySpec, found: Sequence[Blocks]) -> list[tuple[Any, ...]]:
    means = {
        field: np.mean([getattr(one, field) for one in found], axis=0)
        for field in ("before", "ratio", "zeros", "cost")
    }
    return [
        (spec.name, block.name, changes_shape(block), *(float(each[i]) for each in means.values()))
        for i, block in enumerate(residual_blocks(spec))
    ]


def _text(specs: Sequence[AnySpec], found: Mapping[str, Sequence[Blocks]], metric: str) -> str:
    told = []
    for spec in specs:
        blocks, cost = residual_blocks(spec), np.mean([one.cost for one in found[spec.name]], 0)
        dear, cheap = int(cost.argmax()), int(cost.argmin())
        told.append(
            f"{spec.name}: {blocks[dear].name} is worth most ({three_digits(float(cost[dear]))} of "
            f"{metric}), {blocks[cheap].name} least ({three_digits(float(cost[cheap]))})"
        )
    return (
        f"What removing one block costs: {'; '.join(told)}. Late blocks of a stage change what "
        "they get by less than early ones, and most of them can go."
    )


def _figure(found: Mapping[str, Sequence[Blocks]], metric: str) -> Any:
    def line(label: str, values: Sequence[Any]) -> Line:
        rows = np.array(values)
        return Line(
            label=label,
            x=range(1, rows.shape[1] + 1),
            y=list(rows.mean(axis=0)),
            low=list(rows.min(axis=0)),
            high=list(rows.max(axis=0)),
        )

    norms = [
        line(f"{name}, {when}", [getattr(one, field) for one in runs])
        for when, field in (("trained", "ratio"), ("before", "before"))
        for name, runs in found.items()
    ]
    worths = [line(name, [one.cost for one in runs]) for name, runs in found.items()]
    return lines_figure(
        [
            Panel(title="branch against shortcut", x="block", y="||F(x)|| / ||x||", lines=norms),
            Panel(title="cost of removing a block", x="block", y=f"{metric} lost", lines=worths),
        ]
    )
