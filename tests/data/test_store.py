"""Decoded images are kept in files, which give what decoding gives, and are made once."""

import dataclasses
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import reskeras
from reskeras.data import Cache, DataOptions, ImageData, from_arrays, load
from reskeras.data.store import Stored, cached

ON_DISK = DataOptions(cache=Cache.DISK)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reskeras" / "decoded"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    return tmp_path / "set"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, channels in (("images", (3,)), ("masks", ())):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for number in range(12):
            shape = (16, 16, *channels)
            pixels = random.integers(0, 256 if channels else 3, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "cells" / name / f"{number}.png")
    return tmp_path / "cells"


def read(data: ImageData, places: Any) -> list[tuple[bytes, bytes]]:
    found = data.reader.at("train", np.array(places)).as_numpy_iterator()  # type: ignore[attr-defined]
    return [(image.tobytes(), np.asarray(label).tobytes()) for image, label in found]


@pytest.mark.parametrize("kind", ["photos", "pairs"])
def test_kept_images_are_the_decoded_ones(kind: str, request: pytest.FixtureRequest) -> None:
    opened = load(str(request.getfixturevalue(kind)), options=ON_DISK)
    data = cached(opened)
    assert isinstance(data.reader, Stored)
    for split in opened.sizes:
        decoded, kept = (
            list(one.reader.stored(split).as_numpy_iterator()) for one in (opened, data)
        )
        assert len(decoded) == opened.sizes[split]
        for (image, label), (kept_image, kept_label) in zip(decoded, kept, strict=True):
            assert kept_image.dtype == image.dtype == np.uint8
            np.testing.assert_array_equal(kept_image, image)
            np.testing.assert_array_equal(kept_label, label)
    # Neighbors, others, twice the same.
    for places in ([3, 4, 5], [5, 3, 3, 0, 1, 2, 7], [0], list(range(8))[::-1]):
        assert read(data, places) == read(opened, places)
    if kind == "photos":
        np.testing.assert_array_equal(
            data.reader.classes_of("train"), opened.reader.classes_of("train")
        )
    assert data.reader.called("train", 3) == opened.reader.called("train", 3)


def test_files_are_npy_and_made_once(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    opened = load(str(photos), options=ON_DISK)
    cached(opened, counted.append)
    assert sum(counted) == 40
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert np.load(folder / "train.images.npy").shape == (28, 12, 10, 3)
    assert sorted(np.load(folder / "train.labels.npy")) == [0] * 14 + [1] * 14
    monkeypatch.setattr("reskeras.data.files.read_image", None)  # nothing is decoded again
    cached(load(str(photos), options=ON_DISK), counted.append)
    cached(dataclasses.replace(opened, name="another"), counted.append)
    assert sum(counted) == 40
    whole = (folder / "val.images.npy").read_bytes()
    (folder / "val.images.npy").write_bytes(whole[:-1])
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    cached(opened, counted.append)  # a damaged file alone is made again
    assert sum(counted) == 46
    assert (folder / "val.images.npy").read_bytes() == whole


def test_what_changes_the_images_makes_others(photos: Path, cache: Path) -> None:
    def folders() -> int:
        return sum(path.is_dir() for path in cache.iterdir())

    cached(load(str(photos), options=ON_DISK))
    cached(load(str(photos), (12, 12, 3), ON_DISK))
    cached(load(str(photos), (12, 12, 3), dataclasses.replace(ON_DISK, resize="pad")))
    assert folders() == 3
    Image.new("RGB", (10, 12)).save(photos / "a" / "0.png")
    cached(load(str(photos), options=ON_DISK))
    assert folders() == 4


def _first(data: ImageData, folder: Path, connection: Any) -> None:
    """What another process reads, before and after somebody has deleted the files."""
    connection.send(read(data, [1, 0]))
    for path in folder.rglob("*.npy"):
        path.unlink()
    connection.send(read(pickle.loads(pickle.dumps(data)), [1, 0]))


def test_another_process_reads_the_same_files_or_makes_them_again(
    photos: Path, cache: Path
) -> None:
    data = cached(load(str(photos), options=ON_DISK))
    wanted = read(data, [1, 0])
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_first, args=(data, cache, theirs))
    process.start()
    assert [ours.recv(), ours.recv()] == [wanted, wanted]
    process.join()
    assert read(pickle.loads(pickle.dumps(data)), [1, 0]) == wanted


def test_a_small_disk_is_said_before_anything_is_decoded(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reskeras.data.store._free", lambda folder: 10_000)
    with pytest.raises(reskeras.RequestError, match=r"take 14\.\d KiB, and 9\.77 KiB are free in"):
        cached(load(str(photos), options=ON_DISK))
    assert not cache.exists()
    monkeypatch.setattr("reskeras.data.store._SMALL_BYTES", 0)
    opened = load(str(photos))
    assert cached(opened) is opened  # in memory
    monkeypatch.setattr("reskeras.data.images.CACHE_BYTES", 0)
    assert cached(opened).notes[-1].endswith("half may be used: every epoch decodes them again")
    monkeypatch.setattr("reskeras.data.store._free", lambda folder: 1 << 30)
    assert isinstance(cached(opened).reader, Stored)


def test_a_cache_that_cannot_be_written_is_named(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.parent.write_text("")
    with pytest.raises(reskeras.RequestError, match=r"^cannot write decoded images to .*decoded"):
        cached(load(str(photos), options=ON_DISK))


def test_small_data_arrays_and_other_choices_keep_nothing_on_disk(
    photos: Path, cache: Path, blobs: dict[str, np.ndarray]
) -> None:
    for choice in (Cache.AUTO, Cache.MEMORY, Cache.NONE):
        opened = load(str(photos), options=DataOptions(cache=choice))
        assert cached(opened) is opened
        assert opened.in_memory is (choice is not Cache.NONE)
    opened = dataclasses.replace(from_arrays(blobs), options=ON_DISK)
    assert cached(opened) is opened
    assert not cache.exists()


def test_what_nothing_has_read_for_a_month_makes_room(photos: Path, cache: Path) -> None:
    old, new = cache / "old", cache / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    cached(load(str(photos), options=ON_DISK))
    assert not old.exists()
    assert new.exists()


def test_a_file_that_breaks_meanwhile_names_itself(photos: Path, cache: Path) -> None:
    opened = load(str(photos), options=ON_DISK)
    (photos / "a" / "3.png").write_bytes(b"no image")
    with pytest.raises(reskeras.RequestError, match=r"a/3\.png: not a PNG"):
        cached(opened)
    assert not list(cache.rglob("*.npy"))


def test_what_is_kept_on_disk_is_not_in_memory_too(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reskeras.data.store._SMALL_BYTES", 0)
    data = cached(load(str(photos)))
    assert isinstance(data.reader, Stored)
    assert not data.in_memory
    assert cached(data) is data
