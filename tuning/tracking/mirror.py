"""Mirrors the journal of a search in MLflow: a run for the search, with one child per training.

Everything is read from the journal and can be sent repeatedly: runs are found by their tags, and
MLflow drops metrics that it already has. After any failure, a new `Mirror` starts from the
beginning and skips the runs that are complete.
"""

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reskeras.drawing.plot import plot
from reskeras.errors import RequestError, in_a_line
from reskeras.nets.cost import cost
from reskeras.spec import Recipe
from reskeras.spec.text import dump_recipe, load_recipe
from tuning.record.entries import (
    Conclusion,
    Entry,
    EpochRecord,
    Final,
    FinalEpoch,
    Started,
    TrialRecord,
    final_key,
    trial_key,
)
from tuning.record.evaluation import EVALUATION, read_evaluation
from tuning.record.events import Ending
from tuning.record.journal import read_on
from tuning.record.ranking import by_rank
from tuning.report.curve import curve_plot
from tuning.space.recipes import final_recipe, trial_recipe
from tuning.space.titles import title
from tuning.tracking.champion import log_champion
from tuning.tracking.note import ROWS, Pages, search_note, trial_note
from tuning.tracking.search_run import SearchRun
from tuning.tracking.subject import Subject

_STATUS = {Ending.FINISHED: "FINISHED", Ending.FAILED: "FAILED", Ending.INTERRUPTED: "KILLED"}
_COMPLETE = ("FINISHED", "FAILED")
_KEPT = "reskeras.kept"
"""Tag of a trial's run that has its model."""
_BEST = "reskeras.best"
"""Tag of the run whose model is the search's."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")
"""MLflow's errors about one call that it refuses, for example because somebody deleted the run.
Other errors concern the store."""
_BATCH = 1000
"""Most metrics in one call."""
_RANKED = 100
"""Number of trials that get their rank: each takes a call, and MLflow's table shows a hundred."""
_NOTE_SECONDS = 30.0
"""Seconds between updates of the description of a running search."""


@dataclasses.dataclass(frozen=True)
class _TrainingKey:
    """A trial, or a final training of its network."""

    number: int
    final: tuple[int, int] | None = None
    """Epochs and repeat of a final training; None for a trial."""

    @property
    def key(self) -> str:
        if self.final is None:
            return trial_key(self.number)
        return final_key(self.number, *self.final)


@dataclasses.dataclass
class _Run:
    """The run of a trial or final training, and what is still to be sent."""

    run_id: str
    name: str
    status: str
    """Its status in MLflow."""
    had_error: bool = False
    """Whether it has an error that an earlier session left."""
    recipe: Recipe | None = None
    epochs: list[EpochRecord] = dataclasses.field(default_factory=list)
    metrics: list[Any] = dataclasses.field(default_factory=list)
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    end: tuple[str, float] | None = None
    """Its final status, and when it ends."""
    over: bool = False
    """Whether nothing more is to be sent."""
    kept: bool = False
    """Whether MLflow has its model."""
    best: bool = False
    """Whether an earlier session tagged it as the best."""
    gone: bool = False
    """Whether MLflow refuses it."""


