"""`reskeras predict`."""

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import reskeras
from reskeras.cli import options
from reskeras.cli.models import Found, find_model, load_model
from reskeras.data.unlabeled import ImageSet, open_images
from reskeras.files import check_free, replacing
from reskeras.tasks import Task, task_of_output

_BATCH = 128


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many classes to name for each image.",
)
@options.out("A new folder for masks: PNG files with the values that masks have in training.")
@options.tracking_uri
@options.as_json
def predict(
    model: str,
    images: tuple[Path, ...],
    top: int,
    out: Path | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Prints the most likely classes of each image, or the share of each class in its mask.

    MODEL is a .keras file, a folder with one (searches/NAME, trained/NAME), or the id of a run in
    MLflow, of which the first 6 digits are enough. IMAGES are image files, folders of them, or .npy
    and .npz files of images [N,H,W(,C)]. They are resized to the network's input.
    """
    sources = open_images(images)
    for line in (line for source in sources for line in source.unreadable):
        click.echo(f"warning: left out {line}", err=True)
    if out is not None:
        check_free(out, hint="give a new folder")
        _check_masks(out, sources)
    with find_model(model, tracking_uri) as found:
        network = load_model(found)
    answers = _answers(network, sources, found.data)
    head = network.output["head"] if isinstance(network.output, dict) else network.output
    task = task_of_output(head.shape)
    assert task is not None, "`_answers` refuses other networks"
    describe = functools.partial(task.describe, names=found.class_names, top=top)
    if out is None:
        described: Iterable[dict[str, Any]] = (
            {"image": name, "classes": describe(answer)} for name, answer in answers
        )
    elif not task.gives_masks:
        raise reskeras.RequestError(
            f"--out {out}: {found.called} does not segment images; it gives {task.answers}"
        )
    else:
        described = _write_masks(answers, sources, task, describe, out, _values(found))
    width = max(len(name) for source in sources for name in source.names)
    if as_json:
        click.echo(json.dumps(list(described), indent=2))
        return
    for each in described:
        mask = f"  -> {each['mask']}" if "mask" in each else ""
        click.echo(f"{each['image']:{width}}  {task.write(each['classes'])}{mask}")


def _answers(
    network: Any, sources: Sequence[ImageSet], data: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yields each image's name and class probabilities; refuses unsuitable networks at once."""
    from reskeras.models.inputs import input_form
    from reskeras.models.predictor import classifier

    shape, ask = input_form(network).image_shape(network.name), classifier(network)
    peak, resize = data.get("peak"), data.get("resize", "stretch")
    pixels = data.get("pixels", "bytes")
    batches = [source.batches(shape, _BATCH, peak, resize, pixels) for source in sources]

    def each() -> Iterator[tuple[str, Any]]:
        for source, parts in zip(sources, batches, strict=True):
            found = (one for part in parts for one in ask(part))
            yield from zip(source.names, found, strict=True)

    return each()


def _write_masks(
    answers: Iterator[tuple[str, Any]],
    sources: Sequence[ImageSet],
    task: Task,
    describe: Callable[[Any], list[dict[str, Any]]],
    out: Path,
    values: Any,
) -> list[dict[str, Any]]:
    """Writes each answer's mask to a folder, and describes it.

    `values` are what the pixels of each class become; None for its number.
    """
    import tensorflow as tf

    described = []
    places = [place for source in sources for place in source.places]
    with replacing(out) as folder:
        for place, (name, answer) in zip(places, answers, strict=True):
            file = folder / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            mask = task.mask(answer)
            mask = mask if values is None else values[mask]
            if mask.max() > 65535:
                raise reskeras.RequestError(
                    f"--out {out}: masks with the value {mask.max():,}; PNG holds up to 65,535"
                )
            small = mask.astype("uint8" if mask.max() <= 255 else "uint16")
            file.write_bytes(tf.io.encode_png(small[..., np.newaxis]).numpy())
            written = str(out / f"{place}.png")
            described.append({"image": name, "classes": describe(answer), "mask": written})
    return described


def _values(found: Found) -> Any:
    """The values that masks had in training, if they were not the numbers of the classes."""
    names = found.class_names
    if not names or not all(name.isdecimal() for name in names):
        return None
    return np.array(list(map(int, names)))


def _check_masks(out: Path, sources: Sequence[ImageSet]) -> None:
    counts = Counter(place for source in sources for place in source.places)
    place, count = counts.most_common(1)[0]
    if count > 1:
        raise reskeras.RequestError(
            f"--out {out}: {count} images would have the same mask {place}.png; use separate "
            "commands"
        )
