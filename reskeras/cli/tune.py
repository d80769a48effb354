"""`reskeras tune`."""

import dataclasses
import json
import math
import re
import shlex
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
from reskeras.cli import options, reading
from reskeras.cli.initial import space_with_initial
from reskeras.cli.loading import load_keras, quiet_tensorflow
from reskeras.cli.progress import Progress
from reskeras.cli.tables import keep_decoded, output_console, tell_data
from reskeras.cli.values import COUNT
from reskeras.data.options import Cache, DataOptions
from reskeras.errors import RequestError, hide_passwords
from reskeras.spec import PRECISIONS, Precision, image_shape
from reskeras.spec.recipes import training_recipe
from reskeras.tasks import OBJECTIVES, metric_of, objective_of, write_score
from reskeras.words import three_digits
from tuning.insight.summary import what_mattered
from tuning.record.entries import TrialRecord
from tuning.record.evaluation import read_evaluation
from tuning.record.events import Listener, Result, Trial
from tuning.record.journal import Journal
from tuning.record.kept import Keep
from tuning.record.ranking import by_rank, scores_by_trial
from tuning.report.leaderboard import STOPPED_NOTE, TERMINAL_COLUMNS, leaderboard_of, to_terminal
from tuning.running.machine import safe_memory, warm_up
from tuning.settings import DEFAULT_ORACLE, ORACLES, Strategy
from tuning.space import Range, Space, default_space, load_space
from tuning.space.limits import Limits
from tuning.space.titles import title
from tuning.tracking import Tracker
from tuning.tracking import tracking_uri as resolve_uri
from tuning.tracking.tensorboard import TensorBoard

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_SHOWN = 10
"""Trials in the terminal's leaderboard."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
    """The options of the command."""

    space: Path | None
    data: str
    how: DataOptions
    cache: Cache
    oracle: str
    trials: int | None
    epochs: int | None
    minutes: float | None
    target: float | None
    final_epochs: int | None
    final_top: int
    final_seeds: int
    seed: int
    objective: str | None
    name: str | None
    resume: bool
    repair: bool
    workers: int | None
    cluster: str | None
    strategy: Strategy
    precision: Precision | None
    by: str | None
    lr: str | None
    max_params: int | None
    max_macs: int | None
    max_memory: int | None
    keep_models: str
    keep_bytes: int
    system_metrics: bool
    tensorboard: bool
    tracking_uri: str | None
    as_json: bool

    def check(self) -> None:
        """Refuses bad options before anything is loaded."""
        if self.name is not None and not re.fullmatch(_NAME, self.name):
            raise RequestError(
                f"--name {self.name!r}: a name is one word of up to 100 letters, digits, '_', '-', "
                "and '.'"
            )
        for option, number in (("minutes", self.minutes), ("target", self.target)):
            if number is not None and math.isnan(number):
                raise RequestError(f"--{option}: not a number")
        if self.cluster is not None and self.strategy in (Strategy.MIRRORED, Strategy.TPU):
            raise RequestError(
                f"--strategy {self.strategy.value} does not go with --ray, whose workers have one "
                "GPU each"
            )

    def most_trials(self) -> int | None:
        """None if only time or a score ends the search."""
        if self.trials is None and self.minutes is None and self.target is None:
            return 20
        return self.trials

    def epochs_of_finals(self) -> int:
        """0 for no final training."""
        if self.final_epochs is not None:
            return self.final_epochs
        return 20 if self.space is None else 0

    def limits(self) -> Limits:
        """Limits on a network's cost; the default memory is what is safe on this machine."""
        memory = self.max_memory
        if memory is None and self.cluster is None:
            memory = safe_memory(self.workers or 1)
        return Limits(params=self.max_params, macs=self.max_macs, memory=memory)