class Mirror:
    """Mirrors one search in one store.

    Every method raises what MLflow and its store's driver raise. After that, the mirror must be
    replaced.

    Args:
        uri: the store's address.
        directory: the search's folder, whose journal must exist.
        caller: id of a run that the caller has active, if any (see `SearchRun`).
        live: whether the search is running.
        system_metrics: whether MLflow samples the load of CPU, memory and GPU until this is closed.

    Attributes:
        refused: what MLflow refused, a line each.
    """

    def __init__(
        self,
        uri: str,
        directory: Path,
        *,
        caller: str | None = None,
        live: bool = True,
        system_metrics: bool = False,
    ) -> None:
        self._directory, self._journal = directory, directory / "journal.jsonl"
        (header, *self._unread), self._offset = read_on(self._journal, 0)
        assert isinstance(header, dict)
        self._subject = subject = Subject(header)
        self._live = live
        self._parent = SearchRun(uri, subject, caller, live=live)
        self._client, self._experiment = self._parent.client, self._parent.experiment
        self._runs = self._known(self._parent.children)
        self._values: dict[int, Mapping[str, Any]] = {}
        self._records: dict[int, TrialRecord] = {}
        self._finals: list[TrialRecord] = []
        self._leader: TrialRecord | None = None
        self._conclusion: Conclusion | None = None
        self._trainings: dict[str, _TrainingKey] = {}
        self._paused: set[str] = set()
        """Trials that were open when the search ended."""
        self._progress: list[Any] = []
        """Pending metrics of the search's own run."""
        self._last = 0.0
        """Time of the last event."""
        self._noted = time.monotonic()
        self._caught_up = False
        """Whether the entries that follow are of this session."""
        self.refused: list[str] = []
        self._monitor = self._watch(uri) if system_metrics else None

    @property
    def concluded(self) -> bool:
        """Whether the search has ended, according to what was read so far."""
        ended = {key for key, run in self._runs.items() if run.over or run.end}
        return self._conclusion is not None and set(self._runs) <= ended | self._paused

    @property
    def link(self) -> str:
        """The page of this search in MLflow, relative to the server's address."""
        return self._parent.link

    def advance(self) -> None:
        """Sends what the journal has and MLflow lacks."""
        unread, self._offset = read_on(self._journal, self._offset)
        for entry in [*self._unread, *unread]:
            assert not isinstance(entry, dict)
            self._apply(entry)
        self._unread = []
        self._flush()
        if self._live and (not self._caught_up or time.monotonic() - self._noted > _NOTE_SECONDS):
            self._describe(None)
        self._caught_up = True

    def finish(self, ending: Ending) -> None:
        """Sends the rest and ends all runs."""
        self.advance()
        for run in self._runs.values():
            if not run.over:
                run.tags["reskeras.error"] = "interrupted"
                run.end = ("KILLED", self._last)
        self._flush()
        if ending is Ending.FINISHED:
            self._conclude()
        self.close()
        self._describe(ending)
        self._parent.end(_STATUS[ending], _milliseconds(self._last))

    def close(self) -> None:
        """Stops the sampling of system metrics."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None

    # What happened

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Started():
                self._values[entry.number] = entry.values
                self._start(_TrainingKey(entry.number), entry.time)
            case EpochRecord():
                self._paused.discard(trial_key(entry.number))
                self._epoch(self._runs[trial_key(entry.number)], entry)
            case TrialRecord():
                self._take(entry)
                self._end(self._runs[trial_key(entry.number)], entry)
            case FinalEpoch() | Final():
                run = self._final(entry)
                if isinstance(entry, Final):
                    self._finals.append(entry.record)
                    self._end(run, entry.record)
                else:
                    self._epoch(run, entry.record)
            case Conclusion():
                self._conclusion, self._last = entry, max(self._last, entry.time)
                self._paused = {key for key, run in self._runs.items() if not (run.over or run.end)}
            case _:
                pass

    def _recipe(self, training: _TrainingKey) -> Recipe | None:
        """The recipe of a trial or final training; None if its values make no network.

        Such a trial fails, and its record says why.
        """
        number, space, seed = training.number, self._subject.space, self._subject.seed
        values = self._values[number]
        try:
            if training.final is None:
                return trial_recipe(space, values, number=number, seed=seed)
            epochs, repeat = training.final
            return final_recipe(
                space, values, number=number, seed=seed, epochs=epochs, repeat=repeat
            )
        except RequestError:
            return None

    def _final(self, entry: FinalEpoch | Final) -> _Run:
        training = _TrainingKey(entry.record.number, (entry.epochs, entry.repeat))
        if (run := self._runs.get(training.key)) is None or not (run.over or run.recipe):
            self._start(training, entry.record.time - entry.record.seconds)
        self._trainings[training.key] = training
        return self._runs[training.key]

    def _start(self, training: _TrainingKey, started: float) -> None:
        self._trainings[training.key] = training
        self._last = max(self._last, started)
        number, key = training.number, training.key
        run = self._runs.get(key)
        if run is not None and run.over:
            return
        if run is None:
            kind = "trial" if training.final is None else "final"
            name = ("final · " if kind == "final" else "") + title(
                self._values[number], self._subject.space
            )
            tags = self._subject.tags(kind) | {
                "reskeras.key": key,
                "reskeras.trial": str(number),
                "mlflow.parentRunId": self._parent.run_id,
                "mlflow.source.name": "reskeras tune",
            }
            made = self._client.create_run(
                self._experiment, start_time=_milliseconds(started), run_name=name, tags=tags
            )
            run = self._runs[key] = _Run(made.info.run_id, name, "RUNNING")
        run.recipe = self._recipe(training)
        self._parent.log_data(run.run_id)
        run.params = {"trial": number} | self._subject.params(self._values[number])
        run.tags["mlflow.note.content"] = trial_note(run.run_id)
        if run.recipe is not None:
            # A parameter, so it can be an axis beside the searched ones.
            run.params["depth" if "depth" not in run.params else "net_depth"] = cost(
                run.recipe.spec
            ).depth
            self._client.log_text(run.run_id, dump_recipe(run.recipe), "spec.yaml")

    def _epoch(self, run: _Run, record: EpochRecord) -> None:
        self._last = max(self._last, record.time)
        if run.over:
            return
        run.epochs.append(record)
        if run.status == "KILLED" and self._caught_up:
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        run.metrics += _metrics(
            {**record.metrics, "epoch_seconds": record.seconds}, record.epoch, record.time
        )

    def _take(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        if record.score is not None:
            if (
                self._leader is None
                or by_rank([self._leader, record], self._subject.objective)[0] is record
            ):
                self._leader, self._conclusion = record, None
            assert self._leader.score is not None
            best = {f"best_{self._subject.objective}": self._leader.score}
            self._progress += _metrics(best, len(self._records), record.time)

    def _end(self, run: _Run, record: TrialRecord) -> None:
        self._last = max(self._last, record.time)
        if run.over:
            return
        facts = {"trial_seconds": record.seconds}
        if record.peak_memory is not None:
            facts["peak_memory_mb"] = record.peak_memory / 1e6
        if run.recipe is not None:
            found = cost(run.recipe.spec)
            facts |= {"params_millions": found.params / 1e6, "macs_millions": found.macs / 1e6}
        run.metrics += _metrics(facts, record.epochs, record.time)
        if record.parent is not None:
            run.tags["reskeras.parent_trial"] = str(record.parent)
        match record.status:
            case "failed":
                run.tags["reskeras.error"] = in_a_line(record.error)
                run.tags["mlflow.note.content"] = trial_note(run.run_id, record.error)
            case "stopped":
                run.tags["reskeras.stopped"] = f"after epoch {record.epochs}: others were better"
            case "completed":
                pass
        run.end = ("FAILED" if record.status == "failed" else "FINISHED", record.time)

    # Sending

    def _flush(self) -> None:
        for run in self._runs.values():
            if not run.over and (run.metrics or run.params or run.tags or run.end):
                with self._tolerant(run):
                    self._send(run)
        if self._progress:
            self._send_batch(self._parent.run_id, self._progress)
            self._progress = []

    def _send(self, run: _Run) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(name, str(value)) for name, value in run.params.items()]
        tags = [RunTag(name, value) for name, value in run.tags.items()]
        self._send_batch(run.run_id, run.metrics, params=params, tags=tags)
        had_error = "reskeras.error" in run.tags
        run.metrics, run.params, run.tags = [], {}, {}
        if run.end is None:
            return
        if run.had_error and not had_error:
            self._client.delete_tag(run.run_id, "reskeras.error")
        status, when = run.end
        if status in _COMPLETE and run.recipe is not None and run.epochs:
            self._draw(run, run.recipe)
        self._client.set_terminated(run.run_id, status, end_time=_milliseconds(when))
        run.status, run.had_error, run.end, run.over = status, had_error, None, status in _COMPLETE
        if run.over:
            run.epochs = []

    def _draw(self, run: _Run, recipe: Recipe) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "architecture.svg").write_bytes(_architecture(recipe.spec))
            curve_plot(run.epochs, self._subject.objective, Path(folder, "learning_curve.svg"))
            self._client.log_artifacts(run.run_id, folder)

    def _send_batch(self, run_id: str, metrics: list[Any], **more: Any) -> None:
        for start in range(0, max(len(metrics), 1), _BATCH):
            self._client.log_batch(
                run_id, metrics=metrics[start : start + _BATCH], **(more if start == 0 else {})
            )

    @contextlib.contextmanager
    def _tolerant(self, run: _Run) -> Iterator[None]:
        """Continues without a run that MLflow refuses."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            run.over = run.gone = True
            with contextlib.suppress(MlflowException):  # refused if the run is deleted
                self._client.set_terminated(
                    run.run_id, run.end[0] if run.end is not None else "KILLED"
                )
            self.refused.append(f"{run.name} ({run.run_id}): {in_a_line(error)}")

    # The end

    def _conclude(self) -> None:
        assert self._conclusion is not None
        for rank, record in enumerate(
            by_rank(list(self._records.values()), self._subject.objective)[:_RANKED], start=1
        ):
            run = self._runs[trial_key(record.number)]
            if not run.gone:
                with self._tolerant(run):
                    self._send_batch(
                        run.run_id, _metrics({"rank": rank}, record.epochs, self._last)
                    )
        self._send_evaluation(self._parent.run_id)
        self._client.set_tag(
            self._parent.run_id, "reskeras.best_trial", str(self._conclusion.winner)
        )
        for name in ("report.html", "leaderboard.csv", "factors.svg", "best.yaml"):
            if (self._directory / name).exists():
                self._client.log_artifact(self._parent.run_id, str(self._directory / name))
        self._hand_over()
        models = self._directory / "models"
        others = any(models.glob("trial-*/model.keras"))
        for key, run in self._runs.items():
            model = models / key / "model.keras"
            # Taken away only if other models are there instead: the folder may be a copy, or
            # somebody has cleared it.
            lost = run.kept and self._live and others and not model.parent.exists()
            if not run.gone and (lost or (model.exists() and not run.kept)):
                with self._tolerant(run):
                    self._keep(run, model)

    def _hand_over(self) -> None:
        """Logs the winner's model."""
        from mlflow.exceptions import MlflowException

        assert self._conclusion is not None
        trainings = [it for it in self._trainings.values() if it.number == self._conclusion.winner]
        try:
            best = load_recipe(self._directory / "best.yaml")
            winner = next(
                (self._runs[it.key] for it in trainings if self._recipe(it) == best), None
            )
            if winner is None:
                raise RequestError(f"{self._directory / 'best.yaml'} is no longer the winner's")
            if winner.gone:
                return
            with self._tolerant(winner):
                for other in self._runs.values():
                    if other.best and other is not winner and not other.gone:
                        self._client.delete_tag(other.run_id, _BEST)
                self._client.set_tag(winner.run_id, _BEST, "true")
                self._send_evaluation(winner.run_id)
                log_champion(self._parent, winner.run_id, winner.name, self._directory)
        except (
            RequestError,
            MlflowException,
        ) as error:
            # A store without a registry still has the rest
            self.refused.append(f"the model: {in_a_line(error)}")

    def _send_evaluation(self, run_id: str) -> None:
        """Logs the scores of the kept model on the test split, with intervals, and all files."""
        assert self._conclusion is not None
        found = read_evaluation(self._directory)
        test = dict(self._conclusion.test or {})
        for name, (low, high) in found["intervals"].items() if found and test else ():
            test |= {f"{name}_low": low, f"{name}_high": high}
        values = {f"test_{name}": value for name, value in test.items() if value is not None}
        self._send_batch(run_id, _metrics(values, len(self._records), self._conclusion.time))
        if found:
            self._client.log_artifacts(run_id, str(self._directory / EVALUATION), EVALUATION)

    def _keep(self, run: _Run, model: Path) -> None:
        """Logs the model of a trial's run, or removes it if others have become better."""
        if model.exists():
            self._client.log_artifact(run.run_id, str(model))
            self._client.set_tag(run.run_id, _KEPT, "true")
        else:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            where = self._client.get_run(run.run_id).info.artifact_uri
            get_artifact_repository(where, tracking_uri=self._client.tracking_uri).delete_artifacts(
                model.name
            )
            self._client.delete_tag(run.run_id, _KEPT)
        run.kept = model.exists()

    def _describe(self, ending: Ending | None) -> None:
        ranked = by_rank(list(self._records.values()), self._subject.objective)
        runs = f"#/experiments/{self._experiment}/runs"
        pages = Pages(
            charts=self._parent.link.removeprefix("/"),
            report=f"{runs}/{self._parent.run_id}/artifacts/report.html",
            trials={
                number: f"{runs}/{self._runs[trial_key(number)].run_id}" for number in self._records
            },
        )
        winner = self._conclusion.winner if self._conclusion is not None else 0
        finals = [
            record
            for record in self._finals
            if record.number == winner and record.score is not None
        ]
        final = next(iter(by_rank(finals, self._subject.objective)), None)
        costs = {
            record.number: found
            for record in ranked[:ROWS]
            if (found := self._subject.cost(record.values)) is not None
        }
        note = search_note(self._subject, ranked, pages, ending, self._conclusion, final, costs)
        self._client.set_tag(self._parent.run_id, "mlflow.note.content", note)
        self._noted = time.monotonic()

    def _known(self, children: Sequence[Any]) -> dict[str, _Run]:
        """The runs of earlier sessions, each once.

        If MLflow's client repeated a request, there are two of a run. One is deleted.
        """
        runs: dict[str, _Run] = {}
        for child in sorted(children, key=lambda child: child.info.status not in _COMPLETE):
            tags, status = child.data.tags, child.info.status
            if tags["reskeras.key"] in runs:
                self._client.delete_run(child.info.run_id)
                continue
            runs[tags["reskeras.key"]] = _Run(
                child.info.run_id,
                child.info.run_name,
                status,
                had_error="reskeras.error" in tags,
                over=status in _COMPLETE,
                kept=_KEPT in tags,
                best=_BEST in tags,
            )
        return runs

    def _watch(self, uri: str) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self._parent.run_id, resume_logging=True, tracking_uri=uri)
        monitor.start()
        return monitor


def _metrics(values: Mapping[str, float], step: int, when: float) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, float(value), _milliseconds(when), step) for name, value in values.items()]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


@functools.lru_cache(maxsize=64)
def _architecture(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return plot(model, Path(folder, "architecture.svg")).read_bytes()
