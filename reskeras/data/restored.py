"""A folder of images and one of what is to be made of them: larger, sharper or cleaner images."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reskeras.data.decode import Facts
from reskeras.data.files import (
    File,
    FileReader,
    check_channels,
    found_in,
    image_data,
    look_at,
)
from reskeras.data.images import ImageData
from reskeras.data.kinds import enlarged
from reskeras.data.layouts import TARGETS
from reskeras.data.options import NO_OPTIONS, DataOptions
from reskeras.data.patches import LONGEST, STEP, WholeImages, in_patches, patch_sides
from reskeras.data.splits import complete
from reskeras.errors import RequestError
from reskeras.spec import ImageShape
from reskeras.tasks import Labels, task_of
from reskeras.words import printable

Called = Callable[[int], str]


def from_restored(
    root: Path, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Opens `root/inputs/*` with `root/targets/*`, or both in `root/{train[,val][,test]}`.

    The splits may also be folders in `inputs` and `targets`. A target has the name of its image,
    and its sides, or twice, three times ... as large ones; images are then enlarged by bicubic
    interpolation. The network sees the middle of each, pixel by pixel: a smaller version of a
    blurred image is as sharp as that of its target.

    Args:
        root: the folder.
        image_shape: height, width and channels of the middle; None chooses them: the sides of the
            smallest target, of at most 64 pixels, and gray if all images are.
        options: how they are read.

    Raises:
        RequestError: images without a target, targets of other sides, or too many unreadable files.
    """
    check_channels(root, image_shape)
    check_resize(options, printable(root))
    patches = options.resize == "patch"
    notes: list[str] = []
    unreadable: dict[str, str] = {}
    targets: dict[Path, Path] = {}
    splits: dict[str, list[File]] = {}
    for split, folders in TARGETS.sources(root).items():
        matches = TARGETS.matched(*folders, notes)
        splits[split] = [match.image for match in matches]
        targets |= {m.image.path: other for m in matches for other in m.others if other is not None}
    strict = options.strict
    facts = look_at(root, list(targets), notes, strict=strict, unreadable=unreadable)
    wanted = look_at(root, [*targets.values()], notes, strict=strict, unreadable=unreadable)
    splits = {
        split: [f for f in files if f.path in facts and targets[f.path] in wanted]
        for split, files in splits.items()
    }
    splits = complete(splits, options.fold, root, notes)
    for split, files in splits.items():
        if not files:
            raise RequestError(f"{printable(root)}: no images for the {split} split")
    used = [file.path for files in splits.values() for file in files]
    inputs = {path: facts[path] for path in used}
    outputs = {targets[path]: wanted[targets[path]] for path in used}
    sizes = [(inputs[path].size, outputs[targets[path]].size) for path in used]

    def target(number: int) -> str:
        return printable(targets[used[number]])

    times = times_of(sizes, target)
    shape = restored_shape(
        [size for _, size in sizes],
        image_shape,
        notes,
        channels=1 if all(fact.gray for fact in inputs.values()) else 3,
        patches=patches,
        called=target,
        folder=printable(next(iter(outputs)).parent),
    )
    gray = [all(fact.gray for fact in some.values()) for some in (inputs, outputs)]
    channels = shape[2] if gray[0] == gray[1] else 1 if gray[1] else 3
    # What is cut out has one size.
    size = shape[0], shape[1]
    cut = {path: dataclasses.replace(fact, size=size) for path, fact in (inputs | outputs).items()}
    data = image_data(
        root,
        splits,
        cut,
        lambda shape, _, peak: _Restored(splits, inputs, targets, times, shape, channels, peak),
        task=task_of(Labels.IMAGE, options.task),
        names=tuple(map(str, range(channels))),
        counted=True,
        contents={path: f"{inputs[path].digest} {outputs[targets[path]].digest}" for path in used},
        image_shape=shape,
        options=options,
        unreadable=unreadable,
        notes=notes,
    )
    data = dataclasses.replace(
        data, resize="crop", enlarge=times, files=found_in(inputs.values(), unreadable)
    )
    if not patches:
        return data
    assert isinstance(data.reader, _Restored)
    return in_patches(data, _Whole(data.reader, data.sizes))


def check_resize(options: DataOptions, where: str) -> None:
    """Raises RequestError if images to restore were resized."""
    if options.resize not in (None, "crop", "patch"):
        raise RequestError(
            f"{where}: train.resize: {options.resize} changes how sharp images are; "
            "images to restore are cropped: give crop, patch, or nothing"
        )