@click.command()
@click.argument("space", required=False, metavar="[SPACE.yaml]", type=options.file_path)
@options.data("digits")
@reading.how
@reading.cache
@click.option(
    "--oracle",
    type=click.Choice(list(ORACLES)),
    default=DEFAULT_ORACLE,
    show_default=True,
    help="The algorithm that suggests trials.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    show_default="20, or no limit with --minutes or --target",
    help="Run this many trials in total.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    show_default="from the space, or 6 without one",
    help="Train a trial for at most this many epochs.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Pause unfinished trials after this many minutes.",
)
@click.option("--target", type=float, help="Stop at the first score this good, such as 0.98.")
@click.option(
    "--final-epochs",
    type=click.IntRange(min=0),
    show_default="20 without a space, else 0",
    help="Train the best networks once more, for this many epochs.",
)
@click.option(
    "--final-top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Give this many networks a final training.",
)
@click.option(
    "--final-seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Final trainings per network; the best mean score wins.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The seed of the search. With one worker, the same seed repeats it.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    metavar="METRIC",
    show_default="the first metric of the task, such as val_accuracy",
    help="The metric that decides which trial is best.",
)
@click.option(
    "--name",
    show_default="from the space and the data",
    help="The name of the search and of its folder in searches/.",
)
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Resume the search of this name, or start over and keep the old one as NAME.old1.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Leave damaged lines out of the search's journal, and list them.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    show_default="1, or as many as fit on the cluster with --ray",
    help="Run this many trials at once.",
)
@click.option(
    "--ray",
    "cluster",
    metavar="ADDRESS",
    help="Run trials on a Ray cluster: HOST:PORT, auto (this machine's), or local.",
)
@click.option(
    "--strategy",
    type=click.Choice([strategy.value for strategy in Strategy]),
    default="auto",
    show_default=True,
    help="How a trial uses several devices.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    show_default="from the space, or float32",
    help="The precision that layers compute in.",
)
@options.recipe("Train trials by this recipe (`reskeras presets --recipes`), but for its epochs.")
@click.option(
    "--lr",
    type=click.Choice(["auto"]),
    help="Before the search, find the range of learning rates to search (`reskeras lr`).",
)
@click.option(
    "--max-params", type=COUNT, help="Skip networks with more trainable parameters, such as 2M."
)
@click.option(
    "--max-macs", type=COUNT, help="Skip networks with more multiply-adds per image, such as 500M."
)
@click.option(
    "--max-memory",
    type=COUNT,
    show_default="what is safe on this machine, or no limit with --ray",
    help="Skip networks that need more bytes to train, such as 4G.",
)
@click.option(
    "--keep-models",
    default="best",
    show_default=True,
    help="Keep the models of these trials: best, top:K, or all.",
)
@click.option(
    "--keep-bytes",
    type=COUNT,
    default="2G",
    show_default=True,
    help="Keep at most this many bytes of models; the worst are deleted first.",
)
@click.option(
    "--system-metrics", is_flag=True, help="Record the load of CPU, memory, and GPU in MLflow."
)
@click.option(
    "--tensorboard", is_flag=True, help="Also write TensorBoard logs, to searches/NAME/tensorboard."
)
@options.tracking_uri
@options.as_json
def tune(**given: Any) -> None:
    """Searches over depth, block kind, norm order, learning rate, and more.

    SPACE.yaml is a spec with a `vary:` section. Without one, a default space for the data is
    searched. Results go to searches/NAME: best.yaml, best.keras, leaderboard.csv, report.html with
    all figures, factors.svg, space.yaml, and journal.jsonl. MLflow records every trial. The same
    command resumes an interrupted search.
    """
    _run(_Request(**given | {"strategy": Strategy(given["strategy"])}))


