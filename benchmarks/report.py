"""What the end of a search spends on importances, factors.svg and report.html.

    python benchmarks/report.py [--trials 200 --trials 2000]

Simulated trials: random points of the default space for digits, six epochs each, with a score
that depends on the learning rate and the kind of block, plus noise. CPU seconds of a process of its
own; imports are not counted.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from children import in_child
from rich.console import Console
from rich.table import Table

from reskeras.tasks import Facts, task_called
from tuning.insight.importance import importances
from tuning.record.entries import EpochRecord, Started, TrialRecord
from tuning.record.journal import Journal
from tuning.report.factors import factor_plot
from tuning.report.page import write_report
from tuning.space import Range, Space, default_space

CLASSIFICATION = task_called("classification")

EPOCHS = 6
OBJECTIVE = "val_accuracy"


@click.command()
@click.option("--trials", "counts", multiple=True, type=int, default=(200, 2000), show_default=True)
@click.option("--child", "words", multiple=True, hidden=True)
def main(counts: tuple[int, ...], words: tuple[str, ...]) -> None:
    """Measures and prints a table."""
    if words:
        print(json.dumps(_measured(int(words[0]))))  # noqa: T201
        return
    table = Table("trials", "importances, s", "factors.svg, s", "report.html, s", "report.html, MB")
    for count in counts:
        found = in_child(__file__, count)
        seconds = (f"{found[name]:.1f}" for name in ("importances", "factors", "report"))
        table.add_row(f"{count:,}", *seconds, f"{found['bytes'] / 1e6:.1f}")
    Console().print(table)


def _measured(count: int) -> dict[str, float]:
    import matplotlib.figure  # noqa: F401
    import plotly.offline  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    space = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = _journal(folder / "journal.jsonl", space, count)
        trials = journal.trials
        known, first = _timed(lambda: importances(trials, space, OBJECTIVE))
        picture = folder / "factors.svg"
        _, second = _timed(lambda: factor_plot(trials, space, OBJECTIVE, picture, known))
        page = folder / "report.html"
        _, third = _timed(
            lambda: write_report(page, journal, space, importances=known, factors=picture)
        )
        size = page.stat().st_size
    return {"importances": first, "factors": second, "report": third, "bytes": size}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def random_point(space: Space, random: np.random.Generator) -> dict[str, Any]:
    """Values of a space, without conditional ones that do not apply."""
    values = {path: _drawn(path, space, random) for path in space.vary}
    for path in space.vary:
        condition = space.condition(path)
        if condition is not None and values[condition[0]] not in condition[1]:
            del values[path]
    return values


def _drawn(path: str, space: Space, random: np.random.Generator) -> Any:
    item = space.vary[path]
    if not isinstance(item, Range):
        return item[random.integers(len(item))]
    if space.is_whole(path):
        return int(random.integers(int(item.low), int(item.high) + 1))
    if item.log:
        return math.exp(random.uniform(math.log(item.low), math.log(item.high)))
    return random.uniform(item.low, item.high)


def _journal(path: Path, space: Space, count: int) -> Journal:
    random = np.random.default_rng(0)
    data = {"name": "digits", "source": "digits", "class_names": [], "classes": 10}
    data |= {"image_shape": [8, 8, 1], "sizes": {"train": 1000, "val": 400, "test": 397}}
    about = {"name": "simulated", "started": 0.0, "epochs": EPOCHS, "command": [], "data": data}
    journal = Journal(path)
    journal.begin(
        {
            "search_id": "simulated",
            "space": space.to_document(),
            "data": "simulated",
            "oracle": "random",
            "objective": OBJECTIVE,
            "seed": 0,
            "about": about,
        }
    )
    for number in range(1, count + 1):
        values, at = random_point(space, random), 10.0 * number
        journal.add(Started(number=number, values=values, time=at))
        best = 1 - 10 ** (-1 - 0.5 * random.random() - 0.3 * (values["block.kind"] == "dense"))
        best -= 0.05 * abs(math.log10(values["train.learning_rate"] / 0.01))
        for epoch in range(1, EPOCHS + 1):
            score = best * (1 - 0.5**epoch)
            metrics = {OBJECTIVE: score, "val_loss": 1 - score, "loss": 1 - score}
            journal.add(
                EpochRecord(
                    number=number, epoch=epoch, metrics=metrics, seconds=1.0, time=at + epoch
                )
            )
        journal.add(
            TrialRecord(
                number=number,
                values=values,
                status="completed",
                score=score,
                metrics=metrics,
                epochs=EPOCHS,
                seconds=float(EPOCHS),
                time=at + EPOCHS + 1,
            )
        )
    return Journal(path)


if __name__ == "__main__":
    main()
