"""`reskeras plot`: a network as a picture, without TensorFlow."""

from pathlib import Path

import click

import reskeras
from reskeras.cli.specs import is_file
from reskeras.drawing.plot import plot as draw
from reskeras.spec.text import load_recipe


@click.command()
@click.argument("network")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="An .svg or .png file. [default: the network's name with .svg]",
)
def plot(network: str, output: str | None) -> None:
    """Draw NETWORK, a preset's name or a spec file, as a paper would, and print the picture's path.

    Stages are boxes as tall as their resolution and as deep as their width is large; arcs are shortcuts; one block is shown layer
    by layer.
    """
    if is_file(network):
        spec, name = load_recipe(network).model, Path(network).stem
    else:
        spec, name = reskeras.preset(network), network
    click.echo(draw(spec, output or f"{name}.svg"))
