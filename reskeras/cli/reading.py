"""The options that say how data are read."""

import functools
from collections.abc import Callable
from typing import Any

import click

from reskeras.data.options import Cache, DataOptions, Fold

_HOW = (
    click.option(
        "--ignore",
        type=int,
        metavar="VALUE",
        help="The value of pixels of masks that have no class, such as 255: they do not count.",
    ),
    click.option(
        "--task",
        metavar="NAME",
        show_default="from the labels",
        help="What to train for, where the labels could mean several tasks: numbers, not classes.",
    ),
    click.option(
        "--labels",
        metavar="COLUMN,...",
        show_default="found by their names",
        help="The columns of a CSV that hold labels: one; or several of 0 and 1, of numbers, or of "
        "points (NAME_x, NAME_y).",
    ),
    click.option("--strict", is_flag=True, help="Refuse data with an unreadable image file."),
    click.option(
        "--fold",
        metavar="I/K",
        help="Deal the images of train and val into K folds; validate on fold I, train on others.",
    ),
    click.option(
        "--splits",
        metavar="OURS=THEIRS,...",
        help="The splits of a TFDS data set, as TFDS writes them: "
        "train=train[:80%],val=train[80%:],test=validation.",
    ),
    click.option(
        "--features",
        metavar="image=NAME,label=NAME",
        help="The features of a TFDS data set that are the image and its label or mask, such as "
        "label=attributes/Smiling.",
    ),
    click.option(
        "--data-dir",
        metavar="DIR",
        show_default="$TFDS_DATA_DIR, or ~/tensorflow_datasets",
        help="The folder of TFDS data sets.",
    ),
)


def how(command: Callable[..., Any]) -> Callable[..., Any]:
    """How `--data` is read; the command gets `how`, a `DataOptions`."""

    @functools.wraps(command)
    def called(
        *,
        ignore: int | None,
        task: str | None,
        labels: str | None,
        strict: bool,
        fold: str | None,
        splits: str | None,
        features: str | None,
        data_dir: str | None,
        **rest: Any,
    ) -> Any:
        how = DataOptions(
            ignore=ignore,
            task=task,
            labels=labels,
            strict=strict,
            fold=None if fold is None else Fold.parse(fold),
            splits=splits,
            features=features,
            data_dir=data_dir,
        )
        return command(how=how, **rest)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_HOW), called)


def cache(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cache`; the command gets a `Cache`."""
    return click.option(
        "--cache",
        type=click.Choice([cache.value for cache in Cache]),
        default=Cache.AUTO.value,
        show_default=True,
        callback=lambda _, __, value: Cache(value),
        help="Where decoded images stay between epochs.",
    )(command)
