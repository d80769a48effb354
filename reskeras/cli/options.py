"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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


def out(text: str, show_default: bool | str = False) -> _Decorator:
    """`--out`: where a command writes."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        show_default=show_default,
        help=text,
    )
