"""`reskeras sync`."""

from pathlib import Path

import click
from rich.console import Console

import reskeras
from reskeras.cli import options
from reskeras.errors import hide_passwords
from tuning.record.journal import begun
from tuning.tracking import sync as sync_search
from tuning.tracking import tracking_uri as resolve_uri


@click.command()
@click.argument("searches", nargs=-1, metavar="[SEARCH]...")
@options.tracking_uri
def sync(searches: tuple[str, ...], tracking_uri: str | None) -> None:
    """SEARCH is a name or a folder; by default all searches in searches/ are sent.

    A search sends everything itself while it runs and when it resumes. Use this for a search that
    ended while MLflow could not be reached, or to copy it to another store.
    """
    console = Console(stderr=True, markup=False)
    uri = resolve_uri(tracking_uri)
    folders = [_folder(search) for search in searches] or sorted(
        path.parent for path in Path("searches").glob("*/journal.jsonl")
    )
    if not folders:
        raise reskeras.RequestError("no searches in searches/; `reskeras tune` creates them")
    console.print("opening the store ...", style="dim")
    failures = 0
    for folder in sorted(folders, key=begun):
        try:
            refused = sync_search(uri, folder)
        except (reskeras.RequestError, RuntimeError) as error:
            if len(folders) == 1:
                raise
            failures += 1
            click.echo(f"error: {hide_passwords(str(error))}", err=True)
            continue
        for line in refused:
            console.print(
                f"warning: MLflow refuses {hide_passwords(line)}", style="yellow", highlight=False
            )
        click.echo(f"{folder}: MLflow has {'the rest' if refused else 'everything'}")
    if failures:
        raise RuntimeError(f"{failures} of {len(folders)} searches could not be sent")


def _folder(search: str) -> Path:
    named = Path("searches", search)
    return named if named.is_dir() else Path(search)
