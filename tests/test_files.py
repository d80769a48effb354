"""Files are there in full or not at all; a place that cannot be written is refused before the
work."""

import errno
import os
from pathlib import Path

import pytest

from reskeras.errors import RequestError
from reskeras.files import check_free, replacing, try_folder, write_bytes, write_text

LONG = "x" * 300


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old ·")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text(encoding="utf-8") == "old ·"
        assert partial.suffix == ".txt"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with replacing(tmp_path / "a") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError("no"), KeyboardInterrupt()]
)
def test_nothing_is_left_of_what_failed(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)) as raised, replacing(tmp_path / "a") as partial:
        _fail(partial, error)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    if isinstance(error, OSError):
        assert str(raised.value) == f"[Errno 28] No space left on device: '{tmp_path}/a'"


def _fail(partial: Path, error: BaseException) -> None:
    partial.write_text("half")
    raise error


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "precious").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"a'$"):
        write_text(tmp_path / "a", "")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "precious"]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "a"):
        (tmp_path / "other").read_text()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/a", "Not a directory"),
        ("/proc/a", "No such file or directory"),
        (LONG, "File name too long"),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, place: str, reason: str) -> None:
    Path("file").touch()
    with pytest.raises(RequestError, match=reason):
        try_folder(Path(place))
    with pytest.raises(RequestError, match=f"{reason}|does not exist"):
        check_free(Path(place))
    with pytest.raises(OSError, match=reason):
        write_bytes(Path(place), b"")
    assert os.listdir(tmp_path) == ["file"]


def test_trying_a_place_leaves_no_trace(tmp_path: Path) -> None:
    try_folder(tmp_path / "a" / "b")
    check_free(tmp_path / "c")
    assert os.listdir(tmp_path) == []
    try_folder(tmp_path)


def test_what_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "file").touch()
    for name in ("model", "file"):
        with pytest.raises(RequestError, match="already exists; --force replaces it"):
            check_free(tmp_path / name)
    with pytest.raises(RequestError, match="did not write"):
        check_free(tmp_path / "model", force=True, mark="saved_model.pb")
    (tmp_path / "model" / "saved_model.pb").touch()
    check_free(tmp_path / "model", force=True, mark="saved_model.pb")
    check_free(tmp_path / "file", force=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "model"]
