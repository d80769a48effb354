"""Options that several commands share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reskeras.data.options import Cache, DataOptions, Fold

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
tracking_uri = click.option(
    "--tracking-uri",
    metavar="URI",
    show_default="$MLFLOW_TRACKING_URI, or sqlite:///mlflow.db",
    help="The MLflow store.",
)


def data(default: str | None = None, show_default: bool | str = True) -> _Decorator:
    """`--data`: what to train on."""
    return click.option(
        "--data",
        default=default,
        show_default=show_default,
        help="The data: digits, a TFDS name, a folder with a subfolder of images per class or with "
        "images/ and masks/, a CSV of paths and labels, or an .npz file.",
    )


_HOW = (
    click.option(
        "--ignore",
        type=int,
        metavar="VALUE",
        help="The value of pixels of masks that have no class, such as 255: they do not count.",
    ),
    click.option(
        "--cache",
        type=click.Choice([cache.value for cache in Cache]),
        default=Cache.AUTO.value,
        show_default=True,
        help="Where decoded images stay between epochs.",
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
"""Options that say how data are read."""


def how(command: Callable[..., Any]) -> Callable[..., Any]:
    """How `--data` is read; the command gets `how`, a `DataOptions`."""

    @functools.wraps(command)
    def called(
        *,
        ignore: int | None,
        cache: str,
        strict: bool,
        fold: str | None,
        splits: str | None,
        features: str | None,
        data_dir: str | None,
        **rest: Any,
    ) -> Any:
        how = DataOptions(
            ignore=ignore,
            cache=Cache(cache),
            strict=strict,
            fold=None if fold is None else Fold.parse(fold),
            splits=splits,
            features=features,
            data_dir=data_dir,
        )
        return command(how=how, **rest)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_HOW), called)


def out(text: str, show_default: bool | str = False) -> _Decorator:
    """`--out`: where a command writes."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        show_default=show_default,
        help=text,
    )
