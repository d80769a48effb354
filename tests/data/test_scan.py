"""Looks at files are remembered and never stale; what cannot be read is refused in a line."""

import contextlib
import io
import json
import os
import socket
import struct
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reskeras.data import DataOptions, files, load
from reskeras.data.decode import BadImageError, Facts, look
from reskeras.errors import RequestError
from reskeras.files import cache_folder

AN_HOUR_AGO = 3_600 * 10**9


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The change time of a file cannot be set, so the tests let looks begin later.
    monkeypatch.setattr(files.time, "time_ns", lambda: 2**62)


def photos(root: Path, count: int = 12) -> list[Path]:
    random = np.random.default_rng(0)
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return files.images_below(root)


def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are looked at from now on."""
    seen: list[Path] = []

    def watched(path: Path, *, thorough: bool) -> Facts:
        seen.append(path)
        return look(path, thorough=thorough)

    monkeypatch.setattr(files, "look", watched)
    return seen


def test_a_second_look_reads_only_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path / "set")
    bad = tmp_path / "set" / "a" / "bad.png"
    bad.write_text("no image")
    paths.append(bad)
    seen = looks(monkeypatch)

    monkeypatch.setattr(files, "_MOST_BAD", 0.0)
    with pytest.raises(RequestError, match="1 of 13"):
        files.look_at(tmp_path / "set", paths, [])
    assert seen == paths
    monkeypatch.setattr(files, "_MOST_BAD", 0.1)
    seen.clear()
    notes: list[str] = []
    unreadable: dict[str, str] = {}
    facts = files.look_at(tmp_path / "set", paths, notes, unreadable=unreadable)
    assert seen == []
    assert unreadable == {"a/bad.png": "not a PNG, JPEG, GIF, BMP, WebP or TIFF image"}
    assert facts == {path: look(path, thorough=True) for path in paths[:-1]}
    Image.new("RGB", (10, 12)).save(bad)
    stored = paths[0].stat()
    content = bytearray(paths[0].read_bytes())
    content[-1] ^= 1
    paths[0].write_bytes(content)  # of the same size, at the same time
    os.utime(paths[0], ns=(stored.st_atime_ns, stored.st_mtime_ns))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen = looks(monkeypatch)
    monkeypatch.setattr(files, "_MOST_BAD", 0.5)
    found = files.look_at(tmp_path / "set", paths, [])
    assert sorted(seen) == sorted([paths[0], bad])
    assert set(found) == set(paths) - {paths[0]} or found[paths[0]] != facts[paths[0]]
    assert set(found) >= set(paths) - {paths[0]}


def test_what_changed_just_now_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path / "set")
    latest = max(max(path.stat().st_ctime_ns, path.stat().st_mtime_ns) for path in paths)
    seen = looks(monkeypatch)
    for later, times in ((1_999_999_999, 2), (2_000_000_001, 1)):
        seen.clear()
        monkeypatch.setattr(files.time, "time_ns", lambda later=later: latest + later)
        for _ in range(2):
            files.look_at(tmp_path / "set", paths[-1:] and paths, [])
        newest = [p for p in paths if p.stat().st_ctime_ns == latest]
        assert all(seen.count(path) == times for path in newest), later


def test_a_quick_look_does_not_stand_for_a_thorough_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path / "set")
    seen = looks(monkeypatch)
    counts = []
    for most in (0, 0, 1 << 20, 1 << 20, 0):
        monkeypatch.setattr(files, "_THOROUGH_BYTES", most)
        seen.clear()
        files.look_at(tmp_path / "set", paths, [])
        counts.append(len(seen))
    assert counts == [12, 0, 12, 0, 0]


def test_images_and_masks_of_a_folder_share_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path / "set")
    seen = looks(monkeypatch)
    for _ in range(2):
        for part in (paths[:6], paths[6:]):
            files.look_at(tmp_path / "set", part, [])
    assert sorted(seen) == sorted(paths)
    paths[0].unlink()
    Image.new("RGB", (9, 9)).save(paths[1])
    files.look_at(tmp_path / "set", paths[1:], [])
    (remembered,) = (cache_folder() / "scans").iterdir()
    _, *lines = remembered.read_text().splitlines()
    assert len(lines) == 11  # the one that is gone is forgotten


@pytest.mark.parametrize("damage", ["cut", "garbage", "other version", "a folder", "no lines"])
def test_a_damaged_memory_is_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    paths = photos(tmp_path / "set")
    wanted = files.look_at(tmp_path / "set", paths, [])
    (remembered,) = (cache_folder() / "scans").iterdir()
    text = remembered.read_text()
    remembered.unlink()
    match damage:
        case "cut":
            remembered.write_text(text[: len(text) // 2])
        case "garbage":
            remembered.write_bytes(bytes(range(256)))
        case "other version":
            remembered.write_text(text.replace('"format": 2', '"format": 0', 1))
        case "no lines":
            remembered.touch()
        case "a folder":
            remembered.mkdir()
    seen = looks(monkeypatch)
    assert files.look_at(tmp_path / "set", paths, []) == wanted
    assert sorted(seen) == sorted(paths)


def test_without_a_cache_every_look_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    paths = photos(tmp_path / "set")
    seen = looks(monkeypatch)
    for _ in range(2):
        assert len(files.look_at(tmp_path / "set", paths, [])) == 12
    assert len(seen) == 24


def test_the_cache_folder_is_that_of_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given_, wanted in (("/x", "/x"), ("", f"{tmp_path}/.cache"), ("x", f"{tmp_path}/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given_)
        assert cache_folder() == Path(wanted) / "reskeras"


def scan_in_a_process(root: Path) -> int:
    files.time.time_ns = lambda: 2**62
    return len(files.look_at(root, files.images_below(root), []))


def test_an_interrupted_scan_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = photos(tmp_path / "set", 100)

    def interrupted(path: Path, *, thorough: bool) -> Facts:
        if path == paths[-1]:
            raise KeyboardInterrupt
        return look(path, thorough=thorough)

    monkeypatch.setattr(files, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.look_at(tmp_path / "set", paths, [])
    seen = looks(monkeypatch)
    assert len(files.look_at(tmp_path / "set", paths, [])) == 100
    assert len(seen) < 100


def test_two_processes_scan_at_once(tmp_path: Path) -> None:
    paths = photos(tmp_path / "set", 200)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        counts = list(pool.map(scan_in_a_process, [tmp_path / "set"] * 4))
    assert counts == [200] * 4
    for path in paths:
        os.utime(path, ns=(1, 1))
    assert scan_in_a_process(tmp_path / "set") == 200
    (remembered,) = (cache_folder() / "scans").iterdir()
    lines = [json.loads(line) for line in remembered.read_text().splitlines()]
    assert sorted(line[0] for line in lines[1:]) == sorted(
        str(path.relative_to(tmp_path / "set")) for path in paths
    )


def test_strict_refuses_one_unreadable_file(tmp_path: Path) -> None:
    photos(tmp_path / "set", 60)
    (tmp_path / "set" / "a" / "bad.png").touch()
    data = load("./set")
    assert data.files is not None
    assert data.files.unreadable == {"a/bad.png": "the file is empty"}
    assert data.files.sizes == ((12, 10), (12, 10), (12, 10))
    with pytest.raises(RequestError) as error:
        load("./set", options=DataOptions(strict=True))
    assert str(error.value) == (
        "set: 1 of 61 files cannot be read; fix or delete them:\n  a/bad.png: the file is empty"
    )


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


NOISE = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def with_thumbnail(content: bytes) -> bytes:
    """With a whole JPEG in a segment of the application, as EXIF has it."""
    body = b"Exif\0\0" + jpeg(NOISE[:8, :8])
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_the_end_of_a_jpeg_is_found_where_it_is(options: dict, thumbnail: bool) -> None:
    whole = jpeg(NOISE, **options)
    whole = with_thumbnail(whole) if thumbnail else whole
    path = Path("one.jpg")
    for tail in (b"", b"\0" * 200_000, b"video \xff\xd8 " * 20_000):
        path.write_bytes(whole + tail)
        assert look(path, thorough=False).size == (40, 56)
    for cut in (len(whole) - 1, len(whole) - 2, len(whole) * 3 // 4):
        for tail in (b"", b"\0" * 200_000):  # an upload that reserved its room
            path.write_bytes(whole[:cut] + tail)
            with pytest.raises(BadImageError, match="damaged"):
                look(path, thorough=False)


@given(st.binary(max_size=60))
def test_no_bytes_after_the_header_make_a_look_fail(content: bytes) -> None:
    path = Path("any.jpg")
    whole = jpeg(NOISE)
    path.write_bytes(whole[: whole.index(b"\xff\xda")] + content)
    with contextlib.suppress(BadImageError):  # and nothing else
        look(path, thorough=False)


def test_headers_that_claim_gigapixels_are_refused_by_what_they_claim() -> None:
    """Nothing of that size is reserved: a machine has less memory than they claim."""
    bmp = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, 2**30, 2**20, 1, 24, 0, 0, 0, 0, 0, 0)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;"
    sof = jpeg(NOISE)
    place = sof.index(b"\xff\xc0") + 5
    large = sof[:place] + struct.pack(">HH", 65_000, 65_000) + sof[place + 4 :]
    for name, content in (("a.bmp", bmp + b"\0" * 4), ("a.gif", gif), ("a.jpg", large)):
        Path(name).write_bytes(content)
        with pytest.raises(BadImageError, match="claims"):
            look(Path(name), thorough=True)


def test_a_file_of_terabytes_is_not_read() -> None:
    with open("huge.png", "wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(BadImageError, match=r"holds 5\.00 GiB, more than any image"):
        look(Path("huge.png"), thorough=False)


def test_sockets_pipes_and_devices_are_no_images(tmp_path: Path) -> None:
    photos(tmp_path / "set", 120)
    place = tmp_path / "set" / "a"
    os.mkfifo(place / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(place)
        server.bind("socket.png")
        os.chdir(tmp_path)
        (place / "loop.png").symlink_to("loop.png")
        (place / "folder.png").mkdir()
        data = load("./set")
    assert data.files is not None
    assert data.files.unreadable == {
        "a/loop.png": "a link to nothing",
        "a/pipe.png": "not a regular file",
        "a/socket.png": "not a regular file",
    }
    (place / "null.png").symlink_to("/dev/null")
    with pytest.raises(RequestError, match=r"^set/a/null\.png: a link out of .* to /dev/null;"):
        load("./set")


def test_links_within_the_folder_are_followed_and_others_are_named(tmp_path: Path) -> None:
    photos(tmp_path / "set", 40)
    (tmp_path / "set" / "c").mkdir()
    for number in range(0, 40, 2):
        (tmp_path / "set" / "c" / f"{number}.png").symlink_to(f"../a/{number}.png")
    (tmp_path / "set" / "d").symlink_to("b")
    assert sum(load("./set").sizes.values()) == 80
    (tmp_path / "too").symlink_to("set")
    assert sum(load("./too").sizes.values()) == 80  # the folder itself may be one
    photos(tmp_path / "other")
    for link, target in (
        (tmp_path / "set" / "e", "other"),
        (tmp_path / "set/a/x.png", "other/a/0"),
    ):
        link.symlink_to(tmp_path / f"{target}{link.suffix}")
        with pytest.raises(RequestError) as error:
            load("./set")
        name = link.relative_to(tmp_path)
        assert str(error.value).startswith(
            f"{name}: a link out of the folder, to {tmp_path}/{target}{link.suffix}; put"
        )
        link.unlink()


@pytest.mark.parametrize("name", ["b/1.dcm", "b/IM0001", "notes/2.DCM", "a/dicom.png"])
def test_dicom_files_are_named(tmp_path: Path, name: str) -> None:
    photos(tmp_path / "set")
    path = tmp_path / "set" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL" + b"\0" * 60)
    with pytest.raises(RequestError) as error:
        load("./set")
    message = str(error.value)
    assert name in message
    assert "DICOM" in message
    assert "convert" in message
    assert "PNG" in message
    path.unlink()
    (tmp_path / "set" / "b" / "read.me").write_text("DICM")
    load("./set")


def test_an_npz_of_pickled_objects_is_refused_in_a_line() -> None:
    images = np.empty(4, object)
    images[:] = [np.zeros((n + 4, 4)) for n in range(4)]
    np.savez("images.npz", x_train=images, y_train=np.arange(4) % 2)
    with pytest.raises(RequestError) as error:
        load("images.npz")
    assert "pickled Python objects" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
