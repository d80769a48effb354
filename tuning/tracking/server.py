"""An MLflow server on a store, for as long as somebody looks at it."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import filelock

from reskeras.errors import RequestError, hide_passwords
from tuning.tracking.store import artifact_location

LOOPBACK = "127.0.0.1"
PORT = 5757
"""The default port. A browser stores choices in MLflow's pages (such as closing its assistant) by
port."""
_START_SECONDS = 120.0
_EVERY_ADDRESS = "0.0.0.0"
_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Server:
    """A running server; `serving` starts and ends it."""

    def __init__(self, address: str, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.address, self.port = address, port
        self._process = process

    def wait(self) -> None:
        """Waits for the server to end, which happens only by a fault.

        Raises:
            RuntimeError: it has ended.
        """
        status = self._process.wait()
        raise RuntimeError(f"the MLflow server ended by itself (exit status {status})")


@contextlib.contextmanager
def serving(uri: str, host: str, wanted: int | None) -> Iterator[Server]:
    """Starts a server and yields it once it answers; ends it and its workers with the context.

    It listens on the wanted port, otherwise on the default or any free one.

    From then on, SIGINT, SIGTERM and SIGHUP (a closed terminal) raise KeyboardInterrupt, so no
    server is left behind.

    Raises:
        RequestError: the host is not an address of this machine, or the wanted port is taken.
        RuntimeError: it does not start, or does not answer in time.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # A file, not a pipe, which would fill up and block the server.
    with tempfile.TemporaryFile() as output, contextlib.ExitStack() as stack:
        # Two that start at once would find the same port free.
        with filelock.FileLock(Path(tempfile.gettempdir(), f"reskeras-ui-{os.getuid()}.lock")):
            port = _free_port(host, wanted)
            process = subprocess.Popen(
                _command(uri, host, port),
                env=os.environ | _SETTINGS,
                stdout=output,
                stderr=output,
                # In its own process group: its workers end with it, and Ctrl-C reaches only this
                # process.
                start_new_session=True,
            )
            stack.callback(_end, process)
            address = f"http://{LOOPBACK if host == _EVERY_ADDRESS else host}:{port}"
            _wait_until_healthy(address, process, output)
        yield Server(address, port, process)


def _free_port(host: str, wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if wanted is None:
                with contextlib.suppress(OSError):
                    probe.bind((host, PORT))
                    return PORT
            probe.bind((host, wanted or 0))
        except OSError as error:
            port = "" if wanted is None else f" --port {wanted}"
            raise RequestError(
                f"--host {host}{port}: {error.strerror or error}; "
                f"the defaults are {LOOPBACK} and a free port"
            ) from error
        port_found: int = probe.getsockname()[1]
        return port_found


def _command(uri: str, host: str, port: int) -> list[str]:
    names = ",".join(f"{name}:{port}" for name in _names(host))
    artifacts = artifact_location(uri) or (Path.cwd() / "mlartifacts").as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
        *("--host", host, "--port", str(port), "--allowed-hosts", names),
        *("--workers", "1", "--no-serve-artifacts", "--default-artifact-root", artifacts),
    ]


def _names(host: str) -> list[str]:
    """The host names under which a browser may reach the server.

    Any other name belongs to a site that was made to point here.
    """
    if host == LOOPBACK:
        return [host, "localhost"]
    addresses = {host}
    if host == _EVERY_ADDRESS:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted({LOOPBACK, "localhost", socket.gethostname(), socket.getfqdn(), *addresses})


def _wait_until_healthy(
    address: str, process: "subprocess.Popen[bytes]", output: IO[bytes]
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            reason = hide_passwords(lines[-1]) if lines else "it printed nothing"
            raise RuntimeError(f"the MLflow server did not start: {reason}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
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
