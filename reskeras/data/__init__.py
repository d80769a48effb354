"""Image data by name: TensorFlow Datasets, embedded sets, image files, an .npz, or arrays.

Start at `load`. Each source has a module and returns an `ImageData`.

Imports: reskeras.data.embedded, reskeras.models, reskeras.spec, reskeras.tasks.
Imported by: reskeras.cli, reskeras.evaluation, reskeras.lab, reskeras.lab.doctor,
reskeras.lab.experiments, reskeras.training, tuning.running, tuning.search.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from reskeras.data.arrays import from_arrays, from_npz
from reskeras.data.contents import check_contents
from reskeras.data.folder import from_folder
from reskeras.data.images import ImageData
from reskeras.data.layouts import MASKS, TARGETS
from reskeras.data.options import NO_OPTIONS, Cache, DataOptions, Fold
from reskeras.data.pairs import from_pairs
from reskeras.data.restored import from_restored
from reskeras.data.streams import from_streams
from reskeras.data.table import from_table, is_table, table_in
from reskeras.data.tfds import from_tfds, made_by_tfds
from reskeras.data.volume_pairs import from_volumes, holds_volumes
from reskeras.errors import RequestError, in_a_line
from reskeras.spec import ImageShape
from reskeras.tasks import Labels, task_called
from reskeras.words import printable

__all__ = [
    "Cache",
    "DataOptions",
    "Fold",
    "ImageData",
    "from_arrays",
    "from_folder",
    "from_npz",
    "from_pairs",
    "from_restored",
    "from_table",
    "from_tfds",
    "from_volumes",
    "load",
]


def _from_files(root: Path, shape: ImageShape | None, options: DataOptions) -> ImageData:
    if not root.is_dir():
        found = "a file, not a folder" if root.is_file() else "no such folder"
        raise RequestError(f"{printable(root)}: {found}")
    _check_name(root)
    check_contents(root)
    asked = None if options.task is None else task_called(options.task).labels
    if holds_volumes(root):
        options.check_no_columns(printable(root))
        return from_volumes(root, shape, options)
    masks, targets = MASKS.fits(root), TARGETS.fits(root)
    if masks and targets and asked not in (Labels.MASK, Labels.IMAGE):
        raise RequestError(
            f"{printable(root)}: holds masks and targets for its images; --task segmentation or "
            "--task restoration says which are the labels"
        )
    if masks and not (targets and asked is Labels.IMAGE):
        options.check_no_columns(printable(root))
        return from_pairs(root, shape, options)
    options.check_no_ignore(printable(root))
    if targets:
        options.check_no_columns(printable(root))
        return from_restored(root, shape, options)
    if asked is Labels.IMAGE:
        raise RequestError(
            f"{printable(root)}: holds no targets; images to restore lie in "
            f"{printable(root)}/inputs/ and what is to be made of them, under the same names, in "
            f"{printable(root)}/targets/"
        )
    options.check_no_patches(printable(root))
    if (table := table_in(root)) is None:
        options.check_no_columns(printable(root))
        return from_folder(root, shape, options)
    return dataclasses.replace(
        from_table(table, shape, options),
        name=printable(root.resolve().name),
        source=str(root.resolve()),
    )


def _from_table(path: Path, shape: ImageShape | None, options: DataOptions) -> ImageData:
    _check_name(path)
    options.check_no_ignore(printable(path))
    options.check_no_patches(printable(path))
    return from_table(path, shape, options)


def _check_name(path: Path) -> None:
    if "\N{REPLACEMENT CHARACTER}" in printable(path.resolve()):
        raise RequestError(f"{printable(path)}: the path is not UTF-8; reports name it: rename it")


class _Source(NamedTuple):
    """A source of images, and the names that it accepts."""

    means: Callable[[str, Path], bool]
    open: Callable[[str, Path, ImageShape | None, DataOptions], ImageData]


_SOURCES = (
    _Source(
        lambda _, path: path.suffix.lower() == ".npz",
        lambda _, path, shape, options: from_npz(
            path, options, None if shape is None else len(shape) - 1, shape
        ),
    ),
    _Source(
        lambda _, path: is_table(path),
        lambda _, path, shape, options: _from_table(path, shape, options),
    ),
    _Source(
        lambda name, path: (
            name.startswith((".", "/", "~")) or (path.is_dir() and not made_by_tfds(path))
        ),
        lambda _, path, shape, options: _from_files(path, shape, options),
    ),
    _Source(
        lambda name, _: True,
        lambda name, _, shape, options: from_tfds(name, shape, options),
    ),
)
"""The first source that accepts a name opens it: order matters, and the last accepts all."""


def load(
    name: Any, image_shape: ImageShape | None = None, options: DataOptions = NO_OPTIONS
) -> ImageData:
    """Finds the data that `--data` names and checks them. Images are read later, on demand.

    Args:
        name: a path that ends in `.npz`, `.csv` or `.tsv`, a folder (a name that starts with a
            slash, a dot or a tilde is one), or a TFDS name. Or what Keras' `fit` takes, such as a
            `tf.data.Dataset`, which is read into memory (see `reskeras.data.streams.from_streams`).
        image_shape: height, width and channels for images without a common size; None lets the
            source choose.
        options: how they are read.

    Raises:
        RequestError: the data do not exist, or cannot train image networks.
    """
    if not isinstance(name, str | Path):
        options.check_no_columns("arrays and data sets in memory")
        if given := options.of_tfds():
            raise RequestError(f"arrays and data sets in memory; {given[0]} is for TFDS names")
        return from_streams(name, options=options, image_shape=image_shape)
    name = str(name)
    if not name.strip():
        raise RequestError(
            "--data is empty; it takes `digits`, a TFDS name, a folder of images, a CSV of their "
            "labels or an .npz"
        )
    try:
        path = Path(name).expanduser()
        source = next(source for source in _SOURCES if source.means(name, path))
    except (
        RuntimeError,
        OSError,
        ValueError,
    ) as error:  # no such user's home, or a name that is too long
        raise RequestError(f"{printable(name)}: {in_a_line(error)}") from error
    if source in (_SOURCES[0], _SOURCES[-1]):
        options.check_no_columns(printable(name))
    if source is not _SOURCES[-1] and (given := options.of_tfds()):
        raise RequestError(
            f"{printable(name)}: a file or a folder, and no TFDS data set, which {given[0]} is for"
        )
    try:
        return source.open(name, path, image_shape, options)
    except OSError as error:
        raise RequestError(f"{printable(name)}: {in_a_line(error)}") from error
