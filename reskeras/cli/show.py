"""`reskeras show`: a spec as text. It loads MLflow only for the id of a run."""

import tempfile
from pathlib import Path

import click

import reskeras
from reskeras.cli import options
from reskeras.cli.networks import NetworkKind, find_run, recipe, resolve
from reskeras.spec import TrainSpec
from reskeras.spec.presets import source
from reskeras.spec.text import dump_document, dump_recipe, to_document


@click.command()
@click.argument("network")
@options.tracking_uri
def show(network: str, tracking_uri: str | None) -> None:
    """The output is a starting point for a spec file of your own.

    NETWORK is a preset's name, a spec file, or the id of a search's or trial's run in MLflow, of
    which the first 6 digits are enough.
    """
    found = resolve(network, NetworkKind.PRESET, NetworkKind.SPEC, NetworkKind.RUN)
    if found.kind is NetworkKind.RUN:
        runs, run = find_run(network, tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            trained = runs.recipe(run, Path(folder))
        click.echo(f"# {run.describe()}\n{dump_recipe(trained)}", nl=False)
    elif found.kind is NetworkKind.SPEC:
        given = recipe(found)
        reskeras.cost(given.spec)  # refuses parts that do not fit together
        click.echo(dump_recipe(given), nl=False)
    else:
        spec = reskeras.dump_spec(recipe(found).spec)
        training = dump_document({"train": to_document(TrainSpec())})
        click.echo(f"# {network}: {source(network)}\n{spec}", nl=False)
        click.echo(
            "# How `reskeras train` trains it, unless a line like this says otherwise:\n# "
            f"{training}",
            nl=False,
        )
