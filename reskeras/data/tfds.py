"""Data sets by their TensorFlow Datasets name, including the embedded `digits`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.files import shape_of
from reskeras.data.images import ImageData, balance_notes
from reskeras.data.kinds import mean_and_spread
from reskeras.data.labels import Classes, classes_of, no_ignored_note, untrained_notes
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.patches import in_patches
from reskeras.data.tfds_features import Chosen, Label, choose, named_in, times_as_large
from reskeras.data.tfds_prepare import builder_of, prepare
from reskeras.data.tfds_records import (
    COLORS,
    WHITE_16,
    Part,
    Range,
    RecordReader,
    Records,
    floats_of,
    looked_at,
    mask_values,
    numbers_of,
)
from reskeras.data.tfds_wholes import (
    Sizes,
    WholeRecords,
    enlarges,
    has_sizes,
    shape_of_wholes,
    sizes_of,
    times_fitting,
)
from reskeras.errors import RequestError
from reskeras.spec import ImageShape, Resize
from reskeras.tasks import Labels, task_of

_NAMES = {"val": ("validation", "val", "valid"), "test": ("test",)}
"""What TFDS calls our splits, besides `train`."""
_USED = {"train", *_NAMES["val"], *_NAMES["test"]}
_SPLITS = ("train", "val", "test")
_SPLIT_SEED = 20_151_210
"""Fixes which images of train are cut off for the other splits."""


def from_tfds(
    name: str, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens a TFDS data set of images with labels or masks; downloads and prepares it if needed.

    Uses the splits `train`, `validation` and `test`, or those of `options.splits`. Missing ones are
    random images of train, a tenth each; if `options.splits` names no test, there is none. A data
    set with only a train and a validation split uses the latter for the test. A split whose labels
    are hidden (-1) counts as missing.

    With `DataOptions.resize` "patch", images with masks, and those to restore, keep their sizes.
    Records are then read and decoded at any place, one by one. Images to restore of unequal sizes
    are never resized: without patches, the network sees the middle of each, as in a folder.

    Args:
        name: with a version or a configuration, as TFDS writes it.
        image_shape: height and width for images without a common size, or of patches; None chooses
            them: the median size, of at most 64 pixels.
        options: how they are read.

    Raises:
        RequestError: no such data set, not images with labels, a download without a network, or
            masks and targets whose sizes do not fit those of their images.
    """
    if options.fold is not None:
        raise RequestError(
            f"data set {name!r}: --fold takes a folder, a table or an .npz, and no TFDS data yet"
        )
    options = dataclasses.replace(options, data_dir=_absolute(options.data_dir))
    if options.splits is not None:
        _wanted(options.splits)
    builder = builder_of(name, options.data_dir)
    where = f"data set {name!r}"
    # before anything is downloaded
    _check_kind(choose(builder.info, name, options.features, options.task).kind, options, where)
    if not builder.is_prepared():
        prepare(builder, name)
    info = builder.info
    chosen = choose(info, name, options.features, options.task)
    notes: list[str] = []
    parts = _parts(name, options, info.splits, chosen, notes)
    records = Records(name, options.data_dir, parts, chosen)
    if options.resize == "patch":
        records.check_random_access()
    if chosen.kind is Label.MASK and options.task is None and enlarges(records):
        chosen = dataclasses.replace(chosen, kind=Label.IMAGE)
        records = records.of(chosen)
    _check_kind(chosen.kind, options, where)
    task = task_of(chosen.kind.kind, options.task)
    resize = options.resize or task.resize
    enlarge, sizes = 1, dict[str, Sizes]()
    if resize == "patch" or (chosen.kind is Label.IMAGE and not has_sizes(chosen)):
        sizes = {split: sizes_of(records, split, part.size) for split, part in parts.items()}
        enlarge = times_fitting(records, sizes, options, where)
        if chosen.kind is Label.IMAGE and resize != "patch":
            resize = "crop"
    elif chosen.kind is Label.IMAGE:
        enlarge = times_as_large(chosen.label.feature, chosen.image.feature) or 1
    found, ignore = _classes(records, parts, options.ignore, where, notes)
    if chosen.kind.kind in (Labels.CLASS, Labels.MASK) and len(found.values) < 2:
        raise RequestError(
            f"{where}: {chosen.label.path} holds only the class "
            f"{[*found.names, *found.values][0]}; at least two are needed"
        )
    if sizes:
        shape = shape_of_wholes(records, sizes, image_shape, resize, notes)
    else:
        step = 8 if task.labels.has_sides else 1
        shape = _shape(records, image_shape, resize, enlarge, notes, step=step)
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    if chosen.kind is Label.NUMBERS:
        mean, spread = mean_and_spread(floats_of(records), where)
    digest = " ".join([info.full_name, records.digest, *(part.digest for part in parts.values())])
    if options.features is not None:
        digest += f" image={chosen.image.path} label={chosen.label.path}"
    if ignore is not None:
        digest += f" ignore={ignore}"
    data = ImageData(
        name=name,
        task=task,
        image_shape=shape,
        classes=len(found.values),
        sizes={split: part.size for split, part in parts.items()},
        digest=digest,
        reader=RecordReader(records, shape, resize, found.values, ignore, enlarge),
        source=name,
        class_names=found.names,
        resize=resize,
        peak=WHITE_16 if chosen.image.feature.np_dtype == np.uint16 else None,
        pixels="bytes" if chosen.image.feature.np_dtype == np.uint8 else "floats",
        notes=tuple(notes),
        options=options,
        ignores=ignore is not None,
        mean=mean,
        spread=spread,
        enlarge=enlarge,
    )
    if resize != "patch":
        return data
    return in_patches(data, WholeRecords(records, sizes, shape[-1], found.values, ignore, enlarge))


