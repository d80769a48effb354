"""What `reskeras predict` writes: the files of one answer, and the table of all."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reskeras.cli.models import Found
from reskeras.data.unlabeled import Seen, Source
from reskeras.data.volumes import write_mask
from reskeras.errors import RequestError
from reskeras.files import write_text
from reskeras.tasks import Labels, Task
from reskeras.tasks.pictures import Stored

_OVERLAYS = "overlays"
_LARGEST = 65535
"""The most that a pixel of a PNG holds."""


def stored_by(found: Found, classes: int, channels: int) -> Stored:
    """How files hold what a network answers.

    Raises:
        RequestError: masks had values in training that no PNG holds.
    """
    names, data = found.class_names, found.data
    values = tuple(data.get("values", ()))
    if not values:  # many sources call classes after what masks hold
        counted = not names or not all(name.isdecimal() for name in names)
        values = tuple(range(classes)) if counted else tuple(map(int, names))
    if max(values) > _LARGEST:
        raise RequestError(
            f"{found.called}: masks had the value {max(values):,} in training; PNG holds up to "
            f"{_LARGEST:,}"
        )
    void = data.get("options", {}).get("ignore")
    if void is None or not 0 <= void <= _LARGEST:
        # Masks with the values 0 and 255 stay bytes.
        most = 255 if max(values) <= 255 else _LARGEST
        void = next((value for value in range(most, -1, -1) if value not in values), _LARGEST)
    peak, deep = data.get("peak"), data.get("pixels") == "floats" and channels == 1
    white = 255 if not deep else _LARGEST if peak is None else int(min(max(peak, 255), _LARGEST))
    return Stored(values=values, void=void, white=white)


def check_places(out: Path, sources: Sequence[Source]) -> None:
    """Checks that all files in a folder would have names of their own.

    Raises:
        RequestError: they would not.
    """
    counts = Counter(place for source in sources for place in source.places)
    place, count = counts.most_common(1)[0]
    if count > 1:
        raise RequestError(
            f"--out {out}: {count} images would have the same name there, {place}; use separate "
            "commands"
        )
    if any(place.startswith(f"{_OVERLAYS}/") for place in counts):
        raise RequestError(
            f"--out {out}: {_OVERLAYS}/ is for what --overlay draws; rename that folder of images"
        )


class Files:
    """Writes answers into a folder that is being made."""

    def __init__(
        self, folder: Path, out: Path, task: Task, stored: Stored, *, overlay: bool
    ) -> None:
        self._folder, self._out, self._task, self._stored = folder, out, task, stored
        self._overlay = overlay
        folder.mkdir()

    def write(self, place: str, seen: Seen, answer: Any, picture: Any) -> dict[str, str]:
        """Writes the files of one answer, and returns their paths.

        Args:
            place: the image's place in the request.
            seen: the image; its pixels are not needed.
            answer: a settled one, with the sides of the image in its file.
            picture: makes a Pillow image of the answer on its image.
        """
        written: dict[str, Path] = {}
        array = self._task.in_file(answer, self._stored)
        if array is not None:
            key = "mask" if self._task.labels is Labels.MASK else "file"
            written[key] = self._array(self._at(place), array, seen)
        if self._overlay or array is None:
            inner = f"{_OVERLAYS}/{place}" if written else place
            written["picture"] = self._at(inner).with_name(f"{Path(inner).name}.png")
            picture().save(written["picture"])
        return {
            key: str(self._out / path.relative_to(self._folder)) for key, path in written.items()
        }

    def _at(self, place: str) -> Path:
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _array(self, path: Path, array: Any, seen: Seen) -> Path:
        masks = self._task.labels is Labels.MASK
        if seen.volume is not None and masks:
            path = path.with_name(f"{path.name}.nii.gz")
            write_mask(path, array, like=seen.volume)
            return path
        if len(seen.frame.size) != 2 or (array.ndim > 2 and array.shape[-1] not in (3, 4)):
            path = path.with_name(f"{path.name}.npy")
            np.save(path, array)
            return path
        path = path.with_name(f"{path.name}.png")
        image = Image.fromarray(array)
        if masks and image.mode == "L":
            image.putpalette(self._stored.palette())
        image.save(path)
        return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as a CSV, whose columns are those of all rows.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())
