"""What `reskeras data` prints and draws of labels of each kind."""

from collections.abc import Sequence
from typing import Any

import click

from reskeras.cli.tables import print_columns
from reskeras.data.label_facts import (
    ClassFacts,
    LabelFacts,
    NumberFacts,
    PointFacts,
    RestoredFacts,
    SetFacts,
    SimpleScore,
)
from reskeras.drawing.sheet import Cell
from reskeras.tasks import Labels, metric_of
from reskeras.tasks.metrics import PSNR
from reskeras.words import percent

_SHOWN = 20
"""Rows of a table."""


def names_of(images: Any) -> tuple[str, ...]:
    """The names of the classes, numbers or points of `ImageData`; their numbers without names."""
    return images.class_names or tuple(map(str, range(images.classes)))


def print_table(images: Any, facts: LabelFacts) -> None:
    """Prints what labels hold, a row for each class, number or point."""
    splits, names = list(images.sizes), names_of(images)
    match facts:
        case ClassFacts() | SetFacts():
            totals = [sum(counts) for counts in zip(*facts.counts.values(), strict=True)]
            order = sorted(range(images.classes), key=lambda label: -totals[label])
            rows = [
                (names[label], *(f"{facts.counts[split][label]:,}" for split in splits))
                for label in order
            ]
            pixels = isinstance(facts, ClassFacts) and facts.mask_values is not None
            _print([("class (pixels)" if pixels else "class", *splits), *rows], "classes")
        case NumberFacts():
            rows = [
                (
                    name,
                    *(f"{facts.means[s][k]:.4g} ± {facts.deviations[s][k]:.3g}" for s in splits),
                    f"{facts.lowest['train'][k]:.4g}",
                    f"{facts.highest['train'][k]:.4g}",
                )
                for k, name in enumerate(names)
            ]
            _print([("number", *splits, "smallest", "largest"), *rows], "numbers")
        case PointFacts():
            rows = [
                (name, *(percent(facts.there[s][k]) for s in splits), *_place(facts, k))
                for k, name in enumerate(names)
            ]
            _print([("point is there", *splits, "mean x", "mean y"), *rows], "points")
        case RestoredFacts():
            each = {"mean": facts.psnr, "lowest": facts.psnr_lowest, "highest": facts.psnr_highest}
            rows = [(name, *(PSNR.write(by[s]) for s in splits)) for name, by in each.items()]
            _print([("PSNR in dB", *splits), *rows], "rows")


def _place(facts: PointFacts, point: int) -> tuple[str, str]:
    place = facts.places["train"][point]
    if place is None:
        return "-", "-"
    x, y = place
    return f"{x:.1f}", f"{y:.1f}"


def _print(rows: Sequence[Sequence[str]], what: str) -> None:
    print_columns(rows[: 1 + _SHOWN], right=range(1, len(rows[0])))
    if (more := len(rows) - 1 - _SHOWN) > 0:
        click.echo(f"and {more} more {what}; --json has all of them")


def print_balance(facts: LabelFacts) -> None:
    """Prints how labels are spread, and what the simplest answer scores."""
    match facts:
        case ClassFacts():
            masks = facts.mask_values is not None
            if facts.mask_values is not None:
                click.echo("masks      classes {} to {}".format(*facts.mask_values))
            click.echo(
                f"balance    {percent(facts.largest_share)} of the training "
                f"{'pixels' if masks else 'images'} are of the largest class, "
                f"{percent(facts.smallest_share)} of the smallest"
            )
        case SetFacts():
            counts = facts.together["train"]
            total = sum(counts)
            shares = [count / total for count in facts.counts["train"]]
            click.echo(
                f"balance    {percent(max(shares))} of the training images show the commonest "
                f"class, {percent(min(shares))} the rarest"
            )
            several = ", ".join(
                f"{number} in {percent(count / total)}"
                for number, count in enumerate(counts)
                if count
            )
            click.echo(f"together   classes of a training image: {several}")
        case RestoredFacts() if facts.baseline is None:
            click.echo("baseline   none: images and labels have other numbers of channels")
    if facts.baseline is not None:
        click.echo(f"baseline   {_told(facts.baseline)}, on val")


def _told(baseline: SimpleScore) -> str:
    metric = metric_of(baseline.metric)
    # `PSNR` stays as it is.
    label = metric.label if metric.label[:2].isupper() else metric.label.lower()
    return f"{label} {metric.write(baseline.score)} for {baseline.answer}"


def cell_of(images: Any, image: Any, label: Any) -> Cell:
    """What is drawn of an image and its label."""
    names = names_of(images)
    match images.task.labels:
        case Labels.POINTS:
            return Cell(image=image, points=label)
        case Labels.MASK:
            return Cell(image=image, mask=label)
        case Labels.IMAGE:
            return Cell(image=image, beside=label)
        case _:
            return Cell(image=image, title=images.task.label_in_words(label, names))
