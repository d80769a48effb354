"""The cost of the search itself: time and memory per trial, with stub and tiny trials.

    python benchmarks/search_loop.py [--trials 10000] [--real 100]

First table: a search in this process whose trials give three epochs of made-up scores, without
listeners. Milliseconds of CPU per trial are means over the last tenth before that many trials:
suggestion, sampling, rules, and four or so lines of the journal, each synced to the disk. `again`
reads the journal of the whole search and tells it to a new oracle.

Second table: resident memory of the process that trains, after so many trials of an 8x8 network.
TensorFlow loses some 10 MiB for each; a child process is replaced when it has grown by
`tuning.running.executor.RECYCLED_AFTER`.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from children import in_child
from rich.console import Console
from rich.table import Table

ORACLES = ("random", "asha", "tpe")


@click.command()
@click.option("--trials", default=10_000, show_default=True)
@click.option("--real", default=100, show_default=True, help="Trials that train.")
@click.option(
    "--oracle",
    "oracles",
    multiple=True,
    type=click.Choice(ORACLES),
    default=ORACLES,
    show_default=True,
)
@click.option("--child", "words", multiple=True, hidden=True)
def main(trials: int, real: int, oracles: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Measures and prints two tables."""
    if words:
        kind, *rest = words
        print(json.dumps(_stubbed(*rest) if kind == "stub" else _trained(*rest)))  # noqa: T201
        return
    console = Console(width=130)
    points = [point for point in (100, 1000, 3000, 10_000, 30_000) if point <= trials]
    if points:
        columns = (f"{what} at {point:,}" for what in ("ms", "MB") for point in points)
        table = Table("oracle", *columns, "end s", "again s", "again MB")
        for oracle in oracles:
            found = in_child(__file__, "stub", oracle, trials)
            cells = [f"{found['ms'][str(p)]:.2f}" for p in points] + [
                f"{found['mb'][str(p)]:.0f}" for p in points
            ]
            again = in_child(__file__, "stub", oracle, trials, found["folder"])
            table.add_row(
                oracle,
                *cells,
                *(f"{value:.1f}" for value in (found["end"], again["all"], again["peak"])),
            )
        console.print(table)
    if real:
        marks = [mark for mark in (1, 10, 25, 50, 75, 100) if mark <= real]
        table = Table("trials run in", *(f"MB at {mark}" for mark in marks), "processes")
        for where in ("process", "worker"):
            found = in_child(__file__, "real", where, real)
            table.add_row(
                where, *(f"{found['mb'][mark - 1]:.0f}" for mark in marks), str(found["processes"])
            )
        console.print(table)


def _resident(pid: int | str = "self") -> float:
    return (
        int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        * os.sysconf("SC_PAGE_SIZE")
        / 1e6
    )


def _space(epochs: int) -> Any:
    from reskeras.spec import CifarStem, Classifier, Recipe, ResNet, Stage, TrainSpec
    from tuning import Range, Space

    net = ResNet(
        input_shape=(8, 8, 1),
        stem=CifarStem(width=4),
        block={"kind": "basic"},
        stages=(Stage(blocks=1, width=8, stride=2),),
        head=Classifier(classes=3),
    )
    vary = {
        "block.kind": ["plain", "basic"],
        "stages.*.blocks": [1, 2, 3],
        "train.learning_rate": Range(low=1e-4, high=1.0, log=True),
        "train.weight_decay": Range(low=1e-6, high=1e-2, log=True),
    }
    return Space(Recipe(spec=net, train=TrainSpec(epochs=epochs, batch_size=32)), vary)


def _data() -> Any:
    import numpy as np

    from reskeras.data import from_arrays

    random = np.random.default_rng(0)
    return from_arrays(
        {
            f"x_{split}": random.normal(size=(48, 8, 8, 1)).astype("float32")
            for split in ("train", "val")
        }
        | {f"y_{split}": np.arange(48) % 3 for split in ("train", "val")}
    )


def _stubbed(oracle: str, trials: str, folder: str = "") -> dict[str, Any]:
    import tuning.running.executor
    from reskeras.spec.text import dump_recipe
    from reskeras.training.state import Epoch
    from tuning import tune
    from tuning.running.trial import Outcome, Verdict

    clocks: list[float] = []
    memory: list[float] = []

    def run_trial(job: Any, data: Any, programs: Any = None) -> Any:
        clocks.append(time.process_time())
        memory.append(_resident())
        score = int(hashlib.sha256(repr(job.recipe).encode()).hexdigest()[:8], 16) / 2**32
        verdict, number, metrics = Verdict.CONTINUE, 0, {"val_accuracy": score, "val_loss": -score}
        while verdict is Verdict.CONTINUE and number < job.recipe.train.epochs:
            number += 1
            verdict = yield Epoch(number=number, metrics=metrics, seconds=0.0)
        if verdict is Verdict.KEEP:
            job.model.write_text(dump_recipe(job.recipe))
        return Outcome(metrics=metrics, epochs=number, params=2)

    tuning.running.executor.run_trial = run_trial
    data, where = _data(), folder or tempfile.mkdtemp(prefix="search_loop")
    start = time.process_time()
    tune(_space(3), data, directory=Path(where) / "s", oracle=oracle, trials=int(trials))
    end = time.process_time()
    if folder:
        return {"all": end - start, "peak": _resident()}
    count = len(clocks)
    points = [point for point in (100, 1000, 3000, 10_000, 30_000) if point <= count]
    milliseconds = {p: 1000 * (clocks[p - 1] - clocks[p - 1 - p // 10]) / (p // 10) for p in points}
    return {
        "ms": milliseconds,
        "mb": {p: memory[p - 1] for p in points},
        "end": end - clocks[-1],
        "folder": where,
    }


def _trained(where: str, trials: str) -> dict[str, Any]:
    from tuning import tune
    from tuning.record.events import Listener
    from tuning.running.executor import InProcess, Processes

    data = _data()
    with tempfile.TemporaryDirectory() as folder:
        worker = where == "worker"
        executor: Any = (
            Processes(data, 1, Path(folder) / "workers.log") if worker else InProcess(data)
        )
        memory: list[float] = []
        seen: set[int] = set()

        class Watch(Listener):
            def epoch_ended(self, trial: Any, epoch: Any) -> None:
                pid = executor._workers[0]._process.pid if worker else os.getpid()
                seen.add(pid)
                memory.append(_resident(pid))

        tune(
            _space(1),
            data,
            directory=Path(folder) / "s",
            trials=int(trials),
            executor=executor,
            listeners=[Watch()],
        )
    return {"mb": memory, "processes": len(seen)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
