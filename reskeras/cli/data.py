"""`reskeras data`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from reskeras.cli import options
from reskeras.cli.loading import quiet_tensorflow
from reskeras.cli.tables import print_columns, tell_data
from reskeras.data.embedded import EMBEDDED
from reskeras.data.options import DataOptions
from reskeras.drawing.plot import check_picture, save
from reskeras.words import percent

_SHOWN = 20
"""Classes in the table, and groups of copies below it."""
_EXAMPLES = 40
"""Images in the picture."""


@click.command()
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also draw a sheet of random training images with their labels: an .svg or .png file.",
)
@options.how
@options.as_json
def data(name: str | None, output: Path | None, how: DataOptions, as_json: bool) -> None:
    """NAME is what --data takes; without it, the embedded data sets are listed.

    Every image is read once. This prints the classes and their balance, the range of pixels, images
    that are there twice, and the accuracy of always giving the same answer.
    """
    if name is None:
        click.echo("\n".join(EMBEDDED))
        return
    if output is not None:
        check_picture(output)
    console = Console(stderr=True, markup=False)
    from reskeras.data import load

    with quiet_tensorflow():
        images = load(name, options=how)
        from reskeras.data.survey import survey

        found = survey(images)
    if output is not None:
        _draw(images, output)
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
        }
        click.echo(json.dumps(about | dataclasses.asdict(found), indent=2))
        return
    tell_data(images, console)
    _print(images, found)
    if output is not None:
        click.echo(f"saved: {output}")


def _print(images: Any, found: Any) -> None:
    splits = list(images.sizes)
    names = images.class_names or tuple(map(str, range(images.classes)))
    totals = [sum(counts) for counts in zip(*found.counts.values(), strict=True)]
    order = sorted(range(images.classes), key=lambda label: -totals[label])
    rows = [
        (names[label], *(f"{found.counts[split][label]:,}" for split in splits))
        for label in order[:_SHOWN]
    ]
    what = "class (pixels)" if images.task.label_follows_image else "class"
    print_columns([(what, *splits), *rows], right=range(1, 1 + len(splits)))
    if len(order) > _SHOWN:
        click.echo(f"and {len(order) - _SHOWN} more classes")
    channels = ", ".join(
        f"{mean:.3f} ± {deviation:.3f}"
        for mean, deviation in zip(found.mean, found.deviation, strict=True)
    )
    each = "mean of each channel" if len(found.mean) > 1 else "mean"
    click.echo(f"\nvalues     {found.low:.3g} to {found.high:.3g}, {each} {channels}")
    click.echo(f"baseline   {percent(found.baseline)} accuracy for always the commonest class")
    copies = f"sets of equal images: {len(found.copies):,}" if found.copies else "none"
    click.echo(f"copies     {copies}")
    for group in found.copies[:_SHOWN]:
        click.echo(f"           {' = '.join(group)}")
    if found.leaks:
        click.echo(
            f"leaks      images of the validation and test splits that are in training, too: "
            f"{found.leaks:,}; scores will be too high"
        )


def _draw(images: Any, output: Path) -> None:
    from reskeras.data.survey import examples
    from reskeras.drawing.sheet import sheet

    chosen = examples(images, _EXAMPLES)
    save(
        output,
        lambda: sheet(
            [image for image, _ in chosen], [label for _, label in chosen], images.class_names
        ),
    )
