"""Signs of short trainings."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

from reskeras.lab.doctor.few import Pair, as_data, blind, few, repeated, shuffled
from reskeras.lab.doctor.finding import Case, Changes, Finding, Remedy, Sign, is_plain
from reskeras.lab.result import Bound
from reskeras.lab.trained import train_network
from reskeras.spec import BasicBlock, BatchNorm, TrainSpec
from reskeras.spec.augment import NO_AUGMENTATION
from reskeras.training.compiled import Programs
from reskeras.training.rates import RateTest, range_test

_FEW = 64
"""Images that every network should be able to learn by heart."""
_STEPS = 200
_FEWEST, _TRAIN, _VAL = 32, 1024, 512
"""Images for the question whether labels belong to them."""


@functools.lru_cache(maxsize=1)
def _rates(case: Case) -> RateTest | None:
    """The range test of a case; None if the loss falls at no rate."""
    try:
        return range_test(case.recipe, case.data)
    except RuntimeError:
        return None


def _learning_rate(case: Case) -> Finding | None:
    found, rate = _rates(case), case.recipe.train.learning_rate
    source = "the range test of Smith 2017, arXiv 1506.01186, Section 3.3"
    if found is None:
        return Finding(
            sign="learning rate",
            number=math.inf,
            says="the loss falls at no rate from 1e-06 to 10",
            bound=Bound.AT_MOST,
            limit=10,
            source=source,
            advice="see the other signs: this network does not train",
        )
    low, high = found.low / 10, found.rates[-1] if found.diverged else math.inf
    says = f"train.learning_rate is {rate:g}; the loss falls fastest from {found.low:.2g} on, and "
    says += f"falls up to {found.high:.2g}"
    too_high = rate >= high
    return Finding(
        sign="learning rate",
        number=rate,
        says=says + (f", and diverges at {high:.2g}" if found.diverged else ""),
        bound=Bound.AT_MOST if too_high else Bound.AT_LEAST,
        # Just below: at this rate it diverges.
        limit=math.nextafter(high, 0) if too_high else low,
        source=f"{source}; a tenth of the range's start" if not too_high else source,
        advice=f"train.learning_rate {found.suggested:.2g}",
    )


def _measured_rate(case: Case) -> Iterator[Remedy]:
    found = _rates(case)
    if found is not None:
        rate = float(f"{found.suggested:.2g}")
        yield Remedy(words=f"train.learning_rate {rate:g}", train={"learning_rate": rate})


def _short(case: Case, size: int) -> TrainSpec:
    """How networks are trained for a look: without what makes memorizing harder."""
    found, train = _rates(case), case.recipe.train
    rate = train.learning_rate
    if found is not None and not found.low / 10 <= rate <= found.high:
        rate = found.suggested
    return TrainSpec(
        epochs=1,
        batch_size=size,
        optimizer=train.optimizer,
        momentum=train.momentum,
        nesterov=train.nesterov,
        learning_rate=rate,
        clip_norm=train.clip_norm,
        augment=NO_AUGMENTATION,
        resize=train.resize,
        seed=case.seed,
    )


def _loss(case: Case, train: Pair, val: Pair, called: str, programs: Any) -> float:
    """The loss on `val` after a short training on `train`; infinite if it diverges."""
    size = min(case.recipe.train.batch_size, len(train[1]))
    # One long epoch: validation between short ones would take longer than the steps.
    data = as_data(case.data, {"train": repeated(train, _STEPS * size), "val": val}, called)
    trained = train_network(case.spec, data, _short(case, size), programs=programs)
    if trained.diverged:
        return math.inf
    return float(trained.epochs[-1].metrics["val_loss"])


def _overfit(case: Case) -> Finding | None:
    pair = few(case.data, _FEW, 1)["train"]
    programs = Programs()
    seen = _loss(case, pair, pair, f"few {case.seed}", programs)
    unseen = _loss(case, blind(pair), blind(pair), f"blind {case.seed}", programs)
    number = seen / unseen if math.isfinite(seen) else math.inf
    return Finding(
        sign="overfit",
        number=number,
        says=f"after {_STEPS} steps on {len(pair[1])} images, their loss is {number:.0%} of the "
        "loss of a network that sees black images",
        bound=Bound.AT_MOST,
        limit=0.5,
        source="Zhang 2017, arXiv 1611.03530: networks learn even random labels by heart; half is "
        "our limit",
        advice="less dropout, wider blocks, residual blocks instead of plain ones, or batch norm",
    )


def _stronger(case: Case) -> Iterator[Remedy]:
    spec, changes = case.spec, Changes()
    if spec.dropout:
        yield changes.also("dropout 0", dropout=0.0)
    if spec.norm.kind == "none":
        yield changes.also("norm 'batch'", norm=BatchNorm())
    if is_plain(spec):
        yield changes.also("block 'basic'", block=BasicBlock())
    stages: Any = getattr(spec, "stages", ())
    if stages and all(hasattr(stage, "width") for stage in stages):
        for times in (2, 4, 8):
            wide = tuple(dataclasses.replace(stage, width=times * stage.width) for stage in stages)
            yield changes.with_(f"{times} times the width", stages=wide)


def _labels(case: Case) -> Finding | None:
    if case.data.sizes["val"] < _FEWEST:
        return None  # the losses of so few images differ by chance
    pairs = few(case.data, _TRAIN, _VAL)
    programs = Programs()
    true = _loss(case, pairs["train"], pairs["val"], f"true {case.seed}", programs)
    other = _loss(
        case, shuffled(pairs["train"], case.seed), pairs["val"], f"shuffled {case.seed}", programs
    )
    number = true / other if math.isfinite(true) else math.inf
    return Finding(
        sign="labels",
        number=number,
        says=f"after {_STEPS} steps, the loss on validation images is {number:.0%} of that of a "
        "network that is trained with shuffled labels",
        bound=Bound.AT_MOST,
        limit=0.9,
        source="a permutation of the labels (Ojala and Garriga 2010, JMLR 11, Section 3); the "
        "limit is ours",
        advice="look at the data (`reskeras data`): labels may belong to other images; or the "
        "network does not train",
    )


def _nothing(case: Case) -> Iterator[Remedy]:
    del case
    yield from ()


BY_TRAINING = (
    Sign(
        name="learning rate",
        looks="whether the learning rate is too high or too low",
        examine=_learning_rate,
        remedies=_measured_rate,
    ),
    Sign(
        name="overfit",
        looks="whether the network can learn 64 images by heart",
        examine=_overfit,
        remedies=_stronger,
    ),
    Sign(
        name="labels",
        looks="whether labels belong to their images",
        examine=_labels,
        remedies=_nothing,
    ),
)
"""The signs, in the order in which they are looked at."""
