"""`reskeras show`: a spec as text. Only a run id makes it load MLflow."""

import tempfile
from pathlib import Path

import click

import reskeras
from reskeras.cli.specs import is_file, source_line
from reskeras.spec import TrainSpec
from reskeras.spec.text import dump_document, dump_recipe, load_recipe, to_document


@click.command()
@click.argument("network")
@click.option(
    "--tracking-uri",
    help="of a run's MLflow store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]",
)
def show(network: str, tracking_uri: str | None) -> None:
    """Print the spec of NETWORK as YAML: a start for a file of your own.

    NETWORK is a preset's name, a spec file, or the id of a search's or trial's run in MLflow (its first 6 digits may do).
    """
    if is_file(network):
        recipe = load_recipe(network)
        reskeras.cost(recipe.model)  # refuses what only shows when the parts are put together
        click.echo(dump_recipe(recipe), nl=False)
    elif names_a_run(network):
        from tuning.tracking import tracking_uri as resolve_uri
        from tuning.tracking.runs import Runs

        runs = Runs(resolve_uri(tracking_uri))
        run = runs.find(network)
        with tempfile.TemporaryDirectory() as folder:
            recipe = runs.recipe(run, Path(folder))
        click.echo(f"# {run.describe()}\n{dump_recipe(recipe)}", nl=False)
    else:
        click.echo(
            f"# {source_line(network)}\n{reskeras.dump_spec(reskeras.preset(network))}", nl=False
        )
        training = dump_document({"train": to_document(TrainSpec())})
        click.echo(
            f"# How `reskeras train` trains it unless a line like this says otherwise:\n# {training}",
            nl=False,
        )


def names_a_run(word: str) -> bool:
    """Whether a word is a run id, or the beginning of one, rather than a preset, a file or a folder."""
    if word in reskeras.presets() or Path(word).exists():
        return False
    from tuning.tracking.runs import is_run_id

    return is_run_id(word)
