"""Kinds of shortcut: what they leave of the gradient, and how networks with them train."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.moments import Block, blocks_of
from reskeras.lab.networks import image_network
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.graph import record
from reskeras.spec import (
    AnySpec,
    BatchNorm,
    Classifier,
    DropoutShortcut,
    GatedShortcut,
    ResNet,
    ScaledShortcut,
    Shortcut,
    sum_scale,
)

if TYPE_CHECKING:
    from reskeras.data import ImageData

_CERTAIN = 2.576
"""Standard deviations within which 99 % of normal values are."""
_UNIT = 2.0**-24
"""The largest relative error of one rounding to float32."""
_EPOCHS = 6
_FEWEST_BLOCKS = 12
_SCALING = "He 2016, arXiv 1603.05027, Eq. 7 and 8"
_TABLE = "He 2016, arXiv 1603.05027, Table 1"
_SMALL = image_network((8, 8, 1), Classifier(classes=10), blocks=12, width=8, name="small")

KINDS: Mapping[str, Shortcut] = {
    "identity": "project_on_change",
    "scaled": ScaledShortcut(factor=0.5),
    "gated": GatedShortcut(gate="exclusive"),
    "conv1x1": "conv1x1",
    "dropout": DropoutShortcut(rate=0.5),
}


def shortcuts(
    spec: AnySpec | None = None,
    *,
    data: "ImageData | None" = None,
    seeds: int = 9,
    seed: int = 0,
) -> Result:
    """The identity against shortcuts that scale, gate, convolve or drop what they pass on.

    First, without training: the gradient that comes back through L shortcuts alone, with
    constant branches, is multiplied by the product of their factors. That is 1 for the identity,
    and 0.5^L for shortcuts times 0.5. Dropout at a rate of 0.5 keeps a share of 0.5^L of the
    gradient's numbers, and multiplies these by 2^L: its mean stays, as Keras' dropout is inverted.
    The tolerance is a rounding of float32 for each block; for shares of N numbers, 2.576 standard
    deviations of a binomial number, sqrt(p (1 - p) / N).

    Second, a network with each kind is trained for six epochs with each seed. All others have a
    higher training loss in the last epoch than the identity has. The tolerance is Student's t
    (99 %, one side) times the standard error of the mean difference over seeds: losses must be
    higher by more than that. The paper's networks have 54 blocks, and shallow ones hardly differ,
    so theory says nothing about fewer than 12; they have batch norm, so it is about that alone.

    Args:
        spec: the network, which is trained with each kind of shortcut; without one, a small one.
        data: what to train on; `digits` by default.
        seeds: how many trainings of each network.
        seed: the first of them.

    Raises:
        RequestError: the network is no ResNet of plain or residual blocks, or has one block in
            each stage, or does not fit the data.
    """
    from reskeras.lab.trained import default_data
    from reskeras.lab.twins import last_losses, residual_network, train_each

    network = residual_network(_SMALL if spec is None else spec)
    specs = {name: dataclasses.replace(network, shortcut=kind) for name, kind in KINDS.items()}
    passed = {name: measure(each, seed=seed) for name, each in specs.items()}
    curves = train_each(
        specs, default_data() if data is None else data, epochs=_EPOCHS, seeds=seeds, seed=seed
    )
    return Result(
        name="shortcuts",
        network=network.name,
        checks=[
            *(check for name, each in passed.items() for check in each.checks(name)),
            *claims(last_losses(curves), why_not(network)),
        ],
        table=Table(
            columns=("shortcut", "what", "at", "value"),
            rows=tuple(_rows(passed, curves, seed)),
        ),
        text=_text(passed, curves),
        draw=lambda: _figure(passed, curves),
        settings={"seeds": seeds, "seed": seed, "epochs": _EPOCHS},
    )  # fmt: skip


def why_not(network: ResNet) -> str:
    """Why theory says nothing about trainings of this network, if it does not."""
    from reskeras.lab.twins import blocks_in

    if (blocks := blocks_in(network)) < _FEWEST_BLOCKS:
        return f"it has {blocks} blocks; kinds differ when deep"
    if not isinstance(network.norm, BatchNorm):
        return f"it has norm {network.norm.kind!r}, not 'batch'"
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passed:
    """What comes back through the shortcuts of one stage alone."""

    sizes: Sequence[float]
    """The root mean square of the gradient after each block, over that after the last one."""
    share: float
    """The share of its numbers before the first of them that are not 0."""
    numbers: int
    """How many there are."""
    factor: float | None
    """What theory multiplies them by in each block; None if it does not say."""
    kept: float
    """The share of them that theory lets through in each block."""
    why_not: str
    """Why theory says nothing, if it does not."""

    @property
    def blocks(self) -> int:
        """How many shortcuts it comes through."""
        return len(self.sizes) - 1

    def checks(self, name: str) -> list[Check]:
        """What theory says about this kind."""
        if self.factor is None:
            return []
        if self.kept < 1:
            expected = self.kept**self.blocks
            check = Check(
                claim=f"{name}: this share of a gradient's numbers comes through {self.blocks} "
                "shortcuts",
                source=_SCALING,
                measured=self.share,
                expected=expected,
                tolerance=_CERTAIN * math.sqrt(expected * (1 - expected) / self.numbers),
            )
        else:
            expected = self.factor**self.blocks
            check = Check(
                claim=f"{name}: the gradient is multiplied by this in {self.blocks} shortcuts",
                source=_SCALING,
                measured=self.sizes[0],
                expected=expected,
                tolerance=2 * self.blocks * _UNIT * expected,
            )
        if self.why_not:
            check = dataclasses.replace(check, expected=None, why_not=self.why_not)
        return [check]


def measure(spec: ResNet, *, seed: int, model: Any = None) -> Passed:
    """Sends a gradient back through the shortcuts of the longest stage, to its first block.

    Args:
        spec: the network.
        seed: what its weights and the gradient follow from.
        model: the network if it is built; the branches of that stage become constant.

    Raises:
        RequestError: each stage has one block.
    """
    from reskeras.lab.probe import shortcut_gradients
    from reskeras.models.build import build

    longest = max(range(len(spec.stages)), key=lambda place: spec.stages[place].blocks)
    prefix = f"{spec.layer_prefix}stage{longest + 1}_block"
    blocks = [block for block in blocks_of(record(spec)) if block.name.startswith(prefix)]
    if len(blocks) < 2:
        raise RequestError(f"{spec.name}: has one block in each stage; this needs two or more")
    branches = [name for block in blocks[1:] for name in _ends(block)]
    gradients = shortcut_gradients(
        build(spec) if model is None else model,
        [block.output.name for block in blocks],
        branches,
        seed,
    )
    sizes = [float((gradient**2).mean() ** 0.5) for gradient in gradients]
    factor: float | None
    kept = 1.0
    match spec.shortcut:
        case ScaledShortcut(factor=factor):
            pass
        case DropoutShortcut(rate=rate):
            factor, kept = 1 / (1 - rate), 1 - rate
        case GatedShortcut() | "conv1x1" | "project_always":
            factor = None
        case _:
            factor = 1.0
    if factor is not None:
        factor *= sum_scale(spec.sum_scale)
    why_not = ""
    if spec.norm_order == "norm_after_add":
        why_not = "norm_order 'norm_after_add' has a norm on the way"
    return Passed(
        sizes=[size / sizes[-1] for size in sizes],
        share=float((gradients[0] != 0).mean()),
        numbers=gradients[0].size,
        factor=factor,
        kept=kept,
        why_not=why_not,
    )


def _ends(block: Block) -> list[str]:
    """The last convolution of a block's branch, and the norm right after it, if there is one."""
    last = [node for node in block.nodes if node.name.startswith(f"{block.name}_conv")][-1]
    norms = (node for node in block.nodes if node.kind.endswith("Normalization"))
    after = [node for node in norms if last in node.inputs]
    return [last.name, *(node.name for node in after)]


