"""Writing what a command was asked for: in one step, and over nothing that was there unless that is asked for too."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from reskeras.errors import RequestError


def check_free(
    path: Path, *, force: bool = False, mark: str | None = None, hint: str = "--force replaces it"
) -> None:
    """Refuses a path that cannot be written to, before work begins.

    Args:
        path: of a file or folder.
        force: whether something there may be replaced: a file, or, with a mark, a folder.
        mark: a file by which a folder is known to be one that may be replaced; None where a file is to be written.
        hint: what to do where the path is taken.

    Raises:
        RequestError: the path is taken, or the folder above it is not there.
    """
    if not path.parent.is_dir():
        raise RequestError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise RequestError(f"{path}: nothing can be written in {path.parent}")
    if path.exists() and not force:
        raise RequestError(f"{path} is there already; {hint}")
    if path.is_dir() and (mark is None or not (path / mark).exists()):
        raise RequestError(f"{path}: a folder that this command did not write is in the way")
    if path.is_file() and mark is not None:
        raise RequestError(f"{path}: a file is in the way of the folder")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a place to write a file or folder to, which in the end takes the place of `path`, whatever is there.

    Raises:
        RuntimeError: it cannot be written; then nothing is left of it, and what was there is as it was.
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
