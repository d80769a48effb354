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
from typing import IO

import click
from rich.console import Console

import reskeras
from tuning.tracking import tracking_uri
from tuning.tracking.saved_view import view_url
from tuning.tracking.store import searched_experiments, sqlite_path

_START_SECONDS = 120.0


@click.command()
@click.option("--tracking-uri", "store", help="MLflow's store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]")
@click.option("--port", type=click.IntRange(1, 65535), help="[default: a free one]")
@click.option("--browser/--no-browser", default=True, help="open the page in a browser")
def ui(store: str | None, port: int | None, browser: bool) -> None:
    """Open the MLflow UI on the searches of this folder; it listens on 127.0.0.1 only. Ctrl-C ends it."""
    console = Console(stderr=True, markup=False)
    uri = tracking_uri(store)
    if uri.startswith("sqlite:///") and not sqlite_path(uri).is_file():
        raise reskeras.RequestError(f"{sqlite_path(uri)}: no store here yet; `reskeras tune` makes one")
    console.print("opening the store ...", style="dim")
    try:
        found = searched_experiments(uri)
    except Exception as error:
        raise RuntimeError(f"{uri}: MLflow cannot open this store: {str(error).strip().splitlines()[0]}") from error
    if not uri.startswith("sqlite:///"):
        for name, experiment in found.items():
            click.echo(f"{name}: {view_url(uri.rstrip('/'), experiment)}")
        return
    port = _free_port(port or 0)
    server = f"http://127.0.0.1:{port}"
    # Before the server is there to be left behind; SIGHUP is a closed terminal.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    said = tempfile.TemporaryFile()  # noqa: SIM115  not a pipe, which would fill up and stop the server
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
            *("--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
            *("--workers", "1", "--no-serve-artifacts"),
            *("--default-artifact-root", (sqlite_path(uri).parent / "mlartifacts").as_uri()),
        ],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=said,
        stderr=said,
        # Of its own, so that its workers end with it and Ctrl-C reaches only us.
        start_new_session=True,
    )
    try:
        with console.status("starting the MLflow server ..."):
            _wait_until_healthy(server, process, said)
        for name, experiment in found.items():
            click.echo(f"{name}: {view_url(server, experiment)}")
        if not found:
            click.echo(f"no searches in this store yet: {server}/#/experiments?workflowType=machine_learning")
        console.print("Ctrl-C ends the server", style="dim")
        if browser and found:
            webbrowser.open(view_url(server, next(iter(found.values()))))
        process.wait()
        raise RuntimeError(f"the MLflow server ended by itself (exit status {process.returncode})")
    except KeyboardInterrupt:
        console.print("the server has ended", style="dim")
    finally:
        _end(process)
        said.close()


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


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise reskeras.RequestError(f"--port {wanted}: {error.strerror}; without --port a free one is taken") from error
        port: int = probe.getsockname()[1]
        return port
