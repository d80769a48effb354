"""What a folder of data must not hold: links that lead out of it, and DICOM files."""

import os
from collections.abc import Iterator
from pathlib import Path

from reskeras.data.decode import SUFFIXES, is_dicom
from reskeras.errors import RequestError
from reskeras.words import printable

_IGNORED = (".", "__MACOSX")
"""What names of files and folders that nobody reads start with."""


def check_contents(root: Path) -> None:
    """Checks what a folder holds, whatever its layout is, without reading its images.

    Raises:
        RequestError: a folder or an image in it is a link that leads out of it, so the data would
            change with other folders; or it holds DICOM files, which would be left out silently.
    """
    home = os.path.realpath(root)
    dicom = []
    for entry in _entries(str(root)):
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        if entry.is_symlink() and (is_image or entry.is_dir()):
            target = os.path.realpath(entry.path)
            if os.path.exists(target) and os.path.commonpath([home, target]) != home:
                raise RequestError(
                    f"{printable(entry.path)}: a link out of the folder, to {printable(target)}; "
                    "put the files themselves there, or links to files in the folder"
                )
        elif not is_image and entry.is_file() and _is_dicom(entry):
            dicom.append(entry.path)
    if dicom:
        count = f"{len(dicom):,} DICOM files" if len(dicom) > 1 else "a DICOM file"
        raise RequestError(
            f"{printable(root)}: holds {count} ({printable(os.path.relpath(min(dicom), root))}); "
            "convert them to PNG (16-bit gray keeps all values) and remove them"
        )


def _entries(folder: str) -> Iterator["os.DirEntry[str]"]:
    """Files, links and folders in a folder and below it; no link is followed."""
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith(_IGNORED):
                        continue
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except PermissionError as error:
            raise RequestError(f"{printable(error.filename)}: {error.strerror}") from error


def _is_dicom(entry: "os.DirEntry[str]") -> bool:
    """By the name or by the content: scanners leave the suffix out."""
    if entry.name.lower().endswith((".dcm", ".dicom")):
        return True
    try:
        with open(entry.path, "rb") as file:
            return is_dicom(file.read(132))
    except OSError:  # nobody reads it
        return False
