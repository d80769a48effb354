"""Patches of images of unequal sizes. Pixels hold their own numbers, so they can be counted."""

import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from reskeras.data.patches import Patches, WholeImages
from reskeras.tasks import IGNORED

Pair = tuple[Any, Any]


def numbered(*shapes: tuple[int, ...]) -> list[Pair]:
    """Images whose pixels are numbered through all of them; masks are 10 minus these numbers."""
    pairs, begin = [], 0
    for shape in shapes:
        image = np.arange(begin, begin + math.prod(shape), dtype="float32").reshape(*shape, 1)
        pairs.append((image, 10 + image[..., 0].astype("int32")))
        begin += image.size
    return pairs


class WholeArrays(WholeImages):
    """Pairs of an image and its label, for each split."""

    def __init__(self, splits: Mapping[str, Sequence[Pair]]) -> None:
        self._splits = splits
        self.sizes = {split: len(pairs) for split, pairs in splits.items()}
        self.dtype = splits["train"][0][0].dtype

    def read(self, split: str, place: int) -> Pair:
        return self._splits[split][place]


def blank(*pairs: Pair, **splits: list[Pair]) -> WholeArrays:
    return WholeArrays({"train": list(pairs), **splits})


def all_rows(patches: Patches, epochs: int) -> Pair:
    return patches.rows("train", np.concatenate([patches.epoch(n) for n in range(epochs)]))


@pytest.mark.parametrize("sides", [(4, 3), (3, 3), (2, 8)])
def test_each_pixel_is_as_likely_as_any_other(sides: tuple[int, int]) -> None:
    patches = Patches(blank(*numbered((9, 7), (4, 3), (2, 5))), sides, per_epoch=40, centered=0)
    images, _ = all_rows(patches, 400)
    counts = np.bincount(images.astype(int).ravel(), minlength=85)
    assert counts.sum() == 16_000 * math.prod(sides)
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_an_epoch_holds_the_share_of_each_image() -> None:
    """84 pixels of 100 are of the first image."""
    patches = Patches(blank(*numbered((12, 7), (4, 4))), (2, 2), centered=0)
    assert patches.size("train") == 25
    for epoch in range(20):
        assert (patches.plan(epoch).images == 0).sum() == 21


def cells(seed: int, count: int = 6) -> list[Pair]:
    """Masks with a few pixels of class 1, and one of class 2 in the last image alone."""
    random, pairs = np.random.default_rng(seed), []
    for number in range(count):
        mask = np.zeros(random.integers(20, 40, 2), "int32")
        mask[tuple(random.integers(0, mask.shape, (3, 2)).T)] = 1
        mask[0, 0] = IGNORED
        if number == count - 1:
            mask[-1, 3] = 2
        pairs.append((mask[..., None].astype("uint8"), mask))
    return pairs


