"""`reskeras ui`."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import IO

import click
from rich.console import Console

import reskeras
from reskeras.errors import did_you_mean
from tuning.tracking import tracking_uri
from tuning.tracking.store import artifact_location, check_exists, search_pages, served, shown

_START_SECONDS = 120.0
_LOOPBACK = "127.0.0.1"
_PORT = 5757
"""Where it is free: the browser keeps what was chosen in MLflow's pages (its assistant closed, say) for each port."""
_SHOWN = 10


@click.command()
@click.argument("search", required=False)
@click.option(
    "--tracking-uri",
    "store",
    help="MLflow's store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]",
)
@click.option("--port", type=click.IntRange(1, 65535), help=f"[default: {_PORT}, or a free one]")
@click.option(
    "--host",
    default=_LOOPBACK,
    show_default=True,
    help="the address to listen on; any other shows the store to the network",
)
@click.option("--browser/--no-browser", default=True, help="open the page in a browser")
def ui(search: str | None, store: str | None, port: int | None, host: str, browser: bool) -> None:
    """Open the MLflow UI on SEARCH, or on the latest search of this folder's store. Ctrl-C ends it.

    It listens on 127.0.0.1 only, unless --host says otherwise. A remote store has a server of its own: there this prints the pages.
    """
    console = Console(stderr=True, markup=False)
    uri = tracking_uri(store)
    check_exists(uri)
    console.print("opening the store ...", style="dim")
    try:
        pages = search_pages(uri)
    except Exception as error:
        raise RuntimeError(
            f"{shown(uri)}: MLflow cannot open this store: {str(error).strip().splitlines()[0]}"
        ) from error
    if search is not None:
        name = Path(search).name  # searches/NAME is as good as NAME
        wanted = [page for page in pages if page[0] == name]
        if not wanted:
            known = list(dict.fromkeys(name for name, _ in pages))
            near = did_you_mean(name, known) or f"; it has {', '.join(known[:10]) or 'none'}"
            raise reskeras.RequestError(f"no search {name!r} in {shown(uri)}{near}")
        pages = wanted
    if served(uri):
        for name, link in pages:
            click.echo(f"{name}: {shown(uri).rstrip('/')}{link}")
        return
    port = _free_port(host, port)
    if host != _LOOPBACK:
        console.print(
            f"warning: --host {host} shows this store to others; MLflow has no login: who reaches port {port} may read and delete "
            "everything in it",
            style="yellow",
            highlight=False,
        )
    server = f"http://{_LOOPBACK if host == '0.0.0.0' else host}:{port}"
    # Before the server is there to be left behind; SIGHUP is a closed terminal.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    said = tempfile.TemporaryFile()  # noqa: SIM115  not a pipe, which would fill up and stop the server
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
            *(
                "--host",
                host,
                "--port",
                str(port),
                "--allowed-hosts",
                ",".join(f"{name}:{port}" for name in _names(host)),
            ),
            *("--workers", "1", "--no-serve-artifacts"),
            *(
                "--default-artifact-root",
                artifact_location(uri) or (Path.cwd() / "mlartifacts").as_uri(),
            ),
        ],
        env=os.environ
        | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=said,
        stderr=said,
        # Of its own, so that its workers end with it and Ctrl-C reaches only us.
        start_new_session=True,
    )
    try:
        with console.status("starting the MLflow server ..."):
            _wait_until_healthy(server, process, said)
        for name, link in pages[:_SHOWN]:
            click.echo(f"{name}: {server}{link}")
        if len(pages) > _SHOWN:
            click.echo(f"and {len(pages) - _SHOWN} more; `reskeras ui SEARCH` opens one")
        if not pages:
            click.echo(
                f"no searches in this store yet: {server}/#/experiments?workflowType=machine_learning"
            )
        console.print("Ctrl-C ends the server", style="dim")
        if browser and pages:
            webbrowser.open(f"{server}{pages[0][1]}")
        process.wait()
        raise RuntimeError(f"the MLflow server ended by itself (exit status {process.returncode})")
    except KeyboardInterrupt:
        console.print("the server has ended", style="dim")
    finally:
        _end(process)
        said.close()


def _names(host: str) -> list[str]:
    """By which names a browser may ask for the server; others are another site's that was made to point here."""
    if host == _LOOPBACK:
        return [host, "localhost"]
    addresses = (
        {host}
        if host != "0.0.0.0"
        else {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    )
    return sorted({_LOOPBACK, "localhost", socket.gethostname(), socket.getfqdn(), *addresses})


def _wait_until_healthy(server: str, process: "subprocess.Popen[bytes]", said: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"the MLflow server did not start: {lines[-1]}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{server}/health", timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the MLflow server did not answer within {_START_SECONDS:.0f} s")


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _free_port(host: str, wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if wanted is None:
                with contextlib.suppress(OSError):
                    probe.bind((host, _PORT))
                    return _PORT
            probe.bind((host, wanted or 0))
        except OSError as error:
            reason = error.strerror or str(error)
            raise reskeras.RequestError(
                f"--host {host} --port {wanted}: {reason}; without them a free port of {_LOOPBACK} is taken"
            ) from error
        port: int = probe.getsockname()[1]
        return port