def claims(losses: Mapping[str, Sequence[float]], why_not: str = "") -> list[Check]:
    """What theory says about these losses, by kind and for each seed."""
    from reskeras.lab.twins import difference

    checks = [
        difference(
            each,
            losses["identity"],
            Bound.AT_LEAST,
            claim=f"{name}: the training loss is higher than the identity's, by this",
            source=_TABLE,
        )
        for name, each in losses.items()
        if name != "identity"
    ]
    if why_not:
        return [dataclasses.replace(check, expected=None, why_not=why_not) for check in checks]
    return checks


Curves = Mapping[str, Sequence[Sequence[float]]]
"""The training loss of each epoch, for each seed, by kind."""


def _rows(passed: Mapping[str, Passed], curves: Curves, seed: int) -> list[tuple[Any, ...]]:
    return [
        (name, "gradient through shortcuts", f"{each.blocks - place} blocks", size)
        for name, each in passed.items()
        for place, size in enumerate(each.sizes)
    ] + [
        (name, "training loss", f"seed {seed + number}", curve[-1])
        for name, each in curves.items()
        for number, curve in enumerate(each)
    ]


def _text(passed: Mapping[str, Passed], curves: Curves) -> str:
    import numpy as np

    told = ", ".join(
        f"{name} {np.mean([curve[-1] for curve in each]):.3g}" for name, each in curves.items()
    )
    scaled = passed["scaled"]
    return (
        f"Through {scaled.blocks} shortcuts times 0.5, without branches, {scaled.sizes[0]:.2g} of "
        f"the gradient comes back; the identity passes all of it. Mean training losses after "
        f"{_EPOCHS} epochs: {told}."
    )


def _figure(passed: Mapping[str, Passed], curves: Curves) -> Any:
    import numpy as np

    gradients = [
        Line(
            label=name,
            x=range(each.blocks, -1, -1),
            y=each.sizes,
            theory=None
            if each.factor is None
            else [
                (each.factor * each.kept**0.5) ** (each.blocks - place)
                for place in range(each.blocks + 1)
            ],
        )
        for name, each in passed.items()
    ]
    losses = [
        Line(
            label=name,
            x=range(1, _EPOCHS + 1),
            y=np.mean(each, axis=0),
            low=np.min(each, axis=0),
            high=np.max(each, axis=0),
        )
        for name, each in curves.items()
    ]
    return lines_figure(
        [
            Panel(
                title="gradient through shortcuts alone",
                x="shortcuts that it came through",
                y="root mean square",
                lines=gradients,
                log=True,
            ),
            Panel(title="training", x="epoch", y="training loss", lines=losses, log=True),
        ]
    )