@settings(max_examples=20)
@given(
    seed=st.integers(0, 99),
    share=st.floats(0.05, 1),
    sides=st.sampled_from([(5, 5), (4, 6), (31, 3)]),
    per_epoch=st.integers(1, 60),
)
def test_each_class_has_its_share(
    seed: int, share: float, sides: tuple[int, int], per_epoch: int
) -> None:
    """In at least a half of the stated share, for there are two classes beside the commonest; a
    patch that is centered on a pixel holds it in the middle, or one of the middles."""
    patches = Patches(blank(*cells(seed)), sides, per_epoch=per_epoch, centered=share, seed=seed)
    images, masks = all_rows(patches, 4)
    assert len(masks) == 4 * per_epoch
    middle = tuple(slice((side - 1) // 2, side // 2 + 1) for side in sides)
    for value in (1, 2):
        there = (masks[:, *middle] == value).any((1, 2)).sum()
        assert there >= math.floor(4 * math.ceil(share * per_epoch) / 2)
    np.testing.assert_array_equal(images[..., 0], masks.astype("uint8"))


def test_chosen_classes_are_centered_on() -> None:
    patches = Patches(blank(*cells(1)), (1, 1), per_epoch=30, centered=0.5, classes=[2, 7])
    _, masks = all_rows(patches, 2)
    assert (masks == 2).sum() >= 30
    assert (masks == 1).sum() < 3
    again = Patches(blank(*cells(1)), (1, 1), per_epoch=30, centered=0.5, classes=[7])
    assert (all_rows(again, 2)[1] == 0).mean() > 0.9


def test_few_pixels_of_a_common_class_are_remembered() -> None:
    mask = np.repeat(np.arange(2, dtype="int32"), [40_000, 50_000]).reshape(300, 300)
    patches = Patches(blank((mask[..., None], mask)), (8, 8), per_epoch=3000, centered=1)
    assert len(pickle.dumps(patches._found)) < 10_000
    _, masks = all_rows(patches, 1)
    assert (masks[:, 3:5, 3:5] == 0).any((1, 2)).all()


def test_the_seed_and_the_epoch_say_which_patches() -> None:
    make = lambda seed: Patches(blank(*cells(2)), (6, 5), per_epoch=12, seed=seed)  # noqa: E731
    patches = make(3)
    places = np.concatenate([patches.epoch(2), patches.epoch(0), patches.epoch(1)])
    images, masks = patches.rows("train", places)
    for other in (make(3), pickle.loads(pickle.dumps(patches))):
        for number in (30, 2, 11):
            alone = other.rows("train", places[number : number + 1])
            np.testing.assert_array_equal(alone[0][0], images[number])
            np.testing.assert_array_equal(alone[1][0], masks[number])
    epochs = [patches.plan(0), patches.plan(1), make(4).plan(0)]
    assert len({plan.corners.tobytes() for plan in epochs}) == 3


@pytest.mark.parametrize("shapes", [[(7, 9), (3, 20)], [(5, 4, 6), (2, 9, 3)], [(11,), (3,)]])
def test_patches_are_parts_of_the_mirrored_image(shapes: list[tuple[int, ...]]) -> None:
    pairs = numbered(*shapes)
    sides = (5, 4, 3)[: len(shapes[0])]
    patches = Patches(blank(*pairs), sides, per_epoch=50)
    plan = patches.plan(1)
    images, masks = patches.rows("train", patches.epoch(1))
    for place, corner, image, mask in zip(*plan, images, masks, strict=True):
        whole = np.pad(pairs[place][0][..., 0], [(side, side) for side in sides], mode="symmetric")
        expected = whole[
            tuple(
                slice(start + side, start + 2 * side)
                for start, side in zip(corner, sides, strict=True)
            )
        ]
        np.testing.assert_array_equal(image[..., 0], expected)
        np.testing.assert_array_equal(mask, expected + 10)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 25), st.integers(1, 12)), min_size=1, max_size=3),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    border=st.integers(0, 5),
    split=st.sampled_from(["train", "val"]),
)
def test_other_splits_count_each_pixel_once(
    shapes: list[tuple[int, int]], sides: tuple[int, int], border: int, split: str
) -> None:
    """In the middle that a network answers; in training images, where they are scored."""
    splits = {"train": numbered((9, 9)), "val": numbered((9, 9)), split: numbered(*shapes)}
    wide = [side + 2 * border for side in sides]
    patches = Patches(WholeArrays(splits), wide).for_middle(sides).in_windows()
    images, masks = patches.rows(split, np.arange(patches.size(split)))
    rim = [slice(border, border + side) for side in sides]
    middle = masks[:, *rim]
    counted = middle != IGNORED
    assert sorted(middle[counted]) == list(range(10, 10 + sum(map(math.prod, shapes))))
    assert (masks != IGNORED).sum() == counted.sum()
    np.testing.assert_array_equal(images[:, *rim, 0][counted] + 10, middle[counted])
    least = sum(
        math.prod(math.ceil(a / b) for a, b in zip(shape, sides, strict=True)) for shape in shapes
    )
    assert len(masks) == least
    assert patches.wholes(split).max() == len(shapes) - 1


def test_a_pixel_counts_where_it_is_deepest() -> None:
    """Windows of 4 pixels at 0, 3 and 6: each keeps half of an overlap."""
    patches = Patches(blank(*numbered((9,)), test=numbered((10,))), (4,))
    _, masks = patches.rows("test", np.arange(3))
    assert masks.tolist() == [
        [10, 11, 12, IGNORED],
        [13, 14, 15, IGNORED],
        [16, 17, 18, 19],
    ]
    assert patches.called("test", 2) == "test[0] at 6"


def test_labels_can_be_images() -> None:
    pairs = [(np.zeros((9, 9, 1), "float32"), np.ones((9, 9, 3), "uint8"))]
    patches = Patches(blank(*pairs, val=pairs), (4, 4))
    for split in ("train", "val"):
        images, labels = patches.rows(split, np.arange(2))
        assert (images.shape, labels.shape) == ((2, 4, 4, 1), (2, 4, 4, 3))
        assert labels.dtype == np.uint8


def test_a_data_set_of_tensorflow_reads_patches() -> None:
    patches = Patches(blank(*cells(5)), (6, 5), per_epoch=12)
    places = patches.epoch(3)[::-1]
    found = list(patches.at("train", places).as_numpy_iterator())
    images, masks = patches.rows("train", places)
    assert len(found) == 12
    for (image, mask), expected, label in zip(found, images, masks, strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask, label)


def test_an_image_is_read_once_for_all_of_its_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    patches, reads = Patches(blank(*cells(5)), (6, 5), per_epoch=40), []
    read = WholeArrays.read
    monkeypatch.setattr(
        WholeArrays, "read", lambda *given: [reads.append(given[2]), read(*given)][1]
    )
    patches.rows("train", patches.epoch(0))
    assert sorted(reads) == list(range(6))
