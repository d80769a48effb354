"""`reskeras sync`."""

from pathlib import Path

import click
from rich.console import Console

import reskeras
from tuning.record.journal import begun
from tuning.tracking import sync as sync_search
from tuning.tracking import tracking_uri


@click.command()
@click.argument("searches", nargs=-1, metavar="[SEARCH]...")
@click.option(
    "--tracking-uri",
    "store",
    help="MLflow's store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]",
)
def sync(searches: tuple[str, ...], store: str | None) -> None:
    """Send to MLflow what it has not of each SEARCH, a name or a folder; without one, of all searches of this folder.

    A search does so itself while it runs and when it goes on. This is for one that ended while MLflow could not be reached, and for
    a store that is to have it too.
    """
    console = Console(stderr=True, markup=False)
    uri = tracking_uri(store)
    folders = [_folder(search) for search in searches] or sorted(
        path.parent for path in Path("searches").glob("*/journal.jsonl")
    )
    if not folders:
        raise reskeras.RequestError(
            "no searches here: searches/*/journal.jsonl; `reskeras tune` makes them"
        )
    console.print("opening the store ...", style="dim")
    failures = 0
    for folder in sorted(folders, key=begun):
        try:
            refused = sync_search(uri, folder)
        except (reskeras.RequestError, RuntimeError) as error:
            if len(folders) == 1:
                raise
            failures += 1
            click.echo(f"error: {error}", err=True)
            continue
        for line in refused:
            console.print(f"warning: MLflow does not take {line}", style="yellow", highlight=False)
        click.echo(f"{folder}: MLflow has " + ("the rest of it" if refused else "all of it"))
    if failures:
        raise RuntimeError(f"{failures} of {len(folders)} searches could not be sent")


def _folder(search: str) -> Path:
    named = Path("searches", search)
    return named if named.is_dir() else Path(search)
