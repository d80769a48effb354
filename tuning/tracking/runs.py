"""Reads the runs of searches from an MLflow store (docs/mlflow.md)."""

import contextlib
import dataclasses
import enum
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reskeras.errors import RequestError, hide_passwords, in_a_line
from reskeras.spec import Recipe
from reskeras.spec.text import load_recipe
from reskeras.tasks import OBJECTIVES
from tuning.record.ranking import rank
from tuning.tracking.champion import ALIAS, registered_name
from tuning.tracking.store import check_exists, open_store

_SHORTEST = 6
_FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""Short timeouts and few retries: a person waits for the answer, and nothing is lost."""


class Kind(enum.Enum):
    """Kinds of run, by the value of the tag `reskeras.kind`."""

    SEARCH = "search"
    TRIAL = "trial"
    FINAL = "final"


class Status(enum.Enum):
    """How a run ended, if it did."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """Ended early because others were better."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


_STATUS = {"FINISHED": Status.FINISHED, "FAILED": Status.FAILED, "KILLED": Status.INTERRUPTED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The MLflow run of a search, a trial or a final training."""

    run_id: str
    """32 hex digits."""
    kind: Kind
    search: str
    """Name of the search."""
    search_id: str
    number: int | None
    """Number of the trial, from 1; None for a search."""
    name: str
    status: Status
    objective: str
    score: float | None
    """The objective after the last epoch, or a search's best; None if the run did not get that
    far."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """Last values."""
    tags: Mapping[str, str]
    """Without MLflow's own."""
    start: float
    """In seconds since 1970."""
    parent: str | None
    """Run id of the search that a trial belongs to."""

    @property
    def short(self) -> str:
        """The start of the run id, as tables show it."""
        return self.run_id[:7]

    @property
    def grown_from(self) -> int | None:
        """The trial whose weights it started from."""
        parent = self.tags.get("reskeras.parent_trial")
        return None if parent is None else int(parent)

    def describe(self) -> str:
        """Such as `trial 7 of the search 'digits' (run 1a2b3c4)`."""
        which = {Kind.SEARCH: "the search", Kind.TRIAL: f"trial {self.number} of the search"}
        what = which.get(self.kind, f"a final training of trial {self.number} of the search")
        return f"{what} {self.search!r} (run {self.short})"


def is_run_id(word: str) -> bool:
    """Whether a word can be a run id or the start of one: 6 to 32 hex digits."""
    return re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},32}}", word) is not None


def ranked(runs: Iterable[Run]) -> list[Run]:
    """Best first, those without a score last, as in a search's leaderboard."""
    return sorted(
        runs, key=lambda run: rank(run.objective, run.score, run.metrics, run.number or 0)
    )


