"""What `reskeras export` can write: formats, precisions, and which of them a name asks for.

Imports no framework.
"""

import dataclasses
import enum
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from reskeras.errors import RequestError


class FileFormat(enum.Enum):
    """The format of a file, by the ending of its name."""

    KERAS = ".keras"
    ONNX = ".onnx"
    WEIGHTS = ".weights.h5"
    TFLITE = ".tflite"
    SAVED_MODEL = ""

    @property
    def title(self) -> str:
        """What people call it."""
        match self:
            case FileFormat.KERAS:
                return "Keras"
            case FileFormat.ONNX:
                return "ONNX"
            case FileFormat.WEIGHTS:
                return "Keras weights"
            case FileFormat.TFLITE:
                return "TFLite"
            case FileFormat.SAVED_MODEL:
                return "SavedModel"

    @property
    def serves(self) -> bool:
        """Whether it is for another runtime, so that it takes raw images and knows its classes."""
        return self not in (FileFormat.KERAS, FileFormat.WEIGHTS)

    @property
    def precisions(self) -> "tuple[Precision, ...]":
        """What its numbers can be."""
        match self:
            case FileFormat.TFLITE:
                return tuple(Precision)
            case FileFormat.ONNX:
                return Precision.FLOAT32, Precision.FLOAT16
            case _:
                return (Precision.FLOAT32,)


class Precision(enum.Enum):
    """The numbers in a file."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    """Half the size. TFLite computes in float32 all the same."""
    INT8 = "int8"
    """A quarter of the size: weights and activations are whole numbers of 8 bits."""


_IN_NAME = re.compile(rf"[._-]({'|'.join(each.value for each in Precision)})$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A file, or a folder for a SavedModel, to write."""

    path: Path
    form: FileFormat
    precision: Precision = Precision.FLOAT32

    @property
    def title(self) -> str:
        """Its format, and its precision where a format has several."""
        return (
            self.form.title
            if len(self.form.precisions) == 1
            else f"{self.form.title} {self.precision.value}"
        )


def targets(paths: Sequence[Path], precision: Precision | None) -> tuple[Target, ...]:
    """The format and the precision of each file.

    Args:
        paths: the files. A name like `net.int8.tflite` or `net-float16.onnx` says its precision.
        precision: of the ONNX and TFLite files whose names say none; None is float32.

    Raises:
        RequestError: an ending is unknown, a format does not have a precision, a path is there
            twice, a name says two precisions, no file can have `precision`, or the extra `onnx` is
            missing.
    """
    found = tuple(_target(path, precision) for path in paths)
    missing = [name for name in ("onnx", "onnxruntime", "tf2onnx") if find_spec(name) is None]
    for target in found:
        if target.form is FileFormat.ONNX and missing:
            raise RequestError(
                f"{target.path}: ONNX export needs the extra `onnx`: pip install '.[onnx]' in a "
                f"clone (missing: {', '.join(missing)})"
            )
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise RequestError(f"{path}: given twice")
    if precision is not None and all(len(each.form.precisions) == 1 for each in found):
        raise RequestError(
            f"--precision {precision.value}: for .onnx and .tflite files, and "
            f"{', '.join(map(str, paths))} is none"
        )
    return found


def _target(path: Path, precision: Precision | None) -> Target:
    form = next(
        (form for form in FileFormat if form.value and path.name.endswith(form.value)), None
    )
    if form is None and path.suffix:
        known = ", ".join(form.value for form in FileFormat if form.value)
        raise RequestError(
            f"{path}: give a name that ends in {known}, or one without an ending for a SavedModel"
        )
    form = form or FileFormat.SAVED_MODEL
    if len(form.precisions) == 1:
        return Target(path=path, form=form)
    stem = path.name.removesuffix(form.value)
    named = _IN_NAME.search(stem)
    if named and (other := _IN_NAME.search(stem[: named.start()])) and other[1] != named[1]:
        raise RequestError(
            f"{path}: its name says {other[1]} and {named[1]}; a file has one precision"
        )
    asked = Precision(named[1]) if named else precision or Precision.FLOAT32
    if asked not in form.precisions:
        known = " or ".join(each.value for each in form.precisions)
        raise RequestError(
            f"{path}: {form.title} files are written as {known}, not {asked.value}; .tflite files "
            f"can be {asked.value}"
        )
    return Target(path=path, form=form, precision=asked)
