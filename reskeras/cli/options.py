"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reskeras.errors import RequestError
from reskeras.spec.recipes import training_recipes

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _FilePath(click.Path):
    """A path; an empty one, as an unset variable of the shell gives, is no current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and param is not None:
            is_option = isinstance(param, click.Option)
            name = param.opts[0] if is_option else param.human_readable_name.strip("[]")
            raise RequestError(f"{name}: is empty; give a path")
        return super().convert(value, param, ctx)


file_path = _FilePath(path_type=Path)
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
        type=file_path,
        metavar="FOLDER",
        show_default=show_default,
        help=text,
    )


def recipe(text: str) -> _Decorator:
    """`--recipe`: a training recipe's name; the command gets it as `by`."""
    names = click.Choice(list(training_recipes()))
    return click.option("--recipe", "by", type=names, metavar="NAME", help=text)
