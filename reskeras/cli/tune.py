"""`reskeras tune`."""

import dataclasses
import json
import math
import re
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import reskeras
import tuning
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.progress import Progress
from reskeras.cli.values import COUNT
from reskeras.spec import PRECISIONS, image_shape
from reskeras.tasks import OBJECTIVES, objective_of, write_score
from reskeras.words import compact, three_digits
from tuning.insight.summary import what_mattered
from tuning.record.entries import TrialRecord
from tuning.record.events import Listener, Result, Trial
from tuning.record.journal import Journal
from tuning.record.kept import Keep
from tuning.record.ranking import leaderboard, scores_by_trial
from tuning.running.machine import safe_memory, warm_up
from tuning.settings import DEFAULT_ORACLE, ORACLES, Strategy
from tuning.space import Space, default_space, load_space
from tuning.space.limits import Limits
from tuning.space.titles import title
from tuning.tracking import Tracker
from tuning.tracking import tracking_uri as resolve_uri
from tuning.tracking.store import shown
from tuning.tracking.tensorboard import TensorBoard

_SIZE_BEFORE_SPACE = (32, 32, 3)
"""What images without a common size are resized to where no space file says otherwise."""


@click.command()
@click.argument("space", required=False, metavar="[SPACE.yaml]", type=click.Path(path_type=Path))
@click.option(
    "--data",
    default="digits",
    show_default=True,
    help="digits, a TFDS name, a folder of images, or an .npz",
)
@click.option(
    "--oracle",
    type=click.Choice(ORACLES),
    default=DEFAULT_ORACLE,
    show_default=True,
    help="what chooses the trials",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="trials in all  [default: 20, or no limit with --minutes or --target]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="most epochs of a trial  [default: the space's own, 6 without one]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="put off what is not done after so many minutes",
)
@click.option("--target", type=float, help="end at the first score as good as this, such as 0.98")
@click.option(
    "--final-epochs",
    type=click.IntRange(min=0),
    help="train the best once more, for so many epochs  [default: 20 without a space, else 0]",
)
@click.option(
    "--final-top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="how many networks that is done with",
)
@click.option(
    "--final-seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="how often; their mean decides",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="the same seed gives the same search",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="what is compared  [default: the first metric of the task, such as val_accuracy]",
)
@click.option(
    "--name",
    help="of the search and its folder in searches/  [default: from the space and the data]",
)
@click.option(
    "--resume/--fresh",
    default=True,
    help="go on with the search of this name (the default), or begin anew; the old one is kept as NAME.old1",
)
@click.option(
    "--repair",
    is_flag=True,
    help="leave damaged lines out of the search's journal, and say what they were",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="trials at once  [default: 1, or what the cluster of --ray has room for]",
)
@click.option(
    "--ray",
    "cluster",
    metavar="ADDRESS",
    help="run trials on a Ray cluster: HOST:PORT, auto (this machine's) or local",
)
@click.option(
    "--strategy",
    type=click.Choice([strategy.value for strategy in Strategy]),
    default="auto",
    show_default=True,
    help="how one trial uses several devices",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="what layers compute in  [default: the space's own, float32]",
)
@click.option("--max-params", type=COUNT, help="run no network with more trainable parameters (2M)")
@click.option(
    "--max-macs", type=COUNT, help="run no network with more multiply-adds for an image (500M)"
)
@click.option(
    "--max-memory",
    type=COUNT,
    help="nor one that trains in more bytes (4G)  [default: what is safe on this machine, none with --ray]",
)
@click.option(
    "--keep-models",
    default="best",
    show_default=True,
    help="whose models are kept: best, top:K or all",
)
@click.option(
    "--keep-bytes",
    type=COUNT,
    default="2G",
    show_default=True,
    help="how large these may be together; the worst go first",
)
@click.option(
    "--system-metrics", is_flag=True, help="let MLflow sample the load of processor, memory and GPU"
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="also write what TensorBoard reads, to searches/NAME/tensorboard",
)
@click.option(
    "--tracking-uri",
    help="MLflow's store  [default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here]",
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def tune(
    space: Path | None,
    data: str,
    oracle: str,
    trials: int | None,
    epochs: int | None,
    minutes: float | None,
    target: float | None,
    final_epochs: int | None,
    final_top: int,
    final_seeds: int,
    seed: int,
    objective: str | None,
    name: str | None,
    resume: bool,
    repair: bool,
    workers: int | None,
    cluster: str | None,
    strategy: str,
    precision: str | None,
    max_params: int | None,
    max_macs: int | None,
    max_memory: int | None,
    keep_models: str,
    keep_bytes: int,
    system_metrics: bool,
    tensorboard: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Search for the best network on a data set: depth, block kind, place of batch norm, learning rate.

    SPACE.yaml is a spec with a `vary:` section; without one a default space for the data is searched. Leaves best.yaml,
    best.keras, leaderboard.csv, report.html with all its figures, factors.svg, space.yaml and journal.jsonl in searches/NAME, and
    every trial in MLflow. Called again, it goes on where it was stopped.
    """
    interrupts = _Interrupts()
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow, Keras Tuner and MLflow ...",
        style="dim",
        highlight=False,
    )
    searched = load_space(space) if space is not None else None
    uri = resolve_uri(tracking_uri)
    keep = Keep.parse(keep_models, keep_bytes)
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise reskeras.RequestError(
            f"--name {name!r}: a name is one word of up to 100 letters, digits, '_', '-' and '.'"
        )
    for option, number in (("minutes", minutes), ("target", target)):
        if number is not None and math.isnan(number):
            raise reskeras.RequestError(f"--{option}: not a number")
    if cluster is not None and Strategy(strategy) in (Strategy.MIRRORED, Strategy.TPU):
        raise reskeras.RequestError(
            f"--strategy {strategy} does not go with --ray, whose workers have one GPU each"
        )
    from reskeras.data import open_data

    with quiet_tensorflow():
        if cluster is None:
            warm_up()
        images = open_data(
            data, image_shape(searched.base.model) if searched is not None else _SIZE_BEFORE_SPACE
        )
        load_keras()
        from tuning.search.tune import tune as run_search

    console.print(images.describe(), highlight=False)
    if searched is None:
        searched = default_space(images.image_shape, images.classes, images.task)
    objective = objective_of(images.task, objective)
    if precision is not None:
        searched = searched.with_train(precision=precision)
    if name is None:
        name = (
            images.name.replace("/", "-")
            if space is None
            else f"{space.stem}-{images.name.replace('/', '-')}"
        )
    directory = Path("searches") / name
    if trials is None and minutes is None and target is None:
        trials = 20
    if max_memory is None and cluster is None:
        max_memory = safe_memory(workers or 1)
    limits = Limits(params=max_params, macs=max_macs, memory=max_memory)
    tracker = Tracker(
        uri,
        on_problem=lambda text: console.print(f"warning: {text}", style="yellow", highlight=False),
        system_metrics=system_metrics,
    )
    executor = None
    if cluster is not None:
        from tuning.running.cluster import Ray

        executor = Ray(images, cluster, directory=directory, workers=workers)
    try:
        result = run_search(
            searched,
            images,
            directory=directory,
            oracle=oracle,
            trials=trials,
            epochs=epochs,
            minutes=minutes,
            target=target,
            final_epochs=final_epochs if final_epochs is not None else 20 if space is None else 0,
            final_top=final_top,
            final_seeds=final_seeds,
            seed=seed,
            fresh=not resume,
            repair=repair,
            objective=objective,
            workers=workers or 1,
            executor=executor,
            strategy=Strategy(strategy),
            limits=limits,
            keep=keep,
            command=["reskeras", *map(shown, sys.argv[1:])],
            listeners=[
                interrupts,
                Progress(console),
                *([TensorBoard()] if tensorboard else []),
                tracker,
            ],
        )
    except KeyboardInterrupt:
        interrupts.ignore_more()
        _show_what_is_done(directory, searched, objective, console)
        raise
    if as_json:
        click.echo(json.dumps(_as_json(result)))
        return
    look = tracker.page or f"reskeras ui {name}" + (
        f" --tracking-uri {tracking_uri}" if tracking_uri else ""
    )
    _show(result, searched, objective, data, look)


def _show(result: Result, space: Space, objective: str, data: str, look: str) -> None:
    output = Console(markup=False)

    def line(text: str, **style: Any) -> None:
        output.print(text, highlight=False, soft_wrap=True, **style)

    output.print(
        _leaderboard(f"leaderboard of {result.directory}", result.trials, space, objective)
    )
    for text in what_mattered(result.trials, space, objective, result.importances):
        output.print(text)
    if result.exhausted:
        line(result.exhausted)
    if result.dropped:
        line(
            "not run: " + ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
        )
    if len(result.finals) > 1:
        for told in _finals(result, objective):
            line(told)
    tested = (result.test or {}).get(objective.removeprefix("val_"))
    test = "" if tested is None else f", on the test split {write_score(objective, tested)}"
    line(
        f"best: trial {result.best.number}, {title(result.best.values, space)}: "
        f"{objective} {write_score(objective, result.kept.score)}{test}",
        style="bold",
    )
    line(f"  train it again  reskeras train {result.directory}/best.yaml --data {data}")
    line(f"  use it          keras.models.load_model('{result.directory}/best.keras')")
    line(f"  compare trials  {look}")
    line(f"  look at it all  {result.directory}/report.html")


def _finals(result: Result, objective: str) -> list[str]:
    """The final trainings of each network: their mean score, and how far they spread."""
    lines = []
    for number, found in scores_by_trial(result.finals).items():
        spread = f" ± {write_score(objective, statistics.stdev(found))}" if len(found) > 1 else ""
        lines.append(
            f"final: trial {number}, mean of {len(found)}: {write_score(objective, statistics.mean(found))}{spread}"
        )
    return lines


def _show_what_is_done(directory: Path, space: Space, objective: str, console: Console) -> None:
    """An early answer: the trials that ended before the search was interrupted."""
    path = directory / "journal.jsonl"
    done = leaderboard(Journal(path).trials, objective) if path.exists() else []
    if done:
        console.print(_leaderboard(f"so far in {directory}", done, space, objective))
    console.print("the trials that ended are kept, and the same command goes on", highlight=False)


class _Interrupts(Listener):
    """Turns SIGINT and SIGTERM into KeyboardInterrupt.

    Python drops an exception that is raised while a destructor or the callback of a weak reference runs, and prints it. So it is
    raised where this program waits or works itself, for which a signal that comes elsewhere is put off for a moment; one that
    was dropped all the same is raised again at the next epoch.
    """

    _OWN = (str(Path(reskeras.__file__).parent), str(Path(tuning.__file__).parent))
    _WAITING = ("selectors.py", "connection.py", "threading.py", "subprocess.py")
    _LONGEST = 40
    """Times that a signal is put off, for 50 ms each."""

    def __init__(self) -> None:
        self._seen, self._put_off = False, 0
        # SIGINT too: a shell starts background jobs with it ignored. SIGALRM is one of them, put off.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        file = frame.f_code.co_filename if frame is not None else ""
        if (
            not file.startswith(self._OWN)
            and not file.endswith(self._WAITING)
            and self._put_off < self._LONGEST
        ):
            self._put_off += 1
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        self._put_off = 0
        raise KeyboardInterrupt

    def ignore_more(self) -> None:
        """For the rest of this process, which is about to end: a second Ctrl-C hurries the end, a later one does nothing."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)

    def trial_started(self, trial: Trial) -> None:
        if self._seen:
            raise KeyboardInterrupt

    def epoch_ended(self, trial: Trial, epoch: Any) -> None:
        self.trial_started(trial)


def _leaderboard(
    heading: str, trials: Sequence[TrialRecord], space: Space, objective: str
) -> Table:
    # No wider than 80 columns for the default space.
    table = Table(
        title=heading, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("trial", justify="right")
    table.add_column(objective, justify="right", style="bold")
    short = space.short_names()
    for column in short.values():
        table.add_column(column)
    table.add_column("params", justify="right")
    table.add_column("seconds", justify="right")
    for record in trials[:10]:
        searched = [record.values.get(path, "") for path in short]
        cells = [three_digits(value) for value in searched]
        score = "failed" if record.status == "failed" else write_score(objective, record.score)
        table.add_row(
            str(record.number), score, *cells, compact(record.params), f"{record.seconds:.1f}"
        )
    return table


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "directory": str(result.directory),
        "best": dataclasses.asdict(result.best),
        "final": result.final and dataclasses.asdict(result.final),
        "finals": [dataclasses.asdict(final) for final in result.finals],
        "dropped": result.dropped,
        "exhausted": result.exhausted,
        "test": result.test,
        "trials": [dataclasses.asdict(record) for record in result.trials],
    }