def _run(request: _Request) -> None:
    interrupts = _Interrupts()
    console = Console(stderr=True, markup=False)
    console.print(
        f"reskeras {reskeras.__version__} · loading TensorFlow, Keras Tuner and MLflow ...",
        style="dim",
        highlight=False,
    )
    searched = _space(request.space) if request.space is not None else None
    if searched is not None and request.by is not None:
        searched = searched.trained_by(request.by)  # which may say how images are resized
    uri = resolve_uri(request.tracking_uri)
    keep = Keep.parse(request.keep_models, request.keep_bytes)
    request.check()
    from reskeras.data import load

    with quiet_tensorflow():
        if request.cluster is None:
            warm_up()
        size = None if searched is None else image_shape(searched.base.spec)
        how = dataclasses.replace(request.how, cache=request.cache)
        if searched is not None:
            resize = searched.base.train.resize
        else:
            resize = None if request.by is None else training_recipe(request.by).resize
        how = dataclasses.replace(how, resize=resize)
        images = load(request.data, size, how)
        load_keras()
        from tuning.search.tune import tune as run_search

    tell_data(images, console)
    images = keep_decoded(images, console)
    if searched is None:
        searched = default_space(images.facts, images.task)
        if request.by is not None:
            searched = searched.trained_by(request.by)
    if request.precision is not None:
        searched = searched.with_train(precision=request.precision)
    searched = space_with_initial(searched, request.tracking_uri)
    objective = objective_of(images.task, request.objective)
    name = request.name or _default_name(request.space, images.name)
    directory = Path("searches") / name
    if request.lr is not None:
        searched = _with_rates(searched, images, request, directory, console)
    tracker = Tracker(
        uri,
        on_problem=lambda text: console.print(f"warning: {text}", style="yellow", highlight=False),
        system_metrics=request.system_metrics,
    )
    if finals := request.epochs_of_finals():
        console.print(
            f"after the search, the best is trained for {finals} epochs (--final-epochs)",
            style="dim",
            highlight=False,
        )
    executor = None
    if request.cluster is not None:
        from tuning.running.cluster import Ray

        executor = Ray(images, request.cluster, directory=directory, workers=request.workers)
    listeners: list[Listener] = [interrupts, Progress(console), tracker]
    if request.tensorboard:
        listeners.insert(2, TensorBoard())
    try:
        result = run_search(
            searched,
            images,
            directory=directory,
            oracle=request.oracle,
            trials=request.most_trials(),
            epochs=request.epochs,
            minutes=request.minutes,
            target=request.target,
            final_epochs=request.epochs_of_finals(),
            final_top=request.final_top,
            final_seeds=request.final_seeds,
            seed=request.seed,
            fresh=not request.resume,
            repair=request.repair,
            objective=objective,
            workers=request.workers or 1,
            executor=executor,
            strategy=request.strategy,
            limits=request.limits(),
            keep=keep,
            command=["reskeras", *map(hide_passwords, sys.argv[1:])],
            listeners=listeners,
        )
    except KeyboardInterrupt:
        interrupts.ignore_more()
        _show_what_is_done(directory, searched, objective, console)
        raise
    if request.as_json:
        click.echo(json.dumps(_as_json(result)))
        return
    store = f" --tracking-uri {request.tracking_uri}" if request.tracking_uri else ""
    look = hide_passwords(tracker.page or f"reskeras ui {name}{store}")
    reopened = shlex.join(["--data", request.data, *request.how.words()])
    _show(result, searched, objective, reopened, look)


def _with_rates(
    space: Space, images: Any, request: _Request, directory: Path, console: Console
) -> Space:
    """The space with the learning rates of a range test; of an old search, those it began with."""
    from tuning.search.rates import measured_rates, recorded_rates

    found = recorded_rates(space, directory) if request.resume else None
    how = f"as {directory} has it"
    if found is None:
        console.print("learning rate: range test ...", style="dim", highlight=False)
        found, how = measured_rates(space, images, request.limits()), "by a range test"
    item = found.vary.get("train.learning_rate")
    rates = (
        f"{three_digits(item.low)} to {three_digits(item.high)}"
        if isinstance(item, Range)
        else three_digits(found.base.train.learning_rate)
    )
    console.print(f"learning rate: {rates}, {how}", highlight=False, soft_wrap=True)
    return found


def _space(path: Path) -> Space:
    if not path.exists() and str(path) in reskeras.presets():
        raise RequestError(
            f"{path} is a preset; give a space: a spec file with a `vary:` section. "
            f"`reskeras show {path}` prints the spec to start from; `reskeras train {path}` trains "
            "it as it is"
        )
    return load_space(path)


def _default_name(space: Path | None, data: str) -> str:
    data = data.replace("/", "-")
    return data if space is None else f"{space.stem}-{data}"


