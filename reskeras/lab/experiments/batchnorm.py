"""What batch norm does to the scale of weights, and what it takes from a batch."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reskeras.drawing.lines import Line, Panel, lines_figure
from reskeras.errors import RequestError
from reskeras.lab.networks import image_network
from reskeras.lab.result import Bound, Check, Result, Table
from reskeras.nets.graph import Graph, Node, record
from reskeras.spec import AnySpec, BatchNorm, Classifier, NoNorm

if TYPE_CHECKING:
    from reskeras.lab.rescaled import BatchMeans, Rescaled

_CERTAIN = 2.576
"""Standard deviations within which 99 % of normal values are."""
_ALPHAS = tuple(2.0**power for power in range(-3, 4))
_SIZES = (2, 4, 8, 16, 32, 64)
_BATCHES = 50
"""Of each size, for each initialization."""
Pair = tuple[str, str | None]
_SCALE = "Ioffe 2015, arXiv 1502.03167, Section 3.3"
_MEANS = "variance of a mean: sigma^2 / n"

_NETWORKS: dict[str, AnySpec] = {
    name: image_network((8, 8, 3), Classifier(classes=10), blocks=3, name=name, norm=norm)
    for name, norm in (("batch_norm", BatchNorm()), ("no_norm", NoNorm()))
}


def batchnorm(
    spec: AnySpec | None = None,
    *,
    model: Any = None,
    images: Any = None,
    seeds: int = 4,
    seed: int = 0,
) -> Result:
    """Batch norm against the scale of weights, and its batches' means against all images' means.

    First, each convolution's weights are multiplied by alpha = 1/8, 1/4, ..., 8. Right before a
    batch norm, that leaves the norm's output as it is, and the gradient of the weights is
    multiplied by 1/alpha: larger weights learn more slowly. Without a norm, a convolution's output
    is multiplied by alpha, and its gradient stays.

    The tolerance. All alphas are powers of two, which change only exponents: without a norm, the
    error is 0, and the tolerance one rounding of float32. Batch norm divides by sqrt(variance +
    epsilon). So its output is multiplied by f = sqrt((variance + epsilon) / (variance + epsilon /
    alpha^2)), about 1 + epsilon (1 - 1/alpha^2) / (2 variance), in each channel. The gradient is a
    sum of three parts: alpha times the new one has f before the whole, and f^2 more before one of
    them. Measured variances and the lengths of the parts give the tolerance, with eight roundings
    (`reskeras.lab.rescaled`). The check that is reported is the one closest to its tolerance, or
    furthest beyond it.

    Second, batches of n images are drawn from all images, independently of each other. The mean
    that the first batch norm computes of a batch then has the variance sigma^2 / n, where sigma^2
    is that of single images' means; norms after it get what other images of the batch changed,
    and no law holds. The main number is (batch's mean - mean of all images)^2 n / sigma^2, a mean
    over channels, batches, sizes and initializations: 1.

    The tolerance. For normal means it is chi-square over its degrees of freedom, one for each
    batch; with an excess kurtosis k of single images' means, the variance of one batch's number is
    2 + k / n. Channels see the same images, so their mean counts as a single one. The tolerance is
    2.576 sqrt(sum over batches of (2 + k / n)) / batches.

    Args:
        spec: the network; without one, two small ones, with batch norm and without a norm.
        model: a network to measure that should be the spec's, with its layers' names; its kernels
            are drawn anew from its initializers. By default, the spec's network is built.
        images: [N,*sides,C]; by default, independent normal numbers.
        seeds: how many initializations.
        seed: what they and the batches follow from.

    Raises:
        RequestError: the network has another norm, or the images have another shape.
    """
    specs: Mapping[str, AnySpec] = {spec.name: spec} if spec is not None else _NETWORKS
    for each in specs.values():
        if not isinstance(each.norm, BatchNorm | NoNorm):
            raise RequestError(
                f"{each.name}: has norm {each.norm.kind!r}; this is about 'batch', or 'none' to "
                "compare with"
            )
    found = {
        name: measure(each, model=model, images=images, seeds=seeds, seed=seed)
        for name, each in specs.items()
    }
    alone = spec is not None
    return Result(
        name="batchnorm",
        network=", ".join(found),
        checks=[check for name, one in found.items() for check in one.checks(name, alone=alone)],
        table=Table(
            columns=("network", "what", "after", "at", "measured", "theory"),
            rows=tuple(row for name, one in found.items() for row in one.rows(name)),
        ),
        text=_text(found),
        draw=lambda: _figure(found),
        settings={"seeds": seeds, "seed": seed},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Means:
    """How far batches' means at a batch norm are from the mean of all images."""

    norm: str
    squares: Any
    """(mean of the batch - mean of all)^2 / sigma^2, a mean over channels [sizes,batches]."""
    kurtosis: float
    """Of single images' means, in excess of a normal one's, a mean over channels."""
    values: float
    """How many independent values an image counts as: the variance of single values over sigma^2,
    both summed over channels."""
    positions: int
    """How many values it has in each channel."""

    def check(self, where: str) -> Check:
        """Compares with sigma^2 / n."""
        batches = self.squares.shape[1]
        variance = sum((2 + max(0.0, self.kurtosis) / size) * batches for size in _SIZES)
        return Check(
            claim=f"the mean of a batch of n images at the first batch norm{where} has this "
            "variance, in sigma^2 / n",
            source=_MEANS,
            measured=float((self.squares.mean(axis=1) * _SIZES).mean()),
            expected=1.0,
            tolerance=_CERTAIN * math.sqrt(variance) / (batches * len(_SIZES)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured of one network."""

    normed: Sequence["Rescaled"]
    """Convolutions right before a batch norm, over alphas and initializations."""
    bare: Sequence["Rescaled"]
    """Convolutions with no norm right after them."""
    means: Sequence[Means]
    """At the first batch norm and at the last one; none without batch norm."""

    def checks(self, name: str, *, alone: bool) -> list[Check]:
        """What theory says about this network; `alone` if no other needs to be told apart."""
        where = "" if alone else f" of {name}"
        checks = []
        if self.normed:
            checks += [
                _worst(self.normed, "output", f"alpha times the weights before a batch norm{where} "
                       "change its output by this share"),
                _worst(self.normed, "gradient", f"they multiply the weights' gradient{where} by "
                       "1 / alpha, but for this share"),
            ]  # fmt: skip
        if self.means:
            checks.append(self.means[0].check(where))
        if self.bare:
            checks += [
                _worst(self.bare, "output", f"alpha times the weights with no norm after "
                       f"them{where} multiply their output by alpha, but for this share"),
                _worst(self.bare, "gradient", f"they change the weights' gradient{where} by this "
                       "share"),
            ]  # fmt: skip
        return checks

    def factors(self) -> list[tuple[str, str, list[float], int]]:
        """What outputs and gradients are multiplied by at each alpha, and theory."""
        found = []
        for after, runs, power in (("batch norm", self.normed, 0), ("no norm", self.bare, 1)):
            for what, field, exponent in (
                ("output", "outputs", power),
                ("gradient", "gradients", power - 1),
            ):
                if runs:
                    values = [_typical(runs, field, alpha) for alpha in _ALPHAS]
                    found.append((what, after, values, exponent))
        return found

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """A row of the table for each alpha, and for each batch size."""
        rows: list[tuple[Any, ...]] = [
            (name, what, after, f"alpha {alpha:g}", value, alpha**exponent)
            for what, after, values, exponent in self.factors()
            for alpha, value in zip(_ALPHAS, values, strict=True)
        ]
        for place, each in enumerate(self.means):
            rows += [
                (name, "variance of a batch's mean / sigma^2", each.norm, f"{size} images",
                 float(squares.mean()), math.nan if place else 1 / size)
                for size, squares in zip(_SIZES, each.squares, strict=True)
            ]  # fmt: skip
        return rows


def _worst(runs: Sequence["Rescaled"], what: str, claim: str) -> Check:
    """A check of the layer and the alpha that are the closest to their tolerance."""
    error, limit = max(
        ((getattr(run, f"{what}_error"), getattr(run, f"{what}_limit")) for run in runs),
        key=lambda pair: pair[0] / pair[1],
    )
    return Check(
        claim=claim,
        source=_SCALE,
        measured=error,
        expected=0.0,
        bound=Bound.AT_MOST,
        tolerance=limit,
    )


def _typical(runs: Sequence["Rescaled"], field: str, alpha: float) -> float:
    """The geometric mean over layers and initializations."""
    logs = [math.log(getattr(run, field)) for run in runs if run.alpha == alpha]
    return math.exp(sum(logs) / len(logs))


def _followed(graph: Graph, node: Node) -> list[Node]:
    return [each for each in graph.nodes if node in each.inputs]


def _convolutions(graph: Graph) -> tuple[list[Pair], list[Pair]]:
    """Convolutions with the batch norm that alone uses their output, and those without a norm."""
    normed: list[Pair] = []
    bare: list[Pair] = []
    for node in graph.nodes:
        linear = node.settings.get("activation", "linear") == "linear"
        if node.kind not in ("Conv", "Dense") or not linear or node.is_learned_scale:
            continue
        users = _followed(graph, node)
        if len(users) == 1 and users[0].kind == "BatchNormalization":
            normed.append((node.name, users[0].name))
        elif not any(user.kind == "BatchNormalization" for user in users):
            bare.append((node.name, None))
    return normed, bare


def measure(spec: AnySpec, *, model: Any, images: Any, seeds: int, seed: int) -> Found:
    """Measures one network; see `batchnorm`."""
    import numpy as np

    from reskeras.lab.probe import check_images, initialize, noise_images
    from reskeras.lab.rescaled import BatchMeans, norm_inputs, rescaled
    from reskeras.models.build import build

    graph = record(spec)
    normed, bare = _convolutions(graph)
    norms = [node.name for node in graph.nodes if node.kind == "BatchNormalization"]
    images = noise_images(spec, seed) if images is None else images
    check_images(spec, images)
    if spec.data_format == "channels_first" and len(spec.input_shape) > 1:
        images = np.moveaxis(images, -1, 1)
    model = build(spec) if model is None else model
    epsilon = spec.norm.epsilon if isinstance(spec.norm, BatchNorm) else 0.0
    normed_runs: list[Rescaled] = []
    bare_runs: list[Rescaled] = []
    means: list[list[Means]] = []
    ends = list(dict.fromkeys((norms[0], norms[-1]))) if norms else []
    sampler = BatchMeans(model, ends, images) if norms else None
    for number in range(seeds):
        key = np.random.SeedSequence([seed, number])
        random = np.random.default_rng(key)
        initialize(model, key)
        options: dict[str, Any] = {"epsilon": epsilon, "random": random}
        normed_runs += rescaled(model, normed, images, _ALPHAS, **options)
        bare_runs += rescaled(model, bare, images, _ALPHAS, **options)
        if sampler is not None:
            inputs = norm_inputs(model, ends, images)
            means.append(_means(ends, inputs, sampler, random))
    return Found(
        normed=normed_runs,
        bare=bare_runs,
        means=[_joined(each) for each in zip(*means, strict=True)],
    )


def _means(
    norms: Sequence[str], inputs: Sequence[Any], sampler: "BatchMeans", random: Any
) -> list[Means]:
    """The means of batches at some batch norms, for the weights that the model has.

    Args:
        norms: their names.
        inputs: what each gets, if all images are one batch [N,positions,C].
        sampler: of batches.
        random: draws them.
    """
    import numpy as np
    from scipy.stats import kurtosis

    by_size = [sampler.sampled(size, _BATCHES, random) for size in _SIZES]
    found = []
    for place, (norm, values) in enumerate(zip(norms, inputs, strict=True)):
        single = values.mean(axis=1)
        variance = single.var(axis=0)
        alive = variance > 0
        squares = [
            np.square(batches[place] - single.mean(axis=0))[:, alive] / variance[alive]
            for batches in by_size
        ]
        found.append(
            Means(
                norm=norm,
                squares=np.stack([each.mean(axis=1) for each in squares]),
                kurtosis=float(kurtosis(single[:, alive]).mean()),
                values=float(values.var(axis=(0, 1)).sum() / variance.sum()),
                positions=values.shape[1],
            )
        )
    return found


def _joined(means: Sequence[Means]) -> Means:
    """Those of several initializations as one."""
    import numpy as np

    return Means(
        norm=means[0].norm,
        squares=np.concatenate([each.squares for each in means], axis=1),
        kurtosis=float(np.mean([each.kurtosis for each in means])),
        values=float(np.mean([each.values for each in means])),
        positions=means[0].positions,
    )


def _text(found: Mapping[str, Found]) -> str:
    factors = {
        (what, after): values[-1]
        for one in found.values()
        for what, after, values, _ in one.factors()
    }
    told = [
        f"with {after} after them, {_ALPHAS[-1]:g} times the weights multiply the output by "
        f"{factors['output', after]:.3g} and the gradient by {factors['gradient', after]:.3g}"
        for after in ("batch norm", "no norm")
        if ("output", after) in factors
    ]
    text = "; ".join(told)
    text = f"{text[0].upper()}{text[1:]}."
    for one in found.values():
        for means in one.means[:1]:
            text += (
                " Over batches of n images, the mean at the first batch norm scatters as sigma^2 / "
                f"n; an image counts as {means.values:.3g} independent values there, of "
                f"{means.positions}."
            )
    return text


def _figure(found: Mapping[str, Found]) -> Any:
    lines: dict[str, list[Line]] = {"output": [], "gradient": []}
    for one in found.values():
        for what, after, values, exponent in one.factors():
            powers = [math.log2(alpha) for alpha in _ALPHAS]
            lines[what].append(
                Line(
                    label=after,
                    x=powers,
                    y=[math.log2(value) for value in values],
                    theory=[exponent * power for power in powers],
                )
            )
    panels = [
        Panel(title=title, x="log2 of alpha", y="log2 of the factor", lines=lines[what])
        for what, title in (
            ("output", "output of alpha times the weights"),
            ("gradient", "gradient of these weights"),
        )
    ]
    scatter = [
        Line(
            label=label,
            x=[math.log2(size) for size in _SIZES],
            y=[float(squares.mean()) for squares in means.squares],
            theory=None if place else [1 / size for size in _SIZES],
        )
        for one in found.values()
        for place, (label, means) in enumerate(
            zip(("first batch norm", "last batch norm"), one.means, strict=False)
        )
    ]
    if scatter:
        panels.append(
            Panel(
                title="means of batches",
                x="log2 of images in the batch",
                y="variance, in those of one image",
                lines=scatter,
                log=True,
            )
        )
    return lines_figure(panels)
