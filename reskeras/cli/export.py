"""`reskeras export`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

import reskeras
from reskeras.cli import options
from reskeras.cli.loading import quiet_tensorflow
from reskeras.cli.models import Found, find_model, load_model
from reskeras.cli.samples import Samples, samples
from reskeras.files import check_free, replacing
from reskeras.models.export_forms import FileFormat, Precision, Target, targets
from reskeras.words import in_bytes, percent, printable

if TYPE_CHECKING:
    from reskeras.models.export import Exporter
    from reskeras.models.export_check import Check


@click.command()
@click.argument("model")
@click.argument("out", nargs=-1, required=True, type=options.file_path)
@click.option(
    "--precision",
    type=click.Choice([each.value for each in Precision]),
    callback=lambda _, __, value: value and Precision(value),
    help="The numbers in .tflite and .onnx files whose names say none: float32, float16, or, in "
    ".tflite, int8. A name says it like net.int8.tflite.",
)
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
@options.data(show_default="the data of the network")
@click.option("--force", is_flag=True, help="Replace existing files.")
@options.tracking_uri
@options.as_json
def export(
    model: str,
    out: tuple[Path, ...],
    precision: Precision | None,
    fold: bool,
    bare: bool,
    data: str | None,
    force: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """OUT ends in .keras, .onnx, .tflite, or .weights.h5; without an ending it is a SavedModel.

    Each file is run on images of --data and compared with the Keras model.

    ONNX, TFLite and SavedModel take raw images of any size, uint8 [N,h,w,C], and answer as
    `predict` does; after training on other numbers than bytes, float32. In int8, TFLite takes
    images of the network's own size. .keras and .weights.h5 hold the network alone, for more
    training.

    MODEL is a .keras file, a folder with one (searches/NAME, trained/NAME), or the id of a run in
    MLflow, of which the first 6 digits are enough.
    """
    asked = targets(out, precision)
    for target in asked:
        if fold and target.form is FileFormat.WEIGHTS:
            raise reskeras.RequestError(
                "--fold changes the weights, so the spec's network cannot load them; write a "
                ".keras file"
            )
        mark = "saved_model.pb" if target.form is FileFormat.SAVED_MODEL else None
        check_free(target.path, force=force, mark=mark)
    with find_model(model, tracking_uri) as found:
        network = load_model(found)
        from reskeras.models.export import Exporter, seen_shape

        original = exporter = Exporter(
            network=network, record=found.data, bare=bare, source=found.path
        )
        if fold:
            exporter = dataclasses.replace(original, network=_folded(network), source=None)
        for target in asked:
            exporter.check(target)
        with quiet_tensorflow():
            images = samples(found, data, seen_shape(network, found.data))
        _check_images(asked, images)
        written, faults = _write(exporter, original, asked, images)
        keras = _asked(exporter, images, found)
    if as_json:
        click.echo(json.dumps(_document([keras, *written], images), indent=2))
    elif written:
        _tell([keras, *written], images)
    if faults:
        raise RuntimeError("\n".join(faults))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    """A file and what is told of it."""

    path: Path
    title: str
    """Its format and precision."""
    bytes: int
    milliseconds: float
    target: Target | None = None
    """None for the network as it was found."""
    check: "Check | None" = None
    takes: str = ""
    """The form of its input."""
    gives: str = ""
    """The form of its outputs."""


def _check_images(asked: Sequence[Target], images: Samples) -> None:
    """Says that images are not real, or refuses to do without."""
    if not images.missing:
        return
    for target in asked:
        if target.precision is Precision.INT8:
            raise reskeras.RequestError(
                f"{target.path}: int8 needs real images, to see the range of the values inside the "
                f"network; give --data ({images.missing})"
            )
    Console(stderr=True, markup=False).print(
        f"note: random images check the files: {images.missing}; --data gives real ones",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )


def _write(
    exporter: "Exporter", original: "Exporter", asked: Sequence[Target], images: Samples
) -> tuple[list[_Row], list[str]]:
    """Writes the files, and says of those that cannot be written why.

    Files are compared with `original`, whose network is as it was found.
    """
    from reskeras.models.export_check import asks_keras

    rows, faults, references = [], [], {}
    for target in asked:
        try:
            served = exporter.served(target)
            form = _shape(served.inputs[0])
            with quiet_tensorflow():
                if form not in references:
                    ask = asks_keras(original.served(target))
                    references[form] = _Reference.of(exporter, served, ask, images)
                rows.append(_written(exporter, target, references[form]))
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise
            faults.append(f"{target.path}: {error}")
    return rows, faults


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reference:
    """What Keras says of some images, in one form of input."""

    served: Any
    """The Keras model that takes them."""
    images: list[Any]
    training: Any
    """Images for calibration; None without data."""
    wanted: list[list[Any]]
    """For each array of images, the outputs."""

    @classmethod
    def of(cls, exporter: "Exporter", served: Any, ask: Any, samples: Samples) -> "_Reference":
        from reskeras.models.export_check import in_batches

        images = exporter.inputs(served, samples.images)
        training = samples.training
        return cls(
            served=served,
            images=images,
            training=None if training is None else exporter.inputs(served, training)[0],
            wanted=[in_batches(ask, each) for each in images],
        )


def _written(exporter: "Exporter", target: Target, reference: _Reference) -> _Row:
    """Writes a file that does what the network does."""
    from reskeras.models.export_check import asks_file, compare, fault, is_half

    served, network = reference.served, exporter.network
    with replacing(target.path) as partial:
        exporter.write(target, partial, reference.training)
        ask = asks_file(partial, target.form, served)
        check = compare(ask, reference.wanted, reference.images, network, exporter.record)
        why = fault(check, target.precision, is_half=is_half(network))
        if why is not None:
            raise RuntimeError(f"not written: {why}")
    return _Row(
        path=target.path,
        title=target.title,
        bytes=_size(target.path),
        milliseconds=check.milliseconds,
        target=target,
        check=check,
        takes=", ".join(map(_shape, served.inputs)),
        gives=", ".join(map(_shape, served.outputs)),
    )


def _asked(exporter: "Exporter", images: Samples, found: Found) -> _Row:
    """The network as it was found."""
    from reskeras.models.export_check import asks_keras, milliseconds

    (given, *_) = exporter.inputs(exporter.network, images.images[:1])
    return _Row(
        path=found.path,
        title="the network in Keras",
        bytes=_size(found.path),
        milliseconds=milliseconds(asks_keras(exporter.network), given),
    )


def _tell(rows: Sequence[_Row], images: Samples) -> None:
    from reskeras.models.export_check import threads

    for row in rows:
        if row.target is not None:
            click.echo(
                f"saved: {printable(row.path)}, {in_bytes(row.bytes)}, input {row.takes}, output "
                f"{row.gives}"
            )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for head in ("size", "ms per image", "largest difference", "same answers"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(row.title, in_bytes(row.bytes), f"{row.milliseconds:.3g}", *_compared(row))
    console = Console(markup=False, highlight=False)
    console.print()
    console.print(table)
    console.print(
        f"compared with Keras on {images.origin}; time at batch size 1 on this machine's CPU, "
        f"{threads()} threads",
        soft_wrap=True,
    )


def _compared(row: _Row) -> tuple[str, str]:
    if row.check is None:
        return "", ""
    equal = row.check.equal
    difference = f"{row.check.difference:.2g} of {row.check.largest:.3g}"
    return difference, "" if equal is None else percent(equal)


def _document(rows: Sequence[_Row], images: Samples) -> dict[str, Any]:
    from reskeras.models.export_check import threads

    keras, *written = rows
    return {
        "files": [
            {
                "path": str(row.path),
                "format": row.target.form.name.lower(),
                "precision": row.target.precision.value,
                "bytes": row.bytes,
                "input": row.takes,
                "output": row.gives,
                "milliseconds": row.milliseconds,
                "largest_difference": row.check.difference,
                "largest_answer": row.check.largest,
                "same_answers": row.check.equal,
            }
            for row in written
            if row.target is not None and row.check is not None
        ],
        "keras": {"bytes": keras.bytes, "milliseconds": keras.milliseconds},
        "images": images.origin,
        "real_images": not images.missing,
        "threads": threads(),
    }


def _folded(network: Any) -> Any:
    from reskeras.models.folding import fold_batch_norm

    try:
        return fold_batch_norm(network)
    except TypeError as error:
        raise reskeras.RequestError(str(error)) from error


def _shape(tensor: Any) -> str:
    return f"[N, {', '.join(str(size or '?') for size in tensor.shape[1:])}] {tensor.dtype}"


def _size(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