def _show(result: Result, space: Space, objective: str, reopened: str, look: str) -> None:
    output = output_console()

    def line(text: str, **style: Any) -> None:
        output.print(text, highlight=False, soft_wrap=True, **style)

    output.print(_table(f"leaderboard of {result.directory}", result.trials, space, objective))
    if any(record.status == "stopped" for record in result.trials[:_SHOWN]):
        line(STOPPED_NOTE, style="dim")
    for text in what_mattered(result.trials, space, objective, result.importances):
        output.print(text)
    if result.exhausted:
        line(result.exhausted)
    if result.failure:
        line(f"warning: {result.failure}", style="yellow")
    if result.dropped:
        line(
            "not run: " + ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
        )
    if len(result.finals) > 1:
        for mean in _finals(result, objective):
            line(mean)
    line(
        f"best: trial {result.best.number}, {title(result.best.values, space)}: "
        f"{objective} {write_score(objective, result.kept.score)}{_tested(result, objective)}",
        style="bold",
    )
    line(f"  train it again  reskeras train {result.directory}/best.yaml {reopened}")
    line(f"  use it          reskeras predict {result.directory} IMAGES")
    line(f"  in Python       keras.models.load_model('{result.directory}/best.keras')")
    line(f"  compare trials  {look}")
    line(f"  see the report  {result.directory}/report.html")


def _tested(result: Result, objective: str) -> str:
    """The score on the test split with its interval; empty if there is none."""
    metric = metric_of(objective)
    score = (result.test or {}).get(metric.name)
    if score is None:
        return ""
    evaluated = read_evaluation(result.directory) or {"intervals": {}}
    low, high = evaluated["intervals"].get(metric.name, (None, None))
    interval = "" if low is None or high is None else f" ({metric.write_interval(low, high)})"
    return f", on the test split {metric.write(score)}{interval}"


def _finals(result: Result, objective: str) -> list[str]:
    """Lines for the final trainings of each network: mean and spread of their scores."""
    lines = []
    for number, found in scores_by_trial(result.finals).items():
        spread = f" ± {write_score(objective, statistics.stdev(found))}" if len(found) > 1 else ""
        mean = write_score(objective, statistics.mean(found))
        lines.append(f"final: trial {number}, mean of {len(found)}: {mean}{spread}")
    return lines


def _show_what_is_done(directory: Path, space: Space, objective: str, console: Console) -> None:
    """Prints the trials that ended before the search was interrupted."""
    path = directory / "journal.jsonl"
    done = by_rank(Journal(path).trials, objective) if path.exists() else []
    if done:
        console.print(_table(f"so far in {directory}", done, space, objective))
    console.print("finished trials are kept, and the same command resumes", highlight=False)


class _Interrupts(Listener):
    """Turns SIGINT and SIGTERM into KeyboardInterrupt.

    Python prints and drops an exception raised in a destructor or in the callback of a weak
    reference. So the exception is raised only while this program waits or runs its own code. A
    signal that arrives elsewhere is postponed for a moment. If the exception is dropped anyway, it
    is raised again at the next epoch.
    """

    _OWN = (str(Path(reskeras.__file__).parent), str(Path(tuning.__file__).parent))
    _WAITING = ("selectors.py", "connection.py", "threading.py", "subprocess.py")
    _LONGEST = 40
    """How often a signal is postponed, for 50 ms each time."""

    def __init__(self) -> None:
        self._seen, self._postponed = False, 0
        # SIGINT too: a shell starts background jobs with it ignored. SIGALRM is a postponed signal.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        file = frame.f_code.co_filename if frame is not None else ""
        if (
            not file.startswith(self._OWN)
            and not file.endswith(self._WAITING)
            and self._postponed < self._LONGEST
        ):
            self._postponed += 1
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        self._postponed = 0
        raise KeyboardInterrupt

    def ignore_more(self) -> None:
        """Ignores further signals until this process ends."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)

    def trial_started(self, trial: Trial) -> None:
        if self._seen:
            # A postponed signal must not raise again: it would cut short the end of the search.
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    def epoch_ended(self, trial: Trial, epoch: Any) -> None:
        self.trial_started(trial)


def _table(heading: str, ranked: Sequence[TrialRecord], space: Space, objective: str) -> Table:
    return to_terminal(leaderboard_of(ranked[:_SHOWN], space, objective, TERMINAL_COLUMNS), heading)


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "directory": str(result.directory),
        "best": dataclasses.asdict(result.best),
        "final": result.final and dataclasses.asdict(result.final),
        "finals": [dataclasses.asdict(final) for final in result.finals],
        "dropped": result.dropped,
        "exhausted": result.exhausted,
        "test": result.test,
        "evaluation": read_evaluation(result.directory),
        "trials": [dataclasses.asdict(record) for record in result.trials],
    }
