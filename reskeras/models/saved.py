"""Models in `.keras` files."""

import zipfile
from pathlib import Path

import keras

from reskeras.errors import RequestError, in_a_line


def load_saved(path: Path, called: str) -> keras.Model:
    """Loads a model without its optimizer and losses.

    Args:
        path: a `.keras` file that exists.
        called: how messages refer to it.

    Raises:
        RequestError: the file is damaged, or Keras cannot load it.
    """
    if not zipfile.is_zipfile(path):  # Keras would say that there is no such file
        raise RequestError(f"{called}: damaged: not a complete ZIP file, as .keras files are")
    try:
        model: keras.Model = keras.saving.load_model(path, compile=False)
    except MemoryError:
        raise
    except Exception as error:  # Keras raises whatever its layers raise
        raise RequestError(
            f"{called}: not a model that Keras can load: {in_a_line(error)}"
        ) from error
    return model
