"""Patches of images that are larger than the network, and of unequal sizes."""

import abc
import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reskeras.data.images import CACHE_BYTES, ImageData, Places, RowReader
from reskeras.data.options import Cache
from reskeras.errors import RequestError
from reskeras.models.windows import cut, window_starts
from reskeras.tasks import IGNORED, Labels

CENTERED = 1 / 3
"""The share of training patches that are centered on a pixel of a chosen class, as in nnU-Net."""
_MOST = 8192
"""Patches of an epoch: with more, a search would rarely see a second epoch."""
LONGEST = 64
"""The sides of patches in pixels, if no network says them."""
STEP = 8
"""These sides are multiples: a U-Net halves them a few times."""
_KEPT = 256
"""Pixels of each class that are remembered of each image."""


class WholeImages(abc.ABC):
    """Images of any sizes and their labels, in splits; they are read one by one.

    Can be pickled, as a reader can.
    """

    dtype: Any
    """The NumPy dtype of images: bytes, or float32."""
    sizes: Mapping[str, int]
    """Number of images of each split."""

    @abc.abstractmethod
    def read(self, split: str, place: int) -> tuple[Any, Any]:
        """An image [*sides,C], and its mask [*sides] or another image [*sides,K].

        They may be mapped into memory (`numpy.memmap`): only the part that is needed is read.
        """

    def label(self, split: str, place: int) -> Any:
        """The second part of `read`."""
        return self.read(split, place)[1]

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        """The sides of an image."""
        return tuple(self.read(split, place)[0].shape[:-1])

    def called(self, split: str, place: int) -> str:
        """What people call an image: its file, or its place in the split."""
        return f"{split}[{place}]"


class WholeRows(WholeImages):
    """Whole images that a reader gives, all of one size."""

    def __init__(self, reader: RowReader, sizes: Mapping[str, int]) -> None:
        self._reader, self.sizes, self.dtype = reader, sizes, reader.dtype

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        images, labels = self._reader.rows(split, np.array([place]))
        return images[0], labels[0]

    def called(self, split: str, place: int) -> str:
        return self._reader.called(split, place)


class Kept(WholeImages):
    """Whole images that stay in the memory of each process once they are read."""

    def __init__(self, images: WholeImages) -> None:
        self._images, self.sizes, self.dtype = images, images.sizes, images.dtype
        self._known: dict[tuple[str, int], tuple[Any, Any]] = {}

    def read(self, split: str, place: int) -> tuple[Any, Any]:
        if (split, place) not in self._known:
            self._known[split, place] = self._images.read(split, place)
        return self._known[split, place]

    def label(self, split: str, place: int) -> Any:
        return self._images.label(split, place)

    def sides(self, split: str, place: int) -> tuple[int, ...]:
        return self._images.sides(split, place)

    def called(self, split: str, place: int) -> str:
        return self._images.called(split, place)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known": {}}  # another process reads its own