def times_of(sizes: Sequence[tuple[Sequence[int], Sequence[int]]], called: Called) -> int:
    """How many times larger the sides of targets are than those of images.

    Args:
        sizes: height and width of each image, and of its target.
        called: what people call a target, by its number.

    Raises:
        RequestError: not all sides are equally many whole times larger.
    """
    first = 0
    for number, (image, target) in enumerate(sizes):
        ratios = {b / a for a, b in zip(image, target, strict=True)}
        ratio = ratios.pop() if len(ratios) == 1 else 0.0
        times = int(ratio) if ratio >= 1 and ratio.is_integer() else 0
        told = "{} for an image of {}".format(*("x".join(map(str, s)) for s in (target, image)))
        if not times:
            raise RequestError(
                f"{called(number)}: the target has {told} pixels; targets have the sides of "
                "their images, or twice, three times ... as large ones"
            )
        if first and times != first:
            raise RequestError(
                f"{called(number)}: the target has {told} pixels: {times} times larger sides, "
                f"where others are {first} times larger; a network enlarges all alike"
            )
        first = times
    return first


def restored_shape(
    targets: Sequence[Sequence[int]],
    given: ImageShape | None,
    notes: list[str],
    *,
    channels: int,
    patches: bool,
    called: Called,
    folder: str,
) -> ImageShape:
    """The shape of patches, or of the middle of images, that a network sees.

    Args:
        targets: height and width of each target.
        given: what a network says; None: it says nothing.
        notes: gets one if the middle is not all.
        channels: of images, if no network says them.
        patches: whether the network sees patches.
        called: what people call a target, by its number.
        folder: where the targets are.

    Raises:
        RequestError: a target is smaller than the middle.
    """
    sizes = np.array(targets)
    if given is not None:
        channels = given[-1]
    if patches:
        height, width = patch_sides(targets, given and given[:-1])
        return height, width, channels
    least = sizes.min(axis=0).tolist()
    if given is not None:
        if (small := (sizes < given[:2]).any(axis=1)).any():
            number = int(small.argmax())
            height, width = targets[number]
            raise RequestError(
                f"{called(number)}: {height}x{width} pixels (height x width), "
                f"fewer than the network's input_shape, {given[0]}x{given[1]}; images to "
                "restore are cropped, not resized: take a smaller input_shape"
            )
        shape = given
    else:
        sides = [min(LONGEST, side // STEP * STEP) for side in least]
        if min(sides) == 0:
            raise RequestError(
                f"{folder}: targets of {least[0]}x{least[1]} pixels "
                f"(height x width) are too small; {STEP}x{STEP} is the least"
            )
        shape = sides[0], sides[1], channels
    if larger := int((sizes != shape[:2]).any(axis=1).sum()):
        notes.append(
            f"of {larger:,} of {len(sizes):,} images, the middle {shape[0]}x{shape[1]} pixels are "
            "used (height x width); they are not resized, which would change how sharp they are; "
            "input_shape in a spec sets another size, and train.resize: patch uses all of each"
        )
    return shape


def middle(image: Any, sides: Sequence[int]) -> Any:
    """The middle of an image [H,W,C], which is not smaller."""
    top, left = ((whole - part) // 2 for whole, part in zip(image.shape, sides, strict=False))
    return image[top : top + sides[0], left : left + sides[1]]


class _Restored(FileReader):
    """Reads the middle of image files, each with that of its target."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[File]],
        inputs: Mapping[Path, Facts],
        targets: Mapping[Path, Path],
        times: int,
        image_shape: ImageShape,
        channels: int,
        peak: float | None,
    ) -> None:
        super().__init__(splits, image_shape, "crop", peak)
        self._targets = {split: [str(targets[f.path]) for f in fs] for split, fs in splits.items()}
        self._sizes = {split: [inputs[f.path].size for f in fs] for split, fs in splits.items()}
        self._times, self._channels = times, channels

    def classes_of(self, split: str) -> Any:
        return None

    def pair(self, split: str, place: int) -> tuple[Any, Any]:
        """An image, enlarged, and its target, both whole."""
        height, width = self._sizes[split][place]
        image = self._read(self._paths[split][place], (height, width, self._shape[2]))
        target = self._read(
            self._targets[split][place], (*self.sides(split, place), self._channels)
        )
        return enlarged(image[np.newaxis], self._times)[0], target

    def sides(self, split: str, place: int) -> tuple[int, int]:
        """Those of an image, enlarged."""
        height, width = self._sizes[split][place]
        return height * self._times, width * self._times

    def _one(self, split: str, place: int) -> tuple[Any, Any]:
        # Enlarged first: there is no rim in the middle.
        image, target = self.pair(split, place)
        return middle(image, self._shape[:2]), middle(target, self._shape[:2])


class _Whole(WholeImages):
    """Image files in their own sizes, enlarged, each with its target."""

    def __init__(self, pairs: _Restored, sizes: Mapping[str, int]) -> None:
        self._pairs, self.sizes, self.dtype = pairs, sizes, pairs.dtype

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        return self._pairs.pair(split, place)

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        return self._pairs.sides(split, place)

    def called(self, split: str, place: int) -> str:
        return self._pairs.called(split, place)
