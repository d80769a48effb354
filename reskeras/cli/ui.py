"""`reskeras ui`."""

import webbrowser
from pathlib import Path

import click
from rich.console import Console

from reskeras.cli import options
from reskeras.errors import RequestError, did_you_mean, hide_passwords, in_a_line
from tuning.tracking import tracking_uri as resolve_uri
from tuning.tracking.server import LOOPBACK, PORT, serving
from tuning.tracking.store import check_exists, search_pages, served

_LISTED = 10


@click.command()
@click.argument("search", required=False)
@options.tracking_uri
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    show_default=f"{PORT}, or a free one",
    help="The port to listen on.",
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address to listen on. Any other address exposes the store to the network.",
)
@click.option(
    "--browser/--no-browser",
    default=True,
    show_default=True,
    help="Open the page in a browser.",
)
def ui(
    search: str | None, tracking_uri: str | None, port: int | None, host: str, browser: bool
) -> None:
    """Opens the page of SEARCH, or of the latest search in the store. Ctrl-C stops the server.

    A remote store has its own server. For it, this prints the addresses of the pages.
    """
    console = Console(stderr=True, markup=False)
    uri = resolve_uri(tracking_uri)
    check_exists(uri)
    console.print("opening the store ...", style="dim")
    pages = _pages(uri, search)
    if served(uri):
        for name, link in pages:
            click.echo(f"{name}: {hide_passwords(uri).rstrip('/')}{link}")
        return
    try:
        status = console.status("starting the MLflow server ...")
        status.start()
        with serving(uri, host, port) as server:
            status.stop()
            if host != LOOPBACK:
                console.print(
                    f"warning: --host {host} shows this store to others. MLflow has no login: "
                    f"whoever reaches port {server.port} can read and delete everything in it",
                    style="yellow",
                    highlight=False,
                )
            for name, link in pages[:_LISTED]:
                click.echo(f"{name}: {server.address}{link}")
            if len(pages) > _LISTED:
                click.echo(f"and {len(pages) - _LISTED} more; `reskeras ui SEARCH` opens one")
            if not pages:
                all_ = f"{server.address}/#/experiments?workflowType=machine_learning"
                click.echo(f"no searches in this store yet: {all_}")
            console.print("press Ctrl-C to stop the server", style="dim")
            if browser and pages:
                webbrowser.open(f"{server.address}{pages[0][1]}")
            server.wait()
    except KeyboardInterrupt:
        console.print("server stopped", style="dim")
    finally:
        status.stop()


def _pages(uri: str, search: str | None) -> list[tuple[str, str]]:
    """The searches of a store and their pages; those of one name if one is given."""
    try:
        pages = search_pages(uri)
    except Exception as error:
        raise RuntimeError(
            f"{hide_passwords(uri)}: MLflow cannot open this store: {in_a_line(error)}"
        ) from error
    if search is None:
        return pages
    name = Path(search).name  # searches/NAME works like NAME
    wanted = [page for page in pages if page[0] == name]
    if not wanted:
        known = list(dict.fromkeys(name for name, _ in pages))
        near = did_you_mean(name, known) or f"; it has {', '.join(known[:10]) or 'none'}"
        raise RequestError(f"no search {name!r} in {hide_passwords(uri)}{near}")
    return wanted