class Runs:
    """Reads the runs of reskeras in a store.

    Every method accesses the store, and raises RuntimeError if that fails.

    Args:
        uri: the store's address, from `tuning.tracking.tracking_uri`.

    Raises:
        RequestError: there is no store yet.
        RuntimeError: the store cannot be opened, or its server does not answer.
    """

    def __init__(self, uri: str) -> None:
        check_exists(uri)
        self._uri = uri
        quick = {name: value for name, value in _FIRST_CALL.items() if name not in os.environ}
        with self._explained("the store cannot be opened"):
            self._client = open_store(uri)
            with _environment(quick):
                self._client.search_experiments(max_results=1)

    def searches(self) -> list[Run]:
        """All searches, newest first."""
        return self._found("tags.`reskeras.kind` = 'search'")

    def children(self, search: Run) -> list[Run]:
        """The trials and final trainings of a search, by number."""
        found = self._found(f"tags.`reskeras.search_id` = '{search.search_id}'")
        return sorted(
            (run for run in found if run.kind is not Kind.SEARCH),
            key=lambda run: (run.number or 0, run.start),
        )

    def find(self, word: str) -> Run:
        """Finds a run by its id, or by a unique start of it.

        Raises:
            RequestError: there is no such run, there are several, or it is deleted or not
                reskeras'.
        """
        if not is_run_id(word):
            raise RequestError(
                f"{word!r} is not a run id: those are 32 hex digits, of which the first "
                f"{_SHORTEST} may be enough"
            )
        all_ = self._all(f"attributes.run_id LIKE '{word}%'", deleted=True)
        active = [run for run in all_ if run.info.lifecycle_stage == "active"]
        ours = [run for run in active if "reskeras.kind" in run.data.tags]
        if len(ours) == 1:
            return _run(ours[0])
        if ours:
            listed = ", ".join(sorted(run.info.run_id for run in ours))
            raise RequestError(
                f"{word!r} is the start of {len(ours)} run ids: {listed}; give more digits"
            )
        where = "`reskeras runs` lists the searches, `reskeras runs SEARCH` the trials of one"
        if active:
            raise RequestError(
                f"run {active[0].info.run_id} is not reskeras': it has no tag reskeras.kind; "
                f"{where}"
            )
        if all_:
            deleted = all_[0].info.run_id
            raise RequestError(
                f"run {deleted} is deleted; `mlflow.MlflowClient().restore_run({deleted!r})` in "
                "Python restores it"
            )
        raise RequestError(
            f"{hide_passwords(self._uri)} has no run whose id is or starts with {word!r}; {where}"
        )

    def search_of(self, run: Run) -> Run:
        """The search of a trial or final training; a search itself.

        Raises:
            RequestError: it is deleted.
        """
        return run if run.kind is Kind.SEARCH or run.parent is None else self.find(run.parent)

    def winner(self, search: Run) -> Run | None:
        """The training whose model a search kept; None if the search did not get that far."""
        number = search.tags.get("reskeras.best_trial")
        mine = [
            run
            for run in self.children(search)
            if str(run.number) == number and run.score is not None
        ]
        if kept := [run for run in mine if "reskeras.best" in run.tags]:
            return kept[0]
        finals = [run for run in mine if run.kind is Kind.FINAL]
        return next(iter(ranked(finals or mine)), None)

    def epochs(self, run: Run) -> int:
        """Total epochs that a trial was trained for; 0 if it has no score."""
        with self._explained("the run cannot be read"):
            history = (
                self._client.get_metric_history(run.run_id, run.objective)
                if run.objective in run.metrics
                else []
            )
        return max((metric.step for metric in history), default=0)

    def recipe(self, run: Run, folder: Path) -> Recipe:
        """The network of a trial, or of a search's winner, and its training.

        Args:
            run: any.
            folder: an empty folder to download to.

        Raises:
            RequestError: the run has none.
        """
        name = "best.yaml" if run.kind is Kind.SEARCH else "spec.yaml"
        path = self._artifact(run, name, folder)
        if path is None:
            hint = (
                "it did not finish; each trial has its own"
                if run.kind is Kind.SEARCH
                else "it failed early"
            )
            raise RequestError(f"{run.describe()} has no {name}: {hint}, or its artifacts are gone")
        return load_recipe(path)

    def model(self, run: Run, folder: Path) -> Path:
        """Downloads the model of a trial, or of a search's winner.

        Args:
            run: any.
            folder: an empty folder to download to.

        Returns:
            The `.keras` file.

        Raises:
            RequestError: the run has none; the message says how to get one.
        """
        if (
            run.kind is not Kind.SEARCH
            and (path := self._artifact(run, "model.keras", folder)) is not None
        ):
            return path
        uri = self._logged_model(run)
        if uri is not None:
            from mlflow.artifacts import download_artifacts

            with self._explained(f"the model of {run.describe()} cannot be downloaded"):
                download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self._uri)
            if found := sorted(folder.rglob("*.keras")):
                return found[0]
        raise RequestError(
            f"{run.describe()} has no model: `reskeras train {run.short}` trains it again"
            + (
                ""
                if run.kind is Kind.SEARCH
                else ", and `reskeras tune --keep-models top:K` keeps those of the best trials"
            )
        )

    def data(self, run: Run, folder: Path) -> dict[str, Any]:
        """The facts of a search's data, like `about.data` of a journal; empty if unknown.

        Args:
            run: any.
            folder: an empty folder to download to.
        """
        path = self._artifact(self.search_of(run), "data.json", folder)
        return {} if path is None else dict(json.loads(path.read_text(encoding="utf-8")))

    def _logged_model(self, run: Run) -> str | None:
        """MLflow's location of the model that a run logged or, for a search, registered."""
        from mlflow.exceptions import MlflowException

        with self._explained("the run cannot be read"):
            if run.kind is Kind.SEARCH and (logged := run.tags.get("reskeras.model", "").split()):
                return f"models:/{logged[0]}"  # the latest; outputs are not in order
            outputs = self._client.get_run(run.run_id).outputs
            logged = (
                [output.model_id for output in outputs.model_outputs] if outputs is not None else []
            )
            if logged:
                return f"models:/{logged[-1]}"
            if run.kind is not Kind.SEARCH:
                return None
            try:
                version = self._client.get_model_version_by_alias(
                    registered_name(run.search), ALIAS
                )
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None  # no such model, no such alias
                raise
            # Another search of this name may have registered its own model since.
            mine = {run.run_id, *(child.run_id for child in self.children(run))}
            return f"models:/{version.name}/{version.version}" if version.run_id in mine else None

    def _artifact(self, run: Run, name: str, folder: Path) -> Path | None:
        with self._explained(f"the artifacts of {run.describe()} cannot be read"):
            if name not in {file.path for file in self._client.list_artifacts(run.run_id)}:
                return None
            return Path(self._client.download_artifacts(run.run_id, name, str(folder)))

    def _found(self, which: str) -> list[Run]:
        return [_run(run) for run in self._all(which) if "reskeras.kind" in run.data.tags]

    def _all(self, which: str, *, deleted: bool = False) -> list[Any]:
        from mlflow.entities import ViewType

        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        with self._explained("the store cannot be read"):
            experiments = [
                e.experiment_id
                for e in _paged(
                    lambda token: self._client.search_experiments(view, page_token=token)
                )
            ]
            newest = ["attributes.start_time DESC"]
            return list(
                _paged(
                    lambda token: self._client.search_runs(
                        experiments, which, run_view_type=view, order_by=newest, page_token=token
                    )
                )
            )

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except RequestError:
            raise
        except Exception as error:
            raise RuntimeError(f"{hide_passwords(self._uri)}: {what}: {_reason(error)}") from error


