"""Groups that no split tears apart, and folds: laws over all folders, and each source's folds."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

import reskeras
from reskeras.cli.data import data as data_command
from reskeras.data import DataOptions, Fold, ImageData, from_arrays, load
from reskeras.data.files import File
from reskeras.data.splits import complete, deal

FILES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=80).map(
    lambda pairs: [
        File(Path(f"{n}.png"), label, (f"p{group}",)) for n, (label, group) in enumerate(pairs)
    ]
)
"""Files of up to four classes, in groups that cross them."""


def alone(counts: dict[int, int]) -> list[File]:
    """Files that are a group each."""
    return [
        File(Path(f"{label}/{n}.png"), label, (f"{n}.png", f"{label}"))
        for label, count in counts.items()
        for n in range(count)
    ]


def in_folds(files: list[File], count: int) -> list[dict[str, list[File]]]:
    return [
        complete({"train": files}, Fold(index, count), Path("set"), [])
        for index in range(1, count + 1)
    ]


@given(files=FILES, held=st.sampled_from([("val",), ("val", "test")]))
def test_splits_tear_no_group_and_train_every_class(files: list[File], held: tuple[str]) -> None:
    splits = deal(files, held)
    assert sorted(file for some in splits.values() for file in some) == sorted(files)
    groups = [{file.group for file in some} for some in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert {file.label for file in splits["train"]} == {file.label for file in files}
    assert splits == deal(files[::-1], held) or all(
        set(splits[split]) == set(some) for split, some in deal(files[::-1], held).items()
    )


@given(counts=st.dictionaries(st.integers(0, 3), st.integers(1, 99), min_size=1))
def test_without_groups_each_class_has_its_share(counts: dict[int, int]) -> None:
    splits = deal(alone(counts), ("val", "test"))
    for label, count in counts.items():
        for split in ("val", "test"):
            got = sum(file.label == label for file in splits[split])
            assert abs(got - 0.15 * count) <= 0.5 or (count < 4 and got <= 1)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=20, max_size=60),
    classes=st.integers(1, 3),
)
def test_with_many_groups_each_class_is_near_its_share(sizes: list[int], classes: int) -> None:
    files = [
        File(Path(f"{group}/{n}"), label, (f"p{group}",))
        for group, size in enumerate(sizes)
        for label in range(classes)
        for n in range(size)
    ]
    splits = deal(files, ("val", "test"))
    for split in ("val", "test"):
        for label in range(classes):
            got = sum(file.label == label for file in splits[split])
            assert abs(got - 0.15 * sum(sizes)) <= max(sizes)


@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=6), salt=st.integers())
def test_few_groups_are_enough_for_every_split_and_fold(sizes: list[int], salt: int) -> None:
    files = [
        File(Path(f"{group}/{n}"), 0, (f"{salt} {group}",))
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    assert all(deal(files, ("val", "test")).values())
    for splits in in_folds(files, len(sizes)):
        assert len({file.group for file in splits["val"]}) == 1


@given(count=st.integers(20, 80), new=st.integers(1, 3), folds=st.integers(2, 5))
def test_more_files_move_few(count: int, new: int, folds: int) -> None:
    fewer, more = alone({0: count}), alone({0: count + new})
    before, after = deal(fewer, ("val", "test")), deal(more, ("val", "test"))
    for split in before:
        assert len(set(before[split]) - set(after[split])) <= 2 * new
    old = [set(splits["val"]) for splits in in_folds(fewer, folds)]
    now = [set(splits["val"]) for splits in in_folds(more, folds)]
    moved = sum(len(one - other) for one, other in zip(old, now, strict=True))
    assert moved <= count / 4 + folds


@given(files=FILES, count=st.integers(2, 5))
def test_each_group_validates_in_one_fold(files: list[File], count: int) -> None:
    if len({file.group for file in files}) < count:
        with pytest.raises(reskeras.RequestError, match="groups of images, which are not torn"):
            in_folds(files, count)
        return
    held: Counter[File] = Counter()
    for index in range(1, count + 1):
        notes: list[str] = []
        try:
            splits = complete({"train": files}, Fold(index, count), Path("set"), notes)
        except reskeras.RequestError as error:
            assert "have no others to train on" in str(error)  # noqa: PT017
            continue
        assert sorted(splits["train"] + splits["val"]) == sorted(files)
        groups = [{file.group for file in splits[split]} for split in ("train", "val")]
        assert not groups[0] & groups[1]
        assert {file.label for file in splits["train"]} == {file.label for file in files}
        assert splits["val"]
        held.update(splits["val"])
    assert set(held.values()) <= {1}


@given(counts=st.dictionaries(st.integers(0, 3), st.integers(2, 40), min_size=1))
def test_folds_of_single_images_are_scikit_learns_in_size(counts: dict[int, int]) -> None:
    files, count = alone(counts), 3
    if len(files) < count:
        return
    folds = in_folds(files, count)
    assert sorted(file for splits in folds for file in splits["val"]) == sorted(files)
    for label, total in counts.items():
        got = [sum(file.label == label for file in splits["val"]) for splits in folds]
        assert set(got) <= {total // count, -(-total // count)}  # as StratifiedKFold


def test_folds_keep_the_test_split_and_a_large_group_fills_one() -> None:
    files = [File(Path(f"{n}"), 0, ("big",) if n < 40 else (f"{n}", "")) for n in range(100)]
    plain = complete({"all": files}, None, Path("set"), [])
    for index in (1, 2):
        fold = complete({"all": files}, Fold(index, 2), Path("set"), [])
        assert fold["test"] == plain["test"]
        assert sorted(fold["train"] + fold["val"]) == sorted(plain["train"] + plain["val"])
    sizes = [len(splits["val"]) for splits in in_folds(files, 5)]
    assert sorted(sizes) == [15, 15, 15, 15, 40]


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "1/", "a/b", "-1/5", "1.5/5", ""])
def test_what_is_no_fold_is_named(text: str) -> None:
    with pytest.raises(reskeras.RequestError, match=r"^--fold .*2/5 is the second of five"):
        Fold.parse(text)


def test_a_record_keeps_the_fold() -> None:
    options = DataOptions(fold=Fold.parse(" 2/5 "))
    record = json.loads(json.dumps(options.document()))
    assert record == {"fold": "2/5"}
    assert DataOptions().over(record) == options
    assert DataOptions(fold=Fold(1, 3)).over(record).fold == Fold(1, 3)


def write(folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("L", (8, 8), number).save(folder / f"{number}.png")


def numbers(data: ImageData, split: str) -> list[int]:
    pixels, _ = next(data.split(split).batch(999).as_numpy_iterator())
    return sorted(np.rint(pixels[:, 0, 0, 0] * 255).astype(int).tolist())


def test_the_command_line_takes_a_fold(tmp_path: Path) -> None:
    write(tmp_path / "set/a", range(20))
    write(tmp_path / "set/b", range(20, 40))
    done = CliRunner().invoke(data_command, ["set", "--fold", "2/3", "--json"])
    assert json.loads(done.stdout)["sizes"] == {"train": 22, "val": 12, "test": 6}
    done = CliRunner().invoke(data_command, ["set", "--fold", "4/3"])
    assert str(done.exception).startswith("--fold 4/3: there is no such fold")


@pytest.mark.parametrize("layout", ["all", "splits"])
def test_a_folder_validates_on_each_image_once(tmp_path: Path, layout: str) -> None:
    if layout == "all":
        write(tmp_path / "set/a", range(20))
        write(tmp_path / "set/b", range(20, 60))
    else:
        write(tmp_path / "set/train/a", range(10))
        write(tmp_path / "set/train/b", range(10, 40))
        write(tmp_path / "set/val/b", range(40, 50))
        write(tmp_path / "set/test/a", range(50, 60))
    plain = load("./set")
    folds = [load("./set", options=DataOptions(fold=Fold(index, 5))) for index in range(1, 6)]
    assert len({data.digest for data in (plain, *folds)}) == 6
    pool = sorted(numbers(plain, "train") + numbers(plain, "val"))
    assert sorted(n for data in folds for n in numbers(data, "val")) == pool
    for data in folds:
        assert sorted(numbers(data, "train") + numbers(data, "val")) == pool
        assert numbers(data, "test") == numbers(plain, "test")
        assert data.sizes["val"] in (len(pool) // 5, len(pool) // 5 + 1)
        again = load(data.source, options=DataOptions().over(data.options.document()))
        assert again.digest == data.digest


def test_a_patient_of_several_classes_is_in_one_split(tmp_path: Path) -> None:
    for patient in range(20):
        for label in "ab":
            write(tmp_path / f"set/{label}/p{patient}", range(3 * patient, 3 * patient + 3))
    write(tmp_path / "set/a/loose", range(60, 61))
    for fold in (None, Fold(1, 3), Fold(3, 3)):
        data = load("./set", options=DataOptions(fold=fold))
        patients = [{n // 3 for n in numbers(data, split)} for split in data.sizes]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 21


def test_pairs_have_folds(tmp_path: Path) -> None:
    for number in range(12):
        for name, value in (("images", number), ("masks", number % 2)):
            folder = tmp_path / f"cells/{name}/p{number // 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(8, dtype=np.uint8) * 0 + value).save(folder / f"{number}.png")
    folds = [load("./cells", options=DataOptions(fold=Fold(index, 2))) for index in (1, 2)]
    halves = [numbers(data, "val") for data in folds]
    assert numbers(folds[0], "train") == halves[1]
    assert not {n // 2 for n in halves[0]} & {n // 2 for n in halves[1]}


@pytest.mark.parametrize("form", ["npz", "masks", "no val"])
def test_arrays_have_folds(tmp_path: Path, form: str) -> None:
    x, y = load_digits(return_X_y=True)
    x = x[:100].reshape(100, 8, 8).astype(np.uint8)
    x[:, 0, 0] = np.arange(100)
    y = (x > 7).astype(np.uint8) if form == "masks" else y[:100]
    arrays = {"x_train": x[:60], "y_train": y[:60], "x_test": x[90:], "y_test": y[90:]}
    if form != "no val":
        arrays |= {"x_val": x[60:90], "y_val": y[60:90]}
    np.savez(tmp_path / "set.npz", **arrays)
    pool = [*range(90)] if form != "no val" else [*range(60)]
    folds = [load("./set.npz", options=DataOptions(fold=Fold(index, 3))) for index in (1, 2, 3)]
    assert len({data.digest for data in folds}) == 3
    assert sorted(n for data in folds for n in numbers(data, "val")) == pool
    for data in folds:
        assert sorted(numbers(data, "train") + numbers(data, "val")) == pool
        assert numbers(data, "test") == [*range(90, 100)]
        assert data.options.document() == {"fold": data.options.document()["fold"]}
        if form != "masks":
            counts = np.bincount(y[pool], minlength=10)
            got = np.bincount(data.tensors("val")[1], minlength=10)
            assert (np.abs(got - counts / 3) < 1).all()


def test_streams_have_folds() -> None:
    x = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    stream = [(image[..., None], number % 2) for number, image in enumerate(x)]
    halves = [numbers(load(stream, options=DataOptions(fold=Fold(n, 2))), "val") for n in (1, 2)]
    assert sorted(halves[0] + halves[1]) == [*range(40)]


def test_folds_that_cannot_be_are_named(tmp_path: Path, blobs: dict[str, np.ndarray]) -> None:
    write(tmp_path / "set/a", range(9))
    write(tmp_path / "set/b", range(9))
    with pytest.raises(reskeras.RequestError, match=r"^set: --fold 1/17: 1[0-9] groups of images"):
        load("./set", options=DataOptions(fold=Fold(1, 17)))
    with pytest.raises(reskeras.RequestError, match=r"^data: --fold 1/500: 144 images cannot"):
        from_arrays(blobs, options=DataOptions(fold=Fold(1, 500)))
    mixed = blobs | {"x_val": blobs["x_val"].astype("float64")}
    with pytest.raises(reskeras.RequestError, match="x_train is float32 and x_val float64"):
        from_arrays(mixed, options=DataOptions(fold=Fold(1, 5)))
    with pytest.raises(reskeras.RequestError, match=r"^data set 'digits': --fold takes a folder"):
        load("digits", options=DataOptions(fold=Fold(1, 5)))


def test_the_only_image_of_a_class_stays_in_training(tmp_path: Path) -> None:
    write(tmp_path / "set/train/a", range(20))
    write(tmp_path / "set/train/b", range(20, 21))
    said = 0
    for index in (1, 2):
        data = load("./set", options=DataOptions(fold=Fold(index, 2)))
        assert 20 in numbers(data, "train")
        said += (
            f"fold {index}/2: 1 images stay in training, where their classes have no others"
            in (data.notes)
        )
    assert said == 1
