"""`reskeras export`."""

import enum
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click

import reskeras
from reskeras.cli import options
from reskeras.cli.loading import quiet_tensorflow
from reskeras.cli.models import Found, find_model, load_model
from reskeras.errors import in_a_line
from reskeras.files import check_free, replacing
from reskeras.words import in_bytes


class FileFormat(enum.Enum):
    """The format of a file, by the ending of its name."""

    KERAS = ".keras"
    ONNX = ".onnx"
    WEIGHTS = ".weights.h5"
    TFLITE = ".tflite"
    SAVED_MODEL = ""


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--fold",
    is_flag=True,
    help="Fold batch norms into the layers next to them: faster, but not for further training.",
)
@click.option(
    "--bare",
    is_flag=True,
    help="Write the network alone: it takes float32 images of its own size, in 0..1.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@options.tracking_uri
def export(
    model: str, out: Path, fold: bool, bare: bool, force: bool, tracking_uri: str | None
) -> None:
    """OUT ends in .keras, .onnx, .tflite, or .weights.h5; without an ending it is a SavedModel.

    ONNX, TFLite and SavedModel take raw images of any size, uint8 [N,h,w,C], and answer as
    `predict` does; after training on other numbers than bytes, float32. .keras and .weights.h5 hold
    the network alone, for more training.

    MODEL is a .keras file, a folder with one (searches/NAME, trained/NAME), or the id of a run in
    MLflow, of which the first 6 digits are enough.
    """
    form = _format(out)
    if fold and form is FileFormat.WEIGHTS:
        raise reskeras.RequestError(
            "--fold changes the weights, so the spec's network cannot load them; write a .keras "
            "file"
        )
    check_free(out, force=force, mark="saved_model.pb" if form is FileFormat.SAVED_MODEL else None)
    with find_model(model, tracking_uri) as found:
        network = load_model(found)
        if fold:
            network = _folded(network)
        if not bare and form not in (FileFormat.KERAS, FileFormat.WEIGHTS):
            network = _raw(network, found)
        with replacing(out) as partial:
            _write(network, found, form, partial, fold)
    ins, outs = (", ".join(map(_shape, tensors)) for tensors in (network.inputs, network.outputs))
    click.echo(f"saved: {out}, {_size(out)}, input {ins}, output {outs}")


def _format(out: Path) -> FileFormat:
    form = next((form for form in FileFormat if form.value and out.name.endswith(form.value)), None)
    if form is None and out.suffix:
        known = ", ".join(form.value for form in FileFormat if form.value)
        raise reskeras.RequestError(
            f"{out}: give a name that ends in {known}, or one without an ending for a SavedModel"
        )
    return form or FileFormat.SAVED_MODEL


def _folded(network: Any) -> Any:
    from reskeras.models.folding import fold_batch_norm

    try:
        return fold_batch_norm(network)
    except TypeError as error:
        raise reskeras.RequestError(str(error)) from error


def _raw(network: Any, found: Found) -> Any:
    """The network with what happens to its images before it."""
    from reskeras.models.preprocessing import preprocessed

    try:
        return preprocessed(network, found.data)
    except reskeras.RequestError as error:
        raise reskeras.RequestError(f"{error}; --bare exports the network alone") from error


def _write(network: Any, found: Found, form: FileFormat, path: Path, fold: bool) -> None:
    match form:
        case FileFormat.KERAS if not fold:
            shutil.copyfile(found.path, path)  # with its optimizer
        case FileFormat.KERAS:
            network.save(path)
        case FileFormat.WEIGHTS:
            network.save_weights(path)
        case FileFormat.SAVED_MODEL:
            network.export(path, format="tf_saved_model", verbose=False)
        case FileFormat.ONNX:
            from reskeras.models.onnx import export_onnx

            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # Keras, of NumPy
                    export_onnx(network, path)
            except ImportError as error:
                raise reskeras.RequestError(str(error)) from error
            except ValueError as error:
                raise RuntimeError(in_a_line(error)) from error
        case FileFormat.TFLITE:
            import tensorflow as tf

            with tempfile.TemporaryDirectory() as folder, quiet_tensorflow():
                # `from_keras_model` prints to standard output.
                network.export(folder, format="tf_saved_model", verbose=False)
                path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _shape(tensor: Any) -> str:
    return f"[N, {', '.join(str(size or '?') for size in tensor.shape[1:])}] {tensor.dtype}"


def _size(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    return in_bytes(size)
