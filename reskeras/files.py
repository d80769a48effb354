"""Files and folders that are there in full or not at all, and never over something by mistake."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from reskeras.errors import RequestError


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a place to write to, which takes the place of `path` in one step at the end.

    The place is beside `path` and has its suffix. A reader never sees half a file, and whatever
    goes wrong, what was at `path` stays as it was.

    Args:
        path: a file, there or not.
        durable: whether the content must be on the disk before it takes the place.
    """
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield partial
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_free(
    path: Path, *, force: bool = False, mark: str | None = None, hint: str = "--force replaces it"
) -> None:
    """Refuses a path that cannot be written to, before work begins.

    Args:
        path: of a file or folder.
        force: whether something there may be replaced: a file, or, with a mark, a folder.
        mark: a file that shows that a folder may be replaced; None where a file is to be written.
        hint: what to do where the path is taken.

    Raises:
        RequestError: the path is taken, or nothing can be written in the folder above it.
    """
    if not path.parent.is_dir():
        raise RequestError(f"{path}: there is no folder {path.parent}")
    try_folder(path.parent, path.name)
    if path.exists() and not force:
        raise RequestError(f"{path} already exists; {hint}")
    if path.is_dir() and (mark is None or not (path / mark).exists()):
        raise RequestError(f"{path}: a folder that this command did not write is in the way")
    if path.is_file() and mark is not None:
        raise RequestError(f"{path}: a file is in the way of the folder")


def try_folder(folder: Path, name: str = "probe") -> None:
    """Refuses a folder in which nothing can be written, by writing; makes it where it is missing.

    Permissions alone do not say: a disk may be read-only, full or gone.

    Args:
        folder: what is written to later.
        name: of the file or folder that will be written there.

    Raises:
        RequestError: it is a file, or cannot be made or written to.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    probe = folder / f".{name}.{uuid.uuid4().hex[:8]}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(f"{folder}: a file is in the way of the folder") from error
    except OSError as error:
        with contextlib.suppress(OSError):  # it may be the one that cannot be removed either
            probe.unlink(missing_ok=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise RequestError(
            f"{folder}: nothing can be written here ({error.strerror or error})"
        ) from error


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """As `replacing`, for a file or a folder that a command writes, whatever is there.

    Raises:
        RuntimeError: it cannot be written; nothing is left of it, and what was there is as it was.
    """
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    old = path.with_name(f".{os.getpid()}.old.{path.name}")
    try:
        yield partial
        if path.is_dir():
            os.rename(path, old)
        os.replace(partial, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RuntimeError(f"{path}: {error.strerror or error}") from error
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
