"""Training loss over depth, of plain networks and their residual twins."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.networks import image_network
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.spec import AnySpec, BatchNorm, BottleneckBlock, Classifier, ResNet

if TYPE_CHECKING:
    from reskeras.data import ImageData

_EPOCHS = 6
_SHARES = 1 / 10, 1 / 2, 1.0
_FEWEST_LAYERS = 32
_SOURCE = "He 2015, arXiv 1512.03385, Fig. 4 and 6"
_DEEPEST = image_network((8, 8, 1), Classifier(classes=10), blocks=20, width=8, name="small")


def degradation(
    spec: AnySpec | None = None,
    *,
    data: "ImageData | None" = None,
    seeds: int = 5,
    seed: int = 0,
) -> Result:
    """The training loss of plain networks and of their residual twins, over depth.

    A deeper network could do what the shallower one does and leave the rest of its blocks at the
    identity. Plain networks do not find that: from some depth on, their *training* loss rises with
    depth. That of residual networks does not. Each network is trained for six epochs with each
    seed, which decides its weights and the order of images; the loss is that of the last epoch.

    The tolerance. Networks of different depth are compared seed by seed. Chance explains Student's
    t (99 %, one side) times the standard error of the mean difference. What theory says is higher
    must be higher by more than that; what it says is not higher may be so by that much.

    He's plain networks degrade from 32 layers on, and have batch norm: theory says nothing about
    others. Without a norm, signals in residual networks explode with depth instead (`variance`).

    Args:
        spec: the deepest network, plain or residual; the others have a tenth and a half of its
            blocks in each stage, and at least one. Without one, a network for small images with 20
            blocks.
        data: what to train on; `digits` by default.
        seeds: how many trainings of each network.
        seed: the first of them.

    Raises:
        RequestError: the network is no ResNet of plain or residual blocks, has one block in each
            stage, or does not fit the data.
    """
    from reskeras.lab.trained import default_data
    from reskeras.lab.twins import (
        blocks_in,
        last_losses,
        residual_network,
        train_each,
        with_blocks,
    )

    deepest = residual_network(_DEEPEST if spec is None else spec)
    networks: dict[int, ResNet] = {}
    for share in _SHARES:
        network = with_blocks(deepest, share)
        networks[blocks_in(network)] = network
    if len(networks) < 2:
        raise RequestError(
            f"{deepest.name}: has one block in each stage; depth needs more, such as "
            "stages: [{blocks: 8, ...}]"
        )
    losses = {
        kind: last_losses(
            train_each(
                {
                    blocks: dataclasses.replace(network, shortcut=shortcut)
                    for blocks, network in networks.items()
                },
                default_data() if data is None else data,
                epochs=_EPOCHS,
                seeds=seeds,
                seed=seed,
            )
        )
        for kind, shortcut in (("plain", "none"), ("residual", deepest.shortcut))
    }
    return Result(
        name="degradation",
        network=deepest.name,
        checks=claims(losses, why_not(deepest)),
        table=Table(
            columns=("network", "blocks", "seed", "training loss"),
            rows=tuple(
                (kind, blocks, seed + number, loss)
                for kind, by_blocks in losses.items()
                for blocks, values in by_blocks.items()
                for number, loss in enumerate(values)
            ),
        ),
        text=_text(losses),
        draw=lambda: _figure(losses),
        settings={"seeds": seeds, "seed": seed, "epochs": _EPOCHS},
    )


Losses = Mapping[str, Mapping[int, Sequence[float]]]
"""Training losses for each seed, by kind and number of blocks."""


def why_not(deepest: ResNet) -> str:
    """Why theory says nothing about this network and its plain twin, if it does not."""
    from reskeras.lab.twins import blocks_in

    each = 3 if isinstance(deepest.block, BottleneckBlock) else 2
    layers = each * blocks_in(deepest) + 2
    if layers < _FEWEST_LAYERS:
        return f"it has {layers} layers; plain networks degrade from {_FEWEST_LAYERS} on"
    if not isinstance(deepest.norm, BatchNorm):
        return f"it has norm {deepest.norm.kind!r}, not 'batch'"
    return ""


def claims(losses: Losses, why_not: str = "") -> list[Check]:
    """What theory says about these losses."""
    from reskeras.lab.twins import difference

    plain, residual = losses["plain"], losses["residual"]
    few, many = min(plain), max(plain)
    checks = [
        difference(
            plain[many],
            plain[few],
            Bound.AT_LEAST,
            claim=f"plain: {many} blocks have a higher training loss than {few}, by this",
            source=_SOURCE,
        ),
        difference(
            residual[many],
            residual[few],
            Bound.AT_MOST,
            claim=f"residual: {many} blocks have no higher training loss than {few}",
            source=_SOURCE,
        ),
        difference(
            plain[many],
            residual[many],
            Bound.AT_LEAST,
            claim=f"plain networks of {many} blocks have a higher loss than residual ones, by this",
            source=_SOURCE,
        ),
    ]
    if why_not:
        return [dataclasses.replace(check, expected=None, why_not=why_not) for check in checks]
    return checks


def _text(losses: Losses) -> str:
    import numpy as np

    told = "; ".join(
        ", ".join(
            [
                f"{np.mean(values):.3g} with {blocks} {kind} blocks"
                for blocks, values in each.items()
            ]
        )
        for kind, each in losses.items()
    )
    return (
        f"Mean training losses after {_EPOCHS} epochs: {told}. Only the shortcuts differ: "
        "what the deeper plain network lacks is not capacity, but a way to find its weights."
    )


def _figure(losses: Losses) -> Any:
    import numpy as np

    lines = [
        Line(
            label=kind,
            x=list(each),
            y=[float(np.mean(values)) for values in each.values()],
            low=[min(values) for values in each.values()],
            high=[max(values) for values in each.values()],
        )
        for kind, each in losses.items()
    ]
    title = f"training loss after {_EPOCHS} epochs"
    return lines_figure([Panel(title=title, x="blocks", y="training loss", lines=lines)])
