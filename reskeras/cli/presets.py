"""`reskeras presets`, without TensorFlow."""

import dataclasses
import json

import click

import reskeras
from reskeras.cli import options
from reskeras.cli.tables import print_columns
from reskeras.spec.presets import source
from reskeras.words import compact


@click.command()
@click.argument("pattern", default="*")
@options.as_json
def presets(pattern: str, as_json: bool) -> None:
    """PATTERN, such as 'resnet*', selects by name. Each has its cost and its source.

    Parameters are the trainable ones, as papers count them. MACs are the multiply-adds of
    convolutions and dense layers for one image of the preset's size.
    """
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


def _sides(name: str) -> str:
    return "x".join(map(str, reskeras.preset(name).input_shape))
