"""Searches on the embedded digits at equal wall time: `reskeras tune` against its rivals.

    python benchmarks/search.py --out DIR              # every rival, 90 s, three seeds
    python benchmarks/search.py --out DIR --equal      # trials of one architecture in that time
    python benchmarks/search.py --out DIR --different  # each trial a new architecture
    python benchmarks/search.py --out DIR --workers    # two workers against one with two threads
    python benchmarks/search.py --from DIR             # tables and plots from the rows in DIR

The rivals get reskeras' builders, space, epochs and data, and train as a Keras user would: batch
norm with Keras' defaults, Adam with the trial's learning rate, `model.fit` on arrays. Each run is a
separate process on the same two CPUs. Its clock starts with the search, after imports and reading
the data. Runs that DIR already holds are not repeated, so an interrupted benchmark resumes;
`epochs.csv`, `trials.csv` and `runs.csv` in it are the raw data. Needs `pip install optuna`.
"""

import contextlib
import csv
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from children import in_child
from search_rivals.runs import read_runs
from search_rivals.tables import report

from reskeras.tasks import Facts, task_called
from tuning.settings import ORACLES
from tuning.space import Range, Space, default_space

CLASSIFICATION = task_called("classification")

SHAPE, CLASSES = (8, 8, 1), 10
OURS = {f"reskeras-{oracle}": oracle for oracle in ORACLES}
"""Rivals and their oracles; with `@2` behind the name, in two workers."""
PLAIN = ("kt-random", "kt-hyperband", "kt-bayesian", "optuna-tpe-halving", "one-epoch-then-best")
CPUS = 2


@dataclasses.dataclass(frozen=True)
class Section:
    """One comparison."""

    space: Callable[[], Space]
    rivals: tuple[str, ...]
    """Those that run unless others are asked for; the first plain one is what the others are
    compared with."""


def _searched() -> Space:
    return default_space(Facts(SHAPE, CLASSES), CLASSIFICATION)


def _one_architecture() -> Space:
    space = _searched()
    return Space(space.base, {"train.learning_rate": space.vary["train.learning_rate"]})


def _many_architectures() -> Space:
    space = _searched()
    widths = {
        "stages.0.width": Range(low=16, high=48, step=4),
        "stages.1.width": Range(low=32, high=96, step=4),
    }
    return Space(space.base, space.vary | widths)


_IN_TWO_WORKERS = tuple(
    f"{rival}@2" for rival in OURS if rival in ("reskeras-random", "reskeras-asha")
)
SECTIONS = {
    "search": Section(_searched, (*PLAIN, *OURS, *_IN_TWO_WORKERS)),
    "equal": Section(_one_architecture, ("kt-random", "reskeras-random")),
    "different": Section(
        _many_architectures, ("kt-random", "reskeras-random", "reskeras-random@2")
    ),
    "workers": Section(_one_architecture, ("reskeras-random", "reskeras-random@2")),
}


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option(
    "--equal",
    "sections",
    flag_value="equal",
    multiple=True,
    help="Trials of one architecture instead of the search.",
)
@click.option(
    "--different",
    "sections",
    flag_value="different",
    multiple=True,
    help="Give each trial a new architecture instead.",
)
@click.option(
    "--workers",
    "sections",
    flag_value="workers",
    multiple=True,
    help="One worker against two instead.",
)
@click.option("--seconds", default=90.0, show_default=True, help="Of each run.")
@click.option(
    "--seeds",
    default="10000,20000,30000",
    show_default=True,
    help="At least 10,000 apart: Keras Tuner's overlap.",
)
@click.option("--rivals", help="Names with commas between; all of the section unless given.")
@click.option("--quick", is_flag=True, help="15 seconds and one seed: a smoke run.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of raw data, tables and plots.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Only tables and plots.",
)
@click.option("--child", "words", multiple=True, hidden=True)
def main(
    sections: tuple[str, ...],
    seconds: float,
    seeds: str,
    rivals: str | None,
    quick: bool,
    out: Path | None,
    source: Path | None,
    words: tuple[str, ...],
) -> None:
    """Runs what is missing in a folder and reports on it."""
    if words:
        print(json.dumps(_run(*words)))  # noqa: T201
        return
    if (folder := source or out) is None:
        raise click.UsageError(
            "--out DIR says where to keep the results, --from DIR where they are"
        )
    failed = []
    if source is None:
        folder.mkdir(parents=True, exist_ok=True)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
        if quick:
            seconds, seeds = 15.0, "10000"
        names = rivals.split(",") if rivals else None
        known = (*PLAIN, *OURS, *(f"{rival}@2" for rival in OURS))
        if unknown := [name for name in names or () if name not in known]:
            raise click.UsageError(f"unknown rival {unknown[0]!r}; known: {', '.join(known)}")
        for section in sections or ("search",):
            for seed in map(int, seeds.split(",")):
                for rival in names or SECTIONS[section].rivals:
                    failed += _add(folder, section, rival, seed, seconds)
    click.echo(report(folder))
    if failed:
        raise click.ClickException("; ".join(failed))


