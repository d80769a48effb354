"""Image data by name: TensorFlow Datasets, the embedded digits, a folder of images, an .npz, or arrays."""

from pathlib import Path

from reskeras.data.arrays import from_arrays, from_npz
from reskeras.data.folder import from_folder
from reskeras.data.images import ImageData
from reskeras.data.tfds import from_tfds
from reskeras.errors import RequestError
from reskeras.spec import ImageShape

__all__ = ["ImageData", "from_arrays", "from_folder", "from_npz", "from_tfds", "open_data"]


def open_data(name: str, image_shape: ImageShape) -> ImageData:
    """Finds the data that `--data` names and checks them; images are read later, when they are asked for.

    Args:
        name: a path that ends in `.npz`, a folder (a name with a slash or a dot is taken for one), or a TFDS name.
        image_shape: height, width and channels that images without a common size are resized to.

    Raises:
        RequestError: there are no such data, or they are not what image training needs.
    """
    if not name.strip():
        raise RequestError(
            "--data is empty; it takes `digits`, a TFDS name, a folder of images or an .npz"
        )
    path = Path(name).expanduser()
    if path.suffix == ".npz":
        return from_npz(path)
    if path.is_dir() or name.startswith((".", "/", "~")):
        return from_folder(path, image_shape)
    return from_tfds(name, image_shape)