def patch_sides(
    sizes: Sequence[Sequence[int]], given: Sequence[int] | None, longest: int = LONGEST
) -> tuple[int, ...]:
    """The sides of patches.

    Args:
        sizes: the sides of the images.
        given: what a network says; None, or another number of sides, if none does.
        longest: the most without a network.

    Returns:
        Without a network, the medians, rounded down to multiples of 8, from 8 to `longest`.
    """
    median = np.median(np.array(sizes), axis=0).astype(int).tolist()
    if given is not None and len(given) == len(median):
        return tuple(given)
    return tuple(min(longest, max(STEP, side // STEP * STEP)) for side in median)


def in_patches(data: ImageData, images: WholeImages) -> ImageData:
    """Image data whose images are patches of whole ones.

    An epoch has as many as hold all pixels of the training images, but at most 8,192.

    Args:
        data: the same images, whose `image_shape` says the sides of patches.
        images: they are read once, and stay in memory if all of them take at most 1 GiB, unless
            `DataOptions.cache` says otherwise.

    Raises:
        RequestError: they are to be kept on disk.
    """
    if data.options.cache is Cache.DISK:
        raise RequestError(
            f"{data.name}: --cache disk: images that patches are cut from stay in memory, or are "
            "decoded again in each epoch: give memory, none or auto"
        )
    sides, masks = data.image_shape[:-1], data.task.labels is Labels.MASK
    sizes = {
        split: [images.sides(split, place) for place in range(count)]
        for split, count in images.sizes.items()
    }
    pixels = {split: sum(map(math.prod, some)) for split, some in sizes.items()}
    each = data.image_shape[-1] * np.dtype(images.dtype).itemsize + (1 if masks else 4)
    fits = sum(pixels.values()) * each <= CACHE_BYTES
    keeps = data.options.cache is Cache.MEMORY or (fits and data.options.cache is Cache.AUTO)
    whole = math.ceil(pixels["train"] / math.prod(sides))
    reader = Patches(
        Kept(images) if keeps else images,
        sides,
        per_epoch=min(whole, _MOST),
        centered=CENTERED if masks else 0,
    )
    largest = sorted(itertools.chain(*sizes.values()), key=lambda size: (math.prod(size), size))
    shown = list(dict.fromkeys((largest[0], largest[-1])))
    few = f" (all pixels would take {whole:,})" if whole > _MOST else ""
    rare = ", a third of them around pixels of all classes but the commonest" if masks else ""
    notes = [
        f"{sum(images.sizes.values()):,} images of {' to '.join(map(_by, shown))} keep their size; "
        f"an epoch is {reader.size('train'):,} random patches of {_by(sides)}{few}{rare}"
    ]
    if not fits and not keeps and data.options.cache is Cache.AUTO:
        notes.append("the images are too many to stay in memory: every epoch decodes them again")
    return dataclasses.replace(
        data,
        reader=reader,
        sizes={split: reader.size(split) for split in images.sizes},
        resize="patch",
        ignores=data.ignores or masks,
        notes=(*data.notes, *notes),
    )


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


class Plan(NamedTuple):
    """Which patches a split or an epoch consists of."""

    images: Any
    """The place of each patch's image [N]."""
    corners: Any
    """The first pixel of each patch [N,axes]; it may lie outside its image, which is mirrored."""


class Patches(RowReader):
    """Reads patches of whole images: random ones for training, a grid of windows elsewhere.

    **Training.** A share of an epoch's patches are centered on pixels of classes that are easy to
    miss, as many for each class: first an image that holds the class is drawn, then one of its
    pixels. (nnU-Net draws the image first, so a class that few images hold stays rare.) The others
    are centered on pixels of all images, spread evenly. Patches may reach beyond their image, which
    is mirrored there with its label; therefore each pixel is as likely to be in one of these
    patches as any other one, at the rim and in the middle, in small images and in large ones.

    Patches are numbered through all epochs: `epoch` has the places of one. They follow from the
    seed and the number alone. Those of epoch 0 are never trained on as such: batch norm is
    recalibrated on them, and classes are counted in them for class weights. In `unbiased`, no patch
    is centered on a class: for shares of classes, and for baselines.

    **Other splits** are windows without overlap where sides are multiples of the window's, and with
    the least overlap otherwise. In masks, a pixel counts in the window that it is deepest in, and
    is `IGNORED` in others and beyond the image: metrics count each pixel once. So data that have
    masks are data with ignored pixels (`ImageData.ignores`). For a network whose maps are of the
    middle of a window, these middles are laid out so (`for_middle`). `in_windows` has the training
    images in such windows, too.

    Args:
        images: the whole images.
        sides: the sides of a patch.
        per_epoch: patches of an epoch; None for as many as hold all pixels of the training images.
        centered: the share of patches that are centered on pixels of `classes`, rounded up.
        classes: the classes to center on; None for all but the commonest. Those that no training
            image holds are left out. None, too, if labels are not masks.
        seed: which patches.
    """

    def __init__(
        self,
        images: WholeImages,
        sides: Sequence[int],
        *,
        per_epoch: int | None = None,
        centered: float = CENTERED,
        classes: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.dtype = images.dtype
        self.renews = True
        self._images, self._sides, self._seed = images, tuple(sides), seed
        self._all_shapes = {
            split: [images.sides(split, place) for place in range(count)]
            for split, count in images.sizes.items()
        }
        self._shapes = np.array(self._all_shapes["train"], np.int64)
        self._ends = self._shapes.prod(axis=1).cumsum()
        self._found = _Found.of(images, seed) if centered else _Found(0, {})
        chosen = classes if classes is not None else self._found.uncommon
        self._classes = [value for value in chosen if value in self._found.pixels]
        self._per_epoch = per_epoch or math.ceil(self._ends[-1] / math.prod(sides))
        self._centered = math.ceil(self._per_epoch * centered) if self._classes else 0
        self._middle = self._sides
        self._grids = self._laid_out([split for split in images.sizes if split != "train"])
        self._latest: tuple[int, Plan] | None = None

    def epoch(self, number: int) -> Places:
        """The places of the training patches of an epoch, counted from 0."""
        return number * self._per_epoch + np.arange(self._per_epoch)

    def plan(self, epoch: int) -> Plan:
        """The training patches of an epoch, counted from 0."""
        latest = self._latest
        if latest is None or latest[0] != epoch:
            # Not changed in place: several threads read.
            self._latest = latest = epoch, self._planned(epoch)
        return latest[1]

    def size(self, split: str) -> int:
        return len(self._grids[split].plan.images) if split in self._grids else self._per_epoch

    def wholes(self, split: str) -> Any:
        plan = self._grids[split].plan if split in self._grids else self.plan(0)
        return plan.images

    def rows(self, split: str, places: Places) -> tuple[Any, Any]:
        spots = [self._spot(split, int(place)) for place in places]
        images: list[Any] = [None] * len(spots)
        labels: list[Any] = [None] * len(spots)
        numbers = sorted(range(len(spots)), key=lambda number: spots[number][0])
        for image, some in itertools.groupby(numbers, key=lambda number: spots[number][0]):
            whole, label = self._images.read(split, image)  # once for all of its patches
            for number in some:
                corner = spots[number][1]
                images[number] = cut(whole, corner, self._sides)
                labels[number] = cut(label, corner, self._sides)
                if split in self._grids and label.ndim < whole.ndim:
                    own = self._grids[split].own[int(places[number])]
                    labels[number] = _kept(labels[number], own)
        masks = np.issubdtype(labels[0].dtype, np.integer) and labels[0].ndim == len(self._sides)
        return np.stack(images), np.stack(labels).astype(np.int32 if masks else labels[0].dtype)

    def unbiased(self) -> "Patches":
        found = copy.copy(self)
        found._centered, found._latest = 0, None
        return found

    def for_middle(self, sides: Sequence[int]) -> "Patches":
        if tuple(sides) == self._middle:
            return self
        found = copy.copy(self)
        found._middle = tuple(sides)
        found._grids = found._laid_out(self._grids)
        return found

    def in_windows(self) -> "Patches":
        if "train" in self._grids:
            return self
        found = copy.copy(self)
        found._grids = self._grids | self._laid_out(["train"])
        return found

    def _laid_out(self, splits: Iterable[str]) -> "dict[str, _Grid]":
        return {
            split: _Grid.of(self._all_shapes[split], self._sides, self._middle) for split in splits
        }

    def called(self, split: str, place: int) -> str:
        image, corner = self._spot(split, place)
        return f"{self._images.called(split, image)} at {', '.join(map(str, corner))}"

    def _spot(self, split: str, place: int) -> tuple[int, tuple[int, ...]]:
        """The image of a patch, and its first pixel."""
        if split in self._grids:
            plan = self._grids[split].plan
        else:
            epoch, place = divmod(place, self._per_epoch)
            plan = self.plan(epoch)
        return int(plan.images[place]), tuple(plan.corners[place].tolist())

    def _planned(self, epoch: int) -> Plan:
        random = np.random.default_rng([self._seed, epoch])
        rest = self._per_epoch - self._centered
        # One in each of as many equal parts of all pixels: an epoch holds each image's share.
        pixels = ((np.arange(rest) + random.random(rest)) * (self._ends[-1] / max(1, rest))).astype(
            np.int64
        )
        pixels = np.minimum(pixels, self._ends[-1] - 1)
        images = np.searchsorted(self._ends, pixels, side="right")
        begins = self._ends[images] - self._shapes[images].prod(axis=1)
        centers = pixels - begins
        turn = epoch * self._centered  # goes on where the last epoch ended
        drawn = [
            self._found.draw(self._classes[number % len(self._classes)], random)
            for number in range(turn, turn + self._centered)
        ]
        if drawn:
            images = np.append(images, [image for image, _ in drawn])
            centers = np.append(centers, [pixel for _, pixel in drawn])
        positions = np.empty((len(images), len(self._sides)), np.int64)
        for axis in reversed(range(len(self._sides))):
            positions[:, axis] = centers % self._shapes[images, axis]
            centers = centers // self._shapes[images, axis]
        sides = np.array(self._sides)
        # Of the two pixels in the middle of an even side, either is the center.
        corners = positions - (sides - 1 + random.integers(2, size=positions.shape)) // 2
        order = random.permutation(len(images))
        return Plan(images[order], corners[order])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": None}


@dataclasses.dataclass(frozen=True)
class _Found:
    """Where classes are: for each image that holds a class, the numbers of some of its pixels."""

    commonest: int
    pixels: dict[int, list[tuple[int, Any]]]

    @classmethod
    def of(cls, images: WholeImages, seed: int) -> "_Found":
        """Looks at each training mask once. None is found if labels are not masks."""
        random = np.random.default_rng([seed, 0, 1])  # not the numbers of any epoch
        pixels: dict[int, list[tuple[int, Any]]] = {}
        totals: dict[int, int] = {}
        for place in range(images.sizes["train"]):
            mask = images.label("train", place)
            if mask.ndim > len(images.sides("train", place)):
                break
            flat = np.asarray(mask).reshape(-1)
            for value in np.unique(flat[flat != IGNORED]).tolist():
                there = np.flatnonzero(flat == value)
                totals[value] = totals.get(value, 0) + there.size
                if there.size > _KEPT:
                    there = there[random.choice(there.size, _KEPT, replace=False)]
                pixels.setdefault(value, []).append((place, there))
        return cls(max(totals, key=totals.__getitem__, default=0), pixels)

    @property
    def uncommon(self) -> list[int]:
        return sorted(self.pixels.keys() - {self.commonest})

    def draw(self, value: int, random: np.random.Generator) -> tuple[int, int]:
        """An image that holds a class, and the number of one of its pixels."""
        holders = self.pixels[value]
        image, pixels = holders[random.integers(len(holders))]
        return image, int(pixels[random.integers(len(pixels))])


class _Grid(NamedTuple):
    """Windows that cover the images of a split."""

    plan: Plan
    own: Any
    """The first and the last pixel of a window that count, on each axis [N,axes,2]; the last
    excluded."""

    @classmethod
    def of(
        cls, shapes: Sequence[tuple[int, ...]], sides: tuple[int, ...], middle: tuple[int, ...]
    ) -> "_Grid":
        """Windows of `sides` whose middles, of the sides `middle`, cover images of `shapes`."""
        places: list[int] = []
        corners: list[tuple[int, ...]] = []
        own: list[tuple[tuple[int, int], ...]] = []
        for place, shape in enumerate(shapes):
            axes = [_tiles(*known) for known in zip(shape, sides, middle, strict=True)]
            for tiles in itertools.product(*axes):
                places.append(place)
                corners.append(tuple(tile[0] for tile in tiles))
                own.append(tuple(tile[1] for tile in tiles))
        return cls(Plan(np.array(places), np.array(corners)), np.array(own))


def _tiles(side: int, window: int, middle: int) -> list[tuple[int, tuple[int, int]]]:
    """Where the windows of a side begin, and which of their pixels count."""
    starts = window_starts(max(side, middle), middle, middle)
    # Half of an overlap belongs to each.
    cuts = [(end + start + middle) // 2 for end, start in itertools.pairwise(starts)]
    edges = [0, *cuts, side]
    border = (window - middle) // 2
    return [
        (start - border, (low - start + border, high - start + border))
        for start, (low, high) in zip(starts, itertools.pairwise(edges), strict=True)
    ]


def _kept(mask: Any, own: Any) -> Any:
    """A mask with the pixels that do not count ignored."""
    found = np.full(mask.shape, IGNORED, np.int32)
    inside = tuple(slice(low, high) for low, high in own)
    found[inside] = mask[inside]
    return found