def _add(folder: Path, section: str, rival: str, seed: int, seconds: float) -> list[str]:
    """Does a run unless the folder has it, and keeps its rows; why it failed, if it did."""
    label = f"{section}, {rival}, seed {seed}"
    key = {"section": section, "rival": rival, "seed": seed}
    kept = [run for run in read_runs(folder) if key.items() <= run.facts.items()]
    if any(run.facts["budget"] != seconds for run in kept):
        raise click.UsageError(
            f"{folder} holds {label} with {kept[0].facts['budget']:g} s; give this benchmark "
            "another folder"
        )
    if kept:
        click.echo(f"{label}: kept", err=True)
        return []
    load = os.getloadavg()[0]
    try:
        found = in_child(__file__, section, rival, seed, seconds)
    except subprocess.CalledProcessError as error:
        click.echo(f"{label}: failed", err=True)
        return [f"{label}: exit status {error.returncode}"]
    for table in ("epochs", "trials"):
        _append(folder / f"{table}.csv", [key | row for row in found[table]])
    # Last: the run is complete
    _append(folder / "runs.csv", [key | found["run"] | {"load": round(load, 2)}])
    best = max((row["recalibrated"] for row in found["epochs"]), default=0.0)
    click.echo(f"{label}: {len(found['trials'])} trials, best {best:.4f}", err=True)
    return []


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)


def _run(section: str, rival: str, seed: str, seconds: str) -> dict[str, Any]:
    """One search, in this process."""
    started = time.perf_counter()
    import keras

    name, _, workers = rival.partition("@")
    ours = name in OURS
    search = _ours(OURS[name], int(workers) if workers else None) if ours else _plain(name)
    from search_rivals.recording import Recording

    with tempfile.TemporaryDirectory() as directory:
        task = _task(SECTIONS[section].space(), int(seed), float(seconds), directory)
        keras.utils.set_random_seed(int(seed))
        imports = time.perf_counter() - started
        recording = Recording(task.budget)
        search(task, recording)
        wall = min(recording.clock.seconds, task.budget)
    versions = " ".join(
        f"{package} {version(package)}"
        for package in ("tensorflow", "keras", "keras-tuner", "optuna")
    )
    run = {"budget": task.budget, "wall": wall, "before": imports, "versions": versions}
    return {"run": run, "epochs": recording.epochs, "trials": recording.trials}


def _ours(oracle: str, workers: int | None) -> Callable[[Any, Any], None]:
    from search_rivals.ours import reskeras_search

    return lambda task, recording: reskeras_search(oracle, workers, task, recording)


def _plain(name: str) -> Callable[[Any, Any], None]:
    from search_rivals import plain

    def search(task: Any, recording: Any) -> None:
        with contextlib.suppress(plain.OutOfTime):
            match name:
                case "optuna-tpe-halving":
                    plain.optuna_search(task, recording)
                case "one-epoch-then-best":
                    plain.one_epoch_search(task, recording)
                case _:
                    plain.keras_tuner_search(name.removeprefix("kt-"), task, recording)

    return search


def _task(space: Space, seed: int, seconds: float, directory: str) -> Any:
    import numpy as np
    from search_rivals.recording import Task

    from reskeras.data import load

    data = load("digits", SHAPE)
    data = dataclasses.replace(data, sizes={split: data.sizes[split] for split in ("train", "val")})
    arrays = {}
    for split in ("train", "val"):
        images, labels = zip(*data.split(split).as_numpy_iterator(), strict=True)
        arrays |= {f"x_{split}": np.stack(images), f"y_{split}": np.asarray(labels)}
    return Task(space=space, data=data, seed=seed, budget=seconds, directory=directory, **arrays)


if __name__ == "__main__":
    main()
