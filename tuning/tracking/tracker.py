"""A search in MLflow: one parent run, one child run for each trial.

MLflow runs in a thread of its own, fed by a queue, so that opening its store and waiting for its server never hold up
training. What goes wrong there is reported once; the search goes on, and its journal has everything.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import reskeras
from reskeras.textio import dump_recipe
from tuning.events import Ending, Listener, Result, Search, Trial
from tuning.journal import TrialRecord
from tuning.report import title
from tuning.space import Range
from tuning.tracking.saved_view import VIEW_KEY, saved_view
from tuning.tracking.store import open_store, shown, sqlite_path

if TYPE_CHECKING:
    from reskeras.train import Epoch

_CLOSING_SECONDS = 60.0
_STATUS = {Ending.FINISHED: "FINISHED", Ending.FAILED: "FAILED", Ending.INTERRUPTED: "KILLED"}


class Tracker(Listener):
    """Writes a search to MLflow as it happens.

    Args:
        uri: of the store.
        on_problem: told, once, when MLflow fails; called from the tracker's thread.
    """

    def __init__(self, uri: str, on_problem: Callable[[str], None]) -> None:
        self._uri, self._on_problem = uri, on_problem
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._client: Any = None
        self._search: Search | None = None
        self._parent = ""
        self._children: dict[str, str] = {}
        """Run ids of the trials that run."""
        self._experiment = ""
        self._short: dict[str, str] = {}

    def search_started(self, search: Search) -> None:
        self._search, self._short = search, search.space.short_names()
        self._thread.start()
        self._jobs.put(lambda: self._open(search))

    def trial_started(self, trial: Trial) -> None:
        started = _now()
        self._jobs.put(lambda: self._begin_trial(trial, started))

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        when = _now()
        metrics = {**epoch.metrics, "epoch_seconds": epoch.seconds}
        self._jobs.put(lambda: self._log(self._children[trial.key], metrics, step=epoch.number, when=when))

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        ended = _now()
        self._jobs.put(lambda: self._end_trial(trial, record, ended))

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        if self._search is None:
            return  # interrupted before this was told of the start
        ended = _now()
        self._jobs.put(lambda: self._close(ending, result, ended))
        self._jobs.put(None)
        self._thread.join(_CLOSING_SECONDS)
        if self._thread.is_alive():
            self._on_problem(
                f"MLflow has not answered for {_CLOSING_SECONDS:.0f} s; the last of this search is not in {shown(self._uri)}"
            )

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001  MLflow raises whatever its store's driver raises
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                self._on_problem(
                    f"MLflow failed ({shown(self._uri)}): {reason}. The search goes on without it; its journal has everything."
                )
                while self._jobs.get() is not None:
                    pass
                return

    def _open(self, search: Search) -> None:
        client = self._client = open_store(self._uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or search.data.name
        found = client.get_experiment_by_name(name)
        if found is None:
            location = sqlite_path(self._uri).parent / "mlartifacts" if self._uri.startswith("sqlite:///") else None
            self._experiment = client.create_experiment(name, artifact_location=location and location.as_uri())
        else:
            self._experiment = found.experiment_id
        ours = f"tags.`reskeras.search_id` = '{search.search_id}'"
        parents = client.search_runs([self._experiment], f"{ours} and tags.`reskeras.kind` = 'search'", max_results=1)
        if parents:
            self._parent = parents[0].info.run_id
            client.update_run(self._parent, status="RUNNING")
        else:
            self._parent = client.create_run(self._experiment, run_name=search.name, tags=self._tags("search")).info.run_id
            self._log_params(
                self._parent,
                {
                    "oracle": search.oracle,
                    "objective": search.objective,
                    "epochs": search.epochs,
                    "seed": search.seed,
                    "data": search.data.name,
                    "data_digest": search.data.digest,
                },
            )
            client.log_text(self._parent, search.space.dump(), "space.yaml")
        if search.done or parents:
            self._catch_up(search, ours)
        columns = [*self._short.values()]
        client.set_experiment_tag(
            self._experiment, f"mlflow.sharedViewState.{VIEW_KEY}", saved_view(search.objective, columns, self._log_axes())
        )

    def _catch_up(self, search: Search, ours: str) -> None:
        """Brings the runs of earlier sittings to what the journal has: a process that was killed left some behind."""
        runs: list[Any] = []
        page = None
        while page is None or page.token:
            page = self._client.search_runs([self._experiment], ours, page_token=page and page.token)
            runs += page
        trials: dict[int, Any] = {}
        for run in sorted(runs, key=lambda run: run.info.start_time):
            if run.data.tags["reskeras.kind"] == "trial":
                number = int(run.data.tags["reskeras.trial"])
                if number not in trials or trials[number].info.status not in ("FINISHED", "FAILED"):
                    trials[number] = run
        adopted = set()
        for record in search.done:
            run = trials.get(record.number)
            if run is not None and run.info.status in ("FINISHED", "FAILED"):
                continue
            trial = Trial(number=record.number, values=record.values, recipe=None, first_epoch=0, parent=record.parent)
            if run is None:
                self._begin_trial(trial, _now())
            else:
                self._children[trial.key] = run.info.run_id
                adopted.add(run.info.run_id)
                if "reskeras.error" in run.data.tags:
                    self._client.delete_tag(run.info.run_id, "reskeras.error")
            self._log(self._children[trial.key], record.metrics, step=record.epochs, when=_now())
            self._end_trial(trial, record, _now())
        for run in runs:
            if run.info.status == "RUNNING" and run.info.run_id not in adopted and run.info.run_id != self._parent:
                self._client.set_tag(run.info.run_id, "reskeras.error", "interrupted")
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _begin_trial(self, trial: Trial, started: int) -> None:
        assert self._search is not None
        tags = self._tags("final" if trial.final else "trial") | {
            "reskeras.trial": str(trial.number),
            "mlflow.parentRunId": self._parent,
        }
        if trial.parent is not None:
            tags["reskeras.parent_trial"] = str(trial.parent)
        name = ("final · " if trial.final else "") + title(trial.values, self._search.space)
        run = self._client.create_run(self._experiment, start_time=started, run_name=name, tags=tags)
        child = self._children[trial.key] = run.info.run_id
        params = {short: trial.values[path] for path, short in self._short.items() if path in trial.values}
        logs = {f"log10_{self._short[path]}": math.log10(trial.values[path]) for path in self._log_paths() if path in trial.values}
        self._log_params(child, {"trial": trial.number, **params, **logs})
        if trial.recipe is not None:
            self._client.log_text(child, dump_recipe(trial.recipe), "spec.yaml")

    def _end_trial(self, trial: Trial, record: TrialRecord | None, ended: int) -> None:
        child = self._children.pop(trial.key, None)
        if child is None:
            return  # it was interrupted while listeners were told that it starts
        if record is None:
            self._client.set_tag(child, "reskeras.error", "interrupted")
            status = "KILLED"
        elif record.status == "failed":
            self._client.set_tag(child, "reskeras.error", (record.error or "")[-4000:])
            status = "FAILED"
        else:
            facts = {"params_millions": record.params / 1e6, "trial_seconds": record.seconds}
            self._log(child, facts, step=record.epochs, when=ended)
            if record.status == "stopped":
                self._client.set_tag(child, "reskeras.stopped", f"after epoch {record.epochs}: others were better")
            status = "FINISHED"
        self._client.set_terminated(child, status, end_time=ended)

    def _close(self, ending: Ending, result: Result | None, ended: int) -> None:
        if result is not None and result.best.score is not None and self._search is not None:
            metrics: dict[str, float] = {f"best_{self._search.objective}": result.best.score}
            metrics |= {f"test_{name}": value for name, value in (result.test or {}).items()}
            self._log(self._parent, metrics, step=len(result.trials), when=ended)
            self._client.set_tag(self._parent, "reskeras.best_trial", str(result.best.number))
            for file in ("leaderboard.csv", "best.yaml", "best.keras"):
                self._client.log_artifact(self._parent, str(result.directory / file))
        self._client.set_terminated(self._parent, _STATUS[ending], end_time=ended)

    def _tags(self, kind: str) -> dict[str, str]:
        assert self._search is not None
        return {
            "reskeras.kind": kind,
            "reskeras.search_id": self._search.search_id,
            "reskeras.search": self._search.name,
            "reskeras.version": reskeras.__version__,
        }

    def _log_paths(self) -> list[str]:
        assert self._search is not None
        return [path for path, item in self._search.space.vary.items() if isinstance(item, Range) and item.log]

    def _log_axes(self) -> dict[str, str]:
        # MLflow draws linear axes only.
        return {self._short[path]: f"log10_{self._short[path]}" for path in self._log_paths()}

    def _log_params(self, run: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run, params=[Param(name, str(value)) for name, value in params.items()])

    def _log(self, run: str, metrics: Mapping[str, float], *, step: int, when: int) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(run, metrics=[Metric(name, value, when, step) for name, value in metrics.items()])


def _now() -> int:
    return int(time.time() * 1000)
