"""The cost of tracking: one search without MLflow, with an SQLite store, with a server.

    python benchmarks/tracking.py [--trials 40] [--repeats 3]

The same search on digits (random oracle, one child process for trials, as `reskeras tune` runs it;
report and leaderboard included), each in a process of its own, in turn. `ratio` is the median over
the rounds of the wall time with tracking to that without in the same round. `thread` is the CPU
time of the thread that talks to MLflow, `waiting` how long the end of the search
waited for it: the winner's model is packed and registered then. Stores are there beforehand, so
that their making, which comes once, is not counted; the server runs on the same machine.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
from children import in_child
from rich.console import Console
from rich.table import Table

KINDS = ("none", "sqlite", "http")


@click.command()
@click.option("--trials", default=40, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--child", "words", multiple=True, hidden=True)
def main(trials: int, repeats: int, words: tuple[str, ...]) -> None:
    """Measures and prints a table."""
    if words:
        print(json.dumps(_searched(*words)))  # noqa: T201
        return
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        server, uri = _server(Path(folder))
        try:
            stores = {"none": "", "sqlite": f"sqlite:///{folder}/direct.db", "http": uri}
            for number in range(repeats):
                for kind in KINDS:
                    found[kind].append(
                        in_child(__file__, stores[kind], trials, f"{folder}/{kind}{number}")
                    )
        finally:
            server.terminate()
            server.wait()
    table = Table("store", "wall s", "ratio", "thread s", "waiting s", "calls that failed")
    for kind, rounds in found.items():
        ratios = [
            one["wall"] / other["wall"] for one, other in zip(rounds, found["none"], strict=True)
        ]
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        cells = [
            f"{middle['wall']:.1f}",
            f"{statistics.median(ratios):.3f}",
            f"{middle['thread']:.2f}",
            f"{middle['waiting']:.2f}",
        ]
        table.add_row(kind, *cells, f"{middle['problems']:.0f}")
    Console(width=110).print(table)


def _server(folder: Path) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--backend-store-uri",
                f"sqlite:///{folder}/server.db",
                "--workers",
                "1",
            ),
            *(
                "--artifacts-destination",
                str(folder / "artifacts"),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ),
        ],
        env=os.environ
        | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uri = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return process, uri
    raise RuntimeError("the MLflow server did not start")


def _searched(uri: str, trials: str, directory: str) -> dict[str, float]:
    from reskeras.data import load
    from tuning.search.tune import tune
    from tuning.space import default_space
    from tuning.tracking import Tracker, open_store

    data = load("digits", (8, 8, 1))
    listeners: list[Any] = []
    problems: list[str] = []
    tracker = None
    if uri:
        open_store(uri)
        tracker = Timed(Tracker, uri, problems.append)
        listeners = [tracker.listener]
    start = time.perf_counter()
    tune(
        default_space(data.facts, data.task),
        data,
        directory=directory,
        oracle="random",
        trials=int(trials),
        workers=1,
        listeners=listeners,
    )
    wall = time.perf_counter() - start
    return {
        "wall": wall,
        "thread": tracker.cpu if tracker is not None else 0.0,
        "waiting": tracker.waiting if tracker is not None else 0.0,
        "problems": float(len(problems)),
    }


class Timed:
    """A tracker whose thread's CPU time and whose closing are measured."""

    def __init__(self, cls: Any, uri: str, on_problem: Any) -> None:
        outer, self.cpu, self.waiting = self, 0.0, 0.0

        class Measured(cls):  # type: ignore[misc]
            def _work(self) -> None:
                super()._work()
                outer.cpu = time.thread_time()

            def search_ended(self, *ended: Any) -> None:
                start = time.perf_counter()
                super().search_ended(*ended)
                outer.waiting = time.perf_counter() - start

        self.listener = Measured(uri, on_problem)


if __name__ == "__main__":
    main()