def _run(run: Any) -> Run:
    tags, metrics = run.data.tags, run.data.metrics
    kind, objective = Kind(tags["reskeras.kind"]), tags.get("reskeras.objective", OBJECTIVES[0])
    status = _STATUS.get(run.info.status, Status.RUNNING)
    if status is Status.FINISHED and "reskeras.stopped" in tags:
        status = Status.STOPPED
    score = None
    if kind is Kind.SEARCH or status in (Status.FINISHED, Status.STOPPED):
        score = metrics.get(f"best_{objective}" if kind is Kind.SEARCH else objective)
    return Run(
        run_id=run.info.run_id,
        kind=kind,
        search=tags.get("reskeras.search", ""),
        search_id=tags.get("reskeras.search_id", ""),
        number=None if kind is Kind.SEARCH else int(tags["reskeras.trial"]),
        name=run.info.run_name or "",
        status=status,
        objective=objective,
        score=None if score is None or math.isnan(score) else score,
        params=dict(run.data.params),
        metrics=dict(metrics),
        tags={name: value for name, value in tags.items() if not name.startswith("mlflow.")},
        start=(run.info.start_time or 0) / 1000,
        parent=tags.get("mlflow.parentRunId"),
    )


def _paged(call: Any) -> Iterator[Any]:
    token = None
    while True:
        page = call(token)
        yield from page
        token = page.token
        if not token:
            return


def _reason(error: BaseException) -> str:
    """The root cause of an error, in a line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return hide_passwords(in_a_line(error))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
