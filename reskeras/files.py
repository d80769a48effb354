"""Writes files and folders atomically: each is there in full or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from reskeras.errors import RequestError


def cache_folder() -> Path:
    """The folder for what can be made again, and deleted at any time."""
    # As the XDG specification says, a path that is not absolute does not count.
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given if os.path.isabs(given) else "~/.cache").expanduser() / "reskeras"


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path` for a file or folder, which then replaces `path`.

    A folder is never replaced by a file, nor a file by a folder. The temporary name ends like
    `path`, because libraries choose the format by the suffix.

    Args:
        path: a file or folder, which may exist.
        durable: whether a file's content must be on disk before it replaces another.

    Raises:
        OSError: it cannot be written; the temporary file is removed, and an existing one is
            unchanged.
    """
    partial = _beside(path)
    old = partial.with_name(f"{partial.name}.old")
    try:
        yield partial
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        if path.is_dir() and partial.is_dir():
            os.rename(path, old)
        os.replace(partial, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        ours = error.filename is None or str(error.filename).startswith(str(partial))
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # the error that led here says more
            if old.exists() and not path.exists():
                os.rename(old, path)
            if partial.is_dir():
                shutil.rmtree(partial)
            partial.unlink(missing_ok=True)


def check_free(
    path: Path, *, force: bool = False, mark: str | None = None, hint: str = "--force replaces it"
) -> None:
    """Checks that a new file or folder can be written, before work on it begins.

    Args:
        path: a file or folder.
        force: whether it may replace a file or, with `mark`, a folder.
        mark: a file that marks a replaceable folder; None if a file is to be written.
        hint: what to do if the path is taken.

    Raises:
        RequestError: the path is taken, or cannot be written.
    """
    if not os.path.isdir(path.parent):
        raise RequestError(f"{path}: the folder {path.parent} does not exist")
    if os.path.exists(path) and not force:
        raise RequestError(f"{path} already exists; {hint}")
    if os.path.isdir(path) and (mark is None or not (path / mark).exists()):
        raise RequestError(f"{path} already exists, and this command did not write that folder")
    if os.path.isfile(path) and mark is not None:
        raise RequestError(f"{path} already exists, and is a file where a folder is to be written")
    _probe(path, _beside(path))


def try_folder(folder: Path) -> None:
    """Checks that files can be written in a folder, which need not exist yet. Leaves no trace.

    Raises:
        RequestError: they cannot.
    """
    made: list[Path] = []
    # `os.path` because `Path.exists` raises OSError for a name that is too long.
    missing = [each for each in (folder, *folder.parents) if not os.path.exists(each)]
    try:
        for each in reversed(missing):
            each.mkdir()
            made.append(each)
        _probe(folder, _beside(folder / "probe"))
    except OSError as error:
        raise RequestError(f"{folder}: {error.strerror}") from error
    finally:
        for each in reversed(made):
            each.rmdir()


def _beside(path: Path) -> Path:
    """A hidden name that no other thread or process uses."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.partial.{path.name}")


def _probe(path: Path, probe: Path) -> None:
    try:
        probe.write_bytes(b"probe")  # an empty file fits on a full disk
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise RequestError(f"{path}: {error.strerror}") from error
