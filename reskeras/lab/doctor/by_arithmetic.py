"""Signs that follow from the spec and the data by arithmetic; nothing is built."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from reskeras.lab.doctor.finding import Case, Finding, Remedy, Sign
from reskeras.lab.result import Bound
from reskeras.nets.cost import cost, trainable_params
from reskeras.nets.graph import Node, record
from reskeras.spec import CifarStem, GroupNorm, ResNet
from reskeras.tasks.labels import Labels
from reskeras.words import in_bytes

_MASKS = 256
"""Masks whose objects are measured."""
_LARGE = 0.9
"""The share of objects that are smaller than what counts as the size of an object."""


def _batch(case: Case) -> Finding | None:
    norms = {node.kind for node in record(case.spec).nodes}
    if "BatchNormalization" not in norms:
        return None
    size = min(case.recipe.train.batch_size, case.data.sizes["train"])
    return Finding(
        sign="batch",
        number=size,
        says=f"batch norm takes its statistics from {size} images",
        bound=Bound.AT_LEAST,
        limit=16,
        source="Wu and He 2018, arXiv 1803.08494, Fig. 1: the error grows below 16 images",
        advice="a larger train.batch_size, or norm 'group'",
    )


def _larger_batches(case: Case) -> Iterator[Remedy]:
    if case.data.sizes["train"] >= 16:
        yield Remedy(words="train.batch_size 16", train={"batch_size": 16})
    yield Remedy(words="norm 'group'", spec={"norm": GroupNorm()})


def _memory(case: Case) -> Finding | None:
    if case.memory is None:
        return None
    needed = cost(case.spec).training_bytes(case.recipe.train.batch_size)
    return Finding(
        sign="memory",
        number=needed,
        says=f"training needs about {in_bytes(needed)}",
        bound=Bound.AT_MOST,
        limit=case.memory,
        shown_limit=in_bytes(case.memory),
        source="80 % of this machine's memory, or --max-memory",
        advice="a smaller train.batch_size, or fewer or narrower blocks",
    )


def _smaller_batches(case: Case) -> Iterator[Remedy]:
    size = case.recipe.train.batch_size
    while size > 1:
        size //= 2
        yield Remedy(words=f"train.batch_size {size}", train={"batch_size": size})


def _classes(case: Case) -> Finding | None:
    if case.data.task.labels not in (Labels.CLASS, Labels.MASK):
        return None
    counts = list(case.data.class_counts())
    of = "images"
    if case.data.task.labels is Labels.MASK and len(counts) > 2:
        counts, of = counts[1:], "pixels, without the background,"
    weighed = case.recipe.train.class_weight == "balanced" and min(counts) > 0
    number = 1.0 if weighed else max(counts) / max(min(counts), 1)
    says = f"the commonest class has {number:.3g} times as many {of} as the rarest"
    return Finding(
        sign="classes",
        number=number,
        says="each class weighs the same in the loss" if weighed else says,
        bound=Bound.AT_MOST,
        limit=10,
        source="He and Garcia 2009, doi 10.1109/TKDE.2008.239, Section 2: imbalance is 10 to 1 and "
        "more",
        advice="train.class_weight 'balanced', or more images of the rare class",
    )


def _balanced(case: Case) -> Iterator[Remedy]:
    if case.data.task.weighs:
        yield Remedy(words="train.class_weight 'balanced'", train={"class_weight": "balanced"})


def _receptive_field(case: Case) -> Finding | None:
    sides = case.spec.input_shape[:-1]
    if not sides or case.data.task.labels is Labels.IMAGE:
        return None
    found = cost(case.spec).receptive_field
    if case.data.task.labels is Labels.MASK:
        size = _object_size(case)
        what = "objects of the masks"
    else:
        size, what = min(sides) / 2, "half of an image"
    return Finding(
        sign="receptive field",
        number=found,
        says=f"one position of the last maps depends on {found} pixels of a side",
        bound=Bound.AT_LEAST,
        limit=size,
        source=f"the size of {what}; Luo 2016, arXiv 1701.04128: less than this in effect",
        advice="more blocks, or a stage more that halves the resolution",
    )


def _object_size(case: Case) -> float:
    """The largest side that 90 % of the objects in a sample of masks do not exceed, in pixels."""
    from scipy import ndimage

    data = case.data
    places = np.sort(data.sample(_MASKS))
    sizes = []
    for _, label in data.reader.chosen("train", places).as_numpy_iterator():
        mask = np.squeeze(label)
        for number in np.unique(mask[mask > 0]):
            found, _ = ndimage.label(mask == number)
            sizes += [
                max(part.stop - part.start for part in box) for box in ndimage.find_objects(found)
            ]
    return float(np.quantile(sizes, _LARGE)) if sizes else 1.0


def _deeper(case: Case) -> Iterator[Remedy]:
    stages: Any = getattr(case.spec, "stages", ())
    if not stages or not all(hasattr(stage, "blocks") for stage in stages):
        return
    for times in (2, 3, 4):
        more = tuple(dataclasses.replace(stage, blocks=times * stage.blocks) for stage in stages)
        yield Remedy(words=f"{times} times as many blocks in each stage", spec={"stages": more})


def _padding(case: Case) -> Finding | None:
    if not case.spec.input_shape[:-1]:
        return None
    nodes = [node for node in record(case.spec).nodes if node.kernel is not None]
    weights = sum(map(trainable_params, nodes))
    number = sum(map(_blind_weights, nodes)) / weights
    return Finding(
        sign="padding",
        number=number,
        says=f"{number:.0%} of the weights see nothing but the padding around small maps",
        bound=Bound.AT_MOST,
        limit=0.25,
        source="counted: windows that are larger than their map",
        advice="a stem or stages that halve the resolution less often",
    )


def _blind_weights(node: Node) -> float:
    """How many weights of a convolution meet padding at every position of its map."""
    if node.kind != "Conv" or node.settings["padding"] != "same":
        return 0.0
    assert node.kernel is not None
    size, stride = node.settings["kernel_size"], node.settings["strides"]
    seeing = 1.0
    for before in node.inputs[0].sides:
        centers = range(0, before, stride)
        taps = {
            tap
            for tap in range(size)
            for center in centers
            if 0 <= center + tap - size // 2 < before
        }
        seeing *= len(taps) / size
    return math.prod(node.kernel) * (1 - seeing)


def _less_halving(case: Case) -> Iterator[Remedy]:
    spec = case.spec
    if not isinstance(spec, ResNet):
        return
    changes: dict[str, Any] = {}
    if spec.stem.kind in ("imagenet", "deep"):
        changes["stem"] = CifarStem(width=spec.stem.width)
        yield Remedy(words="stem 'cifar'", spec=dict(changes))
    stages = list(spec.stages)
    for place in reversed(range(len(stages))):
        if stages[place].stride > 1:
            stages[place] = dataclasses.replace(stages[place], stride=1)
            changes["stages"] = tuple(stages)
            words = (
                f"{'stem cifar, and ' if 'stem' in changes else ''}no stride from stages.{place} on"
            )
            yield Remedy(words=words, spec=dict(changes))


BY_ARITHMETIC = (
    Sign(
        name="memory",
        looks="whether training fits into memory",
        examine=_memory,
        remedies=_smaller_batches,
    ),
    Sign(
        name="batch",
        looks="whether batches are large enough for batch norm",
        examine=_batch,
        remedies=_larger_batches,
    ),
    Sign(
        name="classes",
        looks="whether classes are balanced",
        examine=_classes,
        remedies=_balanced,
    ),
    Sign(
        name="receptive field",
        looks="whether the network sees whole objects",
        examine=_receptive_field,
        remedies=_deeper,
    ),
    Sign(
        name="padding",
        looks="whether maps get too small for their convolutions",
        examine=_padding,
        remedies=_less_halving,
    ),
)
"""The signs, in the order in which they are looked at."""
