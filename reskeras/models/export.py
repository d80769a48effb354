"""Writes a trained network in the formats of other runtimes.

A file for another runtime takes raw images and knows the names of its classes.
"""

import dataclasses
import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reskeras._version import __version__
from reskeras.errors import RequestError, in_a_line
from reskeras.models.export_check import tflite_interpreter
from reskeras.models.export_forms import FileFormat, Precision, Target
from reskeras.models.inputs import Layout, input_form
from reskeras.models.preprocessing import front_of, joined, sides_and_channels
from reskeras.tasks import Labels, task_called

FACTS = "facts.json"
LABELS = "labels.txt"
"""The names of the classes, a line each, as other tools write them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exporter:
    """A trained network, ready to be written."""

    network: keras.Model
    record: Mapping[str, Any]
    """The facts of its data, like `about.data` of a journal."""
    bare: bool
    """Whether files take what the network takes, not raw images."""
    source: Path | None = None
    """The `.keras` file that the network was loaded from, if it is unchanged."""

    def served(self, target: Target) -> keras.Model:
        """The Keras model whose function a file has, with the file's input.

        Raises:
            RequestError: no raw images fit the network.
        """
        front = self._front(target)
        return self.network if front is None else joined(front, self.network)

    def check(self, target: Target) -> None:
        """Checks what can be told of a file before it is written.

        Raises:
            RequestError: no raw images fit the network, or its layers have no such precision.
        """
        layers = self.network._flatten_layers(include_self=False)
        in_3d = [each.name for each in layers if "Conv3D" in type(each).__name__]
        if target.precision is Precision.INT8 and in_3d:
            raise RequestError(
                f"{target.path}: TFLite computes 3-D convolutions, as {in_3d[0]} of "
                f"{self.network.name}, in floats only; give float32 or float16"
            )
        try:
            self.served(target)
        except RequestError as error:
            raise RequestError(f"{error}; --bare exports the network alone") from error

    def inputs(self, served: keras.Model, images: Any) -> list[Any]:
        """Images in the form of a file's input; if it takes any size, some in another one, too.

        Args:
            served: a model that `served` returned, or the network itself.
            images: as the network sees them, channels last [N,*sides,C]: bytes, or float32, which
                are scaled already.
        """
        (given,) = served.inputs
        shares = images.astype("float32") / np.float32(255 if images.dtype == np.uint8 else 1)
        if served is self.network:
            form = input_form(self.network)
            match form.layout:
                case Layout.CHANNELS_LAST:
                    return [shares]
                case Layout.CHANNELS_FIRST:
                    return [np.moveaxis(shares, -1, 1)]
                case Layout.FLAT:
                    return [shares.reshape(len(shares), -1)]
        if given.dtype == "uint8":
            raw = np.rint(255 * np.clip(shares, 0, 1)).astype("uint8")
        else:
            raw = shares * np.float32(self.record.get("peak") or 1)
        if None not in given.shape[1:]:
            return [raw]
        return [raw, raw[:2].repeat(2, axis=1).repeat(3, axis=2)]

    def write(self, target: Target, path: Path, sample: Any = None) -> None:
        """Writes a file, or the folder of a SavedModel.

        Args:
            target: its format and precision; its own path is not used.
            path: where.
            sample: for whole numbers of 8 bits, typical images in the form of the file's input.

        Raises:
            RequestError: no raw images fit the network, or the extra `onnx` is not installed.
            RuntimeError: the network cannot be written like this.
            OSError: the file cannot be written.
        """
        match target.form:
            case FileFormat.KERAS if self.source is not None:
                # With its optimizer. `copyfile` would blame the source for a full disk.
                with open(self.source, "rb") as source, open(path, "wb") as copy:
                    shutil.copyfileobj(source, copy)
            case FileFormat.KERAS:
                self.network.save(path)
            case FileFormat.WEIGHTS:
                self.network.save_weights(path)
            case FileFormat.SAVED_MODEL:
                _save(self.served(target), path)
                (path / "assets.extra").mkdir()
                for name, text in self._texts(target).items():
                    (path / "assets.extra" / name).write_text(text, encoding="utf-8")
            case FileFormat.ONNX:
                self._write_onnx(target, path)
            case FileFormat.TFLITE:
                path.write_bytes(self._tflite(target, sample))
                # As TFLite's own tools do: the model, and behind it a ZIP archive.
                with zipfile.ZipFile(path, "a") as archive:
                    for name, text in self._texts(target).items():
                        archive.writestr(zipfile.ZipInfo(name), text)

    def facts(self, target: Target) -> dict[str, Any]:
        """What a file says of itself."""
        kept = ("task", "class_names", "resize", "pixels", "peak", "enlarge", "image_shape")
        defaults: dict[str, Any] = {
            "class_names": [],
            "resize": "stretch",
            "pixels": "bytes",
            "peak": None,
        }
        found = {**defaults, **{key: self.record[key] for key in kept if key in self.record}}
        raw = self._front(target) is not None
        return {
            "reskeras": __version__,
            "input": "raw" if raw else "network",
            "precision": target.precision.value,
            **found,
        }

    def _texts(self, target: Target) -> dict[str, str]:
        facts = self.facts(target)
        names = facts["class_names"]
        texts = {FACTS: json.dumps(facts, ensure_ascii=False)}
        return texts | ({LABELS: "".join(f"{name}\n" for name in names)} if names else {})

    def _front(self, target: Target, **options: Any) -> keras.Model | None:
        """The layers for raw images; None if the file takes what the network takes."""
        if self.bare or not target.form.serves or not takes_images(self.network):
            return None
        # Resizing takes more than 8 bits. Images that are answers have the size of those asked for.
        resizes = target.precision is not Precision.INT8 and not gives_images(self.record)
        return front_of(self.network, self.record, resizes=resizes, **options)

    def _write_onnx(self, target: Target, path: Path) -> None:
        from reskeras.models.onnx import export_onnx

        half = target.precision is Precision.FLOAT16
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # Keras, of NumPy
                export_onnx(self.network, path, half=half, front=self._front(target))
        except ImportError as error:
            raise RequestError(str(error)) from error
        except ValueError as error:
            raise RuntimeError(in_a_line(error)) from error
        import onnx

        model = onnx.load(path)
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in self.facts(target).items()
        }
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)

    def _tflite(self, target: Target, sample: Any) -> bytes:
        import tensorflow as tf

        whole = target.precision is Precision.INT8
        front = self._front(target, dtype="float32") if whole else self._front(target)
        model = self.network if front is None else joined(front, self.network)
        of_bytes = whole and self.served(target).inputs[0].dtype == "uint8"
        if of_bytes:
            sample = _spanning(sample)
        with tempfile.TemporaryDirectory() as folder:
            # `from_keras_model` prints to standard output.
            _save(model, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            match target.precision:
                case Precision.FLOAT32:
                    pass
                case Precision.FLOAT16:
                    converter.optimizations = [tf.lite.Optimize.DEFAULT]
                    converter.target_spec.supported_types = [tf.float16]
                case Precision.INT8:
                    converter.optimizations = [tf.lite.Optimize.DEFAULT]
                    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                    converter.representative_dataset = lambda: (
                        [image[np.newaxis].astype("float32")] for image in sample
                    )
                    if of_bytes:
                        converter.inference_input_type = tf.uint8
            try:
                content = bytes(converter.convert())
            except (OSError, MemoryError):
                raise
            except Exception as error:  # the converter's errors have no common base class
                raise RuntimeError(
                    f"{self.network.name} cannot be exported to {target.title}: {in_a_line(error)}"
                ) from error
        outer = len(model.outputs) + (not of_bytes)
        if whole and _count_floats(content) > outer:
            raise RuntimeError(
                f"{self.network.name} cannot be exported to {target.title}: TFLite computes some "
                "of its layers in floats only"
            )
        return content


def _save(model: keras.Model, folder: str | Path) -> None:
    """Writes a SavedModel."""
    import tensorflow as tf

    try:
        model.export(folder, format="tf_saved_model", verbose=False)
    except tf.errors.OpError as error:  # of a full disk, too
        # Before the reason stands a name of TensorFlow's.
        raise RuntimeError(in_a_line(error).rpartition("; ")[2]) from error


def _count_floats(content: bytes) -> int:
    """The number of tensors in a TFLite model that are floats."""
    import tensorflow as tf

    # A delegate adds tensors of its own.
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tflite_interpreter(model_content=content, experimental_op_resolver_type=plain)
    details = interpreter.get_tensor_details()
    return sum(each["dtype"] == np.float32 for each in details)


def _spanning(images: Any) -> Any:
    """Images [N,...] of bytes, and the first one again with a black pixel and a white one.

    Then a byte is its own number in 8 bits, and not a share of the brightest pixel.
    """
    one = images[:1].copy()
    one.flat[0], one.flat[-1] = 0, 255
    return np.concatenate([images, one])


def takes_images(network: keras.Model) -> bool:
    """Whether a network takes images, and not signals [L,C] or volumes [D,H,W,C]."""
    form = input_form(network)
    return form.layout is Layout.FLAT or len(form.shape) == 3


def gives_images(record: Mapping[str, Any]) -> bool:
    """Whether a network answers with images, by the facts of its data."""
    return "task" in record and task_called(record["task"]).labels is Labels.IMAGE


def seen_shape(network: keras.Model, record: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The shape of one image as a network sees it, channels last; free sides are None.

    Flat inputs that are no images stay flat.

    Raises:
        RequestError: the network has several inputs.
    """
    form = input_form(network)
    match form.layout:
        case Layout.CHANNELS_LAST:
            return form.shape
        case Layout.CHANNELS_FIRST:
            return (*form.shape[1:], form.shape[0])
        case Layout.FLAT:
            try:
                sides, channels = sides_and_channels(network, record)
            except RequestError:
                return form.shape
            return (*(sides or ()), channels)