def _check_kind(kind: Label, options: DataOptions, where: str) -> None:
    """Raises RequestError if options are for other kinds of labels."""
    if kind is not Label.MASK:
        options.check_no_ignore(where)
    if kind not in (Label.MASK, Label.IMAGE):
        options.check_no_patches(where)


def _shape(
    records: Records,
    wanted: ImageShape | None,
    resize: Resize,
    enlarge: int,
    notes: list[str],
    *,
    step: int,
) -> ImageShape:
    """The shape of images as networks see them: the features', or a chosen one."""
    known = records.chosen.image.feature.shape
    if None not in known:
        *sides, channels = map(int, known)
        return (*(enlarge * side for side in sides), channels)
    facts = looked_at(records)
    chosen = shape_of(facts, wanted, resize, notes, step=step, of="sampled images")
    height, width = known[:2] if None not in known[:2] else chosen[:2]
    return int(height), int(width), int(known[2] or chosen[2])


def made_by_tfds(folder: Path) -> bool:
    """Whether TFDS has prepared a data set in a folder, as `--data-dir .` makes it do."""
    levels = ("", "*/", "*/*/")  # a version, a configuration, or all of them
    return any(any(folder.glob(f"{level}dataset_info.json")) for level in levels)


def _absolute(data_dir: str | None) -> str | None:
    """A folder from anywhere; TFDS also takes addresses such as gs://bucket."""
    if data_dir is None or "://" in data_dir:
        return data_dir
    return str(Path(data_dir).expanduser().resolve())


def _classes(
    records: Records,
    parts: Mapping[str, Part],
    ignore: int | None,
    where: str,
    notes: list[str],
) -> tuple[Classes, int | None]:
    """The classes of the labels, and `ignore` if they are masks; adds notes."""
    chosen = records.chosen
    names = getattr(chosen.label.feature, "names", None)
    held = None
    match chosen.kind:
        case Label.CLASSES | Label.NUMBERS | Label.POINTS | Label.IMAGE:
            return _columns(chosen, records), None
        case Label.CLASS:
            count = int(chosen.label.feature.num_classes)
            return Classes(list(range(count)), tuple(names or ()), []), None
        case Label.NUMBER:
            labels = {split: numbers_of(records, split) for split in parts}
            found = classes_of(labels, None, 0, where)
            called = found.names or tuple(map(str, found.values))
            trained = np.searchsorted(found.values, labels["train"])
            found.notes.extend(untrained_notes(called, set(trained.tolist())))
            found.notes.extend(balance_notes(trained, called))
        case Label.MASK:
            values = np.array(mask_values(records))
            found = classes_of({"train": values[np.newaxis]}, names, 0, where, ignore)
            held = ignore  # masks of other splits may hold it, if those for training do not
            if ignore in values:
                notes.append(f"pixels of masks that are {ignore} have no class")
            elif ignore is not None:
                notes.append(no_ignored_note(ignore))
    notes += found.notes
    return found, held


def _columns(chosen: Chosen, records: Records) -> Classes:
    """The numbers and names of what a label that is no class has several of."""
    feature = chosen.label.feature
    names: Sequence[str] = ()
    if chosen.kind is Label.CLASSES and hasattr(feature, "feature"):
        count, names = feature.feature.num_classes, feature.feature.names
    elif chosen.kind is Label.IMAGE:
        count = feature.shape[-1] or COLORS
    else:
        count = feature.shape[0] if feature.shape else 1
        # A convention of the embedded sets: metadata name the parts of a feature.
        told = records.metadata.get(chosen.label.path, ())
        names = told if len(told) == count else ()
        if not feature.shape:
            names = (chosen.label.keys[-1],)
    return Classes(list(range(int(count))), tuple(map(str, names)), [])


