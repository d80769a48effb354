"""Time and memory of an oracle's bookkeeping: a trial's cost besides training.

    python benchmarks/oracles.py [--oracle asha --oracle keras-tuner] [--trials 10000]

`keras-tuner` is Keras Tuner's own random oracle with its state files, which ours do not write.

A stub objective reports nine epochs. Milliseconds are CPU time per trial for creating, reporting
and ending it, the mean of the trials since the row above; memory is what the process has resident
more than before the first trial.
"""

import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

EPOCHS = 9


@click.command()
@click.option(
    "--oracle",
    "names",
    multiple=True,
    default=("keras-tuner", "random", "asha", "tpe"),
    show_default=True,
)
@click.option("--trials", default=10_000, show_default=True)
def main(names: tuple[str, ...], trials: int) -> None:
    """Measures and prints a table for each oracle."""
    for name in names:
        table = Table("oracle", "trials", "ms per trial", "MB more")
        for row in _measure(name, trials):
            table.add_row(name, *row)
        Console(width=100).print(table)


def _measure(name: str, trials: int) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        return _rows(_oracle(name, trials, folder), trials)


def _oracle(name: str, trials: int, folder: str) -> Any:
    import keras_tuner

    from reskeras.tasks import Facts, task_called
    from tuning.oracles import make_oracle
    from tuning.space import default_space, sample

    space = default_space(Facts((8, 8, 1), 10), task_called("classification"))
    if name != "keras-tuner":
        return make_oracle(name, space, objective="val_loss", seed=0, epochs=EPOCHS)
    hyperparameters = keras_tuner.HyperParameters()
    sample(hyperparameters, space)
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=trials,
        seed=1,
        hyperparameters=hyperparameters,
    )
    oracle._set_project_dir(folder, "search")
    oracle.verbose = 0
    return oracle


def _rows(oracle: Any, trials: int) -> list[tuple[str, str, str]]:
    marks = [mark for mark in (100, 300, 1_000, 3_000) if mark < trials] + [trials]
    rows, before, done, clock = [], _resident(), 0, time.process_time()
    for number in range(trials):
        trial = oracle.create_trial(f"worker-{number}")
        if trial.status != "RUNNING":
            break
        values = trial.hyperparameters.values
        for epoch in range(
            values.get("tuner/initial_epoch", 0) + 1, values.get("tuner/epochs", EPOCHS) + 1
        ):
            if (
                oracle.update_trial(
                    trial.trial_id, {"val_loss": _loss(values, epoch)}, step=epoch
                ).status
                == "STOPPED"
            ):
                break
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        if number + 1 in marks:
            mean = 1e3 * (time.process_time() - clock) / (number + 1 - done)
            rows.append((f"{number + 1:,}", f"{mean:.2f}", f"{(_resident() - before) / 2**20:.0f}"))
            done, clock = number + 1, time.process_time()
    return rows


def _loss(values: dict[str, Any], epoch: int) -> float:
    return (
        (math.log10(values["train.learning_rate"]) + 2.5) ** 2
        + values["stages.*.blocks"] / 10
        + 1 / epoch
    )


def _resident() -> int:
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
