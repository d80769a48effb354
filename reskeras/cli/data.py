"""`reskeras data`."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.labels import cell_of, print_balance, print_table
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.tables import print_columns, tell_data
from reskeras.cli.values import AUGMENTATION
from reskeras.data.embedded import ABOUT
from reskeras.data.options import DataOptions
from reskeras.drawing.plot import check_picture, save
from reskeras.errors import RequestError
from reskeras.spec import Augmentation
from reskeras.spec.text import write_augmentation
from reskeras.words import compact, duration

_SHOWN = 20
"""Groups of copies."""
_NAMED = 6
"""Images of a group that are named."""
_EXAMPLES = 24
"""Images in each block of the picture."""
_MEASURED_SECONDS = 3.0
"""How long the steps of training are measured."""


@click.command()
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=options.file_path,
    metavar="FILE",
    help="Also draw a sheet of random training images with their labels, as they are and augmented:"
    " an .svg or .png file.",
)
@click.option(
    "--augment",
    type=AUGMENTATION,
    default="shift",
    show_default=True,
    help="How the sheet's second block is augmented: what train.augment takes, such as shift_flip "
    "or {rotate: 15, elastic: 0.02}; none leaves it out.",
)
@click.option("--no-time", is_flag=True, help="Do not measure how long an epoch of training takes.")
@reading.how
@options.as_json
def data(
    name: str | None,
    output: Path | None,
    augment: Augmentation,
    no_time: bool,
    how: DataOptions,
    as_json: bool,
) -> None:
    """NAME is what --data takes; without it, the embedded data sets are listed.

    Every image is read once. This prints what labels hold, the range of pixels, images that are
    there twice or nearly so, what the same answer to all images scores, and how long an epoch
    takes: a few steps of the default network are measured.
    """
    if name is None:
        if as_json:
            click.echo(json.dumps(ABOUT, indent=2))
        else:
            print_columns(list(ABOUT.items()), right=())
        return
    if output is not None:
        check_picture(output)
    console = Console(stderr=True, markup=False)
    from reskeras.data import load

    with quiet_tensorflow():
        images = load(name, options=how)
        from reskeras.data.survey import survey

        found = survey(images)
        times = {"read_per_second": found.read_per_second} if no_time else _times(images, found)
    if output is not None:
        _draw(images, output, augment)
    if as_json:
        about = {
            "name": images.name,
            "task": images.task.name,
            "image_shape": images.image_shape,
            "class_names": images.class_names,
            "sizes": images.sizes,
            "peak": images.peak,
            "resize": images.resize,
            "notes": images.notes,
            "files": None if images.files is None else dataclasses.asdict(images.files),
        }
        rest = dataclasses.asdict(found)
        del rest["read_per_second"]
        rest |= rest.pop("labels")
        click.echo(json.dumps(about | rest | {"time": times}, indent=2))
        return
    tell_data(images, console)
    _print(images, found)
    _print_times(images, times)
    if output is not None:
        click.echo(f"saved: {output}")


def _times(images: Any, found: Any) -> dict[str, Any]:
    """Measures the training of the task's default network."""
    times: dict[str, Any] = {"read_per_second": found.read_per_second}
    try:
        recipe, _ = images.task.default_space(images.facts)
    except RequestError as error:
        return times | {"not_measured": str(error)}
    load_keras()
    from reskeras.training.train import Training, build_seeded

    training = Training(build_seeded(recipe), images, recipe.train)
    rate = training.images_per_second(_MEASURED_SECONDS)
    return times | {
        "network": recipe.spec.name,
        "parameters": reskeras.cost(recipe.spec).trainable_params,
        "batch_size": recipe.train.batch_size,
        "trained_per_second": rate,
        "epoch_seconds": images.sizes["train"] / rate,
    }


def _print(images: Any, found: Any) -> None:
    print_table(images, found.labels)
    channels = ", ".join(
        f"{mean:.3f} ± {deviation:.3f}"
        for mean, deviation in zip(found.mean, found.deviation, strict=True)
    )
    each = "mean of each channel" if len(found.mean) > 1 else "mean"
    click.echo(f"\nvalues     {found.low:.3g} to {found.high:.3g}, {each} {channels}")
    print_balance(found.labels)
    if images.files is not None:
        sizes = ["x".join(map(str, size)) for size in images.files.sizes]
        one = f"all {sizes[0]} (height x width)"
        many = "smallest {}, median {}, largest {} (height x width)".format(*sizes)
        click.echo(f"files      {many if images.files.different > 1 else one}")
        if images.files.unreadable:
            count = len(images.files.unreadable)
            click.echo(f"           {count:,} unreadable; --json names all of them")
    if found.copies is not None:
        leaks = found.leaks
        _print_groups("copies", "sets of equal images", found.copies, leaks, "in training, too")
    if found.near is not None:
        _print_groups(
            "alike",
            "sets of nearly equal images",
            found.near,
            found.near_leaks,
            "nearly equal to one in training",
        )


def _print_groups(
    word: str, what: str, groups: Sequence[Sequence[str]], leaks: int, where: str
) -> None:
    click.echo(f"{word:<11}{f'{what}: {len(groups):,}' if groups else 'none'}")
    sign = " = " if word == "copies" else " ≈ "
    for group in groups[:_SHOWN]:
        more = f" and {len(group) - _NAMED:,} more" if len(group) > _NAMED else ""
        click.echo(f"           {sign.join(group[:_NAMED])}{more}")
    if len(groups) > _SHOWN:
        click.echo(f"           and {len(groups) - _SHOWN:,} more sets; --json names all of them")
    if leaks:
        click.echo(
            f"leaks      images of the validation and test splits that are {where}: {leaks:,}; "
            "scores will be too high"
        )


def _print_times(images: Any, times: dict[str, Any]) -> None:
    from reskeras.data.store import stays_in_memory

    total = sum(images.sizes.values())
    stay = "; they stay in memory after that" if stays_in_memory(images) else ""
    rate = compact(times["read_per_second"])
    click.echo(f"reading    {rate} images/s, measured over all {total:,}{stay}")
    if "not_measured" in times:
        click.echo(f"training   not measured: {times['not_measured']}")
    elif "network" in times:
        seconds = times["epoch_seconds"]
        epoch = f"{seconds:.1f} s" if seconds < 10 else duration(math.ceil(seconds))
        click.echo(
            f"training   {epoch} for an epoch without validation, at "
            f"{compact(times['trained_per_second'])} images/s: measured in a few steps of tune's "
            f"default network ({times['network']}, {compact(times['parameters'])} parameters, "
            f"batches of {times['batch_size']})"
            + ("" if stays_in_memory(images) else ", which read the files; decoded ones are faster")
        )


def _draw(images: Any, output: Path, augment: Augmentation) -> None:
    from reskeras.data.survey import examples
    from reskeras.drawing.sheet import sheet

    side = "x".join(map(str, images.image_shape))
    blocks = {f"{images.name}, as the network sees it ({side})": examples(images, _EXAMPLES)}
    if augment.changes_images:
        blocks[f"the same with train.augment: {write_augmentation(augment)}"] = examples(
            images, _EXAMPLES, augment
        )
    cells = {
        title: [cell_of(images, image, label) for image, label in block]
        for title, block in blocks.items()
    }
    save(output, lambda: sheet(cells, images.class_names))
