"""`reskeras presets`, `cost` and `schema`: specs as text and numbers, without TensorFlow."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click

import reskeras
from reskeras.spec.presets import source
from reskeras.spec.text import schema as spec_schema
from reskeras.words import compact, in_bytes


@click.command()
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def presets(pattern: str, as_json: bool) -> None:
    """List the named networks whose names match PATTERN (such as 'resnet*'), with their cost and sources.

    Parameters are the trainable ones, as papers count them; MACs are the multiply-adds of convolutions and dense layers for one
    image of the preset's size.
    """
    names = reskeras.presets(pattern)
    if not names:
        raise reskeras.RequestError(f"no preset matches {pattern!r}; `reskeras presets` lists all")
    costs = {name: reskeras.cost(name) for name in names}
    if as_json:
        click.echo(
            json.dumps(
                {
                    name: dataclasses.asdict(costs[name]) | {"source": source(name)}
                    for name in names
                },
                indent=2,
            )
        )
        return
    rows = [
        (
            name,
            f"{costs[name].trainable_params:,}",
            compact(costs[name].macs),
            _sides(name),
            source(name),
        )
        for name in names
    ]
    _table(("name", "parameters", "MACs", "image", "source"), rows, right=(1, 2))


@click.command()
@click.argument("network")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def cost(network: str, as_json: bool) -> None:
    """Say what NETWORK, a preset's name or a spec file, costs: parameters, multiply-adds, memory. Nothing is built."""
    spec = reskeras.load_spec(network) if is_file(network) else reskeras.preset(network)
    found = reskeras.cost(spec)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    image = "x".join(map(str, spec.input_shape))
    rows = [
        ("parameters", f"{found.trainable_params:,}", "trainable"),
        *(
            [("", f"{found.params:,}", "with batch-norm statistics")]
            if found.params != found.trainable_params
            else []
        ),
        (
            "MACs",
            compact(found.macs),
            f"multiply-adds of convolutions and dense layers, one image {image}",
        ),
        (
            "memory",
            in_bytes(found.activation_bytes),
            "activations of one image in training, float32",
        ),
        ("", in_bytes(found.inference_bytes), "activations of one image in inference, float32"),
        ("receptive field", str(found.receptive_field), "pixels, before global pooling"),
        ("depth", str(found.depth), "convolutions and dense layers on the longest way"),
        ("layers", str(found.layers), "Keras layers"),
    ]
    _table((spec.name, "", ""), rows, right=(1,))


@click.command()
def schema() -> None:
    """Print the JSON Schema of a spec file, for completion and checks in an editor."""
    click.echo(json.dumps(spec_schema(), indent=2))


def source_line(name: str) -> str:
    """A preset's name and source; an unknown name is refused."""
    reskeras.preset(name)
    return f"{name}: {source(name)}"


def is_file(network: str) -> bool:
    """Whether a network is named by a spec file rather than as a preset."""
    return Path(network).suffix in (".yaml", ".yml", ".json")


def _sides(name: str) -> str:
    return "x".join(map(str, reskeras.preset(name).input_shape))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
