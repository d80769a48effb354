"""`reskeras schema`, without TensorFlow."""

import json

import click

from reskeras.spec.text import schema as spec_schema


@click.command()
def schema() -> None:
    """Editors use it for completion and checks."""
    click.echo(json.dumps(spec_schema(), indent=2))
