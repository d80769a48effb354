"""`reskeras presets`, `show` and `schema`: specs as text, without TensorFlow."""

import json
from pathlib import Path

import click

import reskeras
from reskeras.presets import source
from reskeras.textio import dump_recipe, load_recipe
from reskeras.textio import schema as spec_schema


@click.command()
@click.argument("pattern", default="*")
def presets(pattern: str) -> None:
    """List the named networks whose names match PATTERN (such as 'resnet*'), with their sources."""
    names = reskeras.presets(pattern)
    if not names:
        raise reskeras.RequestError(f"no preset matches {pattern!r}; `reskeras presets` lists all")
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:<{width}}  {source(name)}")


@click.command()
@click.argument("network")
def show(network: str) -> None:
    """Print the spec of NETWORK, a preset's name or a spec file, as YAML: a start for a file of your own."""
    if Path(network).suffix in (".yaml", ".yml", ".json"):
        click.echo(dump_recipe(load_recipe(network)), nl=False)
    else:
        click.echo(f"# {source_line(network)}\n{reskeras.dump_spec(reskeras.preset(network))}", nl=False)


@click.command()
def schema() -> None:
    """Print the JSON Schema of a spec file, for completion and checks in an editor."""
    click.echo(json.dumps(spec_schema(), indent=2))


def source_line(name: str) -> str:
    """A preset's name and source; an unknown name is refused."""
    reskeras.preset(name)
    return f"{name}: {source(name)}"
