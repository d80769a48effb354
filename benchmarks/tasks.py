"""Searches each embedded data set with the default `reskeras tune`, and tests the answer.

    python benchmarks/tasks.py [NAME ...] [-- OPTIONS OF TUNE]

Prints a table in Markdown: task, set, wall time of the search, and the task's first metric on the
test split with its 95 % interval, beside the best trivial baseline.
"""

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import click

from reskeras.data.embedded import EMBEDDED
from reskeras.tasks import metric_of


def main() -> None:
    """Runs the searches one after another."""
    words, _, options = " ".join(sys.argv[1:]).partition("--")
    names = words.split() or list(EMBEDDED)
    click.echo("| task | data | `tune` | metric | test | 95 % interval | baseline |")
    click.echo("|---|---|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            click.echo(_row(name, options.split(), folder))


def _row(name: str, options: list[str], folder: str) -> str:
    start = time.perf_counter()
    _run(folder, "tune", "--data", name, "--json", *options)
    seconds = time.perf_counter() - start
    found = json.loads(_run(folder, "evaluate", f"searches/{name}", "--json"))
    metric = next(iter(found["metrics"]))
    unit = metric_of(metric)
    low, high = found["intervals"][metric]
    rival = found["rivals"][-1]
    minutes, rest = divmod(round(seconds), 60)
    cells: list[Any] = [
        found["task"],
        f"`{name}`",
        f"{minutes} min {rest:02} s",
        f"`{metric}`",
        unit.write(found["metrics"][metric]),
        f"{unit.write(low)} to {unit.write(high)}",
        f"{unit.write(rival['metrics'].get(metric))} ({rival['name']})",
    ]
    return f"| {' | '.join(cells)} |"


def _run(folder: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "reskeras", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"reskeras {' '.join(words)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