def _parts(
    name: str, options: DataOptions, splits: Any, chosen: Chosen, notes: list[str]
) -> dict[str, Part]:
    """The records of each of our splits."""
    where = f"data set {name!r}"
    if options.splits is not None:
        wanted = _wanted(options.splits)
        asked = f"--splits {options.splits}"
        parts = {split: part_of(spec, splits, asked) for split, spec in wanted.items()}
        _check_overlap(parts, asked)
        parts = {split: parts[split] for split in _SPLITS if split in parts}
        for split, part in parts.items():
            if _is_hidden(name, options.data_dir, part, chosen):
                raise RequestError(f"{asked}: the labels of {part.spec} ({split}) are hidden")
        if "val" not in parts:
            parts = _cut(parts, ("val",), notes)
        return parts
    known = {split: part_of(split, splits, where) for split in splits if split in _USED}
    hidden = [
        split
        for split, part in sorted(known.items())
        if _is_hidden(name, options.data_dir, part, chosen)
    ]
    notes += [f"the labels of the split {split!r} are hidden; it is not used" for split in hidden]
    usable = {split: part for split, part in known.items() if split not in hidden}
    if "train" not in usable:
        raise RequestError(
            f"{where} has no split 'train' with labels (it has: {', '.join(sorted(splits))}); "
            "--splits train=...,val=... says which ones to use"
        )
    return with_held(usable, notes)


def with_held(known: Mapping[str, Part], notes: list[str]) -> dict[str, Part]:
    """Our splits of a data set with these, cut from train where they are missing."""
    train = {"train": known["train"]}
    held = {ours: known[one] for ours, names in _NAMES.items() for one in names if one in known}
    if len(held) == 2:
        return train | held
    if held:
        (tested,) = held.values()
        return _cut(train, ("val",), notes) | {"test": tested}
    return _cut(train, ("val", "test"), notes)


def _cut(parts: Mapping[str, Part], missing: tuple[str, ...], notes: list[str]) -> dict[str, Part]:
    """The splits, with missing ones of random images of train, a tenth each."""
    train = parts["train"]
    places = np.random.default_rng(_SPLIT_SEED).permutation(train.whole)
    tenth = max(1, train.whole // 10)
    if train.whole <= len(missing):
        raise RequestError(f"{train.spec} holds {train.whole} images, too few for a split of them")
    held = {
        split: dataclasses.replace(train, places=places[number * tenth : (number + 1) * tenth])
        for number, split in enumerate(missing)
    }
    rest = dataclasses.replace(train, places=places[len(missing) * tenth :])
    told = " and ".join({"val": "validation", "test": "the test"}[split] for split in missing)
    notes.append(f"random images of {train.spec}, a tenth each, are for {told}")
    return {**parts, "train": rest, **held}


def _wanted(text: str) -> dict[str, str]:
    """What `--splits` says of each of our splits."""
    wanted = named_in(text, "--splits", _SPLITS, "train=train[:80%],val=train[80%:]")
    if "train" not in wanted:
        raise RequestError(f"--splits {text}: says nothing of train")
    return wanted


def part_of(spec: str, splits: Any, where: str) -> Part:
    """The records that TFDS means by `train[:80%]+test`.

    Args:
        spec: in TFDS' words.
        splits: of the data set's info.
        where: start of an error.

    Raises:
        RequestError: there are none, or no such split.
    """
    import tensorflow_datasets as tfds

    try:
        found = tfds.core.ReadInstruction.from_spec(spec).to_absolute(splits)
    except (ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise RequestError(f"{where}: {reason}") from error
    ranges = tuple(
        Range(
            str(one.splitname),
            one.from_ or 0,
            splits[one.splitname].num_examples if one.to is None else one.to,
        )
        for one in found
    )
    for one in ranges:
        if not one.size:
            raise RequestError(f"{where}: {spec} holds no records of {one.split}")
    for one, other in itertools.combinations(ranges, 2):
        if shared := (one & other).size:
            raise RequestError(f"{where}: {spec} takes {shared:,} records of {one.split} twice")
    written = "+".join(
        one.split
        if one.size == splits[one.split].num_examples
        else f"{one.split}[{one.start}:{one.stop}]"
        for one in ranges
    )
    return Part(written, ranges)


def _check_overlap(parts: Mapping[str, Part], asked: str) -> None:
    """Raises RequestError if two splits share records."""
    for (ours, part), (others, other) in itertools.combinations(parts.items(), 2):
        for one, two in itertools.product(part.ranges, other.ranges):
            if shared := (one & two).size:
                raise RequestError(
                    f"{asked}: {ours} and {others} share {shared:,} records of {one.split}"
                )


def _is_hidden(name: str, data_dir: str | None, part: Part, chosen: Chosen) -> bool:
    """Whether a split has no labels: TFDS then has -1 for all."""
    if chosen.kind is not Label.CLASS:
        return False
    one = dataclasses.replace(part, places=np.arange(1))
    (first,) = Records(name, data_dir, {"train": one}, chosen).stored("train", chosen.label)
    return int(chosen.label.of(first)) < 0
