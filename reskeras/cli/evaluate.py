"""`reskeras evaluate`."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import reskeras
from reskeras.cli import options, reading
from reskeras.cli.loading import quiet_tensorflow
from reskeras.cli.models import Found, find_model, load_model
from reskeras.cli.tables import print_columns
from reskeras.data.options import DataOptions
from reskeras.files import check_free
from reskeras.words import compact

_MOST_CLASSES, _MOST_CONFUSED = 40, 12
"""Classes whose scores, and whose confusion, a terminal shows."""
_BATCH = 256


@click.command()
@click.argument("model")
@click.argument("other", required=False)
@options.data(show_default="the data that MODEL was trained on")
@click.option("--split", default="test", show_default=True, help="Which images: train, val, test.")
@reading.how
@options.out("A new folder for metrics.json, per_class.csv and pictures.")
@options.tracking_uri
@options.as_json
def evaluate(
    model: str,
    other: str | None,
    data: str | None,
    split: str,
    how: DataOptions,
    out: Path | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """All metrics with 95 % intervals, scores of each class, and what trivial baselines reach.

    MODEL is a .keras file, a folder with one (searches/NAME, trained/NAME), or the id of a run in
    MLflow, of which the first 6 digits are enough. With OTHER, the two networks are compared on the
    same images, instead of with baselines.
    """
    if out is not None:
        check_free(out, hint="give a new folder")
    console = Console(stderr=True, markup=False)
    first = _opened(model, data, how, split, tracking_uri)
    second = None
    if other is not None:
        # The data of the first network, which the second may not have been trained on.
        source, options_ = first.source
        second = _opened(other, source, options_, split, tracking_uri, first.data)
    from reskeras.evaluation.evaluate import evaluate as evaluated
    from reskeras.evaluation.evaluate import scored
    from reskeras.evaluation.files import write

    asks = [each.ask for each in (first, second) if each is not None]
    with _progress(console, scored(first.data, *asks).sizes[split]) as advance:
        evaluation = evaluated(
            first.ask,
            first.data,
            split,
            name=model,
            batch=first.batch if second is None else min(first.batch, second.batch),
            class_names=first.class_names,
            against=None if second is None or other is None else (other, second.ask),
            advance=advance,
        )
    if out is not None:
        write(evaluation, first.ask, out)
    if as_json:
        click.echo(json.dumps(evaluation.document(), indent=2))
        return
    _print(evaluation)
    if out is not None:
        click.echo(f"\nsaved: {out}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Opened:
    """A network and the data that it is evaluated on."""

    ask: Any
    """An `Answerer`."""
    data: Any
    source: tuple[str, DataOptions]
    """What opens the data."""
    batch: int
    class_names: tuple[str, ...]


def _opened(
    word: str,
    data: str | None,
    how: DataOptions,
    split: str,
    tracking_uri: str | None,
    opened: Any = None,
) -> _Opened:
    """Finds a network and opens its data, or those that are given.

    Raises:
        RequestError: there is no such network, or the data are not what it was trained for.
    """
    with find_model(word, tracking_uri) as found:
        source = _source(found, data)
        network = load_model(found)
    from reskeras.data import load
    from reskeras.evaluation.fitting import check
    from reskeras.models.predictor import answerer
    from reskeras.models.recalibration import images_per_pass

    batch = min(_BATCH, images_per_pass(network, 1))
    ask = answerer(network, found.data, batch)
    how = _options(found.data, source, how, ask.task.name)
    images = opened
    if images is None:
        shape = ask.image_shape
        with quiet_tensorflow():
            images = load(source, None if None in shape else shape, how)
    elif (resize := found.data.get("resize", images.resize)) != images.resize:
        raise reskeras.RequestError(
            f"{word} was trained with resize: {resize}, and the images are prepared for the other "
            f"network, with {images.resize}: evaluate them one by one"
        )
    check(ask, found.data, images, split, word)
    names = images.class_names or found.class_names
    return _Opened(ask=ask, data=images, source=(source, how), batch=batch, class_names=names)


def _source(found: Found, data: str | None) -> str:
    if data is not None:
        return data
    if not found.data.get("source"):
        known = "were arrays in memory" if found.data else "are not known"
        raise reskeras.RequestError(
            f"the data that {found.called} was trained on {known}; pass data with --data"
        )
    return str(found.data["source"])


def _options(record: Mapping[str, Any], source: str, how: DataOptions, task: str) -> DataOptions:
    """How data are read: as the network's own, if they are the same; and as its images were."""
    if source == record.get("source"):
        how = how.over(record.get("options", {}))
    return dataclasses.replace(
        how,
        task=how.task or task,
        resize=record.get("resize", how.resize),
        spacing=tuple(record.get("spacing", ())) or None,
    )


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    columns = TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        shown = progress.add_task("", total=total)
        yield lambda count: progress.advance(shown, count)


def _print(found: Any) -> None:
    """Prints an evaluation for people."""
    click.echo(f"{found.name} on {found.data}, {found.split} split: {found.seen}\n")
    rivals = [rival.name for rival in found.rivals]
    one = len(rivals) == 1
    rows = [["metric", "value", "95 % interval", *rivals, *(["difference"] if one else [])]]
    for metric, own in found.scores.items():
        others = [
            metric.write(rival.scores[metric].value) if metric in rival.scores else "-"
            for rival in found.rivals
        ]
        interval = metric.write_interval(own.low, own.high)
        rows.append([metric.label, metric.write(own.value), interval, *others])
        if one:
            less = found.rivals[0].less.get(metric)
            sure = less is not None and less.is_sure
            rows[-1].append(metric.write_gain(less.low, less.high) if sure else "-")
    print_columns(rows, right=range(1, len(rows[0])))
    if not found.has_intervals:
        click.echo(f"-: {found.seen} are too few to tell")
    if found.rivals:
        click.echo()
    for rival in found.rivals:
        metric = next(iter(rival.less))
        click.echo(found.verdict(metric, rival))
    if found.by_class:
        _print_classes(found)
    if found.confusion is not None and len(found.confusion) <= _MOST_CONFUSED:
        names = [found.class_name(each) for each in range(len(found.confusion))]
        click.echo("\nconfusion: labels in rows, answers in columns")
        rows = [["", *(name[:12] for name in names)]]
        for name, counts in zip(names, found.confusion, strict=True):
            rows.append([name, *(compact(count) if count else "." for count in counts)])
        print_columns(rows, right=range(1, len(names) + 1))


def _print_classes(found: Any) -> None:
    columns = found.by_class
    count = len(next(iter(columns.values())))
    rows = [["", *(metric.label for metric in columns)]]
    for number in range(min(count, _MOST_CLASSES)):
        cells = [
            metric.write(None if math.isnan(values[number]) else float(values[number]))
            for metric, values in columns.items()
        ]
        rows.append([found.class_name(number), *cells])
    click.echo()
    print_columns(rows, right=range(1, len(rows[0])))
    if count > _MOST_CLASSES:
        click.echo(f"and {count - _MOST_CLASSES:,} more; --json and --out have all of them")
