"""`reskeras presets`, without TensorFlow."""

import dataclasses
import fnmatch
import json

import click

import reskeras
from reskeras.cli import options
from reskeras.cli.tables import print_columns
from reskeras.spec.presets import source
from reskeras.spec.recipes import training_recipe, training_recipes
from reskeras.spec.text import to_document
from reskeras.words import compact


@click.command()
@click.argument("pattern", default="*")
@click.option(
    "--recipes", is_flag=True, help="List training recipes instead: how the papers trained."
)
@options.as_json
def presets(pattern: str, recipes: bool, as_json: bool) -> None:
    """PATTERN, such as 'resnet*', selects by name. Each has its cost and its source.

    Parameters are the trainable ones, as papers count them. MACs are the multiply-adds of
    convolutions and dense layers for one image of the preset's size.
    """
    if recipes:
        _list_recipes(pattern, as_json)
        return
    names = reskeras.presets(pattern)
    if not names:
        raise reskeras.RequestError(
            f"no preset matches {pattern!r}; `reskeras presets` lists all of them"
        )
    costs = {name: reskeras.cost(name) for name in names}
    if as_json:
        document = {
            name: dataclasses.asdict(cost) | {"source": source(name)}
            for name, cost in costs.items()
        }
        click.echo(json.dumps(document, indent=2))
        return
    rows = [
        (name, f"{cost.trainable_params:,}", compact(cost.macs), _sides(name), source(name))
        for name, cost in costs.items()
    ]
    print_columns([("name", "parameters", "MACs", "image", "source"), *rows], right=(1, 2))


def _list_recipes(pattern: str, as_json: bool) -> None:
    sources = {
        name: about
        for name, about in training_recipes().items()
        if fnmatch.fnmatchcase(name, pattern)
    }
    if not sources:
        raise reskeras.RequestError(
            f"no training recipe matches {pattern!r}; `reskeras presets --recipes` lists all of "
            "them"
        )
    if as_json:
        document = {
            name: to_document(training_recipe(name)) | {"source": about}
            for name, about in sources.items()
        }
        click.echo(json.dumps(document, indent=2))
        return
    rows = []
    for name, about in sources.items():
        how = training_recipe(name)
        row = (how.optimizer, f"{how.learning_rate:g}", how.schedule, f"{how.batch_size}")
        rows.append((name, *row, f"{how.epochs}", about))
    heads = ("name", "optimizer", "rate", "schedule", "batch", "epochs", "source")
    print_columns([heads, *rows], right=(2, 4, 5))


def _sides(name: str) -> str:
    return "x".join(map(str, reskeras.preset(name).input_shape))
