"""Image data by name: TensorFlow Datasets, the embedded ones, a folder of images, an .npz, or arrays.

`load` is the door; each source has a module, and gives an `ImageData`. Imports `reskeras.tasks` and
`reskeras.spec`; `training`, `tuning` and the command line import it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reskeras.data.arrays import from_arrays, from_npz
from reskeras.data.folder import from_folder
from reskeras.data.images import ImageData
from reskeras.data.tfds import from_tfds
from reskeras.errors import RequestError
from reskeras.spec import ImageShape

__all__ = ["ImageData", "from_arrays", "from_folder", "from_npz", "from_tfds", "load"]


class _Source(NamedTuple):
    """A source of images, and which names mean it."""

    means: Callable[[str, Path], bool]
    open: Callable[[str, Path, ImageShape], ImageData]


_SOURCES = (
    _Source(lambda _, path: path.suffix == ".npz", lambda _, path, shape: from_npz(path)),
    _Source(
        lambda name, path: path.is_dir() or name.startswith((".", "/", "~")),
        lambda _, path, shape: from_folder(path, shape),
    ),
    _Source(lambda name, _: True, lambda name, _, shape: from_tfds(name, shape)),
)
"""The first that a name means opens it."""


def load(name: str, image_shape: ImageShape) -> ImageData:
    """Finds the data that `--data` names and checks them; images are read later, when asked for.

    Args:
        name: a path that ends in `.npz`, a folder (a name that begins with a slash, a dot or a tilde
            means one), or a TFDS name.
        image_shape: height, width and channels that images without a common size are resized to.

    Raises:
        RequestError: there are no such data, or they are not what image training needs.
    """
    if not name.strip():
        raise RequestError(
            "--data is empty; it takes `digits`, a TFDS name, a folder of images or an .npz"
        )
    path = Path(name).expanduser()
    source = next(source for source in _SOURCES if source.means(name, path))
    return source.open(name, path, image_shape)
