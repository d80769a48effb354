"""`reskeras tune`."""

import dataclasses
import json
import math
import re
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import reskeras
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.progress import Progress, compact, percent
from reskeras.spec import image_shape
from tuning.events import Listener, Result, Trial
from tuning.report import title
from tuning.settings import OBJECTIVES, ORACLES
from tuning.space import Space, default_space, load_space
from tuning.tracking import Tracker
from tuning.tracking import tracking_uri as resolve_uri

_SIZE_BEFORE_SPACE = (32, 32, 3)
"""What images without a common size are resized to where no space file says otherwise."""


@click.command()
@click.argument("space", required=False, metavar="[SPACE.yaml]", type=click.Path(path_type=Path))
@click.option("--data", default="digits", show_default=True, help="digits, a TFDS name, a folder of images, or an .npz")
@click.option("--oracle", type=click.Choice(ORACLES), default="random", show_default=True, help="what chooses the trials")
@click.option("--trials", type=click.IntRange(min=1), default=10, show_default=True, help="trials in all")
@click.option("--epochs", type=click.IntRange(min=1), help="epochs of a trial  [default: the space's own, 6 without one]")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="begin no trial after so many minutes")
@click.option(
    "--final-epochs",
    type=click.IntRange(min=0),
    help="train the winner once more, for so many epochs  [default: 20 without a space, else 0]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="the same seed gives the same search")
@click.option(
    "--objective", type=click.Choice(list(OBJECTIVES)), default="val_accuracy", show_default=True, help="what is compared"
)
@click.option("--name", help="of the search and its folder in searches/  [default: from the space and the data]")
@click.option(
    "--resume/--fresh",
    default=True,
    help="go on with the search of this name (the default), or begin anew; the old one is kept as NAME.old1",
)
@click.option("--tracking-uri", help="MLflow's store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def tune(
    space: Path | None,
    data: str,
    oracle: str,
    trials: int,
    epochs: int | None,
    minutes: float | None,
    final_epochs: int | None,
    seed: int,
    objective: str,
    name: str | None,
    resume: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Search for the best network on a data set: depth, block kind, place of batch norm, learning rate.

    SPACE.yaml is a spec with a `vary:` section; without one a default space for the data is searched. Leaves best.yaml,
    best.keras, leaderboard.csv, space.yaml and journal.jsonl in searches/NAME, and every trial in MLflow. Called again, it
    goes on where it was stopped.
    """
    interrupts = _Interrupts()
    console = Console(stderr=True, markup=False)
    console.print(f"reskeras {reskeras.__version__} · loading TensorFlow, Keras Tuner and MLflow ...", style="dim", highlight=False)
    searched = load_space(space) if space is not None else None
    uri = resolve_uri(tracking_uri)
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise reskeras.RequestError(f"--name {name!r}: a name is one word of up to 100 letters, digits, '_', '-' and '.'")
    if minutes is not None and math.isnan(minutes):
        raise reskeras.RequestError("--minutes: not a number")
    from reskeras.data import open_data

    with quiet_tensorflow():
        images = open_data(data, image_shape(searched.base.model) if searched is not None else _SIZE_BEFORE_SPACE)
        load_keras()
        from tuning.search import tune as run_search

    console.print(images.describe(), highlight=False)
    if searched is None:
        searched = default_space(images.image_shape, images.classes, images.task)
    if name is None:
        name = images.name.replace("/", "-") if space is None else f"{space.stem}-{images.name.replace('/', '-')}"
    directory = Path("searches") / name
    try:
        result = run_search(
            searched,
            images,
            directory=directory,
            oracle=oracle,
            trials=trials,
            epochs=epochs,
            minutes=minutes,
            final_epochs=final_epochs if final_epochs is not None else 20 if space is None else 0,
            seed=seed,
            fresh=not resume,
            objective=objective,
            listeners=[
                interrupts,
                Progress(console),
                Tracker(uri, on_problem=lambda text: console.print(f"warning: {text}", style="yellow", highlight=False)),
            ],
        )
    except KeyboardInterrupt:
        console.print("the trials that ended are kept, and the same command goes on", highlight=False)
        raise
    if as_json:
        click.echo(json.dumps(_as_json(result)))
        return
    output = Console(markup=False)
    output.print(_leaderboard(result, searched, objective))
    test = "" if result.test is None else f", on the test split {percent('accuracy', result.test['accuracy'])}"
    output.print(
        f"best: trial {result.best.number}, {title(result.best.values, searched)}: "
        f"{objective} {percent(objective, result.kept.score)}{test}",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    output.print(f"  train it again  reskeras train {result.directory}/best.yaml --data {data}", highlight=False, soft_wrap=True)
    output.print(f"  use it          keras.models.load_model('{result.directory}/best.keras')", highlight=False, soft_wrap=True)
    ui = "reskeras ui" + (f" --tracking-uri {tracking_uri}" if tracking_uri else "")
    output.print(f"  compare trials  {ui}", highlight=False, soft_wrap=True)


class _Interrupts(Listener):
    """Turns SIGINT and SIGTERM into KeyboardInterrupt.

    Python drops an exception raised while a destructor runs, so one that comes there is put off for a moment; one that was
    dropped all the same is raised again at the next epoch.
    """

    def __init__(self) -> None:
        self._seen = False
        # SIGINT too: a shell starts background jobs with it ignored. SIGALRM is one of them, put off.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        if frame is not None and (frame.f_code.co_name == "__del__" or frame.f_code.co_filename.endswith("weakref.py")):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        raise KeyboardInterrupt

    def trial_started(self, trial: Trial) -> None:
        if self._seen:
            raise KeyboardInterrupt

    def epoch_ended(self, trial: Trial, epoch: Any) -> None:
        self.trial_started(trial)


def _leaderboard(result: Result, space: Space, objective: str) -> Table:
    # No wider than 80 columns for the default space.
    table = Table(
        title=f"leaderboard of {result.directory}", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("trial", justify="right")
    table.add_column(objective, justify="right", style="bold")
    short = space.short_names()
    for column in short.values():
        table.add_column(column)
    table.add_column("params", justify="right")
    table.add_column("seconds", justify="right")
    for record in result.trials[:10]:
        searched = [record.values.get(path, "") for path in short]
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in searched]
        score = "failed" if record.status == "failed" else percent(objective, record.score)
        table.add_row(str(record.number), score, *cells, compact(record.params), f"{record.seconds:.1f}")
    return table


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "directory": str(result.directory),
        "best": dataclasses.asdict(result.best),
        "final": result.final and dataclasses.asdict(result.final),
        "test": result.test,
        "trials": [dataclasses.asdict(record) for record in result.trials],
    }
