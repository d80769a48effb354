"""`reskeras plot`, without TensorFlow."""

import click

from reskeras.cli.networks import NetworkKind, recipe, resolve
from reskeras.drawing.plot import plot as draw


@click.command()
@click.argument("network")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    show_default="the network's name with .svg",
    help="An .svg or .png file.",
)
def plot(network: str, output: str | None) -> None:
    """NETWORK is a preset's name or a spec file. The path of the picture is printed.

    Stages are boxes: taller means a higher resolution, deeper means more channels. Arcs are
    shortcuts. One block is shown layer by layer.
    """
    found = resolve(network, NetworkKind.PRESET, NetworkKind.SPEC)
    click.echo(draw(recipe(found).spec, output or f"{found.name}.svg"))
